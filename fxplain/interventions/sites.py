"""Sites: everything that can be cut in one captured model, and the graph in which it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import fx, nn

from fxplain.capture import ELSEWHERE, Capture, ModelInputs, fused_arguments, operation_name
from fxplain.interventions.edits import Point, edited, edited_attention, edited_softmax
from fxplain.interventions.geometry import Geometry, geometry_of
from fxplain.interventions.writes import Write, residual_writes
from fxplain.program import BirthSite, Program, ProgramNode, birth_sites
from fxplain.run import consumer
from fxplain.tokens import follow_tokens

__all__ = ["Sites", "is_softmax", "sites_of"]


@dataclass(frozen=True, eq=False)
class Sites:
    """Where a captured model can be cut.

    Attributes
    ----------
    program
        The attention nodes and tokens.
    geometry
        Where the heads of each node lie.
    births, writes
        Where tokens are born, and what is added to residual streams.
    graph
        The captured graph with one input more, `Edits`, which says what is changed and noted; nothing,
        where it is empty.
    """

    program: Program
    geometry: Geometry
    births: tuple[BirthSite, ...]
    writes: tuple[Write, ...]
    graph: fx.GraphModule


def sites_of(capture: Capture, model: nn.Module, inputs: ModelInputs, program: Program) -> Sites:
    """The sites of a program, found once."""

    def made() -> Sites:
        flow = follow_tokens(capture, model, inputs, keep_tags=True)
        births = tuple(birth_sites(program, flow))
        writes = residual_writes(capture, program, flow)
        geometry = geometry_of(capture, model, inputs, program)
        nodes = list(program.nodes.values())
        graph = _Opening(capture, nodes, births, writes).run()
        return Sites(program, geometry, births, writes, graph)

    sites: Sites = program.memo.made("sites of cuts", made)
    return sites


def is_softmax(node: ProgramNode) -> bool:
    """Whether a node's weights come out of a softmax of their own."""
    return operation_name(node.site.softmax) in ("softmax", "_softmax", "_safe_softmax")


def _callable(node: fx.Node) -> Callable[..., Any]:
    assert callable(node.target)
    return node.target


class _Opening:
    """Copies a graph so that its values can be changed where it can be cut."""

    def __init__(
        self,
        capture: Capture,
        nodes: Sequence[ProgramNode],
        births: Sequence[BirthSite],
        writes: Sequence[Write],
    ) -> None:
        self.capture = capture
        self.graph = fx.Graph()
        self.copies: dict[fx.Node, fx.Node] = {}
        self.fused = {n.site.node: n for n in nodes if n.site.form == "fused"}
        self.after: dict[fx.Node, list[Point]] = {}
        self.reads: dict[tuple[fx.Node, fx.Node], Point] = {}
        self.softmaxes: dict[fx.Node, Point] = {}
        for node in nodes:
            self._open(node)
        for i, birth in enumerate(births):
            self.after.setdefault(birth.node, []).append(("birth", str(i)))
        for write in writes:
            self.reads[write.into, write.term] = ("write", write.name)
            self.after.setdefault(write.stream, []).append(("stream", write.name))

    def _open(self, node: ProgramNode) -> None:
        site, name = node.site, node.info.name
        self.after.setdefault(site.output, []).append(("output", name))
        if site.form == "fused":
            return
        assert site.weights is not None
        self.reads[consumer(site.node, site.weights), site.weights] = ("weights", name)
        point = ("scores", site.softmax.name)
        if is_softmax(node):
            self.softmaxes[site.softmax] = point
        elif point not in self.after.setdefault(site.softmax, []):
            self.after[site.softmax].append(point)

    def run(self) -> fx.GraphModule:
        given = list(self.capture.graph.nodes)
        for original in given:
            if original.op == "placeholder":
                self.copies[original] = self.graph.node_copy(original)
        self.edits = self.graph.placeholder("edits")
        for original in given:
            if original.op == "output":
                self.graph.output(fx.map_arg(original.args[0], self.copies.__getitem__))
            elif original.op != "placeholder":
                self.copies[original] = self._copy(original)
            for point in self.after.get(original, ()):
                self.copies[original] = self._edited(self.copies[original], point)
        self.graph.eliminate_dead_code()
        return fx.GraphModule(self.capture.graph_module, self.graph)

    def _copy(self, original: fx.Node) -> fx.Node:
        def place(operand: fx.Node) -> fx.Node:
            point = self.reads.get((original, operand))
            copy = self.copies[operand]
            return copy if point is None else self._edited(copy, point)

        if original in self.fused:
            arguments = {k: fx.map_arg(v, place) for k, v in fused_arguments(original).items()}
            point = ("scores", self.fused[original].info.name)
            function = partial(edited_attention, point=point)
            return self._call(function, original.name, (arguments,))
        if original in self.softmaxes:
            function = partial(edited_softmax, _callable(original), point=self.softmaxes[original])
            args = fx.map_arg(original.args, place)
            return self._call(function, original.name, args, fx.map_arg(original.kwargs, place))
        copy = self.graph.node_copy(original, place)
        copy.target = ELSEWHERE.get(copy.target, copy.target)
        return copy

    def _edited(self, copy: fx.Node, point: Point) -> fx.Node:
        return self._call(partial(edited, point=point), f"{copy.name}_{point[0]}", (copy,))

    def _call(
        self,
        function: Callable[..., Any],
        name: str,
        args: Sequence[Any],
        kwargs: dict[str, Any] | None = None,
    ) -> fx.Node:
        function.__name__ = name
        return self.graph.call_function(
            function, tuple(args), {**(kwargs or {}), "edits": self.edits}
        )
