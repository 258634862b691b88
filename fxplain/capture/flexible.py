"""`flex_attention` while a model is captured: its scores as plain operations."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import flex_attention

__all__ = ["flex_attention_written_out"]


@contextmanager
def flex_attention_written_out() -> Iterator[None]:
    """Within, `flex_attention` runs as scores, a softmax and a product.

    By itself it compiles, which no capture can look into. What its functions say of one score is
    asked of all scores at once, by broadcasting.
    """
    module: Any = flex_attention
    ours = {
        "flex_attention_hop": _written_out,
        "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG": True,  # it calls the above, and compiles nothing
    }
    before = {name: getattr(module, name) for name in ours if hasattr(module, name)}
    for name in before:  # private names, which releases of torch may lack
        setattr(module, name, ours[name])
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)


def _written_out(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    score_mod: Callable[..., Tensor],
    block_mask: tuple[Any, ...],
    scale: float,
    _kernel_options: dict[str, Any],
) -> tuple[Tensor, Tensor, Tensor]:
    """The output, and logsumexp and maximum of the scores in base 2, as the operation has them."""
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = (x.repeat_interleave(groups, 1) for x in (key, value))
    wide = torch.float64 if query.dtype == torch.float64 else torch.float32
    scores = query.to(wide) @ key.to(wide).transpose(-2, -1) * scale
    places = [
        torch.arange(size, device=scores.device).reshape([-1] + [1] * (3 - axis))
        for axis, size in enumerate(scores.shape)
    ]
    scores = score_mod(scores, *places).to(wide)
    scores = torch.where(block_mask[-1](*places), scores, -float("inf"))
    weights = torch._safe_softmax(scores, -1)
    output = weights.to(query.dtype) @ value
    statistics = scores.logsumexp(-1), scores.amax(-1)
    return output, statistics[0] / math.log(2), statistics[1] / math.log(2)
