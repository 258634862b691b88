"""Chains: the readout's row of R as a sum over chains of attention, step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from fxplain.errors import MethodError
from fxplain.methods import Relevancies, RowShare
from fxplain.methods.rules import divided_by_sums
from fxplain.methods.token_sets import TokenSet
from fxplain.program import KeyBlock, Program, ProgramNode, RouteEntries
from fxplain.tokens import IDENTITY

__all__ = ["Attended", "Chains", "Link", "Point", "Routed"]


class Point(NamedTuple):
    """An update of the program, and the part of its rows that is followed.

    Attributes
    ----------
    update
        An attention node or a route.
    columns
        The column streams.
    identity, attended
        Whether what is identity in the rows is followed, and what is not.
    """

    update: int
    columns: frozenset[int]
    identity: bool = True
    attended: bool = True


@dataclass(frozen=True, eq=False)
class Link:
    """Where tokens' rows go on: to an update that they have absorbed, or to their birth (None).

    `kept` are the tokens that do; None for all.
    """

    stream: int
    to: Point | None
    kept: TokenSet | None

    def of(self, x: Tensor) -> Tensor:
        """The part of vectors over the tokens that goes this way."""
        return x if self.kept is None else self.kept.kept(x)


@dataclass(frozen=True, eq=False)
class Attended:
    """A step of chains through a node's map to the keys of one block.

    Attributes
    ----------
    block
        The keys.
    links
        Where they go on.
    own
        norm(R_ss) of equation 10, by whose transpose rows are weighed before the map; None for the
        identity.
    sums
        The row sums of equations 8 and 9 that what is attended is divided by; None for no division.
    """

    block: KeyBlock
    links: tuple[Link, ...]
    own: Tensor | None = None
    sums: Tensor | None = None

    def divided(self, x: Tensor) -> Tensor:
        """Vectors over the keys by the row sums."""
        return x if self.sums is None else divided_by_sums(x, self.sums)


@dataclass(frozen=True, eq=False)
class Routed:
    """A step of chains along a route, whose shares are the model's own weights."""

    entry: RouteEntries
    links: tuple[Link, ...]


