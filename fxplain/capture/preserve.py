"""Leave the user's model as it was: flags, gradients, buffers, plain attributes and random state."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

__all__ = ["preserved"]


@contextmanager
def preserved(model: nn.Module) -> Iterator[None]:
    """Restore `model` and the random state on exit, also after an error.

    Tracing runs the model's Python code, which may keep intermediate (traced) tensors in
    attributes or buffers, and may draw random numbers.
    """
    before = [(module, _snapshot(module)) for module in model.modules()]
    buffers = [(b, b._version, b.detach().clone()) for b in model.buffers()]
    gradients = [(p, p.grad, p.requires_grad) for p in model.parameters()]
    python_state, numpy_state = random.getstate(), np.random.get_state()
    devices = sorted({p.device.index for p in model.parameters() if p.device.type == "cuda"})
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        for module, snapshot in before:
            _restore(module, snapshot)
        for parameter, grad, requires_grad in gradients:
            parameter.grad = grad
            parameter.requires_grad_(requires_grad)
        for buffer, version, content in buffers:
            if buffer._version != version:
                with torch.no_grad():
                    buffer.copy_(content)


def _snapshot(module: nn.Module) -> dict[str, tuple[Any, Any]]:
    """Each attribute with a copy of its content (None for what is no container)."""
    return {name: (value, _content(value)) for name, value in vars(module).items()}


def _content(value: Any) -> Any:
    """A copy of a container, containers in it included."""
    if isinstance(value, dict):
        return {k: (v, _content(v)) for k, v in value.items()}
    if isinstance(value, list):
        return [(v, _content(v)) for v in value]
    return set(value) if isinstance(value, set) else None


def _restore(module: nn.Module, snapshot: dict[str, tuple[Any, Any]]) -> None:
    current = vars(module)
    for name in current.keys() - snapshot.keys():
        del current[name]
    for name, (value, content) in snapshot.items():
        _refill(value, content)
        if current.get(name) is not value:
            current[name] = value


def _refill(value: Any, content: Any) -> None:
    """Give a container the content that it had, where it has changed."""
    if isinstance(content, dict):
        for old, inner in content.values():
            _refill(old, inner)
        if [*value] != [*content] or any(value[k] is not v for k, (v, _) in content.items()):
            value.clear()
            value.update({k: v for k, (v, _) in content.items()})
    elif isinstance(content, list):
        for old, inner in content:
            _refill(old, inner)
        if len(value) != len(content) or any(
            a is not b for a, (b, _) in zip(value, content, strict=True)
        ):
            value[:] = [old for old, _ in content]
    elif isinstance(content, set) and value != content:
        value.clear()
        value.update(content)
