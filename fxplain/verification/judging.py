"""Judging: one value's rows that moved, against those that its tags say must have moved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fxplain.tokens import Tag
from fxplain.verification.claims import Claims

__all__ = ["Finding", "change_of", "judge"]


@dataclass(frozen=True, eq=False)
class Finding:
    """What of one value contradicts its tags.

    Attributes
    ----------
    leaks
        How many rows moved that should not: influence that the explanation misses.
    ghosts
        How many rows should have moved and did not: credit for nothing.
    leaked
        Canonical tokens of the rows that leak (none where a row is claimed for no token).
    credited
        Canonical tokens of the rows that are credited for nothing.
    still
        Canonical tokens of rows that should have moved, and hold one and the same number
        everywhere: they were multiplied by 0 or hidden by a mask.
    faint
        Canonical tokens of rows that moved by little more than rounding: the next operation may
        round that away.
    """

    leaks: int
    ghosts: int
    leaked: Tensor
    credited: Tensor
    still: Tensor
    faint: Tensor

    def __bool__(self) -> bool:
        return bool(self.leaks or self.ghosts)


_FAINT = 256
"""Which movement rounding may lose: up to so many units in the last place of the largest number."""

_HUGE = 1e4
"""Numbers above this are a mask's."""

_PART = 2**17
"""How many numbers are compared at once: outputs may be most of what a model's run needs."""

_NOBODY = torch.empty(0, dtype=torch.int64)


def judge(tags: Sequence[Tag], plain: Any, other: Any, claims: Claims) -> Finding | None:
    """Compare two runs' values of one node, bit by bit, row by row.

    Parameters
    ----------
    tags
        What claims the value. With several (scores: queries along one axis, keys along another) an
        element must move if one of them says so, and each is asked along its own axes what it credits.
    plain, other
        The value as it is, and in the disturbed run.
    claims
        What was disturbed.

    Returns
    -------
    Finding or None
        None where there is nothing to compare.
    """
    if not isinstance(plain, Tensor) or not isinstance(other, Tensor):
        return None
    if (
        not plain.numel()
        or plain.shape != other.shape
        or any(tag.ids.dim() != plain.dim() for tag in tags)
    ):
        return None
    everywhere = [x for x in range(plain.dim()) if all(tag.ids.shape[x] == 1 for tag in tags)]
    told = _most_of(_moved, (plain, other), everywhere)
    wanted = torch.zeros((), dtype=torch.bool)
    for tag in tags:
        wanted = wanted | claims.moved(tag.ids) | claims.unknown(tag)
    leak = told & ~wanted
    change = change_of(plain, other, everywhere)
    leaked, credited, still, faint, ghosts = [], [], [], [], 0
    for tag in tags:
        tokens = claims.tokens_of(tag)
        own = _most(leak, [x for x in range(leak.dim()) if tokens.shape[x] == 1])
        leaked.append(tokens[own & (tokens >= 0)])
        rest = [x for x in range(plain.dim()) if tokens.shape[x] == 1]
        felt = _most(told, rest)
        ghost = claims.moved(tag.ids) & ~felt
        if bool(ghost.any()):  # where a token has several rows (finer than its grid), one is enough
            ghost &= ~torch.isin(tag.ids, tag.ids[felt.expand(tag.ids.shape)].unique())
        if bool(ghost.any()):
            constant = ghost & _constant(plain, rest)
            still.append(tokens[constant])
            credited.append(tokens[ghost & ~constant])
            ghosts += int((ghost & ~constant).sum())
        most = _most(change, rest)
        faint.append(tokens[(most > 0) & (most <= 1) & (tokens >= 0)])
    return Finding(
        int(leak.sum()), ghosts, _joined(leaked), _joined(credited), _joined(still), _joined(faint)
    )


def change_of(plain: Tensor, other: Tensor, axes: Sequence[int]) -> Tensor:
    """How far numbers moved at most along some axes, in units of what rounding may lose."""
    if not plain.dtype.is_floating_point:
        sizes = [1 if x in axes else size for x, size in enumerate(plain.shape)]
        return torch.full(sizes, torch.inf)
    largest = float(_most_of(_finite, (plain,), range(plain.dim()))) if plain.numel() else 0.0
    unit = max(_FAINT * torch.finfo(plain.dtype).eps * largest, torch.finfo(torch.float32).tiny)
    return _most_of(lambda a, b: (a - b).abs_().float().div_(unit), (plain, other), axes)


def _moved(plain: Tensor, other: Tensor) -> Tensor:
    return (plain != other) & ~(plain.isnan() & other.isnan())


def _finite(value: Tensor) -> Tensor:
    """Sizes of numbers, 0 where they are no numbers, or a mask's."""
    sizes = value.abs().nan_to_num_(0, 0, 0)
    return sizes.masked_fill_(sizes > _HUGE, 0)


def _most_of(
    measure: Callable[..., Tensor], values: Sequence[Tensor], axes: Sequence[int]
) -> Tensor:
    """The most of what is measured of values, along some axes, on the processor: part by part."""
    values = [value.detach() for value in values]
    size, shape = values[0].numel(), values[0].shape
    if size <= _PART:
        return _most(measure(*values), axes).cpu()
    longest = max(range(len(shape)), key=shape.__getitem__)
    rows = max(1, shape[longest] * _PART // size)
    parts = zip(*(value.split(rows, longest) for value in values), strict=True)
    found = torch.cat([_most(measure(*part), axes).cpu() for part in parts], longest)
    return _most(found, [longest]) if longest in axes else found


def _most(found: Tensor, axes: Sequence[int]) -> Tensor:
    """What is most along some axes, which stay with size 1; of a yes or no, whether there is a yes."""
    if not axes or not found.numel():
        return found
    axes = tuple(axes)
    return found.any(axes, True) if found.dtype is torch.bool else found.amax(axes, True)


def _constant(value: Tensor, axes: list[int]) -> Tensor:
    """Whether a value is one and the same number along some axes, or hidden there by a mask."""
    value = value.detach()
    if value.dtype.is_complex:
        value = value.abs()
    if not axes:
        return ((value == 0) | (value <= torch.finfo(value.dtype).min / 2)).cpu()
    high = value.amax(axes, keepdim=True)
    hidden = high <= torch.finfo(value.dtype).min / 2  # what a mask has lowered, once or twice
    return ((high == value.amin(axes, keepdim=True)) | hidden).cpu()


def _joined(parts: list[Tensor]) -> Tensor:
    return torch.cat(parts).unique() if parts else _NOBODY
