"""By head: products with the maps of single heads, which never exist for all queries at once."""

from __future__ import annotations

import torch
from torch import Tensor

from fxplain.methods import NodeMap
from fxplain.program import MapLayout, ProgramNode, head_numbers

__all__ = ["head_factor", "sums_by_head"]


def head_factor(layout: MapLayout) -> float:
    """What a head's map is multiplied with in the mean over heads."""
    copies = 1 if layout.fold is None else int(layout.fold.bincount()[0])
    return 1 / (layout.heads * layout.parts * copies)


def sums_by_head(
    of_node: NodeMap, node: ProgramNode, left: Tensor, right: Tensor, batch: int
) -> Tensor:
    """X A_h y for each head h of a node: what it gives of a row x to keys that have y.

    Parameters
    ----------
    of_node, node
        The node's map and the node.
    left
        (token groups, queries, c) rows.
    right
        (token groups, keys, c, m) what keys had.
    batch
        How many samples there are.

    Returns
    -------
    torch.Tensor
        (batch, heads, c, m); the sum over heads is that of the mean map.
    """
    layout, numbers = node.layout, head_numbers(node).to(left.device)
    fold = None if layout.fold is None else layout.fold.to(left.device)
    if fold is not None:
        left, right = left[fold], right[fold]
    samples = node.samples.to(left.device)
    samples = samples if fold is None else samples[fold]
    flows, columns = right.shape[-2:]
    side_by_side = numbers.shape[-1] > 1  # heads stand among the keys
    parts = int((numbers.amax(-1) - numbers.amin(-1)).max()) + 1
    total = left.new_zeros(batch * node.info.heads, flows, columns)
    for queries, weighed in of_node.by_head():
        here = numbers if numbers.shape[2] == 1 else numbers[:, :, queries]
        groups, heads, count, _ = weighed.shape
        for part in range(parts):
            y = right.flatten(2)
            number = here
            if side_by_side:
                y = torch.where((here[:, 0, 0, :] % parts == part).unsqueeze(-1), y, 0)
                number = here[..., :1] // parts * parts + part
            made = (weighed @ y.unsqueeze(1)).unflatten(-1, (flows, columns))
            made = made * left[:, None, queries, :, None]
            index = samples.reshape(-1, 1, 1) * node.info.heads + number.squeeze(-1)
            index = index.expand(groups, heads, count)
            total.index_add_(0, index.flatten(), made.flatten(0, 2))
    by_sample: Tensor = total.unflatten(0, (-1, node.info.heads)) * head_factor(layout)
    return by_sample
