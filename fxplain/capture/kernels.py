"""Fused attention made whole, in place: a kernel that dispatch chose is the operation it computes."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx

__all__ = ["make_attention_whole"]

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


def make_attention_whole(graph: fx.Graph) -> None:
    """Replace each kernel of fused attention by `scaled_dot_product_attention`.

    A graph that was traced after dispatch (``make_fx`` without ``pre_dispatch``, a decomposed
    ``ExportedProgram``) calls the kernel that fitted the machine: a tuple of the attention's output and
    of what its backward needs, which nothing in a forward reads.
    """
    for node in list(graph.nodes):
        if node.op != "call_function" or not _is_kernel(node.target):
            continue
        if all(user.target is operator.getitem and user.args[1] == 0 for user in node.users):
            _replace(graph, node)


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
