"""Contractions: over features a token stays itself, over tokens it attends (or is routed)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, fx

from fxplain.tokens.analysis import Analysis, Tagged
from fxplain.tokens.arguments import arguments
from fxplain.tokens.attending import attend
from fxplain.tokens.mapping import mapped, matrix_of, rows_of_weights, weights_of
from fxplain.tokens.mixing import settled, united_along
from fxplain.tokens.neighbours import with_neighbours
from fxplain.tokens.reductions import weighs_itself
from fxplain.tokens.scores import (
    FIXED_VALUES,
    asks,
    elementwise_origin,
    is_exponential,
    is_fixed,
    late_division,
    normalised_along,
    positive_scores,
    tokens_of,
)
from fxplain.tokens.tag import (
    NO_TOKEN,
    Level,
    Tag,
    Tags,
    broadcast_shape,
    whole_tokens,
    without_askers,
)

__all__ = ["added_product", "distances", "product", "similarity"]


def product(a: Analysis, node: fx.Node) -> Tagged:
    """A matrix product of two values."""
    left, right = node.args[0], node.args[1]
    assert isinstance(left, fx.Node)
    assert isinstance(right, fx.Node)
    return contract(a, node, left, right)


def added_product(a: Analysis, node: fx.Node) -> Tagged:
    """``addmm`` and ``baddbmm``: a bias or a mask, plus a product."""
    bias, left, right = node.args[:3]
    assert isinstance(left, fx.Node)
    assert isinstance(right, fx.Node)
    made = contract(a, node, left, right)
    shape = a.shape(node)
    if not isinstance(bias, fx.Node) or not a.tags(bias):
        return made
    return a.joiner.join([(a.tags(bias), a.shape(bias)), (made, shape)], shape)


def distances(a: Analysis, node: fx.Node) -> Tagged:
    """``cdist``: a number for every pair of rows, as scores have."""
    left, right = (n for n in node.args[:2] if isinstance(n, fx.Node))
    rank = len(a.shape(node))
    left_tags = _to_rank(a.joiner.promoted(a.tags(left)), a.shape(left), rank, as_column=False)
    right_tags = _to_rank(a.joiner.promoted(a.tags(right)), a.shape(right), rank, as_column=False)
    if any(tag.varies(rank - 1) for tag in (*left_tags, *right_tags)):
        a.warn_of_mixing(node)
    rows = [tag.with_ids(tag.ids[..., :1]) for tag in left_tags]
    columns = [tag.with_ids(tag.ids[..., :1].transpose(-1, -2)) for tag in right_tags]
    return _without_duplicates(a, (*rows, *columns))


def similarity(a: Analysis, node: fx.Node) -> Tagged:
    """Two values compared along an axis, row by row: it belongs to the tokens of both rows."""
    left, right = (n for n in node.args[:2] if isinstance(n, fx.Node))
    rank = max(len(a.shape(left)), len(a.shape(right)))
    named = arguments(node)
    axis = int(named.get("dim", -1)) % rank
    tags = [
        tag.with_ids(tag.ids.reshape((1,) * (rank - tag.ids.dim()) + tuple(tag.ids.shape)))
        for tag in (*a.joiner.promoted(a.tags(left)), *a.joiner.promoted(a.tags(right)))
    ]
    kept = tuple(tag for tag in tags if not tag.varies(axis))
    if len(kept) < len(tags):
        a.warn_of_mixing(node)
    kept = _without_duplicates(a, kept)
    return kept if named.get("keepdim") else _without_axis(kept, axis)


def contract(a: Analysis, node: fx.Node, left: fx.Node, right: fx.Node) -> Tags:
    """``left @ right``: the last axis of `left` against the second to last of `right`."""
    left_shape, right_shape = a.shape(left), a.shape(right)
    left_tags, right_tags = tokens_of(a, left), tokens_of(a, right)
    for weights, values in ((left_tags, right), (right_tags, left)):
        mark = weights_of(weights)
        if mark is not None and is_fixed(a, values):
            a.softmaxes[mark] = FIXED_VALUES
    if a.is_parameter(right):
        left_tags = left_tags or a.untouched(left)  # words as ones among zeros, say
        rows = rows_of_weights(a, left_tags, len(left_shape))
        if rows:  # weights over a learned table (relative positions): the query's own
            return rows if len(right_shape) > 1 else _without_axis(rows, len(left_shape) - 1)
        axis = len(left_shape) - 1
        made = mapped(
            a,
            node,
            left_tags,
            left_shape,
            axis,
            lambda: matrix_of(a, right, transposed=True),
            _outputs(right_shape, -1),
        )
        return _without_axis(made, axis) if len(right_shape) == 1 else made  # fmt: skip
    if a.is_parameter(left):
        right_tags = right_tags or a.untouched(right)
        axis = max(len(right_shape) - 2, 0)
        made = mapped(
            a,
            node,
            right_tags,
            right_shape,
            axis,
            lambda: matrix_of(a, left, transposed=False),
            _outputs(left_shape, -2),
        )
        return _without_axis(made, axis) if len(left_shape) == 1 else made  # fmt: skip
    if _is_table(a, right_tags, left_tags) and not asks(a, node, -1):
        rows = rows_of_weights(a, left_tags, len(left_shape))
        if rows:
            return rows
        right_tags = ()
    elif _is_table(a, left_tags, right_tags) and not asks(a, node, -2):
        left_tags = ()
    if _mixes_heads(left_tags, left_shape, -1, right_tags, right_shape):
        return left_tags
    if _mixes_heads(right_tags, right_shape, -2, left_tags, left_shape):
        return right_tags
    left_tags, right_tags = _met(a, node, left_tags, right_tags, len(left_shape), len(right_shape))
    rank = max(len(left_shape), len(right_shape), 2)
    left_tags = _to_rank(left_tags, left_shape, rank, as_column=False)
    right_tags = _to_rank(right_tags, right_shape, rank, as_column=True)
    left_tags, right_tags = (
        whole_tokens(left_tags, right_tags, _of_rank(right_shape, rank)),
        whole_tokens(right_tags, left_tags, _of_rank(left_shape, rank)),
    )
    left_tags, right_tags = a.joiner.promoted(left_tags), a.joiner.promoted(right_tags)
    left_tags = _in_each_sample(a, left_tags, right_shape, rank)
    right_tags = _in_each_sample(a, right_tags, left_shape, rank)
    if weights_of(left_tags):  # the features of values are on the last axis
        right_tags = tuple(with_neighbours(a, node, tag, rank - 1) for tag in right_tags)
    elif not weights_of(right_tags):  # features of rows; what one row weighs are no features
        left_tags = tuple(
            with_neighbours(a, node, tag, rank - 1) if tag.varies(rank - 2) else tag
            for tag in left_tags
        )
        right_tags = tuple(
            with_neighbours(a, node, tag, rank - 2) if tag.varies(rank - 1) else tag
            for tag in right_tags
        )
    made = _contracted(a, node, left, right, left_tags, right_tags, rank)
    out_rank = len(a.shape(node))
    if out_rank < rank:  # vectors: drop the axes that they were given
        axes = [rank - 1] if len(right_shape) == 1 else []
        axes += [rank - 2] if len(left_shape) == 1 else []
        made = tuple(tag.with_ids(_squeezed(tag.ids, axes)) for tag in made)
    return made


def _mixes_heads(
    weights: Tags, shape: Sequence[int], axis: int, table: Tags, of_table: Sequence[int]
) -> bool:
    """Whether attention weights meet a learned table along an axis that is not their keys'."""
    if not weights_of(weights) or not table or not 2 <= len(of_table) <= len(shape):
        return False
    learned = all(tag.level is Level.PARAMETER for tag in table)
    return learned and shape[axis] > 1 and not any(t.varies(len(shape) + axis) for t in weights)


