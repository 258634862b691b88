"""Leave the user's model as it was: flags, gradients, buffers, plain attributes and random state."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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
    python_state = random.getstate()
    devices = sorted({p.device.index for p in model.parameters() if p.device.type == "cuda"})
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python_state)
        for module, snapshot in before:
            _restore(module, snapshot)
        for parameter, grad, requires_grad in gradients:
            parameter.grad = grad
            parameter.requires_grad_(requires_grad)
        for buffer, version, content in buffers:
            if buffer._version != version:
                with torch.no_grad():
                    buffer.copy_(content)


def _snapshot(module: nn.Module) -> dict[str, Any]:
    return {k: dict(v) if isinstance(v, dict) else v for k, v in vars(module).items()}


def _restore(module: nn.Module, snapshot: dict[str, Any]) -> None:
    current = vars(module)
    for name in current.keys() - snapshot.keys():
        del current[name]
    for name, value in snapshot.items():
        if not isinstance(value, dict):
            current[name] = value
        elif not _same(current.get(name), value):
            current[name].clear()
            current[name].update(value)


def _same(current: Any, before: dict[str, Any]) -> bool:
    return (
        isinstance(current, dict)
        and current.keys() == before.keys()
        and all(current[k] is v for k, v in before.items())
    )
