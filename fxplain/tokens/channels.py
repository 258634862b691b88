"""Channels: which axis of a float input holds the features of a token."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import fx

from fxplain.capture import operation_name

__all__ = ["channel_axis"]

Shape = tuple[int, ...]

_NORMS = ("layer_norm", "rms_norm", "native_layer_norm")
_FLAT = frozenset(
    [
        "view", "reshape", "_unsafe_view", "flatten", "unflatten", "contiguous", "clone", "to",
        "_to_copy", "detach", "alias", "unsqueeze", "squeeze", "slice", "select", "expand",
    ]
)  # fmt: skip
_FAR = 64  # values that are looked at


def channel_axis(node: fx.Node, shape_of: Callable[[fx.Node], Shape]) -> int | None:
    """The axis of a float input that holds features: (B, T, F), (B, C, H, W), (B, T, C, H, W).

    It is the last one where a norm or a linear layer over it reads the input as it is (a grid of
    features, joints of frames). Images may have few channels last: (B, H, W, C). There is none where
    series that lie one beside the other, (B, C, T), are cut into patches of time.
    """
    shape = shape_of(node)
    if len(shape) == 3:
        return None if _cut_along_last(node, shape_of) else 2
    if len(shape) in (4, 5) and _read_along_last(node, shape_of):
        return len(shape) - 1
    if len(shape) == 4 and shape[3] <= 4 < min(shape[1:3]):
        return 3
    if len(shape) == 5:
        return 2 if shape[2] <= 4 < shape[1] or shape[2] <= shape[1] else 1
    return 1 if len(shape) == 4 else None


def _cut_along_last(node: fx.Node, shape_of: Callable[[fx.Node], Shape]) -> bool:
    """Whether windows of the last axis are taken, or parts of it as samples and series are joined."""
    samples, series, size = shape_of(node)
    todo, seen = [node], {node}
    while todo and len(seen) < _FAR:
        for user in todo.pop().users:
            name = operation_name(user)
            if user in seen or user.op != "call_function" or not _lays_out(user):
                continue
            seen.add(user)
            shape, before = shape_of(user), shape_of(user.all_input_nodes[0])
            if name == "unfold" and user.args[1] in (-1, len(before) - 1):
                return True
            joined = len(shape) > 2 and shape[0] == samples * series
            if joined and 1 < shape[-1] < size and shape[-2] * shape[-1] == size:
                return True
            if shape == shape_of(node) or (series == 1 and shape[-1:] == (size,)):
                todo.append(user)
    return False


def _lays_out(node: fx.Node) -> bool:
    """Whether a node leaves the last axis where it is, if its size stays the same."""
    pointwise = torch.Tag.pointwise in getattr(node.target, "tags", ())
    return pointwise or operation_name(node) in (*_FLAT, *_NORMS, "unfold")


def _read_along_last(node: fx.Node, shape_of: Callable[[fx.Node], Shape]) -> bool:
    """Whether a norm or a linear layer over the last axis reads an input, if only laid out anew."""
    size = shape_of(node)[-1]
    todo, seen, found = [node], {node}, False
    while todo and len(seen) < _FAR:
        for user in todo.pop().users:
            name = operation_name(user)
            if "conv" in name:
                return False
            if user in seen or user.op != "call_function":
                continue
            seen.add(user)
            if name in _NORMS:
                normed = user.args[1]
                found |= isinstance(normed, (list, tuple)) and len(normed) == 1
            elif name == "linear":
                found |= user.args[0] in seen and shape_of(user.all_input_nodes[0])[-1:] == (size,)
            elif name == "matmul":
                left, right = user.all_input_nodes[0], user.all_input_nodes[-1]
                found |= left in seen and right not in seen and shape_of(left)[-1:] == (size,)
            if _lays_out(user) and shape_of(user)[-1:] == (size,):
                todo.append(user)
    return found
