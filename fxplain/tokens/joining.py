"""Pointwise joins: which token the result belongs to when values are combined element by element."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import Enum, auto

import torch
from torch import Tensor

from fxplain.tokens.book import TokenBook
from fxplain.tokens.conditions import Conditions, is_single, newborn
from fxplain.tokens.learned import LearnedTokens
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


class Joiner:
    """Joins tags by the rules of DESIGN section 3, uniting tokens in the book where they are one."""

    def __init__(
        self,
        book: TokenBook,
        versions: Versions,
        conditions: Conditions,
        learned: LearnedTokens,
    ) -> None:
        self.book = book
        self.versions = versions
        self.conditions = conditions
        self.learned = learned
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
                    self.conditions.pairs.update(
                        self.book.births_of(tag.tokens[tag.tokens >= 0]).tolist()
                    )
                    continue
                self._merge_into(joined, self._aligned(tag, own_shape, tuple(shape)), others)
        for (tags, own_shape), strong in zip(tagged, speaks, strict=True):
            if not strong:
                self._recognise(joined, tags, own_shape, tuple(shape))
                self.conditions.note_numbers(tags)
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
        known = self.book.lineage(single[0].tokens) <= self.conditions.context.keys()
        scaled = not sums and learned[0].level is Level.PARAMETER_TOKEN
        if (known or scaled) and self.conditions.modulates(single[0], learned[0]):
            self.conditions.note(single[0])
        else:
            self.spread.append(single[0])
        return (replace(self._aligned(learned[0], own, tuple(shape)), level=Level.PARAMETER_TOKEN),)

    def _speaks(
        self, tags: Tags, tagged: Sequence[tuple[Tags, tuple[int, ...]]], top: Level
    ) -> bool:
        """Whether an operand has a say in the result's tokens."""
        level = max(tag.level for tag in tags)
        if level == top or all(map(self._heard_alone, tags)):
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
                    tag = self.learned.copied(tag, axis, shape[axis])
        return tag

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
            if self._heard_alone(a) and self._heard_alone(b) and self._strangers(a, b):
                return None  # what a learned query has pooled is read, too
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
            if self.book.share_births(own_a, own_b) or self.other_words(a, b):
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
            self.conditions.note_labels(a, b)
            older = torch.full(both.shape, descent) if descent else self._older(a, b, both)
            leads = torch.zeros(pairs.shape[1], dtype=torch.int64)
            leads = leads.scatter_reduce(0, place, older[both], "amax", include_self=False)
            self.book.unite(pairs[0], pairs[1], leads)
            return self._union(a, b, self.book.find(tokens_a), self.book.find(tokens_b))
        if len(distinct_a) == len(distinct_b) or self._meeting is Meeting.SCORES:
            return None
        larger, smaller = (a, b) if len(distinct_a) > len(distinct_b) else (b, a)
        modulates = self.conditions.modulates(smaller, larger)
        if modulates or self.conditions.is_absorbed(smaller, larger):
            self.conditions.note(smaller)
        elif not (self.newborn(larger) and self.newborn(smaller)):
            self.spread.append(smaller)
        return larger

    def other_words(self, a: Tag, b: Tag) -> bool:
        """Whether words that have heard others meet words looked up anew, each another one."""
        if self.newborn(a) == self.newborn(b) or a.axes != b.axes:
            return False  # as vectors of words before words are added to words
        pairs = torch.stack([self.book.find(tag.tokens) for tag in (a, b)])
        words = self.book.elements(pairs)
        single = (words >= 0) & (words == self.book.until(pairs))
        return bool(single.all()) and bool((words[0] != words[1]).all())

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
        return is_single(self.book, tag)

    def _heard_alone(self, tag: Tag) -> bool:
        """Whether a value of one token in each sample, which has heard others, is multiplied."""
        together = self._meeting is Meeting.TOGETHER
        return together and self._single(tag) and not self.newborn(tag) and tag.softmax is None

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
            if (
                self.newborn(tag)
                and self.book.lineage(tag.tokens) <= self.conditions.context.keys()
            ):
                return other
        return None

    def _two_readouts(self, a: Tag, b: Tag) -> bool:
        """Whether two values, of one token in each sample, make one that is read from both."""
        if self._meeting is not Meeting.TOGETHER or a.carried or b.carried:
            return False
        if (self.newborn(a) or self.newborn(b)) and not self.other_words(a, b):
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
        return newborn(self.versions, tag)

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
        raised = (replace(tag, level=levels.get(tag.level, tag.level)) for tag in tags)
        return tuple(map(self.conditions.labelled, raised))


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
