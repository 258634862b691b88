"""Drawing: words, grids, ranked bars and small images, with colour and without it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderResult
from rich.measure import Measurement
from rich.style import Style
from rich.table import Table
from rich.text import Text
from torch import Tensor

from fxplain.reports.shading import (
    has_colour,
    height_character,
    percent,
    printable,
    shade,
    shade_character,
    signed_percent,
)
from fxplain.views import beyond_scale, strongest_shade
from fxplain.written import rounded

__all__ = ["Bars", "GreyImage", "ShadedGrid", "ShadedWords"]


@dataclass(frozen=True)
class ShadedWords:
    """Words in reading order, each shaded, with its share of all relevance beneath it.

    Attributes
    ----------
    words
        The tokens' labels.
    values
        One relevance per word; the shade is relative to the largest, or where that is far beyond all
        others of a long text to those, which is said. None leaves a word out of shades and shares.
    left_out
        The note beneath words that are left out.
    """

    words: Sequence[str]
    values: Sequence[float | None]
    left_out: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Pairs of lines: words, and beneath each a bar and its share."""
        colour = has_colour(console)
        for line in self._lines(options):
            above, below = Text(no_wrap=True), Text(no_wrap=True)
            for word, note, level in line:
                width = max(cell_len(word), cell_len(note))
                above.append(word, shade(level) if colour and level else None)
                above.append(" " * (width - cell_len(word) + 2))
                below.append(set_cell_size(note, width + 2), "dim" if colour else None)
            yield above
            yield below
        if beyond := beyond_scale(value or 0.0 for value in self.values):
            yield Text(self._scale(beyond, options), "dim")

    def _scale(self, beyond: Sequence[int], options: ConsoleOptions) -> str:
        """How words are shaded where some are beyond the scale."""
        numbers = [value or 0.0 for value in self.values]
        most = rounded(strongest_shade(numbers), ".3g")
        told = ", ".join(
            f"{_cut(printable(self.words[i]), 20, options)} {rounded(numbers[i], '.3g')}"
            for i in beyond[:_MOST_BEYOND]
        )
        more = ", ..." if beyond[_MOST_BEYOND:] else ""
        return f"(shaded up to {most}; beyond that: {told}{more})"

    def _lines(self, options: ConsoleOptions) -> Iterator[list[tuple[str, str, float]]]:
        """(word, note, level) of the words that fit side by side."""
        numbers = [value or 0.0 for value in self.values]
        total = sum(map(abs, numbers)) or 1.0
        line: list[tuple[str, str, float]] = []
        used = 0
        top = strongest_shade(numbers) or 1.0
        levels = [max(-1.0, min(1.0, number / top)) for number in numbers]
        for label, level, value in zip(self.words, levels, self.values, strict=True):
            word = _cut(printable(label), min(options.max_width - 2, 40), options)
            note = self.left_out
            if value is not None:
                bar = height_character(abs(level), options)
                note = f"{bar}{signed_percent(value / total)}"
            width = max(cell_len(word), cell_len(note)) + 2
            if line and used + width > options.max_width:
                yield line
                line, used = [], 0
            line.append((word, note, level))
            used += width
        if line:
            yield line


_MOST_BEYOND = 3


@dataclass(frozen=True)
class Bars:
    """A ranked list of labels, each with a bar, its value and its share of all relevance.

    Attributes
    ----------
    labels, values
        The rows, in any order.
    most
        How many rows are shown at most; the rest is summed up in a last line.
    errors
        The standard error of each value, where there is one.
    """

    labels: Sequence[str]
    values: Sequence[float]
    most: int = 10
    errors: Sequence[float | None] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """A table of at most `most` rows."""
        total = sum(map(abs, self.values)) or 1.0
        order = sorted(range(len(self.values)), key=lambda i: -abs(self.values[i]))
        shown = [i for i in order[: self.most] if self.values[i] != 0]
        levels = _levels(self.values)
        length = max(8, min(30, options.max_width - 52))
        table = Table.grid(padding=(0, 2, 0, 0))
        for justify in _BAR_COLUMNS:
            table.add_column(justify=justify, no_wrap=True)
        for rank, i in enumerate(shown, 1):
            table.add_row(
                str(rank),
                Text(_cut(printable(self.labels[i]), 28, options)),
                Text(_bar(abs(levels[i]), length, options), _hue(levels[i], console)),
                self._value(i),
                signed_percent(self.values[i] / total),
            )
        yield table
        rest = order[len(shown) :]
        left = sum(abs(self.values[i]) for i in rest)
        if rest:
            tokens = "token" if len(rest) == 1 else "tokens"
            share = f"{percent(left / total)} of the relevance" if left else "no relevance"
            yield Text(f"{_dots(options)} {len(rest)} more {tokens}: {share}", "dim")

    def _value(self, i: int) -> str:
        error = self.errors[i] if self.errors else None
        value = self.values[i]
        told = rounded(value, ".4f" if abs(value) >= 1e-3 else ".2e")
        return told if error is None else f"{told} \u00b1 {error:.2g}"


