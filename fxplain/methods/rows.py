"""Rows: only the rows of R that are read, by vector products from the last node to the first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from fxplain.methods.columns import ColumnProducts
from fxplain.methods.reach import made_by
from fxplain.methods.relevancy import Relevancies
from fxplain.methods.rules import divided_by_sums
from fxplain.program import KeyBlock, Program, ProgramNode, ProgramRoute
from fxplain.tokens import IDENTITY

__all__ = ["RelevancyRows", "RowShare"]


@dataclass(frozen=True)
class RowShare:
    """One token's row of R, and how much of it is read.

    Attributes
    ----------
    stream, sample, position
        The token.
    version
        What it has absorbed when it is read.
    share
        Its factor.
    """

    stream: int
    sample: int
    position: int
    version: int
    share: float


class _Part(NamedTuple):
    """A part of R: some of its columns, with what is identity in it, what is not, or both."""

    columns: frozenset[int]
    identity: bool = True
    attended: bool = True


class RelevancyRows:
    """Rows of R = sums of shares x rows, without R.

    A share of R[s, *] at a version is the same share of each update that the version holds, and of
    the identity if it holds that; an update's share becomes shares of what the update read:

        self-attention      A R            gives R the share A^T x
        equation 11         A R[q, *]      gives R[q, *] the share A^T x
        equation 10         norm(R_ss)^T A norm(R_qq)
                                           gives R_qq the share A^T norm(R_ss) x, rows divided by
                                           the sums of equations 8 and 9, and the identity an
                                           undivided one

    R_ss x and the sums are products from the right (`ColumnProducts`).

    Parameters
    ----------
    relevancies
        The rules, with their maps and options.
    """

    def __init__(self, relevancies: Relevancies) -> None:
        self.relevancies = relevancies
        self.program: Program = relevancies.program
        self.reach = relevancies.reach
        self._found: dict[int, Tensor] = {}
        self._waiting: dict[int, dict[_Part, Tensor]] = {}

    def read(self, shares: Iterable[RowShare]) -> dict[int, Tensor]:
        """The sum of shares of rows, by column stream: (batch, tokens)."""
        self.begin(shares)
        self.advance()
        return self.result()

    def begin(self, shares: Iterable[RowShare]) -> None:
        """Note what is to be read."""
        self._found, self._waiting = {}, {}
        everything = _Part(frozenset(range(len(self.program.streams))))
        by_start: dict[tuple[int, int], Tensor] = {}
        for share in shares:
            key = (share.stream, share.version)
            if key not in by_start:
                tokens = self.program.streams[share.stream].tokens
                by_start[key] = self.relevancies.zeros(*tokens.shape, 1)
            by_start[key][share.sample, share.position] += share.share
        for (stream, version), x in by_start.items():
            self._share(stream, version, everything, x)

    def advance(self) -> None:
        """Follow the shares as far as nodes are there: up to one whose gradient is still to come."""
        maps = self.relevancies.maps
        while self._waiting:
            update = max(self._waiting)  # nothing after it is waiting: its shares are complete
            node = self.program.nodes.get(update)
            if node is not None and maps.of(update).awaited:
                return
            parts = self._waiting.pop(update)
            if node is None:
                self._through_route(self.program.routes[update], parts)
            elif self.reach.live(update):
                self._through_node(node, parts)

    def result(self) -> dict[int, Tensor]:
        """What was read, by column stream: (batch, tokens)."""
        return {column: x.squeeze(-1) for column, x in self._found.items()}

    # -- versions ---------------------------------------------------------------------------------

    def _share(self, stream: int, version: int | Tensor, part: _Part, x: Tensor) -> None:
        """Give R[stream, *] at a version a share: hand it to the updates that it consists of."""
        for kept, updates in self.reach.parts(stream, version):
            of_part = x if kept is None else torch.where(kept.to(x.device), x, 0)
            if kept is not None and not bool(of_part.any()):
                continue
            for update in updates:
                if update == IDENTITY:
                    if part.identity and stream in part.columns:
                        self._find(stream, of_part)
                elif update in self.program.routes:
                    self._wait(update, part, of_part)
                elif part.attended:  # all that attention gives is attended
                    self._wait(update, _Part(part.columns), of_part)

    def _find(self, column: int, x: Tensor) -> None:
        before = self._found.get(column)
        self._found[column] = x if before is None else before + x

    def _wait(self, update: int, part: _Part, x: Tensor) -> None:
        if part.columns.isdisjoint(self.reach.columns_of(update)):
            return
        waiting = self._waiting.setdefault(update, {})
        before = waiting.get(part)
        waiting[part] = x if before is None else before + x

    # -- updates ----------------------------------------------------------------------------------

    def _through_node(self, node: ProgramNode, parts: dict[_Part, Tensor]) -> None:
        """Multiply all shares of a node with its map at once, and hand them to its keys."""
        shares: list[Tensor] = []
        uses: list[tuple[KeyBlock, frozenset[int], bool]] = []
        for part, x in parts.items():
            crossed: Tensor | None = None
            for block in node.blocks:
                columns = part.columns & self.reach.columns(block.stream, block.versions)
                mixed = (
                    frozenset()
                    if block.same
                    else columns & self.program.lineage(block.stream, node.index)
                )
                if columns - mixed:
                    shares.append(x)
                    uses.append((block, columns - mixed, False))
                if mixed:
                    crossed = self._own_times(node, x) if crossed is None else crossed
                    shares.append(crossed)
                    uses.append((block, mixed, True))
        distinct = list({id(x): x for x in shares}.values())
        place = {id(x): i for i, x in enumerate(distinct)}
        made = self._transposed(node, torch.cat(distinct, -1))
        if made is None:
            return
        for x, (block, columns, crosses) in zip(shares, uses, strict=True):
            sizes = self.program.streams[block.stream].tokens.shape
            of_share = made[..., place[id(x)]].unsqueeze(-1)
            of_keys = node.scattered(of_share, block.columns, (sizes[0], sizes[1]))
            if crosses:
                for column in columns:
                    self._share_normalized(block, column, of_keys)
            else:
                self._share(block.stream, block.versions, _Part(columns), of_keys)

    def _transposed(self, node: ProgramNode, x: Tensor) -> Tensor | None:
        of_node = self.relevancies.maps.of(node.index)
        return of_node.transposed_times(
            node.shared(node.gathered(x, node.rows)), once=self.reach.one_way
        )

    def _own_times(self, node: ProgramNode, x: Tensor) -> Tensor:
        """norm(R_ss) x, for the transposed norm(R_ss) of equation 10."""
        if not self.reach.has_own(node):
            return x
        stream, version = node.stream, node.row_versions
        if not self.reach.free(stream, version, stream):
            own = self.relevancies.own_at(stream, version, stream)
            return own @ x
        return ColumnProducts(self.relevancies, stream, x).normalized_at(stream, version)

    def _share_normalized(self, block: KeyBlock, column: int, x: Tensor) -> None:
        """Give norm(R_qq) of equation 10 its share."""
        only, rules = frozenset({column}), self.relevancies
        stream, version = block.stream, block.versions
        if not rules.self_in_bimodal:
            self._share(stream, version, _Part(only, attended=False), x)
        elif not rules.normalize:
            self._share(stream, version, _Part(only), x)
        elif not self.reach.free(stream, version, column):
            own = rules.own_at(stream, version, column)
            self._find(column, own.transpose(-1, -2) @ x)
        else:
            sums = rules.row_sums(column).at(stream, version).attended
            self._share(stream, version, _Part(only, attended=False), x)
            self._share(stream, version, _Part(only, identity=False), divided_by_sums(x, sums))

    def _through_route(self, route: ProgramRoute, parts: dict[_Part, Tensor]) -> None:
        made = made_by(self.program, route)
        for part, x in parts.items():
            columns = part.columns
            if made is not None:
                if part.identity and route.stream in columns:
                    self._find(route.stream, torch.where(made.unsqueeze(-1).to(x.device), x, 0))
                columns = columns - {route.stream}
            for entry in route.entries:
                sizes = self.program.streams[entry.stream].tokens.shape
                old = entry.carried_back(x, (sizes[0], sizes[1]))
                self._share(entry.stream, entry.version, part._replace(columns=columns), old)
