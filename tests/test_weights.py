"""Weights that are normalised by hand, or not at all: attention all the same, with its values."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxplain
from tests.small_models import VOCABULARY, seeded, words

WIDTH, LENGTH, CHUNK = 16, 7, 3

Normalise = Callable[[Tensor], Tensor]


class Attending(nn.Module):
    """One layer of attention over words, whose weights `normalise` makes of the scores."""

    def __init__(self, normalise: Normalise | None = None) -> None:
        super().__init__()
        self.normalise = normalise
        self.words = nn.Embedding(VOCABULARY, WIDTH)
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.head = nn.Linear(WIDTH, 3)

    def projected(self, x: Tensor) -> list[Tensor]:
        """Queries, keys and values of two heads, and the scores' scale in the queries."""
        parts = (self.query(x) / 8**0.5, self.key(x), self.value(x))
        return [part.unflatten(-1, (2, -1)).transpose(1, 2) for part in parts]

    def attended(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        assert self.normalise is not None
        return self.normalise(q @ k.transpose(-1, -2)) @ v

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.words(input_ids)
        x = x + self.out(self.attended(*self.projected(x)).transpose(1, 2).flatten(2))
        return self.head(x[:, 0])

    def scores(self, input_ids: Tensor) -> Tensor:
        q, k, _ = self.projected(self.words(input_ids))
        return (q @ k.transpose(-1, -2)).detach()


def masked_exponentials(scores: Tensor) -> Tensor:
    weights = (scores - scores.max(-1, keepdim=True).values).exp()
    return weights.masked_fill(torch.arange(LENGTH) > 4, 0.0)


def renormalised(scores: Tensor) -> Tensor:
    weights = scores.softmax(-1) * (torch.arange(LENGTH) < 5)
    return weights / weights.sum(-1).unsqueeze(-1).clamp(min=1e-9)


def off_by_one(scores: Tensor) -> Tensor:
    highest = scores.amax(-1, keepdim=True)
    weights = (scores - highest).exp()
    return weights / (weights.sum(-1, keepdim=True) + (-highest).exp())


def over_sum(weights: Tensor) -> Tensor:
    return weights / (weights.sum(-1, keepdim=True) + 1e-6)


NORMALISED: dict[str, Normalise] = {
    "logsumexp": lambda s: (s - s.logsumexp(-1, keepdim=True)).exp(),
    "log_softmax": lambda s: F.log_softmax(s, -1).exp(),
    "exponentials": lambda s: over_sum((s - s.amax(-1, keepdim=True)).exp()),
    "masked exponentials": lambda s: over_sum(masked_exponentials(s)),
    "masked and renormalised": renormalised,
    "reciprocal": lambda s: s.exp() * s.exp().sum(-1, keepdim=True).reciprocal(),
    "one over": lambda s: (e := s.exp()) * (1 / e.sum(-1, keepdim=True)),
    "norm of order 1": lambda s: F.normalize(s.relu(), p=1, dim=-1),
    "softplus": lambda s: over_sum(F.softplus(s)),
    "polynomial": lambda s: over_sum((s + 1) ** 2),
    "softmax off by one": off_by_one,
}
UNNORMALISED: dict[str, Normalise] = {
    "sigmoid": lambda s: (s - math.log(LENGTH)).sigmoid(),
    "relu": lambda s: s.relu() / LENGTH,
    "squared relu": lambda s: s.relu().square() / LENGTH,
}


@pytest.mark.parametrize("name", [*NORMALISED, *UNNORMALISED])
def test_weights_made_by_hand_are_attention(name: str) -> None:
    normalise = (NORMALISED | UNNORMALISED)[name]
    model, inputs = seeded(Attending, normalise), (words(2, LENGTH),)
    graph = fxplain.inspect(model, inputs)
    (node,) = graph.nodes
    assert (node.kind, node.heads, node.q_len, node.k_len) == ("self", 2, LENGTH, LENGTH)
    assert graph.modalities == {"input_ids": LENGTH}
    assert graph.routes == graph.warnings == graph.rejected == ()
    (weights,) = fxplain.attention_weights(model, inputs).values()
    torch.testing.assert_close(weights, normalise(model.scores(*inputs)))


class DividedLater(Attending):
    """The product of weights and values is divided by the weights' sum."""

    def attended(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        weights = (q @ k.transpose(-1, -2)).exp()
        return weights @ v / weights.sum(-1, keepdim=True)


class InChunks(Attending):
    """Chunks of keys with a running maximum and a running sum, as attention in tiles computes it."""

    def attended(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        highest = torch.full((*q.shape[:-1], 1), float("-inf"))
        total, mixed = torch.zeros_like(highest), torch.zeros_like(q)
        for key, value in zip(k.split(CHUNK, -2), v.split(CHUNK, -2), strict=True):
            scores = q @ key.transpose(-1, -2)
            higher = torch.maximum(highest, scores.amax(-1, keepdim=True))
            weights, rescale = (scores - higher).exp(), (highest - higher).exp()
            total = total * rescale + weights.sum(-1, keepdim=True)
            mixed, highest = mixed * rescale + weights @ value, higher
        return mixed / total


class MaskedAndBiased(Attending):
    """A learned bias for every pair and a mask are put into scores that are divided later."""

    def __init__(self, chosen: Callable[[Tensor, Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.bias, self.chosen = nn.Parameter(torch.randn(2, LENGTH, LENGTH)), chosen

    def attended(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores, seen = q @ k.transpose(-1, -2) + self.bias, torch.arange(LENGTH) < 5
        if self.chosen is None:
            return scores.masked_fill(~seen, float("-inf")).softmax(-1) @ v
        weights = self.chosen(seen, scores).exp()
        return weights @ v / weights.sum(-1, keepdim=True)


@pytest.mark.parametrize(
    "chosen",
    [
        lambda seen, scores: torch.where(seen, scores, float("-inf")),
        lambda seen, scores: torch.where(seen, scores, torch.tensor(float("-inf"))),
        lambda seen, scores: scores.masked_fill(~seen, torch.tensor(float("-inf"))),
        lambda seen, scores: torch.multiply(scores, 1.0).masked_fill(~seen, float("-inf")),
    ],
    ids=["where a number", "where a tensor", "filled with a tensor", "multiplied"],
)
def test_what_masks_and_shifts_scores_leaves_them_scores(
    chosen: Callable[[Tensor, Tensor], Tensor],
) -> None:
    inputs = (words(1, LENGTH),)
    plain = fxplain.explain(seeded(MaskedAndBiased), inputs, target=1)
    found = fxplain.explain(seeded(MaskedAndBiased, chosen), inputs, target=1)
    assert (len(found.graph.nodes), found.graph.warnings) == (1, ())
    torch.testing.assert_close(found.relevance["input_ids"], plain.relevance["input_ids"])


@pytest.mark.parametrize("kind", [DividedLater, InChunks])
def test_weights_that_are_divided_after_the_product(kind: type[Attending]) -> None:
    model, inputs = seeded(kind), (words(2, LENGTH),)
    weights = torch.cat([*fxplain.attention_weights(model, inputs).values()], -1)
    torch.testing.assert_close(weights, model.scores(*inputs).softmax(-1))
    assert fxplain.inspect(model, inputs).routes == ()


@pytest.mark.parametrize("kind", [DividedLater, InChunks])
def test_they_are_explained_as_a_softmax_is(kind: type[Attending]) -> None:
    inputs = (words(2, LENGTH),)
    plain = fxplain.explain(seeded(Attending, lambda s: s.softmax(-1)), inputs, target=1)
    found = fxplain.explain(seeded(kind), inputs, target=1)
    torch.testing.assert_close(found.relevance["input_ids"], plain.relevance["input_ids"])


class Linear(Attending):
    """Linear attention: keys and values are contracted first."""

    def attended(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k = F.elu(q) + 1, F.elu(k) + 1
        return q @ (k.transpose(-1, -2) @ v) / (q @ k.sum(-2).unsqueeze(-1))


class Decaying(Attending):
    """Scores times a decay that the tokens themselves choose, as state-space models have it."""

    def attended(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        steps = -F.softplus(k[..., 0]).cumsum(-1)
        decay = (steps.unsqueeze(-1) - steps.unsqueeze(-2)).tril().exp().tril()
        return (q @ k.transpose(-1, -2) * decay) @ v


@pytest.mark.parametrize(
    "model",
    [Linear(), Decaying(), Attending(lambda s: s / LENGTH)],
    ids=["linear", "decaying", "signed"],
)
def test_what_is_no_attention_is_said_so(model: nn.Module) -> None:
    graph = fxplain.inspect(model.eval(), (words(2, LENGTH),))
    assert graph.nodes == ()
    assert any("mixes tokens without attention" in warning for warning in graph.warnings)


class Picking(Attending):
    """Each head attends to the keys that it scores highest over all queries: it gathers them."""

    def attended(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        best = (q @ k.transpose(-1, -2)).sum(-2).topk(CHUNK, -1).indices
        index = best.unsqueeze(-1).expand(-1, -1, -1, q.shape[-1])
        k, v = k.gather(-2, index), v.gather(-2, index)
        return (q @ k.transpose(-1, -2)).softmax(-1) @ v


class Masking(Attending):
    """The same, with all others masked."""

    def attended(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = q @ k.transpose(-1, -2)
        best = scores.sum(-2).topk(CHUNK, -1).indices
        kept = torch.zeros(scores[..., 0, :].shape).scatter(-1, best, 1.0).bool().unsqueeze(-2)
        return scores.masked_fill(~kept, float("-inf")).softmax(-1) @ v


def test_heads_with_keys_of_their_own_are_averaged() -> None:
    inputs = (words(2, LENGTH),)
    masked, picked = seeded(Masking), seeded(Picking)
    (node,) = fxplain.inspect(picked, inputs).nodes
    assert (node.heads, node.k_len) == (2, CHUNK)
    expected = fxplain.explain(masked, inputs, target=1).relevance["input_ids"]
    found = fxplain.explain(picked, inputs, target=1).relevance["input_ids"]
    torch.testing.assert_close(found, expected)


# Queries that are learned, or that no product makes


class Pooling(nn.Module):
    """Words are pooled by `pool`, which gets the model and the words."""

    def __init__(self, pool: Callable[["Pooling", Tensor], Tensor]) -> None:
        super().__init__()
        self.pool = pool
        self.words = nn.Embedding(VOCABULARY, WIDTH)
        self.queries = nn.Parameter(torch.randn(4, WIDTH))
        self.direction = nn.Parameter(torch.randn(WIDTH))
        self.key, self.query = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.one, self.four = nn.Linear(WIDTH, 1), nn.Linear(WIDTH, 4)

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.pool(self, self.words(input_ids))

    def additive(self, x: Tensor) -> Tensor:
        """Bahdanau's scores of all words against all, (batch, words, words, 1)."""
        return self.one(torch.tanh(self.query(x).unsqueeze(2) + self.key(x).unsqueeze(1)))


def raw_queries(m: Pooling, x: Tensor) -> Tensor:
    return (m.queries @ m.key(x).transpose(1, 2)).softmax(-1) @ x


def queries_in_an_einsum(m: Pooling, x: Tensor) -> Tensor:
    weights = torch.einsum("qd,bkd->bqk", m.queries, x).softmax(-1)
    return torch.einsum("bqk,bkd->bqd", weights, x)


def projected_queries(m: Pooling, x: Tensor) -> Tensor:
    return (m.query(m.queries) @ m.key(x).transpose(1, 2)).softmax(-1) @ x


def one_direction(m: Pooling, x: Tensor) -> Tensor:
    return ((torch.tanh(m.key(x)) @ m.direction).softmax(-1).unsqueeze(-1) * x).sum(1)


def several_heads(m: Pooling, x: Tensor) -> Tensor:
    return (m.four(x).softmax(1).unsqueeze(-1) * x.unflatten(-1, (4, -1))).sum(1)


def additive_products(m: Pooling, x: Tensor) -> Tensor:
    return x + m.additive(x).squeeze(-1).softmax(-1) @ x


def additive_sums(m: Pooling, x: Tensor) -> Tensor:
    return x + (m.additive(x).softmax(2) * x.unsqueeze(1)).sum(2)


def products_then_sums(m: Pooling, x: Tensor) -> Tensor:
    weights = (m.query(x) @ m.key(x).transpose(1, 2)).softmax(-1)
    return x + (weights.unsqueeze(-1) * x.unsqueeze(1)).sum(2)


@pytest.mark.parametrize(
    ("pool", "kind", "heads", "queries"),
    [
        (raw_queries, "pooling", 1, 4),
        (queries_in_an_einsum, "pooling", 1, 4),
        (projected_queries, "pooling", 1, 4),
        (one_direction, "pooling", 1, 1),
        (lambda m, x: (m.one(x).softmax(1) * x).sum(1), "pooling", 1, 1),
        (several_heads, "pooling", 4, 1),
        (additive_products, "self", 1, LENGTH),
        (additive_sums, "self", 1, LENGTH),
        (products_then_sums, "self", 1, LENGTH),
    ],
)
def test_how_many_queries_pool(
    pool: Callable[[Pooling, Tensor], Tensor], kind: str, heads: int, queries: int
) -> None:
    model, inputs = seeded(Pooling, pool), (words(2, LENGTH),)
    graph = fxplain.inspect(model, inputs)
    (node,) = graph.nodes
    assert (node.kind, node.heads, node.q_len, node.k_len) == (kind, heads, queries, LENGTH)
    assert graph.warnings == ()
    (weights,) = fxplain.attention_weights(model, inputs).values()
    assert weights.shape[-2:] == (queries, LENGTH)
    torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))


def test_sums_and_products_of_weights_are_explained_alike() -> None:
    inputs = (words(2, LENGTH),)
    found = [
        fxplain.explain(seeded(Pooling, pool), inputs, target=(0, 1)).relevance["input_ids"]
        for pool in (additive_products, additive_sums)
    ]
    torch.testing.assert_close(*found)


def test_a_sum_over_pairs_is_said_so() -> None:
    model = seeded(Pooling, lambda m, x: x + m.query(m.additive(x) * m.direction).sum(2))
    graph = fxplain.inspect(model, (words(2, LENGTH),))
    assert graph.routes == ()
    assert "aten.sum.dim_IntList in the model mixes tokens without attention" in graph.warnings[0]
