"""Maps by fixed weights: linear layers and convolutions, where tokens are born or mixed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx

from fxplain.tokens.analysis import Analysis, Tagged
from fxplain.tokens.arguments import arguments
from fxplain.tokens.mixing import mix, mix_along, newer, slide, united_along
from fxplain.tokens.neighbours import own_of_neighbours
from fxplain.tokens.resampling import transposed_convolution
from fxplain.tokens.tag import Level, Tag, Tags, numbers_of, pack, tokens_in

__all__ = [
    "convolution", "linear", "mapped", "matrix_of", "rows_of_weights", "rows_settled", "weights_of",
]  # fmt: skip


# -- linear maps ----------------------------------------------------------------------------------


def linear(a: Analysis, node: fx.Node) -> Tagged:
    """A linear layer over the last axis."""
    source, weight = node.args[0], node.args[1]
    assert isinstance(source, fx.Node)
    axis = len(a.shape(source)) - 1
    tags = a.tags(source) or a.untouched(source)
    rows = rows_of_weights(a, tags, axis + 1)
    if rows and any(tag.varies(axis) for tag in tags):  # weights over a learned table
        return rows
    vector = len(a.shape(node)) <= axis  # one output, without an axis of its own
    made = mapped(
        a,
        node,
        tags,
        a.shape(source),
        axis,
        lambda: matrix_of(a, weight, transposed=False),
        1 if vector else None,
    )
    if not vector:
        return made
    return tuple(tag.with_ids(tag.ids.narrow(axis, 0, 1).squeeze(axis)) for tag in made)


def weights_of(tags: Sequence[Tag]) -> fx.Node | None:
    """The softmax behind attention weights, if the value holds such."""
    return next((tag.softmax for tag in tags if tag.softmax is not None), None)


def rows_of_weights(a: Analysis, tags: Tags, rank: int) -> Tags:
    """The query tags of attention weights that meet a learned table.

    The product carries no token, not even the query: what it says, it says of the weights.
    """
    if not weights_of(tags):
        return ()
    if not any(tag.varies(rank - 1) for tag in tags):  # a table of heads, which are weights still
        return tags
    nothing = a.versions.intern(frozenset())
    rows = (t for t in map(rows_settled, tags) if not t.varies(rank - 1))
    return tuple(replace(t, ids=pack(t.tokens, nothing), softmax=None) for t in rows)


def rows_settled(tag: Tag) -> Tag:
    """A query tag that skewing made vary along the keys, where it names one query for each row."""
    row = tag.ids.amax(-1, keepdim=True)
    same = (tag.ids == row) | (tag.ids < 0)
    return tag.with_ids(row) if tag.ids.shape[-1] > 1 and bool(same.all()) else tag


def mapped(
    a: Analysis,
    node: fx.Node,
    tags: Tags,
    shape: Sequence[int],
    axis: int,
    weights: Callable[[], Tensor],
    size: int | None = None,
    *,
    given: bool = False,
) -> Tags:
    """A linear map along `axis` by fixed weights (outputs x inputs); `size` counts the outputs.

    Where the weights were `given` with the input (masks, groups of words) each output is pooled from
    tokens of its own; a learned map of tokens side by side is a layer, and makes one of them.
    """
    size = a.shape(node)[axis] if size is None else size
    result = []
    for tag in a.joiner.promoted(tags):
        if len(tags) == 1:  # of a query and its key nothing is left: a gated value, no weights
            tag = replace(tag, softmax=None)
        raw = _is_raw(tag, tags)
        if raw and shape[axis] == 1 and (numbers := numbers_of(tag, shape, axis)):
            tag = newer(a, node, tag, tag.ids.expand(numbers))
        elif tag.varies(axis):
            if not raw and (given or _holds_sequence(a, tag, shape, axis)):
                result.append(mix_along(a, node, tag, axis, size, weights))
                continue
            groups = tag.ids.movedim(axis, -1)
            lead = [n for i, n in enumerate(shape) if i != axis] if raw else None
            own = None if raw else own_of_neighbours(a, groups)
            mixed = mix(
                a, node, tag, groups, lead=lead, keep=own, neighbours=own is not None, raw=raw
            )
            tag = Tag(mixed.ids.unsqueeze(axis), mixed.level, births=mixed.births)
        result.append(tag)
    return tuple(result)


def _holds_sequence(a: Analysis, tag: Tag, shape: Sequence[int], axis: int) -> bool:
    """Whether `axis` is a sequence whose features are on another axis, not tokens side by side."""
    if not any(size > 1 and not tag.varies(i) for i, size in enumerate(shape) if i != axis):
        return False
    tokens = a.book.find(tag.tokens).movedim(axis, -1).flatten(0, -2).sort(-1).values
    return bool((tokens[:, 1:] != tokens[:, :-1]).all())


def matrix_of(a: Analysis, weight: Any, *, transposed: bool) -> Tensor:
    """The absolute weights of a linear map, (..., outputs, inputs)."""
    matrix: Tensor = a.value(weight).detach().cpu().double().abs()
    if matrix.dim() == 1:
        return matrix.unsqueeze(0)  # one output
    return matrix.transpose(-1, -2) if transposed else matrix


def _is_raw(promoted: Tag, tags: Tags) -> bool:
    return any(tag.level is Level.RAW_INPUT and tag.ids is promoted.ids for tag in tags)


def convolution(a: Analysis, node: fx.Node) -> Tagged:
    """A convolution: over channels a linear map, over the grid a sliding window."""
    named = arguments(node)
    if named.get("transposed"):
        return transposed_convolution(a, node)
    source, weight = named["input"], named["weight"]
    shape, kernel = a.shape(source), a.shape(weight)[2:]
    count = len(kernel)
    axes = list(range(len(shape) - count, len(shape)))
    channel = len(shape) - count - 1

    def per_axis(name: str, default: int) -> list[int]:
        value = named.get(name, default)
        sizes = [value] if isinstance(value, int) else list(value)
        return sizes * count if len(sizes) == 1 else sizes

    padding = _padding(named.get("padding", 0), kernel, per_axis("dilation", 1), per_axis)
    result = []
    raw = a.tags(source) or a.untouched(source)
    for tag in a.joiner.promoted(raw):
        if named.get("groups", 1) == shape[channel] > 1 and all(shape[x] == 1 for x in axes):
            result.append(_each_by_itself(a, node, tag, channel))
            continue
        numbers = shape[channel] == 1 and all(k == 1 for k in kernel) and _repeats(tag)
        if _frames(tag, raw, channel, axes) or (numbers and _is_raw(tag, raw)):
            result.append(_grid_births(a, node, tag, channel))
            continue
        if tag.varies(channel) and named.get("groups", 1) != 1:
            tag = united_along(
                a, tag, channel
            )  # states of one token, as channels beside each other
        elif tag.varies(channel):  # tokens as channels, as in a spatial gating unit
            (tag,) = mapped(a, node, (tag,), shape, channel, lambda: _kernel(a, weight).sum(-1))
        result.append(
            slide(a, node, tag, shape, axes, list(kernel), per_axis("stride", 1), padding,
                  per_axis("dilation", 1), lambda: _kernel_shares(a, weight),
                  raw=_is_raw(tag, raw))
        )  # fmt: skip
    return tuple(result)


def _each_by_itself(a: Analysis, node: fx.Node, tag: Tag, channel: int) -> Tag:
    """Channels without neighbours that each have weights of their own, as a table's columns may."""
    if not tag.varies(channel):
        return tag
    return tag.with_ids(
        tag.ids.repeat_interleave(a.shape(node)[channel] // tag.ids.shape[channel], channel)
    )


def _frames(tag: Tag, raw: Tags, channel: int, axes: Sequence[int]) -> bool:
    """Whether a raw input's convolution runs along what was taken for features: (B, mel, time)."""
    return _is_raw(tag, raw) and (tag.varies(channel) or not any(tag.varies(x) for x in axes))


def _repeats(tag: Tag) -> bool:
    """Whether tokens of a value are in several places of it (a row's numbers, laid out as a line)."""
    return len(tag.tokens.unique()) < tag.ids.numel()


def _grid_births(a: Analysis, node: fx.Node, tag: Tag, channel: int) -> Tag:
    """One new token for every position of a convolution's output grid."""
    out = a.shape(node)
    sample = tag.ids.amax(tuple(range(1, len(out))), keepdim=True)
    sizes = [1 if axis == channel else n for axis, n in enumerate(out)]
    if any(n > 1 for axis, n in enumerate(sizes) if axis):
        return newer(a, node, tag, sample.expand(sizes))
    tokens = tokens_in(torch.where(tag.ids < 0, torch.iinfo(torch.int64).max, tag.ids))
    first = tokens.amin(tuple(range(1, len(out))), keepdim=True)  # all that there is, at once
    return newer(a, node, tag, sample, torch.where(sample < 0, sample, first))


def _padding(
    value: object,
    kernel: Sequence[int],
    dilation: Sequence[int],
    per_axis: Callable[[str, int], list[int]],
) -> list[tuple[int, int]]:
    """How much each axis is padded before and behind."""
    if value == "same":
        wide = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return [(n // 2, n - n // 2) for n in wide]
    if value == "valid":
        return [(0, 0)] * len(kernel)
    return [(n, n) for n in per_axis("padding", 0)]


def _kernel_shares(a: Analysis, weight: fx.Node) -> Tensor:
    """How much each tap of a kernel weighs: the sum of its absolute weights over all channels."""
    return _kernel(a, weight).sum((0, 1))


def _kernel(a: Analysis, weight: fx.Node) -> Tensor:
    """A kernel's absolute weights: (outputs, inputs, taps)."""
    kernel: Tensor = a.value(weight).detach().cpu().double()
    return kernel.abs().flatten(2)
