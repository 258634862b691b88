"""Scores of tokens: methods that go down to where tokens are born, without relevancy matrices."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fxplain.methods.evidence import Biases, Evidence

__all__ = ["TokenScores", "full_gradient", "relevance_of_births", "value_times_gradient"]


@dataclass(frozen=True, eq=False)
class TokenScores:
    """One number per token of the book, (tokens,), and what biases get."""

    scores: Tensor
    biases: Biases | None = None

    def clamped(self) -> TokenScores:
        """Without the negative part."""
        return replace(self, scores=self.scores.clamp(min=0))


def relevance_of_births(evidence: Evidence) -> TokenScores:
    """The relevance that reached each token, summed over its features and its births."""
    return _summed(evidence, with_values=False)


def value_times_gradient(evidence: Evidence) -> TokenScores:
    """Each token's value at birth times its gradient, summed over features and births."""
    return _summed(evidence, with_values=True)


def full_gradient(evidence: Evidence) -> TokenScores:
    """Each token's value at birth times its gradient, and biases times theirs where they act.

    Srinivas & Fleuret, NeurIPS 2019, equation 3: ``f(x) = x . df/dx + sum_b b . df/db``.
    """
    assert evidence.biases is not None
    births = value_times_gradient(evidence).scores
    return TokenScores(births + evidence.biases.at.to(births), evidence.biases)


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
