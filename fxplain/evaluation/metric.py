"""A metric: what is measured on each sample, and how samples become one number."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fxplain.arguments import MAPPING
from fxplain.errors import EvaluationError
from fxplain.evaluation import statistics
from fxplain.evaluation.case import Case

__all__ = ["Measure", "Measured", "Metric"]


@dataclass(frozen=True, eq=False)
class Measured:
    """What a metric found in one batch.

    Attributes
    ----------
    samples
        (batch,) or (batch, k): what is kept of each sample; NaN where it says nothing of one.
    x, curve
        Of a metric that is the area under a curve: its x values, and (batch, points).
    """

    samples: Tensor
    x: Sequence[float] = ()
    curve: Tensor | None = None


Measure = Callable[..., Measured | None]
"""From a `Case`, a modality and the metric's options to what was measured, or None for nothing."""


@dataclass(frozen=True)
class Metric:
    """A metric of explanations.

    Attributes
    ----------
    name
        What `evaluate(..., metrics=[...])` calls it.
    source
        The paper.
    better
        "higher" or "lower".
    measure
        Its options are the keyword arguments of this function.
    about
        One sentence.
    axis
        What the x axis of its curves is a share of.
    joint
        Whether it can be taken of all modalities together.
    summary
        From the mean over samples of what is kept per sample, (..., k), to the number, (...).
    removes
        Whether it runs the model without some tokens. Where none of an evaluation's metrics does, no
        way to remove tokens has to be found.
    """

    name: str
    source: str
    better: str
    measure: Measure
    about: str = ""
    axis: str = "tokens removed"
    joint: bool = True
    summary: statistics.Summary = statistics.mean
    removes: bool = True

    @property
    def options(self) -> dict[str, Any]:
        """The default of every option."""
        parameters = inspect.signature(self.measure).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}

    def checked(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Options, if the metric has them.

        Raises
        ------
        EvaluationError
            When it has not.
        """
        MAPPING.raising(EvaluationError).check("options", given)
        for name in given:
            if name not in self.options:
                known = ", ".join(self.options) or "none"
                raise EvaluationError(
                    f"metric {self.name!r} has no option {name!r}; its options: {known}."
                )
        return dict(given)

    def of(self, case: Case, modality: str, options: Mapping[str, Any]) -> Measured | None:
        """What the metric finds."""
        return self.measure(case, modality, **options)
