"""Lanes: the attention graph as a drawing, a lane for each stream and a column for each step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fxplain.program import AttentionGraph, AttentionNode, RouteNode

__all__ = ["Stop", "in_order", "lay_out"]


@dataclass(frozen=True)
class Stop:
    """A node or a route in its place.

    Attributes
    ----------
    index
        Its place in ``graph.nodes`` or ``graph.routes``.
    is_route
        Which of the two it is in.
    lane, column
        Where it is drawn: the lane of the stream that it changes, and after everything it waits for.
    reads
        The other lanes that it reads.
    """

    index: int
    is_route: bool
    lane: int
    column: int
    reads: tuple[int, ...]


@dataclass(frozen=True)
class _Step:
    """A node or a route by the names of the streams that it changes and reads."""

    index: int
    is_route: bool
    changes: str
    reads: tuple[str, ...]

    @classmethod
    def of_node(cls, index: int, node: AttentionNode) -> _Step:
        return cls(index, False, node.query_stream, (node.query_stream, *node.key_streams))

    @classmethod
    def of_route(cls, index: int, route: RouteNode) -> _Step:
        return cls(index, True, route.target, route.source)


def lay_out(graph: AttentionGraph) -> list[Stop]:
    """Each node and route one column after the last one on any lane that it changes or reads."""
    lanes = {stream.name: lane for lane, stream in enumerate(graph.streams)}
    reached = dict.fromkeys(lanes, 0)
    stops = []
    for step in in_order(graph):
        touched = [name for name in dict.fromkeys((step.changes, *step.reads)) if name in lanes]
        column = 1 + max((reached[name] for name in touched), default=0)
        reached[step.changes] = column
        reads = tuple(lanes[name] for name in touched if name != step.changes)
        stops.append(Stop(step.index, step.is_route, lanes.get(step.changes, 0), column, reads))
    return stops


def in_order(graph: AttentionGraph) -> Sequence[_Step]:
    """Nodes in program order, each route before the first step that reads what it makes.

    A route whose tokens nobody reads comes after the last step that made what it is made of. Routes are
    placed from the last to the first, so that one that feeds another comes before it.
    """
    steps = [_Step.of_node(i, node) for i, node in enumerate(graph.nodes)]
    for index, route in reversed(list(enumerate(graph.routes))):
        step = _Step.of_route(index, route)
        readers = [i for i, other in enumerate(steps) if route.target in other.reads]
        makers = [i for i, other in enumerate(steps) if other.changes in route.source]
        place = readers[0] if readers else makers[-1] + 1 if makers else len(steps)
        steps.insert(place, step)
    return steps
