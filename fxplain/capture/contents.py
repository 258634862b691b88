"""What is said of a thing itself, such as a tensor or an array, without a hold on it."""

from __future__ import annotations

import itertools
import weakref
from array import array
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fxplain.capture.state import is_plain, life_of, version_of

__all__ = ["PLAIN", "of_buffer", "of_environment", "of_key", "of_numbers", "of_tensor", "serial"]

PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device)
"""Kinds of values that are what they say."""

_SMALL = 1024
"""Elements up to which a tensor is looked at, so that a write that torch does not count is seen."""

_MOST_BYTES = 1 << 16
"""The same for arrays, which count no writes at all."""


def of_environment(variables: Any) -> Any:
    """The variables of the environment."""
    known = getattr(variables, "_data", variables)  # as the system has them, where Python tells
    return "environment", tuple(sorted(known.items()))


def of_tensor(tensor: Tensor) -> Any:
    """A small tensor's content; a large one's identity, writes and place."""
    kind = tensor.dtype, tensor.device, tensor.shape
    plain = is_plain(tensor) and tensor.device.type == "cpu"
    storage = life_of(tensor)
    if not plain or storage is tensor:  # a sparse one, or one of a transform that is over
        return "tensor", *kind, serial(tensor), version_of(tensor)
    freed = storage.nbytes() == 0  # by what splits a model over processes
    if tensor.numel() <= _SMALL and not (tensor.is_quantized or freed):
        return "tensor", *kind, repr(tensor.detach().resolve_conj().tolist())
    return "tensor", *kind, serial(tensor), version_of(tensor), tensor.data_ptr()


def of_numbers(numbers: np.ndarray[Any, Any]) -> Any:
    """An array, and what is in a small one."""
    content = numbers.tobytes() if numbers.nbytes <= _MOST_BYTES else None
    return "array", str(numbers.dtype), numbers.shape, serial(numbers), content


def of_buffer(numbers: bytearray | array[Any] | memoryview) -> Any:
    """Bytes that can be written, and what is in few."""
    seen = memoryview(numbers)
    content = seen.tobytes() if seen.nbytes <= _MOST_BYTES else serial(numbers)
    return type(numbers).__name__, seen.format, seen.shape, content


def of_key(key: Any) -> Any:
    """A key of a mapping, or an element of a set, without a hold on it."""
    return key if isinstance(key, PLAIN) else serial(key)


_serials: dict[int, tuple[Any, int]] = {}
_next = itertools.count()


def serial(thing: Any) -> Any:
    """A number of one thing's own, which no later thing gets (as it may get its id)."""
    known = _serials.get(id(thing))
    life = life_of(thing) if isinstance(thing, Tensor) else thing
    if known is not None and known[0]() is life:
        return known[1]
    key = id(thing)
    try:
        held = weakref.ref(life, lambda ref: _forget(key, ref))
    except TypeError:  # a thing that cannot be watched
        return "id", key
    number = next(_next)
    _serials[key] = (held, number)
    return number


def _forget(key: int, ref: Any) -> None:
    known = _serials.get(key)
    if known is not None and known[0] is ref:
        _serials.pop(key, None)
