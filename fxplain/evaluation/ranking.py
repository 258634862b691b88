"""Ranking: in which order tokens go, and how many of them."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["number_removed", "ranks"]


def number_removed(counted: Tensor, fraction: float) -> Tensor:
    """How many of `counted` tokens go: all but floor((1 - fraction) counted), as in the paper's code.

    Examples
    --------
    >>> number_removed(torch.tensor([36, 10, 6]), 0.95)
    tensor([35, 10,  6])
    """
    kept = ((1 - fraction) * counted.double() + 1e-6).floor().long()
    return counted - kept


def ranks(relevance: Tensor, counted: Tensor, generators: list[torch.Generator]) -> Tensor:
    """The place of each token in its sample's order, the most relevant first.

    Equal relevance (to six digits of the sample's largest) is put in a random order.

    Parameters
    ----------
    relevance, counted
        (batch, tokens).
    generators
        One per sample.

    Returns
    -------
    torch.Tensor
        (batch, tokens); tokens that do not count come after all others.
    """
    result = torch.empty(relevance.shape, dtype=torch.long)
    for sample, generator in enumerate(generators):
        places = counted[sample].nonzero().flatten()
        values = relevance[sample, places].double()
        top = float(values.abs().max()) if len(values) else 0.0
        values = (values / (top or 1.0) * 1e6).round()
        shuffled = torch.randperm(len(places), generator=generator)
        order = shuffled[values[shuffled].argsort(descending=True, stable=True)]
        result[sample] = len(places)
        result[sample, places[order]] = torch.arange(len(places))
    return result
