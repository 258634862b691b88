"""plot: the picture that fits, for a whole result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import PurePath
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.figure import Figure

from fxplain.circuits import Circuit
from fxplain.errors import PlotError
from fxplain.explanation import Explanation, Special, Units
from fxplain.generation import Generation
from fxplain.inside import Flow
from fxplain.plots.boxes import draw_boxes
from fxplain.plots.canvas import BAR, DPI, NotebookFigure, Room, figure_of
from fxplain.plots.circuit import plot_circuit
from fxplain.plots.flow import plot_flow
from fxplain.plots.fonts import in_fonts_that_have_them
from fxplain.plots.graph import plot_graph
from fxplain.plots.image import draw_image, image_room
from fxplain.plots.matrix import plot_generation
from fxplain.plots.signal import ROOM as SIGNAL
from fxplain.plots.signal import draw_signal
from fxplain.plots.text import draw_text, text_height
from fxplain.plots.tokens import draw_tokens, tokens_room
from fxplain.plots.view import ModalityView, check_sample
from fxplain.program import AttentionGraph
from fxplain.reports.shading import printable
from fxplain.views import beyond_scale, strongest_shade
from fxplain.written import rounded

__all__ = ["plot"]

FULL, NARROW, HEIGHT = 7.6, 3.3, 3.2
"""Inches: the width of a row, of a text that shares it, the height of a picture."""
EDGE, GAP, HEADING, CAPTION = 0.25, 0.25, 0.6, 0.32
"""Inches: at the edges, between panels, for a sample's heading, for a panel's caption."""
MOST_SAMPLES = 8


@dataclass(frozen=True)
class _Panel:
    """A modality's picture and the room that it needs."""

    view: ModalityView
    draw: Callable[[ModalityView, Axes], Figure]
    room: Room


@in_fonts_that_have_them
def plot(
    result: Explanation | Generation | AttentionGraph | Flow | Circuit,
    modality: str | None = None,
    *,
    sample: int | None = None,
    units: Units = "word",
    special: Special = "show",
) -> Figure:
    """A result as a figure: of an explanation each modality as what it is, of a graph its lanes.

    Words are shaded, images get a heat map, regions boxes, sound a strip over time, and all other
    tokens ranked bars.

    Parameters
    ----------
    result
        What `fxplain.explain`, `fxplain.explain_generation`, `fxplain.inspect`, `fxplain.circuit` or
        `Explanation.flow` returned.
    modality
        Of an explanation or a generation, only this modality.
    sample
        Of an explanation, only this sample; by default all, 8 at most. Of a generation, which one;
        by default the first.
    units, special
        Of an explanation, how texts are put together and whether special tokens are shown: as
        `Explanation.top` takes them.

    Returns
    -------
    matplotlib.figure.Figure
        It is not held by pyplot: save it with ``.savefig(path)``; a notebook shows it.

    Raises
    ------
    ModalityError, PlotError
        When there is no such modality or sample, or no picture of such a result.
    """
    _refuse_file(result, modality)
    if isinstance(result, AttentionGraph):
        return plot_graph(result)
    if isinstance(result, Flow):
        return plot_flow(result)
    if isinstance(result, Circuit):
        return plot_circuit(result)
    if isinstance(result, Generation):
        return plot_generation(result, modality, sample=0 if sample is None else sample)
    if not isinstance(result, Explanation):
        raise PlotError(
            f"there is no picture of a {type(result).__name__}: print it. There is one of an "
            f"Explanation, a Generation, an AttentionGraph, a Flow and a Circuit."
        )
    if sample is not None:
        check_sample(result, sample)
    samples = range(min(result.batch_size, MOST_SAMPLES)) if sample is None else [sample]
    names = result.modalities if modality is None else (modality,)
    pages = [
        _rows(
            _panels([ModalityView.of(result, name, i, "tokens", units, special) for name in names])
        )
        for i in samples
    ]
    heights = [HEADING + sum(_row_height(row) for row in rows) for rows in pages]
    figure = NotebookFigure(figsize=(FULL + 2 * EDGE, sum(heights) + EDGE), dpi=DPI)
    top = sum(heights) + EDGE
    for i, rows, height in zip(samples, pages, heights, strict=True):
        name = result.target_names[i] if result.target_names else ""
        _heading(figure, result, i, name, top)
        below = top - HEADING
        for row in rows:
            _draw_row(figure, row, below)
            below -= _row_height(row)
        top -= height
    if sample is None and result.batch_size > MOST_SAMPLES:
        _note(figure, f"{result.batch_size - MOST_SAMPLES} more samples are not drawn")
    return figure


