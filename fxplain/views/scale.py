"""Scale: which number of a text gets the strongest shade, so that one huge word hides no other."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["beyond_scale", "strongest_shade"]

LONG, FAR, LEVEL = 20, 8.0, 0.5
"""Of so many words or more, those that are so many times as large as the next are beyond the scale, on
which that next one is half way up."""

RARE = 50
"""One word of so many may be beyond the scale, and one of a shorter text."""


def strongest_shade(values: Iterable[float]) -> float:
    """The size that gets the strongest shade: the largest, or less where that would whiten the rest.

    Parameters
    ----------
    values
        Relevance of words.

    Examples
    --------
    >>> strongest_shade([0.1, -0.4, 0.2]), strongest_shade([])
    (0.4, 0.0)
    >>> strongest_shade([0.02] * 30 + [0.9])
    0.04
    """
    sizes = sorted((abs(value) for value in values if value), reverse=True)
    if len(sizes) < LONG:
        return max(sizes, default=0.0)
    for beyond in range(max(1, len(sizes) // RARE), 0, -1):
        if sizes[beyond - 1] > FAR * sizes[beyond]:
            return sizes[beyond] / LEVEL
    return sizes[0]


def beyond_scale(values: Iterable[float]) -> list[int]:
    """The places of the words that are beyond the scale, the largest first.

    Examples
    --------
    >>> beyond_scale([0.02] * 30 + [0.9]), beyond_scale([0.02] * 30)
    ([30], [])
    """
    given = list(values)
    most = strongest_shade(given)
    found = [i for i, value in enumerate(given) if abs(value) > most]
    return sorted(found, key=lambda i: -abs(given[i]))
