"""The same function written otherwise has the same explanation, in single models and in batches."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxplain
from tests.long_run import quickly
from tests.small_models import VOCABULARY, seeded, words

HEADS, WIDE = 2, 8
Heads = Callable[[Tensor, Tensor, Tensor], Tensor]


def attended(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention of (batch, heads, tokens, features)."""
    return weights(query, key) @ value


def weights(query: Tensor, key: Tensor) -> Tensor:
    return (query @ key.mT / math.sqrt(query.shape[-1])).softmax(-1)


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDE)
        self.query, self.key, self.value, self.out = (nn.Linear(WIDE, WIDE) for _ in range(4))


class Plain(nn.Module):
    """Words, two layers of attention, and the mean of all that it says."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(VOCABULARY, WIDE), nn.Parameter(torch.randn(6, WIDE))
        self.layers = nn.ModuleList(Layer() for _ in range(2))
        self.head = nn.Linear(WIDE, 3)

    def embed(self, ids: Tensor) -> Tensor:
        return self.words(ids)

    def split(self, layer: Layer, x: Tensor) -> tuple[Tensor, ...]:
        parts = (layer.query(x), layer.key(x), layer.value(x))
        return tuple(p.unflatten(-1, (HEADS, -1)).transpose(1, 2) for p in parts)

    def attend(self, layer: Layer, x: Tensor) -> Tensor:
        return layer.out(attended(*self.split(layer, x)).transpose(1, 2).flatten(2))

    def add(self, x: Tensor, said: Tensor) -> Tensor:
        return x + said

    def pool(self, x: Tensor) -> Tensor:
        return x.mean(1)

    def run(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = self.add(x, self.attend(layer, layer.norm(x)))
        return x

    def classify(self, pooled: Tensor) -> Tensor:
        return self.head(pooled)

    def forward(self, ids: Tensor) -> Tensor:
        return self.classify(self.pool(self.run(self.embed(ids) + self.places)))


class TheSecondOfTwoCopies(Plain):
    """The batch runs beside itself, as it would beside an unconditioned one."""

    def run(self, x: Tensor) -> Tensor:
        return super().run(torch.cat([x, x])).chunk(2)[1]


class TheMeanOfTwoCopies(Plain):
    def run(self, x: Tensor) -> Tensor:
        return super().run(x.repeat(2, 1, 1)).unflatten(0, (2, -1)).mean(0)


class ComparedWithEachClass(Plain):
    """Each class has a learned vector; those are weights, no tokens."""

    def classify(self, pooled: Tensor) -> Tensor:
        directions = self.head.weight
        cosines = F.cosine_similarity(pooled[:, None], directions, dim=-1)
        lengths = pooled.norm(dim=-1, keepdim=True) * directions.norm(dim=-1)
        return cosines * lengths + self.head.bias


class OneClassAfterTheOther(Plain):
    def classify(self, pooled: Tensor) -> Tensor:
        scores = [pooled @ row + b for row, b in zip(self.head.weight, self.head.bias, strict=True)]
        return torch.stack(scores, -1)


class HeadsWrittenIntoPlace(Plain):
    def attend(self, layer: Layer, x: Tensor) -> Tensor:
        made = torch.empty_like(x)
        for i, (q, k, v) in enumerate(
            zip(*(t.unbind(1) for t in self.split(layer, x)), strict=True)
        ):
            made[..., 4 * i : 4 * i + 4] = attended(q, k, v)
        return layer.out(made)


class HeadsProjectedAndSummed(Plain):
    def attend(self, layer: Layer, x: Tensor) -> Tensor:
        made = layer.out.bias.expand_as(x)
        for i, (q, k, v) in enumerate(
            zip(*(t.unbind(1) for t in self.split(layer, x)), strict=True)
        ):
            made = made + attended(q, k, v) @ layer.out.weight[:, 4 * i : 4 * i + 4].mT
        return made


class KeysInHalves(Plain):
    """Each half of the keys has a softmax; a sigmoid of their log sums weighs them."""

    def meet(self, one: Tensor, other: Tensor, share: Tensor) -> Tensor:
        return share * one + (1 - share) * other

    def attend(self, layer: Layer, x: Tensor) -> Tensor:
        query, key, value = self.split(layer, x)
        scores = (query @ key.mT / 2).split([2, 4], -1)
        values = value.split([2, 4], 2)
        said = [s.softmax(-1) @ v for s, v in zip(scores, values, strict=True)]
        left, right = (s.logsumexp(-1, keepdim=True) for s in scores)
        met = self.meet(*said, torch.sigmoid(left - right))
        return layer.out(met.transpose(1, 2).flatten(2))


class HalvesMeet(KeysInHalves):
    def meet(self, one: Tensor, other: Tensor, share: Tensor) -> Tensor:
        return torch.lerp(other, one, share)


class PartsAskAlone(Plain):
    """The first words and the others ask one after the other, and are not one value before they do."""

    def attend(self, layer: Layer, x: Tensor) -> Tensor:
        parts = []
        for part in x.split([2, 4], 1):
            query = layer.query(part).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            _, key, value = self.split(layer, x)
            parts.append(layer.out(attended(query, key, value).transpose(1, 2).flatten(2)))
        return torch.cat(parts, 1)


class HeadsByStrides(Plain):
    def split(self, layer: Layer, x: Tensor) -> tuple[Tensor, ...]:
        batch, tokens, _ = x.shape
        shape, strides = (batch, HEADS, tokens, 4), (tokens * WIDE, 4, WIDE, 1)
        parts = (layer.query(x), layer.key(x), layer.value(x))
        return tuple(p.contiguous().as_strided(shape, strides) for p in parts)


class RowsAddedInALoop(Plain):
    def pool(self, x: Tensor) -> Tensor:
        total = x[:, 0]
        for i in range(1, x.shape[1]):
            total = total + x[:, i]
        return total / x.shape[1]


class TheFirstAndTheSumOfTheRest(Plain):
    def pool(self, x: Tensor) -> Tensor:
        return (x[:, 0] + x[:, 1:].sum(1)) / x.shape[1]


class RowsAddedInPairs(Plain):
    def pool(self, x: Tensor) -> Tensor:
        return (x[:, ::2] + x[:, 1::2]).mean(1) / 2


class AddedByIndex(Plain):
    def add(self, x: Tensor, said: Tensor) -> Tensor:
        return x.index_add(1, torch.arange(x.shape[1]), said)


class HeadsWrittenThroughParts(Plain):
    """Each head's output is added to one of the views that `split` gives of zeros."""

    def attend(self, layer: Layer, x: Tensor) -> Tensor:
        query, key, value = self.split(layer, x)
        made = torch.zeros_like(query)
        for head, part in enumerate(made.split(1, 1)):
            part.add_(attended(query, key, value)[:, head : head + 1]).mul_(2)
        for part in made.unbind(1):
            part.div_(2)
        return layer.out(made.transpose(1, 2).flatten(2))


