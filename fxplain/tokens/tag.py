"""Tags: for every element of a value, the token that it belongs to and what that token has absorbed.

A tag has as many axes as its value, each either of the value's size or 1 where the tag does not
vary, so it costs O(tokens) however wide the features are. An entry packs a token id (low 32 bits)
and a version index (high bits, see `fxplain.tokens.versions`); -1 means "no token".
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cached_property

import torch
from torch import Tensor, fx

__all__ = [
    "NO_TOKEN",
    "Level",
    "Tag",
    "Tags",
    "broadcast_shape",
    "compact",
    "narrowed",
    "numbers_of",
    "of_one_token",
    "pack",
    "tokens_in",
    "versions_in",
    "whole_tokens",
    "without_askers",
]

NO_TOKEN = -1
_BITS = 32
_MASK = (1 << _BITS) - 1


class Level(IntEnum):
    """How strongly a tag claims a value: when two are joined, the stronger one stays.

    A parameter's rows (position embeddings, biases) vanish against anything; a float input that no
    weight has touched yet (a float mask) vanishes against tokens; a parameter that was projected or
    put into a sequence (CLS, object queries) is a token unless it is added to an input's token. An
    input that labels the tokens of several others (a time step that is added to each) is absorbed by
    them; alone it is a token.
    """

    PARAMETER = 0
    RAW_INPUT = 1
    PARAMETER_TOKEN = 2
    LABEL = 3
    TOKEN = 4


def pack(tokens: Tensor, versions: Tensor | int) -> Tensor:
    """Tag entries from token ids and version indices (where the id is -1, no token)."""
    packed = tokens + (torch.as_tensor(versions) << _BITS)
    return torch.where(tokens < 0, torch.full_like(packed, NO_TOKEN), packed)


def tokens_in(ids: Tensor) -> Tensor:
    """The token ids of tag entries (-1 where there is none)."""
    return torch.where(ids < 0, ids, ids & _MASK)


def versions_in(ids: Tensor) -> Tensor:
    """The version indices of tag entries (-1 where there is no token)."""
    return ids >> _BITS


@dataclass(frozen=True, eq=False)
class Tag:
    """One token per element of a value.

    Attributes
    ----------
    ids
        Packed entries, int64, as many axes as the value; size 1 where the tag does not vary.
    level
        How strongly the tag claims the value.
    softmax
        The softmax that normalised the value, as long as the value may be attention weights.
    carried
        Whether the value also holds something of the tokens' neighbours (a recurrence's state).
    births
        The births whose tokens the value holds as they were born; empty where that is not known.
    """

    ids: Tensor
    level: Level = Level.TOKEN
    softmax: fx.Node | None = None
    carried: bool = False
    births: frozenset[int] = frozenset()

    @cached_property
    def tokens(self) -> Tensor:
        """The token ids, -1 where there is none."""
        return tokens_in(self.ids)

    @cached_property
    def version(self) -> int | None:
        """The version of all entries, or None where they differ."""
        if not self.ids.numel():
            return NO_TOKEN
        versions = versions_in(self.ids)
        low, high = int(versions.min()), int(versions.max())
        if low == high:
            return low
        known = versions[versions >= 0]
        return high if int(known.min()) == high else None

    @property
    def axes(self) -> frozenset[int]:
        """The axes along which the tag varies."""
        return frozenset(axis for axis, size in enumerate(self.ids.shape) if size > 1)

    @property
    def learned(self) -> bool:
        """Whether it is a parameter's, bare or projected."""
        return self.level in (Level.PARAMETER, Level.PARAMETER_TOKEN)

    def varies(self, axis: int) -> bool:
        """Whether the tag varies along `axis`."""
        return self.ids.shape[axis] > 1

    def with_ids(self, ids: Tensor) -> Tag:
        """The same claim on other entries."""
        return replace(self, ids=ids)

    # -- movement ---------------------------------------------------------------------------------

    def full(self, shape: Sequence[int], axes: Iterable[int]) -> Tensor:
        """The entries with the given axes expanded to the value's sizes (no copy)."""
        sizes = list(self.ids.shape)
        for axis in axes:
            sizes[axis] = shape[axis]
        return self.ids.expand(sizes)

    def moved(self, op: Callable[[Tensor], Tensor], shape: Sequence[int]) -> Tag:
        """The tag after a view-like `op`: run on the expanded entries, which copies nothing."""
        return self.with_ids(compact(op(self.ids.expand(tuple(shape)))))

    def reshaped(self, old: Sequence[int], new: Sequence[int]) -> Tag:
        """The tag of a value reshaped from `old` to `new`; constant axes stay constant."""
        return self.with_ids(_reshape(self.ids, tuple(old), tuple(new)))


