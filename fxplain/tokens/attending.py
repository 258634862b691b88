"""Attention sites: whose queries attend, to whose keys, and what carries their tokens on."""

from __future__ import annotations

import torch
from torch import Tensor, fx

from fxplain.capture import module_path, operation_name
from fxplain.tokens.analysis import Analysis, Tagged
from fxplain.tokens.arguments import arguments
from fxplain.tokens.mapping import rows_of_weights, rows_settled
from fxplain.tokens.mixing import absorbed, name_alike, one_token, settled
from fxplain.tokens.neighbours import with_neighbours
from fxplain.tokens.scores import OF_A_GROUP, OVER_STATES, is_exponential, late_division
from fxplain.tokens.sites import note
from fxplain.tokens.tag import (
    Level,
    Tag,
    Tags,
    broadcast_shape,
    narrowed,
    pack,
    tokens_in,
    versions_in,
    whole_tokens,
)
from fxplain.tokens.updates import AttentionSite

__all__ = ["attend", "fused_attention"]


def fused_attention(a: Analysis, node: fx.Node) -> Tagged:
    """``scaled_dot_product_attention``: queries (..., L, E), keys (..., S, E), values (..., S, Ev)."""
    named = arguments(node)
    query, key, value = named["query"], named["key"], named["value"]
    q_shape, k_shape = a.shape(query), a.shape(key)
    heads_axis = len(q_shape) - 3
    lead = list(q_shape[:-2])
    columns = _keys(a, key, value)
    stated = None if columns is None else _state(a, query, columns)
    if stated is not None:
        a.softmaxes[node] = OVER_STATES
        return (stated,)
    shape = (*lead, q_shape[-2], k_shape[-2])
    a.softmaxes[node] = None
    if _over_features(a, key):
        a.softmaxes[node] = "it normalises over features, not over tokens"
        return a.joiner.promoted(a.tags(value))
    if columns is None:
        a.softmaxes[node] = "neither its keys nor its values belong to tokens"
        return ()
    if heads_axis >= 0 and columns.shape[heads_axis] not in (1, lead[heads_axis]):
        group = lead[heads_axis] // columns.shape[heads_axis]  # grouped queries
        columns = columns.repeat_interleave(group, heads_axis)
    _note_pairs(a, named.get("attn_mask"))
    asking = whole_tokens(a.tags(query), a.tags(key), k_shape)
    rows = _rows(a, node, a.joiner.promoted(asking), columns, tuple(shape))
    index = len(a.updates)
    note(a, AttentionSite(
        index, "fused", node, node, None, value, True, -1, tuple(shape), rows,
        columns.transpose(-1, -2),
    ))  # fmt: skip
    return (Tag(absorbed(a, index, rows)),)


def _note_pairs(a: Analysis, mask: object) -> None:
    """What an input says of every pair of query and key (how far boxes are apart) is no token's."""
    for tag in a.tags(mask) if isinstance(mask, fx.Node) else ():
        last = tag.ids.dim() - 1
        if tag.varies(last) and tag.varies(last - 1) and a.joiner.newborn(tag):
            real = tag.tokens[tag.tokens >= 0]
            a.conditions.pairs.update(a.book.births_of(real).unique().tolist())


def _state(a: Analysis, query: fx.Node, columns: Tensor) -> Tag | None:
    """The tokens whose own states a learned query weighs, many in a sample, each by itself.

    None where keys are other tokens. Of a first layer there is one state yet.
    """
    asking = a.joiner.promoted(a.tags(query))
    if not all(tag.level is Level.PARAMETER_TOKEN for tag in asking):
        return None
    ids = one_token(a, columns.movedim(-2, -1))
    many = columns.numel() > columns.shape[-2] * a.book.batch_size
    return Tag(ids.unsqueeze(-2)) if many and ids is not None else None


def _over_features(a: Analysis, key: fx.Node) -> bool:
    """Whether the rows of the keys are channels, with the tokens side by side in each."""
    tags = [tag for tag in a.tags(key) if tag.level is not Level.RAW_INPUT]
    return any(tag.varies(tag.ids.dim() - 1) and not tag.varies(tag.ids.dim() - 2) for tag in tags)


def _keys(a: Analysis, key: fx.Node, value: fx.Node) -> Tensor | None:
    """Packed entries (..., keys, 1) of the attended tokens: keys and values together name them."""
    sides = []
    for node in (value, key):
        tags = settled(a, node, a.tags(node), len(a.shape(node)) - 1)
        tags = a.joiner.promoted(tags)
        if tags:
            last = len(a.shape(node)) - 1
            tags = tuple(with_neighbours(a, node, tag, last) for tag in tags)
            sides.append((tuple(_one_per_row(tag) for tag in tags), (*a.shape(node)[:-1], 1)))
    if not sides:
        return None
    joined = a.joiner.join(sides, broadcast_shape(shape for _, shape in sides))
    return _as_carried(joined[0].ids, sides[0][0][0].ids)


