"""What dispatch took apart, made whole again, in place: fused attention, products with a matrix."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

__all__ = ["make_whole"]

aten: Any = torch.ops.aten

_KERNEL = "aten::_scaled_dot_product_"
_ALSO_CALLED = {"attn_bias": "attn_mask"}
_ARGUMENTS = (
    "query",
    "key",
    "value",
    "attn_mask",
    "dropout_p",
    "is_causal",
    "scale",
    "enable_gqa",
)


def make_whole(graph: fx.Graph) -> None:
    """Replace what a graph that was traced after dispatch has in the place of whole operations.

    Such a graph (``make_fx`` without ``pre_dispatch``, a decomposed ``ExportedProgram``) calls the
    kernel of fused attention that fitted the machine: a tuple of the attention's output and of what
    its backward needs, which nothing in a forward reads. And a product with a matrix is one with a
    copy of the matrix for each sample.
    """
    for node in list(graph.nodes):
        if node.op != "call_function":
            continue
        if _is_kernel(node.target):
            if all(user.target is operator.getitem and user.args[1] == 0 for user in node.users):
                _replace(graph, node)
        elif node.target is aten.bmm.default:
            _without_copies(graph, node)


def _without_copies(graph: fx.Graph, bmm: fx.Node) -> None:
    """A batched product with copies of one matrix is `matmul` with the matrix."""
    left, right = bmm.args
    single = _repeated(right)
    if single is None:
        return
    with graph.inserting_before(bmm):
        whole = graph.call_function(aten.matmul.default, (left, single))
    whole.meta = dict(bmm.meta)
    bmm.replace_all_uses_with(whole)
    graph.erase_node(bmm)


def _repeated(operand: Any) -> fx.Node | None:
    """The matrix that an operand of `bmm` repeats, if it does."""
    while isinstance(operand, fx.Node) and operand.target in _SAME and _shape(operand) is not None:
        if _shape(operand) != _shape(operand.args[0]):
            return None
        operand = operand.args[0]
    if not isinstance(operand, fx.Node) or operand.target is not aten.expand.default:
        return None
    matrix = operand.args[0]
    shape, repeated = _shape(matrix), _shape(operand)
    if not isinstance(matrix, fx.Node) or shape is None or repeated is None:
        return None
    return matrix if len(shape) == 2 and list(shape) == list(repeated[1:]) else None


_SAME = {aten.view.default, aten.reshape.default, aten.clone.default, aten._unsafe_view.default}


def _shape(node: Any) -> Sequence[Any] | None:
    value = (
        node.meta.get("val", node.meta.get("tensor_meta")) if isinstance(node, fx.Node) else None
    )
    return getattr(value, "shape", None)


def _is_kernel(target: Any) -> bool:
    schema = getattr(target, "_schema", None)
    return schema is not None and schema.name.startswith(_KERNEL) and len(schema.returns) > 1


def _replace(graph: fx.Graph, kernel: fx.Node) -> None:
    names = [argument.name for argument in kernel.target._schema.arguments]  # type: ignore[union-attr]
    given = {**dict(zip(names, kernel.args, strict=False)), **kernel.kwargs}
    given = {_ALSO_CALLED.get(name, name): value for name, value in given.items()}
    query, key, value = (given.pop(name) for name in _ARGUMENTS[:3])
    options = {name: given[name] for name in _ARGUMENTS[3:] if name in given}
    with graph.inserting_before(kernel):
        whole = graph.call_function(
            aten.scaled_dot_product_attention.default, (query, key, value), options
        )
    whole.meta = dict(kernel.meta)
    if "val" in whole.meta:
        whole.meta["val"] = whole.meta["val"][0]
    for result in list(kernel.users):
        result.replace_all_uses_with(whole)
        graph.erase_node(result)
    graph.erase_node(kernel)
