"""Which mixings of newborn tokens are routes: those whose old tokens attend to the new ones."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from fxplain.tokens import AttentionSite, Mixing, RouteSite, TokenFlow, reduces, tokens_in

__all__ = ["settle_mixings"]


def settle_mixings(flow: TokenFlow) -> frozenset[int]:
    """Turn mixings into routes where it matters.

    Spatial reduction lets tokens attend to a smaller grid that was made of them: queries and keys are
    then one sequence, and the reduction is a route; so it is where queries were made of keys. So is the
    mean of all words that attends, the mean of all tokens that is put beside them as a token of its
    own, or that a route mixes with them (features of queries that attend to nothing, a dense layer over
    all of them), and what makes newborn tokens of others of which they hear later on, too (patches of
    pixels that attend by themselves), or of those that they are added to (a mixer's layers), and what
    makes an output of tokens that attend elsewhere. Everything else that happens to newborn tokens,
    such as a backbone's convolutions, gives birth to the tokens that count; a single
    mixture that was added to one of its tokens is that token.

    Returns
    -------
    frozenset of int
        Indices of the mixings that stay births. The others are replaced in ``flow.updates``.
    """
    mixings = {u.index: u for u in flow.updates if isinstance(u, Mixing)}
    made_by = {_birth(flow, u.new): u.index for u in mixings.values()}
    words = {b.index for b in flow.book.births if b.looked_up}
    routes: set[int] = set()
    attending: set[int] = set()
    for site in flow.updates:
        if isinstance(site, AttentionSite) and made_by:
            rows, columns = _births(flow, site.rows), _births(flow, site.columns)
            attending |= rows | columns
            for made, others in ((columns, rows), (rows, columns)):
                for birth in made - others:
                    routes |= _path(flow, mixings, made_by, birth, others)
            for birth in rows | columns:
                if flow.book.births[birth].count <= flow.book.batch_size:
                    others = ((rows | columns) - {birth}) | words
                    routes |= _path(flow, mixings, made_by, birth, others)
    for tags in flow.outputs if attending else ():
        for birth in set().union(*(_births(flow, tag.ids) for tag in tags)) - attending:
            routes |= _path(flow, mixings, made_by, birth, attending)
    pooled = {
        birth for birth, index in made_by.items()
        if reduces(mixings[index].node) or flow.book.births[birth].count <= flow.book.batch_size
    }  # fmt: skip
    for site in flow.updates:
        if isinstance(site, RouteSite) and pooled:
            made, of = _births(flow, site.new), _births(flow, site.old)
            for birth in of & pooled:
                routes |= _path(flow, mixings, made_by, birth, (made | of) - {birth})
    for update in flow.updates:
        if isinstance(update, RouteSite):
            routes |= _made_twice(flow, mixings, made_by, update)
    routes |= _of_the_same(flow, mixings, routes)
    for layer in _into_themselves(flow, mixings, made_by):
        alike = _of_the_same(flow, mixings, layer)  # but what the layer's own tokens were made of
        routes |= {index for index in alike if index >= min(layer)}
    for index in routes:
        mixing = mixings[index]
        flow.updates[index] = mixing.weighed()
        birth = _birth(flow, mixing.new)
        flow.book.births[birth] = replace(
            flow.book.births[birth], kind="route", root=mixing.node.name
        )
    births = frozenset(mixings.keys() - routes)
    for index in births:  # forget the analysis that they could be weighed with
        flow.updates[index] = replace(mixings[index], weighed=_settled)
    flow.versions.forget_factors()
    return births


def _made_twice(
    flow: TokenFlow, mixings: dict[int, Mixing], made_by: dict[int, int], route: RouteSite
) -> set[int]:
    """The mixings that made newborn tokens of others, of which these hear once more by a route."""
    old, found = _births(flow, route.old), set[int]()
    for birth in _births(flow, route.new) - old:
        found |= _path(flow, mixings, made_by, birth, old)
    return found


def _into_themselves(
    flow: TokenFlow, mixings: dict[int, Mixing], made_by: dict[int, int]
) -> Iterator[set[int]]:
    """The mixings of a whole sequence whose result was added to that sequence (a mixer's layers)."""
    for birth, index in made_by.items():
        new = mixings[index].new
        same = flow.book.births_united(flow.book.find(new)) - {birth}
        if not same or new.numel() <= flow.book.batch_size:
            continue
        earlier = {b: i for b, i in made_by.items() if i < index}
        for older in set(flow.book.births_of(mixings[index].old).tolist()):
            further = _path(flow, mixings, earlier, older, same)
            if older in same or further:
                yield {index} | further


def _of_the_same(flow: TokenFlow, mixings: dict[int, Mixing], routes: set[int]) -> set[int]:
    """The mixings whose tokens turned out to be those of one of `routes` (keys and their values)."""
    made = [flow.book.find(mixings[index].new).flatten() for index in routes]
    if not made:
        return set()
    known = torch.cat(made).unique()
    return {
        index
        for index, mixing in mixings.items()
        if bool(torch.isin(flow.book.find(mixing.new), known).all())
    }


def _settled() -> RouteSite:
    raise AssertionError("a birth has no weights")


def _path(
    flow: TokenFlow,
    mixings: dict[int, Mixing],
    made_by: dict[int, int],
    birth: int,
    targets: set[int],
) -> set[int]:
    """The mixings on the way back from `birth` to one of `targets` (none if there is no way)."""
    known: dict[int, set[int]] = {}

    def back(birth: int, before: float) -> set[int]:
        index = made_by.get(birth, before)
        if index >= before:  # back in time only
            return set()
        if birth not in known:
            known[birth] = through(int(index))
        return known[birth]

    def through(index: int) -> set[int]:
        if not flow.book.births_united(flow.book.find(mixings[index].new)).isdisjoint(targets):
            return set()
        old = set(flow.book.births_of(mixings[index].old).tolist())
        if old & targets:
            return {index}
        return next(({index} | way for older in old if (way := back(older, index))), set())

    return back(birth, math.inf)


def _birth(flow: TokenFlow, tokens: Tensor) -> int:
    """The birth at which a mixing's tokens came to be (before they were united with others)."""
    return int(flow.book.births_of(tokens.flatten()[:1]))


def _births(flow: TokenFlow, entries: Tensor) -> set[int]:
    tokens = flow.book.find(tokens_in(entries)).unique()
    return set(torch.unique(flow.book.births_of(tokens[tokens >= 0])).tolist())
