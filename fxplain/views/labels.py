"""Labels: which tokens are words at all."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from itertools import pairwise

__all__ = ["are_words", "is_number", "is_right_to_left", "reading_order"]


def is_number(label: str) -> bool:
    """Whether a label is an id or a place rather than a word."""
    return not label or label.replace(",", "").isdigit()


def are_words(labels: Iterable[str]) -> bool:
    """Whether some label says more than an id or a place.

    Examples
    --------
    >>> are_words(["[CLS]", "17"]), are_words(["0,1", "0,2"])
    (True, False)
    """
    return not all(map(is_number, labels))


def is_right_to_left(texts: Iterable[str]) -> bool:
    """Whether most letters of a text are of a script that is written from right to left.

    Examples
    --------
    >>> is_right_to_left(["[CLS]", "שלום לך"]), is_right_to_left(["word"])
    (True, False)
    """
    kinds = [unicodedata.bidirectional(letter) for text in texts for letter in text]
    right = sum(kind in ("R", "AL") for kind in kinds)
    return right > sum(kind == "L" for kind in kinds)


def reading_order(words: Sequence[str], *, backwards: bool) -> list[int]:
    """The words of a line from left to right, by the levels of Unicode's bidirectional algorithm.

    Numbers and words of another direction keep theirs within the line's.

    Examples
    --------
    >>> reading_order(["שלום", "1", ",", "5", "לך"], backwards=True)
    [4, 1, 2, 3, 0]
    >>> reading_order(["so", "שלום", "לך", "!"], backwards=False)
    [0, 2, 1, 3]
    """
    base = int(backwards)
    kinds = [_direction(word) for word in words]
    levels = [base if kind is None else kind + (kind < base) * 2 for kind in kinds]
    known = [i for i, kind in enumerate(kinds) if kind is not None]
    for before, after in pairwise(known):  # what has no direction is as both its neighbours
        if levels[before] == levels[after]:
            levels[before:after] = [levels[before]] * (after - before)
    order = list(range(len(words)))
    for level in range(max(levels, default=0), 0, -1):
        start = 0
        while start < len(order):
            stop = start
            while stop < len(order) and levels[order[stop]] >= level:
                stop += 1
            order[start:stop] = order[start:stop][::-1]
            start = stop + 1
    return order


def _direction(word: str) -> int | None:
    """1 of a word that is read from the right, 0 from the left, None of a mark."""
    for kind in map(unicodedata.bidirectional, word):
        if kind in ("R", "AL"):
            return 1
        if kind in ("L", "EN", "AN"):
            return 0
    return None
