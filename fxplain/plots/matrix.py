"""plot_matrix: a relevancy matrix with the labels of its tokens."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fxplain.explanation import Explanation
from fxplain.plots.canvas import (
    BAR,
    Room,
    axes_for,
    colour_bar,
    colour_scale,
    cut_label,
    figure_of,
    widest,
)
from fxplain.plots.view import check_sample

__all__ = ["plot_matrix"]

SIZE = 8
MOST_LABELS = 48
"""An axis with more tokens is numbered."""


def plot_matrix(
    explanation: Explanation,
    a: str | None = None,
    b: str | None = None,
    *,
    sample: int = 0,
    ax: Axes | None = None,
) -> Figure:
    """The relevancy matrix R[a, b]: a row for each token of `a`, and in it what the token drew on.

    A modality's own matrix starts from the identity. Colours are scaled by the largest number off the
    diagonal there, so that the diagonal does not drown all else; the bar's pointed end says so.

    Parameters
    ----------
    explanation
        What `fxplain.explain` returned, by a method with matrices.
    a, b
        Modalities of the rows and of the columns. By default `a` is the first one and `b` is `a`.
    sample
        Which of the batch.
    ax
        Where to draw; by default in a new figure.

    Returns
    -------
    matplotlib.figure.Figure
        The figure of the axes.

    Raises
    ------
    ModalityError, PlotError
        When there is no such modality or sample.
    MethodError
        When the method scores tokens and has no matrices.
    """
    check_sample(explanation, sample)
    a = explanation.modalities[0] if a is None else a
    b = a if b is None else b
    values = explanation.matrix(a, b)[sample].detach().cpu().double().numpy()
    rows, columns = values.shape
    down, across = (_names(explanation.tokens(name)[sample]) for name in (a, b))
    ax = axes_for(ax, _room(rows, columns, down, across))
    off = values[~np.eye(rows, dtype=bool)] if a == b else values
    shades, scale = colour_scale(values, off if np.abs(off).max(initial=0) > 0 else values)
    drawn = ax.imshow(values, cmap=shades, norm=scale, aspect="equal", interpolation="nearest")
    drawn.set_gid("relevance")
    colour_bar(ax, shades, scale, beyond=float(np.abs(values).max(initial=0)))
    for axis, names, rotation in ((ax.yaxis, down, 0), (ax.xaxis, across, 90)):
        axis.set_tick_params(length=0 if names else 3, labelsize=SIZE)
        if names:
            axis.set_ticks(range(len(names)), names, rotation=rotation, parse_math=False)
    ax.set_ylabel(f"{cut_label(a)}: tokens", size=SIZE + 1, parse_math=False)
    ax.set_xlabel(f"{cut_label(b)}: what they drew on", size=SIZE + 1, parse_math=False)
    ax.spines[:].set_color("0.7")
    return figure_of(ax)


def _names(labels: list[str]) -> list[str]:
    """The labels of an axis, or none where it has so many that it is numbered."""
    return [cut_label(label, 16) for label in labels] if len(labels) <= MOST_LABELS else []


def _room(rows: int, columns: int, down: list[str], across: list[str]) -> Room:
    """Square cells, as large as they are easy to read, and room for the labels."""
    cell = min(0.3, 9.0 / max(rows, columns, 1))
    cell = max(cell, 2.0 / max(rows, columns, 1))
    left, below = (0.45 + (widest(names, SIZE) or 0.3) for names in (down, across))
    return Room(cell * columns, cell * rows, left=left, below=below, right=BAR)
