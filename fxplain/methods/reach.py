"""Reach: which columns relevancy has at which point of a program, and what vectors can follow."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from fxplain.methods.token_sets import TokenSet
from fxplain.program import KeyBlock, Program, ProgramNode, ProgramRoute
from fxplain.tokens import IDENTITY

__all__ = ["Part", "PartOf", "Reach", "Through", "made_by", "own_updates"]

Part = tuple[TokenSet | None, frozenset[int]]
"""Some of a stream's tokens, or all, and the updates that they have absorbed."""


def own_updates(program: Program, stream: int, version: int) -> frozenset[int]:
    """The updates of a stream's own rows in a version, births as `IDENTITY`."""
    absorbed = program.versions.of(version)
    if program.chunks:
        absorbed = absorbed.union(*(program.chunks[u] for u in absorbed if u in program.chunks))
    updates = (IDENTITY if u in program.births else u for u in absorbed)
    return frozenset(u for u in updates if u == IDENTITY or program.rows_of(u) == stream)


def made_by(program: Program, route: ProgramRoute) -> Tensor | None:
    """The tokens, (batch, n), that begin with a route from another stream; None if none do."""
    target = program.streams[route.stream]
    made = torch.zeros(target.batch, len(target), dtype=torch.bool)
    for entry in route.entries:
        if entry.stream != route.stream:
            made[entry.samples, entry.new] = True
    made &= program.routed(route.stream)
    return made if bool(made.any()) else None


class Through(NamedTuple):
    """What a node reads of a block of keys.

    Attributes
    ----------
    block
        The keys.
    straight, crossed
        The columns that go through it as they are, and those of equation 10.
    """

    block: KeyBlock
    straight: frozenset[int]
    crossed: frozenset[int]


class PartOf(NamedTuple):
    """A part of R: some of its columns, with what is identity in it, what is not, or both."""

    columns: frozenset[int]
    identity: bool = True
    attended: bool = True


