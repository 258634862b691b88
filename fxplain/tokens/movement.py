"""Movement: operations that only move elements are run on the tag itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from fxplain.capture import operation_name
from fxplain.tokens.analysis import Analysis, Tagged
from fxplain.tokens.arguments import arguments
from fxplain.tokens.beside import beside_tokens
from fxplain.tokens.concatenating import merged_stack
from fxplain.tokens.each_place import at_each_place
from fxplain.tokens.lookups import each_again, looked_up, looked_up_along
from fxplain.tokens.mixing import are_pairs, mix
from fxplain.tokens.summing import summed
from fxplain.tokens.tag import (
    NO_TOKEN,
    Level,
    Tag,
    Tags,
    broadcast_shape,
    compact,
    narrowed,
)

__all__ = [
    "along_axes",
    "broadcast",
    "copy",
    "expand",
    "gather",
    "index",
    "packed",
    "pad",
    "pad_sequence",
    "put",
    "repeat",
    "reshape",
    "shuffle",
    "strided",
    "view_like",
]


def _input(node: fx.Node) -> fx.Node:
    source = node.args[0] if node.args else node.kwargs["self"]
    assert isinstance(source, fx.Node)
    return source


def _rerun(a: Analysis, node: fx.Node) -> Callable[[Tensor], Any]:
    """The node's own operation as a function of its first operand."""
    rest = a.value(node.args[1:])
    kwargs = a.value(node.kwargs)
    target: Any = node.target
    return lambda ids: target(ids, *rest, **kwargs)


def view_like(a: Analysis, node: fx.Node) -> Tagged:
    """Views: run on the expanded tag, which copies nothing."""
    source = _input(node)
    tags = a.tags(source)
    if not tags:
        return ()
    shape, op = a.shape(source), _rerun(a, node)
    results: list[list[Tag]] = []
    many = False
    for tag in tags:
        moved = op(tag.ids.expand(shape))
        many = not isinstance(moved, Tensor)
        pieces = moved if many else [moved]
        results.append([tag.with_ids(compact(piece)) for piece in pieces])
    if many:
        return [tuple(of_piece) for of_piece in zip(*results, strict=True)]
    return tuple(pieces[0] for pieces in results)


def reshape(a: Analysis, node: fx.Node) -> Tagged:
    """Splitting and merging axes."""
    source = _input(node)
    old, new = a.shape(source), a.shape(node)
    merged = merged_stack(a, node, source)
    return merged or _pairs(a, node, tuple(tag.reshaped(old, new) for tag in a.tags(source)))


def _pairs(a: Analysis, node: fx.Node, tags: Tags) -> Tags:
    """A grid of pairs that is laid out as one sequence: each is a token that is made of two."""
    if len(tags) != 2 or any(tag.softmax or tag.level is not Level.TOKEN for tag in tags):
        return tags
    one, other = tags
    if one.ids.shape != other.ids.shape or one.varies(one.ids.dim() - 1):
        return tags
    groups = torch.stack([one.ids, other.ids], -1)
    return (mix(a, node, one, groups),) if are_pairs(a, one, groups) else tags


def expand(a: Analysis, node: fx.Node) -> Tagged:
    """Expanding repeats the same token, but makes separate ones of a parameter (one per sample)."""
    source = _input(node)
    tags = a.tags(source)
    return a.joiner.join([(tags, a.shape(source))], a.shape(node)) if tags else ()


def broadcast(a: Analysis, node: fx.Node) -> Tagged:
    """Several tensors expanded to one shape."""
    tensors = [n for n in arguments(node)["tensors"] if isinstance(n, fx.Node)]
    shape = broadcast_shape(a.shape(n) for n in tensors)
    return [a.joiner.join([(a.tags(n), a.shape(n))], shape) for n in tensors]


def repeat(a: Analysis, node: fx.Node) -> Tagged:
    """Repeated copies: the same token again, but a parameter makes separate ones."""
    source = _input(node)
    tags = a.tags(source)
    if not tags:
        return ()
    old, new = a.shape(source), a.shape(node)
    missing = len(new) - len(old)
    results = []
    for tag in tags:
        ids = tag.ids.reshape((1,) * missing + tuple(tag.ids.shape))
        tag = tag.with_ids(ids)
        for axis in reversed(range(len(new))):
            before = old[axis - missing] if axis >= missing else 1
            times = new[axis] // max(before, 1)
            if times == 1:
                continue
            if axis < len(new) - 1 and tag.learned and (before == 1 or _by_sample(a, axis, times)):
                tag = _copied(a, tag, axis, before, times)
            elif tag.varies(axis):
                tag = tag.with_ids(torch.cat([tag.ids] * times, axis))
        results.append(tag)
    return tuple(results)


