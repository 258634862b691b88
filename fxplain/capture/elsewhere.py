"""Operations that do the same, on other values than the captured ones, as those of the graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["ELSEWHERE"]


def _copied(into: Tensor, source: Tensor, _non_blocking: bool = False) -> Tensor:
    return source.to(into).expand(into.shape)


def _laid_out_plainly(norm: Any) -> Callable[..., Any]:
    """A batch norm whose values and gradients lie in memory in the order of their axes.

    Of one sample, PyTorch's backward mistakes channels for places where the values lie in one order and
    their gradient in the other, as in front of `x.flatten(2).transpose(1, 2)`, and says nothing.
    """

    def plain(x: Tensor, *args: Any, **kwargs: Any) -> Any:
        made = norm(x.contiguous(), *args, **kwargs)
        normed = made[0] if isinstance(made, tuple) else made
        if normed.requires_grad:
            normed.register_hook(Tensor.contiguous)
        return made

    plain.__name__ = f"{norm.name().replace('::', '_').replace('.', '_')}_laid_out_plainly"
    return plain


_aten = torch.ops.aten

ELSEWHERE: Mapping[Any, Callable[..., Any]] = {
    _aten.copy.default: _copied,  # it has no derivative
    _aten.view.default: _aten.reshape.default,  # kernels lay results out anew
    **{
        norm: _laid_out_plainly(norm)
        for norm in (
            _aten.batch_norm.default,
            _aten.instance_norm.default,
            _aten.native_batch_norm.default,
            _aten._native_batch_norm_legit.default,
            _aten._native_batch_norm_legit.no_stats,
            _aten._native_batch_norm_legit_no_training.default,
        )
    },
}
"""What stands for an operation where a graph runs with gradients, or on values that another
computation laid out; others stay."""
