"""What the token analysis finds: attention sites, routes, and softmaxes that are no attention."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, fx

__all__ = ["AttentionSite", "Mixing", "RejectedSoftmax", "RouteSite", "Update", "framed"]


@dataclass(frozen=True)
class AttentionSite:
    """A place where normalised weights are contracted against tokens.

    Attributes
    ----------
    index
        Position among the updates; versions speak of it.
    form
        "fused" (scaled_dot_product_attention), "product" (a matrix product of weights and values) or
        "weighted_sum" (weights times values, summed).
    node
        The graph node of the contraction's output.
    softmax
        The graph node that normalised the weights (the fused call itself when it is fused), or made
        them where nothing normalises them.
    weights, values
        The operand nodes of the contraction (None and the value node for a fused call).
    weights_on_left
        For a product, whether the weights are the left operand.
    axis, query_axis
        For a weighted sum, the axis that is summed over, and that of the queries if they are many.
    shape
        Shape of the weights as (..., queries, keys).
    rows, columns
        Packed tag entries of the queries (..., queries, 1) and of the keys (..., 1, keys), compact.
    division
        The graph node that normalises the output, where the weights are contracted before they are
        divided by their sum.
    copies
        How many times all of its tokens ask and are heard, whole, beside the heads.
    """

    index: int
    form: str
    node: fx.Node
    softmax: fx.Node
    weights: fx.Node | None
    values: fx.Node
    weights_on_left: bool
    axis: int
    shape: tuple[int, ...]
    rows: Tensor
    columns: Tensor
    division: fx.Node | None = None
    query_axis: int | None = None
    copies: int = 1

    @property
    def output(self) -> fx.Node:
        """The graph node whose value is what the attention says."""
        return self.division or self.node


def framed(weights: Tensor, axis: int, query_axis: int | None) -> Tensor:
    """A weighted sum's weights, with all axes that the sum has, as (..., queries, keys)."""
    if query_axis is None:
        return weights.movedim(axis, -1).unsqueeze(-2)
    return weights.movedim((query_axis, axis), (-2, -1))


@dataclass(frozen=True)
class RouteSite:
    """A place where tokens are mixed by fixed weights into new tokens (or into themselves).

    Attributes
    ----------
    index
        Position among the updates.
    node
        The graph node of the mixing operation.
    operation
        Its name, for reports.
    new, old, weights
        One entry per pair: the made token's id, the packed tag of what it is made of, and its share
        (the shares of one token sum to 1).
    totals
        For each entry what the made token's shares summed to before: of a sum over five tokens 5.
    """

    index: int
    node: fx.Node
    operation: str
    new: Tensor
    old: Tensor
    weights: Tensor
    totals: Tensor


@dataclass(frozen=True)
class Mixing:
    """Newborn tokens mixed into newer ones before any attention.

    A backbone's convolutions just make newer tokens. Where the older tokens attend to the newer ones
    (spatial reduction of keys), the mixing is a route: only then its weights are computed.

    Attributes
    ----------
    index, node, operation
        As for a route.
    new
        The made tokens' ids.
    old
        The tokens that they are made of.
    weighed
        Computes the route.
    """

    index: int
    node: fx.Node
    operation: str
    new: Tensor
    old: Tensor
    weighed: Callable[[], RouteSite]


Update = AttentionSite | RouteSite | Mixing


@dataclass(frozen=True)
class RejectedSoftmax:
    """A softmax that is not attention.

    Attributes
    ----------
    name, module
        The graph node's name and its module path.
    reason
        Why it is not attention.
    """

    name: str
    module: str
    reason: str
