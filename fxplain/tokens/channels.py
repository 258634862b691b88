"""Channels: which axis of a float input holds the features of a token."""

from __future__ import annotations

from collections.abc import Callable
from operator import getitem
from typing import Any

import torch
from torch import Tensor, fx

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
_VIEWS = frozenset(
    [
        "unflatten", "unsqueeze", "squeeze", "slice", "select", "expand", "permute", "transpose",
        "movedim", "swapaxes", "t", "mT", "unbind", "split", "split_with_sizes", "chunk",
        "tensor_split", "narrow",
    ]
)  # fmt: skip
_RESHAPES = frozenset(["view", "reshape", "_unsafe_view", "flatten"])
_COPIES = frozenset(["cat", "stack", "flip", "repeat"])
_FAR = 64  # values that are looked at
_MOST_LAID = 4_096  # parts of an input that are followed to a convolution
_MOST_COPIED = 2**25  # numbers of a part that are copied for that


def channel_axis(node: fx.Node, shape_of: Callable[[fx.Node], Shape]) -> int | None:
    """The axis of a float input that holds features: (B, T, F), (B, C, H, W), (B, T, C, H, W).

    It is the last one where a norm or a linear layer over it reads the input as it is (a grid of
    features, joints of frames), and the one that a convolution takes for its channels, wherever that
    is. Images may have few channels last: (B, H, W, C). There is none where series that lie one beside
    the other, (B, C, T), are cut into patches of time.
    """
    shape = shape_of(node)
    if len(shape) == 3:
        return None if _cut_along_last(node, shape_of) else 2
    if len(shape) in (4, 5) and _read_along_last(node, shape_of):
        return len(shape) - 1
    convolved = _convolved_along(node, shape_of) if len(shape) in (4, 5) else None
    if convolved is not None:
        return convolved
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


def _convolved_along(node: fx.Node, shape_of: Callable[[fx.Node], Shape]) -> int | None:
    """The axis that a convolution reads as its channels, if it is only laid out anew before that."""
    shape = shape_of(node)
    for axis, size in enumerate(shape[1:], 1):
        numbers = torch.arange(size, dtype=torch.int16 if size < 1 << 15 else torch.int64)
        numbers = numbers.reshape(-1, *[1] * (len(shape) - axis - 1)).expand(shape)
        if _are_channels(node, numbers, size, shape_of):
            return axis
    return None


def _are_channels(
    node: fx.Node, numbers: Tensor, size: int, shape_of: Callable[[fx.Node], Shape]
) -> bool:
    """Whether the numbers of an axis's indices, moved as the values are, are those of channels."""
    laid: dict[fx.Node, Any] = {node: numbers}
    todo = [node]
    while todo and len(laid) < _MOST_LAID:
        for user in todo.pop().users:
            if user in laid or user.op != "call_function":
                continue
            if "conv" in operation_name(user):
                read, *weights = user.all_input_nodes
                return read in laid and _counted(laid[read], size, len(shape_of(weights[0])) - 2)
            moved = _moved(user, laid, shape_of)
            if moved is not None:
                laid[user] = moved
                todo.append(user)
    return False


def _moved(
    node: fx.Node, laid: dict[fx.Node, Any], shape_of: Callable[[fx.Node], Shape]
) -> Any | None:
    """What an operation makes of numbers that are `laid` out; None if it does more than move them."""
    name, others = operation_name(node), [n for n in node.all_input_nodes if n not in laid]
    target: Any = node.target
    args: Any = fx.node.map_arg(node.args, laid.get)
    kwargs: Any = fx.node.map_arg(node.kwargs, laid.get)
    if target is getitem or (name in _VIEWS and not others):
        return target(*args, **kwargs)
    first = laid.get(node.all_input_nodes[0])
    if not isinstance(first, Tensor) or not isinstance(node.meta.get("val"), Tensor):
        return None
    shape = torch.Size(shape_of(node))
    if name in _RESHAPES:  # to sizes that may be computed
        same = shape.numel() == first.numel() <= _MOST_COPIED
        return first.reshape(shape) if same else None
    if name in _COPIES and not others and shape.numel() <= _MOST_COPIED:
        return target(*args, **kwargs)
    still = name in _FLAT or torch.Tag.pointwise in getattr(target, "tags", ())
    return first if still and shape == first.shape else None


def _counted(numbers: Tensor, size: int, places: int) -> bool:
    """Whether numbers count up along the axis before as many `places`, and along it alone."""
    axis = numbers.dim() - places - 1
    if axis < 0 or numbers.shape[axis] != size:
        return False
    counted = torch.arange(size, dtype=numbers.dtype).reshape(-1, *[1] * places)
    return bool((numbers == counted).all())
