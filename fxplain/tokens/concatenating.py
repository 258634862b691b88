"""Concatenation: sequences side by side, and features of one token side by side."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, fx

from fxplain.capture import operation_name
from fxplain.tokens.analysis import Analysis
from fxplain.tokens.arguments import arguments
from fxplain.tokens.beside import Operand, beside_tokens
from fxplain.tokens.constants import constant_tokens
from fxplain.tokens.each_place import are_whole, of_each_place
from fxplain.tokens.joining import Meeting
from fxplain.tokens.pointwise import is_returned
from fxplain.tokens.spreading import spread
from fxplain.tokens.tag import (
    NO_TOKEN,
    Tag,
    Tags,
    broadcast_shape,
    compact,
)

__all__ = ["concatenate", "merged_stack"]


def concatenate(a: Analysis, node: fx.Node) -> Tags:
    """Sequences side by side. A parameter put beside tokens is a token itself (CLS, registers)."""
    named = arguments(node)
    parts = [p for p in named["tensors"] if isinstance(p, fx.Node)]
    shapes = [a.shape(p) for p in parts]
    kept = [(p, s) for p, s in zip(parts, shapes, strict=True) if 0 not in s]
    rank = len(a.shape(node))
    axis, added = _stacked(
        operation_name(node), a.value(named.get("dim", 0)) % rank, len(shapes[0])
    )
    operands = []
    for part, shape in kept:
        tags = a.tags(part)
        for new in added:
            shape = (*shape[:new], 1, *shape[new:])
            tags = tuple(t.with_ids(t.ids.unsqueeze(new)) for t in tags)
        operands.append((tags, shape))
    return _side_by_side(a, node, [part for part, _ in kept], operands, axis, stacked=bool(added))


def merged_stack(a: Analysis, node: fx.Node, stack: fx.Node) -> Tags:
    """The tags where stacked values become the features of one token (none where they do not).

    ``stack(parts, -2).flatten(-2)`` is ``cat(parts, -1)``, and ``stack(parts, -1).flatten(-2)`` has the
    same features in another order.
    """
    if operation_name(stack) != "stack":
        return ()
    named, old, new = arguments(stack), a.shape(stack), a.shape(node)
    parts = [part for part in named["tensors"] if isinstance(part, fx.Node)]
    dim = a.value(named.get("dim", 0)) % len(old)
    operands = [(a.tags(part), a.shape(part)) for part in parts]
    merged = (*old[:-2], math.prod(old[-2:]))
    if len(old) < 2 or dim < len(old) - 2 or new != merged:
        return ()
    if not all(tags for tags, _ in operands):
        return ()
    made = _side_by_side(a, node, parts, operands, len(new) - 1, stacked=False)
    return () if any(tag.varies(len(new) - 1) for tag in made) else made


def _side_by_side(
    a: Analysis,
    node: fx.Node,
    parts: list[fx.Node],
    operands: list[Operand],
    axis: int,
    *,
    stacked: bool,
) -> Tags:
    """The tags of values of some shapes side by side along an axis, which is new where `stacked`."""
    if not any(tags for tags, _ in operands):
        return ()
    operands = beside_tokens(a, node, operands, [axis])
    operands = [
        (tags or constant_tokens(a, part, operands, axis, first=i == 0), shape)
        for i, (part, (tags, shape)) in enumerate(zip(parts, operands, strict=True))
    ]
    if axis == 1 and not stacked and is_returned(node) and _along_features(operands, axis):
        return _each_in_its_columns(operands, axis)
    fused = None if stacked else _features_of_several(a, operands, axis)
    if fused is not None:
        return fused
    count = max(len(tags) for tags, _ in operands)
    each = [[(t[i] if i < len(t) else None, s) for t, s in operands] for i in range(count)]
    whole = partial(are_whole, a, parts)
    return tuple(_concatenated(a, node, own, axis, whole) for own in each)


def _stacked(name: str, dim: int, rank: int) -> tuple[int, list[int]]:
    """The axis along which tensors are put side by side, and the axes that they are given before."""
    if name == "stack":
        return dim, [dim]
    if name in ("vstack", "row_stack"):
        return 0, [0] if rank == 1 else []
    if name == "dstack":
        return 2, {1: [0, 2], 2: [2]}.get(rank, [])
    if name == "column_stack":
        return 1, [1] if rank == 1 else []
    return min(rank - 1, 1) if name == "hstack" else dim, []


def _features_of_several(
    a: Analysis, operands: list[tuple[Tags, tuple[int, ...]]], axis: int
) -> Tags | None:
    """Features side by side of tokens of different origin, one of each in a sample: both are read."""
    tags = tuple(tag for tags, _ in operands for tag in tags)
    if axis != len(operands[0][1]) - 1 or not all(
        tag.ids.numel() <= a.book.batch_size and not tag.varies(axis) for tag in tags
    ):
        return None
    if a.fields.kept_apart(tags):
        return None
    made = a.joiner.join(
        [((tag,), tag.ids.shape) for tag in tags],
        broadcast_shape(tag.ids.shape for tag in tags),
        Meeting.BESIDE if all(map(a.joiner.newborn, tags)) else Meeting.READ,
    )
    return made if len(made) > 1 and not _neighbours(a, made) else None


def _along_features(operands: list[Operand], axis: int) -> bool:
    """Whether each of the values has features of tokens along an axis, and no tokens."""
    return all(tags and not any(tag.varies(axis) for tag in tags) for tags, _ in operands)


def _each_in_its_columns(operands: list[Operand], axis: int) -> Tags:
    """Heads' scores beside each other: each column is read from the tokens of its own head alone."""
    sizes = [shape[axis] for _, shape in operands]
    head = torch.arange(len(operands)).repeat_interleave(torch.tensor(sizes))
    made: list[tuple[Tag, Tensor]] = []
    for i, (tags, _) in enumerate(operands):
        for tag in tags:
            same = (k for k, (known, _) in enumerate(made) if torch.equal(known.ids, tag.ids))
            k = next(same, len(made))
            own = made[k][1] | (head == i) if k < len(made) else head == i
            made[k : k + 1] = [(tag, own)]
    return tuple(t.with_ids(torch.where(own, t.ids, NO_TOKEN)) for t, own in made)


