"""What a value made of scores is: statistics and factors of scores carry no token of their own."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import fxplain
from tests.between_attentions import WIDTH, Between, between
from tests.small_models import VOCABULARY, Block, seeded, words

# Channel attention


class ChannelAttention(nn.Module):
    """Features attend to features (XCiT): scores are q^T k over the tokens, times a temperature."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form, self.qkv = form, nn.Linear(WIDTH, 3 * WIDTH)
        self.temperature = nn.Parameter(torch.rand(2, 1, 1) + 1)
        self.bias = nn.Parameter(torch.randn(2, 8, 8))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (t.unflatten(-1, (2, 8)).permute(0, 2, 3, 1) for t in self.qkv(x).chunk(3, -1))
        if self.form == "on the queries":
            scores = (q * self.temperature) @ k.mT
        elif self.form == "einsum":
            scores = torch.einsum("bhcn,bhdn->bhcd", q, k) * self.temperature
        elif self.form == "bias":
            scores = q @ k.mT / self.temperature.exp() + self.bias
        else:
            scores = q @ k.mT * self.temperature
        weights = scores.sigmoid() if self.form == "sigmoid" else scores.softmax(-1)
        return (weights @ v).permute(0, 3, 1, 2).flatten(2)


CHANNEL_FORMS = ["on the scores", "on the queries", "einsum", "bias", "sigmoid"]


@pytest.mark.parametrize("form", CHANNEL_FORMS)
def test_a_temperature_of_channel_attention_is_no_token(form: str) -> None:
    graph = between(lambda: ChannelAttention(form)).graph
    over = [] if form == "sigmoid" else ["it normalises over 8 features, classes or experts"]
    assert [found.reason.removesuffix(", not over tokens") for found in graph.rejected] == over
    assert "mixes tokens without attention" in graph.warnings[0]


@pytest.mark.parametrize("form", CHANNEL_FORMS)
def test_channel_attention_alone_is_no_attention(form: str) -> None:
    model = seeded(Between, lambda: ChannelAttention(form), attention=False)
    assert fxplain.inspect(model, (words(2, 6),)).nodes == ()
    with pytest.raises(fxplain.NoAttentionError):
        fxplain.explain(model, (words(2, 6),), target=1)


# Pooling by an extreme


class Pooled(nn.Module):
    """Words and patches, each attending among themselves; what is read is a product of both."""

    def __init__(self, pool: Callable[[Tensor], Tensor], combine: Callable[..., Tensor]) -> None:
        super().__init__()
        self.words, self.patches = nn.Embedding(VOCABULARY, WIDTH), nn.Linear(5, WIDTH)
        self.head, self.pool, self.combine = nn.Linear(WIDTH, 3), pool, combine
        self.weights: list[Tensor] = []

    def attend(self, x: Tensor) -> Tensor:
        weights = (x @ x.mT / 4).softmax(-1)
        self.weights.append(weights)
        return x + weights @ x

    def forward(self, ids: Tensor, patches: Tensor) -> Tensor:
        text, image = self.attend(self.words(ids)), self.attend(self.patches(patches))
        return self.head(self.combine(self.pool(text), image.mean(1)))


POOLS: dict[str, Callable[[Tensor], Tensor]] = {
    "max": lambda x: x.max(1).values,
    "amax": lambda x: x.amax(1),
    "min": lambda x: x.min(1).values,
    "logsumexp": lambda x: x.logsumexp(1),
    "max of tanh": lambda x: x.tanh().amax(1),
    "topk": lambda x: x.topk(5, 1).values.mean(1),
}
COMBINED: dict[str, Callable[..., Tensor]] = {
    "product": lambda a, b: a * b,
    "gate": lambda a, b: b * a.sigmoid(),
    "absolute product": lambda a, b: (a * b).abs(),
}


@pytest.mark.parametrize(
    ("pool", "combine"),
    [*((pool, "product") for pool in POOLS), ("max", "gate"), ("max", "absolute product")],
)
def test_what_is_pooled_by_an_extreme_is_read(pool: str, combine: str) -> None:
    model = seeded(Pooled, POOLS[pool], COMBINED[combine])
    inputs = {"ids": torch.arange(5)[None], "patches": torch.randn(1, 4, 5)}
    found = fxplain.explain(model, inputs, target=1).relevance
    model.weights.clear()
    score = model(**inputs)[0, 1]
    for name, weights, gradient in zip(
        inputs, model.weights, torch.autograd.grad(score, model.weights), strict=True
    ):
        matrix = torch.eye(weights.shape[-1]) + (weights * gradient).clamp(min=0)[0]
        torch.testing.assert_close(found[name][0], matrix.mean(0).detach())


