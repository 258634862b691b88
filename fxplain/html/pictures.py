"""Pictures: what a model was given (images, video, sound, features), made fit to be looked at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from fxplain.errors import InputError

__all__ = ["given_pictures", "image_of", "images_of", "is_image", "strip_of"]

Pixels = NDArray[np.uint8]

LONGEST_SIDE = 448
"""Larger images are scaled down for the page; heat maps do not depend on it."""

STRIP_HEIGHT, STRIP_WIDTH = 96, 960


def is_image(value: Tensor) -> bool:
    """Whether a tensor looks like (batch, 1 or 3 channels, height, width)."""
    return value.is_floating_point() and value.dim() == 4 and value.shape[1] in (1, 3)


def images_of(value: Tensor, sample: int, grid: Sequence[int], most_pixels: int) -> list[Pixels]:
    """The picture under a grid of tokens: one, or one for each step in time.

    Parameters
    ----------
    value
        An input: an image, a video (batch, frames, channels, height, width), with frames and channels
        in either order, or a plane of features (batch, height, width).
    sample
        Which of the batch.
    grid
        The tokens' (rows, columns) or (times, rows, columns).
    most_pixels
        How many pixels all pictures together may have.

    Returns
    -------
    list
        No picture where the input has none of these shapes.
    """
    own = value[min(sample, len(value) - 1)].detach().float().cpu()
    if len(grid) == 2 and own.dim() == 3 and own.shape[0] in (1, 3):
        return [image_of(own, most_pixels)]
    if len(grid) == 2 and own.dim() == 2 and own.is_floating_point():
        turned = abs(_log_ratio(own.shape, grid)) > abs(_log_ratio(own.T.shape, grid))
        return [image_of((own.T if turned else own)[None], most_pixels)]
    if len(grid) == 3 and own.dim() == 4:
        frames = own if own.shape[1] in (1, 3) else own.transpose(0, 1)
        if frames.shape[1] in (1, 3) and len(frames) >= grid[0]:
            steps = [i * len(frames) // grid[0] for i in range(grid[0])]
            return [image_of(frames[i], most_pixels // grid[0]) for i in steps]
    return []


def image_of(channels: Tensor, most_pixels: int) -> Pixels:
    """(1 or 3 channels, height, width) as pixels, from its darkest to its lightest number."""
    height, width = channels.shape[1:]
    scale = min(1.0, LONGEST_SIDE / max(height, width), math.sqrt(most_pixels / (height * width)))
    if scale < 1:
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        channels = F.interpolate(channels[None], size, mode="area")[0]
    pixels = _stretched(channels)
    return pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))


def strip_of(value: Tensor, sample: int, tokens: int) -> Pixels | None:
    """A picture over time for tokens that follow each other: a waveform or features by frame.

    Parameters
    ----------
    value
        An input: (batch, samples), or (batch, features, frames) with frames in either place.
    sample
        Which of the batch.
    tokens
        How many tokens the time is cut into.
    """
    own = value[min(sample, len(value) - 1)].detach().cpu()
    if not own.is_floating_point():
        return None
    if own.dim() == 1 and len(own) > tokens:
        return _waveform(own.float())
    if own.dim() != 2 or len(own) == tokens or max(own.shape) <= tokens:
        return None  # a row for each token is its features: nothing lies along time
    time = min((0, 1), key=lambda axis: (_misfit(own.shape[axis], tokens), -own.shape[axis]))
    by_frame = own.float() if time == 1 else own.float().T
    features, frames = by_frame.shape
    size = (min(features, STRIP_HEIGHT), min(frames, STRIP_WIDTH))
    small = F.adaptive_avg_pool2d(by_frame[None], size)
    pixels: Pixels = _stretched(small.flip(1))[0]  # low frequencies below
    return pixels


def given_pictures(pictures: Any, modality: str, batch: int) -> list[Pixels]:
    """The caller's own pictures of a modality: one for each sample.

    Raises
    ------
    InputError
        When they are not one picture per sample, (height, width) or (height, width, 3).
    """
    images = [np.asarray(picture) for picture in pictures]
    wrong = [i.shape for i in images if not (i.ndim == 2 or (i.ndim == 3 and i.shape[2] == 3))]
    if len(images) != batch or wrong:
        found = f"a picture has shape {wrong[0]}" if wrong else f"there are {len(images)} pictures"
        raise InputError(
            f"pictures[{modality!r}]: {found}; give one per sample ({batch}), each (height, width) "
            f"grey or (height, width, 3) colours."
        )
    return [i if i.dtype == np.uint8 else _stretched(torch.as_tensor(i).float()) for i in images]


def _stretched(values: Tensor) -> Pixels:
    """All numbers moved to 0 ... 255 together, so that colours keep their proportions."""
    finite = torch.nan_to_num(values, posinf=0.0, neginf=0.0)
    low, high = float(finite.min()), float(finite.max())
    if low >= 0 and high <= 1 and high - low > 0.5:  # pixels from 0 to 1 already
        low, high = 0.0, 1.0
    level = (finite - low) / ((high - low) or 1.0)
    pixels: Pixels = (level * 255).round().clamp(0, 255).to(torch.uint8).numpy()
    return pixels


def _waveform(samples: Tensor) -> Pixels:
    """Dark ink on white: from silence to the lowest and the highest amplitude in each column."""
    width = min(len(samples), STRIP_WIDTH)
    largest = float(samples.abs().max()) or 1.0
    columns = torch.tensor_split(samples / largest, width)
    low = torch.stack([column.min() for column in columns]).clamp(max=0)
    high = torch.stack([column.max() for column in columns]).clamp(min=0)
    height = torch.linspace(1, -1, STRIP_HEIGHT)[:, None]
    line = 1.1 / STRIP_HEIGHT  # silence is a thin line
    ink = (height >= low - line) & (height <= high + line)
    pixels: Pixels = torch.where(ink, 70, 255).to(torch.uint8).numpy()
    return pixels


def _log_ratio(shape: Sequence[int], grid: Sequence[int]) -> float:
    return math.log(shape[0] / shape[1]) - math.log(grid[0] / grid[1])


def _misfit(size: int, tokens: int) -> float:
    """How far `size` frames are from being `tokens` equal pieces."""
    if size < tokens:
        return math.inf
    return abs(size / tokens - round(size / tokens))
