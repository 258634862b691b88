"""State: a model's parts and tensors in one walk, since each explanation looks at all of them."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from fxplain.capture.locks import borrowed
from fxplain.errors import InputError

__all__ = [
    "AsItWas",
    "config_of",
    "is_of_own_class",
    "is_plain",
    "kept_on",
    "life_of",
    "parts_of",
    "tensors_of",
    "version_of",
]


def config_of(model: nn.Module) -> Any:
    """The model's ``config``, or None where it has none, or one that fails when it is asked for."""
    try:
        return getattr(model, "config", None)
    except Exception:  # noqa: BLE001 - a property of the user's own
        return None


_DEEPEST = 900
"""Below how many others a part is: deeper ones Python could not call."""


def parts_of(model: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Every module below a model, itself first, by its path; shared ones under each of their paths.

    As ``named_modules(remove_duplicate=False)``, without a generator for each level.
    """
    waiting = [(path, model)]
    while waiting:
        path, module = waiting.pop()
        if path.count(".") > _DEEPEST:
            raise InputError(f"the model's parts hold each other without end: {path[:80]} ...")
        yield path, module
        prefix = f"{path}." if path else ""
        children = module._modules.items()
        waiting.extend((prefix + k, m) for k, m in reversed(children) if m is not None)


def tensors_of(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Parameters and buffers by path, shared ones under each of their paths."""
    parameters: dict[str, Tensor] = {}
    buffers: dict[str, Tensor] = {}
    with borrowed(model):
        for path, module in parts_of(model):
            prefix = f"{path}." if path else ""
            for found, own in ((parameters, module._parameters), (buffers, module._buffers)):
                for name, tensor in own.items():
                    if tensor is not None:
                        found[prefix + name] = tensor
    return parameters, buffers


def first_parameter(model: nn.Module, *, floating: bool = False) -> Tensor | None:
    """A model's first parameter, or first of floats, which says where it is and of which type."""
    with borrowed(model):  # while it is captured others stand in their places
        found = (p for _, part in parts_of(model) for p in part._parameters.values())
        there = (p for p in found if p is not None)
        return next((p for p in there if p.is_floating_point() or not floating), None)


def version_of(tensor: Tensor) -> int:
    """How often a tensor was written; tensors of inference mode do not count."""
    return 0 if tensor.is_inference() else tensor._version


def kept_on(tensor: Tensor) -> dict[str, Any]:
    """What others keep on a tensor as its attributes; {} where these are what it is made of."""
    thing: Any = tensor
    return {} if not is_plain(tensor) and is_traceable_wrapper_subclass(thing) else vars(tensor)


def is_plain(tensor: Tensor) -> bool:
    """Whether a tensor is of torch's own class, or a parameter of torch's own."""
    return type(tensor) in (Tensor, nn.Parameter)


def is_of_own_class(tensor: Tensor) -> bool:
    """Whether a tensor is of a class that is not torch's, and may be more than its numbers."""
    return type(tensor).__module__.partition(".")[0] != "torch"


def life_of(tensor: Tensor) -> Any:
    """What lives as long as a tensor's values do, for weak references: its storage, where it has one.

    Where something refers weakly to a tensor itself, torch refuses to swap it for another, which is how
    ``model.to`` moves weights that are quantised or spread over devices.
    """
    try:
        return tensor.untyped_storage()
    except (NotImplementedError, RuntimeError, ValueError):  # sparse ones have none, nor lazy ones
        return tensor


@dataclass(frozen=True)
class AsItWas:
    """A tensor as it was once, without a hold on it.

    Attributes
    ----------
    life
        A reference to what lives as long as its values.
    version
        How often it had been written.
    """

    life: weakref.ref[Any]
    version: int

    @classmethod
    def of(cls, tensor: Tensor) -> AsItWas:
        """A note of it."""
        return cls(weakref.ref(life_of(tensor)), version_of(tensor))

    def still(self, tensor: Tensor | None) -> bool:
        """Whether a tensor is that one, and was not written since."""
        if tensor is None or self.version != version_of(tensor):
            return False
        return self.life() is life_of(tensor)
