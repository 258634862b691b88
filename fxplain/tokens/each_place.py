"""Each place: a token that is put into a sequence at several places is a token at each of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, fx

from fxplain.capture import operation_name
from fxplain.tokens.analysis import Analysis
from fxplain.tokens.arguments import arguments
from fxplain.tokens.scaling import is_factor
from fxplain.tokens.scores import made_of_tokens
from fxplain.tokens.tag import Level, Tag, narrowed, pack, tokens_in, versions_in

__all__ = [
    "are_whole", "at_each_place", "blended_in", "chosen", "either_left", "of_each_place",
]  # fmt: skip


def chosen(a: Analysis, node: fx.Node) -> Tag | None:
    """The tag of ``where`` that puts a learned vector, or other tokens, in some tokens' place."""
    other = _either(a, node)
    if other is not None:
        return other
    named = arguments(node)
    mask, sides = named.get("condition"), (named.get("input"), named.get("other"))
    for (vector, tokens), negated in ((sides, False), (sides[::-1], True)):
        if (
            isinstance(mask, fx.Node)
            and isinstance(vector, fx.Node)
            and isinstance(tokens, fx.Node)
        ):
            made = _in_the_place_of_tokens(a, node, mask, vector, tokens, negated=negated)
            if made is not None:
                return made
    return None


def _either(a: Analysis, node: fx.Node) -> Tag | None:
    """The tag of ``where`` of two rows of tokens, of which a known mask chooses at each place."""
    named = arguments(node)
    mask, sides = named.get("condition"), [named.get("input"), named.get("other")]
    tags = [a.tags(side) for side in sides]
    if not isinstance(mask, fx.Node) or any(len(of) != 1 for of in tags) or not is_factor(a, mask):
        return None
    shape, rank = a.shape(mask), len(a.shape(node))
    either = [of[0] for of in tags]
    if shape[-1:] != (1,) or any(t.softmax or t.level is not Level.TOKEN for t in either):
        return None
    ids = [t.ids.reshape((1,) * (rank - t.ids.dim()) + tuple(t.ids.shape)) for t in either]
    tokens = torch.broadcast_tensors(*(a.book.find(tokens_in(entries)) for entries in ids))
    same = torch.equal(*tokens)  # that have heard others: routing by activations goes on with both
    if same and made_of_tokens(a, mask):
        return None
    here = a.value(mask).cpu().bool().reshape((1,) * (rank - len(shape)) + tuple(shape))
    return either[0].with_ids(narrowed(torch.where(here, ids[0], ids[1])))


def blended_in(a: Analysis, node: fx.Node, parts: Sequence[fx.Node]) -> Tag | None:
    """The same of a sum ``tokens * (1 - mask) + vector * mask``."""
    for part, tokens in itertools.permutations(parts, 2):
        left = _left(a, tokens) if operation_name(part) in ("mul", "multiply") else None
        factors = [n for n in part.args[:2] if isinstance(n, fx.Node)]
        for vector, mask in itertools.permutations(factors, 2) if left is not None else ():
            made = _in_the_place_of_tokens(a, node, mask, vector, tokens, left=left)
            if made is not None:
                return made
    return None


def either_left(a: Analysis, operands: Sequence[fx.Node]) -> Tag | None:
    """The tag of ``mask * x + (1 - mask) * y`` of the same tokens, where of each row one is left."""
    tags = [tag for n in operands for tag in a.tags(n)]
    if not len(tags) == len(operands) == 2 or tags[0].ids.shape != tags[1].ids.shape:
        return None
    if any(tag.softmax or tag.level is not Level.TOKEN for tag in tags):
        return None
    if not torch.equal(*(a.book.find(tag.tokens) for tag in tags)):
        return None
    one, other = (_left(a, n) for n in operands)
    if one is None or other is None or not bool(((one > 0) != (other > 0)).all()):
        return None
    return tags[0].with_ids(torch.where(one > 0, tags[0].ids, tags[1].ids))


def _left(a: Analysis, tokens: fx.Node) -> Tensor | None:
    """How much is left of each row of a value by what has scaled it; None where nothing has."""
    tags = a.tags(tokens)
    if len(tags) != 1:
        return None
    versions = versions_in(tags[0].ids)
    scaled = any(map(a.versions.is_scaled, versions.unique().tolist()))
    return a.versions.factors(versions, a.book.find(tags[0].tokens)) if scaled else None


def _in_the_place_of_tokens(
    a: Analysis,
    node: fx.Node,
    mask: fx.Node,
    vector: fx.Node,
    tokens: fx.Node,
    *,
    negated: bool = False,
    left: Tensor | None = None,
) -> Tag | None:
    """The tag where a mask that is known puts a learned vector in tokens' place, as an index would.

    `left` is how much is left of the tokens, where nothing may be left of what is replaced.
    """
    of_vector, of_tokens, shape = a.tags(vector), a.tags(tokens), a.shape(mask)
    rank = len(a.shape(node))
    if len(of_vector) != 1 or len(of_tokens) != 1 or not is_factor(a, mask) or shape[-1:] != (1,):
        return None
    (own,), (token,) = of_vector, of_tokens
    if (
        own.level is not Level.PARAMETER
        or own.axes
        or token.level is not Level.TOKEN
        or token.softmax
    ):
        return None
    value = a.value(mask).cpu()
    here = ((value != 0) != negated).reshape((1,) * (rank - len(shape)) + tuple(shape))
    if left is not None and not bool(((value == 0) | (value == 1)).all()):
        return None
    if left is not None and bool((left * here).any()):
        return None
    lead = (1,) * (rank - own.ids.dim()) + tuple(own.ids.shape)
    ids = torch.where(here, own.ids.reshape(lead), token.ids)
    made = at_each_place(a, token.with_ids(ids), [vector, tokens])
    return a.learned.of_each_sample(made.with_ids(narrowed(made.ids)))


