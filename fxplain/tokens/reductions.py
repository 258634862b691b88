"""Reductions: sums that are attention, pooling, or of one token; the best of many."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from operator import getitem

import torch
from torch import Tensor, fx

from fxplain.capture import module_path, operation_name
from fxplain.tokens.analysis import Analysis, Tagged
from fxplain.tokens.arguments import arguments
from fxplain.tokens.mixing import absorbed, mix, name_alike
from fxplain.tokens.pointwise import is_returned, pointwise
from fxplain.tokens.scores import (
    FIXED_VALUES,
    OF_A_GROUP,
    is_extreme,
    is_fixed,
    is_pair,
    made_of_tokens,
    only_scales,
)
from fxplain.tokens.sites import note
from fxplain.tokens.spreading import warn_of_samples
from fxplain.tokens.tag import Level, Tag, Tags, pack, tokens_in
from fxplain.tokens.taken_off import sum_of_differences
from fxplain.tokens.updates import AttentionSite, framed

__all__ = ["dropped", "reduce", "single_key", "top", "weighs_itself"]


def reduce(a: Analysis, node: fx.Node) -> Tagged:
    """Sums, means and maxima: over features nothing changes, over tokens it is a route.

    A sum over tokens of values times softmax weights is an attention node.
    """
    source = node.args[0]
    assert isinstance(source, fx.Node)
    tags = a.tags(source)
    if not tags:
        return ()
    named, shape = arguments(node), a.shape(source)
    if "other" in named:
        return pointwise(a, node)  # the larger of two values, element by element
    dims = named.get("dim")
    dims = list(range(len(shape))) if dims is None or dims == [] else dims
    axes = sorted({d % len(shape) for d in ([dims] if isinstance(dims, int) else dims)})
    keepdim = bool(named.get("keepdim"))
    added = _parts_of_tokens_added(a, node, source, axes)
    if added:
        return tuple(t.with_ids(t.ids.unsqueeze(axes[0])) for t in added) if keepdim else added
    varied = any(t.varies(x) for t in tags for x in axes)
    # of a single key nothing varies, but its scores have a maximum and a sum as others have
    alone = len(tags) > 1 and any(shape[x] == 1 for x in axes)
    statistic = (varied or alone) and not _weighs_tokens(a, source) and only_scales(a, node, source)
    attention = None if statistic else _weighted_sum(a, node, source, tags, axes)
    if attention is not None:
        return (attention if keepdim else dropped(attention, axes),)
    known = None if statistic else _mixed_by_known(a, node, source, axes)
    if known is not None:
        return (
            tuple(tag.with_ids(tag.ids.unsqueeze(axes[0])) for tag in known) if keepdim else known
        )
    left = sum_of_differences(a, node, source, axes, keepdim=keepdim) if varied else None
    if left is not None:
        return (left,)
    if varied and not statistic and len(axes) == 1 and _picks_scores(node, tags):
        (tag,) = tags
        picked = _picked(tag, shape, axes[0], _place(a, node, source, axes[0]))
        best = (picked if keepdim else dropped(picked, axes),)
        return [best, ()] if isinstance(node.meta.get("val"), (tuple, list)) else best
    extreme = is_extreme(node) and not any(tag.softmax for tag in tags)
    # the best of many scores is made of its query and of the keys among which it was found
    rows = () if extreme and not statistic else _rows_of_pairs(tags, axes)
    if not statistic and (rows or _unlike_products(a, source, tags, axes)):
        a.warn_of_mixing(node)
    if statistic and not varied:
        result: Tags = ()
    elif extreme and not statistic and len(axes) == 1 and is_pair(tags):
        result = _best(a, node, source, tags, axes[0], keepdim)
    elif rows or statistic:
        kept = [replace(t, softmax=None) for t in tags if not any(t.varies(x) for x in axes)]
        if statistic:
            kept = [_nothing_heard(a, tag) for tag in kept]
        result = tuple(kept if keepdim else (dropped(tag, axes) for tag in kept))
    else:
        result = tuple(_reduced(a, node, tag, axes, keepdim) for tag in tags)
    return [result, result] if isinstance(node.meta.get("val"), (tuple, list)) else result


def _parts_of_tokens_added(
    a: Analysis, node: fx.Node, source: fx.Node, axes: Sequence[int]
) -> Tags:
    """What tokens are made of (word, type, position), stacked and summed: as if it were added."""
    if operation_name(node) not in ("sum", "mean") or operation_name(source) != "stack":
        return ()
    named = arguments(source)
    parts = [n for n in named["tensors"] if isinstance(n, fx.Node)]
    if list(axes) != [a.value(named.get("dim", 0)) % len(a.shape(source))]:
        return ()
    tags = [a.tags(n) for n in parts]
    if not all(len(of_one) == 1 and a.joiner.newborn(of_one[0]) for of_one in tags):
        return ()
    tokens = [a.book.find(of_one[0].tokens) for of_one in tags]
    pairs = itertools.combinations([each[each >= 0].unique() for each in tokens], 2)
    if any(a.book.share_births(one, other) for one, other in pairs):
        return ()
    shapes = [a.shape(n) for n in parts]
    return a.joiner.join(list(zip(tags, shapes, strict=True)), shapes[0])


def _nothing_heard(a: Analysis, tag: Tag) -> Tag:
    """A statistic's tag: it names its rows, and brings nothing of them to what it scales."""
    return tag.with_ids(pack(tag.tokens, a.versions.intern(frozenset())))


