"""Where everything in a drawn attention graph stands: streams as lanes, updates as rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fxplain.program import AttentionGraph, AttentionNode, RouteNode

__all__ = ["Lane", "Lanes", "Update", "lay_out"]


@dataclass(frozen=True)
class Update:
    """An attention node or a route, at a row of the drawing.

    Attributes
    ----------
    index
        Its place in ``graph.nodes`` or ``graph.routes``.
    name, module, kind
        Of the node; a route's kind is "route".
    size
        What is written beneath the name.
    column, row
        Where it stands; row 0 has the streams' heads.
    reads
        The columns that it reads, besides its own.
    """

    index: int
    name: str
    module: str
    kind: str
    size: str
    column: int
    row: int
    reads: tuple[int, ...]


@dataclass(frozen=True)
class Lane:
    """A stream as a vertical line, from the row where it begins to the last that reads it."""

    name: str
    tokens: int
    column: int
    first: int
    last: int


@dataclass(frozen=True)
class Lanes:
    """A whole layout."""

    updates: tuple[Update, ...]
    lanes: tuple[Lane, ...]
    columns: int
    rows: int


def lay_out(graph: AttentionGraph) -> Lanes:
    """Rows in program order; what does not touch the same or a crossed lane shares a row.

    A stream that a route makes goes on in the lane of the stream that it is made of, where nothing
    reads that one any more.
    """
    tokens = {stream.name: stream.tokens for stream in graph.streams}
    steps = list(_in_order(graph))
    made = {step.target for step in steps if isinstance(step, RouteNode)}
    column: dict[str, int] = {}
    for name in tokens:
        if name not in made:
            column[name] = len(column)
    columns = len(column)
    free_at = [0] * columns  # the first row of each column that nothing stands in
    begins = dict.fromkeys(column, 0)
    ends = dict.fromkeys(column, 0)
    updates = []
    for place, step in enumerate(steps):
        sources, target = _ends(step)
        if target not in column:
            column[target] = _column_of(step, steps[place + 1 :], column, columns)
            columns = max(columns, column[target] + 1)
            free_at += [0] * (columns - len(free_at))
        touched = {column[name] for name in (*sources, target) if name in column}
        crossed = range(min(touched), max(touched) + 1)
        row = max(free_at[i] for i in crossed) + 1
        for i in crossed:
            free_at[i] = row
        begins.setdefault(target, row)
        ends |= dict.fromkeys((*sources, target), row)
        index = (graph.routes if isinstance(step, RouteNode) else graph.nodes).index(step)
        updates.append(_update(step, index, column, row, tokens))
    lanes = tuple(
        Lane(name, tokens.get(name, 0), at, begins[name], ends[name]) for name, at in column.items()
    )
    return Lanes(tuple(updates), lanes, max(columns, 1), max(free_at, default=0) + 1)


def _in_order(graph: AttentionGraph) -> Iterator[AttentionNode | RouteNode]:
    """Attention nodes in program order, each route where what it makes is needed, or at the end."""
    waiting = list(graph.routes)
    for node in graph.nodes:
        needed = {node.query_stream, *node.key_streams}
        for route in _needed(waiting, needed):
            waiting.remove(route)
            yield route
        yield node
    yield from waiting


def _needed(routes: list[RouteNode], streams: set[str]) -> list[RouteNode]:
    """The routes that make any of the streams, after those that make what they are made of."""
    found = [route for route in routes if route.target in streams]
    if not found:
        return []
    rest = [route for route in routes if route not in found]
    return [*_needed(rest, {name for route in found for name in route.source}), *found]


def _ends(step: AttentionNode | RouteNode) -> tuple[tuple[str, ...], str]:
    """(the streams that are read, the stream that is updated or made)."""
    if isinstance(step, RouteNode):
        return step.source, step.target
    return step.key_streams, step.query_stream


def _column_of(
    step: AttentionNode | RouteNode,
    later: list[AttentionNode | RouteNode],
    column: dict[str, int],
    columns: int,
) -> int:
    """The lane of a source that nothing reads or updates later, else a new one."""
    sources, target = _ends(step)
    used = {name for other in later for ends in [_ends(other)] for name in (*ends[0], ends[1])}
    over = [column[name] for name in sources if name in column and name not in used - {target}]
    return over[0] if over else columns


def _update(
    step: AttentionNode | RouteNode,
    index: int,
    column: dict[str, int],
    row: int,
    tokens: dict[str, int],
) -> Update:
    sources, target = _ends(step)
    own = column[target]
    reads = tuple(dict.fromkeys(column[s] for s in sources if s in column and column[s] != own))
    if isinstance(step, RouteNode):
        size = f"{step.operation}: makes {target}, {tokens.get(target, 0)} tokens"
        name = step.module or step.name
        return Update(index, name, step.module, "route", size, own, row, reads)
    heads = f"{step.heads} head{'' if step.heads == 1 else 's'}"
    size = f"{step.kind}, {heads}, {step.q_len} × {step.k_len}"
    return Update(index, step.name, step.module, step.kind, size, own, row, reads)
