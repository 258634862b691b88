"""Mixing: attention laid out anew, tokens mixed without attention, and what each gives or says."""

import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxplain
from fxplain.explanation.detection import program_of
from tests.small_models import VOCABULARY, Attention, Block, seeded, words


class Banded(nn.Module):
    """Every word attends to itself and the two after it: by a mask, or by skewing the scores."""

    def __init__(self, *, skewed: bool) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(VOCABULARY, 8), nn.Linear(8, 3)
        self.skewed = skewed

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.words(input_ids)
        x = x + (self.by_skewing(x) if self.skewed else self.by_mask(x))
        return self.head(x.mean(1))

    def by_mask(self, x: Tensor) -> Tensor:
        ahead = torch.arange(x.shape[1]) - torch.arange(x.shape[1])[:, None]
        return F.scaled_dot_product_attention(x, x, x, attn_mask=(ahead >= 0) & (ahead < 3))

    def by_skewing(self, x: Tensor) -> Tensor:
        """Diagonals become columns; the corner holds leftovers of the next row, which a mask hides."""
        length = x.shape[1]
        scores = F.pad(x @ x.transpose(1, 2) / 8**0.5, (0, 0, 0, 1)).flatten(1)
        scores = scores.view(-1, length, length + 1)[..., :3]
        corner = scores.new_ones(2, 3).tril().flip(1)
        corner = F.pad(corner, (0, 0, length - 2, 0)) > 0
        weights = scores.masked_fill(corner, float("-inf")).softmax(-1)
        blocks = F.pad(weights.unflatten(1, (-1, 2)), (0, 3)).flatten(2)[..., :-2]
        blocks = blocks.unflatten(2, (2, 5))[..., :4]  # two queries and their four keys
        windows = F.pad(x, (0, 0, 0, 2)).unfold(1, 4, 2).transpose(-1, -2)
        return (blocks @ windows).flatten(1, 2)


def test_skewed_scores_keep_their_queries() -> None:
    skewed, plain = (seeded(Banded, skewed=skewed) for skewed in (True, False))
    ids = words(2, 6)
    e, want = (fxplain.explain(model, (ids,), target=1) for model in (skewed, plain))
    torch.testing.assert_close(e.output, want.output)
    assert e.graph.warnings == ()
    assert [node.kind for node in e.graph.nodes] == ["self"]
    torch.testing.assert_close(e.relevance["input_ids"], want.relevance["input_ids"])


# Token mixing by fixed weights


class Mixer(nn.Module):
    """Attention, then a linear layer or two along the tokens, added to the tokens they mixed."""

    def __init__(self, *widths: int, gate: bool = False) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(VOCABULARY, 8), nn.Linear(8, 3)
        pairs = itertools.pairwise(widths)
        self.mixers = nn.ModuleList(
            nn.Conv1d(n, m, 1) if gate else nn.Linear(n, m) for n, m in pairs
        )
        self.gate = gate

    def attend(self, x: Tensor) -> tuple[Tensor, Tensor]:
        weights = (x @ x.transpose(1, 2) / 8**0.5).softmax(-1)
        return x + weights @ x, weights

    def forward(self, input_ids: Tensor) -> Tensor:
        x, _ = self.attend(self.words(input_ids))
        return self.head(self.mix(x).mean(1))

    def mix(self, x: Tensor) -> Tensor:
        y = x if self.gate else x.transpose(1, 2)
        for mixer in self.mixers:
            y = mixer(y).relu()
        return x * y if self.gate else x + y.transpose(1, 2)

    def shares(self) -> Tensor:
        shares = torch.eye(self.mixers[0].weight.shape[1])
        for mixer in self.mixers:
            weight = mixer.weight.detach().abs().flatten(1)
            shares = weight / weight.sum(1, keepdim=True) @ shares
        return shares