def _is_table(a: Analysis, tags: Tags, others: Tags) -> bool:
    """Whether an operand is a parameter with rows of its own for every token that it meets.

    A table of relative keys has a row for each pair; a sequence of learned keys is one for all.
    """
    if not tags or any(tag.level is not Level.PARAMETER for tag in tags):
        return False
    learned = a.book.find(torch.cat([tag.tokens.flatten() for tag in tags]))
    if a.book.batch_size > 1 and bool((a.book.samples(learned) >= 0).any()):
        return False
    axes = frozenset().union(*({axis - tag.ids.dim() for axis in tag.axes} for tag in tags))
    met = frozenset().union(*({axis - tag.ids.dim() for axis in tag.axes} for tag in others))
    return bool(axes & {-1, -2}) and any(axis < -2 for axis in axes & met)


def _outputs(shape: Sequence[int], axis: int) -> int:
    """How many outputs a weight of this shape has; a vector has one."""
    return shape[axis] if len(shape) > 1 else 1


def _without_axis(tags: Tags, axis: int) -> Tags:
    return tuple(tag.with_ids(_squeezed(tag.ids, [axis])) for tag in tags)


def _met(
    a: Analysis, node: fx.Node, left: Tags, right: Tags, left_rank: int, right_rank: int
) -> tuple[Tags, Tags]:
    """Raw inputs that meet tokens: what is contracted with features, or weighted, are features."""
    if min(left_rank, right_rank) < 2 or not left or not right:
        return left, right
    if weights_of(left):
        return left, settled(a, node, right, right_rank - 1)
    if weights_of(right):
        return settled(a, node, left, left_rank - 2), right
    if not any(tag.varies(left_rank - 1) for tag in left):
        right = settled(a, node, right, right_rank - 2)
    if not any(tag.varies(right_rank - 2) for tag in right):
        left = settled(a, node, left, left_rank - 1)
    return left, right


