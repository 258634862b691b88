"""plot_image: a heat map at pixel resolution over the image."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path

from fxplain.arguments import checked, one_of
from fxplain.errors import PlotError
from fxplain.explanation import Explanation
from fxplain.explanation.on_photos import OnPhoto
from fxplain.explanation.originals import Box
from fxplain.plots.canvas import BAR, Array, Room, axes_for, colour_bar, colour_scale, figure_of
from fxplain.plots.view import AN_EXPLANATION, SOME_AXES, ModalityView, numbers
from fxplain.views import predicted_boxes

__all__ = ["Interpolation", "draw_image", "image_room", "pixel_relevance", "plot_image"]

Interpolation = Literal["nearest", "bilinear"]
INTERPOLATION = one_of(get_args(Interpolation)).raising(PlotError)

HEIGHT, WIDTH = 4.0, 10.0
BOX = "#0072B2"
MOST_PIXELS = 1000
"""Sides of photos longer than twice this are drawn with fewer pixels."""

PAPER = 0.35
"""How much of the image is bleached, so that the colours of relevance stand out."""


@checked(explanation=AN_EXPLANATION, ax=SOME_AXES, interpolation=INTERPOLATION)
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


@checked(explanation=AN_EXPLANATION, interpolation=INTERPOLATION)
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
    if view.on_photo is not None:
        left, top, right, bottom = _in_pixels(view, view.on_photo.frame)
        own = bottom - top, right - left
    else:
        drawn = view.grid if view.picture is None else view.picture
        assert drawn is not None
        own = drawn.shape[0], drawn.shape[1]
    scale = min(height / own[0], width / own[1])
    return Room(scale * own[1], scale * own[0], right=BAR)


def draw_image(view: ModalityView, ax: Axes, interpolation: Interpolation = "nearest") -> Figure:
    """Draw into axes."""
    if view.on_photo is not None:
        return _draw_on_photo(view, view.on_photo, ax, interpolation)
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
        _frame(ax, box * (heat.shape[::-1] * 2) - 0.5)
    colour_bar(ax, shades, scale)
    return figure_of(ax)


def _in_pixels(view: ModalityView, box: Box) -> tuple[float, float, float, float]:
    """A box in fractions of the photo as its pixels."""
    assert view.on_photo is not None
    height, width = view.explanation.originals.photos[view.on_photo.photo].shape[:2]
    left, top, right, bottom = box
    return left * width, top * height, right * width, bottom * height


def _draw_on_photo(
    view: ModalityView, on: OnPhoto, ax: Axes, interpolation: Interpolation
) -> Figure:
    """The photo that was given, whole, and the tokens where they lie on it."""
    photo = view.explanation.originals.photos[on.photo]
    height, width = photo.shape[:2]
    step = max(1, max(height, width) // MOST_PIXELS)
    pale = PAPER + (1 - PAPER) * photo[::step, ::step] / 255
    ax.imshow(pale, extent=(0, width, height, 0))
    heat = view.values[list(on.tokens)].reshape(on.grid)
    shades, scale = colour_scale(heat)
    alpha = 0.85 * np.clip(np.abs(heat) / float(scale.vmax or 1), 0, 1) ** 0.7
    left, top, right, bottom = _in_pixels(view, on.box)
    drawn = ax.imshow(
        heat, cmap=shades, norm=scale, alpha=alpha, interpolation=interpolation,
        extent=(left, right, bottom, top),
    )  # fmt: skip
    drawn.set_gid("relevance")
    if on.cut:
        ax.add_patch(_all_but(left, top, right, bottom, width, height))
    left, top, right, bottom = _in_pixels(view, on.frame)
    ax.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[], xlabel=on.said())
    ax.spines[:].set_visible(False)
    box = _target_box(view)
    if box is not None and not on.said():
        _frame(ax, box * (width, height, width, height))
    colour_bar(ax, shades, scale)
    return figure_of(ax)


def _all_but(
    left: float, top: float, right: float, bottom: float, width: int, height: int
) -> PathPatch:
    """What the processor cut off a photo, hatched."""
    outer = [(0, 0), (width, 0), (width, height), (0, height), (0, 0)]
    inner = [(left, top), (left, bottom), (right, bottom), (right, top), (left, top)]
    codes = [Path.MOVETO, *[Path.LINETO] * 3, Path.CLOSEPOLY]
    path = Path(np.clip([*outer, *inner], 0, (width, height)), [*codes, *codes])
    veil = {"facecolor": (1, 1, 1, 0.6), "edgecolor": (0, 0, 0, 0.45), "hatch": "////"}
    return PathPatch(path, linewidth=0, gid="cut off", **veil)


def _frame(ax: Axes, corners: Array) -> None:
    """A box that the model predicts, by its corners."""
    left, top, right, bottom = corners
    ax.add_patch(
        Rectangle(
            (left, top), right - left, bottom - top, fill=False, edgecolor=BOX, linewidth=2,
            gid="target box",
        )
    )  # fmt: skip


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
    drawn = view.grid if drawn is None else drawn
    assert drawn is not None
    if view.picture is None:
        return drawn
    grid = torch.from_numpy(drawn)[None, None]
    smooth = {"align_corners": False} if interpolation == "bilinear" else {}
    size = view.picture.shape[:2]
    pixels = torch.nn.functional.interpolate(grid, size=size, mode=interpolation, **smooth)
    return np.asarray(pixels[0, 0].numpy())
