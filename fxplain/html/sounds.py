"""Sounds: the recordings that people gave, to be played on the page."""

from __future__ import annotations

import base64
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fxplain.explanation import Explanation

__all__ = ["sounds_of", "wav_url"]

MOST_BYTES = 700_000
"""Of all recordings of a page, before they are written as text: half a minute at 11 kHz, 16 bits."""


def sounds_of(explanation: Explanation, name: str) -> list[dict[str, Any]]:
    """By sample, the recording under a modality and how long it and the strip are.

    None where the modality is no recording, where they are not known, or are too long for a page.
    """
    given = explanation.originals
    shown = explanation.seconds.get(name)
    if shown is None or len(given.sounds) != explanation.batch_size or not given.rate:
        return []
    most = MOST_BYTES // len(given.sounds)
    urls = [wav_url(sound, given.rate, most) for sound in given.sounds]
    if None in urls:
        return []
    return [
        {"url": url, "seconds": len(sound) / given.rate, "shown": shown}
        for url, sound in zip(urls, given.sounds, strict=True)
    ]


def wav_url(sound: NDArray[np.float32], rate: int, most_bytes: int) -> str | None:
    """A recording as a ``data:`` address of a .wav file of 16 bits.

    Parameters
    ----------
    sound
        (samples,).
    rate
        Its samples per second: neighbours are averaged until it fits.
    most_bytes
        How many bytes it may have.

    Returns
    -------
    str or None
        None where it would have fewer than 4,000 samples a second.
    """
    while 2 * len(sound) > most_bytes and rate >= 8_000:
        sound, rate = sound[: len(sound) // 2 * 2].reshape(-1, 2).mean(1), rate // 2
    if 2 * len(sound) > most_bytes or not len(sound):
        return None
    loudest = max(1.0, float(np.abs(sound).max()))
    samples = np.rint(sound / loudest * 32767).astype("<i2").tobytes()
    form = struct.pack("<HHIIHH", 1, 1, rate, 2 * rate, 2, 16)
    chunks = b"fmt " + struct.pack("<I", len(form)) + form
    chunks += b"data" + struct.pack("<I", len(samples)) + samples
    file = b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks
    return f"data:audio/wav;base64,{base64.b64encode(file).decode('ascii')}"
