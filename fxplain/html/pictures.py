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

__all__ = ["given_pictures", "image_of", "images_of", "strip_of"]

Pixels = NDArray[np.uint8]

LONGEST_SIDE = 448
"""Larger images are scaled down for the page; heat maps do not depend on it."""

STRIP_HEIGHT, STRIP_WIDTH = 96, 960


def images_of(frames: Sequence[Tensor], most_pixels: int) -> list[Pixels]:
    """The pictures under a grid of tokens as pixels.

    Parameters
    ----------
    frames
        (1 or 3 channels, height, width) each.
    most_pixels
        How many pixels all pictures together may have.
    """
    return [image_of(frame.float(), most_pixels // len(frames)) for frame in frames]


def image_of(channels: Tensor, most_pixels: int) -> Pixels:
    """(1 or 3 channels, height, width) as pixels, from its darkest to its lightest number."""
    height, width = channels.shape[1:]
    scale = min(1.0, LONGEST_SIDE / max(height, width), math.sqrt(most_pixels / (height * width)))
    if scale < 1:
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        channels = F.interpolate(channels[None], size, mode="area")[0]
    pixels = _stretched(channels)
    return pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))


def strip_of(signal: Tensor) -> Pixels:
    """A picture over time: of a waveform (1, samples), or of features by frame (features, frames)."""
    if len(signal) == 1:
        return _waveform(signal[0].float())
    features, frames = signal.shape
    size = (min(features, STRIP_HEIGHT), min(frames, STRIP_WIDTH))
    small = F.adaptive_avg_pool2d(signal.float()[None], size)
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
