"""Rows: only the rows of R that are read, by vector products from the last node to the first."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import torch
from torch import Tensor

from fxplain.methods.reach import PartOf
from fxplain.methods.rules import divided_by_sums
from fxplain.methods.token_sets import QuerySet, TokenSet
from fxplain.program import KeyBlock, Program, ProgramNode, ProgramRoute
from fxplain.tokens import IDENTITY

if TYPE_CHECKING:
    from fxplain.methods.relevancy import Relevancies

__all__ = ["RelevancyRows", "RowShare", "Starts", "starts_of"]


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


Starts = dict[tuple[int, int], Tensor]
"""What is read of the rows of a stream at a version, (batch, n, 1), by both."""


def starts_of(program: Program, shares: Iterable[RowShare]) -> Starts:
    """The shares of rows by stream and version, on the processor."""
    by_point: dict[tuple[int, int], list[RowShare]] = {}
    for share in shares:
        by_point.setdefault((share.stream, share.version), []).append(share)
    starts: Starts = {}
    for key, own in by_point.items():
        at = torch.tensor([(share.sample, share.position) for share in own]).unbind(1)
        start = torch.zeros(program.streams[key[0]].tokens.shape)
        start.index_put_(at, torch.tensor([share.share for share in own]), accumulate=True)
        starts[key] = start.unsqueeze(-1)
    return starts


class _Share(NamedTuple):
    """Shares of a stream's rows, (batch, n, c), and the tokens that have some, if not all."""

    x: Tensor
    some: TokenSet | None = None

    def plus(self, other: _Share) -> _Share:
        return _Share(self.x + other.x, self._either(other))

    def beside(self, other: _Share) -> _Share:
        """Both, to be followed together."""
        return _Share(torch.cat([self.x, other.x], -1), self._either(other))

    def _either(self, other: _Share) -> TokenSet | None:
        if self.some is None or other.some is None:
            return None
        return self.some.with_others(other.some)

    def of(self, kept: TokenSet) -> _Share | None:
        """The shares of some rows; None where nothing is left."""
        some = kept if self.some is None else self.some.among(kept)
        return None if some is None else _Share(kept.kept(self.x), some)


class _Way(NamedTuple):
    """Where a share goes: to all updates of a version, the last one first.

    What later updates add to the same way is added once, not for each of those that are left.
    """

    stream: int
    part: PartOf
    updates: tuple[int, ...]

    def after(self) -> _Way:
        """What is left of it."""
        return self._replace(updates=self.updates[1:])


T = TypeVar("T", bound=Hashable)


def _add(shares: dict[T, _Share], of: T, share: _Share) -> None:
    before = shares.get(of)
    shares[of] = share if before is None else before.plus(share)


