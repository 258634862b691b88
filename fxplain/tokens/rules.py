"""Rules of the table that are neither movement, contraction nor reduction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, fx

from fxplain.capture import module_path
from fxplain.tokens.analysis import Analysis, Tagged
from fxplain.tokens.arguments import arguments
from fxplain.tokens.lookups import integers_looked_up
from fxplain.tokens.mixing import mix
from fxplain.tokens.pointwise import pointwise
from fxplain.tokens.reductions import dropped
from fxplain.tokens.tag import NO_TOKEN, Level

__all__ = [
    "as_complex", "as_real", "crossed", "drawn", "gated", "item", "keep", "keep_first", "kronecker",
    "no_tokens", "triangular", "unknown",
]  # fmt: skip


def no_tokens(_a: Analysis, _node: fx.Node) -> Tagged:
    """Fresh tensors (zeros, ranges, noise) belong to no token."""
    return ()


def drawn(a: Analysis, node: fx.Node) -> Tagged:
    """Random numbers: what says how they are drawn is no part of them."""
    named = arguments(node)
    said = [named[name] for name in ("mean", "std", "p") if isinstance(named.get(name), fx.Node)]
    if not any(name in named for name in ("mean", "std", "p")):
        said = [named["input"]]  # probabilities
    if any(tag.level > Level.RAW_INPUT for source in said for tag in a.tags(source)):
        a.warn(f"{_where(node)} draws from what tokens say: its result is taken to carry no token")
    return ()


def keep(a: Analysis, node: fx.Node) -> Tagged:
    """The value keeps its tokens: casts, dropout, gates, normalisation over features."""
    return a.tags(node.all_input_nodes[0]) or integers_looked_up(a, node)


def keep_first(a: Analysis, node: fx.Node) -> Tagged:
    """As `keep`, for operations that return statistics beside the value."""
    return [a.tags(node.args[0])]


def as_real(a: Analysis, node: fx.Node) -> Tagged:
    """A complex number as two real ones, on a new last axis."""
    return tuple(tag.with_ids(tag.ids.unsqueeze(-1)) for tag in keep(a, node))


def as_complex(a: Analysis, node: fx.Node) -> Tagged:
    """Pairs of real numbers, the last axis, as complex ones."""
    return tuple(
        mix(a, node, tag, tag.ids)
        if tag.varies(tag.ids.dim() - 1)
        else dropped(tag, [tag.ids.dim() - 1])
        for tag in keep(a, node)
    )


def gated(a: Analysis, node: fx.Node) -> Tagged:
    """``glu``: one half of an axis opens and closes the other."""
    source = node.all_input_nodes[0]
    shape, half = a.shape(source), a.shape(node)
    axis = int(arguments(node)["dim"]) % len(shape)
    if not any(tag.varies(axis) for tag in a.tags(source)):
        return a.tags(source)
    halves = [
        tuple(
            tag.with_ids(tag.ids.narrow(axis, start, half[axis])) if tag.varies(axis) else tag
            for tag in a.tags(source)
        )
        for start in (0, half[axis])
    ]
    return a.joiner.join([(tags, half) for tags in halves], half)


def item(a: Analysis, node: fx.Node) -> Tagged:
    """One of several outputs."""
    source, index = node.args[0], node.args[1]
    assert isinstance(source, fx.Node)
    assert isinstance(index, int)
    return a.tags_of_item(source, index)


def triangular(a: Analysis, node: fx.Node) -> Tagged:
    """``tril`` and ``triu``: what is left of a matrix; rows of nothing but zeros belong to no token."""
    shape, target = a.shape(node), cast(Callable[..., Tensor], node.target)
    kept = target(torch.ones(shape[-2:]), *a.value(node.args[1:]), **a.value(node.kwargs)) > 0
    made = []
    for tag in keep(a, node):
        rest = [axis for axis in (-2, -1) if tag.ids.shape[axis] == 1]
        told = kept.any(rest, keepdim=True) if rest else kept
        made.append(tag.with_ids(torch.where(told, tag.ids, NO_TOKEN)))
    return tuple(made)


def crossed(a: Analysis, node: fx.Node) -> Tagged:
    """A cross product, along an axis of three features."""
    tags, rank = pointwise(a, node), len(a.shape(node))
    dim = arguments(node).get("dim")
    axis = a.shape(node).index(3) if dim is None else int(dim) % rank
    if any(tag.varies(axis) for tag in tags):
        a.warn_of_mixing(node)
        return ()
    return tags


def kronecker(a: Analysis, node: fx.Node) -> Tagged:
    """Every number of one value times every number of another (``kron``), in blocks of the latter."""
    shape = a.shape(node)
    operands = []
    for number, source in enumerate(node.args[:2]):
        assert isinstance(source, fx.Node)
        own, tags = a.shape(source), a.tags(source)
        lead = (1,) * (len(shape) - len(own))
        times = [new // max(old, 1) for new, old in zip(shape, (*lead, *own), strict=True)]
        enlarged = tuple(
            tag.with_ids(
                _enlarged(tag.ids.reshape(*lead, *tag.ids.shape), times, blocks=not number)
            )
            for tag in tags
        )
        if enlarged:
            operands.append((enlarged, shape))
    if len(operands) == 2 and all(tag.learned for tags, _ in operands for tag in tags):
        return ()  # a weight made of weights
    joined = a.joiner.join(operands, shape)
    if a.joiner.lost:
        a.warn_of_mixing(node)
    return joined


def _enlarged(ids: Tensor, times: Sequence[int], *, blocks: bool) -> Tensor:
    """Entries that stand so often along each axis, one after the other or all together."""
    for axis, count in enumerate(times):
        if ids.shape[axis] > 1 and count > 1:
            ids = ids.repeat_interleave(count, axis) if blocks else torch.cat([ids] * count, axis)
    return ids


def _where(node: fx.Node) -> str:
    return f"{node.target} in {module_path(node) or 'the model'}"


def unknown(a: Analysis, node: fx.Node) -> Tagged:
    """An operation without a row: kept where shapes allow it, and said so."""
    tagged = [n for n in node.all_input_nodes if a.tags(n)]
    if not tagged:
        return ()
    value = node.meta.get("val")
    if all(tag.level is Level.PARAMETER for n in tagged for tag in a.tags(n)):
        same = [n for n in tagged if a.shape(n) == a.shape(node)]
        return a.tags(same[0]) if same else ()  # a weight made of weights (a norm, a product)
    where = _where(node)
    if isinstance(value, Tensor):
        same = [n for n in tagged if a.shape(n) == a.shape(node)]
        if same:
            a.warn(
                f"{where} has no row in the operation table: each token is taken to keep its place"
            )
            return a.joiner.join([(a.tags(n), a.shape(n)) for n in same], a.shape(node))
        lead = [n for n in tagged if a.shape(n)[:-1] == a.shape(node)[:-1]]
        if lead and all(not t.varies(len(a.shape(lead[0])) - 1) for t in a.tags(lead[0])):
            a.warn(
                f"{where} has no row in the operation table: each token is taken to keep its row"
            )
            return a.tags(lead[0])
    a.warn(f"{where} has no row in the operation table: its result is taken to carry no token")
    return ()
