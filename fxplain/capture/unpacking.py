"""Unpacking: while a model is captured, plain linear layers stand in for those with packed weights.

A trace of such a layer fails where its weights are of a class that is more than a tensor, has no
gradient where it calls a kernel of its own, and where it unpacks them itself does not show that what it
multiplies by are weights.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fxplain.capture.comparison import run_eagerly
from fxplain.capture.inputs import ModelInputs
from fxplain.capture.packed import holds_an_object, is_packed, packs
from fxplain.capture.seen import found_once
from fxplain.capture.state import parts_of
from fxplain.capture.unpacked import Asked, unpacked, unpacked_weights

__all__ = ["has_packed_layers", "layers_to_unpack", "unpacked_in_place"]

_MOST_ROWS = 64
"""The positions of a layer's input on which its weight is tried."""

_ROUNDING = 0.1
"""The most by which a layer that rounds its input differs from a linear one, as a part of the size of
its output: 8 bits differ by 0.01."""

_TENSORS = ("_parameters", "_buffers")


def has_packed_layers(model: nn.Module) -> bool:
    """Whether any part of a model has packed weights."""
    return found_once(model, "packed", lambda: any(is_packed(part) for _, part in parts_of(model)))


def layers_to_unpack(model: nn.Module, inputs: ModelInputs) -> dict[str, Asked]:
    """The packed layers of a model that are linear, each with how to ask it.

    They are tried on what they are given in a run of the model.
    """
    asked: dict[nn.Module, Asked] = {}
    for layer, x in _given(model, inputs).items():
        how = Asked.as_by(x)
        if _is_linear(layer, how, x):
            asked[layer] = how
    return {path: asked[part] for path, part in parts_of(model) if part in asked}


def _given(model: nn.Module, inputs: ModelInputs) -> dict[nn.Module, Tensor]:
    """The packed layers of a model and what each is given first, where it is one tensor."""
    found: dict[nn.Module, Tensor] = {}

    def note(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = [*args, *kwargs.values()]
        x = given[0] if len(given) == 1 else None
        if layer not in found and isinstance(x, Tensor) and x.is_floating_point() and x.numel():
            found[layer] = x.detach().reshape(1, -1, x.shape[-1])[:, :_MOST_ROWS].clone()

    handles = [
        part.register_forward_pre_hook(note, with_kwargs=True)
        for part in model.modules()
        if is_packed(part)
    ]
    try:
        run_eagerly(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _is_linear(layer: nn.Module, asked: Asked, x: Tensor) -> bool:
    """Whether a layer does to each position what the weight that is read off it does."""
    try:
        whole = unpacked(layer, asked)
        with torch.no_grad():
            expected, found = layer.forward(x), whole(x)
    except Exception:  # noqa: BLE001 - then it is none
        return False
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return False
    return _apart(found, expected) <= _ROUNDING


def _apart(found: Tensor, expected: Tensor) -> float:
    size = expected.double().norm()
    return float((found.double() - expected.double()).norm() / size) if size else 0.0


@contextmanager
def unpacked_in_place(model: nn.Module, layers: Mapping[str, Asked]) -> Iterator[None]:
    """Within, packed layers are linear layers with plain weights under the same paths."""
    whole = unpacked_weights(model, layers)
    before: list[tuple[dict[str, Any], dict[str, Any]]] = []
    try:
        for path in layers:
            layer = model.get_submodule(path)
            own = vars(layer)
            if any(own is known for known, _ in before):  # by another path
                continue
            before.append(
                (own, {name: own.get(name) for name in (*_TENSORS, "_modules", "forward")})
            )
            for table in _TENSORS:  # what hooks read stays, a scale for example
                own[table] = {k: t for k, t in own[table].items() if t is None or not packs(t)}
            parts = own["_modules"].items()
            own["_modules"] = {k: m for k, m in parts if m is None or not holds_an_object(m)}
            for name in ("weight", "bias"):
                tensor = whole.get(f"{path}.{name}")
                plain = None if tensor is None else nn.Parameter(tensor, requires_grad=False)
                own["_parameters"][name] = plain
            own["forward"] = functools.partial(_linear, layer)
        yield
    finally:
        for own, were in reversed(before):
            own.update(were)
            if were["forward"] is None:
                del own["forward"]


def _linear(layer: nn.Module, x: Tensor) -> Tensor:
    weight, bias = layer._parameters["weight"], layer._parameters["bias"]
    assert weight is not None
    return F.linear(x, weight, bias)
