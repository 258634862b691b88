"""Weights beside a plain contraction: shared by heads or features, read twice, or without keys."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxplain
from tests.attention_by_hand import (
    HEADS,
    SIZE,
    TOKENS,
    WIDTH,
    Form,
    check_classifier,
    classifier,
    distances,
    noted,
    split,
)
from tests.small_models import VOCABULARY, seeded, words


class OneMap(Form):
    """All heads of the values are weighed alike."""

    def scores(self, query: Tensor, key: Tensor) -> Tensor:
        return super().scores(query, key)[:, :1]

    def mixed(self, scores: Tensor, value: Tensor) -> Tensor:
        return self.weighed(noted(scores.softmax(-1)), value)

    def weighed(self, weights: Tensor, value: Tensor) -> Tensor:
        return weights @ value


class OneMapOnTheRight(OneMap):
    """The same, with values on the left."""

    def weighed(self, weights: Tensor, value: Tensor) -> Tensor:
        return (value.mT @ weights.mT).mT


class Summed(OneMap):
    """The same, expanded to every feature, and summed."""

    def weighed(self, weights: Tensor, value: Tensor) -> Tensor:
        shape = (len(value), HEADS, TOKENS, TOKENS, SIZE)
        return (weights.unsqueeze(-1).expand(shape) * value.unsqueeze(2)).sum(-2)


class Expanded(OneMap):
    """The same by an einsum of all its axes."""

    def weighed(self, weights: Tensor, value: Tensor) -> Tensor:
        shape = (len(value), HEADS, TOKENS, TOKENS, SIZE)
        weights, value = weights.unsqueeze(-1).expand(shape), value.unsqueeze(2).expand(shape)
        return torch.einsum("bhijd,bhijd->bhid", weights, value)


class RelativeValues(Form):
    """A learned table of values by distance is weighed beside those of the tokens."""

    def build(self) -> None:
        self.table = nn.Embedding(5, SIZE)

    def mixed(self, scores: Tensor, value: Tensor) -> Tensor:
        weights = noted(scores.softmax(-1))
        table = self.table(distances().clamp(-2, 2) + 2)
        return weights @ value + torch.einsum("bhij,ijd->bhid", weights, table)


class Copied(Form):
    """What is looked at is written beside what was heard: a pointer."""

    def build(self) -> None:
        self.pointer = nn.Linear(TOKENS, SIZE)

    def mixed(self, scores: Tensor, value: Tensor) -> Tensor:
        weights = noted(scores.softmax(-1))
        return (weights.flatten(0, 1) @ value.flatten(0, 1)).unflatten(0, (-1, HEADS)) * (
            1 + self.pointer(weights).tanh()
        )


class WithoutKeys(nn.Module):
    """Each token says by itself how much every place weighs."""

    def __init__(self) -> None:
        super().__init__()
        self.places, self.value, self.out = (
            nn.Linear(WIDTH, HEADS * TOKENS),
            nn.Linear(WIDTH, WIDTH),
            nn.Linear(WIDTH, WIDTH),
        )

    def forward(self, x: Tensor) -> Tensor:
        scores = self.places(x).unflatten(-1, (HEADS, TOKENS)).transpose(1, 2)
        weights = noted(scores.softmax(-1))
        return self.out((weights @ split(self.value(x))).transpose(1, 2).flatten(2))


FORMS = [OneMap, OneMapOnTheRight, Summed, Expanded, RelativeValues, Copied, WithoutKeys]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_form_is_what_it_is_by_hand(form: type[nn.Module]) -> None:
    model = classifier(form, form)
    check_classifier(model)
    assert str(fxplain.verify(model, (words(2, TOKENS),)).broken) == "()"


class Windows(nn.Module):
    """Weights over the last three words, one row for each, from the word alone or not normalised."""

    def __init__(self, normalised: bool) -> None:
        super().__init__()
        self.words, self.taps = nn.Embedding(VOCABULARY, WIDTH), nn.Linear(WIDTH, 3)
        self.normalised, self.head = normalised, nn.Linear(WIDTH, 3)
        self.query, self.key = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.words(input_ids)
        taps = self.taps(x)
        taps = taps.softmax(-1) if self.normalised else taps
        near = F.pad(x, (0, 0, 2, 0)).unfold(1, 3, 1)
        x = x + torch.einsum("bnt,bndt->bnd", taps, near)
        scores = self.query(x) @ self.key(x).mT / math.sqrt(WIDTH)
        return self.head(x + scores.softmax(-1) @ x)[:, -1]


def test_windows_are_attention_where_their_weights_sum_to_one() -> None:
    graph = fxplain.inspect(seeded(Windows, True), (words(2, TOKENS),))
    assert [(node.kind, node.k_len) for node in graph.nodes] == [("self", 3), ("self", TOKENS)]
    assert not graph.warnings


def test_windows_are_warned_of_where_they_do_not() -> None:
    graph = fxplain.inspect(seeded(Windows, False), (words(2, TOKENS),))
    assert [node.k_len for node in graph.nodes] == [TOKENS]
    assert any("mixes tokens without attention" in text for text in graph.warnings)


class Routers(nn.Module):
    """Learned routers for each segment, repeated for every sample, before segments of all samples."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.routers = (
            nn.Embedding(VOCABULARY, WIDTH),
            nn.Parameter(torch.randn(3, 2, WIDTH)),
        )
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.words(input_ids).reshape(-1, 2, WIDTH)
        routers = self.routers.repeat(len(input_ids), 1, 1)
        sent = routers + (routers @ x.mT).softmax(-1) @ x
        x = x + (x @ sent.mT).softmax(-1) @ sent
        return self.head(x.reshape(len(input_ids), -1, WIDTH).mean(1))


def test_learned_tokens_that_are_repeated_for_samples_are_each_samples_own() -> None:
    model, inputs = seeded(Routers), (words(2, 6),)
    explanation = fxplain.explain(model, inputs, target=1)
    assert dict(explanation.graph.modalities) == {"input_ids": 6, "routers": 6}
    assert not explanation.graph.warnings
    assert fxplain.verify(model, inputs).ok


class Depth(nn.Module):
    """A learned query weighs the states of each token so far: the first time, there is one."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.query = nn.Embedding(VOCABULARY, WIDTH), nn.Parameter(torch.randn(WIDTH))
        self.head, self.values = nn.Linear(WIDTH, 3), nn.Linear(WIDTH, WIDTH)

    def forward(self, input_ids: Tensor) -> Tensor:
        states = [self.words(input_ids)]
        for _ in range(2):
            x = torch.stack(states, 2)
            x = ((x * self.query).sum(-1).softmax(-1).unsqueeze(-1) * x).sum(2)
            states.append((x @ x.mT).softmax(-1) @ self.values(x))
        return self.head(states[-1][:, 0])


def test_states_of_one_token_are_no_keys_even_if_there_is_only_one() -> None:
    graph = fxplain.inspect(seeded(Depth), (words(2, 5),))
    assert [(node.q_len, node.k_len) for node in graph.nodes] == [(5, 5), (5, 5)]
    assert not graph.warnings


class MixedHeads(Form):
    """Heads hear of each other after the softmax, by a matrix product with a learned table."""

    def build(self) -> None:
        self.table = nn.Parameter(torch.randn(HEADS, HEADS))

    def mixed(self, scores: Tensor, value: Tensor) -> Tensor:
        weights = torch.einsum("bhij,hg->bgij", scores.softmax(-1), self.table.abs())
        return noted(weights) @ value


def test_a_table_of_heads_leaves_weights_what_they_are() -> None:
    check_classifier(classifier(MixedHeads, MixedHeads))
