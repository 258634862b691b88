"""Neighbours: rows that a value holds beside its own, as a shift along the sequence brings them.

Token shift puts some features of the row before beside a row's own, or adds them. The row stays its
token's; what it is made of is a route from the token and its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, fx

from fxplain.tokens.analysis import Analysis
from fxplain.tokens.mixing import mix
from fxplain.tokens.tag import NO_TOKEN, Tag, Tags, tokens_in

__all__ = ["blended", "own_of_neighbours", "with_neighbours"]

_MOST = 64
"""Distinct columns that are looked at: a window is small, a sequence laid out as features is not."""


def own_of_neighbours(a: Analysis, groups: Tensor) -> Tensor | None:
    """Of groups (..., n) of one token and its neighbours each, the packed entries of that token.

    None where no column names a token of its own for every group, with all others among these.
    """
    if groups.dim() < 2:
        return None
    flat = groups.flatten(0, -2)
    columns, place = flat.unique(dim=1, return_inverse=True)
    if columns.shape[1] > _MOST:
        return None
    tokens = a.book.find(tokens_in(columns))
    tokens = torch.where(a.book.real(tokens), tokens, NO_TOKEN)
    count = place.bincount(minlength=columns.shape[1])
    best: tuple[tuple[bool, int], int] | None = None
    for i in range(columns.shape[1]):
        own = tokens[:, i]
        if bool((own < 0).any()) or len(own.unique()) < len(own):
            continue
        if not bool((torch.isin(tokens, own) | (tokens < 0)).all()):
            return None
        in_order = bool((own[1:] > own[:-1]).all())  # of several, the one that was not moved
        rank = (in_order, int(count[i]))
        if best is None or rank > best[0]:
            best = (rank, i)
    return None if best is None else columns[:, best[1]].reshape(groups.shape[:-1])


def blended(a: Analysis, node: fx.Node, tags: Sequence[Tag]) -> Tags:
    """The tag of a sum of rows and their neighbours: the sum's own rows, made of both."""
    groups = torch.stack(torch.broadcast_tensors(*(tag.ids for tag in tags)), -1)
    own = own_of_neighbours(a, groups)
    assert own is not None, "only asked for where `neighbours` says so"
    return (mix(a, node, tags[0], groups, keep=own, neighbours=True),)


def with_neighbours(a: Analysis, node: fx.Node, tag: Tag, axis: int) -> Tag:
    """The tag of rows whose features, along `axis`, are those of a token and of its neighbours."""
    if not tag.varies(axis):
        return tag
    groups = tag.ids.movedim(axis, -1)
    own = own_of_neighbours(a, groups)
    if own is None:
        return tag
    made = mix(a, node, tag, groups, keep=own, neighbours=True)
    return replace(tag, ids=made.ids.unsqueeze(-1).movedim(-1, axis), births=frozenset())
