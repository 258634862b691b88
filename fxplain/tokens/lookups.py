"""Lookups: rows of a learned table, picked by integers. Those of an input are its tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from fxplain.capture import module_path
from fxplain.tokens.analysis import Analysis, Tagged
from fxplain.tokens.arguments import arguments
from fxplain.tokens.tag import Level, Tag, Tags

__all__ = ["bag", "embedding", "looked_up"]


def embedding(a: Analysis, node: fx.Node) -> Tagged:
    """A lookup: integers from a graph input give birth to tokens, constant ones pick parameters."""
    weight, index = node.args[0], node.args[1]
    assert isinstance(weight, fx.Node)
    assert isinstance(index, fx.Node)
    if a.origins(index):
        return _words(a, node, index)
    shape = a.shape(node)[:-1]
    table = a.tags(weight)
    if not table:
        return ()
    rows = table[0].ids.squeeze(-1)[a.value(index).cpu()]
    tag = Tag(rows.unsqueeze(-1), Level.PARAMETER)
    for axis in a.book.batch_axes if a.book.batch_size > 1 else ():
        per_sample = axis < len(shape) and shape[axis] == a.book.batch_size
        if per_sample and bool(
            (rows == rows.narrow(axis, 0, 1)).all()
        ):  # the same for every sample
            once = tag.with_ids(tag.ids.narrow(axis, 0, 1))
            return (a.joiner.copied(once, axis, shape[axis]),)
    return (tag,)


def looked_up(a: Analysis, node: fx.Node, table: fx.Node, indices: Any) -> Tags:
    """The tokens of an input whose integers pick rows of a weight by an index (none if they do not)."""
    index = indices[0] if isinstance(indices, (list, tuple)) and len(indices) == 1 else indices
    if not isinstance(index, fx.Node) or not a.is_parameter(table) or len(a.shape(table)) != 2:
        return ()
    value = index.meta.get("val")
    whole = isinstance(value, Tensor) and value.dtype not in (torch.bool, torch.uint8)
    if not whole or a.first_origin(index) is None or a.elements.of(index) is None:
        return ()  # a mask, or places that the model counts
    return _words(a, node, index)


def _words(a: Analysis, node: fx.Node, index: fx.Node) -> Tags:
    origin = a.first_origin(index)
    assert origin is not None, "the integers come from an input"
    elements = a.elements.of(index)
    ids = a.book.add(
        "input",
        origin[0],
        a.shape(node)[:-1],
        rank=origin[1],
        module=module_path(node),
        node=node,
        samples=a.elements.samples(elements),
        looked_up=True,
        elements=elements,
        until=elements,
        roots=None if elements is None else _roots(a, elements),
    )
    return (a.born(ids.unsqueeze(-1)),)


def _roots(a: Analysis, elements: Tensor) -> Tensor:
    """The argument that each token is an element of, as the book numbers them (-1 unknown)."""
    first = torch.tensor([argument.first for argument in a.elements.arguments])
    numbers = torch.tensor([a.book.number(argument.name) for argument in a.elements.arguments])
    of = torch.searchsorted(first, elements.contiguous(), right=True) - 1
    return torch.where(elements < 0, elements, numbers[of.clamp(min=0)])


def bag(a: Analysis, node: fx.Node) -> Tagged:
    """``embedding_bag``: one token for every bag of integers."""
    named = arguments(node)
    index, offsets = named["indices"], named["offsets"]
    origin = a.first_origin(index)
    if origin is None:
        return []
    count = a.shape(offsets)[0] - bool(named["include_last_offset"])
    ids = a.book.add(
        "input", origin[0], (count,), rank=origin[1], module=module_path(node), node=node,
        looked_up=True,
    )  # fmt: skip
    return [(a.born(ids.unsqueeze(-1)),)]
