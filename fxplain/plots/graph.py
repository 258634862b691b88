"""plot_graph: the attention graph as lanes of tokens with every attention in order."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Patch

from fxplain.arguments import checked, instance
from fxplain.errors import PlotError
from fxplain.explanation import Explanation
from fxplain.plots.canvas import POINTS, Room, axes_for, cut_label, figure_of
from fxplain.plots.view import SOME_AXES
from fxplain.presentation import KIND_COLOURS, text_colour
from fxplain.program import AttentionGraph
from fxplain.reports.lanes import Lane, Lanes, Update, lay_out
from fxplain.reports.shading import printable

__all__ = ["plot_graph"]

LANE, ROW = 2.7, 0.48
BOX = (2.3, 0.36)
"""Inches: a lane's width, a row's height, a box."""
MARGIN = 0.85
"""Inches above the rows, for title and legend."""
NARROWEST = 3.8
MOST_CHARACTERS = 36


@checked(graph=instance(AttentionGraph, Explanation).raising(PlotError), ax=SOME_AXES)
def plot_graph(graph: AttentionGraph | Explanation, *, ax: Axes | None = None) -> Figure:
    """Streams of tokens as lanes from top to bottom, and in them each attention and route in order.

    An arrow runs from the lane whose tokens are read to the attention that reads them; an attention
    without one reads its own lane. Colours tell kinds, and each box says its kind too.

    Parameters
    ----------
    graph
        What `fxplain.inspect` returned, or an explanation.
    ax
        Where to draw; by default in a new figure, as large as the graph needs.

    Returns
    -------
    matplotlib.figure.Figure
        The figure of the axes.
    """
    graph = graph.graph if isinstance(graph, Explanation) else graph
    lanes = lay_out(graph)
    width, height = max(LANE * lanes.columns, NARROWEST), ROW * lanes.rows + MARGIN
    ax = axes_for(ax, Room(width, height, 0, 0, 0, 0))
    ax.set(xlim=(0, width), ylim=(ROW * lanes.rows, -MARGIN))
    ax.set_axis_off()
    for lane in lanes.lanes:
        _draw_lane(ax, lane)
    prefix = _common_prefix([update.name for update in lanes.updates if update.kind != "route"])
    for update in lanes.updates:
        _draw_update(ax, update, prefix)
    _draw_title(ax, graph, lanes, prefix, width)
    return figure_of(ax)


def _centre(column: int, row: int) -> tuple[float, float]:
    return LANE * (column + 0.5), ROW * (row + 0.5)


def _draw_lane(ax: Axes, lane: Lane) -> None:
    x, top = _centre(lane.column, lane.first)
    _, bottom = _centre(lane.column, lane.last)
    ax.plot([x, x], [top, bottom], color="0.75", linewidth=2.5, zorder=1, solid_capstyle="round")
    if lane.first == 0:
        _box(ax, x, top, KIND_COLOURS["stream"], _end_of(lane.name), f"{lane.tokens} tokens", 0.16)


def _draw_update(ax: Axes, update: Update, prefix: str) -> None:
    x, y = _centre(update.column, update.row)
    colour = KIND_COLOURS[update.kind]
    name = update.name.removeprefix(prefix)
    _box(ax, x, y, colour, _end_of(name), update.size, 0.04, gid=update.name)
    for source in update.reads:
        from_x, _ = _centre(source, update.row)
        side = BOX[0] / 2 * (1 if from_x > x else -1)
        ax.add_patch(
            FancyArrowPatch(
                (from_x, y), (x + side, y), arrowstyle="-|>,head_length=5,head_width=2.5",
                color=colour, linewidth=1.4, shrinkA=0, shrinkB=0, zorder=2,
            )
        )  # fmt: skip
        ax.plot([from_x], [y], "o", color=colour, markersize=5, zorder=3)


def _box(
    ax: Axes, x: float, y: float, colour: str, above: str, below: str, round_: float, gid: str = ""
) -> None:
    width, height = BOX
    ax.add_patch(
        FancyBboxPatch(
            (x - width / 2, y - height / 2), width, height, gid=gid or None,
            boxstyle=f"round,pad=0,rounding_size={round_}", facecolor=colour, edgecolor="white",
            linewidth=1.0, zorder=4,
        )
    )  # fmt: skip
    ink = text_colour(colour)
    for text, size, dy, weight in ((above, 7.0, -0.075, "bold"), (below, 6.2, 0.085, "normal")):
        ax.text(
            x, y + dy, text, size=size, color=ink, weight=weight, ha="center", va="center",
            zorder=5, parse_math=False,
        )  # fmt: skip


def _draw_title(ax: Axes, graph: AttentionGraph, lanes: Lanes, prefix: str, width: float) -> None:
    lines = [graph.model, f"read from {graph.readout}"]
    lines += [f"names begin with {prefix}"] if prefix else []
    for number, line in enumerate(lines):
        size = 7 if number else 11
        style: dict[str, Any] = {"color": "0.35"} if number else {"weight": "bold"}
        ax.text(
            0.12, -MARGIN + 0.14 + 0.17 * number, cut_label(line, int(1.6 * POINTS * width / size)),
            size=size, va="center", parse_math=False, **style,
        )  # fmt: skip
    kinds = list(dict.fromkeys(update.kind for update in lanes.updates))
    ax.legend(
        handles=[Patch(color=KIND_COLOURS[kind], label=kind) for kind in kinds],
        loc="lower left", bbox_to_anchor=(0.12, -0.08), bbox_transform=ax.transData,
        ncols=len(kinds) or 1, frameon=False, fontsize=7, borderpad=0, borderaxespad=0,
        handlelength=1.0, handleheight=0.9, columnspacing=1.4,
    )  # fmt: skip


def _common_prefix(names: list[str]) -> str:
    """The whole parts of dotted names that all begin with; at least two parts of each are left."""
    parts = [name.split(".") for name in names]
    shared = 0
    while parts and all(len(p) > shared + 2 and p[shared] == parts[0][shared] for p in parts):
        shared += 1
    return "".join(f"{part}." for part in parts[0][:shared]) if parts else ""


def _end_of(name: str) -> str:
    """A path, of which the first parts are left out where it is long: the last ones tell most."""
    text = printable(name)
    while len(text) > MOST_CHARACTERS and "." in text:
        text = "…" + text.partition(".")[2]
    return text if len(text) <= MOST_CHARACTERS else "…" + text[1 - MOST_CHARACTERS :]