@pytest.mark.parametrize(("widths", "gate"), [((5, 7, 5), False), ((5, 5), False), ((5, 5), True)])
def test_token_mixing_is_a_route_by_its_weights(widths: tuple[int, ...], gate: bool) -> None:
    model, ids = seeded(Mixer, *widths, gate=gate), words(1, 5)
    x, weights = model.attend(model.words(ids))
    weights.retain_grad()
    model.head(model.mix(x).mean(1))[0, 1].backward()
    attended = torch.eye(5) + (weights.grad * weights.detach())[0].clamp(min=0)
    want = (attended + model.shares() @ attended).mean(0)
    model.zero_grad(set_to_none=True)
    e = fxplain.explain(model, (ids,), target=1)
    assert e.graph.warnings == ()
    assert e.graph.modalities == {"input_ids": 5}
    assert e.readout == ("mean of input_ids[0..4]",)
    torch.testing.assert_close(e.relevance["input_ids"][0], want)


class Mixed(nn.Module):
    """Words mixed along the sequence into three tokens before any attention; these attend."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(VOCABULARY, 8), nn.Linear(8, 3)
        self.mixer = nn.Parameter(torch.randn(3, 6))

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.mixer @ self.words(input_ids)
        return self.head((x + F.scaled_dot_product_attention(x, x, x))[:, 0])


def test_newborn_tokens_are_mixed_into_as_many_as_the_weights_make() -> None:
    graph = fxplain.inspect(seeded(Mixed), (words(2, 6),))
    assert graph.modalities == {"input_ids": 3}
    assert graph.readout == "input_ids[0]"


# Mixing that cannot be followed


class Scan(nn.Module):
    """Attention, then a gated recurrence over the words, one after the other."""

    def __init__(self, *, backwards: bool = False) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(VOCABULARY, 8), nn.Linear(8, 3)
        self.decay, self.backwards = nn.Linear(8, 8), backwards

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.words(input_ids)
        x = x + F.scaled_dot_product_attention(x, x, x)
        decay, state = self.decay(x).sigmoid(), torch.zeros_like(x[:, 0])
        states = [state] * x.shape[1]
        for i in reversed(range(x.shape[1])) if self.backwards else range(x.shape[1]):
            states[i] = state = decay[:, i] * state + x[:, i]
        return self.head(x + torch.stack(states, 1))


@pytest.mark.parametrize("backwards", [False, True])
def test_a_recurrence_keeps_each_steps_token_and_says_that_it_mixes(backwards: bool) -> None:
    graph = fxplain.inspect(seeded(Scan, backwards=backwards), (words(2, 7),))
    assert [node.kind for node in graph.nodes] == ["self"]
    assert graph.readout == "each of input_ids[0..6]"
    (warning,) = graph.warnings
    assert "mixes tokens without attention" in warning
    assert "aten.add.Tensor in the model" in warning


class Linear(nn.Module):
    """Attention, then attention without a softmax: running sums of keys times values."""

    def __init__(self, *, summed: bool) -> None:
        super().__init__()
        self.words, self.head, self.summed = nn.Embedding(VOCABULARY, 8), nn.Linear(8, 3), summed

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.words(input_ids)
        x = x + F.scaled_dot_product_attention(x, x, x)
        if self.summed:
            scores = (x.unsqueeze(2) * x.unsqueeze(1)).sum(-1).sigmoid()
            y = (scores.unsqueeze(-1) * x.unsqueeze(1)).sum(2)
        else:
            y = (x.sigmoid().transpose(1, 2) @ x).transpose(1, 2)
            y = x.sigmoid() @ y
        return self.head((x + y)[:, 0])


@pytest.mark.parametrize("summed", [False, True])
def test_attention_without_a_softmax_says_that_it_mixes(summed: bool) -> None:
    graph = fxplain.inspect(seeded(Linear, summed=summed), (words(2, 5),))
    (warning,) = graph.warnings
    assert "mixes tokens without attention" in warning
    assert graph.readout == "input_ids[0]"


class Sums(nn.Module):
    """Words attend to themselves and to sums of blocks of them: a one-hot product."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(VOCABULARY, 8), nn.Linear(8, 3)
        self.last = nn.Parameter(torch.randn(6))

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.words(input_ids)
        blocks = F.one_hot(torch.arange(x.shape[1]) // 2).to(x.dtype)
        keys = torch.cat([x, blocks.t().expand(x.shape[0], -1, -1) @ x], 1)
        x = x + F.scaled_dot_product_attention(x, keys, keys)
        return self.head(x.transpose(1, 2) @ self.last)


def test_block_sums_are_attended_as_what_they_are_made_of() -> None:
    graph = fxplain.inspect(seeded(Sums), (words(2, 6),))
    (node,) = graph.nodes
    assert (node.kind, node.q_len, node.k_len) == ("self", 6, 9)
    assert graph.modalities == {"input_ids": 6}
    assert "1 token" not in graph.readout
    first = next(route for route in graph.routes)
    assert first.operation in ("matmul", "bmm")
    assert next(s.tokens for s in graph.streams if s.name == first.target) == 3


class Distances(nn.Module):
    """Scores of heads folded into the batch, plus something for every pair of words."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(VOCABULARY, 8), nn.Linear(8, 3)
        self.between = nn.Embedding(10, 2)

    def forward(self, input_ids: Tensor, places: Tensor) -> Tensor:
        batch, length = input_ids.shape
        x = self.words(input_ids)
        q = x.unflatten(-1, (2, 4)).transpose(1, 2).reshape(-1, length, 4)
        scores = (q @ q.transpose(1, 2)).view(batch, 2, length, length)
        apart = (places[:, :, None] - places[:, None, :]).abs()
        weights = (scores + self.between(apart).permute(0, 3, 1, 2)).softmax(-1)
        y = (weights.flatten(0, 1) @ q).unflatten(0, (batch, 2)).transpose(1, 2).flatten(2)
        return self.head((x + y)[:, 0])


def test_what_belongs_to_pairs_is_no_token_in_folded_scores() -> None:
    places = torch.arange(5).expand(2, -1)
    graph = fxplain.inspect(seeded(Distances), (words(2, 5), places))
    assert [node.kind for node in graph.nodes] == ["self"]
    assert graph.modalities == {"input_ids": 5}


class Gated(nn.Module):
    """Words gated by a softmax over them, element by element; then they attend."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.project = nn.Embedding(VOCABULARY, 8), nn.Linear(8, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.words(input_ids)
        x = self.project(x * x.softmax(1))
        weights = (x @ x.transpose(1, 2)).softmax(-1)
        return self.head((x + weights @ x)[:, 0])


def test_a_gated_value_that_is_projected_is_no_attention_weight() -> None:
    graph = fxplain.inspect(seeded(Gated), (words(2, 5),))
    assert [(node.kind, node.q_len, node.k_len) for node in graph.nodes] == [("self", 5, 5)]
    assert len(graph.rejected) == 1
    (warning,) = graph.warnings  # each word is scaled by a softmax over all of them
    assert "influence that the explanation misses" in warning


class Graph(Mixed):
    """Attention, then neighbours in a graph that is given as a float matrix."""

    def forward(self, input_ids: Tensor, adjacency: Tensor) -> Tensor:
        x = self.words(input_ids)
        x = x + F.scaled_dot_product_attention(x, x, x)
        return self.head((adjacency @ x)[:, 0])


def test_a_given_graph_mixes_tokens_by_its_own_weights() -> None:
    ids, adjacency = words(2, 6), torch.rand(2, 6, 6)
    e = fxplain.explain(seeded(Graph), (ids, adjacency), target=1)
    assert e.graph.warnings == ()
    assert e.graph.modalities == {"input_ids": 6}
    shares = adjacency / adjacency.sum(-1, keepdim=True)
    assert bool((e.relevance["input_ids"] >= shares[:, 0] - 1e-6).all())


class PairedUp(nn.Module):
    """Words are made half as many after they attended, by a window of its own axis or of a plane."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.words, self.first, self.second = nn.Embedding(VOCABULARY, 16), Block(), Block()
        self.plane = nn.Conv2d(1, 1, (2, 3), (2, 1), (0, 1), bias=False)
        self.head, self.form = nn.Linear(16, 3), form

    def forward(self, ids: Tensor) -> Tensor:
        x = self.first(self.words(ids))
        if self.form == "conv_2d":
            x = self.plane(x[:, None])[:, 0]
        elif self.form == "pool_2d":
            x = F.avg_pool2d(x[:, None], (2, 1))[:, 0]
        elif self.form == "adaptive_2d":
            x = F.adaptive_avg_pool2d(x[:, None], (3, 16))[:, 0]
        else:
            x = F.avg_pool1d(x.mT, 2).mT
        return self.head(self.second(x)[:, 0])


@pytest.mark.parametrize("form", ["pool_2d", "adaptive_2d"])
def test_a_window_over_words_and_features_makes_words(form: str) -> None:
    plane, line = (
        fxplain.explain(seeded(PairedUp, each), (words(2, 6),), target=1)
        for each in (form, "pool_1d")
    )
    assert [s.tokens for s in plane.graph.streams] == [6, 3]
    assert plane.readout == line.readout
    torch.testing.assert_close(plane.relevance["ids"], line.relevance["ids"])


def test_taps_over_features_are_one_word_s() -> None:
    model, ids = seeded(PairedUp, "conv_2d"), words(1, 6)
    _, _, program = program_of(model, (ids,))
    (route,) = program.routes.values()
    (entries,) = route.entries
    taps = model.plane.weight.abs().sum((0, 1, 3))
    shares = torch.zeros(3, 6, dtype=torch.float64)
    shares[entries.new, entries.old] = entries.shares
    expected = torch.kron(torch.eye(3), (taps / taps.sum())[None])
    torch.testing.assert_close(shares, expected.detach().double())


class RelativeValues(nn.Module):
    """Weights over a learned table of relative positions, beside those over words, by skewing."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(VOCABULARY, 8), nn.Linear(8, 3)
        self.table = nn.Parameter(torch.randn(1, 9, 8))

    def forward(self, ids: Tensor) -> Tensor:
        return self.after(self.weights(ids), ids)

    def weights(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        return (x @ x.mT / 8**0.5).softmax(-1)

    def after(self, weights: Tensor, ids: Tensor) -> Tensor:
        n, x = weights.shape[-1], self.words(ids)
        by_distance = F.pad(weights, (0, n - 1)).flatten(1)
        by_distance = F.pad(by_distance, (n, 0)).view(-1, n, 2 * n)[..., 1:]
        return self.head((x + weights @ x + by_distance @ self.table)[:, 1])


def test_weights_over_a_table_are_their_query_s() -> None:
    model, ids = seeded(RelativeValues), words(2, 5)
    weights = model.weights(ids).detach().requires_grad_()
    model.after(weights, ids)[:, 1].sum().backward()
    want = torch.eye(5)[1] + (weights.grad * weights.detach()).clamp(min=0)[:, 1]
    e = fxplain.explain(model, (ids,), target=1)
    assert e.graph.warnings == ()
    assert e.graph.modalities == {"ids": 5}
    torch.testing.assert_close(e.relevance["ids"], want)


class AtTheirPlaces(nn.Module):
    """As many learned queries as samples, the queries first, moved to their places and back."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(VOCABULARY, 16), nn.Linear(16, 3)
        self.queries, self.first = nn.Parameter(torch.randn(2, 1, 16)), nn.Linear(16, 16)
        self.asks = Attention()

    def forward(self, ids: Tensor, places: Tensor) -> Tensor:
        x, queries = self.words(ids), self.first(self.queries.expand(-1, len(ids), -1))
        moved = torch.einsum("mbd,bml->bld", queries, places)
        heard = torch.einsum("bld,bml->mbd", self.asks(moved, x), places)
        return self.head((queries + heard).transpose(0, 1))


def test_a_one_hot_product_moves_tokens() -> None:
    model, ids = seeded(AtTheirPlaces), words(2, 5)
    places = F.one_hot(torch.tensor([[3, 1], [0, 4]]), 5).float()
    e = fxplain.explain(model, (ids, places), target=(1, 2))
    assert e.graph.warnings == ()
    assert e.graph.modalities == {"ids": 5, "queries": 2}
    assert e.readout == ("queries[1]",) * 2
    for sample in (0, 1):
        alone = (ids[sample : sample + 1], places[sample : sample + 1])
        want = fxplain.explain(model, alone, target=(1, 2)).relevance
        torch.testing.assert_close(e.relevance["ids"][sample], want["ids"][0], rtol=1e-4, atol=1e-4)
