"""Heads that the model computes apart: nodes of their own, or side by side among the keys."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence

import torch
from torch import Tensor, fx

from fxplain.capture import operation_name
from fxplain.tokens import (
    AttentionSite,
    TokenFlow,
    content_inputs,
    is_elementwise,
    moves,
    tokens_in,
    versions_in,
)

__all__ = ["distinct_in_row", "heads_among_keys", "heads_among_rows", "sibling_heads"]

_SIDE_BY_SIDE = frozenset(
    [
        "cat", "concat", "stack", "slice_scatter", "select_scatter", "index_copy", "index_put", "copy",
        "masked_scatter", "scatter",
    ]
)  # fmt: skip
_SUMS = frozenset(["add", "addmm", "addbmm", "baddbmm", "addcmul"])
_PROJECTIONS = frozenset(["linear", "matmul", "mm", "bmm", *_SUMS])


def sibling_heads(flow: TokenFlow) -> dict[int, tuple[int, ...]]:
    """For each attention site, the sites that hold the heads of one attention with it, in order.

    A model may compute its heads one by one, or some with other keys than others (pooled ones, the
    tokens of a row, those of a column). They have the same queries, which have absorbed the same, and
    keys of the same inputs, and their outputs are put side by side as features, or each head is
    projected and they are summed, which is the same. Equation 5 takes the mean over them all.
    """
    sites = [u for u in flow.updates if isinstance(u, AttentionSite)]
    outputs = {site.output for site in sites}
    families: dict[fx.Node, list[list[AttentionSite]]] = {}
    ways = {site.index: list(_way_on(site, outputs)) for site in sites}
    for site in sites:
        for joint in _joints(flow, site, ways[site.index]):
            found = families.setdefault(joint, [])

            def alike(family: list[AttentionSite], site: AttentionSite = site) -> bool:
                # of other keys, what is summed may be a part of one softmax, wherever it goes then
                met = next(n for n in ways[site.index] if n in ways[family[0].index])
                summed = operation_name(met) in _SUMS or met is site.output
                return _alike(flow, family[0], site, summed=summed)

            family = next(filter(alike, found), None)
            if family is None:
                found.append([site])
            else:
                family.append(site)
    siblings: dict[int, tuple[int, ...]] = {}
    heard = _heard(flow, sites)
    for family in (family for found in families.values() for family in found):
        together = tuple(sibling.index for sibling in family)
        if any(0 < len(some & {*together}) < len(together) for some in heard):
            continue  # what one says is attended to alone: models side by side, as vmap runs them
        siblings |= {i: together for i in together if len(together) >= len(siblings.get(i, ()))}
    return siblings


def _heard(flow: TokenFlow, sites: Collection[AttentionSite]) -> set[frozenset[int]]:
    """What the queries and keys of attentions have absorbed."""
    entries = [versions_in(part).unique().tolist() for s in sites for part in (s.rows, s.columns)]
    return {
        flow.versions.of(version) for version in {v for found in entries for v in found if v >= 0}
    }


def _joints(flow: TokenFlow, site: AttentionSite, way: Sequence[fx.Node]) -> Iterator[fx.Node]:
    """The nodes at which a site's output may meet that of another head.

    Whole attentions that are summed are two; what has no axis of heads is a head.
    """
    one_head = _is_one_head(flow, site)
    for node in way[1:]:
        name = operation_name(node)
        if name in _SIDE_BY_SIDE or (name in _SUMS and one_head):
            yield node


def _way_on(site: AttentionSite, outputs: Collection[fx.Node]) -> Iterator[fx.Node]:
    """A site's output, and where it meets others, as long as nothing else reads it."""
    yield site.output
    readers = _readers(site.output)
    while len(readers) == 1:
        (node,) = readers
        name = operation_name(node)
        if name in _SIDE_BY_SIDE or name in _SUMS:
            yield node
        elif not (is_elementwise(node) or moves(node) or name in _PROJECTIONS) or node in outputs:
            return
        readers = _readers(node)


def _readers(node: fx.Node) -> list[fx.Node]:
    """The nodes that read what a value holds: not its shape alone, and not for nothing."""
    return [
        user for user in node.users
        if node in content_inputs(user)
        and (user.op == "output" or not moves(user) or _readers(user) or not user.users)
    ]  # fmt: skip


def _is_one_head(flow: TokenFlow, site: AttentionSite) -> bool:
    """Whether every map of a site is of tokens of its own: none stands beside it as another head."""
    lead = site.shape[:-2]
    first = [site.rows[..., :1, 0], site.columns[..., 0, :1]]
    maps = torch.stack([flow.book.find(tokens_in(entries)).expand(*lead, 1) for entries in first])
    return len(maps.flatten(1).unique(dim=1).T) == math.prod(lead)


