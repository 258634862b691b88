"""Deformable attention: values sampled at places of a grid, and weights over these points."""

from __future__ import annotations

import operator
from collections.abc import Iterator

from torch import fx

from fxplain.capture import operation_name

__all__ = ["weighs_samples"]

_MOVES = {
    "view", "reshape", "_unsafe_view", "transpose", "permute", "unsqueeze", "squeeze", "flatten",
    "unflatten", "slice", "select", "expand", "clone", "contiguous", "stack", "cat", "split",
    "unbind", "chunk", "to", "_to_copy", "dropout",
}  # fmt: skip
_SAMPLERS = ("grid_sampler", "grid_sampler_2d", "grid_sampler_3d")


def weighs_samples(softmax: fx.Node) -> bool:
    """Whether the softmax's weights multiply sampled values."""
    for node in _moved(softmax):
        for user in node.users:
            if operation_name(user) in ("mul", "matmul", "bmm", "einsum"):
                others = [n for n in user.all_input_nodes if n is not node]
                if any(_is_sample(other) for other in others):
                    return True
    return False


def _moves(node: fx.Node) -> bool:
    return node.target is operator.getitem or operation_name(node) in _MOVES


def _moved(node: fx.Node) -> Iterator[fx.Node]:
    """The node, and what it becomes by movement alone."""
    todo, seen = [node], {node}
    while todo:
        current = todo.pop()
        yield current
        further = [n for n in current.users if _moves(n) and n not in seen]
        seen.update(further)
        todo += further


def _is_sample(node: fx.Node) -> bool:
    todo, seen = [node], {node}
    while todo:
        current = todo.pop()
        if operation_name(current) in _SAMPLERS:
            return True
        if _moves(current):
            todo += [n for n in current.all_input_nodes if n not in seen]
            seen.update(current.all_input_nodes)
    return False
