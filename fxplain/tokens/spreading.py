"""Spreading: tokens that a value of fewer tokens joins hear of these, and stay what they are."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, fx

from fxplain.capture import module_path
from fxplain.tokens.analysis import Analysis
from fxplain.tokens.shares import route_site
from fxplain.tokens.tag import NO_TOKEN, Tag, broadcast_shape, compact, pack, tokens_in, versions_in

__all__ = ["spread", "warn_of_samples"]


def spread(a: Analysis, node: fx.Node, tag: Tag, source: Tag) -> Tag:
    """Tokens joined by a value of fewer tokens: each keeps what it is, and hears of its source.

    ``x + x.mean(1, keepdim=True)`` is ``x`` mixed by a matrix and added to itself; so is a gate.
    """
    shape = broadcast_shape([tag.ids.shape, source.ids.shape])
    made, old = a.book.find(tag.tokens).expand(shape), source.ids.expand(shape)
    if not _of_same_samples(a, made, a.book.find(tokens_in(old))):
        warn_of_samples(a, node, old)
        return tag  # something that the samples share
    versions = versions_in(tag.ids).expand(shape)
    result = versions.clone()
    for here in _once_each(made, old):
        index = len(a.updates)
        heard = torch.where(here, old, NO_TOKEN).unsqueeze(-1)
        a.updates.append(route_site(a, index, node, made, heard, None))
        route = a.versions.intern(frozenset({index}))
        for version in versions[here].unique().tolist():
            if version >= 0:
                result[here & (versions == version)] = a.versions.union(version, route)
    if bool((result == versions).all()):
        return tag
    result = compact(pack(a.book.find(tag.tokens).expand(shape), result))
    return tag.with_ids(result)


def _of_same_samples(a: Analysis, made: Tensor, old: Tensor) -> bool:
    """Whether tokens hear of their own sample's alone; where it is not known, that tells it."""
    here = (made >= 0) & (old >= 0)
    tokens, of_old = made[here], a.book.samples(old[here])
    unknown = a.book.samples(tokens) < 0
    distinct, place = tokens[unknown].unique(return_inverse=True)
    told = of_old.new_full((len(distinct),), -1).scatter_(0, place, of_old[unknown])
    if torch.equal(told[place], of_old[unknown]):
        a.book.set_samples(distinct, told)
    return torch.equal(a.book.samples(tokens), of_old)


def warn_of_samples(a: Analysis, node: fx.Node, source: Tensor) -> None:
    """Tell the user where what was made of several samples is in each of them."""
    tokens = a.book.find(tokens_in(source))
    births = (a.book.births[i] for i in a.book.births_of(tokens[tokens >= 0]).unique().tolist())
    if not all(birth.learned for birth in births):
        a.warn(
            f"{node.target} in {module_path(node) or 'the model'} reads what was made of all samples "
            f"of the batch: what is said of one depends on those beside it"
        )


_MOST_ROUTES = 64
"""In how many rows a token may hear of a source of its own; in more it hears of all in each."""


def _once_each(made: Tensor, old: Tensor) -> Iterator[Tensor]:
    """Masks of rows, in each of which a token hears of one source at most.

    States of several layers that are joined hold a token in several rows, and each hears of its own.
    """
    real = (made >= 0) & (old >= 0)
    pairs, place = torch.stack([made[real], old[real]]).unique(dim=1, return_inverse=True)
    first = torch.searchsorted(pairs[0].contiguous(), pairs[0].contiguous())
    turn = (torch.arange(pairs.shape[1]) - first)[place]
    if len(turn) and int(turn.max()) >= _MOST_ROUTES:
        yield real
        return
    for number in turn.unique().tolist():
        here = torch.zeros_like(real)
        here[real] = turn == number
        yield here
