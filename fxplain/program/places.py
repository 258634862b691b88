"""Places: which part of an input each newborn token was made of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from fxplain.tokens import Argument, TokenFlow

__all__ = ["Place", "Places"]

Place = tuple[int, ...]
"""A box of an input's elements: on every axis but the batch's the lowest place, then the highest."""

_MOST_PAIRS = 10_000_000  # pairs of boxes that are compared to see whether they overlap


class Places:
    """The places of tokens, as boxes in the arguments that they were made of."""

    def __init__(self, flow: TokenFlow) -> None:
        self._flow = flow
        every = torch.arange(len(flow.book))
        self._first = flow.book.elements(every).numpy()
        self._last = flow.book.until(every).numpy()
        starts = np.array([argument.first for argument in flow.arguments] or [0])
        of_first, of_last = (
            np.searchsorted(starts, e, side="right") - 1 for e in (self._first, self._last)
        )
        several = np.array([bool(birth.arguments) for birth in flow.book.births], dtype=bool)
        known = (self._first >= 0) & (self._last >= 0) & (of_first == of_last)
        known &= ~several[flow.book.births_of(every).numpy()]
        self._argument = np.where(known, of_first, -1)
        self._widen(flow.book.find(every).numpy())

    def _widen(self, canonical: np.ndarray) -> None:
        """What is the sum of several windows (a residual stage's) lies under all of them."""
        words = np.array([argument.words for argument in self._flow.arguments] or [True])
        here = (self._argument >= 0) & (self._argument == self._argument[canonical])
        here &= ~words[self._argument]
        np.minimum.at(self._first, canonical[here], self._first[here])
        np.maximum.at(self._last, canonical[here], self._last[here])

    def argument(self, token: int) -> Argument | None:
        """The one argument that a token was made of; None where that is not known."""
        index = int(self._argument[token])
        return self._flow.arguments[index] if index >= 0 else None

    def words(self, tokens: Sequence[int]) -> bool:
        """Whether tokens are integers, looked up one by one, as far as their places are known."""
        known = [t for t in tokens if self._argument[t] >= 0]
        argument = self.argument(known[0]) if known else None
        single = bool((self._first[known] == self._last[known]).all())
        return argument is not None and argument.words and single

    def by_sample(self, tokens: Sequence[int]) -> bool:
        """Whether samples have an axis of their own, so that each has the same positions."""
        argument = self.argument(tokens[0]) if tokens else None
        return argument is not None and self._batch_axis(argument) is not None

    def _batch_axis(self, argument: Argument) -> int | None:
        """The axis of the samples; none of images of several sizes, which lie one behind the other."""
        axis = argument.batch_axis
        held = axis is not None and argument.shape[axis] == self._flow.book.batch_size
        return axis if held else None

    def of(self, tokens: Sequence[int]) -> dict[int, Place]:
        """The places of those of some tokens of one argument whose places are known."""
        known = [t for t in tokens if self._argument[t] >= 0]
        if not known:
            return {}
        argument = self._flow.arguments[int(self._argument[known[0]])]
        corners = [
            np.stack(np.unravel_index(ends[known] - argument.first, argument.shape or (1,)), -1)
            for ends in (self._first, self._last)
        ]
        axes = [a for a in range(len(argument.shape)) if a != self._batch_axis(argument)]
        low, high = np.minimum(*corners)[:, axes], np.maximum(*corners)[:, axes]
        boxes = np.concatenate([low, high], -1).tolist()
        return {token: tuple(box) for token, box in zip(known, boxes, strict=True)}


def agree(groups: Sequence[set[Place]]) -> bool:
    """Whether places of several groups are, two by two, the same or apart."""
    arrays = [np.array(sorted(group)) for group in groups]
    return all(_agree(a, b) for i, a in enumerate(arrays) for b in arrays[:i])


def _agree(a: np.ndarray, b: np.ndarray) -> bool:
    if a.shape[1:] != b.shape[1:]:
        return False
    if a.shape == b.shape and bool((a == b).all()):
        return True
    half = a.shape[1] // 2
    if all(bool((x[:, :half] == x[:, half:]).all()) for x in (a, b)):  # single elements
        return True
    if len(a) * len(b) > _MOST_PAIRS:
        return False
    overlap = np.ones((len(a), len(b)), dtype=bool)
    same = np.ones_like(overlap)
    for axis in range(half):
        low_a, low_b = a[:, None, axis], b[None, :, axis]
        high_a, high_b = a[:, None, half + axis], b[None, :, half + axis]
        overlap &= (low_a <= high_b) & (low_b <= high_a)
        same &= (low_a == low_b) & (high_a == high_b)
    return bool((same | ~overlap).all())


def grid_of(places: Sequence[Place]) -> tuple[int, ...]:
    """The shape of the grid that places fill in their order; () where they fill none."""
    boxes = np.array(places)
    lows = boxes[:, : boxes.shape[1] // 2]
    sizes = [len(np.unique(lows[:, axis])) for axis in range(lows.shape[1])]
    shape = tuple(size for size in sizes if size > 1)
    return shape if len(shape) > 1 and int(np.prod(shape)) == len(places) else ()
