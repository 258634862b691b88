"""Relevancies: the scheduler that applies the matching rule of ICCV 2021 at each node."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy

import torch
from torch import Tensor

from fxplain.methods.accumulation import Accumulation, Blocks, RowSet, added
from fxplain.methods.columns import ColumnProducts
from fxplain.methods.node_maps import NodeMaps
from fxplain.methods.reach import Reach
from fxplain.methods.rows import RelevancyRows
from fxplain.methods.rules import (
    bimodal_cross_update,
    bimodal_own_update,
    normalized,
    self_attention_update,
)
from fxplain.program import Program, ProgramNode

__all__ = ["Relevancies"]

LARGE = 2**26
"""Bytes of matrices from which vectors are followed instead, where equation 10 looks back."""

PRODUCTS = 8
"""How many products with maps are worth it then, in attention nodes of the program."""


class Relevancies(Accumulation):
    """The rules of Chefer, Gur & Wolf (ICCV 2021, arXiv 2103.15679), equations 6 to 11.

    ``R(version) = [identity in version] I + sum of delta(node) for node in version``, and each
    node's delta is computed from R at its own query version and key version.

    Parameters
    ----------
    program, maps, start_layer
        See `Accumulation`.
    normalize
        Whether equation 10 uses normalised self-relevancies (equations 8 and 9).
    self_in_bimodal
        Whether equation 10 uses self-relevancies at all; without, it adds the map alone.
    aggregate
        Whether a node adds to R; without, each node replaces the blocks that it updates.
    """

    def __init__(
        self,
        program: Program,
        maps: Mapping[int, Tensor | None],
        *,
        normalize: bool = True,
        self_in_bimodal: bool = True,
        aggregate: bool = True,
        start_layer: int = 0,
    ) -> None:
        super().__init__(program, maps, start_layer=start_layer)
        self.normalize = normalize
        self.self_in_bimodal = self_in_bimodal
        self.aggregate = aggregate
        live = frozenset(index for index in self.maps if self.maps.of(index).is_there)
        self.reach = Reach.of(program, live, mixes_own=self_in_bimodal)
        self._row_sums: dict[int, ColumnProducts] = {}

    def without_maps(self) -> Relevancies:
        """The same rules over the same nodes, with nothing of what these saw."""
        bare = copy(self)
        bare.maps = NodeMaps({})
        bare._at, bare._delta, bare._eyes, bare._row_sums = {}, {}, {}, {}
        return bare

    # -- rows without matrices ----------------------------------------------------------------------

    @property
    def by_rows(self) -> bool:
        """Whether rows can be read without the matrices (`RelevancyRows`)."""
        return type(self) is Relevancies and self.aggregate and self.reach.batches_agree

    def own_at(self, stream: int, version: int | Tensor, column: int) -> Tensor:
        """R of equation 10 at a point of the program, normalised if asked for."""
        own = self._self_relevancy(self.at(stream, version), column)
        assert own is not None, "only asked for where it is there"
        return own

    def by_vectors(self, stream: int, version: int | Tensor, column: int) -> bool:
        """Whether a self-relevancy of equation 10 is followed as products, not made as a matrix.

        Where two modalities attend to each other, a product with one takes products with those before
        it, which is worth it where matrices are large and these are not many.
        """
        if self.reach.free(stream, version, column):
            return True
        products = self.reach.products(stream, version, column)
        few = products <= PRODUCTS * len(self.program.nodes)
        return few and self.bytes_of_matrices() > LARGE

    def own_times(self, node: ProgramNode, x: Tensor) -> Tensor:
        """norm(R_ss) x of equation 10, for the rows of a node; x itself where that is the identity."""
        stream, version = node.stream, node.row_versions
        if not self.reach.has_own(node):
            return x
        if self.by_vectors(stream, version, stream):
            return ColumnProducts(self, stream, x).normalized_at(stream, version)
        return self.own_at(stream, version, stream) @ x

    def own_transposed_times(self, node: ProgramNode, x: Tensor) -> Tensor:
        """The transposed norm(R_ss) times x, as equation 10 has it, where it is no identity."""
        stream, version = node.stream, node.row_versions
        return RelevancyRows(self).transposed_times(stream, version, stream, x)

    def row_sums(self, column: int) -> ColumnProducts:
        """The row sums of R[*, column] at any point of the program."""
        if column not in self._row_sums:
            tokens = self.program.streams[column].tokens
            ones = self.zeros(*tokens.shape, 1) + 1
            self._row_sums[column] = ColumnProducts(self, column, ones)
        return self._row_sums[column]

    # -- the rules ----------------------------------------------------------------------------------

    def combine(self, before: RowSet, node: ProgramNode) -> RowSet:
        """R + delta, or without aggregation delta in place of the blocks that it touches."""
        delta = self.delta(node.index)
        if self.aggregate or not delta.full:
            return before.plus(delta)
        identity = {c: R for c, R in before.identity.items() if c not in delta.full}
        return RowSet({**before.full, **delta.full}, identity)

    def attended(self, node: ProgramNode) -> Blocks:
        """The sum over the blocks of keys of what the matching rule adds."""
        total: Blocks = {}
        for block, A, keys in self.blocks(node):
            if block.same:
                update = {
                    column: A if self.is_eye(R, column) else self_attention_update(A, R)
                    for column, R in keys.full.items()
                }
            else:
                update = self._bimodal(node, block.stream, A, keys)
            total = added(total, update)
        return total

    def _bimodal(self, node: ProgramNode, key_stream: int, A: Tensor, keys: RowSet) -> Blocks:
        lineage = self.program.lineage(key_stream, node.index)
        own = self._self_relevancy(self.at(node.stream, node.row_versions), node.stream)
        update: Blocks = {}
        for column, R in keys.full.items():
            if column not in lineage:
                update[column] = bimodal_own_update(A, R)
                continue
            update[column] = bimodal_cross_update(own, A, self._of_keys(keys, column, R))
        if not self.aggregate and self._answers(key_stream, node.stream):
            # equation 11 with an R_qs that is still zero
            rows = A.shape[-2]
            update.setdefault(node.stream, A.new_zeros(len(A), rows, rows))
        return update

    def _of_keys(self, keys: RowSet, column: int, R: Tensor) -> Tensor | None:
        """R_qq of equation 10; None for the identity."""
        made = self._self_relevancy(keys, column)
        if made is not None or self.is_eye(R, column):
            return made
        return keys.identity.get(column, torch.zeros_like(R))

    def _answers(self, stream: int, attended: int) -> bool:
        """Whether a stream attends to another one anywhere in the program."""
        return any(
            node.stream == stream and any(block.stream == attended for block in node.blocks)
            for node in self.program.nodes.values()
        )

    def _self_relevancy(self, rows: RowSet, column: int) -> Tensor | None:
        """R of equation 10, normalised if asked for; None for the plain identity."""
        R = rows.full.get(column)
        if R is None or self.is_eye(R, column) or not self.self_in_bimodal:
            return None
        identity = rows.identity.get(column, torch.zeros_like(R))
        return normalized(R, identity) if self.normalize else R
