"""Lookups: rows of a learned table, picked by integers. Those of an input are its tokens."""

from __future__ import annotations

from operator import getitem
from typing import Any

import torch
from torch import Tensor, fx

from fxplain.capture import module_path, operation_name
from fxplain.tokens.analysis import Analysis, Tagged
from fxplain.tokens.arguments import arguments
from fxplain.tokens.scores import is_fixed
from fxplain.tokens.tag import Level, Tag, Tags

__all__ = ["bag", "each_again", "embedding", "integers_looked_up", "looked_up", "looked_up_along"]


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
    if a.origins(weight):  # what was made of an input is picked from as by any index
        picked = a.value(index).cpu()
        return tuple(tag.moved(lambda ids: ids[picked], a.shape(weight)) for tag in table)
    rows = table[0].ids.squeeze(-1)[a.value(index).cpu()]
    tag = Tag(rows.unsqueeze(-1), Level.PARAMETER)
    for axis in a.book.batch_axes if a.book.batch_size > 1 else ():
        per_sample = axis < len(shape) and shape[axis] == a.book.batch_size
        if per_sample and bool(
            (rows == rows.narrow(axis, 0, 1)).all()
        ):  # the same for every sample
            once = tag.with_ids(tag.ids.narrow(axis, 0, 1))
            return (a.learned.copied(once, axis, shape[axis]),)
    return (tag,)


def looked_up(a: Analysis, node: fx.Node, table: fx.Node, indices: Any) -> Tags:
    """The tokens of an input whose integers pick rows of a table by an index (none if they do not).

    The table is made of weights, or fixed: rows of that wait to be tokens, as a float input does.
    """
    index = _only(indices)
    if not _picks_words(a, table, index) or len(a.shape(table)) != 2:
        return ()
    return _words(a, node, index, _level(a, table))


def each_again(a: Analysis, node: fx.Node, rows: fx.Node, indices: Any) -> Tags:
    """The tokens of words of which each kind was looked up once, where all are laid out again."""
    if operation_name(rows) not in ("embedding", "index", "index_select"):
        return ()
    kinds, index = (
        _only(rows.args[2 if operation_name(rows) == "index_select" else 1]),
        _only(indices),
    )
    table, source = rows.args[0], _sorted_out(kinds, 0)
    if source is None or source is not _sorted_out(index, 1) or not isinstance(table, fx.Node):
        return ()
    given = source.args[0]
    if not isinstance(given, fx.Node) or not _picks_words(a, table, given):
        return ()
    whole = a.shape(given) == a.shape(node)[:-1]
    kept = frozenset(index for tag in a.tags(rows) for index in tag.births)
    return _words(a, node, given, _level(a, table), older=kept) if whole else ()


def _only(indices: Any) -> Any:
    """The index of a list of one."""
    return indices[0] if isinstance(indices, (list, tuple)) and len(indices) == 1 else indices


def _sorted_out(node: Any, place: int) -> fx.Node | None:
    """The operation of which a value is what a list holds once (0), or where each stands (1)."""
    if not isinstance(node, fx.Node) or node.target is not getitem or node.args[1] != place:
        return None
    source = node.args[0]
    unique = isinstance(source, fx.Node) and "unique" in operation_name(source)
    return source if unique else None  # type: ignore[return-value]


def looked_up_along(a: Analysis, node: fx.Node, table: fx.Node, index: Any, axis: int) -> Tags:
    """The same where a table that was expanded to the samples is gathered from."""
    rank = len(a.shape(table))
    if rank < 2 or axis % rank != rank - 2 or not _picks_words(a, table, index):
        return ()
    elements = a.elements.of(index)
    if elements is None or bool((elements != elements[..., :1]).any()):
        return ()
    return _words(a, node, index, _level(a, table), elements[..., 0])


def integers_looked_up(a: Analysis, node: fx.Node) -> Tags:
    """The tokens of quantised rows that were looked up as integers, where they are made floats."""
    source = node.all_input_nodes[0]
    value = source.meta.get("val")
    if not isinstance(value, Tensor) or value.dtype.is_floating_point or len(source.args) < 2:
        return ()
    if operation_name(source) == "embedding":
        table, index = source.args[:2]
    elif operation_name(source) in ("index", "index_select"):
        table, index = source.args[0], source.args[-1]
    else:
        return ()
    return looked_up(a, node, table, index) if isinstance(table, fx.Node) else ()


def _picks_words(a: Analysis, table: fx.Node, index: Any) -> bool:
    """Whether integers of an input pick from what no input is in; a mask's places are none."""
    if not isinstance(index, fx.Node) or a.origins(table) or a.first_origin(index) is None:
        return False
    value = index.meta.get("val")
    whole = isinstance(value, Tensor) and value.dtype not in (torch.bool, torch.uint8)
    return whole and a.elements.of(index) is not None  # or places that the model counts


def _level(a: Analysis, table: fx.Node) -> Level:
    return Level.RAW_INPUT if is_fixed(a, table) else Level.TOKEN


def _words(
    a: Analysis,
    node: fx.Node,
    index: fx.Node,
    level: Level = Level.TOKEN,
    elements: Tensor | None = None,
    older: frozenset[int] = frozenset(),
) -> Tags:
    origin = a.first_origin(index)
    assert origin is not None, "the integers come from an input"
    elements = a.elements.of(index) if elements is None else elements
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
        older=older,
    )
    return (a.born(ids.unsqueeze(-1), level),)


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
