"""Ways of writing that packages have: each against the rules by hand, alone and in batches."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxplain
from tests.by_hand import HEADS, WIDE, Attention, OverWords, explained, heard, joined, split
from tests.small_models import seeded

# -- a learned query that weighs the layers of each word ------------------------------------------


def by_exponentials(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    weights = (q @ k.mT).exp()
    return weights / weights.sum(-1, keepdim=True) @ v


def divided_late(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    weights = (q @ k.mT).exp()
    return (weights @ v) / weights.sum(-1, keepdim=True)


ASKED: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "product": lambda q, k, v: (q @ k.mT).softmax(-1) @ v,
    "fused": F.scaled_dot_product_attention,
    "exponentials": by_exponentials,
    "divided late": divided_late,
    "logarithm": lambda q, k, v: (q @ k.mT).log_softmax(-1).exp() @ v,
}


class Depth(nn.Module):
    """Each word's states of all layers, weighed by a learned query; then one more attention."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.words, self.query = nn.Embedding(30, WIDE), nn.Parameter(torch.randn(WIDE))
        self.a, self.b, self.pool = Attention(), Attention(), Attention()
        self.head, self.form = nn.Linear(WIDE, 3), form

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        y = x + self.a(x)
        states = torch.stack([x, y], 2).flatten(0, 1)  # (batch * words, layers, features)
        query = self.pool.q(self.query.expand(len(states), 1, -1))
        asked = ASKED[self.form](
            split(query), split(self.pool.k(states)), split(self.pool.v(states))
        )
        x = joined(asked).view(y.shape)
        return self.head((x + self.b(x))[:, 0])


@pytest.mark.parametrize("form", ASKED)
def test_a_learned_query_of_a_words_own_layers_is_no_token(form: str) -> None:
    model, ids = seeded(Depth, form), torch.randint(0, 30, (2, 7))
    e = explained(model, (ids,))
    assert e.graph.modalities == {"ids": 7}
    a, b = heard(model, (ids,), [model.a, model.b])
    first = torch.eye(7) + a
    want = first + b @ first
    torch.testing.assert_close(e.relevance["ids"], want[:, 0], atol=1e-5, rtol=1e-4)


# -- learned tokens -------------------------------------------------------------------------------