class ACopyIsWritten(Plain):
    """What `contiguous` copied is written; what it was copied of stays."""

    def attend(self, layer: Layer, x: Tensor) -> Tensor:
        query, key, value = self.split(layer, x)
        key.contiguous().mul_(3)
        key.reshape(len(x), -1, WIDE // HEADS).mul_(3)
        return layer.out(attended(query, key, value).transpose(1, 2).flatten(2))


class SortedWords(Plain):
    """Words are looked up in the order of their numbers, and put back."""

    def embed(self, ids: Tensor) -> Tensor:
        order = ids.argsort(1)
        back = order.argsort(1)[..., None].expand(-1, -1, WIDE)
        return self.words(ids.gather(1, order)).gather(1, back)


class WordsAndPlacesStacked(Plain):
    """Words and their places are added as the sum of a stack."""

    def forward(self, ids: Tensor) -> Tensor:
        parts = torch.stack([self.words(ids), self.places.expand(len(ids), -1, -1)])
        return self.classify(self.pool(self.run(parts.sum(0))))


class SortedAtOnce(Plain):
    def embed(self, ids: Tensor) -> Tensor:
        ordered, order = ids.sort(1)
        return self.words(ordered).gather(1, order.argsort(1)[..., None].expand(-1, -1, WIDE))


class EachKindOnce(Plain):
    """Each kind of word is looked up once."""

    def embed(self, ids: Tensor) -> Tensor:
        kinds, place = ids.unique(return_inverse=True)
        return self.words(kinds)[place]


@pytest.mark.parametrize("batch", quickly([1, 3], [3]))
@pytest.mark.parametrize(
    "form",
    [
        HeadsWrittenIntoPlace, HeadsProjectedAndSummed, KeysInHalves, HalvesMeet, PartsAskAlone,
        HeadsByStrides, RowsAddedInALoop, RowsAddedInPairs, TheFirstAndTheSumOfTheRest, AddedByIndex,
        SortedWords, SortedAtOnce, EachKindOnce, TheSecondOfTwoCopies, TheMeanOfTwoCopies,
        ComparedWithEachClass, OneClassAfterTheOther, WordsAndPlacesStacked, HeadsWrittenThroughParts,
        ACopyIsWritten,
    ],
)  # fmt: skip
def test_the_same_function(form: type[Plain], batch: int) -> None:
    ids = words(batch, 6)
    e, want = (fxplain.explain(seeded(f), (ids,), target=1) for f in (form, Plain))
    torch.testing.assert_close(e.output, want.output)
    assert e.graph.warnings == ()
    assert [*e.relevance] == ["ids"]
    torch.testing.assert_close(e.relevance["ids"], want.relevance["ids"], rtol=1e-4, atol=1e-5)


class Joint(nn.Module):
    """Words and marks attend to each other as one sequence, or as two that stay apart."""

    def __init__(self, *, apart: bool) -> None:
        super().__init__()
        self.words, self.marks = nn.Embedding(VOCABULARY, WIDE), nn.Linear(4, WIDE)
        self.layers = nn.ModuleList(Layer() for _ in range(2))
        self.head, self.apart = nn.Linear(WIDE, 3), apart

    def asks(self, layer: Layer, x: Tensor, all_: Tensor) -> Tensor:
        return x + layer.out(attended(layer.query(x), layer.key(all_), layer.value(all_)))

    def forward(self, ids: Tensor, marks: Tensor) -> Tensor:
        text, other = self.words(ids), self.marks(marks)
        for layer in self.layers:
            all_ = torch.cat([text, other], 1)
            if self.apart:
                text, other = self.asks(layer, text, all_), self.asks(layer, other, all_)
            else:
                text, other = self.asks(layer, all_, all_).split([ids.shape[1], marks.shape[1]], 1)
        return self.head(text[:, 0])


def test_streams_that_stay_apart_and_see_each_other_whole() -> None:
    given = {"ids": words(2, 5), "marks": F.normalize(torch.randn(2, 3, 4), dim=-1)}
    e, want = (fxplain.explain(seeded(Joint, apart=a), given, target=1) for a in (True, False))
    torch.testing.assert_close(e.output, want.output)
    for name in given:
        torch.testing.assert_close(e.relevance[name], want.relevance[name], rtol=1e-4, atol=1e-5)


class Unpadded(Plain):
    """Each sample's real words run alone; 0 is no word."""

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids) + self.places
        real = [x[i : i + 1, ids[i].nonzero()[:, 0]] for i in range(len(x))]
        return self.head(torch.cat([self.run(one).mean(1) for one in real]))


