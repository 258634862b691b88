"""Pointwise rules: which token the result of an elementwise operation belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, fx

from fxplain.capture import operation_name
from fxplain.tokens.analysis import Analysis, Tagged
from fxplain.tokens.arguments import arguments
from fxplain.tokens.each_place import blended_in, chosen, either_left
from fxplain.tokens.joining import Meeting
from fxplain.tokens.mixing import newer
from fxplain.tokens.neighbours import blended
from fxplain.tokens.scaling import multiplied, sunk, unmasked
from fxplain.tokens.scores import (
    becomes_scores,
    is_elementwise,
    less_a_threshold,
)
from fxplain.tokens.spreading import spread
from fxplain.tokens.summing import pairs_added, sums_added
from fxplain.tokens.tag import NO_TOKEN, Level, Tag, Tags, narrowed, numbers_of, pack
from fxplain.tokens.taken_off import weighed_sum, what_is_left
from fxplain.tokens.updates import AttentionSite

__all__ = ["is_returned", "masked", "pointwise"]

_CUTS = ("chunk", "split", "split_with_sizes", "tensor_split", "unbind", "select")
_FACTORS = ("mul", "multiply", "div", "divide", "true_divide")


def pointwise(a: Analysis, node: fx.Node) -> Tagged:
    """Join the operands' tags."""
    if less_a_threshold(a, node):
        return a.tags(node.args[0])
    speaking = _speaking(a, node)
    operands = [(tags, a.shape(n)) for n, tags in _gated(a, node, speaking)]
    if not operands:
        return ()
    whole = what_is_left(a, node, speaking)
    if whole is None and (_adds(node) or operation_name(node) == "lerp"):
        whole = (
            sums_added(a, node, speaking)
            or pairs_added(a, node, speaking)
            or weighed_sum(a, node, speaking)
            or blended_in(a, node, speaking)
            or either_left(a, speaking)
        )
    elif whole is None and operation_name(node) == "sub":
        whole = sums_added(a, node, speaking) or pairs_added(a, node, speaking)
    if whole is not None:
        return (whole,)
    joined = a.joiner.join(operands, a.shape(node), _meeting(a, node))
    learned = all(tag.level is Level.PARAMETER for tags, _ in operands for tag in tags)
    if a.joiner.lost and not learned:
        a.warn_of_mixing(node)
    if a.joiner.neighbours:
        joined = _with_neighbours(a, node, joined, a.joiner.neighbours)
    for tag in tuple(a.joiner.spread):
        joined = _heard(a, node, joined, tag)
    if _adds(node):
        return sunk(a, node, _started_bare(a, node, joined))
    return multiplied(a, node, _embedded(a, node, joined))


def _embedded(a: Analysis, node: fx.Node, tags: Tags) -> Tags:
    """The tags of a raw input's numbers that are each multiplied by a learned vector: tokens."""
    if operation_name(node) not in ("mul", "multiply") or len(tags) != 1 or len(node.args) < 2:
        return tags
    shape = a.shape(node)
    for value, vector in (node.args[:2], node.args[1::-1]):
        if not isinstance(value, fx.Node) or not isinstance(vector, fx.Node) or not a.tags(value):
            continue
        raw = tags[0].level is Level.RAW_INPUT and a.shape(value)[-1:] == (1,) != shape[-1:]
        learned = bool(a.tags(vector)) and all(t.level is Level.PARAMETER for t in a.tags(vector))
        numbers = numbers_of(tags[0], shape, len(shape) - 1) if raw and learned else []
        if numbers:
            return (newer(a, node, tags[0], tags[0].ids.expand(numbers)),)
    return tags