def _hue(level: float, console: Console) -> str:
    if not has_colour(console):
        return ""
    return "magenta" if level < 0 else "blue"


_BAR_COLUMNS: tuple[JustifyMethod, ...] = ("right", "left", "left", "right", "right")


@dataclass(frozen=True)
class ShadedGrid:
    """A grid of shaded cells, with the share of all relevance in each where there is room.

    Attributes
    ----------
    values
        (rows, columns) relevance; the shade is relative to the largest.
    cell
        Width and height of a cell in characters; None chooses it to fit.
    scale, whole
        The number with the strongest shade, and what shares are parts of; of these values by default.
    """

    values: Tensor
    cell: tuple[int, int] | None = None
    scale: float | None = None
    whole: float | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Rows of cells; neighbours are averaged where the grid is larger than the screen."""
        values, factor = self._fitting(options.max_width)
        width, height = self.cell or self._cell(values, options.max_width)
        total = (
            (self.whole or float(values.abs().sum()) or 1.0)
            if factor == 1
            else (float(values.abs().sum()) or 1.0)
        )
        top = (self.scale if factor == 1 else None) or float(values.abs().max()) or 1.0
        colour = has_colour(console)
        for row, levels in zip(values.tolist(), values.div(top).tolist(), strict=True):
            for line in range(height):
                text = Text(no_wrap=True)
                for value, level in zip(row, levels, strict=True):
                    noted = width > 3 and line == height // 2
                    note = signed_percent(value / total) if noted else ""
                    text.append_text(_cell(note, level, width, height, colour, options))
                yield text
        if factor > 1:
            rows, columns = self.values.shape
            yield Text(
                f"(drawn as {values.shape[0]} x {values.shape[1]}: each cell is the mean of "
                f"{factor} x {factor} of the {rows} x {columns} tokens)",
                "dim",
            )

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """As wide as its cells."""
        values, _ = self._fitting(options.max_width)
        width, _ = self.cell or self._cell(values, options.max_width)
        return Measurement(width * values.shape[1], width * values.shape[1])

    def _fitting(self, width: int) -> tuple[Tensor, int]:
        """The grid, averaged over squares of `factor` x `factor` until it fits."""
        values = self.values.detach().cpu().double()
        rows, columns = values.shape
        factor = 1
        while (
            self.cell is None
            and factor < columns
            and (2 * -(-columns // factor) > width or -(-rows // factor) > _MOST_ROWS)
        ):
            factor += 1
        squares = torch.nn.functional.avg_pool2d(values[None], factor, ceil_mode=True)
        return squares[0], factor

    @staticmethod
    def _cell(values: Tensor, width: int) -> tuple[int, int]:
        rows, columns = values.shape
        return (6, 1) if columns <= 8 and rows <= 8 and 6 * columns <= width else (2, 1)


_MOST_ROWS = 32


def _cell(
    note: str, level: float, width: int, height: int, colour: bool, options: ConsoleOptions
) -> Text:
    if colour:
        return Text(note.center(width), shade(level))
    fill = shade_character(abs(level), options)
    if note and height == 1:
        return Text(f"{fill}{note}".ljust(width))
    return Text(f" {note} ".center(width, fill) if note else fill * width)


@dataclass(frozen=True)
class GreyImage:
    """A small grey image: half blocks in colour, two characters a pixel without.

    Attributes
    ----------
    pixels
        (height, width) brightness from 0 to 1.
    """

    pixels: Tensor

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Lines of text."""
        pixels = self.pixels.detach().cpu().float().clamp(0, 1)
        if not has_colour(console) or options.ascii_only:
            ramp = " .:-=+*#%@"
            for row in (pixels * (len(ramp) - 1)).round().int().tolist():
                yield Text("".join(ramp[i] * 2 for i in row), no_wrap=True)
            return
        grey = (torch.nn.functional.pad(pixels, (0, 0, 0, len(pixels) % 2)) * 255).int()
        for upper, lower in zip(grey[::2].tolist(), grey[1::2].tolist(), strict=True):
            line = Text(no_wrap=True)
            for a, b in zip(upper, lower, strict=True):
                line.append("▀", Style(color=f"rgb({a},{a},{a})", bgcolor=f"rgb({b},{b},{b})"))
            yield line

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """As wide as its pixels are drawn."""
        half_blocks = has_colour(console) and not options.ascii_only
        width = self.pixels.shape[1] * (1 if half_blocks else 2)
        return Measurement(width, width)


def _levels(values: Sequence[float]) -> list[float]:
    """Values as parts of the largest, with their sign."""
    top = max(map(abs, values), default=0.0) or 1.0
    return [value / top for value in values]


def _bar(level: float, length: int, options: ConsoleOptions) -> str:
    if options.ascii_only:
        return "#" * max(1, round(level * length))
    eighths = max(1, round(level * length * 8))
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def _cut(text: str, width: int, options: ConsoleOptions) -> str:
    if cell_len(text) <= width:
        return text
    dots = _dots(options)
    return set_cell_size(text, width - cell_len(dots)) + dots


def _dots(options: ConsoleOptions) -> str:
    return "..." if options.ascii_only else "…"
