"""Geometry: where a node's heads, queries and keys lie in the values that a cut changes.

The operations say it themselves: they run once more on numbered elements. Weights that hold the number
of their row, contracted with ones, are the rows that each output is of; numbered softmax outputs, moved
as the weights are, say which of them each weight was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from fxplain.capture import Capture, ModelInputs, attribute_of, called, operation_name
from fxplain.program import Program, ProgramNode
from fxplain.run import consumer
from fxplain.tokens import is_elementwise, moves
from fxplain.tokens.tag import narrowed

__all__ = ["Geometry", "NodeGeometry", "as_operand", "geometry_of"]


@dataclass(eq=False)
class NodeGeometry:
    """Where the parts of one attention node lie.

    Attributes
    ----------
    rows
        For each element of the node's output the row of its weights (..., queries) that it is of,
        flattened, with size 1 where it does not vary; None where an output is of several rows.
    scores
        For each of the weights the element of what the softmax made, flattened, that it is; None where
        weights are made of several. Of fused attention the weights are these themselves.
    scores_shape, weights_shape
        The shapes of both: of what the softmax made, and of the operand of the contraction.
    """

    rows: Tensor | None = None
    scores: Tensor | None = None
    scores_shape: tuple[int, ...] = ()
    weights_shape: tuple[int, ...] = ()


Geometry = Mapping[int, NodeGeometry]
"""By a node's position among the updates."""


def geometry_of(
    capture: Capture, model: nn.Module, inputs: ModelInputs, program: Program
) -> Geometry:
    """The geometry of every attention node; costs one forward the first time."""

    def made() -> Geometry:
        fused = {
            index: _of_fused(node)
            for index, node in program.nodes.items()
            if node.site.form == "fused"
        }
        others = {i: node for i, node in program.nodes.items() if i not in fused}
        found = {**fused, **(_Numbering(others).run(capture, model, inputs) if others else {})}
        return {index: found[index] for index in program.nodes}

    geometry: Geometry = program.memo.made("geometry", made)
    return geometry


def _of_fused(node: ProgramNode) -> NodeGeometry:
    *lead, keys = node.site.shape
    rows = torch.arange(torch.Size(lead).numel()).reshape(*lead, 1)
    return NodeGeometry(rows, None, (*lead, keys), (*lead, keys))


@dataclass(eq=False)
class _Numbering:
    """One walk over the graph, with the numbered elements of the nodes beside the values."""

    nodes: Mapping[int, ProgramNode]
    found: dict[int, NodeGeometry] = field(default_factory=dict)

    def run(
        self, capture: Capture, model: nn.Module, inputs: ModelInputs
    ) -> dict[int, NodeGeometry]:
        self.found = {index: NodeGeometry() for index in self.nodes}
        contracting = {i: _between([_consumer(n)], n.site.node) for i, n in self.nodes.items()}
        moving = {i: _between([n.site.softmax], n.site.weights) for i, n in self.nodes.items()}
        sizes: dict[int, torch.Size] = {}
        codes: dict[int, dict[fx.Node, Tensor]] = {i: {} for i in self.nodes}
        numbers: dict[int, dict[fx.Node, Tensor | None]] = {i: {} for i in self.nodes}
        uses = Counter(n for node in capture.graph.nodes for n in node.all_input_nodes)
        values: dict[fx.Node, Any] = dict(
            zip(capture.placeholders, capture.bind(model, inputs), strict=True)
        )
        with torch.no_grad(), capture.own_chance(inputs.leaves):
            for node in capture.graph.nodes:
                if node.op == "output":
                    break
                if node.op == "get_attr":
                    values[node] = attribute_of(capture.graph_module, node)
                if node.op == "call_function":
                    values[node] = called(node, values.__getitem__)
                for i, of in self.nodes.items():
                    if node is of.site.softmax:
                        self.found[i].scores_shape = tuple(values[node].shape)
                        numbers[i][node] = _numbered(values[node])
                    elif node in moving[i]:
                        numbers[i][node] = _moved(node, values, numbers[i])
                    if of.site.weights is not None and node is of.site.weights:
                        self.found[i].weights_shape = tuple(values[node].shape)
                        self.found[i].scores = numbers[i].get(node)
                        codes[i][node] = _row_codes(of, values[node])
                    if node is of.site.values:
                        codes[i].setdefault(
                            node, torch.ones_like(values[node], dtype=torch.float64)
                        )
                    if node in contracting[i]:
                        codes[i][node] = called(node, _first_of(codes[i], values))
                    if node is of.site.node:
                        self.found[i].rows = _rows_in(codes[i][node], of, values[node])
                        sizes[i] = values[node].shape
                    if node is of.site.output and values[node].shape != sizes[i]:
                        self.found[i].rows = None
                for used in node.all_input_nodes:
                    uses[used] -= 1
                    if not uses[used]:
                        values.pop(used, None)
        return self.found


