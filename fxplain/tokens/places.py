"""Places: tokens that are repeated within a sequence whose places then attend to each other.

A frame for every step that a word lasts, a finer grid from a coarser one, a text said twice: each
place is a token of its own from there on, made of the one that it repeats. Not so where copies are
heads, or go to experts and are summed again: nothing asks there what one copy says to another.
"""

from __future__ import annotations

import torch
from torch import Tensor, fx

from fxplain.capture import operation_name
from fxplain.tokens.analysis import Analysis, Tagged
from fxplain.tokens.copies import repeats
from fxplain.tokens.mixing import laid_out
from fxplain.tokens.op_table import moves
from fxplain.tokens.tag import Level, Tag, tokens_in
from fxplain.tokens.updates import AttentionSite
from fxplain.tokens.values import reached

__all__ = ["places_apart", "repeated_places"]


def repeated_places(a: Analysis) -> frozenset[fx.Node]:
    """The operations of a walk that repeat tokens within a sequence that goes on as one.

    It does where its places attend to each other, and what they hear is added to them.
    """
    sites = [u for u in a.updates if isinstance(u, AttentionSite)]
    sites = [u for u in sites if _stands_twice(a, u.rows, -2) and _stands_twice(a, u.columns, -1)]
    found: frozenset[fx.Node] = frozenset()
    for site in sites:
        repeating = [n for n in _before(site.output) if _repeats_within(a, n)]
        if repeating:
            hears = _behind(site.output)
            found |= {n for n in repeating if _goes_on(a, _behind(n) - hears, hears)}
    return found


def places_apart(a: Analysis, node: fx.Node, tags: Tagged) -> Tagged:
    """The tags of such an operation: each place a token of its own, made of the one that is there."""
    return tags if isinstance(tags, list) else tuple(laid_out(a, node, tag) for tag in tags)


def _repeats_within(a: Analysis, node: fx.Node) -> bool:
    """Whether an operation is the first that holds tokens several times along an axis of them."""
    tags = a.tags(node)
    if len(tags) != 1 or tags[0].level is not Level.TOKEN or tags[0].softmax is not None:
        return False
    if not _in_places(a, tags[0]):
        return False
    given = [n for n in node.all_input_nodes if not a.is_parameter(n)]
    sources = [tag for n in given for tag in a.tags(n)]
    fresh = bool(sources) and not any(_in_places(a, tag) for tag in sources)
    writes = operation_name(node) in _WRITES
    return fresh and (writes or repeats(a, node) or not moves(node))


_WRITES = (
    "index_put", "index_copy", "copy", "scatter", "slice_scatter", "select_scatter", "masked_scatter",
)  # fmt: skip


def _in_places(a: Analysis, tag: Tag) -> bool:
    return any(_stands_twice(a, tag.ids, axis) for axis in tag.axes)


def _stands_twice(a: Analysis, ids: Tensor, axis: int) -> bool:
    """Whether a token stands at several places along an axis, beside others of its sample."""
    if ids.shape[axis] < 2:
        return False
    along = a.book.find(tokens_in(ids)).movedim(axis, -1).sort(-1).values
    again = (along[..., 1:] == along[..., :-1]) & (along[..., 1:] >= 0)
    if not bool(again.any()):
        return False
    samples = a.book.samples(along)
    low = torch.where(samples < 0, samples.amax(-1, keepdim=True), samples).amin(-1)
    others = (along[..., -1] != along[..., 0]) & (low == samples.amax(-1))
    return bool((again & others.unsqueeze(-1)).any())


def _goes_on(a: Analysis, places: set[fx.Node], heard: set[fx.Node]) -> bool:
    """Whether what places hear is added to them."""
    return any(
        operation_name(node) == "add"
        and any(n in heard for n in node.all_input_nodes)
        and any(n in places and a.tags(n) for n in node.all_input_nodes)
        for node in heard
    )


def _before(node: fx.Node) -> set[fx.Node]:
    return reached(node, lambda n: n.all_input_nodes)


def _behind(node: fx.Node) -> set[fx.Node]:
    return reached(node, lambda n: n.users)
