"""The nodes of a program: attention nodes and routes, with their token maps and versions."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, fx

from fxplain.tokens import AttentionSite

__all__ = [
    "AttentionNode", "KeyBlock", "MapLayout", "Positions", "ProgramNode", "ProgramRoute",
    "RouteEntries", "RouteNode",
]  # fmt: skip


@dataclass(frozen=True)
class AttentionNode:
    """One attention: a place where normalised weights are contracted against tokens.

    Attributes
    ----------
    name
        Unique name in the graph.
    module
        Path of the module that it belongs to.
    kind
        "self", "co", "encoder-decoder" or "pooling".
    query, key
        Names of the modalities of queries and of keys.
    heads, q_len, k_len
        As the attention tensor has them (a window's size for windowed attention).
    form
        "fused", "product" or "weighted_sum": how the model computes it.
    query_stream, key_streams
        Names of the streams that it updates and reads.
    """

    name: str
    module: str
    kind: str
    query: tuple[str, ...]
    key: tuple[str, ...]
    heads: int
    q_len: int
    k_len: int
    form: str
    query_stream: str
    key_streams: tuple[str, ...]


@dataclass(frozen=True)
class RouteNode:
    """A place where tokens are mixed by fixed weights: pooling, patch merging, a convolution.

    Attributes
    ----------
    name, module
        The graph node's name and its module path.
    operation
        The operation's name.
    source, target
        Names of the streams that it reads and makes.
    """

    name: str
    module: str
    operation: str
    source: tuple[str, ...]
    target: str


@dataclass(frozen=True, eq=False)
class MapLayout:
    """How a weights tensor (..., queries, keys) splits into token groups and heads.

    Attributes
    ----------
    permutation
        Axes of the weights in the order (groups..., heads..., queries, keys).
    groups, heads
        The sizes: the permuted weights reshape to (groups, heads, queries, keys).
    fold
        For heads folded into the batch axis: the token group that each of `groups` belongs to.
    per_query
        Whether each query is a group, since it has keys of its own (local attention).
    apart
        How many heads stand where tokens do: among `groups` or the queries, or side by side among
        the keys.
    siblings
        How many times as many heads as this node's the whole attention has, of which it holds some.
    shares
        Each row's share of its token's map, (token groups, queries), where tokens have different
        numbers of rows; None where `apart` says it for all.
    """

    permutation: tuple[int, ...]
    groups: int
    heads: int
    fold: Tensor | None = None
    per_query: bool = False
    apart: int = 1
    siblings: float = 1
    shares: Tensor | None = None

    def split(self, weights: Tensor) -> Tensor:
        """(..., queries, keys) to (groups, heads, queries, keys)."""
        if self.per_query:
            weights = weights.unsqueeze(-2)
        q, k = weights.shape[-2:]
        return weights.permute(self.permutation).reshape(self.groups, self.heads, q, k)

    def repeated(self, count: int) -> MapLayout:
        """The layout of as many such weights along a first axis; their groups follow each other."""
        assert self.fold is None, "heads among the groups are of one tensor"
        permutation = (0, *(axis + 1 for axis in self.permutation))
        return replace(self, permutation=permutation, groups=count * self.groups)

    def mean_over_heads(self, weights: Tensor) -> Tensor:
        """(groups, heads, queries, keys) to (token groups, queries, keys)."""
        blocks = weights.mean(1) / self.parts
        if self.fold is None:
            return blocks
        return self.summed_over_fold(blocks) / self.fold.bincount().to(blocks).reshape(-1, 1, 1)

    def summed_over_fold(self, blocks: Tensor) -> Tensor:
        """(groups, ...) to (token groups, ...): the sum over heads that stand among the groups."""
        if self.fold is None:
            return blocks
        fold = self.fold.to(blocks.device)
        summed = blocks.new_zeros(int(fold.max()) + 1, *blocks.shape[1:])
        return summed.index_add_(0, fold, blocks)

    @property
    def parts(self) -> float:
        """How many maps of heads add up to one, besides those of the axis of heads."""
        return self.apart * self.siblings

    @property
    def head_count(self) -> int:
        """The number of heads, folded ones included."""
        heads = self.heads * self.apart
        if self.fold is None:
            return heads
        return heads * len(self.fold) // (int(self.fold.max()) + 1)


class Positions:
    """Where the rows of a node stand in a stream, (token groups, rows); -1 for those of another.

    What is asked of them is found once, so that a warm call asks nothing of a tensor.
    """

    def __init__(self, at: Tensor) -> None:
        self.at = at
        self._copies = {at.device: at}

    def on(self, device: torch.device) -> Tensor:
        """The positions on a device."""
        if device not in self._copies:
            self._copies[device] = self.at.to(device)
        return self._copies[device]

    @cached_property
    def in_order(self) -> int | None:
        """n, where every group holds the positions 0, 1, ..., n - 1 in order."""
        n = self.at.shape[1]
        return n if bool((self.at == torch.arange(n, device=self.at.device)).all()) else None


@dataclass(frozen=True, eq=False)
class KeyBlock:
    """The keys of a node that belong to one stream.

    Attributes
    ----------
    stream
        Index of the stream.
    columns
        Position of each key in the stream, (groups, keys); -1 for keys of other streams.
    versions
        What the stream's tokens have absorbed when they are attended: one version, or (batch, n).
    same
        Whether queries and keys are one joint sequence (after routes): self-attention.
    """

    stream: int
    columns: Tensor
    versions: int | Tensor
    same: bool

    @cached_property
    def positions(self) -> Positions:
        """The columns, with what is known of them."""
        return Positions(self.columns)


@dataclass(frozen=True, eq=False)
class ProgramNode:
    """An attention node as the scheduler runs it.

    Attributes
    ----------
    info
        What users see of it.
    index
        Position among the updates; versions speak of it.
    site
        Where it is in the captured graph.
    layout
        How its weights tensor splits into token groups and heads.
    stream
        The stream whose rows it updates.
    samples, rows
        The sample of each token group; the position of each query in the stream, (groups, queries).
    row_versions
        What the stream's tokens have absorbed when they query: one version, or (batch, n).
    blocks
        The keys, by stream.
    family
        The nodes that hold the heads of one attention with it, in order; itself alone, if it has all.
    """

    info: AttentionNode
    index: int
    site: AttentionSite
    layout: MapLayout
    stream: int
    samples: Tensor
    rows: Tensor
    row_versions: int | Tensor
    blocks: tuple[KeyBlock, ...]
    family: tuple[int, ...] = ()

    def dense(self, groups: Tensor, block: KeyBlock, sizes: tuple[int, int, int]) -> Tensor:
        """Token groups (groups, queries, keys) embedded in the full token matrix.

        Parameters
        ----------
        groups
            The node's map by token group.
        block
            The block of keys.
        sizes
            (batch, query tokens, key tokens) of the result.
        """
        batch, n_rows, n_columns = sizes
        groups = self.shared(groups)
        in_order = self.positions.in_order == n_rows and block.positions.in_order == n_columns
        if in_order and self._samples.in_order == batch:
            return groups
        rows, columns = (x.on(groups.device) for x in (self.positions, block.positions))
        samples = self._samples.on(groups.device).squeeze(0)
        flat_rows = samples.unsqueeze(1) * n_rows + rows
        index = flat_rows.unsqueeze(2) * n_columns + columns.unsqueeze(1)
        real = (rows >= 0).unsqueeze(2) & (columns >= 0).unsqueeze(1)
        result = groups.new_zeros(batch * n_rows * n_columns)
        result.index_add_(0, index[real], groups[real])
        return result.reshape(batch, n_rows, n_columns)

    def shared(self, by_row: Tensor) -> Tensor:
        """Values by token group and query, (groups, queries, c), each with its row's share."""
        shares = self.layout.shares
        return by_row if shares is None else by_row * shares.to(by_row).unsqueeze(-1)

    def repeated(self, count: int) -> ProgramNode:
        """As many of the node along a first axis of its weights: of what its map is made of alone."""
        if count not in self._repeated:
            site = replace(self.site, shape=(count, *self.site.shape))
            self._repeated[count] = replace(self, site=site, layout=self.layout.repeated(count))
        return self._repeated[count]

    @cached_property
    def _repeated(self) -> dict[int, ProgramNode]:
        return {}

    @cached_property
    def pattern(self) -> Hashable:
        """By what its map is made: the same for nodes that differ in their numbers alone."""
        site, layout = self.site, self.layout
        return (
            *(site.form, site.shape, site.weights_on_left, site.axis, site.query_axis),
            str(fx.map_arg((site.node.args, site.node.kwargs), lambda _: None)),
            *(layout.permutation, layout.groups, layout.heads, layout.per_query, layout.parts),
        )

    @cached_property
    def positions(self) -> Positions:
        """The rows, with what is known of them."""
        return Positions(self.rows)

    @cached_property
    def _samples(self) -> Positions:
        """The samples of the token groups, (1, groups)."""
        return Positions(self.samples.unsqueeze(0))

    def are_all(self, positions: Positions, sizes: tuple[int, int]) -> bool:
        """Whether positions are all the tokens of a stream in order; `sizes` are its (batch, n)."""
        return positions.in_order == sizes[1] and self._samples.in_order == sizes[0]

    def gathered(self, x: Tensor, positions: Positions) -> Tensor:
        """Vectors over a stream's tokens, (batch, n, c), by token group, (groups, positions, c).

        `positions` are the node's, or those of one of its blocks; those of other streams get zeros.
        """
        if self.are_all(positions, (x.shape[0], x.shape[1])):
            return x
        at, samples = positions.on(x.device), self._samples.on(x.device).squeeze(0)
        found = x[samples.unsqueeze(1), at.clamp(min=0)]
        return found.masked_fill((at < 0).unsqueeze(-1), 0)

    def scattered(self, x: Tensor, positions: Positions, sizes: tuple[int, int]) -> Tensor:
        """The way back: vectors by token group added up over a stream's tokens.

        `sizes` are (batch, n) of the stream.
        """
        if self.are_all(positions, sizes):
            return x
        batch, n = sizes
        at, samples = positions.on(x.device), self._samples.on(x.device).squeeze(0)
        real = at >= 0
        index = (samples.unsqueeze(1) * n + at.clamp(min=0)).flatten()
        result = x.new_zeros(batch * n, x.shape[-1])
        result.index_add_(0, index, torch.where(real.unsqueeze(-1), x, 0).flatten(0, 1))
        return result.reshape(batch, n, -1)


@dataclass(frozen=True, eq=False)
class ProgramRoute:
    """A route as the scheduler runs it.

    Attributes
    ----------
    info
        What users see of it.
    index
        Position among the updates.
    stream
        The stream whose rows it makes.
    entries
        Its weights, by source stream and version.
    over_samples
        Whether a token that it makes is of tokens of several samples, as a mean of the batch is.
    """

    info: RouteNode
    index: int
    stream: int
    entries: tuple[RouteEntries, ...]
    over_samples: bool = False


@dataclass(frozen=True, eq=False)
class RouteEntries:
    """One entry per pair of a made token and one that it is made of.

    Attributes
    ----------
    stream, version
        Where the old tokens are and what they have absorbed.
    samples, new, old, shares
        Sample, position of the made token, position of the old one, and its share.
    """

    stream: int
    version: int
    samples: Tensor
    new: Tensor
    old: Tensor
    shares: Tensor

    def carried(self, x: Tensor, sizes: tuple[int, int]) -> Tensor:
        """P x: vectors over the old tokens, (batch, old, c), carried to the made ones.

        `sizes` are (batch, n) of the made tokens' stream.
        """
        return self._moved(x, self.old, self.new, sizes)

    def carried_back(self, x: Tensor, sizes: tuple[int, int]) -> Tensor:
        """P^T x: vectors over the made tokens, (batch, new, c), given to the old ones."""
        return self._moved(x, self.new, self.old, sizes)

    def _moved(self, x: Tensor, source: Tensor, to: Tensor, sizes: tuple[int, int]) -> Tensor:
        batch, n = sizes
        samples, source, to = (t.to(x.device) for t in (self.samples, source, to))
        moved = x[samples, source] * self.shares.to(x).unsqueeze(-1)
        result = x.new_zeros(batch * n, x.shape[-1]).index_add_(0, samples * n + to, moved)
        return result.reshape(batch, n, -1)
