"""Columns: relevancy matrices times vectors, at any point of a program, without the matrices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fxplain.methods.rules import divided_by_sums
from fxplain.program import Program, ProgramNode, ProgramRoute
from fxplain.tokens import IDENTITY

if TYPE_CHECKING:
    from fxplain.methods.relevancy import Relevancies

__all__ = ["ColumnProducts", "Product"]


@dataclass(frozen=True, eq=False)
class Product:
    """R[s, column] X as its two parts, (batch, tokens of s, c).

    Attributes
    ----------
    identity
        What comes from the part of R that is no attention's doing.
    attended
        What comes from the rest.
    """

    identity: Tensor
    attended: Tensor

    @property
    def full(self) -> Tensor:
        """Their sum."""
        return self.identity + self.attended

    def plus(self, other: Product) -> Product:
        """The sum of two."""
        return Product(self.identity + other.identity, self.attended + other.attended)

    def normalized(self, sums: Tensor) -> Tensor:
        """norm(R) X of equations 8 and 9, from R X and the row sums of R - I."""
        return self.identity + divided_by_sums(self.attended, sums)


class ColumnProducts:
    """R[*, column] X at every point of a program: equations 6 to 11, one vector product a node.

    Parameters
    ----------
    relevancies
        The rules, with their maps and options.
    column
        The stream of the columns.
    x
        What they are multiplied by, (batch, tokens of the column, c).
    """

    def __init__(self, relevancies: Relevancies, column: int, x: Tensor) -> None:
        self.relevancies, self.column, self.x = relevancies, column, x
        self.program: Program = relevancies.program
        self._delta: dict[int, Product] = {}

    def at(self, stream: int, version: int | Tensor) -> Product:
        """R[stream, column] X for tokens that have absorbed `version` (one, or one per token)."""
        total = self._nothing(stream)
        for kept, updates in self.relevancies.reach.parts(stream, version):
            part = self._nothing(stream)
            for update in updates:
                part = part.plus(self._born(stream) if update == IDENTITY else self._of(update))
            if kept is not None:
                part = Product(kept.kept(part.identity), kept.kept(part.attended))
            total = total.plus(part)
        return total

    def normalized_at(self, stream: int, version: int | Tensor) -> Tensor:
        """norm(R[stream, column]) X, or what the method's options put in its place."""
        product = self.at(stream, version)
        if not self.relevancies.self_in_bimodal:
            return product.identity
        if not self.relevancies.normalize:
            return product.full
        sums = self.relevancies.row_sums(self.column)
        return product.normalized(sums.at(stream, version).attended)

    # -- updates ----------------------------------------------------------------------------------

    def _nothing(self, stream: int) -> Product:
        tokens = self.program.streams[stream].tokens
        zeros = self.x.new_zeros(*tokens.shape, self.x.shape[-1])
        return Product(zeros, zeros)

    def _born(self, stream: int) -> Product:
        nothing = self._nothing(stream)
        return Product(self.x, nothing.attended) if stream == self.column else nothing

    def _of(self, update: int) -> Product:
        if update not in self._delta:
            node = self.program.nodes.get(update)
            if node is None:
                self._delta[update] = self._routed(self.program.routes[update])
            else:
                self._delta[update] = self._attended(node)
        return self._delta[update]

    def _attended(self, node: ProgramNode) -> Product:
        total = self._nothing(node.stream)
        if self.column not in self.relevancies.reach.columns_of(node.index):
            return total
        straight: list[Tensor] = []
        crossed = [] if self.relevancies.reach.has_own(node) else straight
        for block in node.blocks:
            if block.same or self.column not in self.program.lineage(block.stream, node.index):
                x = self.at(block.stream, block.versions).full
                straight.append(node.gathered(x, block.positions))
            else:
                x = self.normalized_at(block.stream, block.versions)
                crossed.append(node.gathered(x, block.positions))
        made = total.attended
        if straight:
            made = made + self._weighed(node, straight)
        if crossed and crossed is not straight:
            made = made + self.relevancies.own_transposed_times(node, self._weighed(node, crossed))
        return Product(total.identity, made)

    def _weighed(self, node: ProgramNode, keys: Sequence[Tensor]) -> Tensor:
        """A node's map times what its keys hold, by token of its rows."""
        tokens = self.program.streams[node.stream].tokens
        weighed = self.relevancies.maps.of(node.index).times(torch.stack([*keys]).sum(0))
        size = (tokens.shape[0], tokens.shape[1])
        return node.scattered(node.shared(weighed), node.positions, size)

    def _routed(self, route: ProgramRoute) -> Product:
        total = self._nothing(route.stream)
        made = self.relevancies.reach.made(route)
        if made is not None and route.stream == self.column:
            return Product(made.kept(self.x), total.attended)
        size = total.identity.shape[:2]
        for entry in route.entries:
            before = self.at(entry.stream, entry.version)
            total = total.plus(
                Product(
                    entry.carried(before.identity, (size[0], size[1])),
                    entry.carried(before.attended, (size[0], size[1])),
                )
            )
        return total
