"""Norms: values shifted and scaled by their own statistics, and where these run over tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import fx

from fxplain.capture import operation_name
from fxplain.tokens.analysis import Analysis, Tagged
from fxplain.tokens.arguments import arguments
from fxplain.tokens.tag import Level, Tag, Tags

__all__ = ["normed", "normed_first", "renormed"]


def normed(a: Analysis, node: fx.Node) -> Tagged:
    """Layer, group, batch and instance norm: each row stays its token's.

    Statistics over several tokens (a group norm of a grid) carry something from one to the other.
    Before any attention that is part of how tokens come to be; after it, it is said. Neighbours whose
    features stand side by side in a row (patch merging) are about to be one token.
    """
    named = arguments(node)
    tags = a.tags(named["input"])
    axes = _normed_axes(operation_name(node), named, a.shape(named["input"]))
    for tag in tags:
        over = [axis for axis in axes if tag.varies(axis) and not _side_by_side(tag, axis)]
        if over and tag.level > Level.RAW_INPUT and not a.joiner.newborn(tag):
            a.warn_of_mixing(node)
    return tags


def _side_by_side(tag: Tag, axis: int) -> bool:
    """Whether each token has several elements in a row along the last axis: its features."""
    ids = tag.ids
    alike = (ids == ids.roll(1, axis)) | (ids == ids.roll(-1, axis))
    return axis == ids.dim() - 1 and bool(alike.all())


def normed_first(a: Analysis, node: fx.Node) -> Tagged:
    """As `normed`, for operations that return the statistics beside the value."""
    return [normed(a, node)]


def renormed(a: Analysis, node: fx.Node) -> Tagged:
    """``renorm``: what is longer than allowed is made shorter, slice by slice along an axis."""
    named = arguments(node)
    rank = len(a.shape(named["input"]))
    tags: Tags = a.tags(named["input"])
    others = [axis for axis in range(rank) if axis != int(named["dim"]) % rank]
    if any(_varies(tag, others) and tag.level is not Level.PARAMETER for tag in tags):
        a.warn_of_mixing(node)  # weights that are kept short are no tokens
    return tags


def _varies(tag: Tag, axes: Sequence[int]) -> bool:
    return any(tag.varies(axis) for axis in axes)


def _normed_axes(name: str, named: dict[str, Any], shape: Sequence[int]) -> list[int]:
    """The axes over which a norm's statistics run, by what it is a norm of."""
    return next(axes for kind, axes in _AXES.items() if kind in name)(named, shape)


def _of_layers(named: dict[str, Any], shape: Sequence[int]) -> list[int]:
    return list(range(len(shape) - len(named["normalized_shape"]), len(shape)))


def _of_groups(named: dict[str, Any], shape: Sequence[int]) -> list[int]:
    groups = int(named.get("num_groups", named.get("group", 1)))
    return list(range(2 if groups == shape[1] else 1, len(shape)))


def _of_instances(named: dict[str, Any], shape: Sequence[int]) -> list[int]:
    return list(range(2, len(shape))) if named.get("use_input_stats", True) else []


def _of_batches(named: dict[str, Any], shape: Sequence[int]) -> list[int]:
    own = named.get("training") or named.get("running_mean") is None
    return [axis for axis in range(len(shape)) if axis != 1] if own else []


_AXES: dict[str, Callable[[dict[str, Any], Sequence[int]], list[int]]] = {
    "layer_norm": _of_layers,
    "rms_norm": _of_layers,
    "group_norm": _of_groups,
    "instance_norm": _of_instances,
    "batch_norm": _of_batches,
}
