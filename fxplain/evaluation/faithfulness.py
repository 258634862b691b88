"""Faithfulness: what happens to the model's score when tokens go in the order of their relevance."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from fxplain.arguments import Form, checked, number, shown
from fxplain.errors import EvaluationError
from fxplain.evaluation.case import ORDERS, USUAL, Case
from fxplain.evaluation.metric import Measured

__all__ = [
    "STEPS",
    "area",
    "area_between",
    "comprehensiveness",
    "deletion",
    "insertion",
    "negative_perturbation",
    "positive_perturbation",
    "steps_of",
    "sufficiency",
]

MOST_FIRST, LEAST_FIRST = ORDERS

STEPS = {
    "default": tuple(i / 10 for i in range(10)),
    "lxmert": (0.0, 0.25, 0.5, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0),
}
"""Named fractions of tokens that go: every tenth up to 90%, and the paper's for LXMERT."""

WHOLE_WAY = tuple(i / 10 for i in range(11))
ERASER_SHARES = (0.01, 0.05, 0.1, 0.2, 0.5)
_SHARES = Form(
    "a list of shares from 0 to 1 (0 excluded)",
    lambda value: (
        isinstance(value, (list, tuple))
        and bool(value)
        and all(number(0, 1).fits(share) and share for share in value)
    ),
    EvaluationError,
)


def steps_of(steps: str | Sequence[float] | None) -> tuple[float, ...]:
    """Steps by name or as they are, the unperturbed point (0) included.

    Raises
    ------
    EvaluationError
        When the name is unknown, or they do not rise from 0 to at most 1.

    Examples
    --------
    >>> steps_of([0.5, 1])
    (0.0, 0.5, 1.0)
    """
    if isinstance(steps, str):
        if steps not in STEPS:
            raise EvaluationError(f"unknown steps {steps!r}; there are: {', '.join(STEPS)}.")
        return STEPS[steps]
    if steps is None:
        return STEPS["default"]
    form = number(0, 1).raising(EvaluationError)
    if not isinstance(steps, (list, tuple)):
        raise EvaluationError(f"steps={shown(steps)} must be a name, or a list of fractions.")
    for step in steps:
        form.check("a step", step)
    given = tuple(map(float, steps))
    given = given if given and given[0] == 0 else (0.0, *given)
    rising = all(a < b for a, b in pairwise(given))
    if len(given) < 2 or not rising or given[-1] > 1:
        raise EvaluationError(f"steps must rise from 0 to at most 1, not {list(steps)}.")
    return given


def area(x: Sequence[float], y: Tensor) -> Tensor:
    """The area under a curve by the trapezoid rule, over the length of its x axis.

    Parameters
    ----------
    x
        Points, rising.
    y
        (..., points).

    Returns
    -------
    torch.Tensor
        (...): for a constant curve the constant, however far it goes.

    Examples
    --------
    >>> area((0.0, 0.5, 1.0), torch.tensor([1.0, 0.5, 0.5])).item()
    0.625
    """
    points = torch.tensor(x, dtype=y.dtype)
    return torch.trapezoid(y, points) / (points[-1] - points[0])


def _under(x: Sequence[float], y: Tensor) -> Measured:
    return Measured(area(x, y), x, y)


def positive_perturbation(
    case: Case,
    modality: str,
    *,
    steps: str | Sequence[float] | None = None,
    score: str | None = None,
) -> Measured:
    """The area under the score as the most relevant tokens go first."""
    return _under(*case.curve(modality, MOST_FIRST, _own(steps), score))


def negative_perturbation(
    case: Case,
    modality: str,
    *,
    steps: str | Sequence[float] | None = None,
    score: str | None = None,
) -> Measured:
    """The area under the score as the least relevant tokens go first."""
    return _under(*case.curve(modality, LEAST_FIRST, _own(steps), score))


def area_between(
    case: Case,
    modality: str,
    *,
    steps: str | Sequence[float] | None = None,
    score: str | None = None,
) -> Measured:
    """How far the curve of negative perturbation lies above that of positive perturbation."""
    x, above = case.curve(modality, LEAST_FIRST, _own(steps), score)
    _, below = case.curve(modality, MOST_FIRST, _own(steps), score)
    return _under(x, above - below)


def _own(steps: str | Sequence[float] | None) -> tuple[float, ...] | None:
    return None if steps is None else steps_of(steps)


def deletion(
    case: Case,
    modality: str,
    *,
    steps: str | Sequence[float] = WHOLE_WAY,
    score: str = USUAL,
) -> Measured:
    """Positive perturbation of the probability, until nothing is left."""
    return _under(*case.curve(modality, MOST_FIRST, steps_of(steps), score))


def insertion(
    case: Case,
    modality: str,
    *,
    steps: str | Sequence[float] = WHOLE_WAY,
    score: str = USUAL,
) -> Measured:
    """The probability as tokens come back, the most relevant first, after all were removed."""
    x = steps_of(steps)
    _, y = case.curve(modality, LEAST_FIRST, [round(1 - step, 9) for step in x], score)
    return _under(x, y)


@checked(shares=_SHARES)
def comprehensiveness(
    case: Case,
    modality: str,
    *,
    shares: Sequence[float] = ERASER_SHARES,
    score: str = USUAL,
) -> Measured:
    """How much of the score goes with the most relevant share of tokens, a mean over shares."""
    _, y = case.curve(modality, MOST_FIRST, (0.0, *shares), score)
    return Measured((y[:, :1] - y[:, 1:]).mean(1))


@checked(shares=_SHARES)
def sufficiency(
    case: Case,
    modality: str,
    *,
    shares: Sequence[float] = ERASER_SHARES,
    score: str = USUAL,
) -> Measured:
    """How much of the score is missing with that share alone, a mean over shares."""
    _, y = case.curve(modality, LEAST_FIRST, (0.0, *(round(1 - s, 9) for s in shares)), score)
    return Measured((y[:, :1] - y[:, 1:]).mean(1))
