"""Flow: the graph of tokens at attention nodes along which an explanation's relevance flows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import networkx as nx
import torch

from fxplain.arguments import place_in
from fxplain.inside.chains import Point
from fxplain.inside.depth import depths
from fxplain.inside.flow_edges import FlowEdges, Vertex
from fxplain.inside.reading import chained, columns_of, kept_of, reading_of, told_of
from fxplain.inside.token_names import Token, TokenNames
from fxplain.presentation import Presentable
from fxplain.program import Program

if TYPE_CHECKING:
    from fxplain.explanation import Explanation

__all__ = ["Flow", "FlowEdge", "FlowToken", "flow"]


@dataclass(frozen=True)
class FlowToken:
    """A token where it is born, asks at an attention node, is made by a route, or is read.

    Attributes
    ----------
    kind
        "birth", the kind of the attention, "route" or "readout".
    node
        The name of the attention node or route; empty for others.
    token
        The token.
    depth
        Its lane: 0 for births, then how many nodes stand one above the other, the readout's last.
    relevance
        The worth of the kept chains through it.
    """

    kind: str
    node: str
    token: Token
    depth: int
    relevance: float


@dataclass(frozen=True)
class FlowEdge:
    """What flows from one token to another.

    Attributes
    ----------
    source, target
        Places in `Flow.tokens`: who was heard, and by whom.
    relevance
        The worth of the chains along it, those that were pruned elsewhere included.
    share
        The same of all that attention gives.
    """

    source: int
    target: int
    relevance: float
    share: float


@dataclass(frozen=True, eq=False)
class Flow(Presentable):
    """The pruned graph of one sample: from births, lane by lane, to what is read.

    Attributes
    ----------
    tokens, edges
        The graph.
    sample
        Which of the batch.
    kept
        What all chains of the pruned graph bring, of all that attention gives.
    modalities
        The names of the modalities, in the order of the explanation.
    method, in_place_of
        As `HeadRelevance` has them.
    """

    tokens: tuple[FlowToken, ...]
    edges: tuple[FlowEdge, ...]
    sample: int
    kept: float
    modalities: tuple[str, ...] = field(repr=False)
    method: str = ""
    in_place_of: str = ""

    @property
    def lanes(self) -> int:
        """How many lanes the graph has."""
        return max((token.depth for token in self.tokens), default=0) + 1

    def to_networkx(self) -> nx.DiGraph:
        """A directed graph from births to the readout; nodes and edges carry their facts."""
        graph = nx.DiGraph(kept=self.kept, sample=self.sample)
        for i, at in enumerate(self.tokens):
            facts = {"kind": at.kind, "node": at.node, "depth": at.depth, "relevance": at.relevance}
            graph.add_node(i, **facts, **at.token._asdict())
        for edge in self.edges:
            graph.add_edge(edge.source, edge.target, relevance=edge.relevance, share=edge.share)
        return graph

    def to_dict(self) -> dict[str, Any]:
        """The graph as plain data."""
        return {
            "format": "fxplain-flow-1",
            "method": self.method,
            "in_place_of": self.in_place_of,
            "sample": self.sample,
            "kept": self.kept,
            "tokens": [
                {
                    "kind": at.kind,
                    "node": at.node,
                    "depth": at.depth,
                    "relevance": at.relevance,
                    **at.token._asdict(),
                }
                for at in self.tokens
            ],
            "edges": [vars(edge) for edge in self.edges],
        }

    def __repr__(self) -> str:
        size = f"{len(self.tokens)} tokens and {len(self.edges)} edges"
        return f"<Flow of {size}, {self.kept:.1%} of all>"


def flow(explanation: Explanation, share: float, sample: int) -> Flow:
    """See `Explanation.flow`."""
    asked, explanation = explanation, chained(explanation)
    kept = kept_of(explanation)
    sample = place_in("sample", sample, len(kept.views))
    reading = reading_of(kept, explanation.method, sample)
    with torch.no_grad():
        edges = FlowEdges.of(reading.chains, columns_of(kept, reading))
    chosen = edges.strongest(share)
    whole = edges.whole or 1.0
    names, deep = TokenNames(explanation, kept, sample), depths(kept.program)
    drawn = _Drawn(reading.chains.program, names, deep)
    found: dict[tuple[int, int], float] = {}
    for i in chosen:
        at = (drawn.place(edges.vertices[edges.end[i]]), _start(drawn, edges, int(i)))
        found[at] = found.get(at, 0.0) + float(edges.flow[i])
    through: dict[int, float] = {}
    for (source, target), worth in found.items():
        through[source] = through.get(source, 0.0) + worth
        if drawn.tokens[target].kind == "readout":
            through[target] = through.get(target, 0.0) + worth
    tokens = [
        FlowToken(t.kind, t.node, t.token, t.depth, through.get(i, 0.0))
        for i, t in enumerate(drawn.tokens)
    ]
    made = [FlowEdge(a, b, worth, worth / whole) for (a, b), worth in found.items()]
    return Flow(
        tuple(tokens),
        tuple(sorted(made, key=lambda edge: -abs(edge.relevance))),
        sample,
        edges.worth(chosen) / whole,
        explanation.modalities,
        *told_of(explanation, asked),
    )


def _start(drawn: _Drawn, edges: FlowEdges, edge: int) -> int:
    start = int(edges.start[edge])
    if start >= 0:
        return drawn.place(edges.vertices[start])
    return drawn.readout(edges.vertices[edges.end[edge]])


class _Drawn:
    """The tokens of a drawing, each once."""

    def __init__(self, program: Program, names: TokenNames, deep: dict[int, int]) -> None:
        self.program, self.names, self.deep = program, names, deep
        self.tokens: list[FlowToken] = []
        self._at: dict[tuple[int | None, int, int], int] = {}
        self._top = max(deep.values(), default=0) + 1

    def place(self, vertex: Vertex) -> int:
        update = None if vertex.point is None else vertex.point.update
        kind, node, depth = self._facts(vertex.point)
        return self._placed((update, vertex.stream, vertex.position), kind, node, depth)

    def readout(self, vertex: Vertex) -> int:
        return self._placed((-1, vertex.stream, vertex.position), "readout", "", self._top)

    def _placed(self, key: tuple[int | None, int, int], kind: str, node: str, depth: int) -> int:
        if key not in self._at:
            self._at[key] = len(self.tokens)
            token = self.names.of(key[1], key[2])
            self.tokens.append(FlowToken(kind, node, token, depth, 0.0))
        return self._at[key]

    def _facts(self, point: Point | None) -> tuple[str, str, int]:
        if point is None:
            return "birth", "", 0
        node = self.program.nodes.get(point.update)
        if node is not None:
            return node.info.kind, node.info.name, self.deep[point.update]
        return "route", self.program.routes[point.update].info.name, self._of_route(point.update)

    def _of_route(self, update: int) -> int:
        """A route lies between the lanes of what it reads and what comes after."""
        return max((d for index, d in self.deep.items() if index < update), default=0)
