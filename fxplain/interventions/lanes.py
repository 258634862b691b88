"""Lanes: several cuts of one model in one run, side by side along an axis that torch.func.vmap adds."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fxplain.capture import fused_attention

__all__ = ["attended"]


def attended(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, options: dict[str, Any]
) -> Tensor:
    """`scaled_dot_product_attention`, in one kernel for all lanes where no gradient is asked for."""
    if torch.is_grad_enabled():
        return fused_attention(query, key, value, mask, **options)
    result: Tensor = _Attended.apply(query, key, value, mask, options)
    return result


class _Attended(torch.autograd.Function):
    """The kernel with a rule for lanes: they lie along the batch axis."""

    @staticmethod
    def forward(
        query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, options: dict[str, Any]
    ) -> Tensor:
        return fused_attention(query, key, value, mask, **options)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing is kept: there is no backward."""

    @staticmethod
    def vmap(
        info: Any, axes: tuple[Any, ...], query: Any, key: Any, value: Any, mask: Any, options: Any
    ) -> tuple[Tensor, int]:
        lanes = info.batch_size
        query, key, value = (
            _with_lanes(x, axis, lanes)
            for x, axis in zip((query, key, value), axes[:3], strict=True)
        )
        if mask is not None:
            mask = _with_lanes(mask, axes[3], lanes)
            mask = mask.reshape(lanes, *[1] * (query.dim() - mask.dim()), *mask.shape[1:])
        if query.dim() < 4:
            return _Attended.apply(query, key, value, mask, options), 0
        if mask is not None:
            mask = mask.expand(lanes, query.shape[1], *mask.shape[2:]).flatten(0, 1)
        joined = (x.flatten(0, 1) for x in (query, key, value))  # kernels take one axis of samples
        out = _Attended.apply(*joined, mask, options)
        return out.unflatten(0, (lanes, -1)), 0


def _with_lanes(x: Tensor, axis: int | None, lanes: int) -> Tensor:
    """A tensor with its lanes along the first axis; the same in all where it has none."""
    return x.expand(lanes, *x.shape) if axis is None else x.movedim(axis, 0)
