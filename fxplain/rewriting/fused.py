"""Fused attention: the arguments of a `scaled_dot_product_attention` call and its weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, fx

__all__ = [
    "CAUSAL",
    "allowed_scores",
    "fused_arguments",
    "fused_attention",
    "grouped",
    "needed_mask",
    "needed_rows",
    "scaled_scores",
    "softmax",
    "wide",
]

CAUSAL = "causal"
"""Stands for the mask that hides later keys."""


def fused_arguments(call: fx.Node) -> dict[str, Any]:
    """The arguments of a fused attention call by name (nodes stay nodes)."""
    return {**dict(zip(_names(call.target), call.args, strict=False)), **call.kwargs}


@cache
def _names(operation: Any) -> tuple[str, ...]:
    return tuple(argument.name for argument in operation._schema.arguments)


def needed_mask(mask: Tensor) -> Tensor | str | None:
    """A mask as the kernels take it fastest: None where it hides nothing, `CAUSAL` for later keys.

    Traced models always make their masks, where as they are they leave these two to the kernels.
    """
    if mask.dim() < 2:
        return mask
    queries = mask.shape[-2]

    def rows(start: int, stop: int) -> Tensor:
        return mask if stop - start == queries else mask[..., start:stop, :]

    return needed_rows(rows, queries)


_ROWS = {"cpu": 2**20}
"""How many elements of a mask are looked at at once; a device is not to be waited for often."""


def needed_rows(rows: Callable[[int, int], Tensor], queries: int) -> Tensor | str | None:
    """The same of a mask that is made by rows: ``rows(start, stop)`` is (..., stop - start, keys).

    No more than some rows are made where the mask is not needed.
    """
    first = rows(0, 1)
    if first.requires_grad:
        return rows(0, queries)
    hides = not bool(_allowed(first).all())
    if hides and queries != first.shape[-1]:
        return rows(0, queries)
    step = max(1, _ROWS.get(first.device.type, 2**26) // first.numel())
    for start in range(0, queries, step):
        tile = rows(start, min(start + step, queries))
        if not (_hides_later(tile, start) if hides else bool(_allowed(tile).all())):
            return tile if step >= queries else rows(0, queries)
    return CAUSAL if hides else None


def _allowed(mask: Tensor) -> Tensor:
    return mask if mask.dtype is torch.bool else mask == 0


def _hides_later(tile: Tensor, start: int) -> bool:
    """Whether rows of a mask, from `start`, hide later keys and no others."""
    earlier = torch.ones(tile.shape[-2:], dtype=torch.bool, device=tile.device).tril_(start)
    if not bool((_allowed(tile) == earlier).all()):
        return False
    if tile.dtype is torch.bool or bool(earlier.all()):
        return True
    most = tile.masked_fill(earlier, float("-inf")).max()
    return not bool(most > torch.finfo(tile.dtype).min / 2)  # only made less likely


def fused_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | str | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    **options: Any,
) -> Tensor:
    """`scaled_dot_product_attention` with a mask of `needed_mask`."""
    causal = isinstance(attn_mask, str)
    return torch.nn.functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=None if isinstance(attn_mask, str) else attn_mask,
        dropout_p=dropout_p,
        is_causal=is_causal or causal,
        **options,
    )


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
        _hide(scores, _later(scores, queries))
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


def _later(scores: Tensor, queries: slice | Tensor | None) -> Tensor:
    """The keys that come after each query."""
    count, keys = scores.shape[-2:]
    if isinstance(queries, Tensor):
        at = queries.to(scores.device)
    else:
        first = 0 if queries is None else queries.start
        at = torch.arange(first, first + count, device=scores.device)
    return torch.arange(keys, device=scores.device) > at.unsqueeze(-1)


def softmax(scores: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The weights; a query that may attend to nothing has none (and no NaN)."""
    weights: Tensor = torch.softmax(scores, -1, out=out)
    return weights.nan_to_num(0.0) if out is None else weights.nan_to_num_(0.0)
