"""Maps: how a method weighs one attention node, per head, before the mean over heads."""

from __future__ import annotations

import torch
from torch import Tensor

from fxplain.errors import MethodError
from fxplain.methods.node_evidence import NodeEvidence
from fxplain.methods.rules import attention_map

__all__ = [
    "attention",
    "attention_gradient",
    "gradient_times_attention",
    "gradient_times_relevance",
    "head_weighted_attention",
    "relevance",
    "similarity_times_gradient",
    "value_weighted_attention",
    "weighted_by_values",
]


HIDDEN = 1e-30
"""The largest weight of a key that counts as hidden: masks lower scores to -inf, or by 100 and more."""


def attention(node: NodeEvidence) -> Tensor:
    """A."""
    return node.attention()


def gradient_times_attention(node: NodeEvidence, *, signed: bool = False) -> Tensor | None:
    """Equation 5 of ICCV 2021: max(0, dy/dA * A); signed, dy/dA * A."""
    return _times_gradient(node, node.attention(), signed)


def gradient_times_relevance(node: NodeEvidence, *, signed: bool = False) -> Tensor | None:
    """Equation 13 of CVPR 2021: max(0, dy/dA * LRP(A)); signed, dy/dA * LRP(A)."""
    relevance = node.relevance()
    return None if relevance is None else _times_gradient(node, relevance, signed)


def _times_gradient(node: NodeEvidence, A: Tensor, signed: bool) -> Tensor | None:
    gradient = node.gradient()
    if gradient is None:
        return None
    return gradient.mul_(A) if signed else attention_map(A, gradient, in_place=True)


def relevance(node: NodeEvidence, *, signed: bool = True) -> Tensor | None:
    """LRP(A); not signed, max(0, LRP(A))."""
    made = node.relevance()
    return made if made is None or signed else made.clamp(min=0)


def attention_gradient(node: NodeEvidence, *, signed: bool = False) -> Tensor | None:
    """max(0, dy/dA) of LeGrad (arXiv 2404.03214); signed, dy/dA. Keys that a mask hides have none."""
    gradient = node.gradient()
    if gradient is None:
        return None
    gradient = gradient.masked_fill(node.attention() <= HIDDEN, 0)
    return gradient if signed else gradient.clamp_(min=0)


def similarity_times_gradient(node: NodeEvidence, *, keys: Tensor) -> Tensor | None:
    """Grad-ECLIP (Zhao et al., ICML 2024): sum_c w_c lambda_i v_i^c of each query and key i.

    w_c = dy/do_c is the gradient at channel c of what the query hears, so that sum_c w_c v_i^c is
    dy/dA_i summed over heads; lambda_i is the cosine of query and key, all heads side by side, brought
    to 0 ... 1 over the keys. `keys` (token groups, keys) says which keys count: words and patches; a
    CLS has no place in the map. Keys that a mask hides have none, and bound none of the cosines.
    """
    gradient = node.gradient()
    if gradient is None:
        return None
    cosines = node.cosines()
    if cosines is None:
        raise MethodError(
            f"grad_eclip needs the queries and keys of {node.node.info.module or node.node.info.name}, "
            f"and cannot tell them: its scores are no product of one query and one key of all heads. "
            f"Use legrad or generic here."
        )
    allowed = node.attention() > HIDDEN
    fold = node.layout.fold
    keys = keys.repeat(len(allowed) // len(keys), 1) if fold is None else keys[fold]
    counts = keys.to(allowed.device)[:, None, None, :] & allowed.any(1, keepdim=True)
    low = cosines.masked_fill(~counts, torch.inf).amin(-1, keepdim=True)
    high = cosines.masked_fill(~counts, -torch.inf).amax(-1, keepdim=True)
    spread = (high - low).clamp(min=torch.finfo(cosines.dtype).tiny)
    loosened = torch.where(counts, (cosines - low) / spread, 0)
    return gradient * loosened * node.layout.head_count


def head_weighted_attention(node: NodeEvidence) -> Tensor | None:
    """Grad-CAM: A of each head times the mean of its gradient over all rows and columns.

    A weight that a mask holds at 0 is no place of the map, though it has a gradient.
    """
    gradient = node.gradient()
    if gradient is None:
        return None
    A = node.attention()
    return A * _mean_of_head(node, gradient, A > HIDDEN)


def _mean_of_head(node: NodeEvidence, gradient: Tensor, places: Tensor) -> Tensor:
    """The mean over a head's whole map: all the windows of a sample, where it has several."""
    total = gradient.masked_fill(~places, 0).sum((-2, -1), keepdim=True)
    number = places.sum((-2, -1), keepdim=True)
    samples = node.node.samples.to(gradient.device)
    count = int(samples.max()) + 1
    if node.layout.fold is None and count < len(samples):
        total, number = (
            x.new_zeros(count, *x.shape[1:]).index_add_(0, samples, x)[samples]
            for x in (total, number)
        )
    return total / number.clamp(min=1)


def value_weighted_attention(node: NodeEvidence) -> Tensor:
    """The norm of each summand A v of a node's output (Kobayashi et al., EMNLP 2020)."""
    return node.attention() * node.value_norms()


def weighted_by_values(node: NodeEvidence, *, signed: bool = False) -> Tensor | None:
    """Equation 5, each key weighed by the norm of its value relative to the mean over its keys.

    Keys that a mask hides from a query are none of its keys.
    """
    made = gradient_times_attention(node, signed=signed)
    if made is None:
        return None
    norms = node.value_norms()
    keys = node.attention() > HIDDEN
    mean = (norms * keys).sum(-1, keepdim=True) / keys.sum(-1, keepdim=True).clamp(min=1)
    return made * torch.where(mean > 0, norms / mean, torch.ones_like(norms))