def _mixed_by_known(
    a: Analysis, node: fx.Node, source: fx.Node, axes: Sequence[int]
) -> Tags | None:
    """Tokens times a matrix that is made of no token, summed: ``matrix @ tokens``, written out."""
    parts = [n for n in source.args[:2] if isinstance(n, fx.Node)]
    names = (operation_name(source), operation_name(node))
    if len(parts) != 2 or len(axes) != 1 or names not in (("mul", "sum"), ("multiply", "sum")):
        return None
    (axis,), rank = axes, len(a.shape(source))
    for matrix, tokens in (parts, parts[::-1]):
        wide, narrow = ((1,) * (rank - len(a.shape(n))) + a.shape(n) for n in (matrix, tokens))
        new = [i for i in range(rank) if wide[i] > 1 and narrow[i] == 1]
        tags = [_with_rank(tag, rank) for tag in a.joiner.promoted(a.tags(tokens))]
        varied = any(tag.varies(axis) for tag in tags)
        if len(new) == 1 and wide[axis] > 1 and varied and not made_of_tokens(a, matrix):
            return tuple(_mixed_into(a, node, tag, axis, new[0], wide, matrix) for tag in tags)
    return None


def _mixed_into(
    a: Analysis,
    node: fx.Node,
    tag: Tag,
    axis: int,
    new: int,
    shape: Sequence[int],
    matrix: fx.Node,
) -> Tag:
    """Tokens along `axis` mixed into as many as a matrix has rows along `new`."""
    if not tag.varies(axis):
        return dropped(tag, [axis])
    sizes = [shape[i] if i == new else -1 for i in range(len(shape))]
    groups = tag.ids.expand(sizes).movedim(axis, -1)

    def weights() -> Tensor:
        known: Tensor = a.value(matrix).detach().cpu().double().abs().reshape(tuple(shape))
        kept = (axis, new)
        summed = [i for i, n in enumerate(shape) if n > 1 and i not in kept and not tag.varies(i)]
        return (known.sum(summed, keepdim=True) if summed else known).movedim(axis, -1)

    square = shape[axis] == shape[new]
    keep = tag.ids.transpose(axis, new).squeeze(axis) if square else None
    return mix(a, node, tag, groups, weights=weights, keep=keep)


def _best(
    a: Analysis, node: fx.Node, source: fx.Node, tags: Tags, axis: int, keepdim: bool
) -> Tags:
    """The best of scores along an axis: what was picked is read from the run, as `top` does."""
    if operation_name(node) == "logsumexp":
        return tuple(_reduced(a, node, tag, [axis], keepdim) for tag in tags)
    place = _place(a, node, source, axis)
    picked = tuple(_picked(tag, a.shape(source), axis, place) for tag in tags)
    return picked if keepdim else tuple(dropped(tag, [axis]) for tag in picked)


_WITHOUT_AXIS = ("squeeze", "slice", "select", "flatten")
_PICKS = frozenset(
    ["max", "amax", "min", "amin", "median", "nanmedian", "kthvalue", "mode"]
)  # fmt: skip


def _picks_scores(node: fx.Node, tags: Tags) -> bool:
    """Whether each of an output's numbers is that of one token, of all: the best word's score."""
    if operation_name(node) not in _PICKS or len(tags) != 1 or tags[0].softmax is not None:
        return False
    picked = node
    if isinstance(node.meta.get("val"), (tuple, list)):
        values = [user for user in node.users if user.target is getitem and user.args[1] == 0]
        if len(values) != 1:
            return False
        (picked,) = values
    while len(picked.users) == 1 and operation_name(next(iter(picked.users))) in _WITHOUT_AXIS:
        (picked,) = picked.users
    return tags[0].level is Level.TOKEN and is_returned(picked)