def _as_carried(columns: Tensor, values: Tensor) -> Tensor:
    """The attended tokens as their values hold them: keys say who is attended, values what is heard."""
    if columns.shape != values.shape:
        return columns
    versions = torch.where(values >= 0, versions_in(values), versions_in(columns))
    return pack(tokens_in(columns), versions.clamp(min=0))


def _one_per_row(tag: Tag) -> Tag:
    return tag.with_ids(tag.ids[..., :1])


def _rows(
    a: Analysis, node: fx.Node, tags: Tags, columns: Tensor, shape: tuple[int, ...]
) -> Tensor:
    """Packed entries (..., queries, 1); a query that belongs to no token is one that pools."""
    if tags:
        return tags[0].ids[..., :1]
    if columns.shape[-1] > 1:
        a.warn(
            f"queries of {node.target} in {module_path(node) or 'the model'} could not be followed, "
            f"though each has keys of its own: its relevance is not to be trusted"
        )
    tokens = a.book.find(tokens_in(columns)).amax(-2)
    lead = [*columns.shape[:-2], shape[-2]]  # one pooled token per sequence, whatever its heads
    samples = a.book.samples(tokens.clamp(min=0)).expand(lead)
    made = a.book.add(
        "route", node.name, lead, module=module_path(node), node=node, samples=samples
    )
    return made.unsqueeze(-1)


def attend(
    a: Analysis,
    node: fx.Node,
    weights: fx.Node,
    values: fx.Node,
    weight_tags: Tags,
    value_tags: Tags,
    mark: fx.Node,
    weights_on_left: bool,
) -> Tags:
    """``weights @ values`` in the frame (..., queries, keys) @ (..., keys, features)."""
    rank = weight_tags[0].ids.dim()
    shape = list(a.shape(weights))
    shape = [1] * (rank - len(shape)) + shape
    if not weights_on_left:
        shape[-1], shape[-2] = shape[-2], shape[-1]
    weight_tags = tuple(rows_settled(t) for t in weight_tags)
    if all(t.learned for t in value_tags) and _weighs_tokens(a, mark, node):
        return rows_of_weights(a, weight_tags, rank)  # positions' values beside the words'
    own = tuple(t.with_ids(t.ids.transpose(-1, -2)) for t in weight_tags if t.varies(rank - 1))
    rows = [t for t in weight_tags if not t.varies(rank - 1)]
    over_tokens = [
        t.with_ids(narrowed(t.ids)) if t.varies(rank - 1) else t
        for t in value_tags
        if t.varies(rank - 2)
    ]
    apart = [x for x in range(rank - 2) if shape[x] == 1]
    if any(t.varies(x) for t in over_tokens for x in (*apart, rank - 1)):
        a.softmaxes[mark] = OF_A_GROUP
        a.warn_of_mixing(node)
        return tuple(t for t in value_tags if t not in over_tokens)
    if shape[-1] == 1:
        over_tokens = list(value_tags)
        others = [t for t in rows if not any(name_alike(a, t, v) for v in value_tags)]
        rows = others or rows
    sides = [(t,) for t in (*over_tokens, *own)]
    joined = a.joiner.join(
        [(side, side[0].ids.shape) for side in sides],
        broadcast_shape(side[0].ids.shape for side in sides),
    )
    columns = _as_carried(joined[0].ids, sides[0][0].ids) if over_tokens else joined[0].ids
    row_ids = _rows(a, node, tuple(rows), columns, tuple(shape))
    index = len(a.updates)
    note(a, AttentionSite(
        index, "product", node, mark, weights, values, weights_on_left, -1, tuple(shape), row_ids,
        columns.transpose(-1, -2), late_division(a, node, weights) if is_exponential(mark) else None,
    ))  # fmt: skip
    level = max((t.level for t in rows), default=Level.TOKEN)
    return (Tag(absorbed(a, index, row_ids), level),)


def _weighs_tokens(a: Analysis, mark: fx.Node, node: fx.Node) -> bool:
    """Whether the weights that a softmax made are contracted elsewhere with what an input is in."""
    todo, seen = [mark], {mark}
    while todo:
        weights = todo.pop()
        for user in weights.users:
            if user is node or user in seen:
                continue
            seen.add(user)
            if operation_name(user) in ("matmul", "bmm"):
                others = [n for n in user.all_input_nodes if n not in seen]
                if any(a.origins(n) and a.tags(n) for n in others):
                    return True
            elif operation_name(user) in _LAID_OUT:
                todo.append(user)
    return False


_LAID_OUT = (
    "view", "reshape", "unsqueeze", "squeeze", "expand", "clone", "contiguous", "dropout", "to",
)  # fmt: skip
