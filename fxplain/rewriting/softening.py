"""Softening: a softmax whose gradient is that of a softer one, so that sure weights let it pass.

Edin et al., "GIM: Improved Interpretability for Large Language Models", 2025, arXiv 2505.17630: where
one score is far above the others its weight no longer moves, and neither it nor the runner-up gets
any gradient though either would do ("self-repair"). With s = softmax(x), s_T = softmax(x / T), T = 2:

    forward   s
    backward  g_x = s_T * (g - <g, s_T>)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fxplain.rewriting.fused import allowed_scores, grouped, scaled_scores
from fxplain.rewriting.shares import shared

__all__ = ["TEMPERATURE", "softened", "softened_attention"]

TEMPERATURE = 2.0


class _Softened(torch.autograd.Function):
    """A softmax, backward at `TEMPERATURE`; a row that may attend to nothing has no weights."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, axis: int) -> Tensor:
        ctx.axis = axis
        ctx.save_for_backward(scores)
        return scores.softmax(axis).nan_to_num(0.0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        (scores,) = ctx.saved_tensors
        soft = (scores / TEMPERATURE).softmax(ctx.axis).nan_to_num(0.0)
        return soft * (gradient - (gradient * soft).sum(ctx.axis, keepdim=True)), None


def softened(scores: Tensor, axis: int, *rest: Any, **kwargs: Any) -> Tensor:
    """In the place of ``aten.softmax``."""
    kind = kwargs.get("dtype") or (rest[0] if rest and isinstance(rest[0], torch.dtype) else None)
    made: Tensor = _Softened.apply(scores if kind is None else scores.to(kind), axis)
    return made


def softened_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | str | None = None,
    _dropout: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    **_options: Any,
) -> Tensor:
    """In the place of fused attention: A V shares its gradient between A and V, and so does q k^T."""
    causal = is_causal or isinstance(attn_mask, str)
    mask = None if isinstance(attn_mask, str) else attn_mask
    scores = allowed_scores(scaled_scores(shared(query), shared(key), scale), mask, causal)
    weights: Tensor = _Softened.apply(scores, -1)
    made: Tensor = shared(weights.to(value.dtype) @ grouped(value, query.shape))
    return made
