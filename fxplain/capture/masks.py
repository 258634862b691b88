"""Masks of fused attention: what a kernel needs of them, and its call with that alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, fx

__all__ = [
    "CAUSAL",
    "FUSED",
    "fused_arguments",
    "fused_attention",
    "needed_mask",
    "needed_rows",
]

FUSED = torch.ops.aten.scaled_dot_product_attention.default

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


_KERNEL = torch._C._nn.scaled_dot_product_attention


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
    return _KERNEL(  # torch's own, also where someone put another function in its place
        query,
        key,
        value,
        attn_mask=None if isinstance(attn_mask, str) else attn_mask,
        dropout_p=dropout_p,
        is_causal=is_causal or causal,
        **options,
    )
