"""The program: attention nodes and routes over streams, as a small DAG ordered by versions."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from fxplain.capture import Memo, module_path
from fxplain.program.heads import distinct_in_row, heads_among_keys, heads_among_rows, sibling_heads
from fxplain.program.mixings import settle_mixings
from fxplain.program.modalities import Modality
from fxplain.program.nodes import (
    AttentionNode,
    KeyBlock,
    MapLayout,
    ProgramNode,
    ProgramRoute,
    RouteEntries,
    RouteNode,
)
from fxplain.program.streams import Stream, StreamTable
from fxplain.tokens import (
    IDENTITY,
    AttentionSite,
    RouteSite,
    TokenFlow,
    Versions,
    pack,
    tokens_in,
    versions_in,
)

__all__ = ["Program", "build_program"]


@dataclass(frozen=True, eq=False)
class Program:
    """What a captured model does with tokens.

    Attributes
    ----------
    flow
        The token analysis that it was built from.
    streams, modalities
        Row sets of the relevancy matrices; named token groups that users see.
    nodes, routes
        Attention nodes and routes by their position among the updates.
    token_stream, token_index
        For each canonical token its stream and its position there.
    births
        Updates that gave birth to tokens: in a version they mean identity.
    chunks
        For each node that is a part of one attention, all parts: what absorbed one absorbed the
        attention.
    memo
        What later stages derived from the program and may use again.
    """

    flow: TokenFlow
    streams: tuple[Stream, ...]
    modalities: tuple[Modality, ...]
    nodes: dict[int, ProgramNode]
    routes: dict[int, ProgramRoute]
    token_stream: np.ndarray
    token_index: np.ndarray
    token_sample: np.ndarray
    births: frozenset[int] = frozenset()
    chunks: dict[int, tuple[int, ...]] = field(default_factory=dict)
    memo: Memo = field(default_factory=Memo, repr=False)

    @property
    def versions(self) -> Versions:
        """The versions that nodes and readouts speak of."""
        return self.flow.versions

    def rows_of(self, update: int) -> int:
        """The stream whose rows an update changes."""
        return (self.nodes.get(update) or self.routes[update]).stream

    def stream_of(self, table: Tensor) -> int:
        """The stream of a modality's table of tokens, (samples, positions); found once."""

        def first() -> int:
            return int(self.token_stream[int(table[table >= 0][0])])

        stream: int = self.memo.made(("stream", id(table)), first)
        return stream

    def lineage(self, stream: int, before: int) -> set[int]:
        """The stream and those that routes made it of, as of the update `before`."""
        found, todo = {stream}, [stream]
        while todo:
            current = todo.pop()
            for route in self.routes.values():
                if route.stream == current and route.index < before:
                    for entry in route.entries:
                        if entry.stream not in found:
                            found.add(entry.stream)
                            todo.append(entry.stream)
        return found

    def routed(self, stream: int) -> Tensor:
        """Which of a stream's tokens, (batch, n), a route made: they have no identity of their own."""
        tokens, book = self.streams[stream].tokens, self.flow.book
        made = torch.tensor([birth.kind == "route" for birth in book.births])
        return made[book.births_of(tokens.clamp(min=0))] & (tokens >= 0)

    def merged_places(self, modality: Modality, sample: int | None = None) -> list[tuple[int, ...]]:
        """The positions of a modality's tokens that routes make one token of, for each of these.

        `sample` is the row of the modality's tokens that they are of; by default all.
        """
        every = modality.every if sample is None else modality.every[:, sample : sample + 1]
        rows = every.flatten(0, 1).tolist()
        place = {token: i for row in rows for i, token in enumerate(row) if token >= 0}
        groups: dict[tuple[int, int, int], set[int]] = {}
        for index, route in self.routes.items():
            for entry in route.entries:
                tokens = self.streams[entry.stream].tokens  # some have one row for all samples
                old = tokens[entry.samples.clamp(max=len(tokens) - 1), entry.old].tolist()
                made = zip(entry.samples.tolist(), entry.new.tolist(), old, strict=True)
                for sample, new, token in made:
                    if token in place:
                        groups.setdefault((index, sample, new), set()).add(place[token])
        return [tuple(sorted(group)) for group in groups.values()]

    def final_version(self, stream: int) -> int | Tensor:
        """What the stream's tokens have absorbed in the end: one version, or one each, (batch, n)."""
        tokens = self.streams[stream].tokens
        table = self._last_versions
        versions = torch.where(tokens >= 0, table[tokens.clamp(min=0)], table.new_full((), -1))
        found = versions[versions >= 0].unique()
        if len(found) == 1:
            return int(found)
        return versions.clamp(min=0)

    @cached_property
    def _last_versions(self) -> Tensor:
        """For each token the version with its last update, of several the one that holds most.

        What the model returns of a token comes before what it computes of it and drops.
        """
        returned = [tag.ids.reshape(-1) for tags in self.flow.outputs for tag in tags]
        seen = self._without_leftovers(self.flow.seen, returned)
        table = torch.zeros(len(self.flow.book), dtype=torch.int64)
        ranks = [self._rank(index) for index in range(len(self.versions))]
        order = {rank: i for i, rank in enumerate(sorted(set(ranks)))}
        places = torch.tensor([order[rank] for rank in ranks], dtype=torch.int64)
        for entries in (seen, torch.cat(returned) if returned else None):
            if entries is None:
                continue
            entries = entries[entries >= 0].unique()
            versions = versions_in(entries)
            by_rank = places[versions].argsort(stable=True)  # the highest is written last
            tokens = self.flow.book.find(tokens_in(entries))[by_rank].tolist()
            for token, version in zip(tokens, versions[by_rank].tolist(), strict=True):
                table[token] = version
        return table

    def _without_leftovers(self, seen: Tensor, returned: list[Tensor]) -> Tensor:
        """What tokens have absorbed, without what a node gave to rows that nothing reads.

        A node's bare output is what is left of its tokens where others' was added to their residual
        streams and theirs was not: a joint attention's rows for the modality that is not read.
        """
        used = [x.reshape(-1) for x in returned]
        for update in self.flow.updates:
            if isinstance(update, AttentionSite):
                used += [update.rows.reshape(-1), update.columns.reshape(-1)]
            elif isinstance(update, RouteSite):
                used.append(update.old.reshape(-1))
        sets = [self.versions.of(index) for index in range(len(self.versions))]
        bare = [
            i for i, own in enumerate(sets)
            if own and own <= self.nodes.keys() and any(self._joined(own, other) for other in sets)
        ]  # fmt: skip
        left = torch.isin(versions_in(seen), torch.tensor(bare, dtype=torch.int64))
        if not bool(left.any()):
            return seen
        every = self._canonical(seen)
        left &= ~torch.isin(every, self._canonical(torch.cat(used))) if used else left
        others = tokens_in(every[~left])
        return seen[~left | ~torch.isin(tokens_in(every), others)]

    def _joined(self, own: frozenset[int], other: frozenset[int]) -> bool:
        """Whether what nodes say (all heads of one attention, a chunk of it) was added to more."""
        return len(other) > len(own) and all(
            not other.isdisjoint(self.chunks.get(update, (update,))) for update in own
        )

    def _canonical(self, entries: Tensor) -> Tensor:
        return pack(self.flow.book.find(tokens_in(entries)), versions_in(entries))

    def _rank(self, version: int) -> tuple[int, bool, int]:
        updates = self.versions.of(version)
        if any(u in self.nodes and not self.nodes[u].site.node.users for u in updates):
            return -2, False, 0  # nothing reads it: the capture left it out of what came after
        own = [u for u in updates if u in self.nodes or u in self.routes]
        born = IDENTITY in updates or not self.births.isdisjoint(updates)
        return max(own, default=-1), born, len(own)


