"""Values of few tokens that meet those of many: pooled vectors, conditions, queries, products."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxplain
from tests.long_run import quickly
from tests.small_models import VOCABULARY, Attention, Block, pixels, seeded, words

WIDTH = 8


class Pooled(nn.Module):
    """Attention, a step on what it made, and a head on the first word."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.words, self.styles = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(VOCABULARY, WIDTH)
        self.gate, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 3)
        self.form = form

    def attend(self, x: Tensor) -> tuple[Tensor, Tensor]:
        weights = (x @ x.transpose(1, 2) / WIDTH**0.5).softmax(-1)
        return x + weights @ x, weights

    def forward(self, ids: Tensor, style: Tensor | None = None) -> Tensor:
        x = self.words(ids)
        if self.form == "before":
            x, _ = self.attend(self.step(x, style))
        else:
            x = self.step(self.attend(x)[0], style)
        return self.head(x[:, 0])

    def step(self, x: Tensor, style: Tensor | None) -> Tensor:
        if style is not None:
            scale, shift = self.styles(style)[:, None].chunk(2, -1)
            return x * (1 + scale.repeat(1, 1, 2)) + shift.repeat(1, 1, 2)
        pooled = x.mean(1, keepdim=True)
        return x + pooled if self.form == "added" else x * self.gate(pooled).sigmoid()


@pytest.mark.parametrize("form", ["added", "gating"])
def test_a_pooled_vector_reaches_every_token(form: str) -> None:
    model, ids = seeded(Pooled, form), words(1, 5)
    x, weights = model.attend(model.words(ids))
    weights.retain_grad()
    model.head(model.step(x, None)[:, 0])[0, 1].backward()
    attended = torch.eye(5) + (weights.grad * weights.detach())[0].clamp(min=0)
    model.zero_grad(set_to_none=True)
    e = fxplain.explain(model, (ids,), target=1)
    assert e.graph.warnings == ()
    assert e.graph.modalities == {"ids": 5}
    assert e.readout == ("ids[0] with mean of ids[0..4]",)
    torch.testing.assert_close(e.relevance["ids"][0], attended[0] + attended.mean(0))


@pytest.mark.parametrize("form", ["after", "before"])
def test_a_condition_is_context(form: str) -> None:
    """It acts on all tokens alike: no attention carries it, and no depth makes it relevant."""
    inputs = {"ids": words(2, 5), "style": words(2)}
    e = fxplain.explain(seeded(Pooled, form), inputs, target=1)
    assert e.graph.warnings == ()
    assert e.graph.modalities == {"ids": 5}
    assert e.graph.context == ("style",)
    for sample in (0, 1):
        alone = {name: value[sample : sample + 1] for name, value in inputs.items()}
        alone = fxplain.explain(seeded(Pooled, form), alone, target=1)
        torch.testing.assert_close(e.relevance["ids"][sample], alone.relevance["ids"][0])


class TopDown(nn.Module):
    """A coarse grid, attended, is laid over a finer one that was attended, too."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(3, 16, 4, 4), nn.Conv2d(16, 16, 2, 2)
        self.first, self.second, self.head = Block(), Block(), nn.Linear(16, 3)

    def forward(self, image: Tensor) -> Tensor:
        fine = self.first(self.fine(image).flatten(2).mT).mT.unflatten(2, (4, 4))
        coarse = self.second(self.coarse(fine).flatten(2).mT).mT.unflatten(2, (2, 2))
        return self.head((fine + F.interpolate(coarse, scale_factor=2)).flatten(2)[..., 0])


def test_a_coarse_grid_reaches_the_finer_one() -> None:
    graph = fxplain.inspect(seeded(TopDown), (pixels(2, 3, 16, 16),))
    assert graph.warnings == ()
    assert [route.operation for route in graph.routes] == ["conv2d", "add"]


class Product(nn.Module):
    """Two texts, each read in its own way, multiplied."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.words, self.first, self.second = nn.Embedding(VOCABULARY, 16), Block(), Block()
        self.form = form

    def forward(self, one: Tensor, two: Tensor) -> Tensor:
        one, two = self.first(self.words(one)), self.second(self.words(two))
        if self.form == "mean":
            return one.mean(1) * two.mean(1)
        return one[:, 0] * (two if self.form == "first" else one)[:, -1]


