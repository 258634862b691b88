"""The methods that are compared: all of one gradient, and what they are measured against."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["METHODS", "ONE_GRADIENT", "without_patches", "without_words"]

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


def without_words(model: nn.Module, inputs: Mapping[str, Any], target: Any) -> dict[str, Tensor]:
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


def without_patches(along: int) -> Callable[..., dict[str, Tensor]]:
    """How much the explained number falls when a patch takes the picture's mean, one at a time.

    `along` is how many patches there are along a side; the first token, CLS, gets nothing.
    """

    def leave_out(model: nn.Module, inputs: Mapping[str, Any], target: Any) -> dict[str, Tensor]:
        pictures = inputs["pixel_values"]
        side = pictures.shape[-1] // along
        there = torch.eye(along**2).view(-1, 1, along, along)
        there = there.repeat_interleave(side, 2).repeat_interleave(side, 3).bool()
        relevance = torch.zeros(len(pictures), 1 + along**2)
        for sample, (picture, place) in enumerate(zip(pictures, target, strict=True)):
            mean = picture.mean((1, 2), keepdim=True)
            shown = torch.cat([picture[None], torch.where(there, mean, picture)])
            with torch.no_grad():
                scores = model(shown)[(slice(None), *place)]
            relevance[sample, 1:] = scores[0] - scores[1:]
        return {"pixel_values": relevance}

    return leave_out


METHODS: dict[str, Any] = {
    **ONE_GRADIENT,
    "lrp": "lrp",
    "raw_attention": "raw_attention",
    "rollout": "rollout",
    "integrated_gradients, 20 steps": ("integrated_gradients", {"steps": 20}),
}