class Latents(nn.Module):
    """Latents whose norms a time step scales and shifts read a picture's patches, which read them."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.time = nn.Linear(8, WIDE), nn.Linear(1, WIDE)
        self.latents = nn.Parameter(torch.randn(4, WIDE))
        self.read, self.attend, self.write = Attention(), Attention(), Attention()
        self.adapt = nn.ModuleList(nn.Linear(WIDE, 2 * WIDE) for _ in range(3))
        self.norm, self.head = nn.LayerNorm(WIDE, elementwise_affine=False), nn.Linear(WIDE, 3)

    def normed(self, i: int, x: Tensor, time: Tensor) -> Tensor:
        scale, shift = self.adapt[i](time)[:, None].chunk(2, -1)
        return self.norm(x) * (1 + scale) + shift

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        time = self.time(time[:, None])
        x = self.patches(x)
        latents = self.latents.expand(len(x), -1, -1)
        latents = latents + self.read(self.normed(0, latents, time), x)
        latents = latents + self.attend(self.normed(1, latents, time))
        return self.head((x + self.write(self.normed(2, x, time), latents))[:, 0])


def test_latents_that_a_condition_scales_stay_latents() -> None:
    torch.manual_seed(2)  # no row is so small that it is rounding or not
    model, inputs = seeded(Latents), (torch.randn(2, 6, 8), torch.rand(2))
    e = explained(model, inputs)
    assert e.graph.modalities | {"time": 1} == {"x": 6, "time": 1, "latents": 4}
    assert [node.kind for node in e.graph.nodes] == ["co", "self", "co"]
    attend, write = heard(model, inputs, [model.attend, model.write])
    total = attend.sum(-1, keepdim=True)
    normalised = torch.where(total > 1e-6, attend / total, 0)  # equations 8 and 9, but for rounding
    want = write @ (normalised + torch.eye(4))  # equation 10
    torch.testing.assert_close(e.relevance["latents"], want[:, 0], atol=1e-5, rtol=1e-4)


class Agents(nn.Module):
    """Learned tokens gather what words say, and words hear them; each head has features of them."""

    def __init__(self, *, fused: bool, apart: bool) -> None:
        super().__init__()
        self.words, self.qkv, self.head = (
            nn.Embedding(30, WIDE),
            nn.Linear(WIDE, 48),
            nn.Linear(WIDE, 3),
        )
        agents = torch.randn(3, WIDE)
        self.agents = nn.Parameter(split(agents[None])[0].contiguous() if apart else agents)
        self.fused = fused

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        q, k, v = map(split, self.qkv(x).chunk(3, -1))
        agents = self.agents if self.agents.dim() == 3 else split(self.agents[None])[0]
        agents = agents.expand(len(ids), -1, -1, -1)
        attend = ASKED["fused" if self.fused else "product"]
        return self.head((x + joined(attend(q, agents, attend(agents, k, v))))[:, 0])


@pytest.mark.parametrize("fused", [False, True])
def test_learned_tokens_of_which_each_head_has_features_are_one_token_each(*, fused: bool) -> None:
    ids, one, other = (
        torch.randint(0, 30, (2, 7)),
        *(seeded(Agents, fused=fused, apart=apart) for apart in (False, True)),
    )
    torch.testing.assert_close(one(ids), other(ids))
    e, want = explained(other, (ids,)), explained(one, (ids,))
    assert e.graph.modalities == want.graph.modalities == {"ids": 7, "agents": 3}
    torch.testing.assert_close(e.relevance["ids"], want.relevance["ids"])


# -- heads in the batch of a convolution ----------------------------------------------------------


def pooled(x: Tensor, by: nn.Module, side: int = 4) -> Tensor:
    """Tokens of a grid (batch, heads, tokens, features), pooled head by head."""
    batch, heads, _, features = x.shape
    grid = x.reshape(batch * heads, side, side, features).permute(0, 3, 1, 2)
    return by(grid).reshape(batch, heads, features, -1).mT


class PooledKeys(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches, self.head = nn.Conv2d(3, WIDE, 4, 4), nn.Linear(WIDE, 3)
        self.attention = Attention()

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image).flatten(2).mT
        keys = joined(pooled(split(x), nn.AvgPool2d(3, 2, 1)))
        return self.head((x + self.attention(x, keys)).mean(1))


def test_heads_in_the_batch_of_a_pooling_make_no_tokens_of_their_own() -> None:
    e = explained(seeded(PooledKeys), (torch.randn(2, 3, 16, 16),))
    assert e.graph.modalities == {"image": 16}
    assert [(node.kind, node.k_len) for node in e.graph.nodes] == [("self", 4)]


class PooledQueries(nn.Module):
    """Queries and the skip are pooled each in its own way, beside a class token that is not."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.head = nn.Conv2d(3, WIDE, 4, 4), nn.Linear(WIDE, 3)
        self.start, self.first, self.second = (
            nn.Parameter(torch.randn(1, 1, WIDE)),
            Attention(),
            Attention(),
        )

    def beside(self, x: Tensor, by: nn.Module) -> Tensor:
        return torch.cat([x[:, :, :1], pooled(x[:, :, 1:], by)], 2)

    def forward(self, image: Tensor) -> Tensor:
        patches = self.patches(image).flatten(2).mT
        x = torch.cat([self.start.expand(len(image), -1, -1), patches], 1)
        x = x + self.first(x)
        attention = self.second
        queries = self.beside(split(attention.q(x)), nn.AvgPool2d(3, 2, 1))
        attention.kept = (queries @ split(attention.k(x)).mT / 8**0.5).softmax(-1)
        x = self.beside(x[:, None], nn.MaxPool2d(3, 2, 1))[:, 0] + attention.o(
            joined(attention.kept @ split(attention.v(x)))
        )
        return self.head(x[:, 0])


def test_what_is_pooled_in_two_ways_beside_a_class_token_is_one_sequence() -> None:
    model, image = seeded(PooledQueries), torch.randn(2, 3, 16, 16)
    e = explained(model, (image,))
    first, second = heard(model, (image,), [model.first, model.second])
    own = torch.eye(17) + first
    want = own[:, 0] + (second[:, :1] @ own)[:, 0]
    torch.testing.assert_close(e.relevance["image"], want, atol=1e-5, rtol=1e-4)
    assert not e.graph.warnings


# -- what goes round attention --------------------------------------------------------------------


class Fields(nn.Module):
    """A table's fields attend; a dense layer reads all of them beside it, and numbers that do not."""

    def __init__(self, *, dense: bool, numbers: int) -> None:
        super().__init__()
        self.fields = nn.ModuleList(nn.Embedding(9, WIDE) for _ in range(3))
        self.attention, self.dense, self.numbers = Attention(), nn.Linear(3 * WIDE, 8), numbers
        self.head, self.beside = nn.Linear(3 * WIDE + 8 * dense + numbers, 3), dense

    def forward(self, table: Tensor) -> Tensor:
        fields = [e(table[:, i : i + 1].long()) for i, e in enumerate(self.fields)]
        x = torch.cat(fields, 1)
        read = [(x + self.attention(x)).flatten(1)]
        if self.beside:
            read.append(self.dense(torch.cat(fields, -1).flatten(1)).relu())
        if self.numbers:
            read.append(table[:, 3:])
        return self.head(torch.cat(read, -1))


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("numbers", [0, 2])
def test_fields_that_a_dense_layer_reads_beside_attention_stay_apart(
    *, dense: bool, numbers: int
) -> None:
    table = torch.cat([torch.randint(0, 9, (2, 3)).float(), torch.randn(2, numbers)], 1)
    e = explained(seeded(Fields, dense=dense, numbers=numbers), (table,))
    assert e.graph.modalities == {"table": 3 + numbers}
    assert [(node.kind, node.q_len) for node in e.graph.nodes] == [("self", 3)]
    assert (e.relevance["table"] > 0).all()
    assert not fxplain.verify(seeded(Fields, dense=dense, numbers=numbers), (table,)).broken