@pytest.mark.parametrize(
    ("form", "readout"),
    [
        ("first", "one[0] and two[4]"),
        ("mean", "mean of one[0..4] and mean of two[0..4]"),
        ("neighbours", "one[0] and one[4]"),
    ],
)
def test_a_product_is_read_from_both(form: str, readout: str) -> None:
    graph = fxplain.inspect(seeded(Product, form), (words(2, 5), words(2, 5)))
    assert graph.warnings == ()
    assert graph.readout == readout


class AskedByTheLast(nn.Module):
    """The last word's query meets every key element by element: additive attention."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.words, self.block, self.head = nn.Embedding(VOCABULARY, 16), Block(), nn.Linear(16, 3)
        self.attention, self.score, self.form = Attention(), nn.Linear(16, 1), form

    def forward(self, ids: Tensor) -> Tensor:
        x = self.block(self.words(ids))
        query, key = self.attention.query(x[:, -1:]), self.attention.key(x)
        if self.form == "sum":
            scores = self.score((query + key).tanh())
        else:
            scores = (query * key).sum(-1, keepdim=True)
        return self.head((self.weights(scores) * x).sum(1))

    def weights(self, scores: Tensor) -> Tensor:
        if self.form == "written out":
            powers = ((scores - scores.amax(1, keepdim=True)) * 1.4427).exp2()
            return powers / powers.sum(1, keepdim=True)
        if self.form == "logarithms":
            return (scores - scores.logsumexp(1, keepdim=True)).exp()
        return scores.softmax(1)


@pytest.mark.parametrize("form", ["sum", "product", "written out", "logarithms"])
def test_a_query_keeps_its_token_in_scores_made_element_by_element(form: str) -> None:
    graph = fxplain.inspect(seeded(AskedByTheLast, form), (words(2, 5),))
    assert graph.warnings == ()
    assert [(n.kind, n.q_len, n.k_len) for n in graph.nodes] == [("self", 5, 5), ("self", 1, 5)]
    assert graph.readout == "ids[4]"


class GatedByItsSummary(nn.Module):
    """Tokens are weighed into one vector, which gates them all (MobileViT v2)."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.block, self.head = nn.Embedding(VOCABULARY, 16), Block(), nn.Linear(16, 3)
        self.score, self.key = nn.Linear(16, 1), nn.Linear(16, 16)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.block(self.words(ids))
        summary = (self.key(x) * self.score(x).softmax(1)).sum(1, keepdim=True)
        return self.head((x.relu() * summary.expand_as(x))[:, 0])


def test_a_summary_that_gates_is_attention() -> None:
    graph = fxplain.inspect(seeded(GatedByItsSummary), (words(2, 5),))
    assert [node.kind for node in graph.nodes] == ["self", "pooling"]
    assert [route.operation for route in graph.routes] == ["mul"]


class Queries(nn.Module):
    """Learned queries, all of which one vector of the input is added to."""

    def __init__(self, *, expanded: bool) -> None:
        super().__init__()
        self.words, self.block, self.cross = nn.Embedding(VOCABULARY, 16), Block(), Attention()
        self.queries, self.expanded = nn.Parameter(torch.randn(3, 16)), expanded

    def forward(self, ids: Tensor) -> Tensor:
        x = self.block(self.words(ids))
        queries = self.queries.expand(len(x), -1, -1) if self.expanded else self.queries
        queries = queries + x[:, :1]
        return queries + self.cross(queries, x)


@pytest.mark.parametrize("expanded", quickly([False, True], [True]))
def test_learned_queries_that_hear_of_one_token_stay_many(*, expanded: bool) -> None:
    graph = fxplain.inspect(seeded(Queries, expanded=expanded), (words(2, 5),))
    assert graph.warnings == ()
    assert graph.modalities == {"ids": 5, "queries": 3}
    assert graph.readout == "each of queries[0..2]"
    assert [(r.operation, r.source, r.target) for r in graph.routes] == [
        ("add", ("ids",), "queries")
    ]
    assert [node.kind for node in graph.nodes] == ["self", "pooling"]
