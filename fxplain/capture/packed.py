"""Packed layers: those that keep their weights in something that is no plain matrix of numbers.

Quantised layers keep them in classes of their own (bitsandbytes, quanto, torchao), in objects of C++
(torch.ao), or as integers that a kernel of theirs takes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fxplain.capture.state import is_of_own_class

__all__ = ["holds_an_object", "is_packed", "packs"]

_SMALL_NUMBERS = (torch.int8, torch.uint8, torch.int16, torch.int32)


def is_packed(part: nn.Module) -> bool:
    """Whether a module has weights of its own that are no plain matrices of numbers."""
    if isinstance(part, torch.jit.ScriptModule):  # itself an object of C++
        return False
    tensors = [*part._parameters.values(), *part._buffers.values()]
    if any(t is not None and packs(t) for t in tensors):
        return True
    return any(holds_an_object(each) for each in (part, *part.children()))


def holds_an_object(part: nn.Module) -> bool:
    """Whether what a module keeps is an object of C++, as quantised weights of torch.ao are."""
    if isinstance(part, torch.jit.ScriptModule):
        return False
    kinds = map(type, vars(part).values())  # a weak proxy whose thing is gone is none of them
    return any(issubclass(kind, torch.ScriptObject) for kind in kinds)


def packs(tensor: Tensor) -> bool:
    """Whether a tensor may hold packed numbers: no positions, which are long, and no mask."""
    if is_of_own_class(tensor):
        return True
    if tensor.dim() < 2:
        return False
    return tensor.dtype in _SMALL_NUMBERS or str(tensor.dtype).startswith("torch.float8")
