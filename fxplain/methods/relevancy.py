"""Relevancies: the scheduler that applies the matching rule at each node of a program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fxplain.methods.rules import (
    bimodal_cross_update,
    bimodal_own_update,
    normalized,
    route_update,
    self_attention_update,
)
from fxplain.program import KeyBlock, Program, ProgramNode, ProgramRoute
from fxplain.tokens import IDENTITY

__all__ = ["Relevancies", "RowSet"]


@dataclass(frozen=True, eq=False)
class RowSet:
    """All column blocks of one stream's rows: R[s, *], and the part of them that is identity."""

    full: dict[int, Tensor]
    identity: dict[int, Tensor]

    def plus(self, other: RowSet) -> RowSet:
        """The sum, block by block."""
        return RowSet(_sum(self.full, other.full), _sum(self.identity, other.identity))


def _sum(a: dict[int, Tensor], b: dict[int, Tensor]) -> dict[int, Tensor]:
    return {k: a[k] + b[k] if k in a and k in b else a.get(k, b.get(k)) for k in {**a, **b}}  # type: ignore[misc]


class Relevancies:
    """Relevancy matrices at every point of the graph.

    ``R(version) = [identity in version] I + sum of delta(node) for node in version``, and each
    node's delta is computed from R at its own query version and key version. Nothing else orders
    the updates.

    Parameters
    ----------
    program
        The attention nodes and routes.
    maps
        For each attention node (by its index) the head-averaged map by token group,
        (groups, queries, keys); None where the target does not depend on the node.
    normalize
        Whether equation 10 uses normalised self-relevancies (equations 8 and 9).
    self_in_bimodal
        Whether equation 10 uses self-relevancies at all; without, it adds the map alone.
    """

    def __init__(
        self,
        program: Program,
        maps: Mapping[int, Tensor | None],
        *,
        normalize: bool = True,
        self_in_bimodal: bool = True,
    ) -> None:
        self.program = program
        self.maps = maps
        self.normalize = normalize
        self.self_in_bimodal = self_in_bimodal
        some = next((m for m in maps.values() if m is not None), torch.zeros(()))
        self._options = {"dtype": some.dtype, "device": some.device}
        self._at: dict[tuple[int, frozenset[int]], RowSet] = {}
        self._delta: dict[int, RowSet] = {}

    # -- reading ----------------------------------------------------------------------------------

    def at(self, stream: int, version: int | Tensor) -> RowSet:
        """R[stream, *] for tokens that have absorbed `version` (one, or one per token)."""
        if isinstance(version, int):
            return self._at_updates(stream, self.program.versions.of(version))
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

    def _at_updates(self, stream: int, updates: frozenset[int]) -> RowSet:
        births = self.program.births
        updates = frozenset(IDENTITY if u in births else u for u in updates)
        own = frozenset(u for u in updates if u == IDENTITY or self.program.rows_of(u) == stream)
        key = (stream, own)
        if key not in self._at:
            if not own:
                self._at[key] = RowSet({}, {})
            elif own == {IDENTITY}:
                eye = self._eye(stream)
                self._at[key] = RowSet({stream: eye}, {stream: eye})
            else:
                last = max(own)
                before = self._at_updates(stream, own - {last})
                self._at[key] = before.plus(self.delta(last))
        return self._at[key]

    def _eye(self, stream: int) -> Tensor:
        tokens = self.program.streams[stream].tokens
        eye = torch.eye(tokens.shape[1], **self._options)  # type: ignore[call-overload]
        result: Tensor = eye.expand(tokens.shape[0], -1, -1)
        return result

    # -- updating ---------------------------------------------------------------------------------

    def delta(self, update: int) -> RowSet:
        """What one attention node or route adds to its stream's rows."""
        if update not in self._delta:
            node = self.program.nodes.get(update)
            made = (
                self._route(self.program.routes[update]) if node is None else self._attention(node)
            )
            self._delta[update] = made
        return self._delta[update]

    def _attention(self, node: ProgramNode) -> RowSet:
        groups = self.maps[node.index]
        added: dict[int, Tensor] = {}
        if groups is None:
            return RowSet({}, {})
        for block in node.blocks:
            A = self._dense(node, block, groups)
            keys = self.at(block.stream, block.versions)
            rule = self._self_attention if block.same else self._bimodal
            added = _sum(added, rule(node, block, A, keys))
        return RowSet(added, {})

    def _dense(self, node: ProgramNode, block: KeyBlock, groups: Tensor) -> Tensor:
        rows, columns = self.program.streams[node.stream], self.program.streams[block.stream]
        return node.dense(groups, block, (rows.batch, len(rows), len(columns)))

    def _self_attention(
        self, _node: ProgramNode, _block: KeyBlock, A: Tensor, keys: RowSet
    ) -> dict[int, Tensor]:
        return {column: self_attention_update(A, R) for column, R in keys.full.items()}

    def _bimodal(
        self, node: ProgramNode, block: KeyBlock, A: Tensor, keys: RowSet
    ) -> dict[int, Tensor]:
        lineage = self.program.lineage(block.stream)
        own = self._self_relevancy(self.at(node.stream, node.row_versions), node.stream)
        added: dict[int, Tensor] = {}
        for column, R in keys.full.items():
            if column not in lineage:
                added[column] = bimodal_own_update(A, R)
                continue
            R_qq = self._self_relevancy(keys, column)
            if R_qq is None:
                identity = keys.identity.get(column)
                R_qq = torch.zeros_like(R) if identity is None else identity
            added[column] = bimodal_cross_update(own, A, R_qq)
        return added

    def _self_relevancy(self, rows: RowSet, column: int) -> Tensor | None:
        """R of equation 10, normalised if asked for; None for the plain identity."""
        R = rows.full.get(column)
        if R is None or not self.self_in_bimodal:
            return None
        identity = rows.identity.get(column, torch.zeros_like(R))
        return normalized(R, identity) if self.normalize else R

    def _route(self, route: ProgramRoute) -> RowSet:
        target = self.program.streams[route.stream]
        full: dict[int, Tensor] = {}
        identity: dict[int, Tensor] = {}
        for entry in route.entries:
            source = self.program.streams[entry.stream]
            P = torch.zeros(target.batch, len(target), len(source), dtype=torch.float64)
            P.index_put_((entry.samples, entry.new, entry.old), entry.shares, accumulate=True)
            P = P.to(**self._options)  # type: ignore[call-overload]
            before = self.at(entry.stream, entry.version)
            full = _sum(full, {c: route_update(P, R) for c, R in before.full.items()})
            identity = _sum(identity, {c: route_update(P, R) for c, R in before.identity.items()})
            made = torch.zeros(target.batch, len(target), dtype=torch.bool)
            made[entry.samples, entry.new] = True
            made &= self.program.routed(route.stream)
            if entry.stream != route.stream and made.any():
                own = torch.diag_embed(made).to(**self._options)  # type: ignore[call-overload]
                full[route.stream] = identity[route.stream] = own
        return RowSet(full, identity)
