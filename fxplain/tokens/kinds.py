"""Kinds of operations: what one does to the elements of its operands."""

from __future__ import annotations

from enum import Enum, auto

__all__ = ["Kind"]


class Kind(Enum):
    """What an operation does to elements, as far as one can say so without tokens."""

    MOVES = auto()
    """It moves them: views, permutations, picking, joining, writing."""
    ITEM = auto()
    """It picks one of several results."""
    FRESH = auto()
    """It makes new ones, of no one's."""
    REDUCES = auto()
    """It makes one of many along an axis."""
    OTHER = auto()
