"""Hearing: how much time a recording's features stand for, as a feature extractor makes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["seconds_heard"]

SHORT, LONG = 0.25, 0.75
"""Seconds of the two recordings that frames are counted of."""


def seconds_heard(extractor: Any, name: str, features: Tensor, given: float) -> float:
    """How many seconds a batch's features stand for: some are padded, or cut off, to a fixed length.

    Found by how many frames two recordings of noise have, of which one is longer.

    Parameters
    ----------
    extractor
        What made them.
    name
        What it calls them.
    features
        (batch, samples), or (batch, ...) of frames.
    given
        How long the longest recording is.

    Returns
    -------
    float
        `given` where nothing else can be told.
    """
    if hasattr(extractor, "chunk_length"):
        return float(extractor.chunk_length)
    if features.dim() < 3:
        return given
    rate = extractor.sampling_rate
    noise = np.random.default_rng(0).normal(size=round(LONG * rate)).astype(np.float32)
    try:
        made = [
            extractor(noise[: round(t * rate)], sampling_rate=rate, return_tensors="pt")[name][0]
            for t in (SHORT, LONG)
        ]
    except Exception:  # noqa: BLE001 - an extractor may refuse what is so short
        return given
    if made[0].shape != made[1].shape or made[0].dim() != features.dim() - 1:
        return given  # as long as the recording
    lengths = [_lengths(own) for own in made]
    grown = [axis for axis, pair in enumerate(zip(*lengths, strict=True)) if pair[0] < pair[1]]
    if len(grown) != 1:
        return given
    (axis,) = grown
    short, long = (own[axis] for own in lengths)
    if long == made[1].shape[axis]:  # cut off, too
        return given
    return features.shape[axis + 1] * (LONG - SHORT) / (long - short)


def _lengths(features: Tensor) -> list[int]:
    """By axis, how far it is till all that follows is alike: padding."""
    found = []
    for axis, length in enumerate(features.shape):
        alike = (
            (features == features.narrow(axis, length - 1, 1)).movedim(axis, 0).flatten(1).all(1)
        )
        unlike = torch.nonzero(~alike).flatten()
        tail = 0 if not len(unlike) else int(unlike[-1]) + 1
        found.append(tail if tail < length - 1 else length)
    return found
