"""Unpacked layers: the weight of a packed linear layer, read off what the layer does.

Where such a layer is a linear map over the last axis, its weight is what it makes of unit vectors,
whatever it is packed in.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.weak import WeakIdKeyDictionary

from fxplain.capture.own_weights import weights_kept
from fxplain.capture.preserve import preserved
from fxplain.capture.state import AsItWas, kept_on, parts_of

__all__ = ["Asked", "Unpacked", "forget_unpacked", "unpacked", "unpacked_weights"]


@dataclass(frozen=True)
class Asked:
    """How a layer is asked for its weight.

    Attributes
    ----------
    size
        How many numbers a position has.
    scale
        The size of the unit vectors: as large as what the layer is used to, which it may round. What
        is read with one is as good as with another.
    dtype, device
        Of what the layer is given.
    """

    size: int
    scale: float = field(compare=False)
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def as_by(cls, x: Tensor) -> Asked:
        """As a layer is asked that is given (..., size)."""
        largest = float(x.abs().max())
        known = 0 < largest < math.inf
        scale = 2.0 ** math.floor(math.log2(largest)) if known else 1.0  # which rounds nothing
        return cls(x.shape[-1], scale, x.dtype, x.device)


@dataclass(frozen=True, eq=False)
class Unpacked:
    """What a packed layer computes, as a linear layer.

    Attributes
    ----------
    weight
        (outputs, inputs).
    bias
        (outputs), or None.
    made_of
        The tensors of the layer, as they were.
    """

    weight: Tensor
    bias: Tensor | None
    made_of: tuple[AsItWas, ...]

    def __call__(self, x: Tensor) -> Tensor:
        """The layer's output, but for what the layer rounds."""
        return F.linear(x, self.weight, self.bias)

    def still_of(self, layer: nn.Module) -> bool:
        """Whether the layer's tensors are what they were."""
        now = list(_tensors_of(layer))
        return len(now) == len(self.made_of) and all(
            was.still(tensor) for was, tensor in zip(self.made_of, now, strict=True)
        )


_read: MutableMapping[nn.Module, dict[Asked, Unpacked]] = WeakIdKeyDictionary()


def unpacked(layer: nn.Module, asked: Asked) -> Unpacked:
    """A layer's weight, which is kept as long as the layer's own tensors stay what they are."""
    known = _read.setdefault(layer, {})
    found = known.get(asked)
    if found is not None and not found.still_of(layer):
        known.clear()
        found = None
    if found is None:
        found = known[asked] = _asked(layer, asked)
    return found


def forget_unpacked(model: nn.Module | None) -> None:
    """Let go of what was read off the layers of a model, or of all."""
    if model is None:
        _read.clear()
    else:
        for _, part in parts_of(model):
            _read.pop(part, None)


def unpacked_weights(model: nn.Module, layers: Mapping[str, Asked]) -> dict[str, Tensor]:
    """By the paths that they have in a graph, the weights and biases of packed layers."""
    found: dict[str, Tensor] = {}
    for path, asked in layers.items():
        whole = unpacked(model.get_submodule(path), asked)
        found[f"{path}.weight"] = whole.weight
        if whole.bias is not None:
            found[f"{path}.bias"] = whole.bias
    return found


_AT_ONCE = 256
"""Unit vectors in one call of a layer: a head of words makes a large row of each."""


def _asked(layer: nn.Module, asked: Asked) -> Unpacked:
    made_of = tuple(map(AsItWas.of, _tensors_of(layer)))
    like: Any = {"dtype": asked.dtype, "device": asked.device}
    own = layer._parameters.get("bias")
    with torch.inference_mode(False), torch.no_grad(), _as_it_was(layer):
        if own is not None:  # a large one would drown the weight in half precision
            layer._parameters["bias"] = nn.Parameter(torch.zeros_like(own), own.requires_grad)
        nothing = layer.forward(torch.zeros(1, 1, asked.size, **like))[0, 0]
        weight = nothing.new_empty(len(nothing), asked.size)
        units = (asked.scale * torch.eye(asked.size, **like)).split(_AT_ONCE)
        for some, columns in zip(units, weight.split(_AT_ONCE, 1), strict=True):
            made = layer.forward(some[None])[0].double() - nothing.double()
            columns.copy_(made.T / asked.scale)
    bias = nothing if own is None else own.detach().to(nothing)
    return Unpacked(weight, bias if bias.any() else None, made_of)


@contextmanager
def _as_it_was(layer: nn.Module) -> Iterator[None]:
    """Leave a layer as it was: some pack their weights anew when they first run."""
    with preserved(layer), weights_kept(layer):
        yield


def _tensors_of(layer: nn.Module) -> Iterator[Tensor]:
    """Those of a layer, with what is kept on them and on its objects."""
    for part in (layer, *layer.children()):
        own = [t for t in (*part._parameters.values(), *part._buffers.values()) if t is not None]
        held = [value for tensor in own for value in kept_on(tensor).values()]
        held += [v for name, v in vars(part).items() if name not in vars(_BARE)]
        for thing in (*own, *held):
            if isinstance(thing, Tensor):
                yield thing
            elif not isinstance(thing, (type, nn.Module)) and hasattr(thing, "__dict__"):
                yield from (v for v in vars(thing).values() if isinstance(v, Tensor))


_BARE = nn.Module()