class Skip(nn.Module):
    """Pixels go round the transformer of a picture's patches, through a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.attention = nn.Conv2d(1, WIDE, 4, 4), Attention()
        self.up, self.round = nn.ConvTranspose2d(WIDE, 8, 4, 4), nn.Conv2d(1, 8, 3, padding=1)
        self.out = nn.Conv2d(16, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image).flatten(2).mT
        x = (x + self.attention(x)).mT.unflatten(-1, (3, 3))
        return self.out(torch.cat([self.up(x), self.round(image)], 1))[:, :, 5, 5]


def test_pixels_that_go_round_attention_are_read_too() -> None:
    e = explained(seeded(Skip), (torch.randn(2, 1, 12, 12),))
    assert e.graph.modalities == {"image": 9, "image@round": 144}
    assert any("read in several ways" in str(warning) for warning in e.graph.warnings)
    assert "image@round" in e.readout[0]


class Interests(nn.Module):
    """A history weighed by what was asked for; a dense layer reads it, and every other input."""

    def __init__(self, fields: int) -> None:
        super().__init__()
        self.items, self.fields = (
            nn.Embedding(9, 8),
            nn.ModuleList(nn.Embedding(5, 8) for _ in range(fields)),
        )
        self.weigh = nn.Sequential(nn.Linear(32, 8), nn.ReLU(), nn.Linear(8, 1))
        self.head = nn.Sequential(nn.Linear(8 * (fields + 2), 8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, history: Tensor, item: Tensor, user: Tensor) -> Tensor:
        h, asked = self.items(history), self.items(item)
        q = asked[:, None].expand_as(h)
        weights = self.weigh(torch.cat([q, h, q - h, q * h], -1)).softmax(1)
        fields = [field(user[:, i]) for i, field in enumerate(self.fields)]
        return self.head(torch.cat([(weights * h).sum(1), asked, *fields], -1))


@pytest.mark.parametrize("fields", [1, 6])
def test_inputs_that_are_read_beside_attention_are_each_read_by_themselves(fields: int) -> None:
    inputs = (
        torch.randint(0, 9, (2, 4)),
        torch.randint(0, 9, (2,)),
        torch.randint(0, 5, (2, fields)),
    )
    e = explained(seeded(Interests, fields), inputs)
    assert e.graph.modalities == {"history": 4, "item": 1, "user": fields}
    for name in ("item", "user"):
        torch.testing.assert_close(e.relevance[name], torch.ones_like(e.relevance[name]))


# -- which tokens ---------------------------------------------------------------------------------


class Items(nn.Module):
    """Items' fixed vectors, plus an embedding of when each was seen."""

    def __init__(self, *, first: bool) -> None:
        super().__init__()
        self.register_buffer("items", torch.randn(30, WIDE))
        self.times, self.attention, self.head = (
            nn.Embedding(20, WIDE),
            Attention(),
            nn.Linear(WIDE, 3),
        )
        self.first = first

    def forward(self, ids: Tensor, time: Tensor) -> Tensor:
        parts = self.items[ids], self.times(time)
        x = parts[0] + parts[1] if self.first else parts[1] + parts[0]
        return self.head((x + self.attention(x))[:, -1])


@pytest.mark.parametrize("first", [False, True])
def test_fixed_vectors_of_words_are_tokens_beside_other_inputs(*, first: bool) -> None:
    inputs = torch.randint(0, 30, (2, 6)), torch.randint(0, 20, (2, 6))
    assert explained(seeded(Items, first=first), inputs).graph.modalities == {"ids": 6}