# Attention over chunks of keys


class Running(nn.Module):
    """Attention over chunks of keys, with a running maximum and a running sum."""

    def __init__(self, cut: Callable[[Tensor], list[Tensor]] | None) -> None:
        super().__init__()
        self.words, self.query = nn.Embedding(VOCABULARY, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.head, self.cut = nn.Linear(WIDTH, 3), cut

    def attended(self, q: Tensor, x: Tensor) -> Tensor:
        if self.cut is None:
            return (q @ x.mT / 4).softmax(-1) @ x
        top = total = summed = None
        for keys in self.cut(x):
            scores = q @ keys.mT / 4
            own = scores.amax(-1, keepdim=True)
            highest = own if top is None else torch.maximum(top, own)
            weights = (scores - highest).exp()
            sums, values = weights.sum(-1, keepdim=True), weights @ keys
            if top is None:
                total, summed = sums, values
            else:
                factor = (top - highest).exp()
                total, summed = total * factor + sums, summed * factor + values
            top = highest
        return summed / total

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        for _ in range(2):
            x = x + self.attended(self.query(x), x)
        return self.head(x[:, -1])


CUTS: dict[str, Callable[[Tensor], list[Tensor]]] = {
    "split": lambda x: list(x.split(2, 1)),
    "single keys": lambda x: list(x.split(1, 1)),
    "chunk": lambda x: list(x.chunk(3, 1)),
    "slices": lambda x: [x[:, :3], x[:, 3:4], x[:, 4:]],
    "narrow": lambda x: [x.narrow(1, i, min(2, x.shape[1] - i)) for i in range(0, x.shape[1], 2)],
    "unbind": lambda x: [key.unsqueeze(1) for key in x.unbind(1)],
    "first alone": lambda x: list(x.split([1, x.shape[1] - 1], 1)),
}


@pytest.mark.parametrize("cut", CUTS)
def test_chunks_of_one_key_are_explained_as_the_whole(cut: str) -> None:
    inputs = (torch.arange(10).reshape(2, 5),)
    whole, cut_up = seeded(Running, None), seeded(Running, CUTS[cut])
    torch.testing.assert_close(whole(*inputs), cut_up(*inputs))
    want, found = (fxplain.explain(model, inputs, target=1) for model in (whole, cut_up))
    assert found.graph.routes == ()
    assert found.graph.warnings == ()
    torch.testing.assert_close(found.relevance["ids"], want.relevance["ids"])


class AskedOnce(Running):
    """A learned query hears of all words and goes no other way."""

    def __init__(self, cut: Callable[[Tensor], list[Tensor]] | None) -> None:
        super().__init__(cut)
        self.asks = nn.Parameter(torch.randn(1, WIDTH))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        return self.head(self.attended(self.asks.expand(len(x), 1, -1), x)[:, 0])


@pytest.mark.parametrize("cut", [None, "split", "first alone"])
def test_a_running_maximum_brings_nothing_of_its_query(cut: str | None) -> None:
    e = fxplain.explain(seeded(AskedOnce, CUTS.get(cut or "")), (words(2, 5),), target=1)
    torch.testing.assert_close(e.relevance["asks"], torch.zeros(2, 1))
    assert float(e.relevance["ids"].sum()) > 0


# A single key


def by_hand(scores: Tensor) -> Tensor:
    weights = scores.exp()
    return weights / weights.sum(-1, keepdim=True)


SINGLE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "product": lambda scores, values: scores.softmax(-1) @ values,
    "weights times values": lambda scores, values: (
        scores.softmax(-1).unsqueeze(-1) * values.unsqueeze(-3)
    ).sum(-2),
    "values times weights": lambda scores, values: (
        values.unsqueeze(-3) * scores.softmax(-1)[..., None]
    ).sum(dim=-2),
    "by hand": lambda scores, values: by_hand(scores) @ values,
    "by hand, times values": lambda scores, values: (
        by_hand(scores).unsqueeze(-1) * values.unsqueeze(-3)
    ).sum(-2),
    "einsum": lambda scores, values: torch.einsum("bqk,bkd->bqd", scores.softmax(-1), values),
    "log": lambda scores, values: scores.log_softmax(-1).exp() @ values,
    "logsumexp": lambda scores, values: (
        (scores - scores.logsumexp(-1, keepdim=True)).exp() @ values
    ),
}


