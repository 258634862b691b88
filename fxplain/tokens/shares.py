"""Shares: the part that each token has in what a route makes of several."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, fx

from fxplain.capture import operation_name
from fxplain.tokens.analysis import Analysis
from fxplain.tokens.tag import tokens_in, versions_in
from fxplain.tokens.updates import RouteSite

__all__ = ["Weights", "route_site"]

Weights = Callable[[], Tensor] | None


def route_site(
    a: Analysis, index: int, node: fx.Node, made: Tensor, groups: Tensor, weights: Weights
) -> RouteSite:
    """The route that makes tokens of groups, (..., n), with their shares; equal ones if None."""
    share = weights() if callable(weights) else torch.ones(())
    share = share.to(torch.float64).expand(groups.shape) * _factors(a, groups)
    total = share.sum(-1, keepdim=True).clamp(min=1e-300)
    share = share / total
    if operation_name(node) == "mean":
        total = total / groups.shape[-1]
    new = made.unsqueeze(-1).expand(groups.shape)
    real = (groups >= 0) & (new >= 0) & (share > 0)
    total = total.expand(groups.shape)[real]
    return RouteSite(index, node, operation_name(node), new[real], groups[real], share[real], total)


def _factors(a: Analysis, groups: Tensor) -> Tensor:
    """What is left of each entry's row by what scaled it, 0 where there is no token to carry."""
    tokens, versions = a.book.find(tokens_in(groups)), versions_in(groups)
    factors = (tokens >= 0).double()
    for version in versions.unique().tolist():
        if a.versions.newborn(version):  # a constant has nothing to carry until it has attended
            factors *= (versions != version) | a.book.real(tokens)
        if a.versions.is_scaled(version):
            here = versions == version
            factors[here] *= a.versions.factor(version, tokens[here])
    return factors
