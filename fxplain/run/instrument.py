"""Rewrite: a copy of the captured graph whose attention nodes report their ingredients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from fxplain.capture import Capture
from fxplain.program import ProgramNode

__all__ = ["fused_flags", "instrumented", "tap"]


_VIEW = torch.ops.aten.view.default


def tap(output: Tensor) -> Tensor:
    """Let gradients start here where nothing before needs them.

    The model's weights are frozen, so the first attention outputs are the leaves of the backward
    pass, and it stops there.
    """
    return output if output.requires_grad else output.detach().requires_grad_()


def instrumented(capture: Capture, nodes: Sequence[ProgramNode]) -> fx.GraphModule:
    """A graph that returns (model outputs, one tuple of ingredients per node).

    The last ingredient of a node is its output; those before are its operands as `site.form` says:
    (query, key, value, mask) of a fused node, (weights, values) of the others, and what was divided
    by the sum of its weights afterwards, if it was. Does not change `capture`.
    """
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    sites = {node.site.node for node in nodes}
    for original in capture.graph.nodes:
        if original.op == "output":
            reports = tuple((*_operands(node), node.site.node) for node in nodes)
            graph.output(fx.map_arg((original.args[0], reports), copies.__getitem__))
            continue
        copy = graph.node_copy(original, copies.__getitem__)
        if copy.target is _VIEW:  # with gradients a kernel may lay its output out in another way
            copy.target = torch.ops.aten.reshape.default
        if original in sites:
            copy = graph.call_function(tap, (copy,))
        copies[original] = copy
    graph.eliminate_dead_code()
    return fx.GraphModule(capture.graph_module, graph)


def _operands(node: ProgramNode) -> tuple[Any, ...]:
    site = node.site
    if site.form != "fused":
        late = () if site.division is None else (site.division,)
        return (site.weights, site.values, *late)
    call = site.node
    named = dict(zip(("query", "key", "value", "attn_mask"), call.args, strict=False))
    named.update(call.kwargs)
    return (named["query"], named["key"], named["value"], named.get("attn_mask"))


def fused_flags(node: ProgramNode) -> tuple[bool, float | None]:
    """(is_causal, scale) of a fused attention call."""
    call = node.site.node
    schema: Any = call.target
    names = [argument.name for argument in schema._schema.arguments]
    named: dict[str, Any] = dict(zip(names, call.args, strict=False))
    named.update(call.kwargs)
    scale = named.get("scale")
    return bool(named.get("is_causal", False)), scale if isinstance(scale, float) else None
