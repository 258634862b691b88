"""Scaling: what is left of a token's row once something that belongs to no token has multiplied it.

A mask, ``1 / n``, a window function: a sum over the rows reads each by its factor, and one whose
factor is 0 not at all (`fxplain.tokens.versions.Scaling`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, fx

from fxplain.capture import operation_name
from fxplain.tokens.analysis import Analysis
from fxplain.tokens.arguments import arguments
from fxplain.tokens.tag import Level, Tag, Tags, pack, tokens_in, versions_in
from fxplain.tokens.versions import Scaling

__all__ = ["is_factor", "multiplied", "sunk", "unmasked"]

_DIVIDES = ("div", "divide", "true_divide")
_MULTIPLIES = ("mul", "multiply")
_SUNK = -1e3
"""What is added to a row, for nothing of it to be left beside others: to be no maximum."""


def multiplied(a: Analysis, node: fx.Node, tags: Tags) -> Tags:
    """The tags of a product or quotient, scaled by the operand that belongs to no token."""
    name = operation_name(node)
    parts = node.args[:2]
    if name not in (*_DIVIDES, *_MULTIPLIES) or len(parts) != 2:
        return tags
    divides = name in _DIVIDES
    for value, factor in (parts,) if divides else (parts, parts[::-1]):
        if isinstance(value, fx.Node) and isinstance(factor, fx.Node) and is_factor(a, factor):
            return _scaled(a, node, tags, factor, lambda x: 1 / x if divides else x)
    return tags if divides else _scaled_as(a, tags, [a.tags(part) for part in parts])


def _scaled_as(a: Analysis, tags: Tags, parts: Sequence[Tags]) -> Tags:
    """The tags of a product of activations: what has scaled one of them (a masked gate) scales it."""
    versions = torch.cat([versions_in(tag.ids).unique() for part in parts for tag in part]).tolist()
    scaled = {version for version in versions if a.versions.is_scaled(version)}
    if len(tags) != 1 or not scaled:
        return tags
    before = versions_in(tags[0].ids)
    made = before.clone()
    for version in before.unique().tolist():
        if version >= 0:
            made[before == version] = a.versions.scaled_as(version, scaled)
    return (tags[0].with_ids(pack(tags[0].tokens, made)),)


def unmasked(a: Analysis, node: fx.Node, tags: Tags) -> Tags:
    """The tags of what ``where`` and ``masked_fill`` keep; the rest is a constant in every row."""
    if not tags:
        return tags
    named = arguments(node)
    mask = named.get("mask", named.get("condition"))
    if not isinstance(mask, fx.Node):
        return tags
    if "condition" not in named:
        return _scaled(a, node, tags, mask, lambda x: ~x.bool())
    of_tokens = [bool(a.tags(named[side])) for side in ("input", "other")]
    if all(of_tokens):
        return tags
    return _scaled(a, node, tags, mask, lambda x: x.bool() if of_tokens[0] else ~x.bool())


def sunk(a: Analysis, node: fx.Node, tags: Tags) -> Tags:
    """The tags of rows that an additive mask was put on: hidden ones are no longer read."""
    masks = [n for n in node.args[:2] if isinstance(n, fx.Node) and a.origins(n)]
    masks = [
        n for n in masks if is_factor(a, n) and a.shape(n)[-1:] == (1,)
    ]  # one for all features
    if len(tags) != 1 or tags[0].level is not Level.TOKEN or tags[0].softmax or len(masks) != 1:
        return tags
    (mask,) = masks
    if bool((a.value(mask) > _SUNK).all()):
        return tags
    return _scaled(a, node, tags, mask, lambda x: x > _SUNK)


def is_factor(a: Analysis, node: fx.Node) -> bool:
    """Whether a value is known without any token: it is no activation, whatever it depends on."""
    if a.is_lost(node) or not isinstance(node.meta.get("val"), Tensor):
        return False  # an activation, or one number for all
    return all(tag.level in (Level.PARAMETER, Level.RAW_INPUT) for tag in a.tags(node))


def _scaled(
    a: Analysis, node: fx.Node, tags: Tags, factor: fx.Node, read: Callable[[Tensor], Tensor]
) -> Tags:
    shape = a.shape(factor)
    missing = len(a.shape(node)) - len(shape)
    varies = [missing + axis for axis, size in enumerate(shape) if size > 1]

    def factors() -> Tensor:
        found = read(a.value(factor).detach().cpu()).double().abs()
        return found.reshape((1,) * missing + tuple(found.shape))

    grouped = _group_axis(a, node, tags, factor, varies) if len(tags) == 1 else None
    if grouped is not None and bool(((made := factors()) == 0).logical_or(made == 1).all()):
        groups = made.unbind(grouped)
        return (
            _of_each_group(a, tags[0], factor, grouped, [g.unsqueeze(grouped) for g in groups]),
        )
    return tuple(
        _rescaled(a, tag, factor, factors) if any(map(tag.varies, varies)) else tag for tag in tags
    )


_MANY = 64
"""More groups of tokens than are told apart by what a mask leaves each of."""


def _group_axis(
    a: Analysis, node: fx.Node, tags: Tags, factor: fx.Node, varies: Sequence[int]
) -> int | None:
    """The axis along which a mask that came with the input lays out groups of the same rows.

    It is the mask's alone: what is masked is the same along it.
    """
    shape, (tag,) = a.shape(node), tags
    if any(t.level is Level.PARAMETER for t in a.tags(factor)):
        return None
    masked = [n for n in node.all_input_nodes if n is not factor and a.tags(n)]
    shapes = [(1,) * (len(shape) - len(a.shape(n))) + tuple(a.shape(n)) for n in masked]
    if not any(map(tag.varies, varies)) or tag.level is not Level.TOKEN or tag.softmax:
        return None
    new = [x for x in varies if not tag.varies(x) and all(own[x] == 1 for own in shapes)]
    rows = [x for x in varies if tag.varies(x) and x not in a.book.batch_axes]
    apart = len(new) == 1 and bool(rows) and shape[new[0]] <= _MANY
    return new[0] if apart and new[0] not in a.book.batch_axes else None


def _of_each_group(
    a: Analysis, tag: Tag, factor: fx.Node, axis: int, groups: Sequence[Tensor]
) -> Tag:
    """The tag of rows that are laid out once for each group, scaled by what is left of each there."""
    made = [_rescaled(a, tag, factor, _known(g), group=i) for i, g in enumerate(groups)]
    return tag.with_ids(torch.cat([one.ids for one in made], axis))


def _known(factors: Tensor) -> Callable[[], Tensor]:
    return lambda: factors


def _rescaled(
    a: Analysis, tag: Tag, factor: fx.Node, factors: Callable[[], Tensor], group: int = -1
) -> Tag:
    ids = tag.ids

    def by_row() -> Tensor:
        found = factors()
        features = [x for x, n in enumerate(found.shape) if n > 1 and ids.shape[x] == 1]
        return found.mean(features, keepdim=True) if features else found

    made_of = Scaling(lambda: a.book.find(tokens_in(ids)), by_row)
    scaling = a.scaling((factor, group), ids, made_of)
    versions = versions_in(ids)
    made = versions.clone()
    for version in versions.unique().tolist():
        if version >= 0:
            made[versions == version] = a.versions.scale(version, scaling)
    return tag.with_ids(pack(tag.tokens, made))
