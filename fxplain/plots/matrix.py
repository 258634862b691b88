"""plot_matrix, plot_generation: matrices with the labels of their tokens."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fxplain.arguments import checked, instance
from fxplain.errors import PlotError
from fxplain.explanation import Explanation
from fxplain.generation import Generation
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
from fxplain.plots.fonts import in_fonts_that_have_them
from fxplain.plots.view import AN_EXPLANATION, SOME_AXES, check_sample

__all__ = ["plot_generation", "plot_matrix"]

SIZE = 8
MOST_LABELS = 48
"""An axis with more tokens is numbered."""


@checked(explanation=AN_EXPLANATION, ax=SOME_AXES)
@in_fonts_that_have_them
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
    sample, ax
        Which of the batch, and where to draw: by default in a new figure.

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
    down, across = (_names(explanation.tokens(name)[sample]) for name in (a, b))
    off = values[~np.eye(len(values), dtype=bool)] if a == b else values
    drawn = _draw(values, off, down, across, ax)
    drawn.set_ylabel(f"{cut_label(a)}: tokens", size=SIZE + 1, parse_math=False)
    drawn.set_xlabel(f"{cut_label(b)}: what they drew on", size=SIZE + 1, parse_math=False)
    return figure_of(drawn)


@checked(generation=instance(Generation).raising(PlotError), ax=SOME_AXES)
@in_fonts_that_have_them
def plot_generation(
    generation: Generation,
    modality: str | None = None,
    *,
    sample: int = 0,
    ax: Axes | None = None,
) -> Figure:
    """A generated text against what it drew on: a row for each explained token.

    The token that another is read from starts from 1: colours are scaled by the largest of all other
    numbers, and the bar's pointed end says so.

    Parameters
    ----------
    generation
        What `fxplain.explain_generation` returned.
    modality
        The columns: an input, or "earlier outputs". By default all of them, side by side.
    sample, ax
        Which of the batch, and where to draw: by default in a new figure.

    Returns
    -------
    matplotlib.figure.Figure
        The figure of the axes.

    Raises
    ------
    ModalityError, PlotError
        When there is no such modality or sample.
    """
    check_sample(generation, sample)
    names = generation.modalities if modality is None else (modality,)
    real = generation.real[sample].nonzero().flatten().tolist()
    values = torch.cat([generation.matrix(name)[sample, real] for name in names], -1)
    labels = [label for name in names for label in generation.labels(name)[sample]]
    others = torch.ones_like(values, dtype=torch.bool)
    for row, target in enumerate(real):
        read = [generation.read(target, sample, name) for name in names]
        starts = itertools.accumulate(
            (len(generation.columns(name)[1]) for name in names), initial=0
        )
        for start, places in zip(starts, read, strict=False):
            others[row, [start + place for place in places]] = False
    numbers = values.detach().cpu().double().numpy()
    down = _names([generation.names[target][sample] for target in real])
    drawn = _draw(numbers, numbers[others.cpu().numpy()], down, _names(labels), ax)
    drawn.set_ylabel("generated tokens", size=SIZE + 1)
    told = ", ".join(map(cut_label, names))
    drawn.set_xlabel(f"{told}: what they drew on", size=SIZE + 1, parse_math=False)
    return figure_of(drawn)


def _draw(
    values: NDArray[np.float64],
    others: NDArray[np.float64],
    down: list[str],
    across: list[str],
    ax: Axes | None,
) -> Axes:
    """A matrix in colours that are scaled by some of its numbers, where these are not all 0."""
    rows, columns = values.shape
    ax = axes_for(ax, _room(rows, columns, down, across))
    shades, scale = colour_scale(values, others if np.abs(others).max(initial=0) > 0 else values)
    drawn = ax.imshow(values, cmap=shades, norm=scale, aspect="equal", interpolation="nearest")
    drawn.set_gid("relevance")
    colour_bar(ax, shades, scale, beyond=float(np.abs(values).max(initial=0)))
    for axis, names, rotation in ((ax.yaxis, down, 0), (ax.xaxis, across, 90)):
        axis.set_tick_params(length=0 if names else 3, labelsize=SIZE)
        if names:
            axis.set_ticks(range(len(names)), names, rotation=rotation, parse_math=False)
    ax.spines[:].set_color("0.7")
    return ax


def _names(labels: list[str]) -> list[str]:
    """The labels of an axis, or none where it has so many that it is numbered."""
    return [cut_label(label, 16) for label in labels] if len(labels) <= MOST_LABELS else []


def _room(rows: int, columns: int, down: list[str], across: list[str]) -> Room:
    """Square cells, as large as they are easy to read, and room for the labels."""
    cell = min(0.3, 9.0 / max(rows, columns, 1))
    cell = max(cell, 2.0 / max(rows, columns, 1))
    left, below = (0.45 + (widest(names, SIZE) or 0.3) for names in (down, across))
    return Room(cell * columns, cell * rows, left=left, below=below, right=BAR)
