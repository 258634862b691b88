"""Batching: which axis of each input holds the samples, as attention shows it.

Tokens that attend to each other are of one sample. Where the first axis is taken for the samples and
attention connects tokens along it, but none along another axis, the samples lie along that one:
PyTorch's own layout is (sequence, batch, features).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from fxplain.capture import ModelInputs
from fxplain.tokens.flow import TokenFlow
from fxplain.tokens.tag import tokens_in
from fxplain.tokens.updates import AttentionSite, RouteSite

__all__ = ["contradicted", "counted_apart", "rebatched", "unsettled"]


def unsettled(flow: TokenFlow) -> bool:
    """Whether attention connects tokens that are taken for different samples', or for no one's.

    No one's are those of an input none of whose axes is known to hold the samples.
    """
    for rows, columns in _attending(flow):
        samples = [flow.book.samples(tokens) for tokens in (rows, columns)]
        for own, tokens in zip(samples, (rows, columns), strict=True):
            if bool(((own < 0) & (flow.book.elements(tokens) >= 0)).any()):
                return True
    return contradicted(flow)


def contradicted(flow: TokenFlow) -> bool:
    """Whether attention connects tokens that are taken for different samples'."""
    for tokens in _attending(flow):
        samples = [flow.book.samples(each) for each in tokens]
        high = torch.maximum(*(s.amax((-2, -1)) for s in samples))
        low = torch.minimum(*(torch.where(s < 0, _MOST, s).amin((-2, -1)) for s in samples))
        if bool((high > low).any()):
            return True
    return False


_MOST = torch.iinfo(torch.int64).max


def rebatched(flow: TokenFlow, inputs: ModelInputs) -> ModelInputs | None:
    """`inputs` with the axes of the samples that attention shows; None if it shows no others.

    Beside inputs that have one, an input may have none: pictures, of which each sample has its own
    number. Requires a flow in which attention reaches across what is taken for samples.
    """
    own = tuple(inputs.batch_axis_of(i) for i in range(len(inputs.leaves)))
    axes: list[int | None] = []
    sizes, untold, alone = set[int](), set[int](), set[int]()
    for i, of_leaf in enumerate(_by_leaf(flow, inputs)):
        leaf, known = inputs.leaves[i], bool((of_leaf >= 0).any())
        axis = next((a for a in range(leaf.dim()) if _separates(of_leaf, a)), None)
        axes.append(axis if known else None)
        if not known:
            untold.add(i)
        elif axis is not None:
            sizes.add(leaf.shape[axis])
        elif leaf.dim() == 1 or _of_one(of_leaf):
            sizes.add(1)  # a bare sequence, without an axis for samples
        else:
            alone.add(i)
    if len(sizes) != 1:
        return None
    turned = inputs.along(axes, sizes.pop())
    same = turned.batch_size == inputs.batch_size
    kept = (own[i] if same and i in untold else axis for i, axis in enumerate(turned.batch_axes))
    told = tuple(None if i in alone else axis for i, axis in enumerate(kept))
    return None if same and told == own else replace(turned, batch_axes=told)


def counted_apart(flow: TokenFlow, inputs: ModelInputs) -> ModelInputs | None:
    """`inputs` with the samples of those that have another number of them, as attention shows.

    Pictures that are compared with more texts than there are pictures: each attends to itself, and to
    none of the texts. None where there are no such inputs.
    """
    found = _by_leaf(flow, inputs)
    axes = [inputs.batch_axis_of(i) for i in range(len(found))]
    for i, own in enumerate(found):
        others = torch.cat(
            [x.flatten() for j, x in enumerate(found) if j != i] or [own[:0].flatten()]
        )
        alone = not bool(torch.isin(own[own >= 0], others).any())
        if axes[i] is None and own.dim() > 1 and len(own) > 1 and alone and _rows_attend(own):
            axes[i] = 0
    told = tuple(axes)
    known = tuple(inputs.batch_axis_of(i) for i in range(len(found)))
    return None if told == known else replace(inputs, batch_axes=told)


