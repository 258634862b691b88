"""Shares: where the gradient of a value goes, and how much of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["Through", "shared"]


class Through(torch.autograd.Function):
    """A value whose gradient goes to another tensor, times a factor."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, _to: Tensor, factor: Tensor | float) -> Tensor:
        """The value."""
        ctx.factor = factor
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        """The gradient of the other tensor, times the factor."""
        return None, gradient * ctx.factor, None


def shared(x: Any) -> Any:
    """Half of the gradient."""
    if isinstance(x, Tensor) and x.requires_grad:
        return Through.apply(x.detach(), x, 0.5)
    return x
