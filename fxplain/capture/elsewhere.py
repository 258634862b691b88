"""Operations that do the same, on other values than the captured ones, as those of the graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["ELSEWHERE"]


def _copied(into: Tensor, source: Tensor, _non_blocking: bool = False) -> Tensor:
    return source.to(into).expand(into.shape)


ELSEWHERE: Mapping[Any, Callable[..., Any]] = {
    torch.ops.aten.copy.default: _copied,  # it has no derivative
    torch.ops.aten.view.default: torch.ops.aten.reshape.default,  # kernels lay results out anew
}
"""What stands for an operation where a graph runs with gradients, or on values that another
computation laid out; others stay."""
