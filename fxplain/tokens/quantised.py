"""Quantised weights: matrices that a model makes of packed integers while it runs, and are weights."""

from __future__ import annotations

from torch import Tensor, fx

from fxplain.capture import Capture, operation_name

__all__ = ["dequantised"]

_PICKING = frozenset(["embedding", "gather", "index", "index_select", "take_along_dim"])
"""What picks rows of its first operand: the integers that say which are no weights."""

_CONTRACTING = frozenset([
    "addmm", "baddbmm", "bmm", "convolution", "conv1d", "conv2d", "einsum", "linear", "matmul", "mm",
    "scaled_dot_product_attention",
])  # fmt: skip


def dequantised(capture: Capture) -> frozenset[fx.Node]:
    """The floats that are made of integers which the model holds, number by number, of nothing else.

    GPTQ, AWQ and HQQ pack several weights into an integer and unpack, scale and shift them in each
    call. A learned table that is looked up by integers is none.
    """
    state = {node for node in capture.placeholders if node.name in capture.state}
    packed = {node for node in state if _is_integer(node) and _rank(node) > 1}
    found: set[fx.Node] = set()
    for node in capture.graph.nodes:
        inputs = node.all_input_nodes
        if node.op != "call_function" or not state.issuperset(inputs):
            continue  # what has no inputs (a range) is made of nothing else, either
        if operation_name(node) in _CONTRACTING:
            continue
        state.add(node)
        values = inputs[:1] if operation_name(node) in _PICKING else inputs
        if any(each in packed or each in found for each in values):
            (packed if _is_integer(node) else found).add(node)
    return frozenset(found)


def _is_integer(node: fx.Node) -> bool:
    value = node.meta.get("val")
    if not isinstance(value, Tensor) or value.is_floating_point() or value.is_complex():
        return False
    return str(value.dtype) != "torch.bool"


def _rank(node: fx.Node) -> int:
    value = node.meta.get("val")
    return value.dim() if isinstance(value, Tensor) else 0
