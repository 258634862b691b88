"""Recordings whose words have known seconds: espeak-ng speaks each on its own, with silence between."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import wave
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

__all__ = ["RATE", "Recording", "recorded", "speaks"]

RATE = 16_000
"""Samples a second, of what Whisper hears."""

APART = 0.4
"""Seconds of silence between two words."""

QUIET = 0.02
"""Of a word's loudest sample; what is below before and after it is cut off."""


@dataclass(frozen=True)
class Recording:
    """Words that are spoken apart.

    Attributes
    ----------
    words
        In their order.
    sound
        (samples,) at `RATE`.
    seconds
        From when to when each word lasts.
    """

    words: tuple[str, ...]
    sound: np.ndarray
    seconds: tuple[tuple[float, float], ...]


def speaks() -> bool:
    """Whether espeak-ng is here."""
    return shutil.which("espeak-ng") is not None


def recorded(phrase: str, voice: str) -> Recording:
    """A phrase, each word spoken apart by a voice of espeak-ng's, such as "en-us"."""
    words = tuple(phrase.split())
    parts, seconds = [], []
    for start, sound in _in_turn([_spoken(word, voice) for word in words]):
        parts += [sound, np.zeros(round(APART * RATE), np.float32)]
        seconds.append((start, start + len(sound) / RATE))
    return Recording(words, np.concatenate(parts), tuple(seconds))


def _in_turn(sounds: list[np.ndarray]) -> Iterator[tuple[float, np.ndarray]]:
    """Each word's sound with the second at which it starts."""
    start = 0.0
    for sound in sounds:
        yield start, sound
        start += len(sound) / RATE + APART


def _spoken(word: str, voice: str) -> np.ndarray:
    from scipy.signal import resample_poly

    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        subprocess.run(["espeak-ng", "-v", voice, "-w", file.name, word], check=True)
        with wave.open(file.name) as heard:
            rate, raw = heard.getframerate(), heard.readframes(heard.getnframes())
    sound = resample_poly(np.frombuffer(raw, "<i2").astype(np.float32) / 32768, RATE, rate)
    loud = np.flatnonzero(np.abs(sound) > QUIET * np.abs(sound).max())
    return sound[loud[0] : loud[-1] + 1].astype(np.float32)
