"""plot_text: words shaded by their relevance, in lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from fxplain.arguments import checked
from fxplain.explanation import Explanation, Special, Units
from fxplain.plots.canvas import (
    POINTS,
    Room,
    axes_for,
    colour_scale,
    cut_label,
    figure_of,
    text_width,
)
from fxplain.plots.fonts import in_fonts_that_have_them
from fxplain.plots.view import AN_EXPLANATION, SOME_AXES, ModalityView
from fxplain.presentation import text_colour
from fxplain.reports.shading import signed_percent
from fxplain.views import is_right_to_left, reading_order, strongest_shade

__all__ = ["draw_text", "plot_text", "text_height"]

WIDTH = 8.0
SIZE = 11.0
NOTE_SIZE = 7.0
LONGEST = 90
"""Characters of a word or a sentence that is not cut."""
LINE = 2.9
"""The distance of two lines, in sizes of the font."""
GAP = 0.35
"""That of two words."""


@checked(explanation=AN_EXPLANATION, ax=SOME_AXES)
@in_fonts_that_have_them
def plot_text(
    explanation: Explanation,
    modality: str | None = None,
    *,
    sample: int = 0,
    ax: Axes | None = None,
    units: Units = "word",
    special: Special = "show",
) -> Figure:
    """Words in reading order, each shaded by its relevance, with its share of all beneath.

    The token that the target is read from is left out of shades and shares: its relevance to itself
    starts from 1.

    Parameters
    ----------
    explanation
        What `fxplain.explain` returned.
    modality
        Whose words; by default the first modality that has words.
    sample, ax
        Which of the batch, and where to draw: by default in a new figure, as high as the text.
    units, special
        What is shaded, and whether special tokens are: as `Explanation.top` takes them.

    Returns
    -------
    matplotlib.figure.Figure
        The figure of the axes.

    Raises
    ------
    ModalityError, PlotError
        When there is no such modality or sample, or it has no words.
    """
    view = ModalityView.of(explanation, modality, sample, "text", units, special)
    return draw_text(view, axes_for(ax, Room(WIDTH, text_height(view, WIDTH))))


def text_height(view: ModalityView, width: float) -> float:
    """How many inches of height a text needs at a width in inches."""
    lines = list(_lines(view, width * POINTS, SIZE))
    return (len(lines) * LINE * SIZE) / POINTS


def draw_text(view: ModalityView, ax: Axes) -> Figure:
    """Draw into axes, in a smaller font where the text would not fit."""
    figure = figure_of(ax)
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()  # the axes get their size now
    box = ax.get_window_extent()
    width, height = (length / figure.dpi * POINTS for length in (box.width, box.height))
    size = SIZE
    while len(lines := list(_lines(view, width, size))) * LINE * size > height + 1 and size > 1:
        size *= 0.93
    ax.set(xlim=(0, width), ylim=(height, 0))
    ax.set_axis_off()
    most = strongest_shade(np.nan_to_num(view.numbers_of_entries))
    shades, scale = colour_scale(view.numbers_of_entries, np.array([most]))
    backwards = is_right_to_left(entry.text for entry in view.entries)
    for number, line in enumerate(lines):
        for word in _laid_out(line, width, size, backwards=backwards):
            value = view.numbers_of_entries[word.place]
            colour = shades(scale(value)) if value == value else (1.0, 1.0, 1.0, 0.0)
            _draw_word(ax, word, LINE * size * (number + 0.5), size, colour)
    return figure


@dataclass(frozen=True)
class _Word:
    """A word in its line: its token's place, its text, the note beneath, left and width (points)."""

    place: int
    text: str
    note: str
    left: float
    width: float


def _lines(view: ModalityView, width: float, size: float) -> Iterator[list[_Word]]:
    """The words of each line."""
    line: list[_Word] = []
    left = 0.0
    for place, text, note in _words(view):
        own = max(text_width(text, size) + 0.9 * size, text_width(note, size * NOTE_SIZE / SIZE))
        if line and left + own > width:
            yield line
            line, left = [], 0.0
        line.append(_Word(place, text, note, left, own))
        left += own + GAP * size
    if line:
        yield line


def _laid_out(
    line: Sequence[_Word], width: float, size: float, *, backwards: bool
) -> Iterator[_Word]:
    """A line's words where they are read: from the right where the text is, but numbers as they are."""
    order = reading_order([word.text for word in line], backwards=backwards)
    taken = sum(word.width for word in line) + GAP * size * (len(line) - 1)
    left = width - taken if backwards else 0.0
    for place in order:
        yield replace(line[place], left=left)
        left += line[place].width + GAP * size


def _words(view: ModalityView) -> Iterator[tuple[int, str, str]]:
    """(place, text, note) of the words; padding without relevance at the end is one of them."""
    values = view.numbers_of_entries
    texts = [entry.text for entry in view.entries]
    total = float(np.nansum(np.abs(values))) or 1.0
    end = len(texts)
    while end > 1 and values[end - 1] == 0 and texts[end - 1] == texts[-1]:
        end -= 1
    padding = len(texts) - end
    for place, text in enumerate(texts[: end + 1]):
        value = values[place]
        note = "read" if value != value else signed_percent(value / total)
        times = f" × {padding}" if place == end and padding > 1 else ""
        yield place, (cut_label(text, LONGEST) or "·") + times, note


def _draw_word(
    ax: Axes, word: _Word, middle: float, size: float, colour: tuple[float, float, float, float]
) -> None:
    blank = colour[3] == 0
    ax.add_patch(
        FancyBboxPatch(
            (word.left + 0.15 * size, middle - 1.05 * size),
            word.width - 0.3 * size,
            1.5 * size,
            boxstyle=f"round,pad={0.15 * size},rounding_size={0.35 * size}",
            facecolor=colour,
            edgecolor="0.6" if blank else "none",
            linestyle=(0, (2, 2)) if blank else "-",
            linewidth=0.8,
            gid=f"token {word.place}",
        )
    )
    centre = word.left + word.width / 2
    text = ax.text(
        centre, middle - 0.3 * size, word.text, size=size, ha="center", va="center_baseline"
    )
    text.set_parse_math(False)
    if not blank:
        text.set_color(text_colour(to_hex(colour)))
    ax.text(
        centre, middle + 1.0 * size, word.note, size=size * NOTE_SIZE / SIZE, color="0.4",
        ha="center", va="center",
    )  # fmt: skip
