"""Additivity: whether relevance, added up, tells how much the score loses without tokens."""

from __future__ import annotations

import torch

from fxplain.arguments import checked, number, whole
from fxplain.errors import EvaluationError
from fxplain.evaluation.case import USUAL, Case
from fxplain.evaluation.metric import Measured
from fxplain.evaluation.statistics import spearman

__all__ = ["completeness", "datamodelling", "top_k_drop"]


def completeness(case: Case, modality: str, *, score: str = "logit") -> Measured:
    """How far the sum of relevance is from what the score loses without all counted tokens.

    With S the sum of relevance over counted tokens and D the score less that without them,
    |S - D| / (|S| + |D|): 0 where relevance is complete, 1 where it is of the other sign or of another
    order of magnitude.
    """
    counted = case.counted(modality)
    kept, gone = case.scores(
        modality, torch.stack([torch.zeros_like(counted), counted]), score, shared="all or none"
    )
    total = (case.values(modality) * counted).sum(1)
    lost = kept - gone
    error = (total - lost).abs() / (total.abs() + lost.abs())  # 0/0: nothing of nothing is complete
    return Measured(error.nan_to_num(0.0))


@checked(
    draws=whole(2, 1 << 20).raising(EvaluationError),
    keep=number(0, 1, inside=True).raising(EvaluationError),
)
def datamodelling(
    case: Case, modality: str, *, draws: int = 32, keep: float = 0.5, score: str = "logit"
) -> Measured:
    """The linear datamodelling score: whether the sum of what is left predicts the score.

    Each counted token is kept with probability `keep`, in `draws` ways that are the same for all
    methods. The number is Spearman's rank correlation over these ways of the sum of the kept tokens'
    relevance with the score without the others.
    """
    counted = case.counted(modality)
    drawn = [
        torch.rand(draws, counted.shape[1], generator=generator)
        for generator in case.random("datamodelling", draws)
    ]
    removed = (torch.stack(drawn, 1) >= keep) & counted
    found = case.scores(modality, removed, score, shared=("datamodelling", draws, keep))
    left = (case.values(modality) * (counted & ~removed)).sum(-1)
    correlations = [spearman(a, b) for a, b in zip(left.T, found.T, strict=True)]
    return Measured(torch.tensor(correlations, dtype=torch.double))


@checked(k=whole(1).raising(EvaluationError))
def top_k_drop(case: Case, modality: str, *, k: int = 3, score: str = USUAL) -> Measured:
    """How much of the score goes with the k most relevant counted tokens."""
    counted = case.counted(modality)
    removed = (case.order(modality) < k) & counted
    before, after = case.scores(modality, torch.stack([torch.zeros_like(removed), removed]), score)
    return Measured(before - after)
