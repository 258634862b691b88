"""Own weights: a model whose forward writes into its parameters is told, and the writes are undone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from fxplain.capture.packed import is_packed
from fxplain.capture.state import parts_of, tensors_of
from fxplain.errors import CaptureError

__all__ = ["same_place", "weights_kept"]

_OTHERWISE = (
    "Compute the new weight as a value of its own, or write it before the model is explained."
)


@contextmanager
def weights_kept(model: nn.Module) -> Iterator[None]:
    """Within, what is written into a parameter is copied before it is, and put back on exit.

    Raises
    ------
    CaptureError
        On exit, when a parameter was written into: a graph would compute from what the weights
        were at some time between two writes.
    """
    parameters = tensors_of(model)[0]
    homes = {name: p.data for name, p in parameters.items()}  # ``p.data = x`` gives p another home
    mode = _CopyOnWrite(parameters)
    # what TorchScript runs cannot be watched: its own operations on numbers fail under a mode
    compiled = any(isinstance(part, torch.jit.ScriptModule) for _, part in parts_of(model))
    try:
        with nullcontext() if compiled else mode:
            yield
    finally:
        moved = [n for n, p in parameters.items() if not same_place(p.data, homes[n])]
        for name in moved:
            parameters[name].data = homes[name]
        mode.undo()
    packed = {path for path, part in parts_of(model) if is_packed(part)}
    # these put their weights in order for where they run when they first do, and no graph has that
    written = sorted(n for n in {*mode.copies, *moved} if n.rpartition(".")[0] not in packed)
    if written:
        raise CaptureError(
            f"{type(model).__name__} writes into its own parameter {written[0]!r} while it runs "
            f"(what it wrote was undone). {_OTHERWISE}"
        )


class _CopyOnWrite(TorchDispatchMode):
    """Copies a parameter before an operation writes into its memory, by whatever view."""

    supports_higher_order_operators = True

    def __init__(self, parameters: dict[str, Tensor]) -> None:
        super().__init__()
        self._parameters = parameters
        self._by_memory = {_memory(p): name for name, p in parameters.items() if _memory(p)}
        self.copies: dict[str, Tensor] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        schema = getattr(func, "_schema", None)  # of a whole region there is none
        arguments = () if schema is None else schema.arguments
        for argument, value in zip(arguments, args, strict=False):
            info = argument.alias_info
            if info is not None and info.is_write and isinstance(value, Tensor):
                name = self._by_memory.get(_memory(value))
                if name is not None and name not in self.copies:
                    self.copies[name] = self._parameters[name].detach().clone()
        return func(*args, **(kwargs or {}))

    def undo(self) -> None:
        """Put back what was written over."""
        with torch.no_grad():
            for name, content in self.copies.items():
                self._parameters[name].data.copy_(content)


def _memory(tensor: Tensor) -> int:
    """The address of a tensor's own memory; 0 for wrapped and traced ones, and for none."""
    wrapped = type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__
    if wrapped or tensor.layout is not torch.strided:
        return 0
    return tensor.untyped_storage().data_ptr()


def same_place(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are the same numbers in memory, as far as can be seen."""
    return _memory(a) == _memory(b) and a.shape == b.shape
