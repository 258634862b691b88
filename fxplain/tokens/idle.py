"""Idle routes: what is mixed, and then neither attended with nor put out."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from fxplain.tokens.analysis import Analysis
from fxplain.tokens.tag import Tags, tokens_in, versions_in
from fxplain.tokens.updates import AttentionSite, Mixing, RouteSite, Update

__all__ = ["without_idle_routes"]


def without_idle_routes(a: Analysis, outputs: Sequence[Tags]) -> list[Update]:
    """The updates, those that only make weights of other weights as mixings by the way.

    A matrix of weights times another one mixes the rows of parameters, which might have been learned
    tokens; they are none where neither attention nor an output holds them.
    """
    sites = [u for u in a.updates if isinstance(u, AttentionSite)]
    entries = [ids for site in sites for ids in (site.rows, site.columns)]
    entries += [tag.ids for tags in outputs for tag in tags]
    used = {update for ids in entries for update in _heard(a, ids)}
    for update in reversed(a.updates):
        if isinstance(update, RouteSite) and update.index in used:
            used |= _heard(a, update.old)
    return [u if u.index in used else _by_the_way(a, u) for u in a.updates]


def _heard(a: Analysis, ids: Tensor) -> set[int]:
    versions = versions_in(ids[ids >= 0]).unique().tolist()
    return {update for version in versions for update in a.versions.of(version)}


def _by_the_way(a: Analysis, update: Update) -> Update:
    if not isinstance(update, RouteSite):
        return update
    old = a.book.find(tokens_in(update.old))
    births = a.book.births_united(old[old >= 0])
    if not all(a.book.births[index].learned for index in births):
        return update
    return Mixing(update.index, update.node, update.operation, update.new, old, lambda: update)