def _place(a: Analysis, node: fx.Node, source: fx.Node, axis: int) -> Tensor:
    """Where along an axis a run found what a reduction picks."""
    if isinstance(node.meta.get("val"), (tuple, list)):
        indices: Tensor = a.value(node)[1].cpu()
        return indices if indices.dim() == len(a.shape(source)) else indices.unsqueeze(axis)
    scores: Tensor = a.value(source).cpu()
    lowest = operation_name(node) in ("min", "amin")
    return (scores.argmin if lowest else scores.argmax)(axis, keepdim=True)


def _picked(tag: Tag, shape: Sequence[int], axis: int, place: Tensor) -> Tag:
    """The tag of the elements at some places along an axis."""
    if not tag.varies(axis):
        return tag
    return tag.with_ids(torch.gather(tag.ids.expand(tuple(shape)), axis, place))


def _weighs_tokens(a: Analysis, node: fx.Node) -> bool:
    """Whether a value is attention weights times tokens, whatever its sum is for (a gate)."""
    parts = [a.tags(n) for n in node.all_input_nodes]
    if operation_name(node) != "mul" or len(parts) != 2:
        return False
    return all(parts) and sum(any(tag.softmax for tag in tags) for tags in parts) == 1


def _rows_of_pairs(tags: Tags, axes: Sequence[int]) -> Tags:
    """Of a value for every pair of tokens, the tags that a reduction along the others leaves."""
    reduced = frozenset().union(*(tag.axes for tag in tags if not tag.axes.isdisjoint(axes)))
    kept = tuple(tag for tag in tags if tag.axes.isdisjoint(axes) and tag.axes - reduced)
    return kept if reduced else ()


def _unlike_products(a: Analysis, source: fx.Node, tags: Tags, axes: Sequence[int]) -> bool:
    """Whether products of one token's value with those of others are summed (linear attention)."""
    if operation_name(source) != "mul" or any(tag.softmax for tag in tags):
        return False
    factors = [n for n in source.all_input_nodes if a.tags(n)]
    summed = [tag for tag in tags if any(tag.varies(axis) for axis in axes)]
    return len(factors) > 1 and len(tags) > len(summed) > 0


def dropped(tag: Tag, axes: Sequence[int]) -> Tag:
    """The tag without some axes, along which it does not vary."""
    kept = [size for axis, size in enumerate(tag.ids.shape) if axis not in axes]
    return tag.with_ids(tag.ids.reshape(kept))


def _reduced(a: Analysis, node: fx.Node, tag: Tag, axes: Sequence[int], keepdim: bool) -> Tag:
    if any(tag.varies(axis) for axis in axes):
        over = [axis for axis in axes if tag.varies(axis)]
        ids = tag.ids.movedim(over, list(range(-len(over), 0))).flatten(-len(over))
        # a statistic of an input that no weight has touched is still waiting to be a token
        raw = tag.level is Level.RAW_INPUT
        goes_on = tag.level is Level.TOKEN and a.joiner.newborn(tag) and not is_returned(node)
        if goes_on and _of_several_samples(a, ids):
            warn_of_samples(a, node, ids)
        mixed = tag.with_ids(ids.amax(-1)) if raw else mix(a, node, tag, ids)
        kept = [1 if axis in axes else size for axis, size in enumerate(tag.ids.shape)]
        tag = Tag(mixed.ids.reshape(kept), mixed.level)
    return tag if keepdim else dropped(tag, axes)


def _of_several_samples(a: Analysis, groups: Tensor) -> bool:
    """Whether groups of entries hold tokens of which it is known that they are of several samples."""
    samples = a.book.samples(a.book.find(tokens_in(groups)))
    low = torch.where(samples < 0, samples.amax(-1, keepdim=True), samples).amin(-1)
    return bool((low < samples.amax(-1)).any())


