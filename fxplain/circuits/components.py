"""Components: what a circuit is made of, and what each of them reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from fxplain.capture import fused_arguments, operation_name
from fxplain.errors import MethodError
from fxplain.interventions.edits import Point
from fxplain.interventions.masks import row_heads
from fxplain.interventions.replacements import Given
from fxplain.interventions.sites import Sites
from fxplain.interventions.writes import Write, is_float
from fxplain.program import ProgramNode

__all__ = ["OUTPUT", "Component", "Reader", "Unit", "components_of"]

OUTPUT = "output"
"""What the model's output is called as the last reader."""


@dataclass(frozen=True)
class Unit:
    """A node of a circuit: an input, a head, or a layer that adds to the residual stream.

    Attributes
    ----------
    kind
        "input", "head", "layer" or "output".
    name
        The modality, the attention node, or the path of the module whose result is added.
    head
        The number of the head.
    """

    kind: str
    name: str
    head: int | None = None

    def __str__(self) -> str:
        return self.name if self.head is None else f"{self.name} head {self.head}"


@dataclass(frozen=True, eq=False)
class Component:
    """A value of the graph that later ones read, made of one unit or of the heads of a node.

    Attributes
    ----------
    units
        What it is made of.
    node
        The graph node.
    point
        Where it is noted.
    unit_of
        For each element the place of its unit among `units`; broadcasts to the value.
    """

    units: tuple[Unit, ...]
    node: fx.Node
    point: Point
    unit_of: Tensor


@dataclass(frozen=True, eq=False)
class Reader:
    """What is computed from components: one again, or the model's output.

    Attributes
    ----------
    units
        What is read for, each by itself.
    slots
        By name ("q", "k", "v", "in") the node through which components are read.
    made
        The component that it makes; None for the output.
    """

    units: tuple[Unit, ...]
    slots: dict[str, fx.Node]
    made: Component | None


def components_of(given: Given) -> tuple[list[Component], list[Reader]]:
    """The components of a model in the order of its graph, and the readers of those that are computed.

    Raises
    ------
    MethodError
        When heads have no output of their own.
    """
    sites = given.sites
    order = {node: i for i, node in enumerate(given.capture.graph.nodes)}
    attention = {n.site.output: n for n in sites.program.nodes.values()}
    births = [_birth(sites, i) for i in range(len(sites.births))]
    heads = [_heads(node, sites) for node in attention.values()]
    leaves = {c.node for c in (*births, *heads)}
    streams = {write.stream for write in sites.writes}
    layers = [_layer(w) for w in sites.writes if _reads(w.term, streams | leaves, set(attention))]
    made = sorted([*heads, *layers], key=lambda c: order[c.node])
    readers = [Reader(c.units, _slots(c, attention), c) for c in made]
    return [*births, *made], readers


def _birth(sites: Sites, index: int) -> Component:
    site = sites.births[index]
    tokens = site.tokens[site.tokens >= 0]
    names = [m.name for m in sites.program.modalities if bool(torch.isin(tokens, m.every).any())]
    unit = Unit("input", "+".join(names) or site.node.name)
    return Component((unit,), site.node, ("birth", str(index)), torch.zeros(()).long())


def _heads(node: ProgramNode, sites: Sites) -> Component:
    heads = row_heads(node, sites.geometry[node.index])
    if heads is None:
        raise MethodError(
            f"the heads of {node.info.name} are summed up as soon as they are computed: they cannot be "
            f"told apart in a circuit."
        )
    units = tuple(Unit("head", node.info.name, head) for head in range(node.info.heads))
    return Component(units, node.site.output, ("output", node.info.name), heads)


def _layer(write: Write) -> Component:
    unit = Unit("layer", write.name)
    return Component((unit,), write.term, ("write", write.name), torch.zeros(()).long())


def _reads(term: fx.Node, stops: set[fx.Node], attention: set[fx.Node]) -> bool:
    """Whether what is added is computed from a stream, and not only brought there from an attention."""
    todo, seen = [term], {term}
    while todo:
        for source in todo.pop().all_input_nodes:
            if source in stops and source not in attention:
                return True
            if source not in seen and source not in stops:
                seen.add(source)
                todo.append(source)
    return False


def _slots(component: Component, attention: dict[fx.Node, ProgramNode]) -> dict[str, fx.Node]:
    """Through which nodes a component is computed: queries, keys and values where they are apart."""
    whole = {"in": component.node}
    node = attention.get(component.node)
    if node is None or node.site.division is not None:
        return whole
    operands = _operands(node)
    if len(set(operands)) < len(operands):
        return whole
    return dict(zip(("q", "k", "v") if len(operands) == 3 else ("qk", "v"), operands, strict=True))


def _operands(node: ProgramNode) -> Sequence[fx.Node]:
    site = node.site
    if site.form == "fused":
        named = fused_arguments(site.node)
        return [named["query"], named["key"], named["value"]]
    assert site.weights is not None
    product = _product_before(site.softmax)
    if product is None:
        return [site.weights, site.values]
    return [*product.all_input_nodes, site.values]


def _product_before(softmax: fx.Node) -> fx.Node | None:
    """The product of queries and keys that scores come from, by steps of one computed operand each."""
    node = softmax
    while True:
        sources = [n for n in node.all_input_nodes if n.op == "call_function" and is_float(n)]
        if operation_name(node) in ("matmul", "bmm", "mm"):
            return node if len(sources) == 2 else None
        if len(sources) != 1:
            return None
        (node,) = sources
