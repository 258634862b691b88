"""Labels: which tokens are words at all."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

__all__ = ["are_words", "is_number", "is_right_to_left"]


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