def _weighted_sum(
    a: Analysis, node: fx.Node, source: fx.Node, tags: Tags, axes: Sequence[int]
) -> Tag | None:
    """An attention written as ``(weights * values).sum(tokens)``."""
    if "sum" not in str(node.target) or len(axes) != 1 or "mul" not in str(source.target):
        return None
    axis = axes[0]
    marked = [tag for tag in tags if tag.softmax is not None and tag.varies(axis)]
    operands = [n for n in source.args if isinstance(n, fx.Node)]
    weights = [n for n in operands if any(t.softmax for t in a.tags(n))]
    apart = None if marked else single_key(a, source)
    if apart is not None and weighs_itself(a, *apart):
        return None
    if not (marked or apart) or len(operands) != 2 or len(weights) != 1:
        return None
    values = operands[0] if operands[1] is weights[0] else operands[1]
    weights = [_unexpanded(a, weights[0])]
    if is_fixed(a, values):
        a.softmaxes[marked[0].softmax] = FIXED_VALUES  # type: ignore[index]
        return None
    if apart is not None:
        queries, (key, *_) = apart
        own = [tag for tag in queries if not name_alike(a, tag, key)] or list(queries)
        marked = [replace(key, softmax=queries[0].softmax)]
    else:
        own = [tag for tag in tags if tag is not marked[0]]
    keys = marked[0].ids
    rows = own[0].ids.narrow(axis, 0, 1) if own else _pooled(a, node, marked[0], axis)
    rank = keys.dim()
    shape = (1,) * (rank - len(a.shape(weights[0]))) + a.shape(weights[0])
    query = _query_axis(a, rows, shape)
    softmax = marked[0].softmax
    assert softmax is not None
    if any(n == 1 < keys.shape[x] for x, n in enumerate(shape)):
        a.softmaxes[softmax] = OF_A_GROUP
        return None
    index = len(a.updates)
    note(a, AttentionSite(
        index, "weighted_sum", node, softmax, weights[0], values, True, axis,
        tuple(framed(torch.empty(shape, device="meta"), axis, query).shape),
        framed(rows, axis, query), framed(keys, axis, query), query_axis=query,
    ))  # fmt: skip
    return Tag(absorbed(a, index, rows))


def _unexpanded(a: Analysis, weights: fx.Node) -> fx.Node:
    """Weights before they were expanded to the features that they weigh, which share their gradient."""
    while operation_name(weights) in ("expand", "expand_as", "broadcast_to"):
        source = weights.all_input_nodes[0]
        if len(a.shape(source)) != len(a.shape(weights)):
            break
        weights = source
    return weights


def single_key(a: Analysis, node: fx.Node) -> tuple[Tags, Tags] | None:
    """The tags of weights and of values, where weights of a single key are about to be summed.

    Nothing varies along an axis of one element, so what the two have in common is not seen there.
    """
    shape, parts = a.shape(node), [n for n in node.args[:2] if isinstance(n, fx.Node)]
    marked = [n for n in parts if any(tag.softmax for tag in a.tags(n))]
    if operation_name(node) != "mul" or len(parts) != 2 or len(marked) != 1 or not node.users:
        return None
    values = parts[0] if parts[1] is marked[0] else parts[1]
    for user in node.users:
        dims = arguments(user).get("dim") if operation_name(user) == "sum" else None
        dims = [dims] if isinstance(dims, int) else dims
        if not dims or len(dims) != 1 or shape[dims[0]] != 1:
            return None
    if not a.tags(values) or is_fixed(a, values):
        return None
    weigh, weighed = (
        tuple(_with_rank(tag, len(shape)) for tag in tags)
        for tags in (a.tags(marked[0]), a.joiner.promoted(a.tags(values)))
    )
    return weigh, weighed


def weighs_itself(a: Analysis, weigh: Tags, weighed: Tags) -> bool:
    """Whether each of many tokens weighs nothing but itself: the one state that it has so far."""
    return any(tag.ids.numel() > a.book.batch_size for tag in weighed) and all(
        any(name_alike(a, one, other) for other in weighed) for one in weigh
    )


def _with_rank(tag: Tag, rank: int) -> Tag:
    """The tag of a value that is broadcast to `rank` axes."""
    return tag.with_ids(tag.ids.reshape((1,) * (rank - tag.ids.dim()) + tag.ids.shape))


def _pooled(a: Analysis, node: fx.Node, keys: Tag, axis: int) -> Tensor:
    """One new token for each sequence that weights without a query pool."""
    samples = a.book.samples(a.book.find(keys.tokens).amax(axis, keepdim=True).clamp(min=0))
    return a.book.add(
        "route", node.name, samples.shape, module=module_path(node), node=node, samples=samples
    )


def _query_axis(a: Analysis, rows: Tensor, shape: Sequence[int]) -> int | None:
    """The axis of a weighted sum's queries, if there are several for each sample."""
    batched = a.book.batch_size > 1 and shape[0] % a.book.batch_size == 0
    axes = [x for x in range(int(batched), rows.dim()) if rows.shape[x] > 1]
    return axes[-1] if axes else None


def top(a: Analysis, node: fx.Node) -> Tagged:
    """Values picked by rank: the picked positions are read from the run."""
    source = node.args[0]
    assert isinstance(source, fx.Node)
    tags = a.tags(source)
    if not tags:
        return ()
    shape = a.shape(source)
    named = arguments(node)
    dim = named.get("dim")
    axis = (-1 if dim is None else int(dim)) % len(shape)
    if not any(tag.varies(axis) for tag in tags):
        return [tags, ()]
    picked: Tensor = a.value(node)[1].cpu()
    return [tuple(_picked(tag, shape, axis, picked) for tag in tags), ()]


# -- the rest -------------------------------------------------------------------------------------
