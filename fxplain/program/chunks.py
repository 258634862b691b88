"""Chunks: one attention whose queries or keys the model takes in parts (memory-efficient attention)."""

from __future__ import annotations

from collections.abc import Collection
from operator import getitem

import torch
from torch import Tensor, fx

from fxplain.capture import operation_name
from fxplain.tokens import AttentionSite, TokenFlow, is_elementwise, moves, tokens_in, versions_in

__all__ = ["chunked_attentions", "sequences"]

_CUTS = frozenset(
    [
        "slice", "split", "split_with_sizes", "chunk", "narrow", "select", "unbind",
        "tensor_split", "unsafe_split", "unsafe_chunk", "unsafe_split_with_sizes", "index_select",
    ]
)  # fmt: skip
_PRODUCTS = frozenset(["matmul", "bmm", "mm", "baddbmm"])
_FAR = 64  # steps from weights back to the queries


def chunked_attentions(flow: TokenFlow) -> dict[int, tuple[int, ...]]:
    """For each attention site that is a part of one attention, all of its parts.

    They are cut from the same queries, or from the weights of one softmax, or every key asks in one of
    them; and they see the same keys, which have absorbed the same; no query is in two of them.
    Equation 10 and what is one sequence are matters of the whole.
    """
    parts: dict[fx.Node, list[tuple[AttentionSite, str]]] = {}
    for site in flow.updates:
        if isinstance(site, AttentionSite):
            for cut, which in _cut_from(site).items():
                parts.setdefault(cut, []).append((site, which))
    found: dict[int, tuple[int, ...]] = {}
    for cut_alike in parts.values():
        sites = {site: which for site, which in cut_alike if site.index not in found}
        alike = [s for s in sites if _same_keys(flow, next(iter(sites)), s)]
        rows = [flow.book.find(tokens_in(s.rows)).unique() for s in alike]
        apart = len({sites[site] for site in alike}) == len(alike) > 1  # other parts of it each
        if apart and sum(map(len, rows)) == len(torch.cat(rows).unique()):
            family = tuple(site.index for site in alike)
            found.update(dict.fromkeys(family, family))
    return found | _parts_of_a_sequence(flow, found)


def _parts_of_a_sequence(flow: TokenFlow, known: Collection[int]) -> dict[int, tuple[int, ...]]:
    """Further attentions of which each asks for a part of a sequence, all of which they see."""
    sites = [s for s in flow.updates if isinstance(s, AttentionSite) and s.index not in known]
    seen: dict[tuple[int, ...], list[AttentionSite]] = {}
    for site in sites:
        seen.setdefault(tuple(_entries(flow, site.columns).flatten().tolist()), []).append(site)
    found: dict[int, tuple[int, ...]] = {}
    for family in seen.values():
        asking = [_entries(flow, site.rows) for site in family]
        every, keys = torch.cat(asking, 1), _entries(flow, family[0].columns)
        whole = every.shape == keys.shape and torch.equal(every.unique(dim=1), keys)
        if len(family) > 1 and whole:
            together = tuple(site.index for site in family)
            found |= dict.fromkeys(together, together)
    return found


def sequences(
    flow: TokenFlow, chunks: dict[int, tuple[int, ...]]
) -> tuple[list[list[AttentionSite]], list[list[AttentionSite]]]:
    """The attention sites whose queries are one sequence, and those whose keys are.

    Parameters
    ----------
    flow
        The token analysis.
    chunks
        See `chunked_attentions`.
    """
    sites = {u.index: u for u in flow.updates if isinstance(u, AttentionSite)}
    queries = [
        [sites[part] for part in chunks.get(index, (index,))]
        for index in sites
        if chunks.get(index, (index,))[0] == index
    ]
    keys: dict[tuple[fx.Node, tuple[int, ...]], list[AttentionSite]] = {}
    for site in sites.values():  # those that one sum normalises, of the same queries
        asking = flow.book.find(tokens_in(site.rows)).unique().tolist()
        keys.setdefault((site.division or site.softmax, tuple(asking)), []).append(site)
    return queries, list(keys.values())


def _cut_from(site: AttentionSite) -> dict[fx.Node, str]:
    """What a site's queries, or its weights, were cut from, or what acts on these (a mask, a bias).

    With each, which part of it was taken.
    """
    start = site.node.args[0] if site.form == "fused" else site.weights
    todo = [(start, "")] if isinstance(start, fx.Node) else []
    found: dict[fx.Node, str] = {}
    seen: set[fx.Node] = set()
    while todo and len(seen) < _FAR:
        node, part = todo.pop()
        name, sources = operation_name(node), node.all_input_nodes
        if node in seen or node.op != "call_function" or not sources:
            continue
        seen.add(node)
        if name in _CUTS:
            which = f"{part} {name} {node.args[1:]}"
            while operation_name(sources[0]) in _CUTS:  # along several axes, one after the other
                which += f" {sources[0].args[1:]}"
                sources = sources[0].all_input_nodes
            found[sources[0]] = which
        elif name in _PRODUCTS:
            todo.append((sources[0 if site.weights_on_left else -1], ""))
        elif "softmax" in name or moves(node):
            todo.append((sources[0], str(node.args[1:]) if node.target is getitem else ""))
        elif is_elementwise(node):
            todo += [(source, "") for source in sources]
    return found


def _same_keys(flow: TokenFlow, one: AttentionSite, other: AttentionSite) -> bool:
    a, b = _entries(flow, one.columns), _entries(flow, other.columns)
    return a.shape == b.shape and torch.equal(a, b)


def _entries(flow: TokenFlow, packed: Tensor) -> Tensor:
    """The tokens of packed entries with what they have absorbed, (2, entries), sorted."""
    tokens = flow.book.find(tokens_in(packed))
    heard = flow.versions.absorbed(versions_in(packed))
    found: Tensor = torch.stack([tokens, heard]).flatten(1).unique(dim=1)
    return found
