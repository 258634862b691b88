"""The methods that are compared: all of one gradient, and what they are measured against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["METHODS", "ONE_GRADIENT", "leave_one_out"]

CORRECTED: dict[str, Any] = {"gradients": "corrected"}
CONSTANT: dict[str, Any] = {"gradients": "corrected", "attention": "constant"}

ONE_GRADIENT: dict[str, Any] = {
    "generic": "generic",
    "generic, corrected": ("generic", CORRECTED),
    "generic, corrected, attention constant": ("generic", CONSTANT),
    "input_x_gradient": "input_x_gradient",
    "input_x_gradient, corrected": ("input_x_gradient", CORRECTED),
    "input_x_gradient, corrected, attention constant": ("input_x_gradient", CONSTANT),
    "weighted_accumulation": "weighted_accumulation",
    "weighted_accumulation, corrected": ("weighted_accumulation", CORRECTED),
    "legrad": "legrad",
    "gradcam": "gradcam",
}
"""One forward, one backward."""


def leave_one_out(model: nn.Module, inputs: Mapping[str, Any], target: Any) -> dict[str, Tensor]:
    """How much the explained number falls when attention no longer sees a token, one at a time."""
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    relevance = torch.zeros(ids.shape)
    for sample, place in enumerate(target):
        length = int(mask[sample].sum())
        rows = torch.ones(length + 1, length, dtype=mask.dtype)
        rows[1:].fill_diagonal_(0)
        row = {"input_ids": ids[sample, :length].expand(length + 1, -1), "attention_mask": rows}
        with torch.no_grad():
            output = model(**row)
        logits = output if isinstance(output, Tensor) else output.logits
        index = place if isinstance(place, tuple) else (place,)
        scores = logits[(slice(None), *index)]
        relevance[sample, :length] = scores[0] - scores[1:]
    return {"input_ids": relevance}


METHODS: dict[str, Any] = {
    "auto": "auto",
    **ONE_GRADIENT,
    "lrp": "lrp",
    "raw_attention": "raw_attention",
    "rollout": "rollout",
    "integrated_gradients, 20 steps": ("integrated_gradients", {"steps": 20}),
    "leave_one_out": leave_one_out,
}