def _by_sample(a: Analysis, axis: int, times: int) -> bool:
    return axis in a.book.batch_axes and times == a.book.batch_size


def _copied(a: Analysis, tag: Tag, axis: int, before: int, times: int) -> Tag:
    """A parameter's tokens repeated along an axis that may have several: the copies are apart."""
    ids = tag.ids.expand([before if x == axis else n for x, n in enumerate(tag.ids.shape)])
    copied = a.learned.copied(tag.with_ids(ids.unsqueeze(axis)), axis, times)
    sizes = [times if x == axis else n for x, n in enumerate(copied.ids.shape)]
    return copied.with_ids(copied.ids.expand(sizes).flatten(axis, axis + 1))


def along_axes(a: Analysis, node: fx.Node) -> Tagged:
    """Operations that permute or pick along some axes; the others stay compact."""
    source, named = _input(node), arguments(node)
    words = _words_along(a, node, source, named)
    if words:
        return words
    tags, shape, op = a.tags(source), a.shape(source), _rerun(a, node)
    if not tags:
        return ()
    dims = a.value(named.get("dims", named.get("dim")))
    axes = [dims] if isinstance(dims, int) else list(dims or range(len(shape)))
    axes = [axis % len(shape) for axis in axes]
    if len(a.shape(node)) != len(shape):  # without an axis, all are laid out as one
        return tuple(tag.moved(lambda ids: op(ids.contiguous()), shape) for tag in tags)
    return tuple(_compact_run(tag, op, shape, axes) for tag in tags)


def _words_along(a: Analysis, node: fx.Node, source: fx.Node, named: dict[str, Any]) -> Tags:
    """The tokens of integers that pick rows of a table, if they do."""
    dim = named.get("dim")
    if operation_name(node) == "take_along_dim" and isinstance(dim, int):
        return looked_up_along(a, node, source, named["indices"], dim)
    return looked_up(a, node, source, named.get("index")) if dim == 0 else ()


def _compact_run(
    tag: Tag, op: Callable[[Tensor], Tensor], shape: Sequence[int], axes: Sequence[int]
) -> Tag:
    """Run `op`, which acts along `axes` only; where the tag is constant along them, it stays so."""
    if not any(tag.varies(axis) for axis in axes):
        return tag
    return tag.with_ids(compact(op(tag.full(shape, axes))))


