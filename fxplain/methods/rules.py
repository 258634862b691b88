"""The relevancy rules of Chefer, Gur & Wolf (ICCV 2021, arXiv 2103.15679), one function each.

All matrices carry a batch axis first. ``R`` is a relevancy block (batch, row tokens, column tokens),
``identity`` the part of it that is no attention's doing (I, or a route's product), ``A`` a node's map
(batch, queries, keys).
"""

from __future__ import annotations

import torch
from torch import Tensor

from fxplain.methods.products import product

__all__ = [
    "attention_map",
    "bimodal_cross_update",
    "bimodal_own_update",
    "normalized",
    "route_update",
    "self_attention_update",
]


def attention_map(attention: Tensor, gradient: Tensor, *, in_place: bool = False) -> Tensor:
    """Equation 5 before the mean over heads: ``max(0, dy/dA * A)``."""
    weighed = gradient.mul_(attention) if in_place else gradient * attention
    return weighed.relu_()


def self_attention_update(A: Tensor, R: Tensor) -> Tensor:
    """Equations 6 and 7: what self-attention adds to any column block, ``A R``."""
    return product(A, R)


def normalized(R: Tensor, identity: Tensor) -> Tensor:
    """Equations 8 and 9: ``(R - I) / rowsum(R - I) + I``; a row whose sum is 0 stays the identity."""
    residual = R - identity
    return divided_by_sums(residual, residual.sum(-1, keepdim=True)) + identity


def divided_by_sums(x: Tensor, sums: Tensor) -> Tensor:
    """Rows of `x` (batch, rows, c) by row sums (batch, rows, 1), 0 where a row's sum is 0.

    So is a sum that is 0 but for rounding: one below the type's epsilon times the largest sum of its
    sample. Noise by noise would be a share like any other.
    """
    size = sums.abs()
    nothing = size <= torch.finfo(sums.dtype).eps * size.amax(-2, keepdim=True)
    return torch.where(nothing, 0, x / torch.where(nothing, 1, sums))


def bimodal_cross_update(R_ss: Tensor | None, A: Tensor, R_qq: Tensor | None) -> Tensor:
    """Equation 10: ``norm(R_ss)^T A norm(R_qq)``, both already normalised (None for the identity)."""
    mixed = A if R_qq is None else product(A, R_qq)
    return mixed if R_ss is None else product(R_ss.transpose(-1, -2), mixed)


def bimodal_own_update(A: Tensor, R_qs: Tensor) -> Tensor:
    """Equation 11, ``A R_qs``; the same form carries any third modality: ``R[s,m] += A R[q,m]``."""
    return product(A, R_qs)


def route_update(P: Tensor, R_old: Tensor) -> Tensor:
    """A route with weights P (rows sum to 1): ``R[new,*] = P R[old,*]``."""
    return product(P, R_old)