class UnpaddedConvolved(Unpadded):
    """Words are looked up as a convolution of what they are coded by."""

    def embed(self, ids: Tensor) -> Tensor:
        coded = F.one_hot(ids, VOCABULARY).float().mT
        return F.conv1d(coded, self.words.weight.mT[..., None]).mT


def test_words_that_only_some_samples_lack_keep_their_places() -> None:
    ids = torch.tensor([[5, 2, 3, 4, 1, 6], [3, 0, 2, 6, 5, 4], [0, 4, 4, 2, 0, 1]])
    e, want = (
        fxplain.explain(seeded(form), (ids,), target=1) for form in (UnpaddedConvolved, Unpadded)
    )
    assert bool((want.relevance["ids"][ids == 0] == 0).all())
    torch.testing.assert_close(e.relevance["ids"], want.relevance["ids"], rtol=1e-4, atol=1e-5)


class Columns(nn.Module):
    """A table's columns are tokens: a number times a vector, behind a token that is read."""

    def __init__(self, *, convolved: bool) -> None:
        super().__init__()
        self.start, self.vectors = (
            nn.Parameter(torch.randn(1, WIDE)),
            nn.Parameter(torch.randn(5, WIDE)),
        )
        self.layer, self.head, self.convolved = Layer(), nn.Linear(WIDE, 3), convolved

    def forward(self, table: Tensor) -> Tensor:
        if self.convolved:
            filters = self.vectors.reshape(-1, 1, 1)
            columns = F.conv1d(table[..., None], filters, groups=5).reshape(len(table), 5, WIDE)
        else:
            columns = table[..., None] * self.vectors
        x = torch.cat([self.start.expand(len(table), 1, -1), columns], 1)
        x = x + self.layer.out(
            attended(*(f(x) for f in (self.layer.query, self.layer.key, self.layer.value)))
        )
        return self.head(x[:, 0])