def build_program(flow: TokenFlow) -> Program:
    """Turn the token analysis into a program.

    Requires the result of `fxplain.tokens.follow_tokens`. Ensures that every row and every key of a
    node has its stream, and that nodes come in program order.
    """
    births = settle_mixings(flow)
    table = StreamTable(flow)
    builder = _Builder(flow, table)
    nodes = {u.index: builder.attention(u) for u in flow.updates if isinstance(u, AttentionSite)}
    routes = {u.index: builder.route(u) for u in flow.updates if isinstance(u, RouteSite)}
    program = Program(
        flow,
        tuple(table.streams),
        tuple(table.modalities),
        nodes,
        routes,
        table.token_stream,
        table.token_index,
        table.sample,
        births,
        table.chunks,
    )
    names: dict[str, int] = {}
    for index, node in nodes.items():
        name = node.info.module or node.info.name
        names[name] = names.get(name, 0) + 1
        unique = name if names[name] == 1 else f"{name}#{names[name]}"
        joint = index in builder.joint
        info = replace(node.info, name=unique, kind=_kind(program, node, joint=joint))
        nodes[index] = replace(node, info=info)
    return program


class _Builder:
    def __init__(self, flow: TokenFlow, table: StreamTable) -> None:
        self.flow = flow
        self.table = table
        self.names = _modality_names(table)
        self.parts = _names_with_routes(table, {t: (n,) for t, n in table.parts.items()})
        self.joint: set[int] = set()
        """Nodes whose queries and keys are of the same parts of modalities."""
        self.families = sibling_heads(flow)
        self._heads: dict[tuple[int, ...], int] = {}

    def attention(self, site: AttentionSite) -> ProgramNode:
        rows, columns, layout = _groups(self.flow, site)
        row_tokens = self.flow.book.find(tokens_in(rows))
        column_tokens = self.flow.book.find(tokens_in(columns))
        family = self.families.get(site.index, (site.index,))
        if len(family) > 1:
            layout = replace(layout, siblings=self._heads_of(family) / layout.head_count)
        stream = self._one_stream(row_tokens)
        samples = self._samples(site, row_tokens, column_tokens)
        blocks = tuple(
            self._block(stream, key, columns, column_tokens) for key in self._streams(column_tokens)
        )
        if self._parts(row_tokens) == self._parts(column_tokens):
            self.joint.add(site.index)
        names = [s.name for s in self.table.streams]
        info = AttentionNode(
            name=site.node.name,
            module=module_path(site.softmax) or module_path(site.node),
            kind="self",
            query=self._modalities(row_tokens) or ("pooled",),
            key=self._modalities(column_tokens),
            heads=layout.head_count,
            q_len=distinct_in_row(self.flow, site.rows.squeeze(-1), site.shape[-2]),
            k_len=site.shape[-1],
            form=site.form,
            query_stream=names[stream],
            key_streams=tuple(names[block.stream] for block in blocks),
        )
        return ProgramNode(
            info=info,
            index=site.index,
            site=site,
            layout=layout,
            stream=stream,
            samples=samples,
            rows=self._positions(row_tokens, stream),
            row_versions=self._versions(rows, row_tokens, stream),
            blocks=blocks,
            family=family,
        )

    def _heads_of(self, family: tuple[int, ...]) -> int:
        """How many heads the sites of one attention have together."""
        if family not in self._heads:
            sites = (self.flow.updates[index] for index in family)
            counts = (
                _groups(self.flow, s)[2].head_count for s in sites if isinstance(s, AttentionSite)
            )
            self._heads[family] = sum(counts)
        return self._heads[family]

    def _streams(self, tokens: Tensor) -> list[int]:
        real = tokens[tokens >= 0].numpy()
        return [int(s) for s in np.unique(self.table.token_stream[real]) if s >= 0]

    def _one_stream(self, tokens: Tensor) -> int:
        streams = self._streams(tokens)
        assert len(streams) == 1, "the queries of a node are one stream by construction"
        return streams[0]

    def _samples(self, site: AttentionSite, rows: Tensor, columns: Tensor) -> Tensor:
        """The sample of each token group; attention across samples is reported."""
        first = torch.where(rows >= 0, rows, -1).amax(1)
        samples = torch.as_tensor(self.table.sample[first.clamp(min=0).numpy()])
        of_keys = torch.as_tensor(self.table.sample[columns.clamp(min=0).numpy()])
        if bool(((of_keys != samples.unsqueeze(1)) & (columns >= 0)).any()):
            message = (
                f"attention in {module_path(site.node) or 'the model'} reaches across the samples of "
                f"the batch: explain one sample at a time to be sure of its relevance, or say "
                f"which axis of the inputs holds the samples: batch_axis="
            )
            if message not in self.flow.warnings:
                self.flow.warnings.append(message)
        return samples

    def _positions(self, tokens: Tensor, stream: int) -> Tensor:
        """The position of each token in `stream`, -1 for tokens of other streams."""
        clamped = tokens.clamp(min=0).numpy()
        here = (self.table.token_stream[clamped] == stream) & (tokens.numpy() >= 0)
        return torch.as_tensor(np.where(here, self.table.token_index[clamped], -1))

    def _block(self, rows: int, stream: int, columns: Tensor, tokens: Tensor) -> KeyBlock:
        streams = self.table.streams
        return KeyBlock(
            stream=stream,
            columns=self._positions(tokens, stream),
            versions=self._versions(columns, tokens, stream),
            same=streams[rows].root == streams[stream].root,
        )

    def _versions(self, entries: Tensor, tokens: Tensor, stream: int) -> int | Tensor:
        positions = self._positions(tokens, stream)
        real = positions >= 0
        versions = versions_in(entries)[real]
        found = versions.unique()
        if len(found) == 1:
            return int(found)
        table = torch.zeros_like(self.table.streams[stream].tokens)
        samples = torch.as_tensor(self.table.sample[tokens.clamp(min=0).numpy()])[real]
        table[samples, positions[real]] = versions
        return table

    def _parts(self, tokens: Tensor) -> set[str]:
        real = tokens[tokens >= 0].unique().tolist()
        return {name for token in real for name in self.parts.get(token, ())}

    def _modalities(self, tokens: Tensor) -> tuple[str, ...]:
        real = tokens[tokens >= 0].unique().tolist()
        names = dict.fromkeys(name for token in real for name in self.names.get(token, ()))
        order = [m.name for m in self.table.modalities]
        return tuple(sorted(names, key=order.index))

    def route(self, site: RouteSite) -> ProgramRoute:
        book = self.flow.book
        new, old = book.find(site.new), book.find(tokens_in(site.old))
        stream = self._streams(new)
        assert stream, "a route makes tokens"
        versions = versions_in(site.old)
        entries = []
        for old_stream in self._streams(old):
            for version in versions.unique().tolist():
                of_stream = torch.as_tensor(self.table.token_stream[old.numpy()] == old_stream)
                here = of_stream & (versions == version)
                if here.any():
                    entries.append(
                        RouteEntries(
                            stream=old_stream,
                            version=int(version),
                            samples=torch.as_tensor(self.table.sample[new[here].numpy()]),
                            new=torch.as_tensor(self.table.token_index[new[here].numpy()]),
                            old=torch.as_tensor(self.table.token_index[old[here].numpy()]),
                            shares=site.weights[here],
                        )
                    )
        names = [s.name for s in self.table.streams]
        info = RouteNode(
            name=site.node.name,
            module=module_path(site.node),
            operation=site.operation,
            source=tuple(dict.fromkeys(names[entry.stream] for entry in entries)),
            target=names[stream[0]],
        )
        made = new.unique(return_inverse=True)[1]
        samples = torch.as_tensor(self.table.sample[old.numpy()])
        pairs = torch.stack([made, samples]).unique(dim=1)
        over_samples = pairs.shape[1] > int(made.max()) + 1
        return ProgramRoute(info, site.index, stream[0], tuple(entries), over_samples)


