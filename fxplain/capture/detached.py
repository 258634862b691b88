"""What a tracer does not see: tensors' ``.data``, and activations that become NumPy arrays or lists."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import get_proxy_mode, get_proxy_slot

__all__ = ["data_is_detached", "noted_departures"]

_LEAVING = ("numpy", "__array__", "tolist")


@contextmanager
def data_is_detached() -> Iterator[None]:
    """Within, ``x.data`` is recorded as ``x.detach()``; a tracer would freeze its value."""
    base: Any = vars(torch._C.TensorBase)["data"]
    own = threading.get_ident()

    def read(self: Tensor) -> Tensor:
        here = threading.get_ident() == own
        return self.detach() if here else cast(Tensor, base.__get__(self, type(self)))

    torch.Tensor.data = property(read, base.__set__, base.__delete__)  # type: ignore[assignment]
    try:
        yield
    finally:
        del torch.Tensor.data


@contextmanager
def noted_departures() -> Iterator[dict[str, None]]:
    """The modules that turned recorded floats into numbers outside of torch, as they do so."""
    found: dict[str, None] = {}
    originals = {name: getattr(Tensor, name) for name in _LEAVING}
    for name, original in originals.items():
        setattr(Tensor, name, _noting(original, found))
    try:
        yield found
    finally:
        for name, original in originals.items():
            if original is getattr(torch._C.TensorBase, name, None):
                delattr(Tensor, name)
            else:
                setattr(Tensor, name, original)


def _noting(original: Callable[..., Any], found: dict[str, None]) -> Callable[..., Any]:
    @functools.wraps(original)
    def noting(self: Tensor, *args: Any, **kwargs: Any) -> Any:
        if self.is_floating_point() and self.numel() > 1 and _is_recorded(self):
            meta: dict[str, Any] = torch.fx.traceback.current_meta
            found[next(reversed(meta.get("nn_module_stack", {"": None})), "")] = None
        return original(self, *args, **kwargs)

    return noting


def _is_recorded(tensor: Tensor) -> bool:
    """Whether a tensor was computed in the trace that this thread makes."""
    mode = get_proxy_mode()
    slot = None if mode is None else get_proxy_slot(tensor, mode.tracer, None)
    return slot is not None and getattr(slot, "constant", None) is None
