"""Accumulations of the methods that the paper compares with, for any program."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from fxplain.errors import MethodError
from fxplain.methods.accumulation import Accumulation, Blocks, RowSet, added
from fxplain.methods.rules import self_attention_update
from fxplain.program import KeyBlock, Program, ProgramNode

__all__ = ["LastMaps", "LastSums", "Rollout", "SelfAttentionSum", "SummedMaps"]


class _Direct(Accumulation):
    """Maps that are read as they are: R[s, q] from the keys q that s attends to.

    Keys that a route made (merged patches) hand a map on to what they are made of, and so do keys
    that attention without a residual made. A modality that s never attends to itself is reached
    through the modality that does.
    """

    def direct(self, node: ProgramNode, block: KeyBlock, A: Tensor, keys: RowSet) -> Blocks:
        """The map of one block, by column."""
        lineage = self.program.lineage(block.stream, node.index)
        own = keys.identity or keys.full  # tokens that attention made anew are what they drew on
        update = {c: A @ R for c, R in own.items() if c in lineage}
        if not block.same:
            attended = self._attended_by(node.stream)
            for column, R in keys.full.items():
                if column not in attended and column not in lineage:
                    update[column] = A @ R
        return update

    def blocks(self, node: ProgramNode) -> list[tuple[KeyBlock, Tensor, RowSet]]:
        """As `Accumulation.blocks`; heads that are nodes of their own count with the last of them."""
        if node.family and node.index != node.family[-1]:
            return []
        total: dict[int, tuple[KeyBlock, Tensor, RowSet]] = {}
        for index in node.family or (node.index,):
            for block, A, keys in super().blocks(self.program.nodes[index]):
                known = total.get(block.stream)
                total[block.stream] = (block, A if known is None else known[1] + A, keys)
        return list(total.values())

    def _attended_by(self, stream: int) -> set[int]:
        """The streams that a stream's tokens attend to, and what those are made of."""
        found = {stream}
        for node in self.program.nodes.values():
            if node.stream == stream:
                for block in node.blocks:
                    found |= self.program.lineage(block.stream, node.index)
        return found

    def attended(self, node: ProgramNode) -> Blocks:
        """The node's map, by column."""
        total: Blocks = {}
        for block, A, keys in self.blocks(node):
            total = added(total, self.direct(node, block, A, keys))
        return total


class LastMaps(_Direct):
    """The map of the last node of each (query modality, key modality) pair.

    Parameters
    ----------
    program, maps, start_layer
        See `Accumulation`.
    layer
        Which node of each pair instead of the last (-1).
    """

    with_identity = False

    def __init__(
        self,
        program: Program,
        maps: Mapping[int, Tensor | None],
        *,
        layer: int = -1,
        start_layer: int = 0,
    ) -> None:
        super().__init__(program, maps, start_layer=start_layer)
        self.layer = layer
        if program.nodes and not any(map(self._chosen, program.nodes.values())):
            raise MethodError(
                f"layer={layer} names no attention node: no two modalities have so many."
            )

    def combine(self, before: RowSet, node: ProgramNode) -> RowSet:
        """The node's map in place of the earlier ones of its pair."""
        if not self._chosen(node):
            return before
        update = self.delta(node.index).full
        return RowSet({**before.full, **update}, before.identity)

    def _chosen(self, node: ProgramNode) -> bool:
        """Whether the node may count: all do for the last; else its place in its pair decides."""
        if self.layer == -1:
            return True
        same = self._of_pair(node)
        return -len(same) <= self.layer < len(same) and same[self.layer] == node.index

    def _of_pair(self, node: ProgramNode) -> list[int]:
        """The nodes between the same streams, in program order."""
        pair = (node.stream, {block.stream for block in node.blocks})
        return [
            index
            for index, other in self.program.nodes.items()
            if (other.stream, {block.stream for block in other.blocks}) == pair
            and other.family[-1:] in ((), (index,))
        ]


