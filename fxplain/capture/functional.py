"""Graph in, graph out: functional form, flat (no higher-order regions), module paths attached."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram

from fxplain.capture.captured import MODULE_PATH

__all__ = ["attach_module_paths", "drop_assertions", "functional_program", "inline_regions"]

# In-place variants that export leaves behind and that change nothing but autograd metadata.
_HARMLESS_IN_PLACE = {
    torch.ops.aten.detach_.default: torch.ops.aten.detach.default,
}

# Composites whose parts say more about tokens than they do: an einsum is permutes and a product.
_TAKEN_APART = (torch.ops.aten.einsum.default,)

_ASSERTIONS = {
    "aten._assert_tensor_metadata",
    "aten._assert_scalar",
    "aten._assert_async",
    "aten.sym_constrain_range_for_size",
    "aten.sym_constrain_range",
    "aten._functional_assert_async",
    "aten._functional_assert_scalar",
}


def functional_program(program: ExportedProgram) -> ExportedProgram:
    """A program without in-place writes.

    Composite operations (linear, layer_norm, scaled_dot_product_attention...) stay whole, except
    einsum. A program that writes nowhere is returned as it is, since functionalisation costs as much
    as the export.
    """
    for node in program.graph.nodes:
        if node.target in _HARMLESS_IN_PLACE:
            node.target = _HARMLESS_IN_PLACE[node.target]
    nodes = [node for module in _graphs(program.graph_module) for node in module.graph.nodes]
    if any(_writes(node) or node.target in _TAKEN_APART for node in nodes):
        table = torch.export.default_decompositions()
        taken_apart = {op: table[op] for op in _TAKEN_APART if op in table}
        made: ExportedProgram = program.run_decompositions(taken_apart)
        return made
    return program


def _graphs(module: fx.GraphModule) -> list[fx.GraphModule]:
    return [m for m in module.modules() if isinstance(m, fx.GraphModule)]


def _writes(node: fx.Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return node.op == "call_function" and schema is not None and schema.is_mutable


def inline_regions(module: fx.GraphModule) -> None:
    """Inline the sub-graphs of grad-mode and autocast regions, in place.

    A region that switches gradients off would hide a frozen tower from the explanation, and an
    autocast region is exported with its casts made explicit, so both are plain code here.
    """
    higher_order = torch.ops.higher_order
    bodies = {higher_order.wrap_with_set_grad_enabled: 1, higher_order.wrap_with_autocast: 4}
    again = True
    while again:
        again = False
        for node in list(module.graph.nodes):
            if node.op == "call_function" and node.target in bodies:
                _inline(module, node, bodies[node.target])
                again = True
    module.graph.eliminate_dead_code()
    module.recompile()


def _inline(module: fx.GraphModule, call: fx.Node, body_index: int) -> None:
    body_node = call.args[body_index]
    assert isinstance(body_node, fx.Node)
    body = module.get_submodule(str(body_node.target))
    assert isinstance(body, fx.GraphModule)
    arguments = iter(call.args[body_index + 1 :])
    mapped: dict[fx.Node, Any] = {}
    result: Any = None
    with module.graph.inserting_before(call):
        for node in body.graph.nodes:
            if node.op == "placeholder":
                mapped[node] = next(arguments)
            elif node.op == "output":
                result = fx.map_arg(node.args[0], lambda n: mapped[n])
            else:
                if node.op == "get_attr":
                    _share_attribute(module, body, str(node.target))
                mapped[node] = module.graph.node_copy(node, lambda n: mapped[n])
    for user in list(call.users):
        if user.target is operator.getitem:
            user.replace_all_uses_with(result[user.args[1]])
            module.graph.erase_node(user)
    if call.users:
        call.replace_all_uses_with(result if isinstance(result, fx.Node) else result[0])
    module.graph.erase_node(call)


def _share_attribute(module: fx.GraphModule, body: fx.GraphModule, target: str) -> None:
    if not hasattr(module, target):
        setattr(module, target, getattr(body, target))


def drop_assertions(module: fx.GraphModule) -> None:
    """Remove export's run-time assertions: they cost time and mean nothing to tokens."""
    for node in reversed(list(module.graph.nodes)):
        if node.op != "call_function":
            continue
        name = str(node.target).removesuffix(".default").rsplit(".", 0)[0]
        base = ".".join(name.split(".")[:2])
        if base in _ASSERTIONS and not node.users:
            module.graph.erase_node(node)
    module.graph.eliminate_dead_code()
    module.recompile()


def attach_module_paths(graph: fx.Graph, prefix: str) -> None:
    """Write the innermost module path of every node into its meta, without the wrapper's `prefix`."""
    for node in graph.nodes:
        stack = node.meta.get("nn_module_stack")
        if not stack or MODULE_PATH in node.meta:
            continue
        path = next(reversed(stack.values()))[0]
        path = path.removeprefix(prefix).removeprefix(".")
        node.meta[MODULE_PATH] = path.split("@")[0]