class Numbers(nn.Module):
    """Every number of (batch, steps, features) is embedded by itself, and all attend."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.number, self.attention, self.head = nn.Linear(1, WIDE), Attention(), nn.Linear(WIDE, 3)
        self.features = nn.Parameter(torch.randn(4, WIDE))
        self.steps = nn.Parameter(torch.randn(3, 1, WIDE))
        self.form = form

    def embed(self, series: Tensor) -> Tensor:
        if self.form == "layer":
            return self.number(series[..., None]) + self.features + self.steps
        if self.form == "vectors":
            return series[..., None] * self.features + self.steps
        line = series.flatten(1)[:, None]  # one channel, as for a convolution
        line = F.conv1d(line, self.number.weight[..., None], self.number.bias).mT
        return line.unflatten(1, (3, 4)) + self.features + self.steps

    def forward(self, series: Tensor) -> Tensor:
        x = self.embed(series).flatten(1, 2)
        return self.head((x + self.attention(x))[:, 0])


@pytest.mark.parametrize("form", ["layer", "vectors", "convolution"])
def test_numbers_that_are_embedded_by_themselves_are_tokens(form: str) -> None:
    model, series = seeded(Numbers, form), torch.randn(2, 3, 4)
    e = explained(model, (series,))
    (own,) = heard(model, (series,), [model.attention])
    assert e.graph.modalities == {"series": 12}
    torch.testing.assert_close(
        e.relevance["series"], (torch.eye(12) + own)[:, 0], atol=1e-5, rtol=1e-4
    )


class Positions(nn.Module):
    """One softmax weighs the words' values and learned values of positions."""

    def __init__(self, *, first: bool) -> None:
        super().__init__()
        self.words, self.attention = nn.Embedding(30, WIDE), Attention()
        self.places, self.head, self.first = (
            nn.Parameter(torch.randn(7, WIDE)),
            nn.Linear(WIDE, 3),
            first,
        )

    def forward(self, ids: Tensor) -> Tensor:
        x, attention = self.words(ids), self.attention
        weights = (split(attention.q(x)) @ split(attention.k(x)).mT / 8**0.5).softmax(-1)
        attention.kept = weights
        places = split(self.places.expand(len(ids), -1, -1))
        said = [weights @ split(attention.v(x)), weights @ places]
        return self.head((x + joined(said[1] + said[0] if self.first else said[0] + said[1]))[:, 0])


@pytest.mark.parametrize("first", [False, True])
def test_values_of_positions_are_no_second_attention(*, first: bool) -> None:
    model, ids = seeded(Positions, first=first), torch.randint(0, 30, (2, 7))
    e = explained(model, (ids,))
    (own,) = heard(model, (ids,), [model.attention])
    torch.testing.assert_close(e.relevance["ids"], (torch.eye(7) + own)[:, 0], atol=1e-5, rtol=1e-4)


class Diverging(nn.Module):
    """How far attention weights are from a Gaussian around each step, beside what they weigh."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.width, self.head = (
            Attention(),
            nn.Linear(WIDE, HEADS),
            nn.Linear(WIDE, 3),
        )

    def forward(self, steps: Tensor) -> tuple[Tensor, Tensor]:
        x = steps + self.attention(steps)
        weights, places = self.attention.kept, torch.arange(steps.shape[1])
        assert weights is not None
        far = (places[:, None] - places) ** 2
        prior = torch.exp(-far / (self.width(steps).sigmoid() + 0.1).mT[..., None])
        prior = prior / prior.sum(-1, keepdim=True)
        apart = (prior * ((prior + 1e-4).log() - (weights + 1e-4).log())).sum(-1)
        return self.head(x[:, 0]), apart.mean(1)


def test_a_divergence_of_weights_is_no_attention() -> None:
    model, steps = seeded(Diverging), torch.randn(2, 5, WIDE)
    e = fxplain.explain(model, (steps,), target=lambda output: output[0][:, 1])
    weights = model.attention
    (score, _), own = model(steps), weights.kept
    (slope,) = torch.autograd.grad(score[:, 1].sum(), own)
    by_hand = torch.eye(5) + (slope * own).clamp(min=0).mean(1)
    torch.testing.assert_close(e.relevance["steps"], by_hand[:, 0], atol=1e-5, rtol=1e-4)
    assert len(e.graph.nodes) == 1
    assert any("sum.dim_IntList in the model mixes tokens" in w for w in e.graph.warnings)


class ByLogarithms(OverWords):
    """Weights that are taken to logarithms and back."""

    def forward(self, ids: Tensor) -> Tensor:
        x, attention = self.words(ids), self.attention
        scores = split(attention.q(x)) @ split(attention.k(x)).mT
        attention.kept = (scores.softmax(-1).log() + 0.1).exp()
        return self.head((x + joined(attention.kept @ split(attention.v(x))))[:, 0])


def test_weights_that_come_back_from_logarithms() -> None:
    model, ids = seeded(ByLogarithms), torch.randint(0, 30, (2, 7))
    e = explained(model, (ids,))
    (own,) = heard(model, (ids,), [model.attention])
    torch.testing.assert_close(e.relevance["ids"], (torch.eye(7) + own)[:, 0], atol=1e-5, rtol=1e-4)


class Cells(nn.Module):
    """A number of each word, averaged over the words of each cell, beside classes of the first word."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.words, self.attention = nn.Embedding(30, WIDE), Attention()
        self.number, self.head, self.form = nn.Linear(WIDE, 1), nn.Linear(WIDE, 2), form

    def forward(self, ids: Tensor, cells: Tensor) -> Tensor:
        x = self.words(ids)
        x = x + self.attention(x)
        numbers, of = self.number(x), F.one_hot(cells, 4).float()
        if self.form == "einsum":
            summed = torch.einsum("bn,bnc->bc", numbers.squeeze(-1), of)
        elif self.form == "columns":
            summed = (of.mT @ numbers).squeeze(-1)
        else:
            summed = (numbers.mT @ of).squeeze(1)
        return torch.cat([self.head(x[:, 0]), summed / of.sum(1)], -1)


