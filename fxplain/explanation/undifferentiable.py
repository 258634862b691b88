"""Undifferentiable operations: what a model is computed with that lets no gradient through."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import fx

from fxplain.capture import Capture, module_path
from fxplain.errors import NoGradientError

__all__ = ["causes_named", "is_unknown"]

MOST_NAMED = 2

_DIFFERENTIABLE = ("Autograd", "AutogradCPU", "AutogradCUDA", "CompositeImplicitAutograd")
"""The kernels of an operation by one of which autograd knows it: its own formula, or its parts'."""


@contextmanager
def causes_named(capture: Capture) -> Iterator[None]:
    """Where no gradient comes through, name the operations that autograd does not know.

    Raises
    ------
    NoGradientError
        As it was raised, with such operations as the likely cause where the model has some.
    """
    try:
        yield
    except NoGradientError as error:
        found = [node for node in capture.graph_module.graph.nodes if is_unknown(node)]
        if not found:
            raise
        named = ", ".join(_place(node) for node in found[:MOST_NAMED])
        more = f" and {len(found) - MOST_NAMED} more" if found[MOST_NAMED:] else ""
        raise NoGradientError(
            f"no gradient comes through {named}{more}: autograd does not know the operation, as it "
            f"does not know those of quantised layers. Explain the model as it was before it was "
            f"quantised, or by a method that needs no gradient (raw_attention, rollout)."
        ) from error


def is_unknown(node: fx.Node) -> bool:
    """Whether autograd does not know an operation."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return False
    name, has_kernel = node.target.name(), torch._C._dispatch_has_kernel_for_dispatch_key
    return not any(has_kernel(name, key) for key in _DIFFERENTIABLE)


def _place(node: fx.Node) -> str:
    name = str(node.target).removesuffix(".default")
    return f"{name} in {module_path(node) or 'the model'}"
