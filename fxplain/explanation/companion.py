"""Companions: explanations of the same that tell what a method by itself cannot."""

from __future__ import annotations

from dataclasses import replace

from fxplain.errors import MethodError
from fxplain.explanation.explain import explain
from fxplain.explanation.explanation import Explanation

__all__ = ["SIGNED", "chained_companion", "signed_companion"]

SIGNED = "input_x_gradient"
"""The signed method that costs least."""

CHAINED = "generic"
"""The method whose relevance is a sum over chains of attention."""


def signed_companion(explanation: Explanation) -> Explanation:
    """The same by corrected input x gradient: what spoke for the targets, and what against."""
    return _companion(explanation, SIGNED, "signed")


def chained_companion(explanation: Explanation) -> Explanation:
    """The same by the generic rules with corrected gradients: what came by which head."""
    return _companion(explanation, CHAINED, "other")


def _companion(explanation: Explanation, method: str, what: str) -> Explanation:
    """The same targets of the same inputs by another method, called as they are called."""
    asked = explanation.asked
    if asked is None:
        raise MethodError(
            f"this explanation was loaded, and has no model: explain again for the {what} one."
        )
    question = asked.question
    with question.autocast.again():
        made = explain(
            question.model,
            question.inputs,
            asked.target,
            method,
            output=question.output,
            tokenizer=question.tokenizer,
            names=question.names,
            batch_axis=question.batch_axis,
            verify="off",
            gradients="corrected",
        )
    asked.check_unchanged(made.scores)
    told = dict(explanation.provenance)
    return replace(
        made,
        target_names=explanation.target_names,
        word_pieces=explanation.word_pieces,
        seconds=explanation.seconds,
        originals=explanation.originals,
        provenance=told and {**told, "method": method},
    )
