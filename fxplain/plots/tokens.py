"""plot_tokens: ranked bars, for tokens that have neither words nor a place in a picture."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fxplain.arguments import checked
from fxplain.explanation import Explanation
from fxplain.plots.canvas import Room, axes_for, colour_scale, cut_label, figure_of, widest
from fxplain.plots.fonts import in_fonts_that_have_them
from fxplain.plots.view import AN_EXPLANATION, SOME_AXES, ModalityView

__all__ = ["draw_tokens", "plot_tokens", "tokens_room"]

MOST = 12
SIZE = 8


@checked(explanation=AN_EXPLANATION, ax=SOME_AXES)
@in_fonts_that_have_them
def plot_tokens(
    explanation: Explanation,
    modality: str | None = None,
    *,
    sample: int = 0,
    ax: Axes | None = None,
    most: int = MOST,
) -> Figure:
    """The tokens with the most relevance as bars, the first at the top.

    Parameters
    ----------
    explanation
        What `fxplain.explain` returned.
    modality
        Whose tokens; by default the first modality's.
    sample, ax
        Which of the batch, and where to draw: by default in a new figure.
    most
        How many tokens are shown.

    Returns
    -------
    matplotlib.figure.Figure
        The figure of the axes.

    Raises
    ------
    ModalityError, PlotError
        When there is no such modality or sample.
    """
    view = ModalityView.of(explanation, modality, sample, "tokens")
    return draw_tokens(view, axes_for(ax, tokens_room(view, most)), most)


def tokens_room(view: ModalityView, most: int = MOST) -> Room:
    """The room of a readable list."""
    shown = _ranked(view)[:most]
    names = [_named(view, i) for i in shown]
    return Room(2.4, 0.24 * max(len(shown), 1), left=0.2 + widest(names, SIZE), below=0.45)


def draw_tokens(view: ModalityView, ax: Axes, most: int = MOST) -> Figure:
    """Draw into axes."""
    shown = _ranked(view)[:most]
    values = view.numbers_of_entries[shown]
    shades, scale = colour_scale(view.numbers_of_entries)
    rows = np.arange(len(shown))
    ax.barh(rows, values, height=0.72, color=shades(scale(values)), edgecolor="0.5", linewidth=0.5)
    names = [_named(view, i) for i in shown]
    ax.set_yticks(rows, names, parse_math=False)
    ax.set(ylim=(max(len(shown), 1) - 0.5, -0.5))
    ax.set_xlabel("relevance", size=SIZE)
    ax.axvline(0, color="0.3", linewidth=0.8)
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.tick_params(axis="y", length=0)
    ax.tick_params(labelsize=SIZE)
    ax.xaxis.get_offset_text().set_fontsize(SIZE)
    ax.spines[["top", "right", "left"]].set_visible(False)
    return figure_of(ax)


def _ranked(view: ModalityView) -> list[int]:
    """The entries but those that cannot be compared, the most relevant first."""
    values = view.numbers_of_entries
    order = np.argsort(-np.abs(np.nan_to_num(values)), kind="stable").tolist()
    return [i for i in order if values[i] == values[i]]


def _named(view: ModalityView, i: int) -> str:
    entry = view.entries[i]
    place = entry.tokens[0]
    label = cut_label(entry.text)
    return label if entry.text == str(place) else f"{place}: {label}"