def _squeezed(ids: Tensor, axes: Sequence[int]) -> Tensor:
    return ids.reshape([n for i, n in enumerate(ids.shape) if i not in axes])


def _to_rank(tags: Tags, shape: Sequence[int], rank: int, *, as_column: bool) -> Tags:
    """The tags with matrix axes and leading batch axes added."""
    result = []
    for tag in tags:
        ids = tag.ids
        if len(shape) == 1:
            ids = ids.unsqueeze(-1) if as_column else ids.unsqueeze(0)
        ids = ids.reshape((1,) * (rank - ids.dim()) + tuple(ids.shape))
        result.append(tag.with_ids(ids))
    return tuple(result)


def _of_rank(shape: Sequence[int], rank: int) -> list[int]:
    return [1] * (rank - len(shape)) + list(shape)


def _in_each_sample(a: Analysis, tags: Tags, other: Sequence[int], rank: int) -> Tags:
    """Learned tokens (queries that a layer projected) are tokens of each sample that they meet."""
    if rank < 3 or len(other) != rank or other[0] != a.book.batch_size:
        return tags
    return tuple(
        a.learned.copied(tag, 0, other[0])
        if tag.level is Level.PARAMETER_TOKEN and not tag.varies(0)
        else tag
        for tag in tags
    )


def _contracted(
    a: Analysis,
    node: fx.Node,
    left: fx.Node,
    right: fx.Node,
    left_tags: Tags,
    right_tags: Tags,
    rank: int,
) -> Tags:
    # what runs over states of one token (layers, residual streams) runs over no tokens
    left_tags = tuple(united_along(a, t, rank - 1) for t in left_tags)
    right_tags = tuple(united_along(a, t, rank - 2) for t in right_tags)
    left_k = [t for t in left_tags if t.varies(rank - 1)]
    right_k = [t for t in right_tags if t.varies(rank - 2)]
    left_weights, right_weights = weights_of(left_tags), weights_of(right_tags)
    single = a.shape(left)[-1] == 1  # one key token: nothing varies, but it is attended
    mark = left_weights or right_weights
    if single and mark is not None and weighs_itself(a, left_tags, right_tags):
        single = not _asked_by_a_parameter(a, mark)  # or it is a token's only state as yet
    fixed = is_fixed(a, left) or is_fixed(a, right)
    if fixed:
        left_weights = right_weights = None
    elif not left_weights and not right_weights and (left_k or right_k or single):
        left_weights = _unmarked_weights(a, node, left)
        right_weights = None if left_weights else _unmarked_weights(a, node, right)
        if not left_weights and not right_weights:  # a query alone may say what each place weighs
            left_weights = normalised_along(a, left, -1) if right_k and left_tags else None
            right_weights = normalised_along(a, right, -2) if left_k and right_tags else None
    if left_weights and not right_weights and (left_k or right_k or (single and right_tags)):
        return attend(a, node, left, right, left_tags, right_tags, left_weights, True)
    if right_weights and not left_weights and (left_k or right_k or (single and left_tags)):
        turned_left = tuple(t.with_ids(t.ids.transpose(-1, -2)) for t in left_tags)
        turned_right = tuple(t.with_ids(t.ids.transpose(-1, -2)) for t in right_tags)
        made = attend(a, node, right, left, turned_right, turned_left, right_weights, False)
        return tuple(t.with_ids(t.ids.transpose(-1, -2)) for t in made)
    if any(t.varies(rank - 1) for t in left_tags) or any(t.varies(rank - 2) for t in right_tags):
        return _mixed(a, node, left, right, left_tags, right_tags, rank)
    return _without_duplicates(a, (*without_askers(left_tags), *without_askers(right_tags)))


def _asked_by_a_parameter(a: Analysis, softmax: fx.Node) -> bool:
    """Whether scores are of tokens with a learned vector, not with other tokens."""
    *_, scores = elementwise_origin(a, softmax.all_input_nodes[0])
    return any(a.is_parameter(n) for n in scores.args[:2])


def _unmarked_weights(a: Analysis, node: fx.Node, weights: fx.Node) -> fx.Node | None:
    """What made weights of scores without normalising them, or before what divides their product."""
    made = positive_scores(a, weights)
    if made is None or (is_exponential(made) and late_division(a, node, weights) is None):
        return None
    return made


