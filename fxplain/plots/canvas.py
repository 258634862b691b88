"""What all plots share: a figure of their own, colours for relevance, and labels."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from fxplain.reports.shading import printable
from fxplain.written import rounded

__all__ = [
    "BAR",
    "DPI",
    "POINTS",
    "Array",
    "NotebookFigure",
    "Room",
    "axes_for",
    "colour_bar",
    "colour_scale",
    "cut_label",
    "figure_of",
    "file_formats",
    "text_width",
    "widest",
]

Array = NDArray[np.float64]

POINTS = 72
"""Points in an inch."""

DPI = 144
BAR = 0.62
"""Inches that a colour bar and its numbers need at the right of axes."""


class NotebookFigure(Figure):
    """A figure that shows itself in a notebook though pyplot does not hold it."""

    def _repr_png_(self) -> bytes:
        page = io.BytesIO()
        self.savefig(page, format="png", bbox_inches="tight")
        return page.getvalue()


@dataclass(frozen=True)
class Room:
    """The inches that a picture needs: its axes, and what stands around them."""

    width: float
    height: float
    left: float = 0.12
    right: float = 0.12
    below: float = 0.12
    above: float = 0.12

    @property
    def whole(self) -> tuple[float, float]:
        """Width and height with all that stands around the axes."""
        return self.left + self.width + self.right, self.below + self.height + self.above

    def place(self, figure: Figure, x: float, y: float) -> Axes:
        """New axes whose room has its lower left corner at a place of a figure (inches)."""
        width, height = figure.get_size_inches()
        corner = (x + self.left) / width, (y + self.below) / height
        return figure.add_axes((*corner, self.width / width, self.height / height))


def axes_for(ax: Axes | None, room: Room) -> Axes:
    """The given axes, or those of a new figure that has just enough room."""
    return room.place(NotebookFigure(figsize=room.whole, dpi=DPI), 0, 0) if ax is None else ax


def figure_of(ax: Axes) -> Figure:
    """The whole figure that axes are in."""
    figure = ax.get_figure(root=True)
    assert isinstance(figure, Figure)
    return figure


def file_formats() -> tuple[str, ...]:
    """The endings of the files that a figure can be written to."""
    return tuple(sorted(FigureCanvasBase.get_supported_filetypes()))


# ---- colours ------------------------------------------------------------------------------------


def colour_scale(values: Array, scaled_by: Array | None = None) -> tuple[Colormap, Normalize]:
    """White to orange for relevance; purple for what speaks against, where some does.

    Both are colour maps of ColorBrewer that readers with colour vision deficiency see in order.

    Parameters
    ----------
    values
        Relevance of any shape, NaN where there is none.
    scaled_by
        The values of which the largest gets the strongest colour; all by default.
    """
    scaling = np.abs(values if scaled_by is None else scaled_by)
    top = float(np.nanmax(scaling, initial=0.0)) or 1.0
    if np.nanmin(values, initial=0.0) < 0:
        return mpl.colormaps["PuOr_r"], Normalize(-top, top)
    return mpl.colormaps["Oranges"], Normalize(0.0, top)


def colour_bar(ax: Axes, shades: Colormap, scale: Normalize, beyond: float = 0.0) -> None:
    """A slim bar beside axes; it ends in a point where values go `beyond` its scale."""
    top = float(scale.vmax or 1.0)
    size = ax.get_window_extent().width / figure_of(ax).dpi
    bar = figure_of(ax).colorbar(
        ScalarMappable(scale, shades),
        cax=ax.inset_axes((1 + 0.08 / size, 0.0, 0.11 / size, 1.0)),
        extend="max" if beyond > top * (1 + 1e-9) else "neither",
        extendfrac=0.03,
        ticks=MaxNLocator(4),
        format=FuncFormatter(lambda value, _: rounded(value, ".3g")),
    )
    bar.ax.tick_params(labelsize=7, length=2, color="0.5")
    bar.outline.set_visible(False)


# ---- text ---------------------------------------------------------------------------------------


def text_width(text: str, size: float) -> float:
    """The width of a text in points."""
    return _relative_width(text, tuple(mpl.rcParams["font.family"])) * size


@lru_cache(maxsize=4096)
def _relative_width(text: str, family: tuple[str, ...]) -> float:
    if not text.strip():
        return 0.0
    plain = text.replace("$", r"\$")  # two dollars would enclose a formula
    path = TextPath((0, 0), plain, size=1.0, prop=FontProperties(family=list(family)))
    return float(path.get_extents().width)


def widest(labels: Sequence[str], size: float) -> float:
    """The width of the widest of some labels in inches."""
    return max((text_width(label, size) for label in labels), default=0.0) / POINTS


def cut_label(label: str, most: int = 24) -> str:
    """A label on one line, cut where it is longer than `most` characters."""
    text = printable(label)
    return text if len(text) <= most else text[: most - 1] + "…"
