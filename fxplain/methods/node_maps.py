"""Maps of attention nodes: made a few queries at a time, whole or as products with vectors."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from fxplain.methods.node_evidence import NodeEvidence
from fxplain.rewriting.fused import wide
from fxplain.run import Scratch

__all__ = ["Finish", "NodeMap", "NodeMaps", "Weighing"]

Weighing = Callable[[NodeEvidence], Tensor | None]
"""From what a node shows to its map by head, (groups, heads, queries, keys)."""

Finish = Callable[[Tensor], Tensor]
"""What is done to the mean over heads."""

TILE = {"cpu": 2**21}
"""How many weights, over all heads, are made at once: enough for matrix products to be fast, little
beside what a backward pass keeps."""

LARGE_TILE = 2**23
"""The same on other devices."""


class NodeMap:
    """The head-averaged map of one attention node, by token group.

    Nothing of size heads x queries x keys exists: tiles of some queries and all of their keys are
    made from the node's operands and its output's gradient, averaged, and dropped.

    Parameters
    ----------
    node
        What the node shows; it is let go of once the whole map is made.
    weigh, finish, by_query, of_attended
        See `Evidence.maps`.
    scratch
        Where tiles are made.
    keep
        Whether heads will be asked for, so that the node is not let go of.
    """

    def __init__(
        self,
        node: NodeEvidence,
        weigh: Weighing,
        finish: Finish | None = None,
        *,
        by_query: bool = False,
        of_attended: bool = False,
        scratch: Scratch | None = None,
        keep: bool = False,
    ) -> None:
        self._node: NodeEvidence | None = node
        self._keep = keep
        self._scratch = scratch or Scratch()
        self._weigh, self._finish = weigh, finish
        self._in_parts = by_query and node.divisible
        self._of_attended = of_attended
        self._passes_by = node.awaited
        self._matrix: Tensor | None = None
        self._some: Tensor | None = None

    @classmethod
    def of_matrix(cls, matrix: Tensor | None) -> NodeMap:
        """A map that is there already; None where the target does not depend on the node."""
        made = cls.__new__(cls)
        made._node, made._matrix, made._some = None, matrix, None
        made._in_parts = made._passes_by = made._keep = False
        return made

    def matrix(self) -> Tensor | None:
        """(token groups, queries, keys); None where the target does not depend on the node."""
        if self._node is not None and self._matrix is None:
            self._matrix = self._by_tiles()
            if not self._keep:
                self._node = None
        return self._matrix

    def _by_tiles(self) -> Tensor | None:
        """The whole map, some queries at a time; later keys that a causal node hides stay 0."""
        assert self._node is not None
        whole: Tensor | None = None
        for queries, tile in self._tiles():
            if tile.seen.queries is None:  # that is all
                return self._map(tile)
            made = self._map(self._of_earlier_keys(tile))
            if made is None:
                return None
            if whole is None:
                whole = made.new_empty(len(made), *self._node.seen.shape[-2:])
            whole[:, queries, : made.shape[-1]] = made
            whole[:, queries, made.shape[-1] :] = 0
        return whole

    def _of_earlier_keys(self, tile: NodeEvidence) -> NodeEvidence:
        """A tile without the keys that it hides, where it is known to hide all that come later."""
        if self._of_attended and tile.is_causal and isinstance(tile.seen.queries, slice):
            return tile.without_later_keys()
        return tile

    @property
    def pattern(self) -> Hashable | None:
        """By what the map is made, if it is not yet and can be together with others."""
        node = self._node
        return (
            node.pattern if node is not None and self._in_parts and self._matrix is None else None
        )

    @staticmethod
    def make_at_once(alike: Sequence[NodeMap]) -> None:
        """Make the maps of nodes of one pattern, as one batch."""
        first, nodes = alike[0], [each._node for each in alike]
        one = nodes[0]
        assert one is not None
        numbers = zip(*(node.seen.numbers for node in nodes if node is not None), strict=True)
        with torch.no_grad():
            stacked = [*map(torch.stack, numbers)]
            if one.seen.stacks:
                made = first._head_mean(one.repeated(stacked)).unflatten(0, (len(nodes), -1))
            else:
                made = torch.vmap(lambda *own: first._head_mean(one.with_numbers(own)))(*stacked)
        for each, matrix in zip(alike, made.unbind(), strict=True):
            each._matrix = matrix
            each._node = each._node if each._keep else None

    @property
    def awaited(self) -> bool:
        """Whether the node's gradient is still to come."""
        return self._node is not None and self._node.awaited

    @property
    def is_there(self) -> bool:
        """Whether the target depends on the node.

        A node whose gradient is still to come counts as one that it depends on.
        """
        if self._node is not None and self._matrix is None and self._node.is_reached:
            return True
        return self.some() is not None

    def some(self) -> Tensor | None:
        """No more of the map than shows its type and device, or that there is none."""
        if self._node is not None and self._matrix is None and self._node.is_reached:
            operand = self._node.seen.alike[0]
            some: Tensor = operand.new_empty(0, dtype=wide(operand).to_real())
            return some
        if self._node is None or not self._in_parts:
            return self.matrix()
        if self._some is None:
            self._some = self._map(self._node.part(slice(0, 0)))
        return self._some

    def times(self, x: Tensor) -> Tensor:
        """The map times (token groups, keys, c)."""
        if self._made_for(None):
            return self._whole() @ x
        return torch.cat([self._tile_of(tile, x) for _, tile in self._tiles()], 1)

    def transposed_times(
        self, x: Tensor, used: Tensor | None = None, *, once: bool = False
    ) -> Tensor | None:
        """The transposed map times (token groups, queries, c); None where there is no map.

        `used` are the queries where x need not be 0, if these are not all. `once` says that nothing
        else will be asked of the map: it need not be kept, nor what a node saw that was awaited.
        """
        count = x.shape[1] if used is None else len(used)
        by_tiles = self._matrix is None and once and self._product_is_less(x)
        if not by_tiles and self._made_for(count):
            matrix = self.matrix()
            made = None if matrix is None else matrix.transpose(-1, -2) @ x
        else:
            made = self._transposed_by_tiles(x, used)
        if once and self._passes_by:
            self._node, self._matrix = None, None
        return made

    def _transposed_by_tiles(self, x: Tensor, used: Tensor | None) -> Tensor | None:
        some = used if used is not None and 2 * len(used) < x.shape[1] else None
        assert self._node is not None
        total = None
        for queries, tile in self._tiles(some):
            if tile.seen.queries is None:  # that is all
                return self._tile_times(tile, x)
            if total is None:
                total = x.new_zeros(len(x), self._node.seen.shape[-1], x.shape[-1])
            made = self._tile_times(self._of_earlier_keys(tile), x[:, queries])
            if made is None:
                return None
            total[:, : made.shape[1]] += made
        return total

    def by_head(self, queries: Tensor | None = None) -> Iterator[tuple[slice | Tensor, Tensor]]:
        """The map before the mean over heads, (groups, heads, queries, keys), some queries at a time.

        With the queries that each part is of. `queries` asks for some of them alone, where the map can
        be divided. Only of a map that was made with `keep`, and without a finish.
        """
        assert self._keep, "the node was let go of"
        assert self._finish is None, "what is done to the mean cannot be done to a head"
        for places, tile in self._tiles(queries):
            weighed = self._weigh(tile)
            if weighed is not None:
                yield places, weighed

    # -- tiles --------------------------------------------------------------------------------------

    def _made_for(self, queries: int | None) -> bool:
        """Whether to have the whole map: it is made, cannot be divided, or is less to keep.

        A map that is needed for a few of its queries only is not made for them.
        """
        node = self._node
        if node is None or self._matrix is not None or not self._in_parts:
            return True
        *_, count, keys = node.seen.shape
        if queries is not None and 2 * queries < count:
            return False
        return len(node.node.rows) * count * keys <= node.size

    def _product_is_less(self, x: Tensor) -> bool:
        """Whether heads and queries can be summed over at once, with no map in between."""
        node = self._node
        return node is not None and self._in_parts and self._sums_at_once(node, x)

    def _sums_at_once(self, tile: NodeEvidence, x: Tensor) -> bool:
        return tile.layout.fold is None and self._finish is None and x.shape[-1] == 1

    def _whole(self) -> Tensor:
        matrix = self.matrix()
        assert matrix is not None
        return matrix

    def _tiles(self, some: Tensor | None = None) -> Iterator[tuple[slice | Tensor, NodeEvidence]]:
        """The node's queries, or some of them, a few at a time."""
        node = self._node
        assert node is not None
        *lead, count, keys = node.seen.shape
        device = node.seen.alike[0].device.type
        size = max(1, TILE.get(device, LARGE_TILE) // max(1, math.prod(lead) * keys))
        if not self._in_parts:
            yield slice(0, count), node
            return
        node = node.prepared(self._scratch)
        if some is None and size >= count:
            yield slice(0, count), node
            return
        for start in range(0, count if some is None else len(some), size):
            if some is None:
                queries: slice | Tensor = slice(start, min(start + size, count))
            else:
                queries = some[start : start + size]
            yield queries, node.part(queries)

    def _map(self, tile: NodeEvidence) -> Tensor | None:
        weighed = self._weigh(tile)
        if weighed is None:
            return None
        made = tile.layout.mean_over_heads(weighed)
        return made if self._finish is None else self._finish(made)

    def _head_mean(self, tile: NodeEvidence) -> Tensor:
        made = self._map(tile)
        assert made is not None
        return made

    def _tile_of(self, tile: NodeEvidence, x: Tensor) -> Tensor:
        """The tile times x: sums over heads and keys at once where that can be."""
        if not self._sums_at_once(tile, x):
            return self._head_mean(tile) @ x
        weighed = self._weigh(tile)
        assert weighed is not None
        by_head: Tensor = (weighed.flatten(1, 2) @ x).unflatten(1, weighed.shape[1:3])
        return by_head.sum(1).div_(weighed.shape[1] * tile.layout.parts)

    def _tile_times(self, tile: NodeEvidence, x: Tensor) -> Tensor | None:
        """The tile's transpose times x: sums over heads and queries at once where that can be."""
        layout = tile.layout
        if not self._sums_at_once(tile, x):
            made = self._map(tile)
            return None if made is None else made.transpose(-1, -2) @ x
        weighed = self._weigh(tile)
        if weighed is None:
            return None
        groups, heads, queries, keys = weighed.shape
        shares = x.unsqueeze(1).expand(-1, heads, -1, -1).reshape(groups, heads * queries, -1)
        by_key = weighed.reshape(groups, heads * queries, keys).transpose(-1, -2)
        return (by_key @ shares).div_(heads * layout.parts)


class NodeMaps(Mapping[int, Tensor | None]):
    """The maps of all attention nodes by index; each is made when it is asked for."""

    def __init__(self, maps: Mapping[int, NodeMap]) -> None:
        self._maps = dict(maps)

    @classmethod
    def over(cls, maps: Mapping[int, Tensor | None], without: set[int]) -> NodeMaps:
        """Maps, made already or not, with none for the nodes of `without`."""
        of = maps._maps if isinstance(maps, NodeMaps) else None
        return cls(
            {
                index: NodeMap.of_matrix(None)
                if index in without
                else (of[index] if of is not None else NodeMap.of_matrix(maps[index]))
                for index in maps
            }
        )

    def __getitem__(self, index: int) -> Tensor | None:
        return self._maps[index].matrix()

    def __iter__(self) -> Iterator[int]:
        return iter(self._maps)

    def __len__(self) -> int:
        return len(self._maps)

    def make_alike(self) -> None:
        """Make the maps of nodes that differ in their numbers alone, each kind of them as one batch.

        For nodes so small that an operation costs no more for all of them than for one.
        """
        kinds: dict[Hashable, list[NodeMap]] = {}
        for each in self._maps.values():
            if (pattern := each.pattern) is not None:
                kinds.setdefault(pattern, []).append(each)
        for alike in kinds.values():
            if len(alike) > 1:
                NodeMap.make_at_once(alike)

    def of(self, index: int) -> NodeMap:
        """The map of one node, made or not."""
        return self._maps[index]

    def some(self, index: int) -> Tensor | None:
        """See `NodeMap.some`."""
        return self._maps[index].some()