def pad(a: Analysis, node: fx.Node) -> Tagged:
    """Padding belongs to no token, unless it repeats real elements (reflect, circular)."""
    source = _input(node)
    tags = a.tags(source)
    if not tags:
        return ()
    named, shape = arguments(node), a.shape(source)
    amounts = [int(n) for n in a.value(named["pad"])]
    axes = [len(shape) - 1 - i // 2 for i, n in enumerate(amounts) if n]
    mode = named.get("mode") or "constant"
    features = set(axes) == {len(shape) - 1} and not any(t.varies(len(shape) - 1) for t in tags)
    result = []
    for tag in tags:
        if mode == "constant":
            if features:
                result.append(tag)  # zeros appended to every token's, not keys to a score's
                continue
            ids = torch.nn.functional.pad(tag.full(shape, axes), amounts, value=NO_TOKEN)
        else:
            wide = torch.nn.functional.pad(tag.full(shape, axes).double(), amounts, mode=mode)
            ids = wide.long() if any(tag.varies(axis) for axis in axes) else tag.ids
        result.append(tag.with_ids(compact(ids)))
    return tuple(result)


def pad_sequence(a: Analysis, node: fx.Node) -> Tagged:
    """Sequences of several lengths as one batch: what is appended to them belongs to no token."""
    named = arguments(node)
    parts = [p for p in named["sequences"] if isinstance(p, fx.Node)]
    tags = [a.tags(part) for part in parts]
    result = []
    for i in range(max(len(of_part) for of_part in tags)):
        ids = [
            of_part[i].full(a.shape(part), [0])
            if i < len(of_part)
            else torch.full((a.shape(part)[0], *[1] * (len(a.shape(part)) - 1)), NO_TOKEN)
            for of_part, part in zip(tags, parts, strict=True)
        ]
        others = broadcast_shape(of_part.shape[1:] for of_part in ids)
        level = max(of_part[i].level for of_part in tags if len(of_part) > i)
        padded = torch.nn.utils.rnn.pad_sequence(
            [of_part.expand(-1, *others) for of_part in ids],
            batch_first=bool(named.get("batch_first")),
            padding_value=NO_TOKEN,
            padding_side=named.get("padding_side") or "right",
        )
        result.append(Tag(padded, level))
    return tuple(result)


def gather(a: Analysis, node: fx.Node) -> Tagged:
    """Picking along one axis by an index tensor."""
    source, named = _input(node), arguments(node)
    tags = looked_up_along(a, node, source, named["index"], int(named["dim"]))
    if tags:
        return tags
    tags, shape = a.tags(source), a.shape(source)
    if not tags:
        return ()
    axis = int(named["dim"]) % len(shape)
    index: Tensor = a.value(named["index"]).cpu()
    fewer = [i for i, n in enumerate(index.shape) if i != axis and n < shape[i]]
    index = compact(index)
    result = []
    for tag in tags:
        for i in (i for i in fewer if tag.varies(i)):  # of the others the first are picked from
            tag = tag.with_ids(tag.ids.narrow(i, 0, a.shape(node)[i]))
        if not tag.varies(axis):
            result.append(tag.with_ids(tag.ids))
            continue
        others = broadcast_shape(
            [1 if i == axis else n for i, n in enumerate(t.shape)] for t in (tag.ids, index)
        )
        wide = [shape[axis] if i == axis else n for i, n in enumerate(others)]
        pick = [index.shape[axis] if i == axis else n for i, n in enumerate(others)]
        result.append(tag.with_ids(torch.gather(tag.ids.expand(wide), axis, index.expand(pick))))
    return tuple(result)


def index(a: Analysis, node: fx.Node) -> Tagged:
    """Advanced indexing: the index tensors' real values pick the tags."""
    source = _input(node)
    indices = arguments(node)["indices"]
    tags = looked_up(a, node, source, indices) or each_again(a, node, source, indices)
    if tags:
        return tags
    tags = a.tags(source)
    if not tags:
        return ()
    shape = a.shape(source)
    picks = [p.cpu() if isinstance(p, Tensor) else p for p in a.value(arguments(node)["indices"])]
    axes: list[int] = []
    position = 0
    for pick in picks:
        span = pick.dim() if isinstance(pick, Tensor) and pick.dtype is torch.bool else 1
        if pick is not None:
            axes += range(position, position + span)
        position += span
    op: Any = torch.ops.aten.index.Tensor
    return tuple(tag.with_ids(compact(op(tag.full(shape, axes), picks))) for tag in tags)


_WRITTEN = ("src", "source", "values")
"""What operations call the operand that is written."""


def put(a: Analysis, node: fx.Node) -> Tagged:
    """Writing values into a tensor: run on the tags of both, moved as the values are."""
    named = arguments(node)
    source_name = next((k for k in _WRITTEN if k in named), None)
    base = named["input"]
    base_tags = a.tags(base)
    if source_name is None:  # a number is written: it belongs to no token
        return tuple(_erased(a, node, tag) for tag in base_tags)
    written = named[source_name]
    new_tags = a.tags(written)
    if not base_tags and not new_tags:
        return ()
    shape = a.shape(base)
    written_shape = a.shape(written) if isinstance(written, fx.Node) else ()
    axes = _written_along(a, named, len(shape))
    if axes and len(written_shape) == len(shape):  # a cache that new keys are written into
        operands = [(base_tags, shape), (new_tags, written_shape)]
        (base_tags, _), (new_tags, _) = beside_tokens(a, node, operands, axes)
    level = max(t.level for t in (*base_tags, *new_tags))
    softmax = next((t.softmax for t in (*new_tags, *base_tags) if t.softmax), None)
    count = max(len(base_tags), len(new_tags))
    tags = [
        _put(
            a,
            node,
            Tag(_nth(base_tags, i, shape), level, softmax),
            _nth(new_tags, i, written_shape),
            alone=count == 1,
        )
        for i in range(count)  # a score's query tags, then its key tags
    ]
    if len(tags) == 1 and any(tag.learned for tag in new_tags):
        tags = [at_each_place(a, tags[0], [base, written])]
    return tuple(a.learned.of_each_sample(tag.with_ids(narrowed(tag.ids))) for tag in tags)


def _written_along(a: Analysis, named: dict[str, Any], rank: int) -> list[int]:
    """The axis of rows that others are written in the place of; [] where single elements are."""
    if isinstance(named.get("dim"), int):
        return [named["dim"] % rank]
    indices = a.value(named.get("indices") or ())
    axes = [i for i, index in enumerate(indices) if index is not None]
    return axes if len(axes) == 1 and indices[axes[0]].dim() == 1 else []


def _erased(a: Analysis, node: fx.Node, tag: Tag) -> Tag:
    """The tag where a number is written in some places; where it is added there, nothing changes."""
    written = arguments(node)
    if written.get("reduce"):
        return tag
    named = {k: _on_cpu(a.value(v)) for k, v in written.items() if k not in ("input", "value")}
    nobody = torch.tensor(NO_TOKEN) if isinstance(written["value"], fx.Node) else NO_TOKEN
    target: Any = node.target
    made = target(tag.ids.expand(a.shape(node)), **named, value=nobody)
    return tag.with_ids(narrowed(made))


def _nth(tags: Tags, i: int, shape: Sequence[int]) -> Tensor:
    """The entries of one of a value's tags, expanded; no tokens where it has none."""
    ids = tags[i].ids if i < len(tags) else torch.full((1,) * len(shape), NO_TOKEN)
    return ids.expand(tuple(shape))


def _put(a: Analysis, node: fx.Node, tag: Tag, new: Tensor, *, alone: bool) -> Tag:
    """The tag after entries were written into it as their values are; several at a place are summed."""
    named = {k: v for k, v in arguments(node).items() if k not in ("input", *_WRITTEN)}
    concrete = {k: _on_cpu(a.value(v)) for k, v in named.items()}
    operation, old = operation_name(node), tag.ids.clone()
    dim, index = concrete.get("dim", 0), concrete.get("index")
    behind = dim % old.dim() < old.dim() - 1
    adds = operation in ("scatter_add", "scatter_reduce")
    if adds or (operation == "scatter" and "reduce" in concrete):
        assert isinstance(index, Tensor)
        new = new[tuple(slice(n) for n in index.shape)]
        if behind:
            old, new, index = _without_features(old, new, index)
        made, read = torch.scatter(old, dim, index, new), lambda x: torch.gather(x, dim, index)
    elif operation in ("index_add", "index_reduce"):
        assert isinstance(index, Tensor)
        old, new = _without_features(old, new) if behind else (old, new)
        made, read = torch.index_copy(old, dim, index, new), lambda x: x.index_select(dim, index)
    elif operation == "index_put" and concrete.get("accumulate"):
        pick: Any = torch.ops.aten.index.Tensor
        indices = list(concrete["indices"])
        made = torch.ops.aten.index_put.default(old, indices, new)
        new, read = new.expand_as(pick(old, indices)), lambda x: pick(x, indices)
    else:
        target: Any = node.target
        concrete.pop("unsafe", None)
        source = next(k for k in _WRITTEN if k in arguments(node))
        return tag.with_ids(target(old, **{source: new}, **concrete))
    return summed(a, node, tag.with_ids(made), old, new, read, alone=alone)


def _without_features(*entries: Tensor) -> tuple[Tensor, ...]:
    """The same with one entry for all features, where all are alike: tokens' and places'."""
    if any(x.shape[-1] != entries[0].shape[-1] or not _even(x) for x in entries):
        return entries
    return tuple(x[..., :1] for x in entries)


def _even(entries: Tensor) -> bool:
    return entries.stride(-1) == 0 or bool((entries == entries[..., :1]).all())


def _on_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.cpu()
    if isinstance(value, (list, tuple)):
        return [_on_cpu(v) for v in value]
    return value


def shuffle(a: Analysis, node: fx.Node) -> Tagged:
    """Space to features and back: run on a float64 copy of the entries, which has a kernel."""
    source = _input(node)
    shape, op = a.shape(source), _rerun(a, node)
    return tuple(
        tag.with_ids(narrowed(_filled(op, tag.ids.expand(shape)))) for tag in a.tags(source)
    )


def _filled(op: Callable[[Tensor], Tensor], ids: Tensor) -> Tensor:
    """Entries moved as numbers, with "no token" where the operation pads with zeros."""
    return op((ids + 1).double()).long() - 1


def packed(a: Analysis, node: fx.Node) -> Tagged:
    """Sequences of several lengths, packed without their padding for a recurrence, and back."""
    source, named = _input(node), dict(arguments(node))
    shape, first = a.shape(source), next(iter(arguments(node)))
    if "padding_value" in named:
        named["padding_value"] = 0.0  # belongs to no token
    rest = {k: _on_cpu(a.value(v)) for k, v in named.items() if k != first}
    target: Any = node.target
    moved = (
        tag.with_ids(
            narrowed(_filled(lambda ids: target(ids, *rest.values())[0], tag.ids.expand(shape)))
        )
        for tag in a.tags(source)
    )
    return [tuple(moved), ()]


def strided(a: Analysis, node: fx.Node) -> Tagged:
    """Overlapping windows by strides: run on the whole tag, laid out as the value is."""
    source = _input(node)
    shape, strides, op = a.shape(source), a.values.strides(source), _rerun(a, node)
    result = []
    for tag in a.tags(source):
        laid_out = torch.empty_strided(shape, strides, dtype=torch.int64)
        result.append(tag.with_ids(narrowed(op(laid_out.copy_(tag.ids.expand(shape))))))
    return tuple(result)


def copy(a: Analysis, node: fx.Node) -> Tagged:
    """What is copied brings its tokens; nothing of the destination stays but its shape."""
    written = node.args[1]
    tags = a.tags(written)
    if not tags or not isinstance(written, fx.Node):
        return ()
    return a.joiner.join([(tags, a.shape(written))], a.shape(node))
