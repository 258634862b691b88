"""Scores of tokens: methods that go down to where tokens are born, without relevancy matrices."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fxplain.methods.evidence import Evidence

__all__ = ["TokenScores", "relevance_of_births", "value_times_gradient"]


@dataclass(frozen=True, eq=False)
class TokenScores:
    """One number per token of the book, (tokens,)."""

    scores: Tensor

    def clamped(self) -> TokenScores:
        """Without the negative part."""
        return TokenScores(self.scores.clamp(min=0))


def relevance_of_births(evidence: Evidence) -> TokenScores:
    """The relevance that reached each token, summed over its features and its births."""
    return _summed(evidence, with_values=False)


def value_times_gradient(evidence: Evidence) -> TokenScores:
    """Each token's value at birth times its gradient, summed over features and births."""
    return _summed(evidence, with_values=True)


def _summed(evidence: Evidence, *, with_values: bool) -> TokenScores:
    count = len(evidence.program.flow.book)
    total: Tensor | None = None
    for born in evidence.births:
        if born.gradient is None:
            continue
        x = born.gradient * born.value if with_values else born.gradient
        part = born.summed(x, count)
        total = part if total is None else total + part
    return TokenScores(torch.zeros(count) if total is None else total)
