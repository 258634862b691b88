"""plot_boxes: regions of an image, coloured by the relevance of their tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fxplain.arguments import checked
from fxplain.errors import PlotError
from fxplain.explanation import Explanation
from fxplain.plots.canvas import (
    BAR,
    Room,
    axes_for,
    colour_bar,
    colour_scale,
    figure_of,
)
from fxplain.plots.view import AN_EXPLANATION, SOME_AXES, ModalityView
from fxplain.presentation import text_colour
from fxplain.reports.shading import signed_percent

__all__ = ["draw_boxes", "plot_boxes"]

SIDE = 4.0
MOST_NAMED = 12
"""How many boxes, from the most relevant on, say their share."""


@checked(explanation=AN_EXPLANATION, ax=SOME_AXES)
def plot_boxes(
    explanation: Explanation,
    modality: str | None = None,
    *,
    sample: int = 0,
    ax: Axes | None = None,
    image: Any = None,
) -> Figure:
    """The box of each token, coloured by its relevance, the most relevant ones with their share.

    Parameters
    ----------
    explanation
        What `fxplain.explain` returned. One of its inputs holds boxes: (batch, tokens, 4) numbers in
        [0, 1], corners (x1, y1, x2, y2) or centre and size; or its output does, of object queries.
    modality
        Whose boxes; by default the first modality that has some.
    sample, ax
        Which of the batch, and where to draw: by default in a new figure.
    image
        The image to draw them on (an array or a PIL image), which a model of regions never sees; by
        default the one that the model was given, if any.

    Returns
    -------
    matplotlib.figure.Figure
        The figure of the axes.

    Raises
    ------
    ModalityError, PlotError
        When there is no such modality or sample, or it has no boxes; when `image` is no image.
    """
    view = ModalityView.of(explanation, modality, sample, "boxes")
    picture = None if image is None else np.asarray(image)
    if picture is not None and picture.ndim not in (2, 3):
        raise PlotError(f"image has {picture.ndim} axes; it has height, width, and maybe channels.")
    picture = view.beneath if picture is None else picture
    height, width = (1, 1) if picture is None else picture.shape[:2]
    room = Room(min(SIDE * width / height, 10.0), SIDE, right=BAR)
    return draw_boxes(view, axes_for(ax, room), picture)


def draw_boxes(view: ModalityView, ax: Axes, picture: Any = None) -> Figure:
    """Draw into axes."""
    picture = view.beneath if picture is None else picture
    height, width = (1.0, 1.0) if picture is None else picture.shape[:2]
    if picture is None:
        ax.add_patch(Rectangle((0, 0), 1, 1, facecolor="0.95", edgecolor="none", zorder=0))
    else:
        ax.imshow(picture, cmap="gray", extent=(0, width, height, 0), alpha=0.65)
    assert view.boxes is not None
    values = view.others
    shades, scale = colour_scale(values)
    total = float(np.nansum(np.abs(values))) or 1.0
    ranked = [i for i in np.argsort(np.abs(np.nan_to_num(values))) if values[i] == values[i]]
    for i in ranked:  # the most relevant last, above the others
        left, top, right, bottom = view.boxes[i] * (width, height, width, height)
        colour = shades(scale(values[i]))
        strength = min(abs(values[i]) / float(scale.vmax or 1), 1.0)
        ax.add_patch(
            Rectangle(
                (left, top), right - left, bottom - top,
                facecolor=(*colour[:3], 0.15 + 0.6 * strength), edgecolor=colour,
                linewidth=0.8 + 1.7 * strength, gid=f"token {i}",
            )
        )  # fmt: skip
    for i in ranked[::-1][:MOST_NAMED]:
        left, top, right, bottom = view.boxes[i] * (width, height, width, height)
        colour = to_hex(shades(scale(values[i])))
        ax.text(
            (left + right) / 2, (top + bottom) / 2, signed_percent(values[i] / total), size=8,
            ha="center", va="center", color=text_colour(colour),
            bbox={"boxstyle": "round,pad=0.2", "facecolor": colour, "edgecolor": "none"},
        )  # fmt: skip
    ax.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[], aspect="equal")
    ax.spines[:].set_visible(False)
    colour_bar(ax, shades, scale)
    return figure_of(ax)
