"""An evaluation, drawn: a line per method as tokens go, and each number with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fxplain.arguments import AXES, TEXT, checked, optional
from fxplain.errors import PlotError
from fxplain.evaluation import RANDOM, Evaluation, Key, Row
from fxplain.plots.canvas import DPI, NotebookFigure, figure_of

__all__ = ["plot_curves"]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Of the palette by Okabe and Ito (2008), which people with any colour vision tell apart."""

DASHES = ("-", "--", ":", "-.")
PANEL = (3.6, 2.7)
LEGEND = 2.2
"""Inches."""

STEP, MOST = 0.04, 0.4
"""Between the numbers of two methods, and of all at most, in parts of the x axis."""


_NAME = optional(TEXT.raising(PlotError))


@checked(metric=_NAME, modality=_NAME, ax=optional(AXES))
def plot_curves(
    evaluation: Evaluation,
    metric: str | None = None,
    modality: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw an evaluation: curves with confidence bands, and each number with its interval.

    A metric with a curve has its number, a mean over the curve, at the right of it; one without has a
    row per method.

    Parameters
    ----------
    evaluation
        What `fxplain.evaluate` returned.
    metric, modality
        Only this one.
    ax
        Axes to draw in, where only one metric and modality is left; a new figure with axes for each
        of them by default.

    Returns
    -------
    matplotlib.figure.Figure
        The figure that was drawn in; pyplot does not hold a new one.

    Raises
    ------
    PlotError
        When there is no such number, or there are too many for the given axes.
    """
    known = dict.fromkeys((row.metric, row.modality) for row in evaluation.rows)
    keys = [k for k in known if metric in (None, k[0]) and modality in (None, k[1])]
    if not keys:
        there = ", ".join(f"{name} of {of}" for name, of in known)
        raise PlotError(f"there is no such number. There are: {there or 'none'}.")
    metrics, modalities = (tuple(dict.fromkeys(names)) for names in zip(*keys, strict=True))
    if ax is not None:
        if len(keys) > 1:
            raise PlotError(
                f"{len(keys)} panels do not fit one axes: name a metric "
                f"({', '.join(metrics)}) and a modality ({', '.join(modalities)})."
            )
        _panel(ax, evaluation, *keys[0])
        if ax.get_legend_handles_labels()[0]:
            ax.legend(fontsize=7, frameon=False)
        return figure_of(ax)
    size = PANEL[0] * len(modalities) + LEGEND, PANEL[1] * len(metrics)
    figure = NotebookFigure(figsize=size, dpi=DPI, layout="constrained")
    grid = figure.subplots(len(metrics), len(modalities), squeeze=False)
    for (row, one), (column, other) in product(enumerate(metrics), enumerate(modalities)):
        if (one, other) in keys:
            _panel(grid[row, column], evaluation, one, other)
        else:
            grid[row, column].set_axis_off()
    _legend(figure, grid.flatten().tolist())
    return figure


def _panel(ax: Axes, evaluation: Evaluation, metric: str, modality: str) -> None:
    """One metric in one modality."""
    arrow = "↑" if evaluation.metrics[metric].better == "higher" else "↓"
    ax.set_title(f"{metric} {arrow}  {modality}", fontsize=9, loc="left")
    ax.tick_params(labelsize=7)
    ax.spines[["top", "right"]].set_visible(False)
    rows = {r.method: r for r in evaluation.rows if (r.metric, r.modality) == (metric, modality)}
    if any(Key(method, metric, modality) in evaluation.curves for method in rows):
        _lines(ax, evaluation, rows)
        ax.set_xlabel(f"% of {evaluation.metrics[metric].axis}", fontsize=8)
    else:
        _numbers(ax, evaluation, rows)


def _lines(ax: Axes, evaluation: Evaluation, rows: Mapping[str, Row]) -> None:
    """A curve for each method, and its mean height with the interval behind the last point."""
    end, step = 0.0, min(STEP, MOST / len(rows))
    for place, (method, row) in enumerate(rows.items()):
        curve = evaluation.curves[Key(method, row.metric, row.modality)]
        style = _style(evaluation, method)
        percent = [100 * x for x in curve.x]
        end = percent[-1]
        ax.fill_between(
            percent, curve.low, curve.high, color=style["color"], alpha=0.1, linewidth=0
        )
        ax.plot(percent, curve.mean, label=method, **style)
        at = end * (1.06 + step * place)
        ax.vlines(at, row.low, row.high, color=style["color"], linewidth=1.4)
        ax.scatter(at, row.value, s=10, color=style["color"])
    ax.axvspan(end * 1.03, end * (1.09 + step * (len(rows) - 1)), color="0.96", zorder=-1)
    ax.set_xticks(
        [0, end / 2, end, end * (1.06 + step * (len(rows) - 1) / 2)],
        ["0", f"{end / 2:g}", f"{end:g}", "mean"],
    )
    ax.margins(x=0.01)


def _numbers(ax: Axes, evaluation: Evaluation, rows: Mapping[str, Row]) -> None:
    """A row for each method: the number with its interval."""
    for place, (method, row) in enumerate(rows.items()):
        colour = _style(evaluation, method)["color"]
        ax.hlines(place, row.low, row.high, color=colour, linewidth=1.4)
        ax.scatter(row.value, place, s=14, color=colour)
    ax.set_yticks(range(len(rows)), list(rows))
    ax.set_ylim(len(rows) - 0.5, -0.5)


def _style(evaluation: Evaluation, method: str) -> dict[str, Any]:
    """How a method is drawn, in every panel."""
    if method == RANDOM:
        return {"color": "0.45", "linestyle": (0, (1, 1)), "linewidth": 2}
    place = evaluation.methods.index(method)
    return {
        "color": COLOURS[place % len(COLOURS)],
        "linestyle": DASHES[place // len(COLOURS) % len(DASHES)],
        "linewidth": 1.4,
    }


def _legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """One for all panels."""
    entries = {
        label: line
        for ax in axes
        for line, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    if entries:
        figure.legend(
            entries.values(), entries.keys(), loc="outside right upper", fontsize=8, frameon=False
        )