def _consumer(node: ProgramNode) -> fx.Node:
    assert node.site.weights is not None
    return consumer(node.site.node, node.site.weights)


def _between(starts: list[fx.Node], end: fx.Node | None) -> set[fx.Node]:
    """The nodes on the ways from some nodes to another, both included; none if there is no way."""
    assert end is not None
    before, todo = {end}, [end]
    while todo:
        fresh = [n for n in todo.pop().all_input_nodes if n not in before]
        before.update(fresh)
        todo += fresh
    after, todo = set(starts), list(starts)
    while todo:
        fresh = [n for n in todo.pop().users if n in before and n not in after]
        after.update(fresh)
        todo += fresh
    return after & before


def _first_of(
    own: Mapping[fx.Node, Any], others: Mapping[fx.Node, Any]
) -> Callable[[fx.Node], Any]:
    return lambda node: own[node] if node in own else others[node]


def _numbered(value: Tensor) -> Tensor:
    return torch.arange(value.numel(), device=value.device).reshape(value.shape)


def _moved(
    node: fx.Node, values: Mapping[fx.Node, Any], numbers: Mapping[fx.Node, Tensor | None]
) -> Tensor | None:
    """The numbers of an operation's result: moved as it moves, kept where it works elementwise."""
    sources = [n for n in node.all_input_nodes if n in numbers]
    if len(sources) != 1 or numbers[sources[0]] is None:
        return None
    number = numbers[sources[0]]
    assert number is not None
    if moves(node) and operation_name(node) not in ("cat", "stack", "concat"):
        moved = called(node, _first_of({sources[0]: number}, values))
        return moved if isinstance(moved, Tensor) else None
    if is_elementwise(node) and isinstance(values[node], Tensor):
        shape = values[node].shape
        return (
            number.expand(shape) if torch.broadcast_shapes(number.shape, shape) == shape else None
        )
    return None


def _row_codes(node: ProgramNode, weights: Tensor) -> Tensor:
    """Weights that hold the number of their row, less what the sum over the keys makes of it."""
    *lead, keys = node.site.shape
    codes = torch.arange(torch.Size(lead).numel(), dtype=torch.float64, device=weights.device)
    return as_operand(node, codes.reshape(*lead, 1).expand(*lead, keys) / keys, weights.shape)


def as_operand(node: ProgramNode, framed: Tensor, shape: torch.Size | tuple[int, ...]) -> Tensor:
    """Values by (..., queries, keys) as the operand of the contraction has them."""
    site = node.site
    if site.form == "product":
        values = framed if site.weights_on_left else framed.transpose(-1, -2)
    elif site.query_axis is None:
        values = framed.squeeze(-2).movedim(-1, site.axis)
    else:
        values = framed.movedim((-2, -1), (site.query_axis, site.axis))
    if values.numel() == torch.Size(shape).numel():
        return values.reshape(shape)
    return values


def _rows_in(codes: Tensor, node: ProgramNode, output: Tensor) -> Tensor | None:
    """The row of each output, where it is of one."""
    rows = codes.round().long()
    exact = bool(((codes - rows).abs() < 1e-6).all()) and codes.shape == output.shape
    known = exact and bool((rows < torch.Size(node.site.shape[:-1]).numel()).all())
    return narrowed(rows).cpu() if known else None