class OneKey(nn.Module):
    """Words attend to one vector (or one word to itself), twice."""

    def __init__(self, form: Callable[[Tensor, Tensor], Tensor], *, cross: bool) -> None:
        super().__init__()
        self.words, self.vector = nn.Embedding(VOCABULARY, WIDTH), nn.Linear(5, WIDTH)
        self.head, self.form, self.cross = nn.Linear(WIDTH, 3), form, cross

    def forward(self, ids: Tensor, vector: Tensor) -> Tensor:
        x = self.words(ids)
        keys = self.vector(vector).unsqueeze(1) if self.cross else x
        for _ in range(2):
            x = x + self.form(x @ keys.mT / 4, keys)
        return self.head(x[:, 0] if self.cross else x[:, 0] + self.vector(vector) * 0)


@pytest.mark.parametrize("form", SINGLE)
@pytest.mark.parametrize("cross", [True, False], ids=["one vector", "one word"])
def test_a_single_key_is_attended_in_every_form(form: str, cross: bool) -> None:
    inputs = {"ids": torch.arange(4 if cross else 1)[None], "vector": torch.randn(1, 5)}
    plain, other = (
        fxplain.explain(seeded(OneKey, SINGLE[name], cross=cross), inputs, target=1)
        for name in ("product", form)
    )
    assert [node.key for node in other.graph.nodes] == [("vector",) if cross else ("ids",)] * 2
    for name, relevance in plain.relevance.items():
        torch.testing.assert_close(other.relevance[name], relevance)


# Residual streams