def test_columns_that_have_filters_of_their_own() -> None:
    table = torch.randn(3, 5)
    e, want = (
        fxplain.explain(seeded(Columns, convolved=c), (table,), target=1) for c in (True, False)
    )
    torch.testing.assert_close(e.output, want.output)
    assert want.relevance["table"].shape == (3, 6)
    torch.testing.assert_close(e.relevance["table"], want.relevance["table"], rtol=1e-4, atol=1e-5)


class Latents(nn.Module):
    """Learned latents ask the words, add what they were, and are asked by the words."""

    def __init__(self, broadcast: bool) -> None:
        super().__init__()
        self.words, self.latents = (
            nn.Embedding(VOCABULARY, WIDE),
            nn.Parameter(torch.randn(3, WIDE)),
        )
        self.asked, self.asking = Layer(), Layer()
        self.head, self.broadcast = nn.Linear(WIDE, 3), broadcast

    def attend(self, layer: Layer, x: Tensor, y: Tensor) -> Tensor:
        return layer.out(attended(layer.query(x), layer.key(y), layer.value(y)))

    def forward(self, ids: Tensor) -> Tensor:
        x, each = self.words(ids), self.latents.expand(len(ids), -1, -1)
        heard = self.attend(self.asked, each, x)
        each = heard + (self.latents if self.broadcast else each)
        return self.head((x + self.attend(self.asking, x, each))[:, -1])


@pytest.mark.parametrize("batch", [1, 2])
def test_latents_are_added_to_what_those_of_each_sample_heard(batch: int) -> None:
    ids = words(2, 6)[:batch]
    plain, other = (
        fxplain.explain(seeded(Latents, broadcast).double(), (ids,), target=1).relevance
        for broadcast in (False, True)
    )
    assert set(plain) == {"ids", "latents"}
    assert float(plain["latents"].sum()) > 0
    for name, relevance in plain.items():
        torch.testing.assert_close(other[name], relevance)


class KeyOfEachHead(Plain):
    """Before the words' keys a learned one, of which each head has features of its own."""

    def __init__(self, shared: bool) -> None:
        super().__init__()
        self.key, self.value = (
            nn.Parameter(torch.randn(HEADS, 1, WIDE // HEADS)) for _ in range(2)
        )
        self.shared = shared

    def learned(self, x: Tensor, of: nn.Parameter) -> Tensor:
        """(batch, heads, 1, features): of one vector that is split into heads, or of one for each."""
        if self.shared:
            return of.flatten().view(1, 1, HEADS, -1).expand(len(x), -1, -1, -1).transpose(1, 2)
        return of.expand(len(x), -1, -1, -1)

    def attend(self, layer: Layer, x: Tensor) -> Tensor:
        query, key, value = self.split(layer, x)
        key = torch.cat([self.learned(x, self.key), key], 2)
        value = torch.cat([self.learned(x, self.value), value], 2)
        return layer.out(attended(query, key, value).transpose(1, 2).flatten(2))


@pytest.mark.parametrize("batch", [1, 3])
def test_a_learned_key_of_each_head_is_one_token(batch: int) -> None:
    ids = words(3, 6)[:batch]
    made = []
    for shared in (False, True):
        made.append(fxplain.explain(seeded(KeyOfEachHead, shared).double(), (ids,), target=1))
    assert [e.relevance["ids"].shape for e in made] == [(batch, 7)] * 2
    torch.testing.assert_close(made[0].relevance["ids"], made[1].relevance["ids"])