class Chains:
    """The expansion of R = sum of products of maps, at the places that a readout reaches.

    Equations 6, 7 and 11 are ``A R`` and a route is ``P R``, so that a row of R is a sum over chains

        readout -> (node, query, key) -> (node, query, key) -> ... -> birth,

    each the product of the maps' entries and routes' shares on its way. Equation 10,
    ``norm(R_ss)^T A norm(R_qq)``, is linear in its own A: norm(R_ss) and the row sums of norm(R_qq) are
    held at their values, and chains go on through what norm(R_qq) is made of.

    Parameters
    ----------
    rules
        The rules, with maps that were made to be looked into.
    shares
        The rows of R that are read.

    Attributes
    ----------
    starts
        Where readouts begin.
    points
        All places that chains pass, the last update first.
    """

    def __init__(self, rules: Relevancies, shares: Iterable[RowShare]) -> None:
        if not rules.by_rows:
            raise MethodError(
                "what goes on inside is not told of rows that replace one another "
                "(aggregate=False), or of modalities whose batches differ."
            )
        self.rules, self.reach = rules, rules.reach
        self.program: Program = rules.program
        self.shares = list(shares)
        self._steps: dict[Point, tuple[Attended | Routed, ...]] = {}
        self._owns: dict[int, Tensor | None] = {}
        everything = frozenset(range(len(self.program.streams)))
        self.starts = {
            (s.stream, s.version): self._links(s.stream, s.version, Point(-1, everything))
            for s in self.shares
        }
        todo = [link.to for links in self.starts.values() for link in links]
        while todo:
            point = todo.pop()
            if point is not None and point not in self._steps:
                self._steps[point] = steps = tuple(self._made_steps(point))
                todo += [link.to for step in steps for link in step.links]
        self.points = sorted(self._steps, key=lambda point: -point.update)

    def steps(self, point: Point) -> tuple[Attended | Routed, ...]:
        """How chains go on from a place."""
        return self._steps[point]

    def node(self, point: Point) -> ProgramNode | None:
        """The attention node of a place; None of a route."""
        return self.program.nodes.get(point.update)

    @property
    def longest(self) -> int:
        """The most attention nodes on one chain."""
        length: dict[Point, int] = {}
        for point in reversed(self.points):
            after = [
                length[link.to] for step in self.steps(point) for link in step.links if link.to
            ]
            length[point] = max(after, default=0) + (self.node(point) is not None)
        return max(length.values(), default=0)

    # -- where rows go on ---------------------------------------------------------------------------

    def _links(self, stream: int, version: int | Tensor, part: Point) -> tuple[Link, ...]:
        """The updates that a version consists of."""
        links = []
        for kept, updates in self.reach.parts(stream, version):
            for update in sorted(updates):
                if update == IDENTITY:
                    if part.identity and stream in part.columns:
                        links.append(Link(stream, None, kept))
                    continue
                routed = update in self.program.routes
                to = part._replace(update=update) if routed else Point(update, part.columns)
                if not (routed or (part.attended and self.reach.live(update))):
                    continue
                if not part.columns.isdisjoint(self.reach.columns_of(update)):
                    links.append(Link(stream, to, kept))
        return tuple(links)

    def _made_steps(self, point: Point) -> Iterable[Attended | Routed]:
        node = self.node(point)
        if node is None:
            yield from self._along_route(point)
            return
        for block in node.blocks:
            columns = point.columns & self.reach.columns(block.stream, block.versions)
            mixed: frozenset[int] = frozenset()
            if not block.same:
                mixed = columns & self.program.lineage(block.stream, node.index)
            if columns - mixed:
                part = Point(-1, columns - mixed)
                yield Attended(block, self._links(block.stream, block.versions, part))
            if mixed:
                own = self._own(node)
                for column in sorted(mixed):
                    yield from self._crossed(block, column, own)

    def _own(self, node: ProgramNode) -> Tensor | None:
        if node.index not in self._owns:
            has = self.reach.has_own(node)
            at = (node.stream, node.row_versions, node.stream)
            self._owns[node.index] = self.rules.own_at(*at) if has else None
        return self._owns[node.index]

    def _crossed(self, block: KeyBlock, column: int, own: Tensor | None) -> Iterable[Attended]:
        """norm(R_qq) of equation 10, its identity apart from what is divided."""
        only, rules = frozenset({column}), self.rules
        stream, version = block.stream, block.versions
        if rules.self_in_bimodal and not rules.normalize:
            yield Attended(block, self._links(stream, version, Point(-1, only)), own)
            return
        born = Point(-1, only, attended=False)
        yield Attended(block, self._links(stream, version, born), own)
        if rules.self_in_bimodal:
            rest = self._links(stream, version, Point(-1, only, identity=False))
            yield Attended(block, rest, own, self._sums(stream, version, column))

    def _sums(self, stream: int, version: int | Tensor, column: int) -> Tensor:
        if self.reach.free(stream, version, column):
            return self.rules.row_sums(column).at(stream, version).attended
        rows = self.rules.at(stream, version)
        full = rows.full[column]
        return (full - rows.identity.get(column, torch.zeros_like(full))).sum(-1, keepdim=True)

    def _along_route(self, point: Point) -> Iterable[Routed]:
        route = self.program.routes[point.update]
        columns = point.columns
        if self.reach.made(route) is not None:
            columns = columns - {route.stream}
        for entry in route.entries:
            links = self._links(
                entry.stream, entry.version, point._replace(update=-1, columns=columns)
            )
            yield Routed(entry, links)

    def made(self, point: Point) -> TokenSet | None:
        """The tokens that begin with a route; None if none are followed."""
        route = self.program.routes[point.update]
        made = self.reach.made(route)
        if made is None or not point.identity or route.stream not in point.columns:
            return None
        return made

    # -- what flows ---------------------------------------------------------------------------------

    def entering(self, damping: Tensor) -> tuple[dict[Point, Tensor], dict[int, Tensor]]:
        """What comes down from the readout to each place, and to births by stream.

        Parameters
        ----------
        damping
            (c,) factors, one for each of c flows, of every attention node that a chain passes.

        Returns
        -------
        dict, dict
            (batch, tokens, c) each, a place's before its own map.
        """
        found: dict[Point, Tensor] = {}
        born: dict[int, Tensor] = {}

        def give(links: Iterable[Link], x: Tensor) -> None:
            for link in links:
                part = link.of(x)
                if link.to is None:
                    born[link.stream] = born[link.stream] + part if link.stream in born else part
                else:
                    found[link.to] = found[link.to] + part if link.to in found else part

        for (stream, version), links in self.starts.items():
            x = self._zeros(stream, len(damping))
            for share in self.shares:
                if (share.stream, share.version) == (stream, version):
                    x[share.sample, share.position] += share.share
            give(links, x)
        for point in self.points:
            if point not in found:
                continue
            node = self.node(point)
            if node is None:
                self._down_route(point, found[point], give)
                made = self.made(point)
                if made is not None:
                    stream = self.program.routes[point.update].stream
                    give((Link(stream, None, made),), found[point])
                continue
            of_keys: dict[int, Tensor] = {}
            for step in self.steps(point):
                assert isinstance(step, Attended)
                if id(step.own) not in of_keys:
                    left = self.left(node, step, found[point])
                    down = self.rules.maps.of(node.index).transposed_times(left)
                    assert down is not None, "a live node has a map"
                    of_keys[id(step.own)] = down * damping
                x = self._scattered(step.block, node, of_keys[id(step.own)])
                give(step.links, step.divided(x))
        return found, born

    def _down_route(
        self, point: Point, x: Tensor, give: Callable[[Iterable[Link], Tensor], None]
    ) -> None:
        for step in self.steps(point):
            assert isinstance(step, Routed)
            batch, n = self.program.streams[step.entry.stream].tokens.shape
            give(step.links, step.entry.carried_back(x, (batch, n)))

    def left(self, node: ProgramNode, step: Attended, x: Tensor) -> Tensor:
        """What a node's map is multiplied with from the left, (token groups, queries, c)."""
        x = x if step.own is None else step.own @ x
        return node.shared(node.gathered(x, node.positions))

    def had(self, born: dict[int, Tensor], damping: Tensor) -> Had:
        """What places' rows have of births that weigh `born` by stream, (batch, tokens, m)."""
        return Had(self, born, damping)

    def _zeros(self, stream: int, *more: int) -> Tensor:
        return self.rules.zeros(*self.program.streams[stream].tokens.shape, *more)

    def _scattered(self, block: KeyBlock, node: ProgramNode, x: Tensor) -> Tensor:
        batch, n = self.program.streams[block.stream].tokens.shape
        return node.scattered(x, block.positions, (batch, n))