class Streams(nn.Module):
    """Residual streams of each token, mixed by weights that sum to one along both axes (mHC)."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form, self.mix = form, nn.Linear(WIDTH, 16)
        self.scale = nn.Parameter(torch.randn(4, WIDTH))
        self.keys, self.query = nn.Linear(WIDTH, WIDTH), nn.Parameter(torch.randn(WIDTH))
        self.weights = nn.Parameter(torch.randn(4, 4))

    def learned(self) -> Tensor:
        """The same for all tokens, normalised as numbers or as their logarithms."""
        if self.form == "learned":
            weights = self.weights.exp()
            for _ in range(2):
                weights = weights / weights.sum(0, keepdim=True)
                weights = weights * weights.sum(1, keepdim=True).reciprocal()
            return weights
        if self.form == "learned softmax":
            return self.weights.softmax(0)
        logs = self.weights - self.weights.logsumexp(0, keepdim=True)
        return (logs - logs.logsumexp(1, keepdim=True)).exp()

    def forward(self, x: Tensor) -> Tensor:
        streams = x.unsqueeze(2) * self.scale
        if self.form in ("learned", "learned logs", "learned softmax"):
            return torch.einsum("ij,bnjd->bnid", self.learned(), streams).sum(2)
        if self.form == "expanded":
            streams = x.unsqueeze(1).expand(-1, 4, -1, -1).transpose(1, 2) * self.scale
        if self.form == "learned query":  # over depth, by projected keys
            depth = torch.stack([x, x.tanh(), x.sigmoid()], 2)
            scores = self.keys(depth) @ self.query
            weights = (scores - scores.amax(-1, keepdim=True)).exp()
            weights = weights / weights.sum(-1, keepdim=True)
            return (weights.unsqueeze(-2) @ depth).squeeze(-2)
        weights = self.mix(x).unflatten(-1, (4, 4))
        weights = weights.exp() if self.form != "softmax" else weights.softmax(-1)
        for _ in range(2 if self.form != "softmax" else 0):
            weights = weights / weights.sum(-1, keepdim=True)
            weights = weights / weights.sum(-2, keepdim=True)
        return (weights @ streams).sum(2)


@pytest.mark.parametrize(
    "form",
    [
        "sinkhorn", "expanded", "softmax", "learned query", "learned", "learned logs",
        "learned softmax",
    ],
)  # fmt: skip
def test_streams_of_one_token_are_not_attended(form: str) -> None:
    assert between(lambda: Streams(form)).graph.warnings == ()


# The best of many scores


class MaxSim(nn.Module):
    """Each query token's best document token (ColBERT), summed over the query."""

    def __init__(self, best: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.words, self.best = nn.Embedding(VOCABULARY, WIDTH), best
        self.weights: list[Tensor] = []

    def encoded(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        weights = (x @ x.mT / 4).softmax(-1)
        self.weights.append(weights)
        return x + weights @ x

    def forward(self, query: Tensor, doc: Tensor) -> Tensor:
        return self.best(self.encoded(query), self.encoded(doc)).sum(-1)


BEST: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "amax": lambda q, d: (q @ d.mT).amax(-1),
    "max": lambda q, d: (q @ d.mT).max(-1).values,
    "keepdim": lambda q, d: (q @ d.mT).amax(-1, keepdim=True).squeeze(-1),
    "topk": lambda q, d: (q @ d.mT).topk(1, -1).values.squeeze(-1),
    "min": lambda q, d: -(-q @ d.mT).amin(-1),
    "turned": lambda q, d: (d @ q.mT).amax(-2),
    "einsum": lambda q, d: torch.einsum("bqe,bde->bqd", q, d).amax(-1),
}


@pytest.mark.parametrize("form", BEST)
def test_the_best_of_many_scores_is_a_choice_of_keys(form: str) -> None:
    model = seeded(MaxSim, BEST[form])
    inputs = {"query": torch.arange(4).reshape(2, 2), "doc": torch.arange(5, 15).reshape(2, 5)}
    explanation = fxplain.explain(model, inputs)
    assert explanation.graph.warnings == ()
    model.weights.clear()
    score = model(**inputs).sum()
    gradients = torch.autograd.grad(score, model.weights, retain_graph=True)
    with torch.no_grad():
        best = (model.encoded(inputs["query"]) @ model.encoded(inputs["doc"]).mT).argmax(-1)
    del model.weights[2:]
    for name, weights, gradient in zip(inputs, model.weights, gradients, strict=True):
        matrix = torch.eye(weights.shape[-1]) + (weights * gradient).clamp(min=0).detach()
        for sample in range(2):
            rows = matrix[sample] if name == "query" else matrix[sample][best[sample]]
            torch.testing.assert_close(explanation.relevance[name][sample], rows.mean(0))


# Windows that overlap


class Folded(nn.Module):
    """Neighbourhoods of a grid, unfolded, weighed by their centre and folded (outlook attention)."""

    def __init__(self, *, weighed: bool = True) -> None:
        super().__init__()
        self.weights, self.weighed = nn.Linear(WIDTH, 81), weighed

    def forward(self, x: Tensor) -> Tensor:
        grid = x.unflatten(1, (2, 3)).permute(0, 3, 1, 2)
        columns = nn.functional.unfold(grid, 3, padding=1)
        if self.weighed:
            values = columns.unflatten(1, (WIDTH, 9)).permute(0, 3, 2, 1)
            weights = self.weights(x).unflatten(-1, (9, 9)).softmax(-1)
            columns = (weights @ values).permute(0, 3, 2, 1).flatten(1, 2)
        return nn.functional.fold(columns, (2, 3), 3, padding=1).flatten(2).mT


def test_weights_over_a_neighbourhood_are_attention_to_it() -> None:
    graph = fxplain.inspect(seeded(Between, Folded), (words(2, 6),))
    found = [(node.module, node.kind, node.q_len, node.k_len) for node in graph.nodes]
    assert found[1] == ("middle", "self", 1, 9)
    assert [module for module, *_ in found] == ["before.attention", "middle", "after.attention"]
    assert not graph.warnings
    assert not graph.rejected


def test_what_a_fold_sums_is_one_token_where_it_is_one() -> None:
    assert between(lambda: Folded(weighed=False)).graph.routes == ()


# Tables of relative keys


class RelativeKeys(nn.Module):
    """Learned queries attend to each other, with learned keys of their distances, then to words."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(VOCABULARY, WIDTH), nn.Linear(WIDTH, 3)
        self.queries, self.table = nn.Embedding(3, WIDTH), nn.Embedding(5, WIDTH)
        self.projected, self.form = nn.Linear(WIDTH, WIDTH), form

    def distances(self, q: Tensor) -> Tensor:
        places = torch.arange(3)[None] - torch.arange(3)[:, None] + 2
        if self.form in ("gathered", "projected"):
            table = self.table.weight
            table = self.projected(table) if self.form == "projected" else table
            return (q @ table.T).gather(-1, places.expand(len(q), 3, 3))
        keys = self.table(places)
        if self.form == "product":
            return (q.unsqueeze(2) @ keys.mT).squeeze(2)
        if self.form == "sum":
            return (q.unsqueeze(2) * keys).sum(-1)
        return torch.einsum("bqd,qkd->bqk", q, keys)

    def forward(self, ids: Tensor) -> Tensor:
        x, q = self.words(ids), self.queries.weight.repeat(len(ids), 1, 1)
        q = q + (q @ q.mT + self.distances(q)).softmax(-1) @ q
        return self.head(q + (q @ x.mT).softmax(-1) @ x)


@pytest.mark.parametrize("form", ["einsum", "gathered", "projected", "product", "sum"])
@pytest.mark.parametrize("samples", [1, 2])
def test_a_table_of_relative_keys_is_not_attended(form: str, samples: int) -> None:
    graph = fxplain.inspect(seeded(RelativeKeys, form), (torch.arange(4).repeat(samples, 1),))
    assert [(node.query, node.key) for node in graph.nodes] == [
        (("queries",), ("queries",)),
        (("queries",), ("ids",)),
    ]
    assert graph.modalities == {"ids": 4, "queries": 3}
    assert graph.warnings == ()


# Tokens mixed by a known matrix


class Mixed(nn.Module):
    """Tokens mixed by a matrix: as a product, or as products and a sum."""

    def __init__(self, form: str, matrix: Tensor, *, learned: bool) -> None:
        super().__init__()
        self.form = form
        if learned:
            self.matrix = nn.Parameter(matrix.clone())
        else:
            self.register_buffer("matrix", matrix)

    def forward(self, x: Tensor) -> Tensor:
        if self.form == "product":
            return self.matrix @ x
        if self.form == "turned":
            return (x.unsqueeze(2) * self.matrix.T[None, :, :, None]).sum(1)
        return (self.matrix[None, :, :, None] * x[:, None]).sum(dim=2)


@pytest.mark.parametrize("form", ["sum", "turned"])
@pytest.mark.parametrize("learned", [True, False], ids=["parameter", "buffer"])
@pytest.mark.parametrize("kind", ["dense", "shift"])
def test_products_that_are_summed_mix_as_a_matrix_does(form: str, learned: bool, kind: str) -> None:
    matrix = torch.rand(6, 6) if kind == "dense" else torch.eye(6).roll(1, 0)
    want, found = (
        between(lambda f=f: Mixed(f, matrix, learned=learned)) for f in ("product", form)
    )
    assert len(found.graph.routes) == len(want.graph.routes) == 1
    assert found.graph.warnings == want.graph.warnings
    torch.testing.assert_close(found.relevance["ids"], want.relevance["ids"])


# Sequences of several lengths


class Packed(nn.Module):
    """Two texts of different lengths as one batch (NaViT packs images so)."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(VOCABULARY, WIDTH), nn.Linear(WIDTH, 3)
        self.block, self.form = Block(), form

    def forward(self, ids: Tensor, more: Tensor) -> Tensor:
        long, short = self.words(ids)[0], self.words(more)[0]
        if self.form == "pad_sequence":
            x = nn.utils.rnn.pad_sequence([long, short], batch_first=True)
        else:
            x = torch.stack([long, torch.cat([short, torch.zeros(2, WIDTH)])])
        mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
        x = self.block(x, mask)
        return self.head(x[:1, 0] + x[1:, 0])


def test_padded_sequences_are_their_tokens_and_no_more() -> None:
    inputs = {"ids": torch.arange(5)[None], "more": torch.arange(3)[None]}
    want, found = (
        fxplain.explain(seeded(Packed, form), inputs, target=1) for form in ("cat", "pad_sequence")
    )
    assert found.graph.warnings == ()
    assert found.relevance["more"].shape == (1, 3)
    for name, relevance in want.relevance.items():
        torch.testing.assert_close(found.relevance[name], relevance)
