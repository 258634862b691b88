"""Pointwise joins: which token the result belongs to when values are combined element by element."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import Enum, auto

import torch
from torch import Tensor, fx

from fxplain.tokens.book import TokenBook
from fxplain.tokens.elements import completed
from fxplain.tokens.tag import NO_TOKEN, Level, Tag, Tags, narrowed, pack, versions_in
from fxplain.tokens.versions import Versions

__all__ = ["Joiner", "Meeting"]


class Meeting(Enum):
    """What an elementwise operation makes of tokens that differ."""

    SAME_TOKENS = auto()
    """One token is kept."""
    SUM = auto()
    """The same, but learned tokens that one value is added to stay many."""
    TOGETHER = auto()
    """The same, but two single tokens of a sequence are both read: a product, or a returned sum."""
    BESIDE = auto()
    """Features side by side: single tokens of two origins are both read, if one has a past."""
    READ = auto()
    """The same beside one that has a past: inputs that are newborn are read each by itself, too."""
    SCORES = auto()
    """A query meets many keys, for scores: both are kept."""


_MOST_TAGS = 4  # more sequences than that are never combined in one value
_MOST_READ = 256  # single tokens whose features are put side by side: a table's, or many inputs'
_LARGEST_COPY = 4_000_000  # entries; a parameter this large is a bias table, not a sequence


class Joiner:
    """Joins tags by the rules of DESIGN section 3, uniting tokens in the book where they are one."""

    def __init__(
        self,
        book: TokenBook,
        versions: Versions,
        labels: frozenset[fx.Node] = frozenset(),
        shared: frozenset[fx.Node] = frozenset(),
        apart: frozenset[fx.Node] = frozenset(),
    ) -> None:
        self.book = book
        self.versions = versions
        self.labels = labels
        """The nodes of births that are labels: absorbed by what they are added to."""
        self.found_labels: set[fx.Node] = set()
        """Further ones, which this walk has united with several others."""
        self.shared = shared
        """The parameters of which one token was put into several samples' sequences, one by one."""
        self.found_shared: set[fx.Node] = set()
        """Further ones, which this walk has met."""
        self._apart = apart
        """The nodes of births that stay tokens of their own where their features are side by side."""
        self._sequences: list[Tags] = []
        """Single tokens that were put one behind the other."""
        self._told: dict[int, int] = {}
        self.context: dict[str, None] = {}
        """The inputs that scale, shift or gate the tokens of others, all alike."""
        self.conditions: set[int] = set()
        """The births of what does so: of an input that has tokens besides, those of its statistics."""
        self.pairs: set[int] = set()
        """The births of what says something of every pair of tokens."""
        self.lost = False
        """Whether the last join left out tokens that the result is made of, too."""
        self.spread: list[Tag] = []
        """The tags of the last join that reach many other tokens (a pooled vector, a condition)."""
        self.neighbours: Tags = ()
        """The tags of the last join that are one sequence's, at another place in each."""
        self._meeting = Meeting.SAME_TOKENS

    def join(
        self,
        operands: Sequence[tuple[Tags, Sequence[int]]],
        shape: Sequence[int],
        meeting: Meeting = Meeting.SAME_TOKENS,
    ) -> Tags:
        """The tags of a pointwise result of `shape`, from each operand's tags and shape.

        Only the operands of the highest level speak: a bias, a position embedding or a float mask
        says nothing about a value that already has tokens.
        """
        self.lost, self.spread, self.neighbours, self._meeting = False, [], (), meeting
        tagged = [(tags, tuple(s)) for tags, s in operands if tags]
        if not tagged:
            return ()
        places = self._places(tagged, shape)
        if places is not None:
            return places
        top = max(tag.level for tags, _ in tagged for tag in tags)
        speaks = [self._speaks(tags, tagged, top) for tags, _ in tagged]
        joined: list[Tag] = []
        for (tags, own_shape), strong in zip(tagged, speaks, strict=True):
            others = len(joined)  # a value's own tags (a score's query and key) do not compete
            for tag in tags if strong else ():
                if self.newborn(tag) and _names_pairs(tag, tagged):
                    # something for every pair of tokens (a distance) is no token
                    self.pairs.update(self.book.births_of(tag.tokens[tag.tokens >= 0]).tolist())
                    continue
                self._merge_into(joined, self._aligned(tag, own_shape, tuple(shape)), others)
        for (tags, own_shape), strong in zip(tagged, speaks, strict=True):
            if not strong:
                self._recognise(joined, tags, own_shape, tuple(shape))
                self._note_numbers(tags)
        if any(len(tags) > 1 for tags, _ in tagged):
            joined = self._without_neighbours(joined, [t[0] for t, _ in tagged if len(t) == 1])
        beside = meeting in (Meeting.BESIDE, Meeting.READ)
        most = _MOST_READ if beside else max(_MOST_TAGS, *(len(tags) for tags, _ in tagged))
        self.lost |= len(joined) > most
        return tuple(joined[-most:])

    def _places(
        self, tagged: Sequence[tuple[Tags, tuple[int, ...]]], shape: Sequence[int]
    ) -> Tags | None:
        """Learned tokens (queries, places in a sequence) that meet one value of each sample.

        They are tokens of their own, or all would be the one that they hear of. An input's number
        that scales them (an adaptive norm's time step) is no token that they hear of.
        """
        sums = self._meeting is Meeting.SUM
        if len(tagged) != 2 or len(shape) != 3 or not (sums or self._meeting is Meeting.TOGETHER):
            return None
        (learned, own), (single, other) = sorted(tagged, key=lambda x: max(t.level for t in x[0]))
        if len(learned) != 1 or len(single) != 1 or learned[0].level >= single[0].level:
            return None
        if single[0].level not in (Level.TOKEN, Level.LABEL):
            return None
        if learned[0].level is Level.RAW_INPUT:
            return None
        if single[0].ids.numel() > self.book.batch_size:
            return None
        other = (1,) * (3 - len(other)) + other
        if not any(other[axis] == 1 for axis in _from_end(learned[0]) if axis < -1):
            return None
        known = self.book.lineage(single[0].tokens) <= self.context.keys()
        scaled = not sums and learned[0].level is Level.PARAMETER_TOKEN
        if (known or scaled) and self._condition(single[0], learned[0]):
            self._note_context(single[0])
        else:
            self.spread.append(single[0])
        return (replace(self._aligned(learned[0], own, tuple(shape)), level=Level.PARAMETER_TOKEN),)

    def _speaks(
        self, tags: Tags, tagged: Sequence[tuple[Tags, tuple[int, ...]]], top: Level
    ) -> bool:
        """Whether an operand has a say in the result's tokens."""
        level = max(tag.level for tag in tags)
        if level == top:
            return True
        strong = [t for other, _ in tagged for t in other if t.level == top]
        return level is Level.PARAMETER_TOKEN and not any(
            _comparable(_from_end(tag), _from_end(other)) for tag in tags for other in strong
        )

    def _recognise(
        self, joined: list[Tag], tags: Tags, own: tuple[int, ...], shape: tuple[int, ...]
    ) -> None:
        """A weaker operand that names the same tokens (a learned query's residual) adds its version.

        What it is may have been copied for each sample before, and be broadcast to them now.
        """
        for tag in tags:
            if tag.learned and not self.book.has_copies(self.book.find(tag.tokens)):
                ids = tag.ids.reshape((1,) * (len(shape) - tag.ids.dim()) + tuple(tag.ids.shape))
                tag = tag.with_ids(ids)
            else:
                tag = self._aligned(tag, own, shape)
            for i, other in enumerate(joined):
                if tag.ids.shape == other.ids.shape:
                    joined[i] = self._same_tokens(other, tag) or other

    def _aligned(self, tag: Tag, own: tuple[int, ...], shape: tuple[int, ...]) -> Tag:
        """The tag with the result's number of axes; parameter tokens are copied where broadcast."""
        missing = len(shape) - len(own)
        ids = tag.ids.reshape((1,) * missing + tuple(tag.ids.shape))
        own = (1,) * missing + own
        tag = tag.with_ids(ids)
        if tag.learned:
            # projected queries are told apart by sample only; a bare parameter by every copy of it
            for axis in reversed(range(len(shape) - 1)):
                if own[axis] == 1 and shape[axis] > 1:
                    tag = self.copied(tag, axis, shape[axis])
        return tag

    def copied(self, tag: Tag, axis: int, copies: int) -> Tag:
        """Separate tokens for the copies of a parameter along `axis` (the batch, mask positions)."""
        if len(tag.axes) > 2 or tag.ids.numel() * copies > _LARGEST_COPY:
            return tag
        over_samples = axis in self.book.batch_axes and copies in self.book.batches
        tokens = self.book.find(tag.tokens)
        known = bool((self.book.samples(tokens.clamp(min=0)) >= 0).all())
        if (known and self.book.batch_size > 1) or (
            tag.level is Level.PARAMETER_TOKEN and (known or not over_samples)
        ):
            return tag
        made = self.book.copy(tokens.squeeze(axis), copies, over_samples=over_samples)
        made = made.movedim(-1, axis)
        return tag.with_ids(pack(made, versions_in(tag.ids).clamp(min=0)))

    def note_sequence(self, tags: Tags) -> None:
        """Remember single tokens (a table's fields) that are put one behind the other."""
        if all(self._single(tag) and self.newborn(tag) for tag in tags):
            self._sequences.append(tags)

    @property
    def found_apart(self) -> set[fx.Node]:
        """The births of tokens that stand in one sequence, and were one where they are side by side."""
        found: set[fx.Node] = set()
        for tags in self._sequences:
            names = [set(self.book.find(tag.tokens).flatten().tolist()) for tag in tags]
            for tag, own in zip(tags, names, strict=True):
                others = (n for t, n in zip(tags, names, strict=True) if t.births != tag.births)
                if any(not own.isdisjoint(other) for other in others):
                    nodes = (self.book.births[index].node for index in tag.births)
                    found.update(node for node in nodes if node is not None)
        return found

    def kept_apart(self, tags: Tags) -> bool:
        """Whether single tokens whose features are put side by side stay tokens of their own."""
        return len(tags) > 1 and all(
            tag.births and {self.book.births[index].node for index in tag.births} <= self._apart
            for tag in tags
        )

    def of_each_sample(self, tag: Tag) -> Tag:
        """Learned tokens that were put into several samples' sequences are a token of each."""
        if self.book.batch_size == 1:
            return tag
        tokens = self.book.find(tag.tokens)
        learned = self.book.learned(tokens)
        if not bool(learned.any()) or bool((learned | (tokens < 0)).all()):
            return tag
        own = self.book.samples(tokens)
        company = torch.where(learned, -1, own)
        for axis in range(company.dim()):
            company = completed(company, axis)
        here = learned & (company >= 0) & (own != company)
        births = [self.book.births[i] for i in self.book.births_of(tokens[here]).tolist()]
        apart = torch.tensor([birth.node in self.shared for birth in births], dtype=torch.bool)
        of_others = zip(
            tokens[here].tolist(), own[here].tolist(), company[here].tolist(), strict=True
        )
        for (token, known, sample), birth in zip(of_others, births, strict=True):
            before = self._told.setdefault(token, known if known >= 0 else sample)
            if before != sample and birth.node is not None:
                self.found_shared.add(birth.node)
        if not bool(apart.any()):
            return tag
        here[here.clone()] = apart
        copies = self.book.copy(tokens[here], self.book.batch_size, over_samples=True)
        made = tokens.clone()
        made[here] = copies.gather(-1, company[here].unsqueeze(-1)).squeeze(-1)
        return tag.with_ids(pack(made, versions_in(tag.ids).clamp(min=0)))

    def _merge_into(self, joined: list[Tag], tag: Tag, others: int) -> None:
        for i, other in enumerate(joined[:others]):
            merged = self._same_tokens(other, tag)
            if merged is not None:
                joined[i] = merged
                return
        for i, other in enumerate(joined[:others]):
            winner = self._winner(other, tag)
            if winner is not None:
                joined[i] = winner
                return
        joined.append(tag)

    def _same_tokens(self, a: Tag, b: Tag) -> Tag | None:
        """The union of two tags that name the same token wherever both name one."""
        tokens_a, tokens_b = self.book.find(a.tokens), self.book.find(b.tokens)
        if a.ids.shape != b.ids.shape:
            tokens_a, tokens_b = torch.broadcast_tensors(tokens_a, tokens_b)
        both = (tokens_a >= 0) & (tokens_b >= 0)
        if not both.any() and (a.axes != b.axes):
            return None
        if not torch.equal(tokens_a[both], tokens_b[both]):
            return None
        for small, large in ((a, b), (b, a)):
            whole = small.ids.numel() < large.ids.numel() and bool((small.ids >= 0).all())
            if (
                whole
                and small.version is not None
                and large.version is not None
                and large.version >= 0
            ):
                version = self.versions.union(small.version, large.version)
                level = max(a.level, b.level)
                births = a.births | b.births
                return Tag(
                    pack(small.tokens, version), level, a.softmax or b.softmax, births=births
                )
        return self._union(a, b, tokens_a, tokens_b)

    def _union(self, a: Tag, b: Tag, tokens_a: Tensor, tokens_b: Tensor) -> Tag:
        tokens = torch.where(tokens_a >= 0, tokens_a, tokens_b)
        level, softmax, births = (
            max(a.level, b.level), a.softmax or b.softmax, a.births | b.births
        )  # fmt: skip
        if a.version is not None and b.version is not None and a.version >= 0 and b.version >= 0:
            only_a, only_b = (tokens_a < 0).any(), (tokens_b < 0).any()
            if (not only_a and not only_b) or a.version == b.version:
                ids = pack(tokens, self.versions.union(a.version, b.version))
                return Tag(ids, level, softmax, births=births)
        versions = self.union_entries(versions_in(a.ids), versions_in(b.ids), tokens.shape)
        return Tag(pack(tokens, versions), level, softmax, births=births)

    def union_entries(self, a: Tensor, b: Tensor, shape: Sequence[int]) -> Tensor:
        """The versions, entry by entry, of what has heard all that two values have."""
        a, b = a.expand(shape), b.expand(shape)
        result: Tensor = torch.where(a < 0, b, a).clone()
        for va in a.unique().tolist():
            for vb in b.unique().tolist():
                if va >= 0 and vb >= 0 and va != vb:
                    result[(a == va) & (b == vb)] = self.versions.union(va, vb)
        return result

    def _winner(self, a: Tag, b: Tag) -> Tag | None:
        """Of two tags that name different tokens, the one that stays; None where both do."""
        if not (a.axes <= b.axes or b.axes <= a.axes):
            return None  # they vary along different axes, as queries and keys of scores do
        if a.level != b.level:
            return a if a.level > b.level else b
        tokens_a, tokens_b = torch.broadcast_tensors(
            self.book.find(a.tokens), self.book.find(b.tokens)
        )
        both = (tokens_a >= 0) & (tokens_b >= 0)
        distinct_a, distinct_b = tokens_a[both].unique(), tokens_b[both].unique()
        pairs, place = torch.stack([tokens_a[both], tokens_b[both]]).unique(
            dim=1, return_inverse=True
        )
        if pairs.shape[1] == len(distinct_a) == len(distinct_b):
            if self._single(a) and self._single(b) and self._strangers(a, b):
                return self._fused(a, b)
            differ = both & (tokens_a != tokens_b)  # a class token beside what was pooled is one
            own_a, own_b = tokens_a[differ].unique(), tokens_b[differ].unique()
            if self.book.share_births(own_a, own_b):
                a, b = self._on_common_axes(a, b)
                if self._two_readouts(a, b):
                    return None
                if a.axes == b.axes and self._sequence_of_neighbours(a, b):
                    self.neighbours = (a, b)
                    return a
                return self._later(a, b)
            descent = self._descent(own_a, own_b)
            routed = self._routed(own_a) or self._routed(own_b)
            free = routed or self._newborn_at(a, differ) or self._newborn_at(b, differ)
            if not free and not descent:
                return None
            self._note_labels(a, b)
            older = torch.full(both.shape, descent) if descent else self._older(a, b, both)
            leads = torch.zeros(pairs.shape[1], dtype=torch.int64)
            leads = leads.scatter_reduce(0, place, older[both], "amax", include_self=False)
            self.book.unite(pairs[0], pairs[1], leads)
            return self._union(a, b, self.book.find(tokens_a), self.book.find(tokens_b))
        if len(distinct_a) == len(distinct_b) or self._meeting is Meeting.SCORES:
            return None
        larger, smaller = (a, b) if len(distinct_a) > len(distinct_b) else (b, a)
        if self._condition(smaller, larger):
            self._note_context(smaller)
        elif not (self.newborn(larger) and self.newborn(smaller)):
            self.spread.append(smaller)
        return larger

    def _on_common_axes(self, a: Tag, b: Tag) -> Tags:
        """Two tags, each with one entry along what it varies along alone, and only by lacking tokens.

        Scores of which some are cleared name the same query all along their keys.
        """
        found = []
        for tag, other in ((a, b), (b, a)):
            for axis in tag.axes - other.axes:
                most = tag.ids.amax(axis, keepdim=True)
                if bool(((tag.ids == most) | (tag.ids < 0)).all()):
                    tag = tag.with_ids(most)
            found.append(tag)
        return tuple(found)

    def _single(self, tag: Tag) -> bool:
        """Whether a value is of one token in each sample."""
        return tag.ids.numel() <= self.book.batch_size

    def _strangers(self, a: Tag, b: Tag) -> bool:
        """Whether one has a past, and no input or parameter is behind both."""
        if self._meeting is Meeting.SCORES:
            return False
        if self.newborn(a) and self.newborn(b):
            if self._meeting is not Meeting.READ:
                return False
            elements = [self.book.elements(self.book.find(tag.tokens)).flatten() for tag in (a, b)]
            known = bool((torch.cat(elements) >= 0).all())
            if known and set(elements[0].tolist()).isdisjoint(elements[1].tolist()):
                return True  # columns of one table
        return self.book.lineage(a.tokens).isdisjoint(self.book.lineage(b.tokens))

    def _fused(self, a: Tag, b: Tag) -> Tag | None:
        """Single tokens of two origins become one value: it is read from both (None).

        But for a condition, which has modulated others before.
        """
        if self._meeting in (Meeting.BESIDE, Meeting.READ):
            return None
        for tag, other in ((a, b), (b, a)):
            if self.newborn(tag) and self.book.lineage(tag.tokens) <= self.context.keys():
                return other
        return None

    def _note_numbers(self, tags: Tags) -> None:
        """Remember inputs of one number for each sample, no token, that act on tokens, all alike.

        Such as a temperature, or the mean that a series was normalised with.
        """
        for tag in tags:
            if tag.level is not Level.RAW_INPUT or not self._single(tag):
                continue
            samples = self.book.samples(self.book.find(tag.tokens)).flatten()
            if len(samples.unique()) == len(samples):
                self._note_context(tag)

    def _note_context(self, tag: Tag) -> None:
        tokens = self.book.find(tag.tokens)
        births = [self.book.births[i] for i in self.book.births_united(tokens[tokens >= 0])]
        births.sort(key=lambda birth: (birth.rank, birth.index))
        self.context.update(dict.fromkeys(birth.root for birth in births))
        self.conditions.update(birth.index for birth in births)

    def _note_labels(self, a: Tag, b: Tag) -> None:
        """Remember which of two values to be united is a label: one that was united with others.

        What is added to two values (a time step to states and to actions), or to a sequence of two
        inputs' tokens (boxes to words and patches), would make them one token, or name them all; it
        is absorbed by each instead, once the walk is made again and knows.
        """
        for tag, other in ((b, a), (a, b)):
            if not tag.births or not self.newborn(tag):
                continue
            united = self.book.births_united(self.book.find(tag.tokens[tag.tokens >= 0]))
            strangers = {
                i for i in united - tag.births - other.births
                if self.book.births[i].kind == "input"
            }  # fmt: skip
            if strangers or len(self._input_roots(other) - self._input_roots(tag)) > 1:
                nodes = (self.book.births[index].node for index in tag.births)
                self.found_labels.update(node for node in nodes if node is not None)
                return

    def _input_roots(self, tag: Tag) -> set[str]:
        """The inputs whose tokens a value holds."""
        return {
            root for kind, root in self.book.roots(self.book.find(tag.tokens)) if kind == "input"
        }

    def _condition(self, small: Tag, large: Tag) -> bool:
        """Whether an input's single token (a time step, a style) meets the tokens of another input.

        No attention carries what it does to all of them alike.
        """
        if not (self._single(small) and self.newborn(small)):
            return False
        roots = [self.book.roots(self.book.find(tag.tokens)) for tag in (small, large)]
        return all(kind == "input" for kind, _ in roots[0]) and roots[0].isdisjoint(roots[1])

    def _two_readouts(self, a: Tag, b: Tag) -> bool:
        """Whether two values, of one token in each sample, make one that is read from both."""
        if self._meeting is not Meeting.TOGETHER or a.carried or b.carried:
            return False
        if self.newborn(a) or self.newborn(b):
            return False
        return max(a.ids.numel(), b.ids.numel()) <= self.book.batch_size

    def _without_neighbours(self, joined: list[Tag], steps: Sequence[Tag]) -> list[Tag]:
        """A product of neighbours that joins one of them is that one's (a step of a recurrence)."""
        result = list(joined)
        for step in steps:
            tokens = self.book.find(step.tokens)
            for tag in joined:
                other = self.book.find(tag.tokens)
                if tag not in result or tokens.numel() != other.numel() or len(result) == 1:
                    continue
                if tokens.numel() > self.book.batch_size or bool(
                    (tokens.flatten() == other.flatten()).all()
                ):
                    continue
                if self.book.share_births(
                    tokens.clamp(min=0).unique(), other.clamp(min=0).unique()
                ):
                    result.remove(tag)
                    self.lost = True
        return (
            [replace(tag, carried=True) for tag in result] if len(result) < len(joined) else joined
        )

    def _older(self, a: Tag, b: Tag, both: Tensor) -> Tensor:
        """Where only `a` names a token with a past: 1, where only `b` does: -1, else 0.

        What a route made is no token with a name: it has the past of others.
        """
        made = torch.tensor([birth.kind == "route" for birth in self.book.births])
        past = []
        for tag in (a, b):
            versions, births = versions_in(tag.ids), self.book.births_of(tag.tokens.clamp(min=0))
            old = [v for v in versions.unique().tolist() if v >= 0 and not self.versions.newborn(v)]
            known = torch.isin(versions, torch.tensor(old, dtype=torch.int64))
            past.append((known & ~made[births]).long())
        return (past[0] - past[1]).expand(both.shape)

    def _descent(self, a: Tensor, b: Tensor) -> int:
        """1 where tokens `b` are newer ones that were made of `a` (a mixer's), -1 the other way."""
        if self._meeting in (Meeting.SCORES, Meeting.BESIDE, Meeting.READ):
            return 0
        return int(self.book.descends(b, a)) - int(self.book.descends(a, b))

    def _sequence_of_neighbours(self, a: Tag, b: Tag) -> bool:
        """Whether both are whole sequences of the same tokens, one of them moved along the other."""
        if a.carried or b.carried or self._single(a) or a.softmax or b.softmax:
            return False
        tokens = [self.book.find(tag.tokens) for tag in (a, b)]
        whole = [bool((t >= 0).all()) for t in tokens]
        real = [t[t >= 0].unique() for t in tokens]
        return any(
            whole[i] and len(real[i]) == tokens[i].numel() and
            bool(torch.isin(real[1 - i], real[i]).all())
            for i in (0, 1)
        )  # fmt: skip

    def _later(self, a: Tag, b: Tag) -> Tag:
        """Of neighbours that are combined (a recurrence, a token shift), the one whose value it is."""
        self.lost = True
        if a.carried == b.carried:
            tokens_a, tokens_b = torch.broadcast_tensors(a.tokens, b.tokens)
            a_leads = int((tokens_a > tokens_b).sum()) > int((tokens_b > tokens_a).sum())
        else:
            a_leads = b.carried
        return replace(a if a_leads else b, carried=True)

    def newborn(self, tag: Tag) -> bool:
        """Whether the tag's tokens have absorbed neither attention nor a route."""
        if tag.version is not None:
            return tag.version >= 0 and self.versions.newborn(tag.version)
        found = versions_in(tag.ids).unique().tolist()
        return all(v < 0 or self.versions.newborn(v) for v in found)

    def _newborn_at(self, tag: Tag, places: Tensor) -> bool:
        """Whether a tag's entries at some places are newborn: cached keys beside those of new words."""
        ids = tag.ids.expand(places.shape)
        return self.newborn(tag.with_ids(torch.where(places, ids, NO_TOKEN)))

    def _routed(self, tokens: Tensor) -> bool:
        """Whether tokens were made of others: added to tokens, they are these."""
        births = self.book.births_of(tokens).unique().tolist()
        return all(self.book.births[index].kind == "route" for index in births)

    def promoted(self, tags: Tags) -> Tags:
        """The tags of a value that weights have touched: what waited to be a token is one now."""
        levels = {Level.PARAMETER: Level.PARAMETER_TOKEN, Level.RAW_INPUT: Level.TOKEN}
        return tuple(
            self.labelled(replace(tag, level=levels.get(tag.level, tag.level))) for tag in tags
        )

    def labelled(self, tag: Tag) -> Tag:
        """An input's token, as a label if it is one."""
        nodes = {self.book.births[index].node for index in tag.births}
        label = tag.level is Level.TOKEN and nodes and nodes <= self.labels
        return replace(tag, level=Level.LABEL) if label else tag


def _from_end(tag: Tag) -> frozenset[int]:
    """The axes along which a tag varies, counted from the last (-1)."""
    return frozenset(axis - tag.ids.dim() for axis in tag.axes)


def _comparable(a: frozenset[int], b: frozenset[int]) -> bool:
    return a <= b or b <= a


def _has(tags: Tags, tag: Tag) -> bool:
    return any(own is tag for own in tags)


def _names_pairs(tag: Tag, tagged: Sequence[tuple[Tags, tuple[int, ...]]]) -> bool:
    """Whether a tag varies along all axes of two other values, which vary along different ones."""
    others = [other for tags, _ in tagged if not _has(tags, tag) for other in tags]
    if len(others) < 2:
        return False
    axes = _from_end(tag)  # heads that were folded into the batch do not count for the others
    truly = (_from_end(other.with_ids(narrowed(other.ids))) for other in others)
    within = [other for other in truly if other < axes]
    return any(not _comparable(a, b) for i, a in enumerate(within) for b in within[:i])