def _modality_names(table: StreamTable) -> dict[int, tuple[str, ...]]:
    """Modality names of every token."""
    names: dict[int, tuple[str, ...]] = {
        t: (m.name,) for m in table.modalities for t in m.every.flatten().tolist() if t >= 0
    }
    return _names_with_routes(table, names)


def _names_with_routes(
    table: StreamTable, names: dict[int, tuple[str, ...]]
) -> dict[int, tuple[str, ...]]:
    """The same, with those of routed tokens: the names of what they are made of."""
    for update in table.flow.updates:
        if isinstance(update, RouteSite):
            new = table.book.find(update.new).tolist()
            old = table.book.find(tokens_in(update.old)).tolist()
            made: dict[int, dict[str, None]] = {}
            for n, o in zip(new, old, strict=True):
                made.setdefault(n, {}).update(dict.fromkeys(names.get(o, ())))
            for n, of in made.items():
                names.setdefault(n, tuple(of))
    return names


def _groups(flow: TokenFlow, site: AttentionSite) -> tuple[Tensor, Tensor, MapLayout]:
    """Rows (groups, queries) and columns (groups, keys) as packed entries, and the layout."""
    shape, rows, columns = site.shape, site.rows, site.columns
    # each query has keys of its own (local attention), or is of a sample of its own
    per_query = columns.shape[-2] > 1 or _of_several_samples(flow, rows)
    if per_query:
        shape = (*shape[:-1], 1, shape[-1])
        rows, columns = rows.unsqueeze(-2), columns.unsqueeze(-2)
    lead = range(len(shape) - 2)
    heads = [x for x in lead if rows.shape[x] == 1 and columns.shape[x] == 1 and shape[x] > 1]
    groups = [x for x in lead if x not in heads]
    permutation = (*groups, *heads, len(shape) - 2, len(shape) - 1)
    full = [1 if x in heads else n for x, n in enumerate(shape[:-2])]
    rows = rows.expand(*full, shape[-2], 1).squeeze(-1)
    columns = columns.expand(*full, 1, shape[-1]).squeeze(-2)
    rows = rows.reshape(-1, shape[-2])
    columns = columns.reshape(-1, shape[-1])
    count = rows.shape[0]
    head_count = 1
    for axis in heads:
        head_count *= shape[axis]
    both = torch.cat([flow.book.find(tokens_in(rows)), flow.book.find(tokens_in(columns))], 1)
    distinct, fold = both.unique(dim=0, return_inverse=True)
    if len(distinct) < count and len(fold.bincount().unique()) == 1:
        first = torch.full((len(distinct),), count)
        first = first.scatter_reduce(0, fold, torch.arange(count), "amin")
        order = first.argsort()
        folded = order.argsort()[fold]
        rows, columns = rows[first[order]], columns[first[order]]
    else:
        folded = None
    apart, shares = heads_among_rows(flow, rows, columns)
    apart *= heads_among_keys(flow, site)
    layout = MapLayout(permutation, count, head_count, folded, per_query, apart, shares=shares)
    return rows, columns, layout


