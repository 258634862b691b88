"""Copies: attention that a model asks of the same tokens several times, as of a batch with itself.

A token that stands several times among an attention's queries may do so as heads, each with features
of its own, or as copies of all that it is. Heads come of an axis that is split, copies of one that is
repeated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, fx

from fxplain.capture import operation_name
from fxplain.tokens.analysis import Analysis, Tagged
from fxplain.tokens.each_place import are_whole
from fxplain.tokens.op_table import moves
from fxplain.tokens.scores import is_elementwise
from fxplain.tokens.tag import Level, Tag, tokens_in
from fxplain.tokens.updates import AttentionSite
from fxplain.tokens.values import content_inputs

__all__ = ["repeats", "spelled_out", "with_copies"]

_TOGETHER = frozenset(["cat", "concat", "stack"])
_REPEATS = frozenset(
    [
        "repeat",
        "repeat_interleave",
        "index",
        "index_select",
        "tile",
        "gather",
        "take_along_dim",
        "pad",
    ]
)


def spelled_out(a: Analysis, node: fx.Node, tags: Tagged) -> Tagged:
    """The tags of what a node repeats as a batch, with the tokens each time.

    A tag need not vary along an axis that all tokens have in front of them; what is laid out there
    could not be told from heads. Keys and values, which are repeated for heads, are projected before.
    """
    if not isinstance(tags, tuple) or not any(tag.level in _GIVEN for tag in tags):
        return tags
    broadcasts = is_elementwise(node) and not moves(node)
    if not (broadcasts or operation_name(node) in _EXPANDS or _repeats_whole(a, node)):
        return tags
    before = [n for n in content_inputs(node) if _of_tokens(a, n)]
    shape = a.shape(node)
    grown = [x for x in range(len(shape) - 1) if shape[x] > 1 and _is_new(a, x, shape, before)]
    for axis in grown:
        one = a.book.batch_size == 1 and axis in a.book.batch_axes
        tags = tuple(
            _along(tag, axis, shape[axis])
            if one or _is_of_members(a, tag, axis, shape, before)
            else tag
            for tag in tags
        )
    return tags


def _of_tokens(a: Analysis, node: fx.Node) -> bool:
    return not a.is_parameter(node) and any(tag.level in _GIVEN for tag in a.tags(node))


_GIVEN = (Level.TOKEN, Level.RAW_INPUT)


def _is_new(a: Analysis, axis: int, shape: Sequence[int], before: Sequence[fx.Node]) -> bool:
    """Whether values of tokens have had nothing along an axis until then."""
    from_end = axis - len(shape)
    shapes = [a.shape(n) for n in before]
    return bool(shapes) and all(len(own) < -from_end or own[from_end] == 1 for own in shapes)


def _is_of_members(
    a: Analysis, tag: Tag, axis: int, shape: Sequence[int], before: Sequence[fx.Node]
) -> bool:
    """Whether a new axis, in front of all tokens, holds them whole once for each of several members."""
    in_front = axis < min(tag.axes, default=0) and 1 not in shape[:axis]  # the axis of one sample
    return in_front and a.joiner.newborn(tag) and are_whole(a, before)


def _along(tag: Tag, axis: int, times: int) -> Tag:
    if tag.varies(axis) or tag.level not in _GIVEN:
        return tag
    return tag.with_ids(torch.cat([tag.ids] * times, axis))


def with_copies(a: Analysis) -> None:
    """Note at each attention site how many copies of its tokens ask and are heard in it."""
    sites = [u for u in a.updates if isinstance(u, AttentionSite)]
    if not any(_often(a, site.rows) > 1 for site in sites):
        return
    copies: dict[fx.Node, int] = {}
    for node in a.capture.graph.nodes:
        often = _of_node(a, node)
        if often > 1:
            copies[node] = _copies(a, node, often, copies)
    if not copies or max(copies.values()) == 1:
        return
    for site in sites:
        found = math.gcd(*(copies.get(asking, 1) for asking in _asking(a, site)))
        if _of_node(a, site.values) > 1:  # each copy may hear tokens of its own
            found = math.gcd(found, copies.get(site.values, 1))
        found = max(1, found // _places(a, site)) if found > 1 else 1
        a.updates[site.index] = replace(site, copies=found)


def _asking(a: Analysis, site: AttentionSite) -> list[fx.Node]:
    """The queries of a site, where they meet its keys; these, too, if they stand there as often."""
    often, node = _often(a, site.rows), site.softmax
    while len(a.tags(node)) > 1 or node is site.softmax:
        sources = [n for n in content_inputs(node) if _of_tokens(a, n)]
        single = [n for n in sources if len(a.tags(n)) == 1]
        if len(single) > 1 or len(sources) != 1:
            return [n for n in single if _of_node(a, n) == often] or [site.weights or site.node]
        (node,) = sources
    return [site.weights or site.node]


def _places(a: Analysis, site: AttentionSite) -> int:
    """How often a token stands in one map: what attends together is one sequence, not copies."""
    often = 1
    for ids in (site.rows.squeeze(-1), site.columns.squeeze(-2)):
        tokens = a.book.find(tokens_in(ids))
        of_map = torch.arange(math.prod(tokens.shape[:-1])).reshape(*tokens.shape[:-1], 1)
        real = tokens >= 0
        pairs = torch.stack([of_map.expand_as(tokens)[real], tokens[real]])
        count = pairs.unique(dim=1, return_counts=True)[1]
        often = max(often, int(count.max()) if count.numel() else 1)
    return often


def _copies(a: Analysis, node: fx.Node, often: int, copies: dict[fx.Node, int]) -> int:
    """How many copies a value is that holds its tokens so often."""
    sources = {n: _of_node(a, n) for n in map(_whole, content_inputs(node)) if a.tags(n)}
    alike = [copies.get(n, 1) for n, count in sources.items() if count == often]
    if alike:
        return math.gcd(*alike)
    before = max(sources.values(), default=1)
    known = math.gcd(*(copies.get(n, 1) for n in sources)) if sources else 1
    return known * (often // before) if often % before == 0 and repeats(a, node) else known


def _whole(node: fx.Node) -> fx.Node:
    """A value, or that which was cut into it and others."""
    return node if isinstance(node.meta.get("val"), Tensor) else node.all_input_nodes[0]


def _repeats_whole(a: Analysis, node: fx.Node) -> bool:
    return operation_name(node) in _REPEATS | _TOGETHER and repeats(a, node)


def repeats(a: Analysis, node: fx.Node) -> bool:
    """Whether an operation makes values of tokens appear again, whole."""
    name = operation_name(node)
    if name in _REPEATS:
        return True
    if name in _TOGETHER:
        parts = [n for n in content_inputs(node) if a.tags(n)]
        return len(parts) == 1 or len({_root(a, n) for n in parts}) == 1
    return _holds_copies(a, node)


_EXPANDS = frozenset(["expand", "expand_as", "broadcast_to"])


def _holds_copies(a: Analysis, node: fx.Node) -> bool:
    """Whether a value holds tokens several times since they were expanded, or met more of others."""
    while moves(node) or is_elementwise(node):
        sources = [n for n in content_inputs(node) if _of_tokens(a, n)]
        if len(sources) != 1:
            return False
        (source,) = sources
        grows = (is_elementwise(node) and not moves(node)) or operation_name(node) in _EXPANDS
        if grows and math.prod(a.shape(source)) < math.prod(a.shape(node)):
            return True
        node = source
    return False


def _root(a: Analysis, node: fx.Node) -> fx.Node:
    """The value that another is but for what keeps all of its features, in whatever order."""
    while is_elementwise(node) or moves(node):
        sources = [n for n in content_inputs(node) if _of_tokens(a, n)]
        if len(sources) != 1 or math.prod(a.shape(sources[0])) != math.prod(a.shape(node)):
            break
        node = sources[0]
    return node


def _of_node(a: Analysis, node: fx.Node) -> int:
    return max((_often(a, tag.ids) for tag in a.tags(node)), default=0)


def _often(a: Analysis, ids: Tensor) -> int:
    """How often a value holds each of its tokens, if all as often; 1 where they differ."""
    tokens = a.book.find(tokens_in(ids)).flatten()
    tokens = tokens[tokens >= 0]
    if not tokens.numel():
        return 1
    count = tokens.unique(return_counts=True)[1]
    return int(count[0]) if bool((count == count[0]).all()) else 1
