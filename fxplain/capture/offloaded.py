"""Offloaded models: a twin with all weights, shared with where the hooks of accelerate keep them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from fxplain.capture.locks import borrowed
from fxplain.capture.seen import found_once
from fxplain.capture.state import parts_of
from fxplain.capture.twins import Twins

__all__ = ["twin_of", "twins"]


_HOOK = "_hf_hook"

twins = Twins(beside=_HOOK)
"""Of the models that were asked for; they are without accelerate's hooks."""


def twin_of(model: nn.Module) -> nn.Module:
    """`model` itself, or where weights of it are offloaded, a module of the same layers that has them.

    Weights that lie in memory are shared, those on disk are mapped; all of the twin is where they
    are, which is the processor's memory. Another twin is made when the model looks different.
    """
    with borrowed(model):  # tensors of a model that is being captured are not its own
        if found_once(model, "all there", lambda: next(_absent(model), None) is None):
            return model
        absent = list(_absent(model))
        if any(_hook_of(module) is None for _, module, _ in absent):
            return model
        known = twins.known(model)
        return twins.keep(model, _made(model, absent)) if known is None else known


def _absent(model: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    """(path of the module, module, name) of every tensor that has a shape and no values."""
    for path, module in parts_of(model):
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None and tensor.is_meta:
                    yield path, module, name


def _hook_of(module: nn.Module) -> Any:
    """The hook that brings a module's weights before it runs, or None."""
    hook = getattr(module, _HOOK, None)
    for each in getattr(hook, "hooks", [hook]):
        if getattr(each, "weights_map", None) is not None:
            return each
    return None


def _made(model: nn.Module, absent: list[tuple[str, nn.Module, str]]) -> nn.Module:
    shared: dict[int, Any] = {id(t): t for t in (*model.parameters(), *model.buffers())}
    found = {(path, name): _hook_of(module).weights_map[name] for path, module, name in absent}
    for module in model.modules():  # hooks hold devices, and maps of the very weights
        hook = getattr(module, _HOOK, None)
        shared[id(hook)] = None
    twin = copy.deepcopy(model, shared)
    for module in twin.modules():
        forward = module.__dict__.pop("_old_forward", None)
        if forward is not None:
            module.__dict__.pop("forward", None)
            if getattr(forward, "__func__", None) is not type(module).forward:
                module.forward = forward
        module.__dict__.pop(_HOOK, None)
    parts = dict(twin.named_modules())
    for (path, name), value in found.items():
        _put(parts[path], name, value)
    return nn.Module.to(twin, "cpu")  # the method on the object refuses, for the hooks that were


def _put(module: nn.Module, name: str, value: Tensor) -> None:
    tensors = module._parameters if name in module._parameters else module._buffers
    plain = value.detach()
    old = module._parameters.get(name)
    kept = plain if old is None else nn.Parameter(plain, requires_grad=old.requires_grad)
    tensors[name] = kept  # type: ignore[assignment]
