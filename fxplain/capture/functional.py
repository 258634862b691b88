"""Graph in, graph out: functional form, flat (no higher-order regions), module paths attached."""

from __future__ import annotations

import operator
from contextlib import suppress
from difflib import SequenceMatcher
from typing import Any

import torch
from torch import fx, nn
from torch.export import ExportedProgram

from fxplain.capture.autocasting import Autocast
from fxplain.capture.captured import MODULE_PATH
from fxplain.capture.einsum import take_einsums_apart
from fxplain.capture.kernels import make_whole
from fxplain.capture.losses import take_losses_apart
from fxplain.capture.writes import UnknownWriteError, has_writes, without_writes

__all__ = [
    "attach_module_paths",
    "drop_assertions",
    "functional_program",
    "inline_regions",
    "keep_known_paths",
]

_ASSERTIONS = {
    "aten._assert_tensor_metadata",
    "aten._assert_scalar",
    "aten._assert_async",
    "aten.sym_constrain_range_for_size",
    "aten.sym_constrain_range",
    "aten._functional_assert_async",
    "aten._functional_assert_scalar",
}


def functional_program(program: ExportedProgram) -> tuple[ExportedProgram, fx.GraphModule]:
    """The program and its graph without in-place writes, flat; composites whole but einsums and losses.

    Writes and einsums are followed here; functionalisation by export itself costs as much as the
    export or more, and is left for what this does not know. The program that is returned is the one
    whose signature describes the graph.
    """
    program = _dispatched(program)
    inline_regions(program.graph_module)
    make_whole(program.graph_module.graph)
    take_einsums_apart(program.graph_module.graph)
    take_losses_apart(program.graph_module.graph)
    if not has_writes(program.graph_module.graph):
        return program, program.graph_module
    with suppress(UnknownWriteError):  # then export itself knows
        return program, without_writes(program.graph_module)
    made = program.run_decompositions({})
    inline_regions(made.graph_module)
    return made, made.graph_module


def _dispatched(program: ExportedProgram) -> ExportedProgram:
    """The program with the casts of autocast, and what ``torch.vmap`` does, as plain operations.

    Both act while operations are dispatched, which is after what export records: a pass through
    dispatch makes them explicit.
    """
    graphs = [m.graph for m in program.graph_module.modules() if isinstance(m, fx.GraphModule)]
    nodes = [n for graph in graphs for n in graph.nodes if n.op == "call_function"]
    acts = (
        any(Autocast.now().types)
        or any(map(_casts, nodes))
        or any(
            (getattr(node.target, "__module__", "") or "").startswith("torch._functorch")
            for node in nodes
        )
    )
    return program.run_decompositions({}) if acts else program


def _casts(node: fx.Node) -> bool:
    """Whether a node opens a region of autocast that is switched on."""
    return node.target is torch.ops.higher_order.wrap_with_autocast and bool(node.args[2])


def inline_regions(module: fx.GraphModule) -> None:
    """Inline the sub-graphs of grad-mode and autocast regions, in place.

    A region that switches gradients off would hide a frozen tower from the explanation, and the
    casts of an autocast region are explicit by now, so both are plain code here.
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


def keep_known_paths(graph: fx.Graph, model: nn.Module, prefix: str) -> None:
    """Give the nodes of a graph module's new graph the module paths that its own nodes know.

    A graph that was exported before has no modules left to call, but its nodes say which they were of;
    the same operations come in the same order. `prefix` is where the model is in the new graph.
    """
    if not isinstance(model, fx.GraphModule):
        return
    known = [n for n in model.graph.nodes if n.op == "call_function" and _stack(n)]
    found = [n for n in graph.nodes if n.op == "call_function"]
    old_names, new_names = ([str(node.target) for node in nodes] for nodes in (known, found))
    blocks = [(0, 0, len(found))]
    if old_names != new_names:
        matcher = SequenceMatcher(None, old_names, new_names, autojunk=False)
        blocks = [(m.a, m.b, m.size) for m in matcher.get_matching_blocks()]
    for a, b, size in blocks:
        for old, new in zip(known[a : a + size], found[b : b + size], strict=True):
            path, kind = next(reversed(_stack(old).values()))
            new.meta["nn_module_stack"] = {path: (f"{prefix}.{path}", kind)}


def _stack(node: fx.Node) -> Any:
    return node.meta.get("nn_module_stack")


def attach_module_paths(graph: fx.Graph, prefix: str) -> None:
    """Write the innermost module path of every node into its meta, without the wrapper's `prefix`.

    Nothing else but the value stays in it: what export notes besides is as large as the graph.
    """
    for node in graph.nodes:
        stack = node.meta.get("nn_module_stack")
        if stack and MODULE_PATH not in node.meta:
            path = next(reversed(stack.values()))[0]
            path = path.removeprefix(prefix).removeprefix(".")
            node.meta[MODULE_PATH] = path.split("@")[0]
        node.meta = {key: node.meta[key] for key in ("val", MODULE_PATH) if key in node.meta}
