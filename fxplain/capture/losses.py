"""Losses taken apart, in place: what a model computes of labels is followed like the rest of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from torch import Tensor, fx, ops
from torch._decomp import decomposition_table
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

__all__ = ["parts_of_losses", "take_losses_apart"]

_LOSSES = (
    "binary_cross_entropy binary_cross_entropy_with_logits cosine_embedding_loss cross_entropy_loss "
    "hinge_embedding_loss huber_loss kl_div l1_loss margin_ranking_loss mse_loss multi_margin_loss "
    "multilabel_margin_loss multilabel_margin_loss_forward nll_loss nll_loss2d nll_loss2d_forward "
    "nll_loss_forward nll_loss_nd poisson_nll_loss smooth_l1_loss soft_margin_loss triplet_margin_loss"
)


@cache
def parts_of_losses() -> dict[Any, Callable[..., Any]]:
    """What each loss of torch is made of: logarithms, picks, masks and sums, whose tokens are known."""
    losses = [getattr(ops.aten, name).default for name in _LOSSES.split()]
    return {
        loss: loss.decompose if loss._can_decompose() else decomposition_table[loss]
        for loss in losses
    }


def take_losses_apart(graph: fx.Graph) -> None:
    """Replace every loss by its parts.

    Requires a fake value in ``meta["val"]`` of every operand. The parts have the loss's meta, and
    values of their own.
    """
    for node in list(graph.nodes):
        if node.op == "call_function" and node.target in parts_of_losses():
            with graph.inserting_before(node):
                node.replace_all_uses_with(_apart(graph, node))
            graph.erase_node(node)


def _apart(graph: fx.Graph, loss: fx.Node) -> Any:
    """The value of a loss as its parts compute it."""
    given, form = pytree.tree_flatten((loss.args, loss.kwargs))
    nodes = [x for x in given if _holds_tensor(x)]

    def call(*tensors: Tensor) -> Any:
        values: Iterator[Tensor] = iter(tensors)
        filled = [next(values) if _holds_tensor(x) else _value(x) for x in given]
        args, kwargs = pytree.tree_unflatten(filled, form)
        return loss.target(*args, **kwargs)  # type: ignore[operator]

    parts = make_fx(
        call, decomposition_table=parts_of_losses(), tracing_mode="symbolic", pre_dispatch=True
    )(*(x.meta["val"] for x in nodes))
    here = dict(zip(parts.graph.find_nodes(op="placeholder"), nodes, strict=True))
    for part in parts.graph.nodes:
        if part.op == "call_function":
            here[part] = graph.node_copy(part, here.__getitem__)
            here[part].meta = {**loss.meta, "val": part.meta.get("val")}
    return fx.map_arg(parts.graph.output_node().args[0], here.__getitem__)


def _holds_tensor(given: Any) -> bool:
    return isinstance(given, fx.Node) and isinstance(given.meta["val"], Tensor)


def _value(given: Any) -> Any:
    return given.meta["val"] if isinstance(given, fx.Node) else given
