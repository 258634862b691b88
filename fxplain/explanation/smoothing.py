"""Smoothed explanations: what many of one method say together, each with noise in the tokens.

Smilkov et al., "SmoothGrad: removing noise by adding noise", 2017 (arXiv 1706.03825), equation 1:
``M_hat(x) = 1/n sum_1^n M(x + N(0, sigma^2))``; Adebayo et al., 2018 (arXiv 1810.03307) take the
variance of these M in the place of their mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

import torch

from fxplain.errors import MethodError
from fxplain.explanation.by_modality import ByModality
from fxplain.explanation.disturbing import disturbed_answers, settled_target
from fxplain.explanation.explanation import Explanation
from fxplain.run import Noise

if TYPE_CHECKING:
    from fxplain.explanation.asked import Asked
    from fxplain.explanation.question import Question
    from fxplain.methods import Smoothing

__all__ = ["smoothed"]


def smoothed(question: Question, targets: Sequence[Any]) -> list[Explanation]:
    """The explanations of targets by a smoothing method.

    The targets are those of the model without noise: a prediction is not made again.
    """
    smoothing, options = question.method.smoothing, dict(question.options)
    assert smoothing is not None
    asking = replace(question, method=replace(question.method, smoothing=None))
    made = asking.answers(targets)
    settled = [settled_target(*pair) for pair in zip(targets, made, strict=True)]
    if "steps" in options:
        options["steps"] = made[0].options["steps"]
    asking = replace(asking, options=options, given={**question.given, **options})
    drawn = disturbed_answers(
        asking,
        settled,
        [
            question.disturbance.with_noise(
                Noise(options["noise"], options["seed"], draw, "smoothing")
            )
            for draw in range(options["draws"])
        ],
    )
    relevance = list(zip(*([each.relevance for each in own] for own in drawn), strict=True))
    asked = replace(question, options=asking.options, given=asking.given)
    return [
        replace(_combined(clean, smoothing, own), asked=_asking(clean.asked, asked))
        for clean, own in zip(made, relevance, strict=True)
    ]


def _asking(before: Asked | None, question: Question) -> Asked | None:
    return before and replace(before, question=question)


def _combined(clean: Explanation, smoothing: Smoothing, drawn: Sequence[ByModality]) -> Explanation:
    """One explanation of many, of the same target."""
    stacked = {name: torch.stack([own[name] for own in drawn]) for name in clean.relevance}
    combined = {name: smoothing.combine(values) for name, values in stacked.items()}
    spread, identity = smoothing.spread, clean.identity
    if spread is None:  # a variance starts from no identity
        identity = {name: torch.zeros_like(values) for name, values in combined.items()}

    def no_matrix(_a: str, _b: str) -> NoReturn:
        raise MethodError(
            f"{smoothing.name} puts many explanations together, and has no relevancy matrices: "
            f"explain with method={clean.options['of']!r}."
        )

    return replace(
        clean,
        relevance=ByModality(combined),
        error=spread and ByModality({name: spread(values) for name, values in stacked.items()}),
        identity=identity,
        engine="tokens",
        promised=None,
        conservation={},
        matrix_of=no_matrix,
    )
