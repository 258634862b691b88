"""Products of matrices without the blocks that are 0: causal maps are triangles, windows are bands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import torch
from torch import Tensor

__all__ = ["product"]

BLOCK = 256
"""Rows and columns of a block: enough for a processor to multiply at full speed."""

LEAST = 4 * BLOCK
"""Smaller matrices are multiplied as they are."""

MOST = 0.7
"""The part of all products of blocks from which on leaving out the others saves nothing."""


def product(A: Tensor, B: Tensor) -> Tensor:
    """A B, (batch, n, k) times (batch, k, m); blocks of numbers that are all 0 are left out."""
    if A.dim() != 3 or min(*A.shape[1:], B.shape[-1]) < LEAST:
        return A @ B
    of_A, of_B = _filled(A), _filled(B)
    runs = {
        (i, j): [k for k, filled in enumerate(row) if filled and of_B[k][j]]
        for i, row in enumerate(of_A)
        for j in range(len(of_B[0]))
    }
    if sum(map(len, runs.values())) > MOST * len(of_B) * len(runs):
        return A @ B
    made = A.new_empty(max(len(A), len(B)), A.shape[1], B.shape[2])
    for (i, j), inner in runs.items():
        parts = [A[:, _block(i), run] @ B[:, run, _block(j)] for run in _runs(inner)]
        made[:, _block(i), _block(j)] = sum(parts[1:], parts[0]) if parts else 0
    return made


def _filled(x: Tensor) -> list[list[bool]]:
    """By rows and columns of blocks: whether a number of some sample in it is not 0."""
    by_columns = torch.stack([_largest(part, -1) for part in x.split(BLOCK, -1)])
    by_rows = torch.stack([part.amax((1, 2)) for part in by_columns.split(BLOCK, -1)])
    filled: list[list[bool]] = (by_rows != 0).tolist()
    return filled


def _largest(x: Tensor, axis: int) -> Tensor:
    return torch.maximum(x.amax(axis), x.amin(axis).neg_())


def _block(i: int) -> slice:
    return slice(i * BLOCK, (i + 1) * BLOCK)


def _runs(blocks: Sequence[int]) -> Iterator[slice]:
    """Blocks next to each other as one."""
    for _, run in groupby(enumerate(blocks), lambda numbered: numbered[1] - numbered[0]):
        own = [block for _, block in run]
        yield slice(own[0] * BLOCK, (own[-1] + 1) * BLOCK)
