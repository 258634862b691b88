"""The book of tokens: where each one was born, in which sample, and which ones are the same."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from fxplain.tokens.elements import in_order

__all__ = ["Birth", "TokenBook"]


@dataclass(frozen=True)
class Birth:
    """One event at which tokens came to be.

    Attributes
    ----------
    index
        Position in the book.
    kind
        "input" (a graph input's tokens), "parameter" (a learned one's), "constant" (those of a buffer
        or of zeros that stand in a sequence) or "route" (made of others).
    root
        The graph input's name, the parameter's path, or for a route the name of its node.
    rank
        The place of the root among the forward arguments (parameters and routes come last).
    module
        Path of the module in which it happened.
    node
        The graph node.
    first, shape
        The tokens are ``first, first + 1, ...`` over this shape (batch first, then the grid).
    made_of
        The roots of all that a route's or newer tokens were made of.
    arguments
        Of an input's tokens that were made of several arguments, those that most of them hold elements
        of their own of, in the forward signature's order.
    looked_up
        Whether the tokens are an input's integers, looked up in a table.
    older
        The births of the tokens that newer ones were made of.
    """

    index: int
    kind: str
    root: str
    rank: int
    module: str
    node: fx.Node | None
    first: int
    shape: tuple[int, ...]
    made_of: frozenset[str] = frozenset()
    arguments: tuple[str, ...] = ()
    looked_up: bool = False
    older: frozenset[int] = frozenset()

    @property
    def count(self) -> int:
        """The number of tokens born."""
        count = 1
        for size in self.shape:
            count *= size
        return count

    @property
    def learned(self) -> bool:
        """Whether the tokens are the model's own: a parameter's, or a constant's."""
        return self.kind in ("parameter", "constant")