def _refuse_file(result: Any, modality: Any) -> None:
    """A file in the place of a modality is where the picture was to be written."""
    known = getattr(result, "modalities", ()) if isinstance(result, Explanation) else ()
    named = isinstance(modality, str) and modality not in known
    if not named and not isinstance(modality, PathLike):
        return
    path = PurePath(modality)
    if path.suffix[1:].lower() in FigureCanvasBase.filetypes or isinstance(modality, PathLike):
        raise PlotError(
            f"{str(path)!r} names no modality but a file: .plot().savefig({str(path)!r}) writes the "
            f"picture."
        )


def _panels(views: list[ModalityView]) -> list[_Panel]:
    """The first picture that fits for each; a short text is narrow where there is something beside."""
    panels = []
    for view in views:
        kind = view.kinds[0]
        if not np.nan_to_num(view.others).any():
            panels.append(_Panel(view, _draw_nothing, Room(FULL, 0.2, 0, 0, 0, 0)))
        elif kind == "text":
            height = text_height(view, NARROW)
            narrow = len(views) > 1 and height <= HEIGHT
            width = NARROW if narrow else FULL
            room = Room(width, height if narrow else text_height(view, FULL), 0, 0, 0, 0)
            panels.append(_Panel(view, draw_text, room))
        elif kind == "signal":
            panels.append(_Panel(view, draw_signal, replace(SIGNAL, width=FULL - SIGNAL.left)))
        elif kind == "image":
            room = replace(image_room(view, HEIGHT, FULL - BAR), left=0.0)
            panels.append(_Panel(view, draw_image, room))
        elif kind == "boxes":
            panels.append(_Panel(view, draw_boxes, Room(HEIGHT, HEIGHT, left=0.0, right=BAR)))
        else:
            panels.append(_Panel(view, draw_tokens, tokens_room(view)))
    return [replace(panel, room=replace(panel.room, above=CAPTION)) for panel in panels]


def _draw_nothing(_view: ModalityView, ax: Axes) -> Figure:
    ax.set_axis_off()
    ax.text(0, 0.5, "no relevance", size=8, color="0.35", va="center")
    return figure_of(ax)


def _note(figure: Figure, text: str) -> None:
    width, height = figure.get_size_inches()
    figure.text(EDGE / width, EDGE / 2 / height, text, size=8, color="0.35", va="center")


def _rows(panels: list[_Panel]) -> list[list[_Panel]]:
    """Panels side by side where they fit."""
    rows: list[list[_Panel]] = []
    left = 0.0
    for panel in panels:
        width = panel.room.whole[0]
        if rows and width <= left:
            rows[-1].append(panel)
        else:
            rows.append([panel])
            left = FULL
        left -= width + GAP
    return rows


def _row_height(row: list[_Panel]) -> float:
    return max(panel.room.whole[1] for panel in row) + GAP


def _heading(figure: Figure, result: Explanation, sample: int, name: str, top: float) -> None:
    width, height = figure.get_size_inches()
    target = result.target[sample]
    shown = ", ".join(map(str, target)) if isinstance(target, tuple) else str(target)
    title = f"{result.graph.model}: target {shown}" + (f" ({name})" if name else "")
    under = (
        f"score {rounded(float(result.scores[sample]), '.4g')}, read from {result.readout[sample]}; "
        f"method {result.method}"
    )
    lines: list[tuple[str, float, dict[str, Any]]] = [
        (title, 0.25, {"size": 11, "weight": "bold"}),
        (under, 0.45, {"size": 8, "color": "0.35"}),
    ]
    for text, down, style in lines:
        place = EDGE / width, (top - down) / height
        figure.text(*place, printable(text), va="center", parse_math=False, **style)


def _caption(panel: _Panel) -> str:
    """The modality, and how a text is shaded where a word is beyond the scale."""
    name, numbers = printable(panel.view.name), panel.view.numbers_of_entries
    if panel.draw is not draw_text or not beyond_scale(np.nan_to_num(numbers)):
        return name
    most = strongest_shade(np.nan_to_num(numbers))
    return f"{name}, shaded up to {rounded(most, '.3g')}"


def _draw_row(figure: Figure, row: list[_Panel], top: float) -> None:
    width, height = figure.get_size_inches()
    left = EDGE
    for panel in row:
        figure.text(
            left / width, (top - CAPTION / 2) / height, _caption(panel), size=9,
            weight="bold", color="0.25", va="center", parse_math=False,
        )  # fmt: skip
        wide, high = panel.room.whole
        panel.draw(panel.view, panel.room.place(figure, left, top - high))
        left += wide + GAP
