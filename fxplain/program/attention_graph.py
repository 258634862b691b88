"""AttentionGraph: what was detected, as plain data for people and for networkx."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fxplain.capture import Capture
from fxplain.errors import LoadError
from fxplain.plain_data import read_as
from fxplain.presentation import Presentable
from fxplain.program import graph_export
from fxplain.program.nodes import AttentionNode, RouteNode
from fxplain.program.program import Program
from fxplain.tokens import RejectedSoftmax
from fxplain.written import written

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["AttentionGraph", "CaptureInfo", "StreamInfo"]

FORMAT = "fxplain-graph-1"
"""What the plain data calls itself; the number rises when a reader of the old one would fail."""


@dataclass(frozen=True)
class StreamInfo:
    """A sequence of tokens that attend together: its name, size, and the modalities in it."""

    name: str
    tokens: int
    modalities: tuple[str, ...]


@dataclass(frozen=True)
class CaptureInfo:
    """How the model was captured: the route taken, and why the routes before it failed."""

    route: str
    failures: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class AttentionGraph(Presentable):
    """The attention structure that was detected in a model.

    Attributes
    ----------
    model
        The model's class name.
    nodes
        Attention nodes in program order.
    routes
        Places where tokens are mixed by fixed weights.
    streams
        Sequences of tokens that attend together.
    modalities
        Name to number of tokens, as `Explanation.relevance` has them.
    readout
        The token(s) that the model's main output is computed from, such as ``"input_ids[0]"``.
    rejected
        Softmaxes that are not attention, each with the reason.
    warnings
        Where the analysis was unsure, and where capture and model differ.
    capture
        How the model was captured.
    context
        Inputs that scale, shift or gate the tokens of others, all alike (a time step, a style), or
        whose statistics do (a series' mean). They have influence, but no attention carries it: it is
        not in the relevance.
    """

    model: str
    nodes: tuple[AttentionNode, ...]
    routes: tuple[RouteNode, ...]
    streams: tuple[StreamInfo, ...]
    modalities: dict[str, int]
    readout: str
    rejected: tuple[RejectedSoftmax, ...]
    warnings: tuple[str, ...]
    capture: CaptureInfo
    context: tuple[str, ...] = ()

    @classmethod
    def of(cls, model: str, capture: Capture, program: Program, readout: str) -> AttentionGraph:
        """The graph of a program."""
        names = {token: m.name for m in program.modalities for token in m.every.flatten().tolist()}
        streams = tuple(
            StreamInfo(
                stream.name,
                len(stream),
                tuple(
                    dict.fromkeys(names[t] for t in stream.tokens.flatten().tolist() if t in names)
                ),
            )
            for stream in program.streams
        )
        return cls(
            model=model,
            nodes=tuple(node.info for node in program.nodes.values()),
            routes=tuple(route.info for route in program.routes.values()),
            streams=streams,
            modalities={m.name: len(m) for m in program.modalities},
            readout=readout,
            rejected=tuple(program.flow.rejected),
            warnings=(*capture.warnings, *program.flow.warnings),
            capture=CaptureInfo(capture.route, capture.failures),
            context=program.flow.context,
        )

    @property
    def acting(self) -> str:
        """The context in words, where an input with tokens of its own acts by its statistics."""
        return ", ".join(
            f"statistics of {name}" if name in self.modalities else name for name in self.context
        )

    def to_networkx(self) -> nx.DiGraph:
        """Streams, attention nodes and routes as a directed graph.

        Returns
        -------
        networkx.DiGraph
            Node attributes: ``type`` ("stream", "attention" or "route"), and for streams ``tokens``
            and ``modalities``; for attention ``kind``, ``module``, ``query``, ``key``, ``heads``,
            ``q_len``, ``k_len``, ``form``; for routes ``operation`` and ``module``. Edges run from
            what is read to an attention node (``role`` "query" or "key") and on to the stream that
            it updates (``role`` "update"). ``order`` numbers attention nodes in program order.
        """
        import networkx as nx  # here, since it takes a while to import

        graph: nx.DiGraph = nx.DiGraph(model=self.model)
        for stream in self.streams:
            graph.add_node(
                stream.name, type="stream", tokens=stream.tokens, modalities=list(stream.modalities)
            )
        for order, node in enumerate(self.nodes):
            facts = asdict(node)
            facts = {k: list(v) if isinstance(v, tuple) else v for k, v in facts.items()}
            del facts["name"]
            graph.add_node(node.name, type="attention", order=order, **facts)
            for name in node.key_streams:
                graph.add_edge(name, node.name, role="key")
            if node.query_stream not in node.key_streams:
                graph.add_edge(node.query_stream, node.name, role="query")
            graph.add_edge(node.name, node.query_stream, role="update")
        for route in self.routes:
            label = f"{route.operation}:{route.name}"
            graph.add_node(label, type="route", operation=route.operation, module=route.module)
            for name in route.source:
                graph.add_edge(name, label, role="key")
            graph.add_edge(label, route.target, role="update")
        return graph

    def to_graphml(self, path: str | Path | None = None) -> str:
        """GraphML of `to_networkx`, lists as JSON texts; written to `path` where one is given."""
        return written(graph_export.graphml(self.to_networkx()), path)

    def to_dot(self, path: str | Path | None = None) -> str:
        """The graph in Graphviz' language DOT; written to `path` where one is given."""
        return written(graph_export.dot(self.to_networkx()), path)

    def to_mermaid(self, path: str | Path | None = None) -> str:
        """A Mermaid flowchart, as Markdown pages show it; written to `path` where one is given."""
        return written(graph_export.mermaid(self.to_networkx()), path)

    def to_json(self, path: str | Path | None = None) -> str:
        """`to_dict` as JSON, which `from_dict` reads again; written to `path` where one is given."""
        text = json.dumps(self.to_dict(), ensure_ascii=False, indent=1) + "\n"
        return written(text, path)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data, of the format that ``docs/json.md`` describes."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> AttentionGraph:
        """The graph that `to_dict` described.

        Raises
        ------
        LoadError
            When the data is of another format, or a field of it has not the form that it should.
        """
        if not isinstance(data, Mapping):
            raise LoadError(f"an attention graph is a mapping, not {type(data).__name__}.")
        found = data.get("format", FORMAT)  # graphs that were saved without one are of the first
        if found != FORMAT:
            raise LoadError(f"this is no attention graph of the format {FORMAT!r} but {found!r}.")
        facts = {name: value for name, value in data.items() if name != "format"}
        graph: AttentionGraph = read_as(cls, facts, "the graph")
        return graph

    def __repr__(self) -> str:
        return f"<AttentionGraph of {self.model}: {len(self.nodes)} attention nodes>"