@pytest.mark.parametrize("form", ["einsum", "columns", "rows"])
def test_numbers_of_words_are_pooled_by_groups_that_came_with_the_input(form: str) -> None:
    model, ids = seeded(Cells, form), torch.randint(0, 30, (2, 7))
    cells = torch.tensor([[0, 0, 1, 1, 2, 3, 3], [0, 1, 1, 1, 2, 2, 3]])
    for target, read in ((1, [[0], [0]]), (3, [[2, 3], [1, 2, 3]])):
        score, weights = model(ids, cells)[:, target].sum(), model.attention.kept
        assert weights is not None
        (slope,) = torch.autograd.grad(score, weights)
        by_hand = torch.eye(7) + (slope * weights).clamp(min=0).mean(1)
        for batch in (slice(0, 1), slice(0, 2)):
            e = fxplain.explain(model, (ids[batch], cells[batch]), target=target)
            want = torch.stack([m[own].mean(0) for m, own in zip(by_hand, read, strict=True)])
            torch.testing.assert_close(e.relevance["ids"], want[batch], atol=1e-5, rtol=1e-4)


MASKED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "largest": lambda x, of: x.masked_fill(~of, -1e9).amax(2),
    "soft": lambda x, of: torch.where(of, x, -1e9).logsumexp(2),
}


class Groups(OverWords):
    """The largest numbers of each of several groups of words."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.pooled = MASKED[form]

    def forward(self, ids: Tensor, groups: Tensor) -> Tensor:
        x = self.words(ids)
        x = (x + self.attention(x))[:, None]
        of = torch.stack([groups == 0, groups == 1], 1).unsqueeze(-1)
        return self.head(self.pooled(x, of))[:, 1]


@pytest.mark.parametrize("form", MASKED)
def test_the_largest_of_a_group_is_read_from_its_words(form: str) -> None:
    model, ids = seeded(Groups, form), torch.randint(0, 30, (2, 5))
    inputs = ids, torch.tensor([[0, 1, 1, 0, 0], [1, 0, 0, 0, 1]])
    e = explained(model, inputs)
    (own,) = heard(model, inputs, [model.attention])
    matrix = torch.eye(5) + own
    by_hand = torch.stack([matrix[0, [1, 2]].mean(0), matrix[1, [0, 4]].mean(0)])
    torch.testing.assert_close(e.relevance["ids"], by_hand, atol=1e-5, rtol=1e-4)
    assert e.readout[0].endswith("of ids[1..2]")


class Complex(nn.Module):
    """Real weights over complex values."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(30, 2 * WIDE), nn.Linear(2 * WIDE, 3)
        self.parts = nn.ParameterList(torch.randn(WIDE, WIDE, 2) / WIDE for _ in range(3))
        self.kept: Tensor | None = None

    def forward(self, ids: Tensor) -> Tensor:
        x = torch.view_as_complex(self.words(ids).unflatten(-1, (WIDE, 2)))
        q, k, v = (x @ torch.view_as_complex(part) for part in self.parts)
        self.kept = (q @ k.conj().mT).real.softmax(-1)
        x = x + self.kept.to(x.dtype) @ v
        return self.head(torch.view_as_real(x).flatten(-2)[:, 0])


