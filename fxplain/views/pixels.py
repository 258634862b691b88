"""Pixels: the image that boxes lie on, and the signal that tokens follow in time."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fxplain.explanation import Explanation
from fxplain.explanation.beneath import of_sample

__all__ = ["image_beneath", "photo_beneath", "signal_of"]


def image_beneath(explanation: Explanation, sample: int) -> Tensor | None:
    """The image that boxes lie on, (1 or 3 channels, height, width), if the model was given one."""
    for value in explanation.inputs.values():
        if value.is_floating_point() and value.dim() == 4 and value.shape[1] in (1, 3):
            return of_sample(value, sample)
    return None


def photo_beneath(explanation: Explanation, sample: int) -> NDArray[np.uint8] | None:
    """The photo that boxes lie on, where the model was given all of it and no margin."""
    for name in explanation.modalities:
        for on in explanation.on_photos(name, sample):
            if not on.said():
                return explanation.originals.photos[on.photo]
    return None


def signal_of(own: Tensor, tokens: int) -> Tensor | None:
    """What tokens follow in time: (1, samples) of a waveform, (features, frames) of a spectrogram.

    Parameters
    ----------
    own
        One sample's input: (samples,), or features by frames with either first.
    tokens
        How many tokens the time is cut into.
    """
    if not own.is_floating_point():
        return None
    if own.dim() == 1 and len(own) > tokens:
        return own[None]
    if own.dim() != 2 or len(own) == tokens or max(own.shape) <= tokens:
        return None  # a row for each token is its features: nothing lies along time
    time = min((0, 1), key=lambda axis: (_misfit(own.shape[axis], tokens), -own.shape[axis]))
    return own if time == 1 else own.T


def _misfit(size: int, tokens: int) -> float:
    """How far `size` frames are from being `tokens` equal pieces."""
    if size < tokens:
        return math.inf
    return abs(size / tokens - round(size / tokens))
