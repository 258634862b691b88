"""Companion: the signed explanation to read beside one that cannot tell for from against."""

from __future__ import annotations

from dataclasses import replace

import torch

from fxplain.errors import ChangedModelError, MethodError
from fxplain.explanation.explain import explain
from fxplain.explanation.explanation import Explanation

__all__ = ["SIGNED", "signed_companion"]

SIGNED = "input_x_gradient"
"""The signed method that costs least."""


def signed_companion(explanation: Explanation) -> Explanation:
    """The same targets of the same inputs by corrected input x gradient, called as they are called."""
    asked = explanation.asked
    if asked is None:
        raise MethodError(
            "this explanation was loaded, and has no model: explain again for a signed one."
        )
    question = asked.question
    made = explain(
        question.model,
        question.inputs,
        asked.target,
        SIGNED,
        output=question.output,
        tokenizer=question.tokenizer,
        batch_axis=question.batch_axis,
        verify="off",
        gradients="corrected",
    )
    if not torch.allclose(made.scores, explanation.scores, rtol=1e-3, atol=1e-5):
        raise ChangedModelError(
            "the model or its inputs changed since the explanation was made: explain again."
        )
    told = dict(explanation.provenance)
    return replace(
        made,
        target_names=explanation.target_names,
        word_pieces=explanation.word_pieces,
        seconds=explanation.seconds,
        originals=explanation.originals,
        provenance=told and {**told, "method": SIGNED},
    )
