"""Gates: which factor of a product only scales the other one.

A layer's normalisation ``x * rsqrt(mean(x^2))``, an activation ``x * sigmoid(1.7 x)`` and a gated
branch ``sigmoid(u) * v`` are products of two activations in which one factor is a gate: it is made
of the other factor alone, or it is bounded. Explanation rules treat gates as constants.
"""

from __future__ import annotations

import torch
from torch import Tensor, fx

from fxplain.tokens import operation

__all__ = ["gate_operand"]

BOUNDED = frozenset(f"aten.{name}" for name in ["sigmoid", "softmax", "_softmax", "hardsigmoid"])
_ELEMENTWISE = frozenset(
    f"aten.{name}"
    for name in [
        "mean",
        "sum",
        "var",
        "std",
        "var_mean",
        "linalg_vector_norm",
        "norm",
        "amax",
        "max",
        "min",
        "amin",
        "clamp_min",
        "clamp",
        "expand",
        "expand_as",
        "unsqueeze",
        "squeeze",
        "view",
        "reshape",
        "to",
        "_to_copy",
        "clone",
        "contiguous",
        "softplus",
        "hardsigmoid",
        "getitem",
        "where",
        "masked_fill",
        "detach",
        "alias",
    ]
) | {"getitem"}
_SCALES = frozenset(
    f"aten.{name}" for name in ("to", "_to_copy", "clone", "alias", "mul", "div", "neg")
)
_CARRIED = frozenset(
    f"aten.{name}"
    for name in [
        "view",
        "reshape",
        "unsqueeze",
        "squeeze",
        "expand",
        "expand_as",
        "to",
        "_to_copy",
        "clone",
        "contiguous",
        "transpose",
        "permute",
        "slice",
        "select",
        "chunk",
        "split",
        "index",
        "type_as",
        "alias",
        "gather",
        "unbind",
        "dropout",
        "div",
        "topk",
        "sort",
        "repeat_interleave",
        "index_select",
        "flatten",
        "masked_fill",
        "scatter",
    ]
) | {"getitem"}


def gate_operand(node: fx.Node) -> int | None:
    """The position of the operand of a product that is a gate; None where both are values."""
    a, b = node.args[0], node.args[1] if len(node.args) > 1 else None
    if not (isinstance(a, fx.Node) and isinstance(b, fx.Node)) or a is b:
        return None
    for i, (gate, value) in enumerate(((a, b), (b, a))):
        if _made_of(gate, value):
            return i
    bounded = [_bounded(a), _bounded(b)]
    return bounded.index(True) if bounded.count(True) == 1 else None


def _bounded(node: fx.Node) -> bool:
    while operation(node) in _CARRIED or (_unscaled(node) is not node):
        sources = [n for n in node.all_input_nodes if _varies(n)] or node.all_input_nodes
        if not sources:
            return False
        node = sources[0]
    return operation(node) in BOUNDED


def _made_of(gate: fx.Node, value: fx.Node, limit: int = 40) -> bool:
    """Whether `gate` is computed from `value` alone, element by element or by its statistics."""
    origin = _unscaled(value)
    todo, seen = [gate], set[fx.Node]()
    reached = False
    while todo:
        node = todo.pop()
        if node in seen:
            continue
        seen.add(node)
        if _unscaled(node) is origin and node is not gate:
            reached = True
            continue
        if len(seen) > limit or not _elementwise(node):
            return False
        todo += [n for n in node.all_input_nodes if _varies(n)]
    return reached


def _unscaled(node: fx.Node) -> fx.Node:
    """The value that `node` is a cast or a multiple of."""
    while operation(node) in _SCALES:
        inputs = [n for n in node.all_input_nodes if _varies(n)]
        if len(inputs) != 1 or inputs[0] is not node.args[0]:
            break
        node = inputs[0]
    return node


def _varies(node: fx.Node) -> bool:
    """Whether a node is a computed float tensor (weights and constants are placeholders)."""
    value = node.meta.get("val")
    return node.op == "call_function" and isinstance(value, Tensor) and value.is_floating_point()


def _elementwise(node: fx.Node) -> bool:
    if node.op != "call_function":
        return False
    return (
        torch.Tag.pointwise in getattr(node.target, "tags", ()) or operation(node) in _ELEMENTWISE
    )
