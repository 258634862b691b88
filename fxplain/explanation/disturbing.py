"""Disturbing: explanations of the same targets by runs that are disturbed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from fxplain.explanation.explanation import Explanation
from fxplain.run import Disturbance

if TYPE_CHECKING:
    from fxplain.explanation.question import Question

__all__ = ["disturbed_answers", "settled_target"]


def settled_target(target: Any, explained: Explanation) -> Any:
    """The target that was explained, so that a disturbed run is not asked for another prediction."""
    return target if callable(target) else list(explained.target)


def disturbed_answers(
    question: Question, targets: Sequence[Any], disturbances: Sequence[Disturbance]
) -> Iterator[list[Explanation]]:
    """For each disturbance, the explanations of targets that are settled.

    Parameters
    ----------
    question
        What is asked; its own disturbance is replaced.
    targets
        As `settled_target` gives them.
    disturbances
        One for each time that it is asked.
    """
    unchecked = replace(question, verify="off", strict=False, recheck=False)
    for disturbance in disturbances:
        with torch.inference_mode(False):
            yield replace(unchecked, disturbance=disturbance).answers(targets)
