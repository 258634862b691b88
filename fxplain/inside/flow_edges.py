"""Flow edges: every step of every chain with what flows along it, as long arrays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fxplain.errors import InputError
from fxplain.inside.chains import Attended, Chains, Link, Point, Routed
from fxplain.program import ProgramNode

__all__ = ["FlowEdges", "Vertex"]

MOST_EDGES = 250_000
"""The strongest that are kept; of a thousand tokens and more, most bring next to nothing."""

MOST_CELLS = 1 << 29
"""Of the map of one node that is looked at as a whole."""


class Vertex(NamedTuple):
    """A token of a sample at a place of the chains; `point` is None where it is born."""

    point: Point | None
    stream: int
    sample: int
    position: int


@dataclass(eq=False)
class FlowEdges:
    """Edges from the readout down to births.

    Attributes
    ----------
    vertices
        What edges lead from and to.
    start, end
        (edges,) numbers of vertices; -1 starts at the readout.
    weight
        (edges,) what a chain along the edge is multiplied with.
    flow
        (edges,) the worth of all chains along it that pass an attention node.
    born
        (vertices,) how often a token counts as it is born; 0 elsewhere.
    attends
        (vertices,) whether an attention node stands there.
    whole
        The worth of all chains that pass an attention node, those along edges that are not here too.
    """

    vertices: list[Vertex]
    start: np.ndarray
    end: np.ndarray
    weight: np.ndarray
    flow: np.ndarray
    born: np.ndarray
    attends: np.ndarray
    whole: float

    def worth(self, kept: np.ndarray) -> float:
        """The worth of all chains along some edges alone, those without attention left out."""
        full, bare = self.born.copy(), self.born.copy()
        total = 0.0
        of_start = self.start[kept]
        if not len(of_start):  # nothing is heard by attention
            return total
        bounds = np.flatnonzero(np.diff(of_start, prepend=-2))
        end, weight = self.end[kept], self.weight[kept]
        for first, last in zip(bounds, [*bounds[1:], len(of_start)], strict=True):
            here = slice(first, last)
            vertex = of_start[first]
            of_full = float(weight[here] @ full[end[here]])
            of_bare = float(weight[here] @ bare[end[here]])
            if vertex < 0:
                total += of_full - of_bare
                continue
            full[vertex] += of_full
            bare[vertex] += 0.0 if self.attends[vertex] else of_bare
        return total

    def strongest(self, share: float) -> np.ndarray:
        """The fewest strongest edges whose chains bring a share of all; places in order."""
        order = np.argsort(-np.abs(self.flow), kind="stable")
        low, high = 0, len(order)
        while low < high:  # the least count that is enough
            middle = (low + high) // 2
            if self.worth(np.sort(order[:middle])) >= share * self.whole * (1 - 1e-9):
                high = middle
            else:
                low = middle + 1
        return self._alive(np.sort(order[:low]))

    def _alive(self, kept: np.ndarray) -> np.ndarray:
        """Those that lie on a whole chain."""
        down, up = set(self.end[kept[self.start[kept] < 0]]), set(np.flatnonzero(self.born))
        for i in kept[::-1]:  # the readout's come last, the first nodes' first
            if self.start[i] in down:
                down.add(self.end[i])
        for i in kept:
            if self.end[i] in up:
                up.add(self.start[i])
        alive = [
            i for i in kept if self.end[i] in up and (self.start[i] < 0 or self.start[i] in down)
        ]
        return np.array(alive, dtype=np.int64)

    @classmethod
    def of(cls, chains: Chains, columns: dict[int, Tensor], least: float = 1e-6) -> FlowEdges:
        """The strongest edges, those whose flow is more than a small part of the largest.

        Raises
        ------
        InputError
            When a node's map is too large to be looked at as a whole.
        """
        return _Collecting(chains, columns).edges(least)


class _Found(NamedTuple):
    """Edges between vertices by their numbers, -1 at the readout."""

    start: np.ndarray
    end: np.ndarray
    weight: np.ndarray
    flow: np.ndarray

    def at(self, chosen: np.ndarray) -> _Found:
        return _Found(*(values[chosen] for values in self))

    def strongest(self, count: int) -> _Found:
        if len(self.flow) <= count:
            return self
        return self.at(np.argpartition(-np.abs(self.flow), count - 1)[:count])


def _joined(parts: list[_Found]) -> _Found:
    return _Found(*(np.concatenate(part) for part in zip(*parts, strict=True)))


class _Collecting:
    """Finds the edges. Vertices are numbered from births to the last node, so that edges lead down."""

    def __init__(self, chains: Chains, columns: dict[int, Tensor]) -> None:
        self.chains = chains
        self.born = {stream: x.sum(-1, keepdim=True) for stream, x in columns.items()}
        both = chains.rules.zeros(2)
        both[0] = 1  # all chains, and those without any attention
        self.x, _ = chains.entering(both)
        self.y = chains.had(self.born, both)
        streams = range(len(chains.program.streams))
        self.places: list[tuple[Point | None, int]] = [(None, i) for i in streams]
        self.places += [(point, self._stream(point)) for point in reversed(chains.points)]
        sizes = [chains.program.streams[stream].tokens.numel() for _, stream in self.places]
        self.offsets = np.cumsum([0, *sizes])
        self.numbered = {
            place: int(at) for place, at in zip(self.places, self.offsets, strict=False)
        }
        self.whole = 0.0

    def edges(self, least: float) -> FlowEdges:
        found = _joined([_Found(*(np.zeros(0, t) for t in (np.int64, np.int64, float, float)))])
        for made in self._made():
            found = _joined([found, made.strongest(MOST_EDGES)]).strongest(MOST_EDGES)
        found = found.at(np.abs(found.flow) > least * np.abs(found.flow).max(initial=0))
        numbers, ends = np.unique([found.start, found.end], return_inverse=True)
        numbers, (start, end) = numbers[numbers >= 0], ends.reshape(2, -1) - (-1 in numbers)
        order = np.lexsort([end, np.where(start < 0, len(numbers), start)])  # the readout's last
        vertices = [self._vertex(number) for number in numbers.tolist()]
        attends = [v.point is not None and self.chains.node(v.point) is not None for v in vertices]
        return FlowEdges(
            vertices,
            start[order],
            end[order],
            found.weight[order],
            found.flow[order],
            np.array([self._born_of(v) for v in vertices]),
            np.array(attends),
            self.whole,
        )

    def _made(self) -> Iterator[_Found]:
        for point in reversed(self.chains.points):
            if point in self.x:
                for key, x, weights, link in self._from(point):
                    yield self._along(point, key, x, weights, link)
        for (stream, _), links in self.chains.starts.items():
            x = self.chains._zeros(stream)
            for share in self.chains.shares:
                if share.stream == stream:
                    x[share.sample, share.position] = share.share
            for link in links:
                if link.to is not None:
                    yield self._from_readout(stream, x, link)

    def _born_of(self, vertex: Vertex) -> float:
        if vertex.point is not None:
            return 0.0
        return float(self.born[vertex.stream][vertex.sample, vertex.position, 0])

    def _from(self, point: Point) -> Iterator[tuple[int, Tensor, Tensor, Link]]:
        """(stream of the keys, x (batch, n, 2), weights (batch, n, keys), where keys go on)."""
        node = self.chains.node(point)
        for step in self.chains.steps(point):
            if node is None:
                assert isinstance(step, Routed)
                weights = self._of_route(point, step)
                stream = step.entry.stream
            else:
                assert isinstance(step, Attended)
                weights, stream = self._of_node(node, step), step.block.stream
            for link in step.links:
                yield stream, self.x[point], weights, link
        if node is None and (made := self.chains.made(point)) is not None:
            stream = self.chains.program.routes[point.update].stream
            eye = torch.diag_embed(made.mask.to(self.x[point]))
            yield stream, self.x[point], eye, Link(stream, None, None)

    def _of_node(self, node: ProgramNode, step: Attended) -> Tensor:
        streams = self.chains.program.streams
        rows, keys = streams[node.stream], streams[step.block.stream]
        if rows.batch * len(rows) * len(keys) > MOST_CELLS:
            raise InputError(
                f"the flow between {len(rows)} and {len(keys)} tokens of {rows.batch} samples at "
                f"{node.info.name} is too large to be drawn: explain fewer samples or tokens at once, "
                f"or ask for `paths`, `heads` and `layers`."
            )
        groups = self.chains.rules.maps[node.index]
        assert groups is not None
        dense = node.dense(groups, step.block, (rows.batch, len(rows), len(keys)))
        if step.own is not None:
            dense = step.own.transpose(-1, -2) @ dense
        ones = dense.new_ones(len(dense), dense.shape[-1], 1)
        return dense * step.divided(ones).transpose(-1, -2)

    def _of_route(self, point: Point, step: Routed) -> Tensor:
        streams = self.chains.program.streams
        target = streams[self.chains.program.routes[point.update].stream]
        entry = step.entry
        made = self.chains.rules.zeros(target.batch, len(target), len(streams[entry.stream]))
        at = tuple(x.to(made.device) for x in (entry.samples, entry.new, entry.old))
        return made.index_put_(at, entry.shares.to(made), accumulate=True)

    def _along(self, point: Point, stream: int, x: Tensor, weights: Tensor, link: Link) -> _Found:
        y = self._after(link)
        flow = weights * x[..., :1] * y[:, None, :, 0]
        if self.chains.node(point) is None:
            flow = flow - weights * x[..., 1:] * y[:, None, :, 1]
        at = _largest(flow)
        samples, rows, keys = at
        start = self._numbers(point, self._stream(point), samples, rows)
        end = self._numbers(link.to, stream, samples, keys)
        return _Found(start, end, _array(weights[at]), _array(flow[at]))

    def _from_readout(self, stream: int, x: Tensor, link: Link) -> _Found:
        y = self._after(link)
        flow = x * (y[..., 0] - y[..., 1])
        self.whole += float(flow.double().sum())
        samples, rows = at = flow.nonzero(as_tuple=True)
        end = self._numbers(link.to, stream, samples, rows)
        return _Found(np.full(len(end), -1), end, _array(x[at]), _array(flow[at]))

    def _after(self, link: Link) -> Tensor:
        """What keys that go on along a link bring, (batch, keys, 2)."""
        return self.y.linked(link.stream, [link])

    def _stream(self, point: Point) -> int:
        return self.chains.program.rows_of(point.update)

    def _numbers(
        self, point: Point | None, stream: int, samples: Tensor, positions: Tensor
    ) -> np.ndarray:
        length = len(self.chains.program.streams[stream])
        made: np.ndarray = (samples * length + positions).cpu().numpy()
        return made + self.numbered[point, stream]

    def _vertex(self, number: int) -> Vertex:
        place = int(np.searchsorted(self.offsets, number, "right")) - 1
        point, stream = self.places[place]
        length = len(self.chains.program.streams[stream])
        return Vertex(point, stream, *divmod(number - int(self.offsets[place]), length))


def _largest(flow: Tensor) -> tuple[Tensor, ...]:
    """The places of the largest of many numbers that are not 0."""
    if flow.numel() <= MOST_EDGES:
        return flow.nonzero(as_tuple=True)
    chosen = flow.abs().flatten().topk(MOST_EDGES)
    return torch.unravel_index(chosen.indices[chosen.values > 0], flow.shape)


def _array(x: Tensor) -> np.ndarray:
    made: np.ndarray = x.double().cpu().numpy()
    return made
