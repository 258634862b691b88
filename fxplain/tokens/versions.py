"""Versions: which attention nodes and routes a value has absorbed."""

from __future__ import annotations

from functools import lru_cache

__all__ = ["IDENTITY", "Versions"]

IDENTITY = -1
"""The mark of a residual path from the tokens' birth."""


class Versions:
    """Interned sets of absorbed updates.

    A version is a frozenset of update indices (positions in the program), with `IDENTITY` in it
    where a residual path from the tokens' birth reaches the value. Index 0 is ``{IDENTITY}``.
    """

    def __init__(self) -> None:
        self.before_attention: set[int] = {IDENTITY}
        """Updates that happen before any attention: births and the mixing of newborn tokens."""
        self._sets: list[frozenset[int]] = []
        self._index: dict[frozenset[int], int] = {}
        self.union = lru_cache(maxsize=None)(self._union)
        self.intern(frozenset({IDENTITY}))

    def intern(self, updates: frozenset[int]) -> int:
        """The index of a version."""
        index = self._index.get(updates)
        if index is None:
            index = self._index[updates] = len(self._sets)
            self._sets.append(updates)
        return index

    def of(self, index: int) -> frozenset[int]:
        """The set of a version index."""
        return self._sets[index]

    def newborn(self, index: int) -> bool:
        """Whether a version has absorbed neither attention nor a route."""
        return self._sets[index] <= self.before_attention

    def _union(self, a: int, b: int) -> int:
        return a if a == b else self.intern(self._sets[a] | self._sets[b])

    def __len__(self) -> int:
        return len(self._sets)
