"""Fragments: parts of a captured graph, run from given values to others."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from fxplain.capture import attribute_of, called, fused_arguments
from fxplain.interventions.lanes import attended
from fxplain.interventions.replacements import Given

__all__ = ["Fragments"]

_FUSED = torch.ops.aten.scaled_dot_product_attention.default


class Fragments:
    """The ways from some nodes (leaves) to others, with all else as it is for the given inputs.

    Parameters
    ----------
    given
        What runs.
    leaves
        Nodes whose values are given.
    """

    def __init__(self, given: Given, leaves: Collection[fx.Node]) -> None:
        graph = given.capture.graph
        self._order = {node: i for i, node in enumerate(graph.nodes)}
        self._after = set(leaves)
        for node in graph.nodes:
            if any(source in self._after for source in node.all_input_nodes):
                self._after.add(node)
        self._plans: dict[Any, list[fx.Node]] = {}
        self._fixed = self._run_before(given)

    def _run_before(self, given: Given) -> dict[fx.Node, Any]:
        """The values that fragments read and that depend on no leaf."""
        graph, capture = given.capture.graph, given.capture
        needed, todo = set[fx.Node](), list(self._after)
        while todo:
            fresh = [n for n in todo.pop().all_input_nodes if n not in self._after | needed]
            needed.update(fresh)
            todo += fresh
        values: dict[fx.Node, Any] = dict(
            zip(capture.placeholders, capture.bind(given.model, given.inputs), strict=True)
        )
        with torch.no_grad(), capture.own_chance(given.inputs.leaves):
            for node in graph.nodes:
                if node in needed and node.op == "get_attr":
                    values[node] = attribute_of(capture.graph_module, node)
                elif node in needed and node.op == "call_function":
                    values[node] = _called(node, values)
        read = {n for node in self._after for n in node.all_input_nodes}
        return {node: value for node, value in values.items() if node in read}

    def sources(self, target: fx.Node, leaves: Collection[fx.Node]) -> set[fx.Node]:
        """The leaves that a node is computed from; itself, where it is one."""
        if target in leaves:
            return {target}
        return {
            source
            for node in self.plan([target], leaves)
            for source in node.all_input_nodes
            if source in leaves
        }

    def plan(self, targets: Sequence[fx.Node], leaves: Collection[fx.Node]) -> list[fx.Node]:
        """The nodes that are computed on the way from leaves to some nodes, in order."""
        key = (tuple(targets), frozenset(leaves))
        if key not in self._plans:
            found, todo = set(targets), list(targets)
            while todo:
                fresh = [
                    n
                    for n in todo.pop().all_input_nodes
                    if n in self._after and n not in leaves and n not in found
                ]
                found.update(fresh)
                todo += fresh
            self._plans[key] = sorted(found, key=self._order.__getitem__)
        return self._plans[key]

    def run(self, targets: Sequence[fx.Node], values: Mapping[fx.Node, Tensor]) -> list[Any]:
        """The values of some nodes for those of leaves; a target that is a leaf is what is given."""
        known: dict[fx.Node, Any] = {**self._fixed, **values}
        for node in self.plan([t for t in targets if t not in known], values.keys()):
            known[node] = _called(node, known)
        return [known[target] for target in targets]


def _called(node: fx.Node, values: Mapping[fx.Node, Any]) -> Any:
    if node.target is _FUSED:
        given = dict(fx.map_arg(fused_arguments(node), values.__getitem__))
        query, key, value = (given.pop(name) for name in ("query", "key", "value"))
        return attended(query, key, value, given.pop("attn_mask", None), given)
    return called(node, values.__getitem__)