def _gated(a: Analysis, node: fx.Node, operands: Sequence[fx.Node]) -> list[tuple[fx.Node, Tags]]:
    """Operands with their tags: rows that weights have scaled are no weights beside other rows."""
    tagged = [(n, a.tags(n)) for n in operands]
    if _adds(node):
        tagged = _of_words(a, tagged)
    strong = [tags for _, tags in tagged if any(tag.level is Level.TOKEN for tag in tags)]
    alone = all(len(tags) == 1 for tags in strong)
    if not _adds(node) or not alone or all(tags[0].softmax for tags in strong):
        return tagged
    return [(n, tuple(replace(tag, softmax=None) for tag in tags)) for n, tags in tagged]


def _of_words(a: Analysis, tagged: list[tuple[fx.Node, Tags]]) -> list[tuple[fx.Node, Tags]]:
    """Operands of a sum: fixed vectors of an input's words are tokens beside other inputs' tokens.

    Beside that input's own words they are their places.
    """
    strong = [tag for _, tags in tagged for tag in tags if tag.level is Level.TOKEN]

    def word(tag: Tag) -> bool:
        if tag.level is not Level.RAW_INPUT or not tag.births:
            return False
        of = a.book.lineage(a.book.find(tag.tokens))
        return all(a.book.births[index].looked_up for index in tag.births) and any(
            tag.ids.shape == other.ids.shape
            and of.isdisjoint(a.book.lineage(a.book.find(other.tokens)))
            for other in strong
        )

    return [
        (n, tuple(replace(tag, level=Level.TOKEN) if word(tag) else tag for tag in tags))
        for n, tags in tagged
    ]


def _with_neighbours(a: Analysis, node: fx.Node, joined: Tags, neighbours: Tags) -> Tags:
    """The tags of a join, that of rows and their neighbours (moved rows of the same) made of both."""
    if not any(tag is neighbours[0] for tag in joined):
        a.warn_of_mixing(node)
        return joined
    (made,) = blended(a, node, neighbours)
    return tuple(made if tag is neighbours[0] else tag for tag in joined)


def _adds(node: fx.Node) -> bool:
    return operation_name(node) == "add"


def _speaking(a: Analysis, node: fx.Node) -> list[fx.Node]:
    """The operands that may name the result's tokens.

    A bare parameter names none where activations are: a bias or a factor of values whose tokens were
    lost does not make tokens of them, and what it multiplies it only scales: but for learned tokens,
    of which there are many where the activation is one.
    """
    tagged = [n for n in node.all_input_nodes if _is_tensor(n) and a.tags(n)]
    bare = [n for n in tagged if all(t.level is Level.PARAMETER for t in a.tags(n))]
    others = [n for n in tagged if n not in bare]
    if any(map(a.is_lost, node.all_input_nodes)):
        return others
    if not others or operation_name(node) not in _FACTORS:
        return tagged
    return tagged if _many_of_one(a, node, bare) else others


def _many_of_one(a: Analysis, node: fx.Node, bare: Sequence[fx.Node]) -> bool:
    """Whether rows of a sequence are made of one row of activations, scaled by each learned token."""
    shape = a.shape(node)
    if len(shape) != 3 or len(node.all_input_nodes) != 2 or len(bare) != 1:
        return False
    (other,) = (n for n in node.all_input_nodes if n not in bare)
    rows = (1,) * (3 - len(a.shape(other))) + tuple(a.shape(other))
    return any(
        rows[axis] == 1 and tag.varies(axis - 3)
        for tag in a.tags(bare[0])
        for axis in (0, 1)
        if axis - 3 >= -tag.ids.dim() and shape[2] > 1
    )


def _meeting(a: Analysis, node: fx.Node) -> Meeting:
    """What the operands are to each other, from what is done with them."""
    parts = [n for n in node.all_input_nodes if _is_tensor(n) and a.tags(n)]
    if len(parts) != 2:
        return Meeting.SAME_TOKENS
    if becomes_scores(a, node):
        return Meeting.SCORES
    name = operation_name(node)
    if name in ("mul", "multiply") or (name in ("add", "sub") and is_returned(node)):
        return Meeting.TOGETHER
    return Meeting.SUM if name == "add" and not _is_cut_up(node) else Meeting.SAME_TOKENS


