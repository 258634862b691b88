"""Versions: which attention nodes and routes a value has absorbed, and what has scaled it since."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache

import torch
from torch import Tensor

__all__ = ["IDENTITY", "Scaling", "Versions"]

IDENTITY = -1
"""The mark of a residual path from the tokens' birth."""


class Scaling:
    """Factors that rows were multiplied with, by token: a mask, 1 / n, anything made of no token.

    Factors are read when a sum asks for them, not before: most masks are never asked.

    Parameters
    ----------
    rows
        Computes the token of every row that was scaled, -1 for none.
    factors
        Computes the absolute factors, broadcastable to the rows; of several for one row (features
        of their own) the mean counts.
    """

    def __init__(self, rows: Callable[[], Tensor], factors: Callable[[], Tensor]) -> None:
        self._rows, self._factors = rows, factors

    @cached_property
    def _table(self) -> tuple[Tensor, Tensor]:
        """Distinct tokens in order, and the factor of each."""
        tokens, factors = torch.broadcast_tensors(self._rows(), self._factors().double())
        distinct, place = tokens.reshape(-1).unique(return_inverse=True)
        total = torch.zeros(len(distinct), dtype=torch.float64)
        total.index_add_(0, place, factors.reshape(-1).abs())
        return distinct, total / place.bincount(minlength=len(distinct))

    def of(self, tokens: Tensor) -> Tensor:
        """The factor of each token; 1 for tokens that were not scaled here."""
        distinct, factor = self._table
        place = torch.searchsorted(distinct, tokens).clamp(max=len(distinct) - 1)
        return torch.where(distinct[place] == tokens, factor[place], 1.0)


class Unlike:
    """What two values that were scaled unlike leave of each row of their sum: 0 where both are 0."""

    def __init__(self, *values: Sequence[Scaling | Unlike]) -> None:
        self._values = values

    def of(self, tokens: Tensor) -> Tensor:
        """0 for tokens of which neither value leaves anything, 1 for others."""
        left = [
            torch.stack([s.of(tokens) != 0 for s in scalings]).all(0) for scalings in self._values
        ]
        return torch.stack(left).any(0).double()


class Versions:
    """Interned sets of absorbed updates, each with the scalings that the value went through since.

    A version is a frozenset of update indices (positions in the program), with `IDENTITY` in it
    where a residual path from the tokens' birth reaches the value. Index 0 is ``{IDENTITY}``. The
    empty version is that of what attention weights alone make (of a learned table).

    A scaling belongs to the version, so it moves with the rows wherever they go. It is of the whole
    value or of none: what two values that were scaled alike are added to is scaled alike, a sum of
    unlike ones counts as not scaled but for the rows that are 0 in both.
    """

    def __init__(self) -> None:
        self.before_attention: set[int] = {IDENTITY}
        """Updates that happen before any attention: births and the mixing of newborn tokens."""
        self.scalings: list[Scaling | Unlike] = []
        self._sets: list[frozenset[int]] = []
        self._scaled: list[frozenset[int]] = []
        self._index: dict[tuple[frozenset[int], frozenset[int]], int] = {}
        self.union = lru_cache(maxsize=None)(self._union)
        self._unlike = lru_cache(maxsize=None)(self._of_unlike)
        self.intern(frozenset({IDENTITY}))

    def intern(self, updates: frozenset[int], scaled: frozenset[int] = frozenset()) -> int:
        """The index of a version."""
        key = (updates, scaled)
        index = self._index.get(key)
        if index is None:
            index = self._index[key] = len(self._sets)
            self._sets.append(updates)
            self._scaled.append(scaled)
        return index

    def of(self, index: int) -> frozenset[int]:
        """The set of a version index."""
        return self._sets[index]

    def absorbed(self, versions: Tensor) -> Tensor:
        """The same versions, whatever has scaled them: equal where the same updates were absorbed."""
        distinct, place = versions.unique(return_inverse=True)
        bare = [self.intern(self._sets[v]) if v >= 0 else v for v in distinct.tolist()]
        return torch.tensor(bare, dtype=torch.int64)[place]

    def newborn(self, index: int) -> bool:
        """Whether a version has absorbed neither attention nor a route, but comes from a birth."""
        return index >= 0 and bool(self._sets[index]) and self._sets[index] <= self.before_attention

    def scale(self, version: int, scaling: int) -> int:
        """A version after one more scaling (an index of `scalings`)."""
        return self.intern(self._sets[version], self._scaled[version] | {scaling})

    def scaled_as(self, version: int, others: set[int]) -> int:
        """A version that all that scaled some others has scaled, too."""
        scaled = self._scaled[version].union(*(self._scaled[other] for other in others))
        return self.intern(self._sets[version], scaled)

    def factor(self, version: int, tokens: Tensor) -> Tensor:
        """How much of each token's row is left by all that scaled it: 1, or the factors' product."""
        result = torch.ones(tokens.shape, dtype=torch.float64)
        for scaling in self._scaled[version]:
            result = result * self.scalings[scaling].of(tokens)
        return result

    def factors(self, versions: Tensor, tokens: Tensor) -> Tensor:
        """The same for tokens of different versions."""
        result = torch.ones(tokens.shape, dtype=torch.float64)
        for version in versions.unique().tolist():
            if self.is_scaled(version):
                here = versions == version
                result[here] = self.factor(version, tokens[here])
        return result

    def is_scaled(self, version: int) -> bool:
        """Whether anything has scaled a value of this version."""
        return version >= 0 and bool(self._scaled[version])

    def forget_factors(self) -> None:
        """Let go of what scaled rows, when no sum will ask: it holds the whole analysis."""
        self.scalings.clear()

    def _union(self, a: int, b: int) -> int:
        if a == b:
            return a
        alike = self._scaled[a] & self._scaled[b]
        only_a, only_b = self._scaled[a] - alike, self._scaled[b] - alike
        if only_a and only_b:
            alike |= {self._unlike(frozenset([only_a, only_b]))}
        return self.intern(self._sets[a] | self._sets[b], alike)

    def _of_unlike(self, sides: frozenset[frozenset[int]]) -> int:
        self.scalings.append(Unlike(*([self.scalings[s] for s in side] for side in sides)))
        return len(self.scalings) - 1

    def __len__(self) -> int:
        return len(self._sets)