def _parts(ways: Mapping[_Way, _Share], read: Callable[[PartOf], PartOf]) -> dict[PartOf, _Share]:
    """The shares of one update, by what it reads of its part of R."""
    parts: dict[PartOf, _Share] = {}
    for way, share in ways.items():
        _add(parts, read(way.part), share)
    return parts


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

    R_ss x and the sums are products from the right (`fxplain.methods.columns.ColumnProducts`).

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
        self._waiting: dict[int, dict[_Way, _Share]] = {}

    def read(self, shares: Iterable[RowShare]) -> dict[int, Tensor]:
        """The sum of shares of rows, by column stream: (batch, tokens)."""
        self.begin(shares)
        self.advance()
        return self.result()

    def begin(self, shares: Iterable[RowShare]) -> None:
        """Note what is to be read."""
        starts = starts_of(self.program, shares)
        zeros = self.relevancies.zeros(0)
        self.begin_at(starts, {key: start.to(zeros) for key, start in starts.items()})

    def begin_at(self, starts: Starts, values: Starts) -> None:
        """Note what is to be read: shares of rows, of which none but those of `starts` are not 0.

        Of several targets `values` are a batch of `torch.vmap`.
        """
        self._found, self._waiting = {}, {}
        everything = PartOf(frozenset(range(len(self.program.streams))))
        for (stream, version), start in starts.items():
            some = TokenSet.of(self.program, (start != 0).squeeze(-1))
            self._share(stream, version, everything, _Share(values[stream, version], some))

    def advance(self) -> None:
        """Follow the shares as far as nodes are there: up to one whose gradient is still to come."""
        maps = self.relevancies.maps
        while self._waiting:
            update = max(self._waiting)  # nothing after it is waiting: its shares are complete
            node = self.program.nodes.get(update)
            if node is not None and maps.of(update).awaited:
                return
            ways = self._waiting.pop(update)
            for way, share in ways.items():
                self._wait(way.after(), share)
            if update == IDENTITY:
                for way, share in ways.items():
                    self._find(way.stream, share.x)
            elif node is None:
                self._through_route(self.program.routes[update], _parts(ways, lambda part: part))
            elif self.reach.live(update):  # all that attention gives is attended
                self._through_node(node, _parts(ways, lambda part: PartOf(part.columns)))

    def result(self) -> dict[int, Tensor]:
        """What was read, by column stream: (batch, tokens)."""
        return {column: x.squeeze(-1) for column, x in self._found.items()}

    def transposed_times(
        self, stream: int, version: int | Tensor, column: int, x: Tensor
    ) -> Tensor:
        """The transposed norm(R[stream, column]) of equation 10 times x, (batch, rows, c)."""
        self._found, self._waiting = {}, {}
        self._share_normalized(stream, version, column, _Share(x))
        self.advance()
        return self._found[column]

    # -- versions ---------------------------------------------------------------------------------

    def _share(self, stream: int, version: int | Tensor, part: PartOf, share: _Share) -> None:
        """Give R[stream, *] at a version a share: hand it to the updates that it consists of."""
        for kept, updates in self.reach.parts(stream, version):
            of_part = share if kept is None else share.of(kept)
            if of_part is not None:
                self._wait(_Way(stream, part, self.reach.giving(stream, updates, part)), of_part)

    def _find(self, column: int, x: Tensor) -> None:
        before = self._found.get(column)
        self._found[column] = x if before is None else before + x

    def _wait(self, way: _Way, share: _Share) -> None:
        if way.updates:
            _add(self._waiting.setdefault(way.updates[0], {}), way, share)

    # -- updates ----------------------------------------------------------------------------------

    def _through_node(self, node: ProgramNode, parts: dict[PartOf, _Share]) -> None:
        """Multiply all shares of a node with its map at once, and hand them to its keys."""
        shares: list[_Share] = []
        uses: list[tuple[KeyBlock, frozenset[int], bool]] = []
        for part, share in parts.items():
            crossed: _Share | None = None
            for block, straight, mixed in self.reach.through(node, part.columns):
                if straight:
                    shares.append(share)
                    uses.append((block, straight, False))
                if mixed:
                    crossed = self._own_times(node, share) if crossed is None else crossed
                    shares.append(crossed)
                    uses.append((block, mixed, True))
        distinct = list({id(share): share for share in shares}.values())
        together = distinct[0]
        for share in distinct[1:]:
            together = together.beside(share)
        queries = None if together.some is None else together.some.queries_of(node)
        made = self._transposed(node, together.x, queries)
        if made is None:
            return
        parts_made = made.split([share.x.shape[-1] for share in distinct], -1)
        of_share = {id(share): part for share, part in zip(distinct, parts_made, strict=True)}
        for share, (block, columns, crosses) in zip(shares, uses, strict=True):
            tokens = self.program.streams[block.stream].tokens
            sizes = (tokens.shape[0], tokens.shape[1])
            scattered = node.scattered(of_share[id(share)], block.positions, sizes)
            some = None if queries is None else queries.attended(block, sizes)
            of_keys = _Share(scattered, some)
            if crosses:
                for column in columns:
                    self._share_normalized(block.stream, block.versions, column, of_keys)
            else:
                self._share(block.stream, block.versions, PartOf(columns), of_keys)

    def _transposed(self, node: ProgramNode, x: Tensor, queries: QuerySet | None) -> Tensor | None:
        return self.relevancies.maps.of(node.index).transposed_times(
            node.shared(node.gathered(x, node.positions)),
            None if queries is None else queries.numbers,
            once=self.reach.one_way,
        )

    def _own_times(self, node: ProgramNode, share: _Share) -> _Share:
        """norm(R_ss) x, for the transposed norm(R_ss) of equation 10."""
        made = self.relevancies.own_times(node, share.x)
        return share if made is share.x else _Share(made)

    def _share_normalized(
        self, stream: int, version: int | Tensor, column: int, share: _Share
    ) -> None:
        """Give norm(R) of equation 10 its share, at a point of the program."""
        only, rules = frozenset({column}), self.relevancies
        if not rules.self_in_bimodal:
            self._share(stream, version, PartOf(only, attended=False), share)
        elif not rules.normalize:
            self._share(stream, version, PartOf(only), share)
        elif not rules.by_vectors(stream, version, column):
            own = rules.own_at(stream, version, column)
            self._find(column, own.transpose(-1, -2) @ share.x)
        else:
            sums = rules.row_sums(column).at(stream, version).attended
            self._share(stream, version, PartOf(only, attended=False), share)
            divided = share._replace(x=divided_by_sums(share.x, sums))
            self._share(stream, version, PartOf(only, identity=False), divided)

    def _through_route(self, route: ProgramRoute, parts: dict[PartOf, _Share]) -> None:
        made = self.reach.made(route)
        for part, (x, _) in parts.items():
            columns = part.columns
            if made is not None:
                if part.identity and route.stream in columns:
                    self._find(route.stream, made.kept(x))
                columns = columns - {route.stream}
            for entry in route.entries:
                sizes = self.program.streams[entry.stream].tokens.shape
                old = entry.carried_back(x, (sizes[0], sizes[1]))
                share = _Share(old)
                self._share(entry.stream, entry.version, part._replace(columns=columns), share)
