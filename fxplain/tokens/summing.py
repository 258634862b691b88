"""Summing: what is written to one place from several, as means by group and messages on a graph are."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, fx

from fxplain.tokens.analysis import Analysis
from fxplain.tokens.mixing import mix
from fxplain.tokens.tag import NO_TOKEN, Tag, tokens_in

__all__ = ["summed"]

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
        return tag
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
