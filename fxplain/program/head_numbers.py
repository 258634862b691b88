"""Head numbers: which head each element of a node's weights is of, however heads are laid out."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fxplain.program.nodes import ProgramNode

__all__ = ["head_numbers", "laid_out"]


def head_numbers(node: ProgramNode) -> Tensor:
    """The head of each element of a node's weights, from 0, as (groups, heads, queries, keys).

    Size 1 along an axis where it does not vary. Heads are numbered along the axis of their own; where
    such a head is several, which stand among queries or keys (queries that share keys), these come one
    after the other, as they do side by side among the features.
    """
    layout = node.layout
    number = torch.arange(layout.heads).reshape(1, -1, 1, 1)
    if layout.fold is not None:
        place = torch.as_tensor(_occurrence(layout.fold.numpy()))
        number = number + layout.heads * place.reshape(-1, 1, 1, 1)
    if layout.apart == 1:
        return number
    asked = torch.as_tensor(_occurrence(_queries(node)).reshape(node.rows.shape))
    asked = torch.where(node.rows >= 0, asked, 0)
    count = int(asked.max()) + 1
    number = number * count + _by_group(node, asked).unsqueeze(1).unsqueeze(-1)
    if len(node.blocks) == 1 and layout.apart > count:
        columns = node.blocks[0].columns.numpy()
        heard = torch.as_tensor(np.stack([_occurrence(row) for row in columns]))
        number = number * (layout.apart // count) + _by_group(node, heard)[:, None, None]
    return number


def laid_out(node: ProgramNode, values: Tensor) -> Tensor:
    """Values by (groups, heads, queries, keys) as the weights have them, (..., queries, keys).

    The way back of `MapLayout.split`; keys may be of size 1, and groups be token groups.
    """
    layout = node.layout
    shape = [*node.site.shape[:-1], 1, 1] if layout.per_query else [*node.site.shape]
    permuted = [shape[axis] for axis in layout.permutation[:-1]]
    keys = values.shape[-1]
    values = values.expand(layout.groups, layout.heads, permuted[-1], keys)
    back = torch.tensor(layout.permutation).argsort().tolist()
    values = values.reshape(*permuted, keys).permute(back)
    return values.squeeze(-2) if layout.per_query else values


def _by_group(node: ProgramNode, values: Tensor) -> Tensor:
    """Values by token group, by group."""
    return values if node.layout.fold is None else values[node.layout.fold]


def _queries(node: ProgramNode) -> np.ndarray:
    """One number for each query's token, in the order in which queries stand."""
    width = int(node.rows.max()) + 1
    asked: np.ndarray = (node.samples.unsqueeze(1) * width + node.rows).flatten().numpy()
    return asked


def _occurrence(values: np.ndarray) -> np.ndarray:
    """How many equal ones stand before each of some numbers.

    Examples
    --------
    >>> _occurrence(np.array([5, 7, 5, 5])).tolist()
    [0, 0, 1, 2]
    """
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.r_[True, ordered[1:] != ordered[:-1]]
    first = np.maximum.accumulate(np.where(starts, np.arange(len(values)), 0))
    found: np.ndarray = np.empty(len(values), dtype=np.int64)
    found[order] = np.arange(len(values)) - first
    return found