def _alike(flow: TokenFlow, one: AttentionSite, other: AttentionSite, *, summed: bool) -> bool:
    """Whether two sites have the same queries and keys; side by side, keys of the same inputs do.

    Queries and keys have absorbed the same.
    """
    if not torch.equal(_asked(flow, one.rows), _asked(flow, other.rows)):
        return False
    if torch.equal(_asked(flow, one.columns), _asked(flow, other.columns)):
        return True
    return not summed and _inputs(flow, one.columns) == _inputs(flow, other.columns)


def _asked(flow: TokenFlow, entries: Tensor) -> Tensor:
    """The tokens of entries and what they have absorbed, (tokens, 2), each once."""
    real = entries[entries >= 0]
    tokens, versions = flow.book.find(tokens_in(real)), flow.versions.absorbed(versions_in(real))
    pairs: Tensor = torch.stack([tokens, versions], -1).unique(dim=0)
    return pairs


def _inputs(flow: TokenFlow, entries: Tensor) -> tuple[frozenset[str], frozenset[int]]:
    """The inputs that keys are made of, and the attentions that they have heard."""
    real = entries[entries >= 0]
    heard = {u for v in versions_in(real).unique().tolist() for u in flow.versions.of(v)}
    sites = frozenset(u for u in heard if u >= 0 and isinstance(flow.updates[u], AttentionSite))
    return flow.book.lineage(flow.book.find(tokens_in(real))), sites


def heads_among_rows(flow: TokenFlow, rows: Tensor, columns: Tensor) -> tuple[int, Tensor | None]:
    """How often a query token has a row of its own in a node's map: these rows are heads.

    Multi-query attention lays its heads out among the queries, hashed attention among the groups.
    A query's map is the mean over all of them, but for those that it asks of another sample, where
    it asks its own, too (each text of each video).

    Parameters
    ----------
    rows, columns
        Packed entries of the queries, (groups, queries), and of the keys, (groups, keys).

    Returns
    -------
    int, torch.Tensor or None
        The number for all tokens; where it differs, 1 and each row's share, (groups, queries).
    """
    tokens = flow.book.find(tokens_in(rows))
    distinct, place, count = tokens.unique(return_inverse=True, return_counts=True)
    own = _asks_its_own(flow, tokens, columns).double()
    asked = torch.zeros(len(distinct), dtype=torch.float64)
    asked.index_add_(0, place.flatten(), own.flatten())
    if bool(((asked > 0) & (asked < count) & (distinct >= 0)).any()):
        return 1, torch.where(asked[place] > 0, own, 1) / torch.where(asked > 0, asked, count)[
            place
        ]
    count = torch.where(distinct < 0, 1, count)
    known = count[distinct >= 0].unique().tolist()
    if len(known) <= 1:
        return (known[0] if known else 1), None
    return 1, 1 / count.double()[place]


def _asks_its_own(flow: TokenFlow, tokens: Tensor, columns: Tensor) -> Tensor:
    """Whether no key of a query's group is known to be of another sample than the query."""
    of_keys = flow.book.samples(flow.book.find(tokens_in(columns))).amax(-1, keepdim=True)
    of_queries = flow.book.samples(tokens)
    return (of_keys < 0) | (of_queries < 0) | (of_keys == of_queries)


def distinct_in_row(flow: TokenFlow, entries: Tensor, size: int) -> int:
    """How many tokens stand side by side in a map, heads that stand there with them counted once."""
    if size < 2 or not entries.numel():
        return size
    if entries.shape[-1] != size:  # one token for all
        return 1
    tokens = flow.book.find(tokens_in(entries)).reshape(-1, size)
    first = tokens[0]
    real = first[first >= 0]
    _, count = real.unique(return_counts=True)
    same = len(count) > 0 and len(count.unique()) == 1 and len(real) == size
    return size // int(count[0]) if same else size


def heads_among_keys(flow: TokenFlow, site: AttentionSite) -> int:
    """How many heads a contraction sums over together with the keys (1: keys alone).

    The weights were normalised for each head, so that a query's weights sum to the number of heads,
    and every key stands there once for each.
    """
    if "softmax" not in operation_name(site.softmax):
        return 1
    size = flow.normalized[site.softmax][int(site.softmax.args[1])]  # type: ignore[arg-type]
    keys = site.shape[-1]
    if size >= keys or keys % size:
        return 1
    tokens = flow.book.find(tokens_in(site.columns)).flatten(0, -2)
    if tokens.shape[-1] != keys:
        return 1
    ordered = tokens.sort(-1).values.unflatten(-1, (size, keys // size))
    once_each = bool((ordered == ordered[..., :1]).all())
    distinct = bool((ordered[:, 1:, 0] != ordered[:, :-1, 0]).all())
    return keys // size if once_each and distinct else 1
