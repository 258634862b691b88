"""Limits: how much one process takes, keeps and writes."""

from __future__ import annotations

from dataclasses import dataclass

from fxplain.arguments import whole

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """What one process answers.

    Attributes
    ----------
    body
        Bytes of a request.
    characters
        Of a text.
    pixels
        Of an image, or of all frames of a video together.
    seconds
        Of a recording.
    frames
        Of a video, as many as a page or a file holds.
    waiting
        How many requests may wait for the model; others are told to come back.
    kept
        How many explanations are kept; the oldest go first.
    memory
        Bytes of pictures and recordings, opened, that are kept with them.
    cuts
        How many steps a deletion curve has at most.
    tokens
        How many a model writes at once.
    """

    body: int = 12_000_000
    characters: int = 20_000
    pixels: int = 40_000_000
    seconds: int = 60
    frames: int = 600
    waiting: int = 64
    kept: int = 64
    memory: int = 1_000_000_000
    cuts: int = 24
    tokens: int = 32

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            whole(0 if name == "waiting" else 1).check(name, value)