class LastSums(LastMaps):
    """The sum of the maps of the last `layers` nodes of each pair, without its negative part.

    Parameters
    ----------
    program, maps
        See `Accumulation`.
    layers
        How many nodes of each pair count.
    signed
        Whether the negative part is kept.
    """

    def __init__(
        self,
        program: Program,
        maps: Mapping[int, Tensor | None],
        *,
        layers: int = 1,
        signed: bool = False,
    ) -> None:
        self.layers, self.signed = layers, signed
        super().__init__(program, maps)

    def combine(self, before: RowSet, node: ProgramNode) -> RowSet:
        """The node's map beside the earlier ones, if it is one of the last."""
        return before.plus(self.delta(node.index)) if self._chosen(node) else before

    def at(self, stream: int, version: int | Tensor) -> RowSet:
        """As `Accumulation.at`; the negative part goes when all are summed."""
        found = super().at(stream, version)
        if self.signed:
            return found
        return RowSet({c: R.clamp(min=0) for c, R in found.full.items()}, found.identity)

    def _chosen(self, node: ProgramNode) -> bool:
        return node.index in self._of_pair(node)[-self.layers :]


class SummedMaps(_Direct):
    """The sum of all maps."""

    with_identity = False


class SelfAttentionSum(_Direct):
    """``R += A R`` over self-attention; a bi-modal block is the map of its last node.

    The rule of Chefer, Gur & Wolf (CVPR 2021, arXiv 2012.09838), as ICCV 2021 extends it to several
    modalities for comparison.
    """

    def attended(self, node: ProgramNode) -> Blocks:
        """A R over the stream's own columns, and the map itself over other modalities'."""
        total: Blocks = {}
        lineage = self.program.lineage(node.stream, node.index)
        for block, A, keys in self.blocks(node):
            if block.same:
                of_own = {c: R for c, R in keys.full.items() if c in lineage or c == block.stream}
                update = {c: self_attention_update(A, R) for c, R in of_own.items()}
            else:
                update = self.direct(node, block, A, keys)
            total = added(total, update)
        return total

    def combine(self, before: RowSet, node: ProgramNode) -> RowSet:
        """Self-attention adds; a bi-modal map takes the place of the one before."""
        delta = self.delta(node.index)
        others = {
            c for block in node.blocks if not block.same for c in delta.full if c != node.stream
        }
        kept = RowSet({c: R for c, R in before.full.items() if c not in others}, before.identity)
        return kept.plus(delta)


class Rollout(_Direct):
    """Attention rollout (Abnar & Zuidema, ACL 2020), bi-modal as ICCV 2021 compares with it.

    Per modality the product of ``A + I`` over its self-attention, rows normalised; between
    modalities ``R[s, q] = rollout(s)^T A rollout(q)`` with A the last map of the pair and the
    rollouts of the self-attention before it.

    Parameters
    ----------
    program, maps, start_layer
        See `Accumulation`.
    normalize
        Whether the rows of A + I are normalised.
    """

    def __init__(
        self,
        program: Program,
        maps: Mapping[int, Tensor | None],
        *,
        normalize: bool = True,
        start_layer: int = 0,
    ) -> None:
        super().__init__(program, maps, start_layer=start_layer)
        self.normalize = normalize

    def combine(self, before: RowSet, node: ProgramNode) -> RowSet:
        """Self-attention rolls the rows on; a bi-modal node gives its own columns."""
        rolled = self._rolled(before, node)
        return RowSet({**rolled, **self.delta(node.index).full}, before.identity)

    def _rolled(self, before: RowSet, node: ProgramNode) -> Blocks:
        lineage = self.program.lineage(node.stream, node.index)
        same = [(b, A, keys) for b, A, keys in self.blocks(node) if b.same]
        if not same:
            return before.full
        sums = sum(A.sum(-1, keepdim=True) for _, A, _ in same) + 1
        rolled = {c: R for c, R in before.full.items() if c in lineage}
        for block, A, keys in same:
            own = {c: R for c, R in keys.full.items() if c in lineage or c == block.stream}
            rolled = added(rolled, {c: A @ R for c, R in own.items()})
        if self.normalize:
            rolled = {c: R / sums for c, R in rolled.items()}
        return {**before.full, **rolled}

    def attended(self, node: ProgramNode) -> Blocks:
        """rollout(s)^T A rollout(q) for the other modalities of a bi-modal node."""
        total: Blocks = {}
        for block, A, keys in self.blocks(node):
            if block.same:
                continue
            lineage = self.program.lineage(block.stream, node.index)
            own = self.at(node.stream, node.row_versions).full.get(node.stream)
            turned = A if own is None else own.transpose(-1, -2) @ A
            update = {c: turned @ R for c, R in keys.full.items() if c in lineage}
            attended = self._attended_by(node.stream)
            for column, R in keys.full.items():
                if column not in attended and column not in lineage:
                    update[column] = A @ R
            total = added(total, update)
        return total