def _neighbours(a: Analysis, tags: Tags) -> bool:
    """Whether some are different tokens of one birth and argument, or other words looked up anew."""
    if any(itertools.starmap(a.joiner.other_words, itertools.combinations(tags, 2))):
        return True
    tokens = [a.book.find(tag.tokens) for tag in tags]
    return any(
        not torch.equal(*torch.broadcast_tensors(one, other))
        and a.book.share_births(_real(one), _real(other))
        and not a.book.lineage(one).isdisjoint(a.book.lineage(other))
        for one, other in itertools.combinations(tokens, 2)
    )


def _concatenated(
    a: Analysis,
    node: fx.Node,
    parts: list[tuple[Tag | None, tuple[int, ...]]],
    axis: int,
    whole: Callable[[Tensor], bool],
) -> Tag:
    """One value's tags of each part (none for what holds no token), beside each other along an axis."""
    tags = [tag for tag, _ in parts if tag is not None]
    if (
        len({id(tag.ids) for tag in tags}) == 1
        and len(tags) == len(parts)
        and not tags[0].varies(axis)
    ):
        return _made_of(tags, tags[0].ids)
    others = _others(tags, axis)
    features = axis == len(parts[0][1]) - 1
    channels = all(a.joiner.newborn(tag) for tag in tags) and min(s[axis] for _, s in parts) > 1
    if (features or channels) and all(not tag.varies(axis) for tag in tags):
        # features side by side: one token per row, unless they are neighbours' (patch merging)
        apart = _neighbours(a, tuple(tags)) or a.fields.kept_apart(tuple(tags))
        same = () if apart else a.joiner.join([((t,), t.ids.shape) for t in tags], others)
        if len(same) == 1:
            return _with_heard(a, node, same[0], tuple(a.joiner.spread))
    elif len(tags) == len(parts) and not any(tag.softmax for tag in tags):
        a.fields.note_sequence(tuple(tags))
    return _in_pieces(a, parts, axis, whole)


def _in_pieces(
    a: Analysis,
    parts: list[tuple[Tag | None, tuple[int, ...]]],
    axis: int,
    whole: Callable[[Tensor], bool],
) -> Tag:
    """The same, with the tokens of each part in its own places."""
    tags = [tag for tag, _ in parts if tag is not None]
    others = _others(tags, axis)
    pieces: list[Tensor] = []
    for tag, shape in parts:
        size = [shape[axis] if i == axis else n for i, n in enumerate(others)]
        ids = tag.ids if tag is not None else torch.full((), NO_TOKEN)
        pieces.append(ids.expand(size))
    sizes = torch.tensor([piece.shape[axis] for piece in pieces])
    of = torch.arange(len(pieces)).repeat_interleave(sizes)
    of = of.reshape([-1 if i == axis else 1 for i in range(len(others))])
    ids = of_each_place(a, torch.cat(pieces, axis), of, axis, whole)
    return a.learned.of_each_sample(_made_of(tags, compact(ids)))


def _made_of(tags: Sequence[Tag], ids: Tensor) -> Tag:
    """The tag of entries that come from several."""
    return Tag(
        ids,
        max(tag.level for tag in tags),
        next((tag.softmax for tag in tags if tag.softmax), None),
        births=frozenset().union(*(tag.births for tag in tags)),
    )


def _others(tags: Sequence[Tag], axis: int) -> tuple[int, ...]:
    """The shape that parts have together, but for the axis along which they lie."""
    return broadcast_shape(
        [1 if i == axis else size for i, size in enumerate(tag.ids.shape)] for tag in tags
    )


def _with_heard(a: Analysis, node: fx.Node, tag: Tag, sources: Tags) -> Tag:
    """Tokens that have features of fewer others beside their own (a class token beside each patch)."""
    for source in sources if tag.softmax is None else ():
        if source.softmax is None:
            tag = spread(a, node, tag, source)
    return tag


def _real(tokens: Tensor) -> Tensor:
    real: Tensor = tokens[tokens >= 0].unique()
    return real
