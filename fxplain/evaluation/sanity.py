"""Sanity: an explanation must depend on the model's weights, and not on noise in its input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fxplain.arguments import checked, number, whole
from fxplain.errors import EvaluationError
from fxplain.evaluation.case import Case
from fxplain.evaluation.metric import Measured
from fxplain.evaluation.model_copy import ModelCopy
from fxplain.evaluation.statistics import spearman

__all__ = ["max_sensitivity", "random_target", "randomisation", "sparseness", "stability"]


@checked(levels=whole(1, 1000).raising(EvaluationError))
def randomisation(case: Case, modality: str, *, levels: int = 4) -> Measured:
    """Rank correlation with the explanations of ever more randomised models, from the top down.

    The curve goes from the model itself to one with all weights drawn anew, in `levels` steps; the
    number is the mean over these steps.
    """
    curve = [torch.ones(case.batch.size, dtype=torch.double)]
    x = [level / levels for level in range(levels + 1)]
    for call, share in enumerate(x[1:]):
        relevance = case.once(
            ("randomised", share),
            lambda call=call, share=share: case.again(  # type: ignore[misc]
                _copy(case).randomised(share), case.batch.inputs, call
            ),
        )
        curve.append(_correlation(case, modality, case.values(modality, relevance)))
    return Measured(torch.stack(curve[1:], 1).mean(1), x, torch.stack(curve, 1))


def random_target(case: Case, modality: str) -> Measured:
    """Rank correlation with the explanation of another class, drawn by chance for each sample.

    A method that says the same of every class does not explain this one.
    """
    if case.classes < 2:
        raise EvaluationError(
            "metric 'random_target' explains another class, and there is none: what is explained is "
            "one number. Leave the metric out."
        )
    targets = []
    for at, generator in zip(case.explained, case.random("other class"), strict=True):
        step = int(torch.randint(1, case.classes, (), generator=generator))
        other = (*at[:-1], (at[-1] + step) % case.classes)
        targets.append(other if len(other) > 1 else other[0])
    relevance = case.once("random target", lambda: case.toward(targets))
    return Measured(_correlation(case, modality, case.values(modality, relevance)))


def _correlation(case: Case, modality: str, other: Tensor) -> Tensor:
    """(batch,) rank correlation over counted tokens; NaN where there are fewer than two."""
    values, counted = case.values(modality), case.counted(modality)
    return torch.tensor(
        [
            spearman(a[chosen], b[chosen]) if chosen.sum() > 1 else float("nan")
            for a, b, chosen in zip(values, other, counted, strict=True)
        ],
        dtype=torch.double,
    )


_NOISE = number(0, inside=True).raising(EvaluationError)
_DRAWS = whole(1, 10_000).raising(EvaluationError)


@checked(noise=_NOISE, draws=_DRAWS)
def stability(case: Case, modality: str, *, noise: float = 0.05, draws: int = 4) -> Measured:
    """How much relevance changes with small Gaussian noise, |R(x + noise) - R(x)| / |R(x)|.

    Noise is relative to the deviation of each sample's numbers; of words, whose ids have no small
    change, their embeddings get it. The number is the mean over draws.
    """
    return _known(_changes(case, modality, noise, draws).mean(1))


@checked(noise=_NOISE, draws=_DRAWS)
def max_sensitivity(case: Case, modality: str, *, noise: float = 0.05, draws: int = 4) -> Measured:
    """The largest change in place of the mean one: max |R(x + noise) - R(x)| / |R(x)|."""
    return _known(_changes(case, modality, noise, draws).amax(1))


def sparseness(case: Case, modality: str) -> Measured:
    """The Gini index of the sizes of relevance over counted tokens.

    With |r|_(1) <= ... <= |r|_(n): G = 1 - 2 sum_k (|r|_(k) / sum |r|) (n - k + 1/2) / n, which is 0
    where all are equal and 1 - 1/n where one token holds everything.
    """
    found = []
    for values, counted in zip(case.values(modality), case.counted(modality), strict=True):
        sizes = values[counted].abs().sort().values
        n = len(sizes)
        above = (n - torch.arange(1, n + 1) + 0.5) / n
        found.append(1 - 2 * (sizes @ above.to(sizes)) / sizes.sum())  # 0/0 is NaN: no case
    return _known(torch.stack(found))


def _known(found: Tensor) -> Measured:
    return Measured(torch.where(found.isfinite(), found, torch.nan))


def _changes(case: Case, modality: str, noise: float, draws: int) -> Tensor:
    """(batch, draws) how much relevance changes with noise."""
    changes = []
    for draw in range(draws):
        relevance = case.once(
            ("noise", noise, draw),
            lambda draw=draw: case.again(  # type: ignore[misc]
                _copy(case).with_noisy_embeddings(noise, draw),
                _noisy_inputs(case, noise, draw),
                draw,
            ),
        )
        counted = case.counted(modality)
        before = case.values(modality) * counted
        after = case.values(modality, relevance) * counted
        changes.append((after - before).norm(dim=1) / before.norm(dim=1))  # 0/0 is NaN: no case
    return torch.stack(changes, 1)


def _noisy_inputs(case: Case, level: float, draw: int) -> Mapping[str, Any]:
    """Arguments by name; features, pixels and samples with noise in them."""
    inputs = dict(case.batch.inputs)
    for tokens in case.perturbation.tokens.values():
        if tokens.kind not in ("features", "regions"):
            continue
        value = inputs[tokens.name]
        noise = [
            torch.randn(row.shape, generator=generator)
            for row, generator in zip(value, case.random("noise", tokens.name, draw), strict=True)
        ]
        deviation = value.flatten(1).std(1, correction=0).reshape(-1, *(1,) * (value.dim() - 1))
        inputs[tokens.name] = value + level * deviation * torch.stack(noise).to(value)
    return inputs


def _copy(case: Case) -> ModelCopy:
    """The one copy of the model that all cases of an evaluation share."""
    held = case.of_model
    if "copy" not in held:
        held["copy"] = ModelCopy(case.model, case.batch.inputs, case.seed)
    copy: ModelCopy = held["copy"]
    return copy
