"""Summing: what is written to one place from several, as means by group and messages on a graph are.

And sums of sums: those over every other token, or over slices of a sequence, are one when added.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import torch
from torch import Tensor, fx

from fxplain.capture import module_path, operation_name
from fxplain.tokens.analysis import Analysis
from fxplain.tokens.arguments import arguments
from fxplain.tokens.mixing import mix
from fxplain.tokens.scores import is_elementwise
from fxplain.tokens.tag import NO_TOKEN, Level, Tag, pack, tokens_in, versions_in
from fxplain.tokens.updates import RouteSite

__all__ = ["pairs_added", "summed", "sums_added"]

_TAKES = frozenset(["select", "slice", "getitem", "narrow", "index_select", "index"])
_MOST = 20_000_000
"""Entries of groups that are laid out: more than that, and it is only said that tokens are mixed."""


def summed(
    a: Analysis,
    node: fx.Node,
    tag: Tag,
    old: Tensor,
    new: Tensor,
    read: Callable[[Tensor], Tensor],
    *,
    alone: bool,
) -> Tag:
    """The tag of a value that others were added into.

    Where tokens that differ meet at a place, it is made of them all, in equal shares.

    Parameters
    ----------
    tag
        The tag as far as each place keeps what was written last.
    old, new
        Packed entries of the value and of what is written, of their whole shapes.
    read
        Reads what stands at the places that are written to, in the shape of `new`.
    alone
        Whether it is the value's only tag: scores have two.
    """
    kept, before = read(tag.ids), read(old)
    tokens = [a.book.find(tokens_in(entries)) for entries in (new, kept, before)]
    written = tokens[0] >= 0
    apart = (tokens[1] != tokens[0]) | ((tokens[2] >= 0) & (tokens[2] != tokens[0]))
    if not bool((written & apart).any()):
        both = (old >= 0) & (tag.ids >= 0)
        heard = a.joiner.union_entries(versions_in(old), versions_in(tag.ids), old.shape)
        return tag.with_ids(torch.where(both, pack(tokens_in(tag.ids), heard), tag.ids))
    groups = _groups(old, new, read) if alone and not tag.softmax else None
    if groups is None:
        a.warn_of_mixing(node)
        return tag
    standing = bool((old >= 0).all())
    made = mix(a, node, tag, groups, keep=old if standing else None)
    ids = made.ids.expand(groups.shape[:-1])
    return made.with_ids(torch.where(groups.amax(-1) < 0, NO_TOKEN, ids))


def _groups(old: Tensor, new: Tensor, read: Callable[[Tensor], Tensor]) -> Tensor | None:
    """All that stands at each place in the end, on a new last axis; None if it is too much."""
    place = read(torch.arange(old.numel()).reshape(old.shape)).flatten()
    places = torch.cat([torch.arange(old.numel()), place])
    entries = torch.cat([old.flatten(), new.flatten()])
    places, entries = places[entries >= 0], entries[entries >= 0]
    count = places.bincount(minlength=old.numel())
    if old.numel() * int(count.max()) > _MOST:
        return None
    order = places.argsort(stable=True)
    column = torch.arange(len(order)) - (count.cumsum(0) - count)[places[order]]
    groups = torch.full((old.numel(), int(count.max())), NO_TOKEN)
    groups[places[order], column] = entries[order]
    return groups.reshape(*old.shape, -1)


def sums_added(a: Analysis, node: fx.Node, operands: list[fx.Node]) -> Tag | None:
    """The sum of two sums over different tokens of one sequence: it is made of the tokens of both.

    Each by itself has shares that sum to 1; together each token's share is that in the whole. One of
    them, or both, may be a single row, as where a loop sums them up; but a row that a mean is added to
    stays what it is.
    """
    sums = [_is_sum(a, n) for n in operands]
    tags = [tag for i, n in enumerate(operands) if sums[i] or _is_row(a, n) for tag in a.tags(n)]
    if not len(tags) == len(operands) == 2 or tags[0].ids.shape != tags[1].ids.shape:
        return None
    if not any(sums) and len(node.users) != 1:
        return None  # a recurrence, whose states are read one by one
    sites = [site for site in (_sum_of(a, node, tag) for tag in tags) if site is not None]
    old = [a.book.find(tokens_in(site.old)).unique() for site in sites]
    if len(old) < 2 or bool(torch.isin(*old).any()):
        return None
    if not (a.book.share_births(*old) or a.joiner.other_words(*tags)):
        return None
    tokens = [a.book.find(tag.tokens) for tag in tags]
    parts = [_parts(a, *part) for part in zip(sites, tags, tokens, strict=True)]
    numbers = _numbers(a, node, operands)
    as_they_are = any(sums) and not all(sums) and set(numbers) == {1.0}
    if as_they_are and _is_mean(a, sites[sums.index(True)], parts[sums.index(True)]):
        return None
    made = a.book.add(
        "route", node.name, tags[0].ids.shape, module=module_path(node), node=node,
        samples=a.book.samples(tokens[0]), made_of=a.book.lineage(torch.cat(tokens)),
    )  # fmt: skip
    new = []
    for site, of in zip(sites, tokens, strict=True):
        place = torch.full((len(a.book),), NO_TOKEN).scatter(0, of.flatten(), made.flatten())
        new.append(place[a.book.find(site.new)])
    parts = [part * number for part, number in zip(parts, numbers, strict=True)]
    target, part = torch.cat(new), torch.cat(parts)
    total = torch.zeros(len(a.book), dtype=torch.float64).index_add(0, target, part)[target]
    shares = part / total.clamp(min=1e-300)
    index, real = len(a.updates), shares > 0
    made_of = torch.cat([site.old for site in sites])
    a.updates.append(
        RouteSite(index, node, "sum", target[real], made_of[real], shares[real], total[real])
    )
    return Tag(pack(made, a.versions.intern(frozenset({index}))), max(tag.level for tag in tags))


def pairs_added(a: Analysis, node: fx.Node, operands: list[fx.Node]) -> Tag | None:
    """The sum of rows of one sequence and as many other ones of it: each is made of a pair.

    Tokens are merged so (``x[:, ::2] + x[:, 1::2]``), and each with the next one (``x[:, :-1] +
    x[:, 1:]``): none of the rows is the sum's own.
    """
    tags = [tag for n in operands for tag in a.tags(n)]
    if not len(tags) == len(operands) == 2 or tags[0].ids.shape != tags[1].ids.shape:
        return None
    if any(tag.softmax or tag.carried or tag.level is not Level.TOKEN for tag in tags):
        return None
    tokens = [a.book.find(tag.tokens).flatten() for tag in tags]
    samples = [a.book.samples(own) for own in tokens]
    if len(tokens[0]) <= a.book.batch_size or not torch.equal(*samples):
        return None
    every = torch.cat(tokens)
    if bool((every < 0).any()) or bool((tokens[0] == tokens[1]).any()):
        return None
    each_once = all(len(own.unique()) == len(own) for own in tokens)
    if not each_once or _is_among(*tokens) or _is_among(*tokens[::-1]):
        return None  # a row's neighbours, beside it
    if not (a.book.share_births(*tokens) or a.joiner.other_words(*tags)):
        return None
    groups = torch.stack([tag.ids for tag in tags], -1)
    factors = a.versions.factors(versions_in(groups), a.book.find(tokens_in(groups)))
    factors = factors * torch.tensor(_numbers(a, node, operands), dtype=torch.float64)
    return mix(a, node, tags[0], groups, weights=lambda: factors)


def _is_among(one: Tensor, other: Tensor) -> bool:
    return bool(torch.isin(one, other).all())


def _numbers(a: Analysis, node: fx.Node, operands: list[fx.Node]) -> list[float]:
    """How often a sum holds each of two operands, by the numbers that have multiplied it since."""
    found = []
    for operand in operands:
        number = 1.0
        if operation_name(node) == "lerp":
            share = a.value(node.args[2])
            number = float(abs(share if operand is not node.args[0] else 1 - share))
        elif operand is not node.args[0]:
            number = float(abs(a.value(arguments(node).get("alpha", 1))))
        while is_elementwise(operand):
            tagged = [n for n in operand.all_input_nodes if _holds_tokens(a, n)]
            if len(tagged) != 1:
                break
            number *= _factor(a, operand, tagged[0])
            operand = tagged[0]
        found.append(number)
    return found


def _factor(a: Analysis, node: fx.Node, value: fx.Node) -> float:
    """The one number that a value is multiplied with, or 1."""
    name = operation_name(node)
    if name not in ("mul", "multiply", "div", "divide", "true_divide") or len(node.args) < 2:
        return 1.0
    first, second = node.args[:2]
    divides = name not in ("mul", "multiply")
    if divides and first is not value:
        return 1.0
    other = a.value(second if first is value else first)
    if isinstance(other, Tensor):
        if other.numel() != 1 or other.is_complex():
            return 1.0
        other = other.item()
    number = abs(float(other))
    return (1 / number if number else 1.0) if divides else number


def _holds_tokens(a: Analysis, node: fx.Node) -> bool:
    return not a.is_parameter(node) and any(t.level > Level.RAW_INPUT for t in a.tags(node))


def _parts(a: Analysis, site: RouteSite, tag: Tag, tokens: Tensor) -> Tensor:
    """How often a sum holds each of its tokens, for all that has scaled it since."""
    left = torch.ones(len(a.book), dtype=torch.float64)
    left[tokens.flatten()] = a.versions.factors(versions_in(tag.ids), tokens).flatten()
    return site.weights * site.totals * left[a.book.find(site.new)]


def _is_mean(a: Analysis, site: RouteSite, parts: Tensor) -> bool:
    """Whether how often a sum holds its tokens adds up to 1."""
    new = a.book.find(site.new)
    total = torch.zeros(len(a.book), dtype=torch.float64).index_add(0, new, parts)[new]
    return bool(((total - 1).abs() < 1e-6).all())


def _is_row(a: Analysis, node: fx.Node) -> bool:
    """Whether a value is one row of each sample, taken out of a sequence, at most scaled since."""
    node, added = _unscaled(a, node, _TAKES)
    if added:
        return len(node.users) == 1 and all(_is_row(a, n) for n in added)
    return operation_name(node) in _TAKES and all(
        tag.ids.numel() <= a.book.batch_size for tag in a.tags(node)
    )


def _unscaled(
    a: Analysis, node: fx.Node, ends: Collection[str] = ()
) -> tuple[fx.Node, list[fx.Node]]:
    """What a value was before it was scaled, and what that is the sum of, if of two values."""
    while operation_name(node) not in ends and (is_elementwise(node) or _of_features(a, node)):
        tagged = [n for n in node.all_input_nodes if _holds_tokens(a, n)]
        if len(tagged) != 1:
            return node, tagged if operation_name(node) == "add" and len(tagged) == 2 else []
        node = tagged[0]
    return node, []


def _of_features(a: Analysis, node: fx.Node) -> bool:
    """Whether each token's features are reduced to one (scores of a chain, by ``logsumexp``)."""
    if operation_name(node) not in ("sum", "mean", "amax", "amin", "logsumexp"):
        return False
    source = node.all_input_nodes[0]
    found = a.value(arguments(node).get("dim"))
    dims = [found] if isinstance(found, int) else found or []
    shape = a.shape(source)
    return bool(dims) and not any(
        shape[dim] == 1 or tag.varies(dim % len(shape)) for tag in a.tags(source) for dim in dims
    )