def test_weights_of_complex_values_are_real() -> None:
    model, ids = seeded(Complex), torch.randint(0, 30, (2, 7))
    e = explained(model, (ids,))
    score, weights = model(ids)[:, 1].sum(), model.kept
    (slope,) = torch.autograd.grad(score, weights)
    by_hand = (torch.eye(7) + (slope * weights).clamp(min=0))[:, 0]
    torch.testing.assert_close(e.relevance["ids"], by_hand, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(e.matrix("ids", "ids")[:, 0], by_hand, atol=1e-5, rtol=1e-4)


class Separated(OverWords):
    """The same learned vector stands behind each of two parts of the words."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.between, self.form = nn.Parameter(torch.randn(1, 1, WIDE)), form
        self.places = nn.Parameter(torch.randn(1, 8, WIDE))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        if self.form == "looked up":
            mark = self.words(torch.full((len(ids), 1), 29))
        else:
            mark = self.between.expand(len(ids), -1, -1)
        if self.form == "nested":
            parts = [torch.cat([part, mark], 1) for part in (x[:, :3], x[:, 3:])]
        else:
            parts = [x[:, :3], mark, x[:, 3:], mark]
        x = torch.cat(parts, 1) + self.places
        return self.head((x + self.attention(x))[:, 7])


@pytest.mark.parametrize("form", ["beside", "nested", "looked up"])
def test_a_learned_token_at_two_places_is_two(form: str) -> None:
    model, ids = seeded(Separated, form), torch.randint(0, 29, (2, 6))
    e = explained(model, (ids,))
    (own,) = heard(model, (ids,), [model.attention])
    assert e.readout == ("ids[7]", "ids[7]")
    torch.testing.assert_close(e.relevance["ids"], (torch.eye(8) + own)[:, 7], atol=1e-5, rtol=1e-4)


class Twice(OverWords):
    """Words of which some stand at two places: a text said twice, or windows that overlap."""

    def __init__(self, parts: list[list[int]]) -> None:
        super().__init__()
        self.parts = parts
        self.places = nn.Parameter(torch.randn(1, sum(map(len, parts)), WIDE))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        x = torch.cat([x[:, part[0] : part[-1] + 1] for part in self.parts], 1) + self.places
        return self.head((x + self.attention(x))[:, -1])


@pytest.mark.parametrize("parts", [[[0, 1, 2, 3], [0, 1, 2, 3]], [[0, 1, 2], [1, 2, 3]]])
def test_a_word_at_two_places_has_the_relevance_of_both(parts: list[list[int]]) -> None:
    model, ids = seeded(Twice, parts), torch.randint(0, 30, (2, 4))
    e = explained(model, (ids,))
    (own,) = heard(model, (ids,), [model.attention])
    of_places = (torch.eye(own.shape[-1]) + own)[:, -1]
    words = torch.tensor([word for part in parts for word in part])
    by_hand = torch.zeros(2, 4).index_add(1, words, of_places)
    torch.testing.assert_close(e.relevance["ids"], by_hand, atol=1e-5, rtol=1e-4)
    assert e.graph.warnings == ()


# -- words that are repeated within one sequence --------------------------------------------------

LASTING = [0, 1, 1, 2, 2, 2, 3]
AT = F.one_hot(torch.tensor(LASTING), 4).float()
REPEATED: dict[str, tuple[Callable[[Tensor], Tensor], list[int]]] = {
    "repeat": (lambda x: x.repeat(1, 2, 1), [0, 1, 2, 3, 0, 1, 2, 3]),
    "cat": (lambda x: torch.cat([x, x], 1), [0, 1, 2, 3, 0, 1, 2, 3]),
    "expand": (
        lambda x: x[:, :, None].expand(-1, -1, 2, -1).flatten(1, 2),
        [0, 0, 1, 1, 2, 2, 3, 3],
    ),
    "finer": (lambda x: F.interpolate(x.mT, scale_factor=2).mT, [0, 0, 1, 1, 2, 2, 3, 3]),
    "lasting": (lambda x: x.repeat_interleave(torch.tensor([1, 2, 3, 1]), 1), LASTING),
    "each lasting": (
        lambda x: torch.stack([y.repeat_interleave(torch.tensor([1, 2, 3, 1]), 0) for y in x]),
        LASTING,
    ),
    "index": (lambda x: x[:, LASTING], LASTING),
    "picked": (lambda x: F.embedding(torch.tensor(LASTING), x[0])[None], LASTING),
    "product": (lambda x: AT @ x, LASTING),
    "padded": (lambda x: F.pad(x.mT, (1, 2), mode="replicate").mT, [0, 0, 1, 2, 3, 3, 3]),
}


class Repeated(OverWords):
    """Words that have attended, repeated, told apart by positions, and attending twice more."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.first, self.last = Attention(), Attention()
        self.places = nn.Parameter(torch.randn(8, WIDE))
        self.repeated, _ = REPEATED[form]

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        x = self.repeated(x + self.first(x))
        x = x + self.places[: x.shape[1]]
        x = x + self.attention(x)
        return self.head((x + self.last(x))[:, 4])


@pytest.mark.parametrize("form", REPEATED)
def test_words_that_are_repeated_go_on_as_one_sequence(form: str) -> None:
    model, ids = seeded(Repeated, form), torch.randint(0, 30, (1 if form == "picked" else 2, 4))
    first, second, last = heard(model, (ids,), [model.first, model.attention, model.last])
    at = F.one_hot(torch.tensor(REPEATED[form][1]), 4).float()
    matrix = at + at @ first
    matrix = matrix + second @ matrix
    by_hand = (matrix + last @ matrix)[:, 4]
    e = explained(model, (ids,))
    torch.testing.assert_close(e.relevance["ids"], by_hand, atol=1e-5, rtol=1e-4)
    assert e.graph.warnings == ()


class Experts(OverWords):
    """Words that are repeated for two experts each, whose answers are summed again."""

    def __init__(self) -> None:
        super().__init__()
        self.last, self.experts = Attention(), nn.Parameter(torch.randn(2, WIDE, WIDE))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        x = x + self.attention(x)
        each = x.repeat_interleave(2, 1).unflatten(1, (-1, 2)).unsqueeze(-2)
        x = x + (each @ self.experts).squeeze(-2).sum(2)
        return self.head((x + self.last(x))[:, 2])


def test_words_that_are_repeated_for_experts_stay_what_they_are() -> None:
    model, ids = seeded(Experts), torch.randint(0, 30, (2, 4))
    first, last = heard(model, (ids,), [model.attention, model.last])
    matrix = torch.eye(4) + first
    by_hand = (matrix + last @ matrix)[:, 2]
    e = explained(model, (ids,))
    torch.testing.assert_close(e.relevance["ids"], by_hand, atol=1e-5, rtol=1e-4)
    assert e.readout == ("ids[2]", "ids[2]")


# -- a learned vector in the place of words -------------------------------------------------------


def written(x: Tensor, mask: Tensor, vector: Tensor) -> Tensor:
    x = x.clone()
    x[mask] = vector
    return x


def shuffled_back(x: Tensor, mask: Tensor, vector: Tensor) -> Tensor:
    order = mask.float().argsort(1)
    kept = x.gather(1, order[:, :3, None].expand(-1, -1, WIDE))
    every = torch.cat([kept, vector.expand(len(x), 2, -1)], 1)
    return every.gather(1, order.argsort(1)[..., None].expand(-1, -1, WIDE))


REPLACED: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "where": lambda x, mask, vector: torch.where(mask[..., None], vector, x),
    "where not": lambda x, mask, vector: torch.where(~mask[..., None], x, vector),
    "blended": lambda x, mask, vector: x * (1 - mask[..., None].float()) + vector * mask[..., None],
    "written": written,
    "shuffled back": shuffled_back,
}