class Reach:
    """The structure of R: nothing here is a number, and each fact is found once.

    Parameters
    ----------
    program
        The attention nodes and routes.
    live
        The nodes that the target depends on.
    mixes_own
        Whether equation 10 uses self-relevancies.
    """

    def __init__(self, program: Program, live: frozenset[int], *, mixes_own: bool = True) -> None:
        self.program, self.mixes_own = program, mixes_own
        self._live = live
        self._columns: dict[int, frozenset[int]] = {}
        self._chains: dict[tuple[int, int], frozenset[int]] = {}
        self._products: dict[tuple[int, int, int], int] = {}
        self._parts: dict[tuple[int, int], tuple[int | Tensor, list[Part]]] = {}
        self._through: dict[tuple[int, frozenset[int]], tuple[Through, ...]] = {}
        self._made: dict[int, TokenSet | None] = {}
        self._giving: dict[tuple[int, frozenset[int], PartOf], tuple[int, ...]] = {}

    @classmethod
    def of(cls, program: Program, live: frozenset[int], *, mixes_own: bool) -> Reach:
        """That of a program, which keeps it."""
        made: Reach = program.memo.made(
            ("reach", live, mixes_own), lambda: cls(program, live, mixes_own=mixes_own)
        )
        return made

    def live(self, update: int) -> bool:
        """Whether the target depends on a node."""
        return update in self._live

    def parts(self, stream: int, version: int | Tensor) -> list[Part]:
        """The updates of a version; of one version per token, each with its tokens."""
        key = (stream, version if isinstance(version, int) else id(version))
        if key not in self._parts:
            self._parts[key] = (version, self._parts_of(stream, version))
        return self._parts[key][1]

    def _parts_of(self, stream: int, version: int | Tensor) -> list[Part]:
        if isinstance(version, int):
            return [(None, own_updates(self.program, stream, version))]
        return [
            (TokenSet(version.cpu() == single), own_updates(self.program, stream, int(single)))
            for single in version.unique().tolist()
        ]

    def giving(self, stream: int, updates: frozenset[int], part: PartOf) -> tuple[int, ...]:
        """The updates that give a stream's rows something in a part of R, the last one first."""
        key = (stream, updates, part)
        if key not in self._giving:
            found = (update for update in updates if self._gives(stream, update, part))
            self._giving[key] = tuple(sorted(found, reverse=True))
        return self._giving[key]

    def _gives(self, stream: int, update: int, part: PartOf) -> bool:
        if update == IDENTITY:
            return part.identity and stream in part.columns
        if update in self.program.nodes and not part.attended:
            return False
        return not part.columns.isdisjoint(self.columns_of(update))

    def made(self, route: ProgramRoute) -> TokenSet | None:
        """See `made_by`."""
        if route.index not in self._made:
            mask = made_by(self.program, route)
            self._made[route.index] = None if mask is None else TokenSet(mask)
        return self._made[route.index]

    def through(self, node: ProgramNode, columns: frozenset[int]) -> tuple[Through, ...]:
        """What a node reads of the keys' rows, where some columns are asked for."""
        key = (node.index, columns)
        if key not in self._through:
            found = []
            for block in node.blocks:
                read = columns & self.columns(block.stream, block.versions)
                crossed: frozenset[int] = frozenset()
                if not block.same:
                    crossed = read & self.program.lineage(block.stream, node.index)
                found.append(Through(block, read - crossed, crossed))
            self._through[key] = tuple(found)
        return self._through[key]

    # -- columns ----------------------------------------------------------------------------------

    def columns(self, stream: int, version: int | Tensor) -> frozenset[int]:
        """The column blocks that R[stream, *] has."""
        found: frozenset[int] = frozenset()
        for _, updates in self.parts(stream, version):
            for update in updates:
                found |= {stream} if update == IDENTITY else self.columns_of(update)
        return found

    def columns_of(self, update: int) -> frozenset[int]:
        """The column blocks that an update gives to its rows."""
        if update not in self._columns:
            found: frozenset[int] = frozenset()
            node = self.program.nodes.get(update)
            if node is None:
                route = self.program.routes[update]
                for entry in route.entries:
                    found |= self.columns(entry.stream, entry.version)
                if self.made(route) is not None:
                    found |= {route.stream}
            elif self.live(update):
                for block in node.blocks:
                    found |= self.columns(block.stream, block.versions)
            self._columns[update] = found
        return self._columns[update]

    def has_own(self, node: ProgramNode) -> bool:
        """Whether equation 10 multiplies with a self-relevancy of a node's queries, no identity."""
        stream, version = node.stream, node.row_versions
        return (
            self.mixes_own
            and stream in self.columns(stream, version)
            and not self._is_identity(stream, version)
        )

    def _is_identity(self, stream: int, version: int | Tensor) -> bool:
        """Whether nothing has given a stream's tokens anything of the stream yet."""
        born = all(IDENTITY in updates for _, updates in self.parts(stream, version))
        return born and not self._behind(stream, version, stream)

    # -- vectors ----------------------------------------------------------------------------------

    @cached_property
    def batches_agree(self) -> bool:
        """Whether all that an update links has as many samples as its rows."""
        streams, program = self.program.streams, self.program
        linked = [
            *((n.stream, *(block.stream for block in n.blocks)) for n in program.nodes.values()),
            *((r.stream, *(entry.stream for entry in r.entries)) for r in program.routes.values()),
        ]
        return all(len({streams[s].batch for s in of_update}) == 1 for of_update in linked)

    @cached_property
    def one_way(self) -> bool:
        """Whether rows are followed from last to first alone: no equation 10 looks back."""
        nodes = self.program.nodes.values()
        return all(block.same for node in nodes for block in node.blocks)

    def free(self, stream: int, version: int | Tensor, column: int) -> bool:
        """Whether R[stream, column] x is one chain of products with maps.

        Equation 10 transposes what came before it: where two modalities attend to each other, each
        of its products begins two chains, and theirs again two.
        """
        return not any(
            self._looks_back(update, column) for update in self._behind(stream, version, column)
        )

    def products(self, stream: int, version: int | Tensor, column: int) -> int:
        """How many products with maps R[stream, column] x takes, those of other chains included."""
        key = (stream, version if isinstance(version, int) else id(version), column)
        if key not in self._products:
            total = 0
            for update in self._behind(stream, version, column):
                node = self.program.nodes.get(update)
                total += node is not None
                if node is not None and self._looks_back(update, column):
                    total += self.products(node.stream, node.row_versions, node.stream)
            self._products[key] = total
        return self._products[key]

    def _behind(self, stream: int, version: int | Tensor, column: int) -> frozenset[int]:
        """The updates that R[stream, column] is made of."""
        found: frozenset[int] = frozenset()
        for _, updates in self.parts(stream, version):
            for update in updates:
                if update != IDENTITY and column in self.columns_of(update):
                    found |= self._before(update, column)
        return found

    def _before(self, update: int, column: int) -> frozenset[int]:
        """An update and those before it."""
        key = (update, column)
        if key not in self._chains:
            node = self.program.nodes.get(update)
            linked = self.program.routes[update].entries if node is None else node.blocks
            found = frozenset({update})
            for part in linked:
                version = part.versions if isinstance(part, KeyBlock) else part.version
                found |= self._behind(part.stream, version, column)
            self._chains[key] = found
        return self._chains[key]

    def _looks_back(self, update: int, column: int) -> bool:
        """Whether equation 10 multiplies what a node gives to a column by a self-relevancy."""
        node = self.program.nodes.get(update)
        return (
            node is not None
            and self.has_own(node)
            and any(
                not block.same
                and column in self.columns(block.stream, block.versions)
                and column in self.program.lineage(block.stream, update)
                for block in node.blocks
            )
        )