def _is_sum(a: Analysis, node: fx.Node) -> bool:
    """Whether a value is a sum over an axis that is not the features', at most scaled since."""
    node, added = _unscaled(a, node)
    if added:
        return all(_is_sum(a, n) for n in added)
    found = a.value(arguments(node).get("dim")) if operation_name(node) in ("sum", "mean") else None
    dims = [found] if isinstance(found, int) else found or []
    rank = len(a.shape(node.all_input_nodes[0])) if dims else 0
    return bool(dims) and all(dim % rank != rank - 1 for dim in dims)


def _sum_of(a: Analysis, node: fx.Node, tag: Tag) -> RouteSite | None:
    """The sum that made a value's tokens; of one token, that token."""
    tokens = a.book.find(tag.tokens)
    if bool((tokens < 0).any()):
        return None
    sets = {a.versions.of(v) for v in versions_in(tag.ids).unique().tolist() if v >= 0}
    updates = next(iter(sets)) if len(sets) == 1 else ()
    site = a.updates[max(updates)] if updates and max(updates) >= 0 else None
    if isinstance(site, RouteSite) and site.operation in ("sum", "mean") and len(updates) == 1:
        own = torch.isin(
            a.book.find(site.new), tokens.flatten()
        )  # but for those of masked tokens alone
        return site if bool(own.all()) else None
    made = [birth.index for birth in a.book.births if birth.kind == "route"]
    if bool(torch.isin(a.book.births_of(tokens), torch.tensor(made)).any()):
        return None
    ones = torch.ones(tokens.numel(), dtype=torch.float64)
    return RouteSite(-1, node, "sum", tokens.flatten(), tag.ids.flatten(), ones, ones)