def at_each_place(a: Analysis, tag: Tag, parts: Sequence[fx.Node]) -> Tag:
    """A learned token that was written to several places of a sequence is a token at each."""
    ids = tag.ids
    for axis in sorted(tag.axes - set(a.book.batch_axes)):
        of = _how_many_before(a.book.find(tokens_in(ids)), axis)
        ids = of_each_place(a, ids, of, axis, partial(are_whole, a, parts))
    return tag.with_ids(ids)


def of_each_place(
    a: Analysis, ids: Tensor, of: Tensor, axis: int, whole: Callable[[Tensor], bool]
) -> Tensor:
    """Entries side by side along an axis: a token of several of the pieces is a token of each.

    `of` is the number of the piece that each entry is of, broadcastable to them.

    It is one that was learned (a separator), or an input's of which the element is known (a text said
    twice; not where rows are packed behind each other, which may be several samples'). Not one that
    stands alone there, as in an axis of heads, nor one that has heard of others, nor one whose features
    lie along the axis.
    """
    packed = ids.dim() == 2 and axis == 0 and not _by_sample(a, of)
    if (axis in a.book.batch_axes and not packed) or axis == ids.dim() - 1:
        return ids
    tokens = a.book.find(tokens_in(ids))
    of = of.expand_as(tokens)
    twice = _in_several(tokens.movedim(axis, -1), of.movedim(axis, -1))
    said = (a.book.elements(twice) >= 0) & (not packed)
    twice = twice[a.book.learned(twice) | said]
    if not len(twice) or not whole(twice):
        return ids
    births = a.book.births_of(twice).unique()  # the others of these births are told from them
    newborn = [v for v in versions_in(ids).unique().tolist() if v >= 0 and a.versions.newborn(v)]
    here = (tokens >= 0) & torch.isin(a.book.births_of(tokens.clamp(min=0)), births)
    here &= torch.isin(versions_in(ids), torch.tensor(newborn))
    if not bool(here.any()):
        return ids
    pairs, place = torch.stack([tokens[here], of[here]]).unique(dim=1, return_inverse=True)
    own = pairs[0].contiguous()
    number = torch.arange(len(own)) - torch.searchsorted(own, own)
    copies = a.book.copy(own, int(number.max()) + 1, over_samples=False)
    made = tokens.clone()
    made[here] = copies.gather(-1, number.unsqueeze(-1)).squeeze(-1)[place]
    return torch.where(here, pack(made, versions_in(ids).clamp(min=0)), ids)


def _by_sample(a: Analysis, of: Tensor) -> bool:
    """Whether pieces are of one row for each sample, and not rows that are packed behind each other."""
    sizes = of.flatten().bincount()
    return bool(torch.isin(sizes[sizes > 0], torch.tensor(sorted({1, *a.book.batches}))).any())


def _how_many_before(tokens: Tensor, axis: int) -> Tensor:
    """For each entry, how often its token stands before it along an axis."""
    along, order = tokens.movedim(axis, -1).sort(dim=-1, stable=True)
    along = along.contiguous()
    number = torch.arange(along.shape[-1]) - torch.searchsorted(along, along)
    return torch.empty_like(number).scatter_(-1, order, number).movedim(-1, axis)


def _in_several(rows: Tensor, of: Tensor) -> Tensor:
    """The tokens (..., n) that are of several parts in one row, beside others there."""
    along, order = rows.sort(dim=-1, stable=True)
    again = (along[..., 1:] == along[..., :-1]) & (along[..., 1:] >= 0)
    again &= of.gather(-1, order).diff(dim=-1) != 0
    again &= along.amax(-1, keepdim=True) != along.amin(-1, keepdim=True)
    found: Tensor = along[..., 1:][again].unique()
    return found


def are_whole(a: Analysis, parts: Sequence[fx.Node], tokens: Tensor | None = None) -> bool:
    """Whether values hold tokens as they were born, and no keys or values that were made of them.

    Only those are asked about that are named, where some are.
    """
    todo, seen = [*parts], set[fx.Node]()
    while todo:
        node = todo.pop()
        born = {a.book.births[index].node for tag in a.tags(node) for index in tag.births}
        if node in seen or node in born:
            continue
        if any(name in operation_name(node) for name in _PROJECTIONS):
            return False
        seen.add(node)
        before = [n for n in node.all_input_nodes if not a.is_parameter(n) and a.tags(n)]
        todo += [n for n in before if tokens is None or _holds(a, n, tokens)]
    return True


def _holds(a: Analysis, node: fx.Node, tokens: Tensor) -> bool:
    held = (a.book.find(tag.tokens) for tag in a.tags(node))
    return any(bool(torch.isin(tokens, each).any()) for each in held)


_PROJECTIONS = ("linear", "mm", "matmul", "conv", "dot")
