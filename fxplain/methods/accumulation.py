"""Accumulation: from the maps of a program's nodes to relevancy matrices at every point of it.

`Accumulation` walks the program by versions; a method's own way to combine maps is a subclass.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fxplain.errors import MethodError
from fxplain.methods.node_maps import NodeMaps
from fxplain.methods.reach import made_by, own_updates
from fxplain.methods.rules import route_update
from fxplain.program import KeyBlock, Program, ProgramNode, ProgramRoute
from fxplain.tokens import IDENTITY

__all__ = ["Accumulation", "Blocks", "RowSet", "added"]

Blocks = dict[int, Tensor]
"""Column blocks R[s, *] of one stream's rows, by column stream: (batch, rows, columns)."""


@dataclass(frozen=True, eq=False)
class RowSet:
    """All column blocks of one stream's rows: R[s, *], and the part of them that is identity."""

    full: Blocks
    identity: Blocks

    def plus(self, other: RowSet) -> RowSet:
        """The sum, block by block."""
        return RowSet(added(self.full, other.full), added(self.identity, other.identity))


def added(a: Blocks, b: Blocks) -> Blocks:
    """The sum of column blocks."""
    return {k: a[k] + b[k] if k in a and k in b else a.get(k, b.get(k)) for k in {**a, **b}}  # type: ignore[misc]