def _of_several_samples(flow: TokenFlow, rows: Tensor) -> bool:
    """Whether queries that stand in one group are of different samples."""
    samples = flow.book.samples(flow.book.find(tokens_in(rows)))
    low = torch.where(samples < 0, samples.amax(-2, keepdim=True), samples).amin(-2)
    return bool((low < samples.amax(-2)).any())


def _kind(program: Program, node: ProgramNode, *, joint: bool) -> str:
    """The kind as reported; the rules look at each block of keys instead."""
    roots = [stream.root for stream in program.streams]
    if all(block.same for block in node.blocks):
        return "self"
    if _is_pooling(program, node):
        return "pooling"
    if joint:  # the other keys are learned tokens of the same sequence
        return "self"
    others = {roots[block.stream] for block in node.blocks if not block.same}
    for other in program.nodes.values():
        if roots[other.stream] in others and any(
            roots[block.stream] == roots[node.stream] for block in other.blocks
        ):
            return "co"
    return "encoder-decoder"


def _is_pooling(program: Program, node: ProgramNode) -> bool:
    """A learned or missing query that attends once and is read out at once."""
    births = program.flow.book.births
    tokens = program.streams[node.stream].tokens
    kinds = {births[i].kind for i in program.flow.book.births_of(tokens[tokens >= 0]).tolist()}
    if not kinds <= {"parameter", "constant", "route"}:
        return False
    if kinds == {"route"} and any(r.stream == node.stream for r in program.routes.values()):
        return False
    heard = [n for n in program.nodes.values() if any(b.stream == node.stream for b in n.blocks)]
    if kinds == {"route"}:  # several glimpses without a query
        return not heard
    asking = [n for n in program.nodes.values() if n.stream == node.stream]
    return len({n.index for n in (*heard, *asking)}) == 1