Tags = tuple[Tag, ...]


def numbers_of(tag: Tag, shape: Sequence[int], axis: int) -> list[int]:
    """The shape of a raw input's numbers, where each row has several that are no token as yet.

    A number that is embedded by itself, along `axis`, is a token; [] where numbers are features.
    """
    rest = [i for i in range(len(shape)) if i != axis]
    several = any(shape[i] > 1 and not tag.varies(i) for i in rest[1:])
    return [1 if i == axis else n for i, n in enumerate(shape)] if several else []


def whole_tokens(tags: Tags, others: Tags, shape: Sequence[int]) -> Tags:
    """Learned tokens of which each head has features of its own are one token, not one for each head.

    A head is an axis (before rows and features) along which the tokens that they meet have features.
    """
    if not others:
        return tags
    heads = [
        axis
        for axis in range(len(shape) - 2)
        if shape[axis] > 1 and not any(tag.varies(axis) for tag in others)
    ]
    for axis in heads:
        tags = of_one_token(tags, axis)
    return tags


def of_one_token(tags: Tags, axis: int) -> Tags:
    """Parameters whose elements along `axis` turn out to be one token's features."""
    return tuple(
        tag.with_ids(tag.ids.narrow(axis, 0, 1)) if tag.learned and tag.varies(axis) else tag
        for tag in tags
    )


def without_askers(tags: Tags) -> Tags:
    """Scores of a token's own states (its layers, streams) are its own, not the learned query's.

    Over tokens the same scores are attention, whose queries are tokens.
    """
    asked = tuple(tag for tag in tags if tag.level is not Level.PARAMETER_TOKEN)
    return asked or tags


def compact(ids: Tensor) -> Tensor:
    """Narrow every axis of stride 0 to size 1 (no value is looked at)."""
    for axis in range(ids.dim()):
        if ids.stride(axis) == 0 and ids.shape[axis] > 1:
            ids = ids.narrow(axis, 0, 1)
    return ids


def broadcast_shape(shapes: Iterable[Sequence[int]]) -> tuple[int, ...]:
    """The shape that all of `shapes` broadcast to."""
    return tuple(torch.broadcast_shapes(*(tuple(s) for s in shapes)))


def _reshape(ids: Tensor, old: tuple[int, ...], new: tuple[int, ...]) -> Tensor:
    """Split the old axes into the parts that both shapes are made of, then merge the new axes.

    Only what varies is expanded: (batch, heads x width) to (batch x heads, width) costs the batch and
    the heads, not the width.
    """
    parts = _common_parts(old, new)
    if parts is None:
        return narrowed(ids.expand(old).reshape(new))
    split: list[int] = []
    for axis, sizes in enumerate(parts[0]):
        split += [1] * len(sizes) if ids.shape[axis] == 1 else sizes
    parted = any(n > 1 and len(sizes) > 1 for n, sizes in zip(ids.shape, parts[0], strict=True))
    ids = narrowed(ids.reshape(split)) if parted else ids.reshape(split)
    expand: list[int] = []
    merged: list[int] = []
    position = 0
    for sizes in parts[1]:
        here = ids.shape[position : position + len(sizes)]
        varies = any(n > 1 for n in here)
        expand += sizes if varies else [1] * len(sizes)
        merged.append(math.prod(sizes) if varies else 1)
        position += len(sizes)
    return ids.expand(expand).reshape(merged)


def _common_parts(
    old: tuple[int, ...], new: tuple[int, ...]
) -> tuple[list[list[int]], list[list[int]]] | None:
    """For each axis of both shapes, the sizes of the common parts that it consists of, if any."""
    cuts = sorted({*_cuts(old), *_cuts(new)})
    if 0 in cuts or any(b % a for a, b in itertools.pairwise(cuts)):
        return None
    return _parts(old, cuts), _parts(new, cuts)


def _cuts(shape: tuple[int, ...]) -> list[int]:
    """Products of the trailing sizes: where the axes begin in the flattened order."""
    return list(itertools.accumulate(reversed(shape), operator.mul, initial=1))


def _parts(shape: tuple[int, ...], cuts: list[int]) -> list[list[int]]:
    result: list[list[int]] = []
    low = 1
    for size in reversed(shape):
        within = [c for c in cuts if low <= c <= low * size]
        result.append([b // a for a, b in itertools.pairwise(within)][::-1])
        low *= size
    return result[::-1]


def narrowed(ids: Tensor) -> Tensor:
    """Narrow every axis along which the entries turn out constant."""
    for axis in range(ids.dim()):
        if ids.shape[axis] > 1 and bool((ids == ids.narrow(axis, 0, 1)).all()):
            ids = ids.narrow(axis, 0, 1)
    return ids