class TokenBook:
    """Token ids, unique over the batch; union of those that turn out to be the same token."""

    def __init__(
        self, batch_size: int, batch_axes: Collection[int] = (0,), batches: Collection[int] = ()
    ) -> None:
        self.batch_size = batch_size
        self.batches = {batch_size, *batches}
        """The numbers of samples: of inputs that are counted apart, too."""
        self.batch_axes = sorted({0, *batch_axes})
        """The axes along which samples may lie: the inputs', and attention's first."""
        self.births: list[Birth] = []
        self._parent = torch.empty(0, dtype=torch.int64)
        self._sample = torch.empty(0, dtype=torch.int64)
        self._birth = torch.empty(0, dtype=torch.int64)
        self._element = torch.empty(0, dtype=torch.int64)
        self._until = torch.empty(0, dtype=torch.int64)
        self._root = torch.empty(0, dtype=torch.int64)
        self._roots: dict[str, int] = {}
        self._merged = False
        self._vectors: set[str] = set()
        self._copies: dict[tuple[int, int, bool], int] = {}
        self._guessed: set[int] = set()
        self._in_order: set[int] = set()

    def __len__(self) -> int:
        return len(self._parent)

    def add(
        self,
        kind: str,
        root: str,
        shape: Sequence[int],
        *,
        rank: int = 1 << 20,
        module: str = "",
        node: fx.Node | None = None,
        samples: Tensor | None = None,
        made_of: frozenset[str] = frozenset(),
        arguments: tuple[str, ...] = (),
        looked_up: bool = False,
        older: frozenset[int] = frozenset(),
        elements: Tensor | None = None,
        until: Tensor | None = None,
        roots: Tensor | None = None,
    ) -> Tensor:
        """Give birth to tokens of the given shape and return their ids (of that shape).

        `samples` (broadcastable to `shape`) names each token's sample. Without it the first axis is
        the sample where its size is the batch size; a batch of one has sample 0 everywhere.
        `elements` (likewise) names the element of the inputs that each token was made of, of several
        the first; `until` the last, where it is known that none lies before or behind. `roots`
        (likewise) tells the root of each, by its `number`, where tokens of one birth have several.
        """
        first, shape = len(self), tuple(shape)
        birth = Birth(
            len(self.births), kind, root, rank, module, node, first, shape, made_of, arguments,
            looked_up, older,
        )  # fmt: skip
        self.births.append(birth)
        if kind == "parameter" and not shape:
            self._vectors.add(root)
        ids = torch.arange(first, first + birth.count).reshape(shape)
        if samples is None:
            samples = self._samples_by_axis(shape)
        self._parent = torch.cat([self._parent, ids.flatten()])
        self._sample = torch.cat([self._sample, samples.expand(shape).flatten()])
        self._birth = torch.cat([self._birth, torch.full((birth.count,), birth.index)])
        elements = torch.tensor(-1) if elements is None else elements
        if len(ids.flatten()) == elements.numel() and in_order(elements):
            self._in_order.add(birth.index)
        until = torch.tensor(-1) if until is None else until
        self._element = torch.cat([self._element, elements.expand(shape).flatten()])
        self._until = torch.cat([self._until, until.expand(shape).flatten()])
        if roots is None:
            single = root if not made_of else next(iter(made_of)) if len(made_of) == 1 else None
            roots = torch.tensor(-1 if single is None else self.number(single))
        self._root = torch.cat([self._root, roots.expand(shape).flatten()])
        return ids

    def number(self, root: str) -> int:
        """The number that stands for a root."""
        return self._roots.setdefault(root, len(self._roots))

    def _samples_by_axis(self, shape: tuple[int, ...]) -> Tensor:
        if self.batch_size == 1:
            return torch.zeros((), dtype=torch.int64)
        if shape and shape[0] == self.batch_size:
            return torch.arange(shape[0]).reshape(-1, *[1] * (len(shape) - 1))
        return torch.full((), -1)

    def has_copies(self, tokens: Tensor) -> bool:
        """Whether any of the tokens was copied."""
        copied = {index for index, _, _ in self._copies}
        return not copied.isdisjoint(self.births_of(tokens[tokens >= 0]).tolist())

    def copy(self, tokens: Tensor, copies: int, *, over_samples: bool) -> Tensor:
        """Separate tokens for each copy of some tokens, on a new last axis.

        The same copy of the same token is the same token again, however often it is asked for.
        """
        birth_of = self._birth[tokens.clamp(min=0)]
        result = torch.empty((*tokens.shape, copies), dtype=torch.int64)
        for index in birth_of.unique().tolist():
            birth = self.births[index]
            key = (index, copies, over_samples)
            if key not in self._copies:
                samples = torch.arange(copies) if over_samples else None
                own = slice(birth.first, birth.first + birth.count)
                parents = self._sample[own].unsqueeze(1)
                ids = self.add(
                    birth.kind,
                    birth.root,
                    (birth.count, copies),
                    rank=birth.rank,
                    module=birth.module,
                    node=birth.node,
                    samples=parents if samples is None else samples,
                    looked_up=birth.looked_up,
                    older=birth.older if birth.learned else birth.older | {index},
                    elements=self._element[own].unsqueeze(1),
                    until=self._until[own].unsqueeze(1),
                    roots=self._root[own].unsqueeze(1),
                )
                self._copies[key] = int(ids[0, 0])
                if over_samples:
                    self._guessed.add(len(self.births) - 1)
            first = self._copies[key]
            here = birth_of == index
            offsets = (tokens[here] - birth.first).unsqueeze(-1) * copies + torch.arange(copies)
            result[here] = first + offsets
        result[tokens < 0] = -1
        return result

    # -- identity ---------------------------------------------------------------------------------

    def find(self, tokens: Tensor) -> Tensor:
        """The canonical id of each token (-1 stays -1)."""
        if not self._merged:
            return tokens
        return torch.where(tokens < 0, tokens, self._parent[tokens.clamp(min=0)])

    def unite(self, a: Tensor, b: Tensor, leads: Tensor | None = None) -> None:
        """Declare the tokens `a` and `b` (same shape, canonical, one to one) the same.

        Where `leads` is 1, `a` lends its name, where it is -1, `b`. Else it is the one whose root
        comes first in the forward signature; of two with the same root, the one whose elements lie in
        order (words, before the words before them), or the one that was born later (a backbone's newer
        grid), but a single element's before a mixture's (a running sum that the
        last word is added to), and one whose elements are known before one whose are not (places). A
        parameter of features alone (a norm's weight) never lends it to one of many rows.
        """
        different = (a != b) & (a >= 0) & (b >= 0)
        leads = torch.zeros_like(a) if leads is None else leads
        a, b, leads = a[different], b[different], leads[different]
        if not len(a):
            return
        ranks = torch.tensor([birth.rank for birth in self.births])
        rank_a, rank_b = ranks[self._birth[a]], ranks[self._birth[b]]
        vectors = torch.tensor([birth.root in self._vectors for birth in self.births])
        vector_a, vector_b = vectors[self._birth[a]], vectors[self._birth[b]]
        single_a, single_b = (self.elements(t) == self.until(t) for t in (a, b))
        known_a, known_b = self.until(a) >= 0, self.until(b) >= 0
        later = torch.where(known_a & known_b & (single_a != single_b), single_a, a > b)
        later = torch.where(known_a != known_b, known_a, later)
        ordered_a, ordered_b = (self._lies_in_order(t) for t in (a, b))
        later = torch.where(known_a & known_b & (ordered_a != ordered_b), ordered_a, later)
        later = torch.where(vector_a == vector_b, later, vector_b)
        a_leads = (rank_a < rank_b) | ((rank_a == rank_b) & later)
        a_leads = torch.where(leads == 0, a_leads, leads > 0)
        leader, follower = torch.where(a_leads, a, b), torch.where(a_leads, b, a)
        self._parent[follower] = leader
        while not torch.equal(self._parent, grandparent := self._parent[self._parent]):
            self._parent = grandparent
        unknown = self._sample[leader] < 0
        self._sample[leader[unknown]] = self._sample[follower[unknown]]
        self._merged = True

    def _lies_in_order(self, tokens: Tensor) -> Tensor:
        return torch.isin(self._birth[tokens], torch.tensor(sorted(self._in_order)))

    def share_births(self, a: Tensor, b: Tensor) -> bool:
        """Whether some of the tokens united with `a` and with `b` come from one birth.

        Two tokens of one birth (neighbours in a sequence) are never the same token.
        """
        if not self._merged:
            return bool(torch.isin(self._birth[a], self._birth[b]).any())
        return not self.births_united(a).isdisjoint(self.births_united(b))

    def descends(self, a: Tensor, b: Tensor) -> bool:
        """Whether tokens `a` are newer ones that were made of those of the births of `b`."""
        of, todo, known = self.births_united(b), self.births_united(a), set[int]()
        while todo:
            older = self.births[todo.pop()].older - known
            if older & of:
                return True
            known |= older
            todo |= older
        return False

    def births_united(self, tokens: Tensor) -> set[int]:
        """The births of canonical tokens and of all that were united with them."""
        of_these = torch.zeros(len(self._parent), dtype=torch.bool)
        of_these[tokens[tokens >= 0]] = True
        return set(self._birth[of_these[self._parent]].unique().tolist())

    # -- lookup -----------------------------------------------------------------------------------

    def samples(self, tokens: Tensor) -> Tensor:
        """The sample of each token (-1 where unknown, and of no token)."""
        return torch.where(tokens >= 0, self._sample[tokens.clamp(min=0)], -1)

    def set_samples(self, tokens: Tensor, samples: Tensor) -> None:
        """Fill in samples that were not known at birth."""
        unknown = self._sample[tokens] < 0
        self._sample[tokens[unknown]] = samples[unknown]

    def correct_samples(self, tokens: Tensor, samples: Tensor) -> bool:
        """The same, also of those that are known by the size of an axis alone; whether any is new."""
        weak = ~self.told(tokens)
        tokens, samples = tokens[weak], samples[weak]
        new = bool((self._sample[tokens] != samples).any())
        self._sample[tokens] = samples
        return new

    def told(self, tokens: Tensor) -> Tensor:
        """Whether the sample of each is known by more than an axis that is as long as the batch."""
        known = self.samples(tokens) >= 0
        if self._guessed:
            guessed = torch.tensor(sorted(self._guessed))
            known &= ~torch.isin(self._birth[tokens.clamp(min=0)], guessed)
        return known

    def elements(self, tokens: Tensor) -> Tensor:
        """The input element that each token was made of (-1 where unknown, and of no token)."""
        return torch.where(tokens >= 0, self._element[tokens.clamp(min=0)], -1)

    def until(self, tokens: Tensor) -> Tensor:
        """The last element that each token was made of (-1 where that is not known)."""
        return torch.where(tokens >= 0, self._until[tokens.clamp(min=0)], -1)

    def births_of(self, tokens: Tensor) -> Tensor:
        """The birth index of each token."""
        return self._birth[tokens]

    def real(self, tokens: Tensor) -> Tensor:
        """Whether each is a token that has something to carry: one, and no constant."""
        constant = [index for index, birth in enumerate(self.births) if birth.kind == "constant"]
        real = tokens >= 0
        if constant:
            real &= ~torch.isin(self._birth[tokens.clamp(min=0)], torch.tensor(constant))
        return real

    def learned(self, tokens: Tensor) -> Tensor:
        """Whether each is a parameter's token, or a constant's."""
        learned = [birth.learned for birth in self.births]
        births = self._birth[tokens.clamp(min=0)]
        return torch.tensor(learned, dtype=torch.bool)[births] & (tokens >= 0)

    def lineage(self, tokens: Tensor) -> frozenset[str]:
        """The roots that tokens descend from, also through routes."""
        known = set(self._root[tokens[tokens >= 0]].unique().tolist())
        if -1 not in known:
            return frozenset(root for root, number in self._roots.items() if number in known)
        births = [self.births[i] for i in self._birth[tokens[tokens >= 0]].unique().tolist()]
        return frozenset().union(*(birth.made_of or {birth.root} for birth in births))

    def one_root(self, groups: Tensor) -> Tensor:
        """The number of the root of each group of tokens, (..., n); -1 where it has several."""
        numbers, real = self._root[groups.clamp(min=0)], groups >= 0
        low = torch.where(real, numbers, len(self._roots)).amin(-1)
        return torch.where(low == torch.where(real, numbers, -1).amax(-1), low, -1)

    def roots(self, tokens: Tensor) -> set[tuple[str, str]]:
        """The kinds and roots of the births of tokens."""
        found = self._birth[tokens[tokens >= 0].unique()].unique().tolist()
        return {(self.births[index].kind, self.births[index].root) for index in found}