def _without_duplicates(a: Analysis, tags: Tags) -> Tags:
    """Scores carry a query and a key tag; a row-wise product names the same token twice."""
    result: list[Tag] = []
    for tag in tags:
        tokens = a.book.find(tag.tokens)
        for i, other in enumerate(result):
            same = other.ids.shape == tag.ids.shape and torch.equal(
                a.book.find(other.tokens), tokens
            )
            if same:
                result[i] = a.joiner.join([((other,), other.ids.shape), ((tag,), tag.ids.shape)],
                                          other.ids.shape)[0]  # fmt: skip
                break
        else:
            result.append(tag)
    return tuple(result)


def _mixed(
    a: Analysis,
    node: fx.Node,
    left: fx.Node,
    right: fx.Node,
    left_tags: Tags,
    right_tags: Tags,
    rank: int,
) -> Tags:
    """Tokens contracted without attention weights: a route if the other side is known, else said so.

    It is where no token is in it, or where it was put in as it is (a graph, a mapping of positions).
    """
    if any(t.varies(rank - 1) for t in left_tags) and _is_known(a, right, left):

        def turned() -> Tensor:
            return matrix_of(a, right, transposed=True)

        picked = None if a.is_lost(right) else _picked(left_tags, rank - 1, rank, turned())
        return picked or mapped(
            a, node, left_tags, _shape_of(a, left, rank, as_column=False), rank - 1, turned,
            _outputs(a.shape(right), -1), given=bool(a.origins(right)))  # fmt: skip
    if any(t.varies(rank - 2) for t in right_tags) and _is_known(a, left, right):

        def matrix() -> Tensor:
            return matrix_of(a, left, transposed=False)

        picked = None if a.is_lost(left) else _picked(right_tags, rank - 2, rank, matrix())
        return picked or mapped(
            a, node, right_tags, _shape_of(a, right, rank, as_column=True), rank - 2, matrix,
            _outputs(a.shape(left), -2), given=bool(a.origins(left)))  # fmt: skip
    rest = [t for t in left_tags if not t.varies(rank - 1)]
    rest += [t for t in right_tags if not t.varies(rank - 2)]
    if not _is_weight(a, left, left_tags, rank - 1) and not _is_weight(
        a, right, right_tags, rank - 2
    ):
        a.warn_of_mixing(node)
    return _without_duplicates(a, tuple(rest))


def _picked(tags: Tags, axis: int, rank: int, matrix: Tensor) -> Tags | None:
    """The tags of rows that a matrix of at most one number a row, (..., new, old), only moves."""
    kept = matrix != 0
    if bool((kept.sum(-1) > 1).any()):
        return None
    place = kept.long().argmax(-1).masked_fill(~kept.any(-1), NO_TOKEN)
    place = place.unsqueeze(-2 if axis == rank - 1 else -1)
    place = place.reshape((1,) * (rank - place.dim()) + tuple(place.shape))
    return tuple(_at(tag, axis, place) if tag.varies(axis) else tag for tag in tags)


def _at(tag: Tag, axis: int, place: Tensor) -> Tag:
    """The entries at some places along an axis (-1: none)."""
    shapes = [[1 if i == axis else n for i, n in enumerate(x.shape)] for x in (tag.ids, place)]
    others = broadcast_shape(shapes)
    ids, place = (
        x.expand([x.shape[axis] if i == axis else n for i, n in enumerate(others)])
        for x in (tag.ids, place)
    )
    found = ids.gather(axis, place.clamp(min=0))
    return tag.with_ids(torch.where(place < 0, NO_TOKEN, found))


def _is_weight(a: Analysis, node: fx.Node, tags: Tags, axis: int) -> bool:
    """Whether a bare parameter (one matrix for every sample) is contracted along its own rows."""
    bare = all(tag.level is Level.PARAMETER for tag in a.tags(node))
    return bare and any(tag.varies(axis) for tag in tags)


def _is_known(a: Analysis, node: fx.Node, other: fx.Node) -> bool:
    if not a.tags(node):
        return True
    raw, tokens = (all(t.level is Level.RAW_INPUT for t in a.tags(n)) for n in (node, other))
    return raw and not tokens


def _shape_of(a: Analysis, node: fx.Node, rank: int, *, as_column: bool) -> list[int]:
    """An operand's shape with the axes that `_to_rank` adds."""
    shape = list(a.shape(node))
    if len(shape) == 1:
        shape = [*shape, 1] if as_column else [1, *shape]
    return [1] * (rank - len(shape)) + shape