class Replaced(OverWords):
    """Some words are replaced by one learned vector, as for pretraining; then two attentions."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.last, self.form = Attention(), form
        self.vector, self.places = (
            nn.Parameter(torch.randn(WIDE)),
            nn.Parameter(torch.randn(5, WIDE)),
        )

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = REPLACED[self.form](self.words(ids), mask, self.vector) + self.places
        x = x + self.attention(x)
        return self.head((x + self.last(x))[:, 1])


@pytest.mark.parametrize("form", REPLACED)
def test_a_learned_vector_in_the_place_of_words_is_not_the_words(form: str) -> None:
    model, ids = seeded(Replaced, form), torch.arange(10).reshape(2, 5)
    mask = torch.tensor([[0, 1, 0, 1, 0], [1, 0, 0, 0, 1]]).bool()
    first, last = heard(model, (ids, mask), [model.attention, model.last])
    matrix = torch.eye(5) + first
    by_place = (matrix + last @ matrix)[:, 1]
    for batch in (slice(0, 1), slice(0, 2)):  # learned vectors at other places stand apart
        e = fxplain.explain(model, (ids[batch], mask[batch]), target=1)
        found, learned = e.relevance["ids"], list(e.special["ids"])
        words = [i for i in range(found.shape[1]) if i not in learned]
        of_words = by_place.masked_fill(mask, 0)[batch]
        torch.testing.assert_close(found[:, words], of_words, atol=1e-5, rtol=1e-4)
        of_vector = by_place.masked_fill(~mask, 0)[batch].sum(1)
        torch.testing.assert_close(found[:, learned].sum(1), of_vector, atol=1e-5, rtol=1e-4)
    assert fxplain.verify(model, (ids, mask)).ok


# -- rows that are added one by one ---------------------------------------------------------------

ADDED: dict[str, Callable[[Tensor], Tensor]] = {
    "running mean": lambda x: 0.5 * (0.5 * x[:, 0] + 0.5 * x[:, 1]) + 0.5 * x[:, 2],
    "quotients": lambda x: (x[:, 0] + x[:, 1]) / 4 + x[:, 2] / 2,
    "alpha": lambda x: torch.add(x[:, 0] / 4 + x[:, 1] / 4, x[:, 2], alpha=0.5),
    "pairs": lambda x: (0.25 * x[:, ::2] + 0.75 * x[:, 1::2])[:, 0],
    "row and mean": lambda x: 0.25 * x[:, 0] + 0.75 * x[:, 1:].mean(1),
}


class Added(OverWords):
    """Rows of a sequence that are added, each multiplied with a number of its own."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.added = ADDED[form]

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        return self.head(self.added(x + self.attention(x)))


@pytest.mark.parametrize("form", ADDED)
def test_rows_are_added_as_often_as_numbers_say(form: str) -> None:
    model, ids = seeded(Added, form), torch.randint(0, 30, (2, 4))
    (own,) = heard(model, (ids,), [model.attention])
    shares = torch.tensor(
        {"pairs": [0.25, 0.75, 0, 0], "row and mean": [0.25] * 4}.get(form, [0.25, 0.25, 0.5, 0])
    )
    by_hand = shares @ (torch.eye(4) + own)
    e = explained(model, (ids,))
    torch.testing.assert_close(e.relevance["ids"], by_hand, atol=1e-5, rtol=1e-4)


