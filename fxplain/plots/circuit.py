"""A circuit: its units by depth, the edges between them, and faithfulness by the number of edges."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fxplain.arguments import checked, instance
from fxplain.circuits import Circuit, Edge
from fxplain.errors import PlotError
from fxplain.plots.canvas import DPI, NotebookFigure
from fxplain.reports.shading import printable

__all__ = ["plot_circuit"]

COLOURS = {"q": "#0072B2", "k": "#D55E00", "v": "#009E73", "qk": "#CC79A7", "in": "#56606B"}
"""One for each slot, of the palette by Okabe and Ito (2008)."""

COLUMN, LANE, CURVE = 1.9, 0.9, 2.4
"""Inches: between units side by side, between depths, the height of the curve."""

_Places = dict[str, tuple[float, float]]


@checked(circuit=instance(Circuit).raising(PlotError))
def plot_circuit(circuit: Circuit) -> Figure:
    """Draw a circuit, inputs below and the output above, and its curve.

    An edge is as wide as what corrupting it does, and coloured by what it is read as.

    Returns
    -------
    matplotlib.figure.Figure
        pyplot does not hold it.
    """
    places = _places(circuit)
    across = max(x for x, _ in places.values()) + 1
    lanes = max(y for _, y in places.values()) + 1
    height = LANE * lanes + 0.6
    figure = NotebookFigure(
        figsize=(max(5.0, COLUMN * across), height + CURVE), dpi=DPI, layout="constrained"
    )
    above, below = figure.subplots(2, 1, height_ratios=[height, CURVE])
    _draw_units(above, circuit, places)
    _draw_curve(below, circuit)
    return figure


def _places(circuit: Circuit) -> _Places:
    """Where units lie: each above all that it hears of."""
    depth: dict[str, int] = {}
    readers: dict[str, list[str]] = {}
    for edge in circuit.edges:
        readers.setdefault(str(edge.target), []).append(str(edge.source))
    for unit in map(str, circuit.units):
        depth[unit] = 0
    for _ in depth:  # no longer way than there are units
        for unit, sources in readers.items():
            depth[unit] = max(depth[source] for source in sources) + 1
    lanes: dict[int, list[str]] = {}
    for unit, lane in depth.items():
        lanes.setdefault(lane, []).append(unit)
    widest = max(map(len, lanes.values()))
    return {  # every other depth a little aside, so that no edge runs through a unit
        unit: (i + (widest - len(own)) / 2 + 0.3 * (lane % 2), float(lane))
        for lane, own in lanes.items()
        for i, unit in enumerate(own)
    }


def _labels(circuit: Circuit) -> dict[str, str]:
    """Names without what all paths begin with, the head below."""
    paths = [unit.name.split(".") for unit in circuit.units if unit.kind in ("head", "layer")]
    shared = 0
    while paths and all(len(p) > shared + 1 and p[shared] == paths[0][shared] for p in paths):
        shared += 1
    labels = {}
    for unit in circuit.units:
        name = printable(unit.name)
        if unit.kind in ("head", "layer"):
            name = printable(".".join(unit.name.split(".")[shared:]))
        labels[str(unit)] = name if unit.head is None else f"{name}\nhead {unit.head}"
    return labels


def _draw_units(ax: Axes, circuit: Circuit, places: _Places) -> None:
    strongest = max(map(abs, circuit.strengths.values())) or 1.0
    for edge in circuit.edges:
        _draw_edge(ax, edge, places, abs(circuit.strengths[edge]) / strongest)
    labels = _labels(circuit)
    for name, (x, y) in places.items():
        box = {"boxstyle": "round", "fc": "white", "ec": "0.6"}
        ax.text(x, y, labels[name], size=6.5, ha="center", va="center", bbox=box, zorder=3)
    for slot in dict.fromkeys(edge.slot for edge in circuit.edges):
        ax.plot([], [], color=COLOURS[slot], label="read" if slot == "in" else slot)
    ax.legend(loc="upper left", fontsize=7, frameon=False, ncols=len(COLOURS))
    xs, ys = zip(*places.values(), strict=True)
    ax.set(xlim=(min(xs) - 0.6, max(xs) + 0.6), ylim=(-0.5, max(ys) + 0.8))
    ax.set_title(
        f"{len(circuit.edges)} of {circuit.of_edges} edges keep {circuit.faithfulness:.0%}", size=9
    )
    ax.set_axis_off()


def _draw_edge(ax: Axes, edge: Edge, places: _Places, strength: float) -> None:
    bend = 0.08 * (list(COLOURS).index(edge.slot) - 1)
    ax.annotate(
        "",
        xy=places[str(edge.target)],
        xytext=places[str(edge.source)],
        arrowprops={
            "arrowstyle": "-|>",
            "color": COLOURS[edge.slot],
            "lw": 0.5 + 3 * strength,
            "alpha": 0.6,
            "connectionstyle": f"arc3,rad={bend}",
            "shrinkA": 12,
            "shrinkB": 14,
        },
        zorder=2,
    )


def _draw_curve(ax: Axes, circuit: Circuit) -> None:
    sizes, kept = zip(*circuit.curve, strict=True)
    ax.plot(sizes, kept, "-o", ms=3, lw=1, color="#0072B2", label="strongest by attribution")
    ax.plot(
        len(circuit.edges), circuit.faithfulness, "D", ms=6, color="#D55E00", label="the circuit"
    )
    ax.axhline(circuit.wanted, lw=0.7, ls=":", color="0.4")
    ax.set_xscale("symlog")
    ax.set_xlim(left=0)
    ax.set_xlabel("edges", size=8)
    ax.set_ylabel("faithfulness", size=8)
    ax.tick_params(labelsize=7)
    ax.legend(fontsize=7, frameon=False)
