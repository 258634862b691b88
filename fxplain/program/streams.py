"""Streams: which tokens share a row set, in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, fx

from fxplain.program.chunks import chunked_attentions, sequences
from fxplain.program.groups import Groups
from fxplain.program.modalities import ModalityTable
from fxplain.program.roots import roots_of
from fxplain.program.samplewise import whole_births
from fxplain.tokens import (
    AttentionSite,
    Birth,
    Mixing,
    RouteSite,
    TokenBook,
    TokenFlow,
    Update,
    tokens_in,
)

__all__ = ["Stream", "StreamTable"]


@dataclass(frozen=True)
class Stream:
    """Tokens that are queries together: one row set of the relevancy matrices.

    Attributes
    ----------
    index
        Position in the program's streams.
    name
        The modalities in it, joined by "+".
    tokens
        Canonical token ids, (batch, n); -1 where a sample has fewer.
    root
        Streams that routes connect have the same root; queries and keys of one root are
        self-attention.
    """

    index: int
    name: str
    tokens: Tensor
    root: int

    def __len__(self) -> int:
        return int(self.tokens.shape[1])

    @property
    def batch(self) -> int:
        """The number of samples."""
        return int(self.tokens.shape[0])


class StreamTable:
    """Partition of all live tokens into streams and modalities.

    Tokens correspond across samples by (birth, place): the same place of the same birth is the same
    position of another sample's sequence.
    """

    def __init__(self, flow: TokenFlow) -> None:
        self.flow = flow
        self.book: TokenBook = flow.book
        self._resolve_samples()
        self.chunks = chunked_attentions(flow)
        self._wholes = sequences(flow, self.chunks)
        count = len(self.book)
        every = torch.arange(count)
        self.sample = self.book.samples(every).clamp(min=0).numpy()
        self._born = self.book.births_of(every).numpy()
        self.birth = whole_births(self.book, self._born, self.sample)
        self.place = _places(self.birth, self.sample)
        self.live = self._live_tokens()
        self._label_streams()
        self._collect()

    # -- samples ----------------------------------------------------------------------------------

    def _resolve_samples(self) -> None:
        """Tokens of a parameter get their sample from where they stand in an attention's batch axis.

        That is where the tokens that they attend with are of one sample, wherever the axis is.
        """
        batch = self.book.batch_size
        self._samples_by_company()
        for site in self.flow.updates:
            if not isinstance(site, AttentionSite) or batch == 1 or len(site.shape) < 3:
                continue
            size = site.shape[0]
            if size % batch:
                continue
            samples = (torch.arange(size) // (size // batch)).reshape(
                -1, *[1] * (len(site.shape) - 1)
            )
            for ids in (site.rows, site.columns):
                if ids.shape[0] != size:
                    continue
                tokens = self.book.find(tokens_in(ids))
                real = tokens >= 0
                self.book.set_samples(tokens[real], samples.expand(tokens.shape)[real])

    def _samples_by_company(self) -> None:
        """Tokens are of the sample whose tokens they attend with, or are made one with.

        What is known at one site tells of the tokens of others (images of which each sample has its
        own number, before they are merged and read beside its text), so this goes on until nothing new
        is told.
        """
        if self.book.batch_size == 1:
            return
        for _ in self.flow.updates:
            told = [
                self._by_route(update) if isinstance(update, RouteSite) else self._by_site(update)
                for update in self.flow.updates
                if isinstance(update, (AttentionSite, RouteSite))
            ]
            if not any(told):
                return

    def _by_site(self, site: AttentionSite) -> bool:
        """Whether one site tells the samples of tokens that were not known."""
        rows, columns = (self.book.find(tokens_in(ids)) for ids in (site.rows, site.columns))
        lead = torch.broadcast_shapes(rows.shape[:-2], columns.shape[:-2])
        tokens = torch.cat([x.flatten(-2).expand(*lead, -1) for x in (rows, columns)], -1)
        known = self.book.told(tokens)
        if not bool((~known & (tokens >= 0)).any()):
            return False
        samples = torch.where(known, self.book.samples(tokens), -1)
        high = samples.amax(-1, keepdim=True)
        low = torch.where(samples < 0, high, samples).amin(-1, keepdim=True)
        told = ((high == low) & (high >= 0) & (tokens >= 0)).expand(tokens.shape)
        return self.book.correct_samples(tokens[told], high.expand(tokens.shape)[told])

    def _by_route(self, route: RouteSite) -> bool:
        """Whether what one route makes of tokens tells their samples, or they tell its."""
        ends = [self.book.find(t.flatten()) for t in (route.new, tokens_in(route.old))]
        real = (ends[0] >= 0) & (ends[1] >= 0)
        known = [self.book.told(tokens) & real for tokens in ends]
        if not bool((real & (known[0] != known[1])).any()):
            return False
        down, up = (
            self._from_others(ends[a], ends[b], known[b] & ~known[a] & real)
            for a, b in ((1, 0), (0, 1))
        )
        return down or up

    def _from_others(self, tokens: Tensor, others: Tensor, here: Tensor) -> bool:
        """Tokens get the sample of what they are connected with, where that is of one sample alone."""
        distinct, place = tokens[here].unique(return_inverse=True)
        samples = self.book.samples(others[here])
        low, high = (
            samples.new_zeros(len(distinct)).scatter_reduce(
                0, place, samples, how, include_self=False
            )
            for how in ("amin", "amax")
        )
        return self.book.correct_samples(distinct[low == high], low[low == high])

    # -- streams ----------------------------------------------------------------------------------

    def _live_tokens(self) -> np.ndarray:
        """Canonical tokens that attention or a route touches, and all others of the same births."""
        touched: list[Tensor] = []
        for update in self.flow.updates:
            if isinstance(update, Mixing):
                continue
            parts = (
                (update.rows, update.columns)
                if isinstance(update, AttentionSite)
                else (update.new, update.old)
            )
            touched += [self.book.find(tokens_in(ids)).flatten() for ids in parts]
        for tags in self.flow.outputs:
            touched += [self.book.find(tag.tokens).flatten() for tag in tags]
        tokens = torch.cat(touched).unique() if touched else torch.empty(0, dtype=torch.int64)
        tokens = tokens[tokens >= 0]
        self._touched = set(tokens.tolist())
        live_births = {
            i
            for i in np.unique(self.birth[tokens.numpy()]).tolist()
            if _aligned_with_input(self.book.births[i])
        }
        every = np.arange(len(self.book))
        canonical = self.book.find(torch.arange(len(self.book))).numpy() == every
        whole = np.isin(self.birth, list(live_births)) & canonical
        whole[tokens.numpy()] = True
        live: np.ndarray = every[whole]
        return live

    def _label_streams(self) -> None:
        """Union over (birth, place) of all queries of a node.

        Attended tokens of one birth that never are queries are one stream as well.
        """
        self._width = width = int(self.place.max(initial=0)) + 1
        self._key = self.birth.astype(np.int64) * width + self.place
        queried: set[int] = set()
        groups = Groups()
        for of_queries in self._wholes[0]:
            groups.unify([key for site in of_queries for key in self._keys(site)[0]])
        segment = self._segments()
        for rows, columns in map(self._keys, self.flow.updates):
            queried.update(rows)
            if rows and set(rows) <= set(columns):  # one part of a sequence, attending to all of it
                births = {segment.get(key // width, key // width) for key in rows}
                own = (key for key in columns if segment.get(key // width, key // width) in births)
                groups.unify([rows[0], *own])
        self._join_memory(groups, queried)
        for update in self.flow.updates:
            if isinstance(update, RouteSite):  # what one route makes is one row set
                made = self.book.find(update.new).unique().numpy()
                groups.unify(np.unique(self._key[made]).tolist())
        for keys in self._keys_by_birth(queried).values():
            groups.unify(keys)
        self._label = {token: groups.find(int(self._key[token])) for token in self.live.tolist()}
        self._find_roots()

    def _segments(self) -> dict[int, int]:
        """The first of the births in which a text is looked up segment by segment, for each of them."""
        looked_up: dict[tuple[str, fx.Node], list[Birth]] = {}
        for birth in self.book.births:
            table = birth.node.args[0] if birth.node is not None and birth.looked_up else None
            if birth.kind == "input" and isinstance(table, fx.Node):
                looked_up.setdefault((birth.root, table), []).append(birth)
        found: dict[int, int] = {}
        for births in (of_text for of_text in looked_up.values() if len(of_text) > 1):
            first, known = None, set[int]()
            for birth in births:
                own = self._elements(birth)
                if own and own.isdisjoint(known):
                    first = birth.index if first is None else first
                    found[birth.index] = first
                    known |= own
        return found

    def _elements(self, birth: Birth) -> set[int]:
        """The elements of an input that a birth's tokens are, if all are known."""
        elements = set(
            self.book.elements(torch.arange(birth.first, birth.first + birth.count)).tolist()
        )
        return set() if -1 in elements else elements

    def _join_memory(self, groups: Groups, queried: set[int]) -> None:
        """Learned tokens that only are attended to belong to the sequence that they stand in.

        That is the queries' own where nothing else that was given is attended to beside them.
        """
        learned = [birth.learned for birth in self.book.births]
        for of_keys in self._wholes[1]:
            rows = self._keys(of_keys[0])[0]
            columns = {key for site in of_keys for key in self._keys(site)[1]}
            given = {groups.find(key) for key in columns if not learned[key // self._width]}
            own = groups.find(rows[0]) if rows else -1
            if given <= {own} and own in map(groups.find, columns):
                unqueried = (key for key in columns if key not in queried)
                groups.unify([own, *(key for key in unqueried if learned[key // self._width])])

    def _keys_by_birth(self, queried: set[int]) -> dict[int, list[int]]:
        """What belongs together without a common query: keys that never query, by birth.

        A token that nothing reads (an image's placeholder in a text) goes with its birth's others.
        """
        groups: dict[int, list[int]] = {}
        querying: dict[int, int] = {}
        for token in self.live.tolist():
            birth, key = int(self.birth[token]), int(self._key[token])
            if key in queried:
                querying.setdefault(birth, key)
            else:
                groups.setdefault(birth, []).append(key)
        untouched = [t for t in self.live.tolist() if t not in self._touched]
        for token in untouched:
            birth, key = int(self.birth[token]), int(self._key[token])
            if birth in querying and key not in queried:  # its place queries in another sample
                groups.setdefault(~birth, [querying[birth]]).append(key)
                groups[birth] = [k for k in groups[birth] if k != key]
        return {birth: list(dict.fromkeys(keys)) for birth, keys in groups.items()}

    def _keys(self, update: Update) -> tuple[list[int], list[int]]:
        if not isinstance(update, AttentionSite):
            return [], []
        result = []
        for ids in (update.rows, update.columns):
            tokens = self.book.find(tokens_in(ids)).unique()
            result.append(np.unique(self._key[tokens[tokens >= 0].numpy()]).tolist())
        return result[0], result[1]

    def _find_roots(self) -> None:
        """Streams that routes made of one sequence share its root."""
        births = self.book.births
        born = {label for t, label in self._label.items() if births[self.birth[t]].kind != "route"}
        roots = roots_of(self.flow.updates, self._labels, born)
        self._root = {label: roots.get(label, label) for label in set(self._label.values())}

    def _labels(self, tokens: Tensor) -> list[int]:
        found = self.book.find(tokens).unique()
        return list(dict.fromkeys(self._label[t] for t in found[found >= 0].tolist()))

    def _collect(self) -> None:
        labels = list(dict.fromkeys(self._label[t] for t in self.live.tolist()))
        position = {label: i for i, label in enumerate(labels)}
        members: list[list[int]] = [[] for _ in labels]
        for token in self.live.tolist():
            members[position[self._label[token]]].append(token)
        self.token_stream = np.full(len(self.book), -1, dtype=np.int64)
        self.token_index = np.full(len(self.book), -1, dtype=np.int64)
        roots_of_tokens = {token: self._root[label] for token, label in self._label.items()}
        named = ModalityTable(self.flow, roots_of_tokens, self.sample, self._born, self._wholes)
        self.modalities, self.parts = named.modalities, named.parts
        self.streams: list[Stream] = []
        roots = {label: i for i, label in enumerate(dict.fromkeys(self._root[x] for x in labels))}
        for index, (label, tokens) in enumerate(zip(labels, members, strict=True)):
            table = self._table(tokens)
            for column in range(table.shape[1]):
                real = table[:, column][table[:, column] >= 0].numpy()
                self.token_stream[real], self.token_index[real] = index, column
            own = list(dict.fromkeys(self.parts[t] for t in tokens if t in self.parts))
            if all(t in named.special for t in tokens):  # a CLS that attends by itself
                own = list(dict.fromkeys(named.special[t] for t in tokens))
            name = "+".join(own) if own else f"stream_{index}"
            self.streams.append(Stream(index, name, table, roots[self._root[label]]))

    def _table(self, tokens: Sequence[int]) -> Tensor:
        """Token ids as (samples, positions), ordered by (birth, place)."""
        array = np.asarray(tokens)
        keys = np.unique(self._key[array])
        column = np.searchsorted(keys, self._key[array])
        samples = int(self.sample[array].max()) + 1
        table = torch.full((samples, len(keys)), -1, dtype=torch.int64)
        table[self.sample[array], column] = torch.as_tensor(array)
        return table


def _aligned_with_input(birth: Birth) -> bool:
    """Whether tokens correspond to positions of the input one to one, so that all should be shown."""
    given = birth.node is not None and birth.node.op == "placeholder"
    return birth.kind == "input" and (birth.looked_up or given)


def _places(birth: np.ndarray, sample: np.ndarray) -> np.ndarray:
    """The rank of each token among those of its birth and sample."""
    if not len(birth):
        return birth
    group = birth * (int(sample.max()) + 1) + sample
    order = np.argsort(group, kind="stable")
    ordered = group[order]
    start = np.r_[0, np.flatnonzero(np.diff(ordered)) + 1]
    first = np.repeat(start, np.diff(np.r_[start, len(ordered)]))
    places: np.ndarray = np.empty_like(group)
    places[order] = np.arange(len(group)) - first
    return places
