"""The curves of an evaluation: what the score does as tokens go, a line per method."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fxplain.arguments import AXES, TEXT, checked, optional
from fxplain.errors import PlotError
from fxplain.evaluation import RANDOM, Curve, Evaluation, Key
from fxplain.plots.canvas import DPI, NotebookFigure, figure_of

__all__ = ["plot_curves"]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Of the palette by Okabe and Ito (2008), which people with any colour vision tell apart."""

DASHES = ("-", "--", ":", "-.")
PANEL = (3.6, 2.7)
LEGEND = 2.2
"""Inches."""


_NAME = optional(TEXT.raising(PlotError))


@checked(metric=_NAME, modality=_NAME, ax=optional(AXES))
def plot_curves(
    evaluation: Evaluation,
    metric: str | None = None,
    modality: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw an evaluation's curves with their confidence bands.

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
        When there is no such curve, or there are too many for the given axes.
    """
    keys = [k for k in evaluation.curves if metric in (None, k.metric)]
    keys = [k for k in keys if modality in (None, k.modality)]
    metrics = tuple(dict.fromkeys(key.metric for key in keys))
    modalities = tuple(dict.fromkeys(key.modality for key in keys))
    if not keys:
        known = ", ".join(dict.fromkeys(f"{k.metric} of {k.modality}" for k in evaluation.curves))
        raise PlotError(f"there is no such curve. There are: {known or 'none'}.")
    if ax is not None:
        if len(metrics) * len(modalities) > 1:
            raise PlotError(
                f"{len(metrics) * len(modalities)} panels do not fit one axes: name a metric "
                f"({', '.join(metrics)}) and a modality ({', '.join(modalities)})."
            )
        _panel(ax, evaluation, metrics[0], modalities[0])
        ax.legend(fontsize=7, frameon=False)
        return figure_of(ax)
    size = PANEL[0] * len(modalities) + LEGEND, PANEL[1] * len(metrics)
    figure = NotebookFigure(figsize=size, dpi=DPI, layout="constrained")
    grid = figure.subplots(len(metrics), len(modalities), squeeze=False)
    for (row, one), (column, other) in product(enumerate(metrics), enumerate(modalities)):
        _panel(grid[row, column], evaluation, one, other)
    _legend(figure, grid.flatten().tolist())
    return figure


def _panel(ax: Axes, evaluation: Evaluation, metric: str, modality: str) -> None:
    """One metric in one modality."""
    about = evaluation.metrics[metric]
    arrow = "↑" if about.better == "higher" else "↓"
    for place, method in enumerate(evaluation.methods):
        curve = evaluation.curves.get(Key(method, metric, modality))
        if curve is not None:
            _line(ax, curve, method, place)
    ax.set_title(f"{metric} {arrow}  {modality}", fontsize=9, loc="left")
    ax.set_xlabel(f"% of {about.axis}", fontsize=8)
    ax.tick_params(labelsize=7)
    ax.spines[["top", "right"]].set_visible(False)
    ax.margins(x=0.01)


def _line(ax: Axes, curve: Curve, method: str, place: int) -> None:
    style: dict[str, Any] = {
        "color": COLOURS[place % len(COLOURS)],
        "linestyle": DASHES[place // len(COLOURS) % len(DASHES)],
        "linewidth": 1.4,
    }
    if method == RANDOM:
        style |= {"color": "0.45", "linestyle": (0, (1, 1)), "linewidth": 2}
    percent = [100 * x for x in curve.x]
    ax.fill_between(percent, curve.low, curve.high, color=style["color"], alpha=0.1, linewidth=0)
    ax.plot(percent, curve.mean, label=method, **style)


def _legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """One for all panels."""
    entries = {
        label: line
        for ax in axes
        for line, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        entries.values(), entries.keys(), loc="outside right upper", fontsize=8, frameon=False
    )
