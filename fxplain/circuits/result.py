"""Circuit: the heads, layers and edges that keep a behaviour, and how much of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fxplain.circuits.components import Unit
from fxplain.circuits.network import Edge
from fxplain.presentation import Presentable
from fxplain.written import json_text, written

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["Circuit"]

FORMAT = "fxplain-circuit-1"
"""What the plain data calls itself; the number rises when a reader of the old one would fail."""


@dataclass(frozen=True, eq=False)
class Circuit(Presentable):
    """What `fxplain.circuit` found.

    Attributes
    ----------
    model
        The model's class name.
    metric
        What was scored.
    clean, corrupted
        Its mean for the clean inputs and for the corrupted ones.
    edges
        The circuit, in the order of the model.
    strengths
        What corrupting each of its edges does to the metric, to first order.
    faithfulness
        How much of the behaviour it keeps: 1 is all, 0 none.
    wanted
        What was asked for.
    of_edges
        How many edges the model has.
    curve
        (number of edges, faithfulness) of the strongest edges by attribution, before pruning.
    runs
        How many sets of edges were run.
    """

    model: str
    metric: tuple[str, ...]
    clean: float
    corrupted: float
    edges: tuple[Edge, ...]
    strengths: Mapping[Edge, float] = field(repr=False)
    faithfulness: float
    wanted: float
    of_edges: int
    curve: tuple[tuple[int, float], ...] = field(repr=False)
    runs: int = 0

    @property
    def units(self) -> tuple[Unit, ...]:
        """The inputs, heads and layers of the circuit, each before what reads it."""
        found = dict.fromkeys(unit for edge in self.edges for unit in (edge.source, edge.target))
        inputs = [unit for unit in found if unit.kind == "input"]
        return (*inputs, *(unit for unit in found if unit.kind != "input"))

    @property
    def heads(self) -> tuple[tuple[str, int], ...]:
        """(node, head) of the heads in it."""
        return tuple(
            (unit.name, unit.head)
            for unit in self.units
            if unit.kind == "head" and unit.head is not None
        )

    @property
    def layers(self) -> tuple[str, ...]:
        """The modules in it that add to the residual stream and are no attention."""
        return tuple(unit.name for unit in self.units if unit.kind == "layer")

    def to_networkx(self) -> nx.MultiDiGraph:
        """Units as nodes (``kind``, ``name``, ``head``), edges with ``slot`` and ``strength``."""
        import networkx as nx  # here, since it takes a while to import

        graph: nx.MultiDiGraph = nx.MultiDiGraph(model=self.model, faithfulness=self.faithfulness)
        for unit in self.units:
            graph.add_node(str(unit), **asdict(unit))
        for edge in self.edges:
            graph.add_edge(
                str(edge.source),
                str(edge.target),
                key=edge.slot,
                slot=edge.slot,
                strength=self.strengths[edge],
            )
        return graph

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data, of the format that ``docs/json.md`` describes."""
        return {
            "format": FORMAT,
            "model": self.model,
            "metric": list(self.metric),
            "clean": self.clean,
            "corrupted": self.corrupted,
            "faithfulness": self.faithfulness,
            "wanted": self.wanted,
            "units": [asdict(unit) for unit in self.units],
            "edges": [
                {
                    "source": str(edge.source),
                    "target": str(edge.target),
                    "slot": edge.slot,
                    "strength": self.strengths[edge],
                }
                for edge in self.edges
            ],
            "of_edges": self.of_edges,
            "curve": [list(point) for point in self.curve],
        }

    def to_json(self, path: str | Path | None = None) -> str:
        """`to_dict` as JSON; written to `path` where one is given."""
        return written(json_text(self.to_dict(), indent=1) + "\n", path)

    def __repr__(self) -> str:
        return (
            f"<Circuit of {self.model}: {len(self.edges)} of {self.of_edges} edges, faithfulness "
            f"{self.faithfulness:.2f}>"
        )