def _rows_attend(component: Tensor) -> bool:
    """Whether tokens are connected within each index of the first axis, and none with another's."""
    own = [row[row >= 0] for row in component.flatten(1)]
    return all(len(row) > len(row.unique()) for row in own) and _separates(component, 0)


def _by_leaf(flow: TokenFlow, inputs: ModelInputs) -> list[Tensor]:
    """For each element of each input, the component of the token that was made of it; -1 for none.

    Tokens that nothing attends to and no route reads tell nothing.
    """
    connected = _components(flow)
    elements = flow.book.elements(torch.arange(len(connected)))
    component = torch.full((sum(leaf.numel() for leaf in inputs.leaves),), -1)
    known = (elements >= 0) & (connected >= 0)
    component[elements[known]] = connected[known]
    parts = component.split([leaf.numel() for leaf in inputs.leaves])
    return [part.reshape(leaf.shape) for part, leaf in zip(parts, inputs.leaves, strict=True)]


def _separates(component: Tensor, axis: int) -> bool:
    """Whether no two indices along an axis have tokens that are connected, of several that have any."""
    slices = component.movedim(axis, 0).reshape(component.shape[axis], -1)
    own = [row[row >= 0].unique() for row in slices]
    several = len(own) == 1 or sum(len(row) > 0 for row in own) > 1
    return several and len(torch.cat(own)) == len(torch.cat(own).unique())


def _of_one(component: Tensor) -> bool:
    """Whether all tokens of a float input (sequence, features) are connected."""
    return component.dim() == 2 and len(component[component >= 0].unique()) == 1


def _components(flow: TokenFlow) -> Tensor:
    """For each token, the least of those that attention and routes connect it with; -1 for none."""
    book = flow.book
    every = book.find(torch.arange(len(book)))
    pairs = [_edges(flow, *attending) for attending in _attending(flow)]
    for update in flow.updates:
        if isinstance(update, RouteSite):
            pairs.append(torch.stack([update.new.flatten(), tokens_in(update.old).flatten()]))
    edges = torch.cat(pairs, 1) if pairs else torch.empty((2, 0), dtype=torch.int64)
    a, b = book.find(edges[:, (edges >= 0).all(0)])
    label = every
    while True:
        least = torch.minimum(label[a], label[b])
        lower = label.scatter_reduce(0, torch.cat([a, b]), least.repeat(2), "amin")
        lower = torch.minimum(lower, lower[lower])
        if torch.equal(lower, label):
            return torch.where(torch.isin(every, torch.cat([a, b])), label[every], -1)
        label = lower


def _edges(flow: TokenFlow, rows: Tensor, columns: Tensor) -> Tensor:
    """Each token of a group with the group's first one, as (2, edges).

    A parameter's tokens connect nobody: all samples may attend to the same ones.
    """
    tokens = torch.cat([rows.flatten(-2), columns.flatten(-2)], -1)
    learned = torch.tensor([birth.learned for birth in flow.book.births])
    tokens = torch.where(learned[flow.book.births_of(tokens.clamp(min=0))], -1, tokens)
    first = tokens.amax(-1, keepdim=True).expand(tokens.shape)
    return torch.stack([tokens.flatten(), first.flatten()])


def _attending(flow: TokenFlow) -> Iterator[tuple[Tensor, Tensor]]:
    """The query and key tokens of each attention site, by groups that attend among themselves."""
    for site in flow.updates:
        if isinstance(site, AttentionSite):
            rows, columns = (flow.book.find(tokens_in(ids)) for ids in (site.rows, site.columns))
            lead = torch.broadcast_shapes(rows.shape[:-2], columns.shape[:-2])
            yield rows.expand(*lead, *rows.shape[-2:]), columns.expand(*lead, *columns.shape[-2:])