class Accumulation(ABC):
    """Relevancy matrices at every point of the graph.

    A value's version is the set of attention nodes and routes that it has absorbed, and R(version)
    follows from the nodes' maps. Nothing else orders the updates.

    Parameters
    ----------
    program
        The attention nodes and routes.
    maps
        For each attention node (by its index) the head-averaged map by token group,
        (groups, queries, keys); None where the target does not depend on the node.
    start_layer
        How many of a stream's first attention nodes to leave out, as `start_layer` of the published
        code does; negative counts from the last.

    Attributes
    ----------
    with_identity
        Whether a token is relevant to itself from its birth: R starts as the identity.
    """

    with_identity = True

    def __init__(
        self, program: Program, maps: Mapping[int, Tensor | None], *, start_layer: int = 0
    ) -> None:
        self.program = program
        made = NodeMaps.over(maps, set())
        self.maps = NodeMaps.over(maps, _before(program, start_layer))
        some = next((m for m in map(made.some, made) if m is not None), torch.zeros(()))
        self._options = {"dtype": some.dtype, "device": some.device}
        self._at: dict[tuple[int, frozenset[int]], RowSet] = {}
        self._delta: dict[int, RowSet] = {}
        self._eyes: dict[int, Tensor] = {}

    @property
    def by_rows(self) -> bool:
        """Whether rows can be read without building the matrices (`RelevancyRows`)."""
        return False

    def bytes_of_matrices(self) -> int:
        """About how much memory the matrices at all points of the program take."""
        streams = self.program.streams
        total = 0
        for node in self.program.nodes.values():
            rows = streams[node.stream]
            reached = {node.stream, *(block.stream for block in node.blocks)}
            columns = sum(len(streams[stream]) for stream in reached)
            total += 2 * rows.batch * len(rows) * columns  # what it gives, and R after it
        return total * self.zeros().element_size()

    # -- reading ----------------------------------------------------------------------------------

    def at(self, stream: int, version: int | Tensor) -> RowSet:
        """R[stream, *] for tokens that have absorbed `version` (one, or one per token)."""
        if isinstance(version, int):
            return self._at_updates(stream, own_updates(self.program, stream, version))
        result = RowSet({}, {})
        for single in version.unique().tolist():
            rows = (version == single).unsqueeze(-1).to(self._options["device"])
            part = self.at(stream, int(single))
            kept = RowSet(
                {k: torch.where(rows, v, 0) for k, v in part.full.items()},
                {k: torch.where(rows, v, 0) for k, v in part.identity.items()},
            )
            result = result.plus(kept)
        return result

    def final(self, stream: int) -> RowSet:
        """R[stream, *] after the stream's last update."""
        return self.at(stream, self.program.final_version(stream))

    def _at_updates(self, stream: int, own: frozenset[int]) -> RowSet:
        key = (stream, own)
        if key not in self._at:
            if not own:
                self._at[key] = RowSet({}, {})
            elif own == {IDENTITY}:
                own_part = {stream: self._eye(stream)}
                self._at[key] = RowSet(own_part if self.with_identity else {}, own_part)
            else:
                last = max(own)
                self._at[key] = self._updated(self._at_updates(stream, own - {last}), last)
        return self._at[key]

    def _updated(self, before: RowSet, update: int) -> RowSet:
        node = self.program.nodes.get(update)
        if node is None:
            return before.plus(self.delta(update))
        return self.combine(before, node)

    def _eye(self, stream: int) -> Tensor:
        if stream not in self._eyes:
            tokens = self.program.streams[stream].tokens
            eye = torch.eye(tokens.shape[1], **self._options)  # type: ignore[call-overload]
            self._eyes[stream] = eye.expand(tokens.shape[0], -1, -1)
        return self._eyes[stream]

    def is_eye(self, R: Tensor, column: int) -> bool:
        """Whether a block is the identity that R starts from, so that a product with it is none."""
        return R is self._eyes.get(column)

    def zeros(self, *shape: int) -> Tensor:
        """Zeros of the maps' type, where the maps are."""
        return torch.zeros(shape, **self._options)  # type: ignore[call-overload,no-any-return]

    # -- updating ---------------------------------------------------------------------------------

    def delta(self, update: int) -> RowSet:
        """What one attention node or route gives to its stream's rows."""
        if update not in self._delta:
            node = self.program.nodes.get(update)
            if node is None:
                made = self._route(self.program.routes[update])
            else:
                made = RowSet(self.attended(node), {})
            self._delta[update] = made
        return self._delta[update]

    def combine(self, before: RowSet, node: ProgramNode) -> RowSet:
        """R of a node's rows after the node: by default what it gives is added."""
        return before.plus(self.delta(node.index))

    @abstractmethod
    def attended(self, node: ProgramNode) -> Blocks:
        """What an attention node gives to its rows."""

    def blocks(self, node: ProgramNode) -> list[tuple[KeyBlock, Tensor, RowSet]]:
        """For each block of a node's keys: the map (batch, rows, columns) and R of the keys."""
        groups = self.maps[node.index]
        if groups is None:
            return []
        return [
            (block, self._dense(node, block, groups), self.at(block.stream, block.versions))
            for block in node.blocks
        ]

    def _dense(self, node: ProgramNode, block: KeyBlock, groups: Tensor) -> Tensor:
        rows, columns = self.program.streams[node.stream], self.program.streams[block.stream]
        return node.dense(groups, block, (rows.batch, len(rows), len(columns)))

    def _route(self, route: ProgramRoute) -> RowSet:
        target = self.program.streams[route.stream]
        full: Blocks = {}
        identity: Blocks = {}
        for entry in route.entries:
            source = self.program.streams[entry.stream]
            P = torch.zeros(target.batch, len(target), len(source), dtype=torch.float64)
            P.index_put_((entry.samples, entry.new, entry.old), entry.shares, accumulate=True)
            P = P.to(**self._options)  # type: ignore[call-overload]
            before = self.at(entry.stream, entry.version)
            full = added(full, {c: route_update(P, R) for c, R in before.full.items()})
            identity = added(identity, {c: route_update(P, R) for c, R in before.identity.items()})
        made = made_by(self.program, route)
        if made is not None:
            own = torch.diag_embed(made).to(**self._options)  # type: ignore[call-overload]
            identity[route.stream] = own
            if self.with_identity:
                full[route.stream] = own
        return RowSet(full, identity)


def _before(program: Program, start_layer: int) -> set[int]:
    """Of each stream the nodes before its `start_layer`-th."""
    of_stream: dict[int, list[int]] = {}
    for index, node in program.nodes.items():
        of_stream.setdefault(node.stream, []).append(index)
    skipped: set[int] = set()
    for indices in of_stream.values():
        count = start_layer if start_layer >= 0 else max(0, len(indices) + start_layer)
        skipped.update(indices[:count])
    if program.nodes and len(skipped) == len(program.nodes):
        most = max(map(len, of_stream.values()))
        raise MethodError(
            f"start_layer={start_layer} leaves no attention node: no modality has more than {most}."
        )
    return skipped
