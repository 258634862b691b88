"""Births and routes: what becomes of tokens that fixed weights mix."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce

import torch
from torch import Tensor, fx

from fxplain.capture import module_path, operation_name
from fxplain.tokens.analysis import Analysis
from fxplain.tokens.shares import Weights, route_site
from fxplain.tokens.tag import (
    NO_TOKEN,
    Level,
    Tag,
    Tags,
    pack,
    tokens_in,
    versions_in,
)
from fxplain.tokens.updates import Mixing, RouteSite

__all__ = [
    "absorbed", "are_pairs", "laid_out", "mix", "mix_along", "name_alike", "newer", "one_token",
    "settled", "slide",
    "united_along", "windows",
]  # fmt: skip


def mix(
    a: Analysis,
    node: fx.Node,
    tag: Tag,
    groups: Tensor,
    *,
    weights: Weights = None,
    lead: Sequence[int] | None = None,
    keep: Tensor | None = None,
    neighbours: bool = False,
    anew: bool = False,
    grid: bool = False,
    raw: bool = False,
) -> Tag:
    """The tag of a value whose every element is made of a group of tokens.

    Tokens that have absorbed nothing yet just become newer tokens; after attention the mixing is a
    route, with the groups' shares as its weights. So it is before, where a whole sequence is mixed and
    each token is to stay what it is.

    Parameters
    ----------
    tag
        The tag of the mixed value.
    groups
        Packed entries, (..., n): what each new element is made of, with the axes of the result
        before the last (size 1 where constant).
    weights
        Computes the parts' weights (broadcastable to `groups`), read from the model where the mixing
        is a route; equal ones if None. They are made to sum to 1.
    lead
        For a birth, the shape of the new tokens, where it is larger than the groups' own.
    keep
        Packed entries of the result's tokens where the mixing keeps their identity (a convolution
        that keeps the grid).
    neighbours
        Whether each token is put beside its neighbours as it is: that is a route even of newborn
        tokens, since these are read without their neighbours, too.
    anew
        Whether newborn tokens become newer ones even where each is made of one alone: those of a
        coarser grid, which may stand beside the finer one's.
    grid
        Whether a window slides along a grid, as in a backbone: newborn tokens that are kept just
        hear of those beside them.
    raw
        Whether it is a raw input's: its features (series side by side) may be tokens of their own.
    """
    raw |= tag.level is Level.RAW_INPUT
    place = None if raw else _copies(tag, groups)
    if place is not None:  # heads, or features, in the batch of a convolution: each does the same
        first = _first_of(place)
        made = mix(
            a, node, tag.with_ids(tag.ids[first]), groups[first], weights=_together(weights, place),
            lead=None if lead is None else [len(first), *lead[1:]],
            keep=None if keep is None else keep.expand(len(place), *keep.shape[1:])[first],
            neighbours=neighbours, anew=anew, grid=grid,
        )  # fmt: skip
        return made.with_ids(made.ids[place]) if made.varies(0) else made
    _unite_words(a, tag, groups)
    same = one_token(a, groups)
    if same is not None and not (anew and a.joiner.newborn(tag)):
        return Tag(same, tag.level, tag.softmax, births=tag.births)
    stays = keep is not None and tag.level is not Level.RAW_INPUT
    neighbours |= are_pairs(a, tag, groups)
    if a.joiner.newborn(tag) and not neighbours and (grid or not stays):
        if keep is not None and stays:
            return Tag(keep, tag.level, births=tag.births)
        old = groups.amax(-1)
        first = torch.where(groups < 0, torch.iinfo(torch.int64).max, tokens_in(groups)).amin(-1)
        first = torch.where(old < 0, old, first)
        if lead is not None:
            old, first = old.expand(tuple(lead)), first.expand(tuple(lead))
        arguments, made_of = (
            _arguments_of(a, groups),
            a.book.lineage(a.book.find(tokens_in(groups))),
        )
        made = newer(a, node, tag, old, first, arguments=arguments, made_of=made_of)
        return _noted(a, node, tag, made, groups, weights) if tag.level is Level.TOKEN else made
    return _route(a, node, tag, groups, weights, keep)


def are_pairs(a: Analysis, tag: Tag, groups: Tensor) -> bool:
    """Whether groups hold tokens of several inputs, each of which is in several of them (a grid)."""
    if tag.level is not Level.TOKEN or groups.dim() < 2 or groups.shape[-1] < 2:
        return False
    tokens = a.book.find(tokens_in(groups)).flatten(0, -2)
    births = a.book.births_of(tokens.clamp(min=0))
    if bool((births == births[:, :1]).all()):
        return False
    of_each = [tokens[births == birth].unique() for birth in births.unique().tolist()]
    several = all(a.book.batch_size < len(own) < len(tokens) for own in of_each)
    lineages = [a.book.lineage(own) for own in of_each]
    apart = all(one.isdisjoint(other) for one, other in itertools.combinations(lineages, 2))
    return several and apart and bool((tokens >= 0).all())


def _unite_words(a: Analysis, tag: Tag, groups: Tensor) -> None:
    """Unite newborn tokens that are mixed, where each group is one word, looked up in several tables.

    Streams of it stand beside each other; it is as if its vectors were added.
    """
    if tag.level is not Level.TOKEN or not 1 < groups.shape[-1] <= _MOST_TABLES:
        return
    tokens = a.book.find(tokens_in(groups))
    words = a.book.elements(tokens)
    alike = (words == words[..., :1]) & (words >= 0) & (words == a.book.until(tokens))
    births = (a.book.births[i] for i in a.book.births_of(tokens.clamp(min=0)).unique().tolist())
    looked_up = all(birth.looked_up for birth in births)
    if bool(alike.all()) and looked_up and a.joiner.newborn(tag.with_ids(groups)):
        for other in tokens.unbind(-1)[1:]:
            first = a.book.find(tokens[..., 0].flatten())
            a.book.unite(first, a.book.find(other.flatten()))


_MOST_TABLES = 16
"""In how many tables a word may be looked up, side by side."""


def _copies(tag: Tag, groups: Tensor) -> Tensor | None:
    """Which parts of the first axis hold the same tokens and are mixed alike, by number; else None."""
    if tag.ids.dim() < 3 or not 1 < len(tag.ids) == len(groups):
        return None
    parts, place = tag.ids.flatten(1).unique(dim=0, return_inverse=True)
    if len(parts) == len(place):
        return None
    return place if torch.equal(groups[_first_of(place)][place], groups) else None


def _first_of(place: Tensor) -> Tensor:
    """Where each number from 0 on stands first."""
    positions = torch.arange(len(place))
    return torch.full_like(place, len(place))[: int(place.max()) + 1].scatter_reduce(
        0, place, positions, "amin"
    )


def _together(weights: Weights, place: Tensor) -> Weights:
    """The weights of parts that are the same, by number."""
    if weights is None:
        return None

    def summed() -> Tensor:
        found = weights()
        if found.shape[0] != len(place):
            return found
        of_part = torch.zeros(int(place.max()) + 1, *found.shape[1:], dtype=found.dtype)
        return of_part.index_add(0, place, found.cpu())  # shares, made to sum to 1

    return summed


def name_alike(a: Analysis, one: Tag, other: Tag) -> bool:
    """Whether two tags name the same tokens everywhere."""
    tokens = (a.book.find(one.tokens), a.book.find(other.tokens))
    return one.ids.shape == other.ids.shape and torch.equal(*tokens)


def one_token(a: Analysis, groups: Tensor) -> Tensor | None:
    """The entries of groups that hold one token each, with all that its parts have absorbed.

    Features of the same token from before and after an attention stand side by side in a group.
    """
    if not groups.numel():
        return groups.new_full(groups.shape[:-1], NO_TOKEN)
    tokens = a.book.find(tokens_in(groups))
    token = tokens.amax(-1)
    if not bool(((tokens == token.unsqueeze(-1)) | (tokens < 0)).all()):
        return None
    versions = versions_in(groups)
    latest = versions.max()
    if bool(((versions == latest) | (versions < 0)).all()):
        return pack(token, latest.clamp(min=0))
    sets, place = versions.flatten(0, -2).unique(dim=0, return_inverse=True)
    unions = [reduce(a.versions.union, set(found) - {-1} or {0}) for found in sets.tolist()]
    return pack(token, torch.tensor(unions, dtype=torch.int64)[place].reshape(token.shape))


def mix_along(
    a: Analysis,
    node: fx.Node,
    tag: Tag,
    axis: int,
    size: int,
    weights: Callable[[], Tensor],
    *,
    neighbours: bool = False,
) -> Tag:
    """Tokens mixed along their own axis by a matrix (new x old): a token-mixing layer, block sums.

    As many new tokens as old ones are the same tokens, mixed, where each stands there once.
    `neighbours` as in `mix`.
    """
    groups = tag.ids.movedim(axis, -1).unsqueeze(axis)
    sizes = [-1] * groups.dim()
    sizes[axis] = size
    groups = groups.expand(sizes)

    def shares() -> Tensor:
        matrix = weights()
        if matrix.dim() > 2:  # one for each sequence: (..., new, old), as the groups have it
            matrix = matrix.unsqueeze(-2 if axis == groups.dim() - 3 else -3)
            matrix = matrix.reshape(*[1] * (groups.dim() - matrix.dim()), *matrix.shape)
            heads = [i for i, n in enumerate(groups.shape[:axis]) if n == 1]
            return matrix.sum(heads, keepdim=True) if heads else matrix
        lead = [1] * (groups.dim() - 1)
        lead[axis] = size
        return matrix.expand(size, groups.shape[-1]).reshape(*lead, -1)

    same = tag.ids.shape[axis] == size and not _stands_twice(a, tag, [axis])
    keep = tag.ids if same else None
    return mix(a, node, tag, groups, weights=shares, keep=keep, neighbours=neighbours)


def _stands_twice(a: Analysis, tag: Tag, axes: Sequence[int]) -> bool:
    """Whether a token stands at several places along some axes."""
    tokens = a.book.find(tag.tokens)
    along = tokens.movedim(list(axes), list(range(-len(axes), 0))).flatten(-len(axes))
    along = along.sort(-1).values
    return bool(((along[..., 1:] == along[..., :-1]) & (along[..., 1:] >= 0)).any())


def united_along(a: Analysis, tag: Tag, axis: int) -> Tag:
    """The tag with one entry along `axis`, if all there are the same token (layers, experts)."""
    if not tag.varies(axis):
        return tag
    ids = one_token(a, tag.ids.movedim(axis, -1))
    return tag if ids is None else tag.with_ids(ids.unsqueeze(axis))


def _noted(
    a: Analysis, node: fx.Node, tag: Tag, made: Tag, groups: Tensor, weights: Weights
) -> Tag:
    """Remember how newborn tokens were mixed: it matters where both old and new ones attend."""
    index = len(a.updates)
    a.versions.before_attention.add(index)
    tokens = made.tokens

    def weighed() -> RouteSite:
        return route_site(a, index, node, tokens, groups.expand(*tokens.shape, -1), weights)

    old = a.book.find(tag.tokens).unique()
    a.updates.append(Mixing(index, node, operation_name(node), tokens, old[old >= 0], weighed))
    return made.with_ids(pack(tokens, a.versions.intern(frozenset({index}))))


def newer(
    a: Analysis,
    node: fx.Node,
    tag: Tag,
    old: Tensor,
    first: Tensor | None = None,
    arguments: tuple[str, ...] = (),
    made_of: frozenset[str] | None = None,
) -> Tag:
    """Newer tokens in the place of `old` ones: same root, same sample.

    `first` and `old` are the first and the last token that each was made of, where that is known.
    """
    tokens = a.book.find(tokens_in(old))
    known = tokens[tokens >= 0]
    births = [a.book.births[i] for i in a.book.births_of(known).unique().tolist()]
    root = min(births, key=lambda birth: (birth.rank, birth.index))
    samples = a.book.samples(tokens)
    made = a.book.add(
        root.kind,
        root.root,
        tokens.shape,
        rank=root.rank,
        module=module_path(node),
        node=node,
        samples=samples,
        made_of=a.book.lineage(tokens) if made_of is None else made_of,
        arguments=arguments,
        older=frozenset(birth.index for birth in births),
        elements=a.book.elements(tokens if first is None else first),
        until=None if first is None else a.book.until(tokens_in(old)),
        roots=a.book.one_root(tokens.unsqueeze(-1)) if made_of is None else None,
    )
    return a.born(made, Level.TOKEN if tag.level is Level.RAW_INPUT else tag.level)


def _arguments_of(a: Analysis, groups: Tensor) -> tuple[str, ...]:
    """Of tokens that are made of several arguments each, those that most hold own elements of.

    None where no argument is in all of them: a sequence of one argument's tokens, then another's. A
    statistic of a series, which stands beside every step of it, tells no step from another one.
    """
    tokens = a.book.find(tokens_in(groups)).reshape(-1, groups.shape[-1])
    births = a.book.births_of(tokens.clamp(min=0))
    found = [a.book.births[i] for i in births[tokens >= 0].unique().tolist()]
    ranks = {birth.root: birth.rank for birth in found if birth.kind == "input"}
    if len(ranks) < 2:
        return next((birth.arguments for birth in found if birth.arguments), ())
    held = tokens.sort(-1).values
    held[:, 1:] = torch.where(held[:, 1:] == held[:, :-1], NO_TOKEN, held[:, 1:])
    count = held[held >= 0].bincount(minlength=len(a.book))
    own = (tokens >= 0) & (count[tokens.clamp(min=0)] * a.book.batch_size < len(tokens))
    shares = {}
    for root in sorted(ranks, key=ranks.__getitem__):
        of_root = torch.tensor([birth.index for birth in found if birth.root == root])
        shares[root] = float((own & torch.isin(births, of_root)).any(-1).double().mean())
    most = tuple(root for root, share in shares.items() if share > 0.5)
    return most if max(shares.values()) == 1 else ()


def settled(a: Analysis, node: fx.Node, tags: Tags, axis: int) -> Tags:
    """Raw inputs whose elements along `axis` turn out to be one token's features: they are tokens.

    A float input is first met where tokens attend to it, or are put beside it (a cache of keys).
    """
    return tuple(
        _settled(a, node, tag, axis) if tag.level is Level.RAW_INPUT and tag.varies(axis) else tag
        for tag in tags
    )


def _settled(a: Analysis, node: fx.Node, tag: Tag, axis: int) -> Tag:
    tokens = tokens_in(tag.ids)
    first = torch.where(tokens < 0, torch.iinfo(torch.int64).max, tokens).amin(axis, keepdim=True)
    last = tag.ids.amax(axis, keepdim=True)
    return newer(a, node, tag, last, torch.where(last < 0, last, first))


def _route(
    a: Analysis,
    node: fx.Node,
    tag: Tag,
    groups: Tensor,
    weights: Weights,
    keep: Tensor | None,
) -> Tag:
    known = a.known_route(node, groups, keep) if weights is None else None
    if known is not None:
        return replace(known, level=tag.level)
    index = len(a.updates)
    shape = groups.shape[:-1]
    if keep is None:
        tokens = a.book.find(tokens_in(groups))
        samples = a.book.samples(tokens)
        high = samples.amax(-1)
        low = torch.where(samples < 0, high.unsqueeze(-1), samples).amin(-1)
        samples = torch.where(low == high, high, -1)  # a loss of the whole batch is no sample's
        made = a.book.add(
            "route", node.name, shape, module=module_path(node), node=node, samples=samples,
            made_of=a.book.lineage(tokens), roots=a.book.one_root(tokens),
        )  # fmt: skip
    else:
        made = a.book.find(tokens_in(keep)).expand(shape)
    site = route_site(a, index, node, made, groups, weights)
    if not len(site.new):  # a sum of what a mask hides: nothing is in it
        return Tag(torch.full_like(made, NO_TOKEN), tag.level)
    a.updates.append(site)
    result = Tag(pack(made, a.versions.intern(frozenset({index}))), tag.level)
    if weights is None:
        a.note_route(node, groups, keep, result)
    return result


def laid_out(a: Analysis, node: fx.Node, tag: Tag) -> Tag:
    """Tokens that are repeated: at each place a token that is made of the one that is there."""
    made = _route(a, node, tag, tag.ids.unsqueeze(-1), None, None)
    return made.with_ids(torch.where(tag.ids < 0, NO_TOKEN, made.ids))


def windows(
    ids: Tensor,
    axes: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[tuple[int, int]],
    dilation: Sequence[int],
) -> Tensor:
    """The tag entries under each position of a sliding window, on a new last axis (padding: -1)."""
    for axis, edges in zip(axes, padding, strict=True):
        shape = list(ids.shape)
        first, last = (torch.full([*shape[:axis], n, *shape[axis + 1 :]], NO_TOKEN) for n in edges)
        ids = torch.cat([first, ids, last], axis)
    for axis, k, s, d in zip(axes, kernel, stride, dilation, strict=True):
        ids = ids.unfold(axis, (k - 1) * d + 1, s)[..., ::d]
    return ids.flatten(-len(axes))


def slide(
    a: Analysis,
    node: fx.Node,
    tag: Tag,
    shape: Sequence[int],
    axes: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[tuple[int, int]],
    dilation: Sequence[int],
    weights: Weights = None,
    *,
    raw: bool = False,
) -> Tag:
    """A window that slides along `axes` of a grid: births before attention, a route after it.

    Along an axis of one token's features it holds that token wherever it is; of a raw input, whose
    features nothing has touched yet (a spectrogram's), it makes tokens along that axis, too.
    """
    varied = [i for i, axis in enumerate(axes) if raw or tag.varies(axis)]
    if not varied or (all(k == 1 for k in kernel) and all(s == 1 for s in stride)):
        return tag
    out, size = a.shape(node), tuple(kernel)
    weights = _summed_over_features(weights, size, varied)
    axes, kernel, stride, dilation = (
        [of_axis[i] for i in varied] for of_axis in (axes, kernel, stride, dilation)
    )
    edges = [padding[i] for i in varied]
    needed = [
        (out[x] - 1) * s + (k - 1) * d + 1 - shape[x] - before
        for x, s, k, d, (before, _) in zip(axes, stride, kernel, dilation, edges, strict=True)
    ]  # with ceil_mode, a partial window at the end
    edges = [(before, max(after, n)) for (before, after), n in zip(edges, needed, strict=True)]
    grid = tag.full(shape, axes)
    patches = windows(grid, axes, kernel, stride, edges, dilation)
    same_grid = all(out[axis] == shape[axis] for axis in axes)
    coarser = any(s > 1 for s in stride)
    same_grid &= not _stands_twice(
        a, tag.with_ids(grid), axes
    )  # of a finer grid each is made of others
    keep_tokens = grid if same_grid and not coarser else None
    return mix(
        a, node, tag, patches, weights=weights, keep=keep_tokens, anew=coarser, grid=True, raw=raw
    )


def _summed_over_features(
    weights: Weights, kernel: tuple[int, ...], varied: Sequence[int]
) -> Weights:
    """A window's weights, taps last, summed over the axes along which all taps are one token's."""
    features = [i - len(kernel) for i in range(len(kernel)) if i not in varied]
    if weights is None or not features:
        return weights
    return lambda: weights().unflatten(-1, kernel).sum(features).flatten(-len(varied))


def absorbed(a: Analysis, index: int, rows: Tensor) -> Tensor:
    """The entries of an update's output: its rows' tokens, with that update absorbed."""
    tokens = a.book.find(tokens_in(rows))
    return pack(tokens, a.versions.intern(frozenset({index})))
