"""Flow edges: every step of every chain with what flows along it, as long arrays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fxplain.inside.chains import Attended, Chains, Link, Point, Routed
from fxplain.program import ProgramNode

__all__ = ["FlowEdges", "Vertex"]


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
    """

    vertices: list[Vertex]
    start: np.ndarray
    end: np.ndarray
    weight: np.ndarray
    flow: np.ndarray
    born: np.ndarray
    attends: np.ndarray

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
        whole = self.worth(np.arange(len(self.flow)))
        low, high = 0, len(order)
        while low < high:  # the least count that is enough
            middle = (low + high) // 2
            if self.worth(np.sort(order[:middle])) >= share * whole * (1 - 1e-9):
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
        """All edges whose flow is more than a small part of the largest."""
        return _Collecting(chains, columns).edges(least)


class _Collecting:
    def __init__(self, chains: Chains, columns: dict[int, Tensor]) -> None:
        self.chains = chains
        self.born = {stream: x.sum(-1, keepdim=True) for stream, x in columns.items()}
        both = chains.rules.zeros(2)
        both[0] = 1  # all chains, and those without any attention
        self.x, _ = chains.entering(both)
        self.y = chains.had(self.born, both)
        self.vertices: dict[Vertex, int] = {}
        self.found: list[tuple[np.ndarray, ...]] = []

    def edges(self, least: float) -> FlowEdges:
        for point in reversed(self.chains.points):
            if point in self.x:
                for key, x, weights, link in self._from(point):
                    self._add(point, key, x, weights, link)
        for (stream, _), links in self.chains.starts.items():
            x = self.chains._zeros(stream)
            for share in self.chains.shares:
                if share.stream == stream:
                    x[share.sample, share.position] = share.share
            for link in links:
                if link.to is not None:
                    self._add_start(stream, x, link)
        parts = [np.concatenate(part) for part in zip(*self.found, strict=True)]
        start, end, weight, flow = parts if parts else [np.zeros(0)] * 4
        kept = np.flatnonzero(np.abs(flow) > least * np.abs(flow).max(initial=0))
        from_where = np.where(start < 0, len(self.vertices), start)[kept]
        order = kept[np.argsort(from_where, kind="stable")]  # births first, the readout last
        vertices = list(self.vertices)
        attends = [v.point is not None and self.chains.node(v.point) is not None for v in vertices]
        return FlowEdges(
            vertices,
            start[order].astype(np.int64),
            end[order].astype(np.int64),
            weight[order],
            flow[order],
            np.array([self._born_of(v) for v in vertices]),
            np.array(attends),
        )

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
            eye = torch.diag_embed(made[..., 0].to(self.x[point]))
            yield stream, self.x[point], eye, Link(stream, None, None)

    def _of_node(self, node: ProgramNode, step: Attended) -> Tensor:
        streams = self.chains.program.streams
        rows, keys = streams[node.stream], streams[step.block.stream]
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

    def _add(self, point: Point, stream: int, x: Tensor, weights: Tensor, link: Link) -> None:
        y = self._after(link)
        attends = self.chains.node(point) is not None
        flow = weights * x[..., :1] * y[:, None, :, 0]
        if not attends:
            flow = flow - weights * x[..., 1:] * y[:, None, :, 1]
        samples, rows, keys = flow.nonzero().cpu().unbind(1)
        source = self._numbers(point, self._stream(point), samples, rows)
        at = (samples, rows, keys)
        self._note(source, self._numbers(link.to, stream, samples, keys), weights[at], flow[at])

    def _add_start(self, stream: int, x: Tensor, link: Link) -> None:
        y = self._after(link)
        flow = x * (y[..., 0] - y[..., 1])
        samples, rows = flow.nonzero().cpu().unbind(1)
        ends = self._numbers(link.to, stream, samples, rows)
        at = (samples, rows)
        self._note(np.full(len(ends), -1), ends, x[at], flow[at])

    def _after(self, link: Link) -> Tensor:
        """What keys that go on along a link bring, (batch, keys, 2)."""
        return self.y.linked(link.stream, [link])

    def _note(self, start: np.ndarray, end: np.ndarray, weight: Tensor, flow: Tensor) -> None:
        self.found.append((start, end, weight.double().cpu().numpy(), flow.double().cpu().numpy()))

    def _stream(self, point: Point) -> int:
        return self.chains.program.rows_of(point.update)

    def _numbers(
        self, point: Point | None, stream: int, samples: Tensor, positions: Tensor
    ) -> np.ndarray:
        numbers = [
            self.vertices.setdefault(Vertex(point, stream, sample, position), len(self.vertices))
            for sample, position in zip(samples.tolist(), positions.tolist(), strict=True)
        ]
        return np.array(numbers, dtype=np.int64)
