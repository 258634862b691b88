"""Operations that do the same in a run with gradients as others in one without."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["WITH_GRADIENTS"]


def _copied(into: Tensor, source: Tensor, _non_blocking: bool = False) -> Tensor:
    return source.to(into).expand(into.shape)


WITH_GRADIENTS: Mapping[Any, Callable[..., Any]] = {
    torch.ops.aten.copy.default: _copied,  # it has no derivative
    torch.ops.aten.view.default: torch.ops.aten.reshape.default,  # kernels lay results out anew
}
"""What stands in a run with gradients for an operation; others stay."""