class Had:
    """R times vectors at every place of the chains: what keys had when they were attended to.

    Parameters
    ----------
    chains
        The expansion.
    born
        By stream what each token weighs as it is born, (batch, tokens, m).
    damping
        (c,) as `Chains.entering` takes it.
    """

    def __init__(self, chains: Chains, born: dict[int, Tensor], damping: Tensor) -> None:
        self.chains, self.born, self.damping = chains, born, damping
        self.width = len(damping) * next(iter(born.values())).shape[-1]
        self._at: dict[Point, Tensor] = {}
        for point in reversed(chains.points):
            self._at[point] = self._made(point)

    def at(self, point: Point) -> Tensor:
        """(batch, tokens, c * m) after the update of a place."""
        return self._at[point]

    def linked(self, stream: int, links: Iterable[Link]) -> Tensor:
        """The same at tokens that go on along some links."""
        total = self.chains._zeros(stream, self.width)
        for link in links:
            total = total + link.of(self._born(stream) if link.to is None else self._at[link.to])
        return total

    def keys(self, node: ProgramNode, step: Attended) -> Tensor:
        """What a step's keys had, (token groups, keys, c * m)."""
        x = step.divided(self.linked(step.block.stream, step.links))
        return node.gathered(x, step.block.positions)

    def _born(self, stream: int) -> Tensor:
        if stream not in self.born:
            return self.chains._zeros(stream, self.width)
        return self.born[stream].repeat(1, 1, len(self.damping))  # c outer, m inner

    def _made(self, point: Point) -> Tensor:
        chains, node = self.chains, self.chains.node(point)
        if node is None:
            return self._routed(point)
        by_own: dict[int, tuple[Tensor | None, Tensor]] = {}
        for step in chains.steps(point):
            assert isinstance(step, Attended)
            keys = self.keys(node, step)
            before = by_own.get(id(step.own))
            by_own[id(step.own)] = (step.own, keys if before is None else before[1] + keys)
        batch, n = chains.program.streams[node.stream].tokens.shape
        total = chains._zeros(node.stream, self.width)
        per_flow = self.damping.repeat_interleave(self.width // len(self.damping))
        for own, keys in by_own.values():
            weighed = node.shared(chains.rules.maps.of(node.index).times(keys))
            x = node.scattered(weighed, node.positions, (batch, n)) * per_flow
            total = total + (x if own is None else own.transpose(-1, -2) @ x)
        return total

    def _routed(self, point: Point) -> Tensor:
        chains = self.chains
        stream = chains.program.routes[point.update].stream
        batch, n = chains.program.streams[stream].tokens.shape
        total = chains._zeros(stream, self.width)
        for step in chains.steps(point):
            assert isinstance(step, Routed)
            x = self.linked(step.entry.stream, step.links)
            total = total + step.entry.carried(x, (batch, n))
        made = chains.made(point)
        return total if made is None else total + Link(stream, None, made).of(self._born(stream))