def _is_cut_up(node: fx.Node) -> bool:
    """Whether rows along the second axis are only taken one by one: a scale, a shift, a gate."""
    return bool(node.users) and all(
        operation_name(user) in _CUTS and int(arguments(user).get("dim") or 0) in (1, -2)
        for user in node.users
    )


def is_returned(node: fx.Node) -> bool:
    """Whether a value of (batch, features) is an output as it is, but for scaling: heads' scores.

    A recurrence adds single tokens, too, but its states go on.
    """
    value = node.meta.get("val")
    if not isinstance(value, Tensor) or value.dim() > 2:
        return False
    steps = [user for user in node.users if user.op != "output"]
    return all(
        is_elementwise(user) and user.all_input_nodes == [node] and is_returned(user)
        for user in steps
    )


def _heard(a: Analysis, node: fx.Node, tags: Tags, source: Tag) -> Tags:
    """Tokens that fewer others reach, all at once (squeeze and excitation, a condition)."""
    if len(tags) == 1 and tags[0].softmax is None and source.softmax is None:
        return (spread(a, node, tags[0], source),)
    a.warn_of_mixing(node)
    return tags


def _started_bare(a: Analysis, node: fx.Node, tags: Tags) -> Tags:
    """Attention added to a residual stream that carries no token yet, as DETR's zero queries do.

    The stream is the tokens' own from its start, so the sum has the mark of identity.
    """
    if len(tags) != 1 or tags[0].softmax is not None:
        return tags
    version = tags[0].version
    heard = a.versions.of(version) if version is not None and version >= 0 else ()
    if not heard or not all(u >= 0 and isinstance(a.updates[u], AttentionSite) for u in heard):
        return tags
    shape = a.shape(node)
    bare = [
        n for n in node.all_input_nodes
        if _is_tensor(n) and not a.tags(n) and not a.is_parameter(n) and a.shape(n) == shape
    ]  # fmt: skip
    if not any(bool((a.value(n) == 0).all()) for n in bare):
        return tags
    return (tags[0].with_ids(pack(tags[0].tokens, a.versions.union(version, 0))),)


def masked(a: Analysis, node: fx.Node) -> Tagged:
    """``where`` and ``masked_fill``: as pointwise, but for what a constant mask hides.

    In skewed scores (banded attention) corners hold a neighbour's leftovers: they are no token's.
    """
    learned = chosen(a, node)
    if learned is not None:
        return (learned,)
    joined = unmasked(a, node, pointwise(a, node))
    named = arguments(node)
    mask = named.get("mask", named.get("condition"))
    if not _skewed(joined) or not isinstance(mask, fx.Node) or a.origins(mask):
        return joined
    hidden: Tensor = a.value(mask).cpu()
    if "condition" in named:
        kept, other = named["input"], named["other"]
        if bool(a.tags(kept)) == bool(a.tags(other)):
            return joined
        hidden = ~hidden if a.tags(kept) else hidden
    return tuple(_hidden(tag, hidden, a.shape(node)) for tag in joined)


def _hidden(tag: Tag, hidden: Tensor, shape: Sequence[int]) -> Tag:
    hidden = narrowed(hidden.expand(tuple(shape)))
    if any(n > tag.ids.shape[axis] for axis, n in enumerate(hidden.shape)):
        return tag
    return tag.with_ids(torch.where(hidden, NO_TOKEN, tag.ids))


def _is_tensor(node: fx.Node) -> bool:
    return isinstance(node.meta.get("val"), Tensor)


def _skewed(tags: Tags) -> bool:
    """Whether a query and a key tag vary along the same axes, since scores were laid out anew."""
    return len(tags) > 1 and len({tag.axes for tag in tags}) == 1 and len(tags[0].axes) > 1