class Chain(OverWords):
    """Scores of all paths through the words' classes, word by word, as a conditional random field's."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.Parameter(torch.randn(3, 3))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        scores = self.head(x + self.attention(x))
        paths = scores[:, 0]
        for word in range(1, 4):
            paths = torch.logsumexp(paths[:, :, None] + self.steps + scores[:, word][:, None], 1)
        return paths


def test_each_word_of_a_chain_is_read_once() -> None:
    model, ids = seeded(Chain), torch.randint(0, 30, (2, 5))
    (own,) = heard(model, (ids,), [model.attention])
    by_hand = (torch.eye(5) + own)[:, :4].mean(1)
    e = explained(model, (ids,))
    torch.testing.assert_close(e.relevance["ids"], by_hand, atol=1e-5, rtol=1e-4)
    assert e.readout[0] == "sum of ids[0..3]"


# -- convolutions by Fourier transforms, segments that are embedded one by one --------------------


class LongConvolution(OverWords):
    """Words that have attended, under a filter as long as they are that reaches back alone."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.filter, self.form = nn.Parameter(torch.randn(6, WIDE)), form

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        x = x + self.attention(x)
        if self.form == "kernel":
            kernel = self.filter.flip(0).T[:, None]
            y = F.conv1d(F.pad(x.mT, (5, 0)), kernel, groups=WIDE).mT
        elif self.form == "features first":
            response = torch.fft.rfft(self.filter.T, 12)
            y = torch.fft.irfft(torch.fft.rfft(x.mT, 12) * response, 12)[..., :6].mT
        else:
            response = torch.fft.rfft(self.filter, 12, dim=0)
            y = torch.fft.irfft(response * torch.fft.rfft(x, 12, dim=1), 12, dim=1)[:, :6]
        return self.head(y[:, 2])


@pytest.mark.parametrize("form", ["features first", "features last"])
def test_a_convolution_by_fourier_transforms_is_one(form: str) -> None:
    model, ids = seeded(LongConvolution, form), torch.randint(0, 30, (2, 6))
    plain = seeded(LongConvolution, "kernel")
    plain.load_state_dict(model.state_dict())
    want = fxplain.explain(plain, (ids,), target=1).relevance["ids"]
    e = explained(model, (ids,))
    torch.testing.assert_close(e.relevance["ids"], want, atol=1e-5, rtol=1e-3)
    assert e.graph.warnings == ()


class Segments(OverWords):
    """A text in two segments, of which the second attends to the first and to itself, twice."""

    def __init__(self, *, at_once: bool) -> None:
        super().__init__()
        self.last, self.at_once = Attention(), at_once

    def forward(self, ids: Tensor) -> Tensor:
        if self.at_once:
            one, two = self.words(ids).split(3, 1)
        else:
            one, two = self.words(ids[:, :3]), self.words(ids[:, 3:])
        for attention in (self.attention, self.last):
            heard = attention(two, torch.cat([one, two], 1))
            one, two = one + attention(one), two + heard
        return self.head(two[:, -1])


def test_segments_that_are_embedded_one_by_one_are_one_text() -> None:
    model, ids = seeded(Segments, at_once=False), torch.randint(0, 30, (2, 6))
    plain = seeded(Segments, at_once=True)
    plain.load_state_dict(model.state_dict())
    want = fxplain.explain(plain, (ids,), target=1)
    e = explained(model, (ids,))
    torch.testing.assert_close(e.relevance["ids"], want.relevance["ids"], atol=1e-5, rtol=1e-4)
    assert {node.kind for node in e.graph.nodes} == {"self"}


class Captioned(OverWords):
    """The last word times what a learned query has pooled from patches, summed: their likeness."""

    def __init__(self, queries: int) -> None:
        super().__init__()
        self.queries, self.pool = nn.Parameter(torch.randn(queries, WIDE)), Attention()

    def forward(self, ids: Tensor, patches: Tensor) -> Tensor:
        x = self.words(ids)
        x = x + self.attention(x)
        pooled = self.pool(self.queries.expand(len(x), -1, -1), patches)
        alike = F.normalize(x[:, -1], dim=-1) * F.normalize(pooled[:, 0], dim=-1)
        return torch.stack([alike.mean(-1), alike.sum(-1)], -1)


@pytest.mark.parametrize("queries", [1, 3])
def test_what_a_learned_query_has_pooled_is_read_from_a_product(queries: int) -> None:
    model = seeded(Captioned, queries)
    inputs = torch.randint(0, 30, (2, 5)), torch.randn(2, 4, WIDE)
    own, of_patches = heard(model, inputs, [model.attention, model.pool])
    e = explained(model, inputs)
    torch.testing.assert_close(e.relevance["patches"], of_patches[:, 0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        e.relevance["ids"], (torch.eye(5) + own)[:, -1], atol=1e-5, rtol=1e-4
    )
    assert e.graph.warnings == ()
