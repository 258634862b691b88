"""plot_image: a heat map at pixel resolution over the image."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fxplain.errors import PlotError
from fxplain.explanation import Explanation
from fxplain.plots.canvas import BAR, Array, Room, axes_for, colour_bar, colour_scale, figure_of
from fxplain.plots.view import ModalityView, numbers
from fxplain.views import predicted_boxes

__all__ = ["Interpolation", "draw_image", "image_room", "pixel_relevance", "plot_image"]

Interpolation = Literal["nearest", "bilinear"]

HEIGHT, WIDTH = 4.0, 10.0
BOX = "#0072B2"
PAPER = 0.35
"""How much of the image is bleached, so that the colours of relevance stand out."""


def plot_image(
    explanation: Explanation,
    modality: str | None = None,
    *,
    sample: int = 0,
    ax: Axes | None = None,
    interpolation: Interpolation = "nearest",
) -> Figure:
    """The image, pale, and over it the relevance of each patch; the more, the less transparent.

    Special tokens (a CLS, registers) have no place in the image and are left out. The frames of a
    video stand side by side. Of a loaded explanation without its input only relevance is drawn.

    Parameters
    ----------
    explanation
        What `fxplain.explain` returned.
    modality
        Which image; by default the first modality whose tokens lie on a grid.
    sample, ax
        Which of the batch, and where to draw: by default in a new figure.
    interpolation
        "nearest" shows each token's number over its patch, as it is; "bilinear" blends neighbours.

    Returns
    -------
    matplotlib.figure.Figure
        The figure of the axes.

    Raises
    ------
    ModalityError, PlotError
        When there is no such modality or sample, or its tokens lie on no grid.
    """
    view = ModalityView.of(explanation, modality, sample, "image")
    return draw_image(view, axes_for(ax, image_room(view, HEIGHT, WIDTH)), interpolation)


def pixel_relevance(
    explanation: Explanation,
    modality: str,
    *,
    sample: int = 0,
    interpolation: Interpolation = "nearest",
) -> Array:
    """Relevance at pixel resolution.

    Parameters
    ----------
    explanation, modality, sample, interpolation
        As `plot_image` has them.

    Returns
    -------
    numpy.ndarray
        (height, width) of the image: each pixel has the relevance of its patch's token, not a share
        of it. The grid itself, where the explanation does not hold the image.

    Raises
    ------
    ModalityError, PlotError
        When there is no such modality or sample, or its tokens lie on no grid.
    """
    view = ModalityView.of(explanation, modality, sample, "image")
    grid = view.laid_out(numbers(explanation.relevance[view.name][sample]))
    return _upsampled(view, interpolation, grid)


def image_room(view: ModalityView, height: float, width: float) -> Room:
    """The room of the image, no higher and wider than that."""
    drawn = view.grid if view.picture is None else view.picture
    assert drawn is not None
    scale = min(height / drawn.shape[0], width / drawn.shape[1])
    return Room(scale * drawn.shape[1], scale * drawn.shape[0], right=BAR)


def draw_image(view: ModalityView, ax: Axes, interpolation: Interpolation = "nearest") -> Figure:
    """Draw into axes."""
    heat = _upsampled(view, interpolation)
    shades, scale = colour_scale(heat)
    alpha: Array | float = 1.0
    if view.picture is not None:
        pale = PAPER + (1 - PAPER) * view.picture
        is_grey = bool((pale == pale[..., :1]).all())
        ax.imshow(pale[..., 0] if is_grey else pale, cmap="gray", vmin=0, vmax=1)
        alpha = 0.85 * np.clip(np.abs(heat) / float(scale.vmax or 1), 0, 1) ** 0.7
    drawn = ax.imshow(heat, cmap=shades, norm=scale, alpha=alpha, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    drawn.set_gid("relevance")
    box = None if view.picture is None else _target_box(view)
    if box is not None:
        left, top, right, bottom = box * (heat.shape[::-1] * 2) - 0.5
        ax.add_patch(
            Rectangle(
                (left, top), right - left, bottom - top, fill=False, edgecolor=BOX, linewidth=2,
                gid="target box",
            )
        )  # fmt: skip
    colour_bar(ax, shades, scale)
    return figure_of(ax)


def _target_box(view: ModalityView) -> Array | None:
    """The corners, from 0 to 1, of the box that the model puts around the explained object query."""
    explanation, sample = view.explanation, view.sample
    target = explanation.target[sample]
    if not (isinstance(target, tuple) and len(target) == 2 and isinstance(target[0], int)):
        return None
    boxes = predicted_boxes(explanation)
    if boxes is None or len(boxes) != explanation.batch_size or target[0] >= boxes.shape[1]:
        return None
    return numbers(boxes[sample, target[0]])


def _upsampled(
    view: ModalityView, interpolation: Interpolation, drawn: Array | None = None
) -> Array:
    """(height, width) of the picture, (rows, columns) where there is none."""
    if interpolation not in ("nearest", "bilinear"):
        raise PlotError(
            f"there is no interpolation {interpolation!r}: it is 'nearest' or 'bilinear'."
        )
    drawn = view.grid if drawn is None else drawn
    assert drawn is not None
    if view.picture is None:
        return drawn
    grid = torch.from_numpy(drawn)[None, None]
    smooth = {"align_corners": False} if interpolation == "bilinear" else {}
    size = view.picture.shape[:2]
    pixels = torch.nn.functional.interpolate(grid, size=size, mode=interpolation, **smooth)
    return np.asarray(pixels[0, 0].numpy())
