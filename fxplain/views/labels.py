"""Labels: which tokens are words at all."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["are_words", "is_number"]


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
