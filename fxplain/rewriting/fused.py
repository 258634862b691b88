"""Fused attention: the weights of a `scaled_dot_product_attention` call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["allowed_scores", "grouped", "scaled_scores", "softmax", "wide"]


def grouped(x: Tensor, like: Sequence[int]) -> Tensor:
    """Keys or values repeated for the query heads that share them."""
    if x.dim() >= 3 and x.shape[-3] not in (1, like[-3]):
        return x.repeat_interleave(like[-3] // x.shape[-3], -3)
    return x


def scaled_scores(
    query: Tensor, key: Tensor, scale: Any = None, *, out: Tensor | None = None
) -> Tensor:
    """Queries times keys, scaled, in float32 at least."""
    scale = query.shape[-1] ** -0.5 if not isinstance(scale, (int, float)) else scale
    key = grouped(key, query.shape).to(wide(query))
    return torch.matmul(query.to(wide(query)) * scale, key.transpose(-1, -2), out=out)


def wide(x: Tensor) -> torch.dtype:
    """The type of a tensor, float32 at least."""
    return torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else x.dtype


def allowed_scores(
    scores: Tensor,
    mask: Tensor | None = None,
    causal: bool = False,
    queries: slice | Tensor | None = None,
    *,
    in_place: bool = False,
) -> Tensor:
    """Scores with the mask added and, if causal, without those of later keys.

    `queries` says which queries the scores are of, where they are not of all.
    """
    if not in_place and (causal or mask is not None):
        scores = scores.clone()
    if causal:
        first = queries.start if isinstance(queries, slice) else 0
        _hide(scores[..., first:], _later(scores, queries, first))  # those before are for all
    if mask is None:
        return scores
    if mask.dtype is torch.bool:
        return _hide(scores, ~mask)
    return scores.add_(mask.to(scores.dtype))


def _hide(scores: Tensor, hidden: Tensor) -> Tensor:
    """Scores of -inf in place; by adding it, as kernels do, which is far quicker than to fill."""
    if scores.requires_grad:
        return scores.masked_fill_(hidden, float("-inf"))
    return scores.add_(torch.where(hidden, float("-inf"), 0.0))


def _later(scores: Tensor, queries: slice | Tensor | None, first: int) -> Tensor:
    """The keys, from `first` on, that come after each query."""
    count, keys = scores.shape[-2:]
    if isinstance(queries, Tensor):
        at = queries.to(scores.device)
    else:
        at = torch.arange(first, first + count, device=scores.device)
    return torch.arange(first, keys, device=scores.device) > at.unsqueeze(-1)


def softmax(scores: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The weights; a query that may attend to nothing has none (and no NaN)."""
    weights: Tensor = torch.softmax(scores, -1, out=out)
    return weights.nan_to_num(0.0) if out is None else weights.nan_to_num_(0.0)
