"""What is not attention is not taken for it: each softmax is rejected with its reason."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxplain
from tests.between_attentions import WIDTH, Between, between
from tests.small_models import VOCABULARY, Block, pixels, seeded, words

EXPERTS = 4
OVER_EXPERTS = "it normalises over 4 features, classes or experts, not over tokens"
OVER_FEATURES = "it normalises over 16 features, classes or experts, not over tokens"
OVER_LAYERS = "it normalises over layers or states of one token, not over tokens"
NEVER = "its weights are never contracted against tokens"

FIXED = "its weights are contracted against fixed values, not against tokens"


# Softmaxes over something else


class Router(nn.Module):
    """The two best of four experts, for every token; ``dense``: all of them run."""

    def __init__(self, score: str = "softmax", form: str = "dense") -> None:
        super().__init__()
        self.gate = nn.Linear(WIDTH, EXPERTS)
        self.experts = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(EXPERTS))
        self.score, self.form = score, form

    def forward(self, x: Tensor) -> Tensor:
        scores = self.gate(x)
        shares = scores.softmax(-1) if self.score == "softmax" else scores.sigmoid()
        if self.form == "einsum":
            answers = torch.stack([expert(x) for expert in self.experts], 2)
            return torch.einsum("bne,bned->bnd", shares, answers)
        best, chosen = shares.topk(2, -1)
        best = best / best.sum(-1, keepdim=True)
        if self.form == "dense":
            full = torch.zeros_like(shares).scatter(-1, chosen, best)
            return sum(full[..., e : e + 1] * expert(x) for e, expert in enumerate(self.experts))
        rows, made = x.flatten(0, 1), torch.zeros_like(x).flatten(0, 1)
        best, chosen = best.flatten(0, 1), chosen.flatten(0, 1)
        for e, expert in enumerate(self.experts):
            row, place = torch.where(chosen == e)
            if len(row):
                made.index_add_(0, row, expert(rows[row]) * best[row, place, None])
        return made.view_as(x)


class Glu(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(WIDTH, 2 * WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return F.glu(self.up(x))


class Highway(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate, self.change = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.gate(x).sigmoid()
        return gate * self.change(x).relu() - gate * x


class SoftGate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.gate(x).softmax(-1) * x


class Quantiser(nn.Module):
    """Each token becomes a soft choice of codes."""

    def __init__(self) -> None:
        super().__init__()
        self.codes = nn.Parameter(torch.randn(EXPERTS, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.codes.T / 0.5).softmax(-1) @ self.codes


class ExternalMemory(nn.Module):
    """External attention (EANet): tokens compete for memory units that belong to no token."""

    def __init__(self) -> None:
        super().__init__()
        self.keys, self.values = nn.Linear(WIDTH, 5, bias=False), nn.Linear(5, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.keys(x).softmax(1)
        return self.values(weights / weights.sum(2, keepdim=True))


REJECTED: dict[str, tuple[Callable[[], nn.Module], list[str]]] = {
    "router": (Router, [OVER_EXPERTS]),
    "sigmoid router": (lambda: Router("sigmoid"), []),
    "sparse router": (lambda: Router(form="sparse"), [OVER_EXPERTS]),
    "soft router": (lambda: Router(form="einsum"), [OVER_EXPERTS]),
    "GLU": (Glu, []),
    "highway": (Highway, []),
    "softmax gate": (SoftGate, [OVER_FEATURES]),
    "quantiser": (Quantiser, [OVER_EXPERTS]),
    "external memory": (ExternalMemory, [NEVER]),
}


@pytest.mark.parametrize("name", REJECTED)
def test_it_is_rejected(name: str) -> None:
    middle, reasons = REJECTED[name]
    graph = between(middle).graph
    assert [found.reason for found in graph.rejected] == reasons
    assert all(found.module == "middle" for found in graph.rejected)
    # tokens that compete for memory depend on each other, which no attention carries
    assert len(graph.warnings) == (name == "external memory")
    assert all("influence that the explanation misses" in warning for warning in graph.warnings)


class Unread(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        weights = (x @ x.mT).softmax(-1)
        return x.tanh(), weights


class ReportsUnread(Between):
    """Weights that are returned, but never used."""

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        x = self.before(self.words(ids))
        changed, weights = self.middle(x)
        return self.head(self.after(changed)[:, 0]), weights


def test_a_softmax_that_nobody_reads() -> None:
    graph = fxplain.inspect(seeded(ReportsUnread, Unread), (words(2, 6),))
    assert [node.module for node in graph.nodes] == ["before.attention", "after.attention"]
    assert [(found.module, found.reason) for found in graph.rejected] == [("middle", NEVER)]


class Heads(nn.Module):
    """Softmaxes at the end of a text model."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.words, self.block, self.kind = nn.Embedding(VOCABULARY, WIDTH), Block(), kind
        self.scores, self.means = nn.Linear(WIDTH, EXPERTS), nn.Linear(WIDTH, EXPERTS)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.block(self.words(ids))[:, 0]
        if self.kind == "mixture density":
            return (self.scores(x).softmax(-1) * self.means(x)).sum(-1, keepdim=True)
        return (self.scores(x) / (0.07 if self.kind == "temperature" else 1.0)).softmax(-1)


@pytest.mark.parametrize("kind", ["classes", "temperature", "mixture density"])
def test_heads(kind: str) -> None:
    explanation = fxplain.explain(seeded(Heads, kind), (words(2, 6),), target=0)
    graph = explanation.graph
    assert [node.module for node in graph.nodes] == ["block.attention"]
    assert [found.reason for found in graph.rejected] == [OVER_EXPERTS]
    assert (explanation.readout, graph.warnings) == (("ids[0]",) * 2, ())


class Heatmap(nn.Module):
    """How much each patch is the point that is looked for."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.block = nn.Conv2d(3, WIDTH, 4, 4), Block()
        self.score = nn.Linear(WIDTH, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.block(self.patches(image).flatten(2).mT)
        return self.score(x).squeeze(-1).softmax(-1)


def test_a_softmax_over_the_grid_is_an_output() -> None:
    graph = fxplain.inspect(seeded(Heatmap), (pixels(2, 3, 16, 16),))
    assert [node.module for node in graph.nodes] == ["block.attention"]
    assert [found.reason for found in graph.rejected] == [NEVER]
    assert graph.readout == "each of image[0..15]"


class ExpectedPlace(Heatmap):
    """Where the point is: the places of the grid, weighed (soft-argmax)."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form

    def forward(self, image: Tensor) -> Tensor:
        heat = super().forward(image)
        grid = torch.linspace(0, 1, heat.shape[-1])
        places = torch.stack([grid, 1 - grid], -1)
        if self.form == "product":
            return heat @ places
        return (heat[..., None] * places).sum(1)


@pytest.mark.parametrize("form", ["sum", "product"])
def test_weights_over_places_are_no_attention(form: str) -> None:
    graph = fxplain.inspect(seeded(ExpectedPlace, form), (pixels(2, 3, 16, 16),))
    assert [node.module for node in graph.nodes] == ["block.attention"]
    assert [found.reason for found in graph.rejected] == [FIXED]
    assert graph.readout.endswith(" of image[0..15]")
    assert graph.warnings == ()


# Sums of layers


class LayerSum(nn.Module):
    """Three blocks; the head reads a weighted sum of their outputs, written in many ways."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.words, self.form = nn.Embedding(VOCABULARY, WIDTH), form
        self.blocks = nn.ModuleList(Block() for _ in range(3))
        self.weights, self.ask = nn.Parameter(torch.randn(3)), nn.Linear(WIDTH, 1)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, ids: Tensor) -> Tensor:
        x, layers = self.words(ids), []
        for block in self.blocks:
            x = block(x)
            layers.append(x)
        return self.head(SUMS[self.form](self, layers, self.weights.softmax(0))[:, 0])


def one_by_one(_: LayerSum, layers: list[Tensor], weights: Tensor) -> Tensor:
    return sum(weight * layer for weight, layer in zip(weights.unbind(), layers, strict=True))


def asked(model: LayerSum, layers: list[Tensor]) -> tuple[Tensor, Tensor]:
    states = torch.stack(layers, 2)
    return model.ask(states).softmax(2), states


def asked_one_by_one(model: LayerSum, layers: list[Tensor], _: Tensor) -> Tensor:
    weights, _states = asked(model, layers)
    return sum(weights[:, :, i] * layer for i, layer in enumerate(layers))


def asked_and_summed(model: LayerSum, layers: list[Tensor], _: Tensor) -> Tensor:
    weights, states = asked(model, layers)
    return (weights * states).sum(2)


def asked_and_multiplied(model: LayerSum, layers: list[Tensor], _: Tensor) -> Tensor:
    weights, states = asked(model, layers)
    return (weights.mT @ states).squeeze(2)


def asked_fused(model: LayerSum, layers: list[Tensor], _: Tensor) -> Tensor:
    states, ask = torch.stack(layers, 2), model.ask.weight * WIDTH**0.5
    asking = ask.expand(*states.shape[:2], 1, WIDTH)
    return F.scaled_dot_product_attention(asking, states, states).squeeze(2)


def asked_and_contracted(model: LayerSum, layers: list[Tensor], _: Tensor) -> Tensor:
    """The first layer's state alone, and then all of them."""
    for count in (1, 3):
        states = torch.stack(layers[:count])
        scores = torch.einsum("lbnd,d->lbn", states, model.ask.weight[0])
        summed = torch.einsum("lbn,lbnd->bnd", scores.softmax(0), states)
        layers = [summed if count == 1 else layers[0], *layers[1:]]
    return summed


SUMS: dict[str, Callable[[LayerSum, list[Tensor], Tensor], Tensor]] = {
    "one by one": one_by_one,
    "stacked": lambda _, x, w: (torch.stack(x) * w.view(-1, 1, 1, 1)).sum(0),
    "einsum": lambda _, x, w: torch.einsum("l,lbnw->bnw", w, torch.stack(x)),
    "product": lambda _, x, w: torch.stack(x, -1) @ w,
    "rows": lambda _, x, w: (w @ torch.stack(x, 1).flatten(2)).view_as(x[0]),
    "asked one by one": asked_one_by_one,
    "asked": asked_and_summed,
    "asked by a product": asked_and_multiplied,
    "asked by a fused call": asked_fused,
    "asked in einsums": asked_and_contracted,
}


def summed(form: str) -> fxplain.Explanation:
    explanation = fxplain.explain(seeded(LayerSum, form), (words(2, 6),), target=1)
    graph = explanation.graph
    modules = [f"blocks.{i}.attention" for i in range(3)]
    assert [node.module for node in graph.nodes] == modules
    assert (graph.modalities, graph.warnings, len(graph.rejected)) == ({"ids": 6}, (), 1)
    return explanation


@pytest.mark.parametrize("form", ["stacked", "einsum", "product", "rows"])
def test_a_sum_of_layers_has_absorbed_all_of_them(form: str) -> None:
    explanation, want = summed(form), summed("one by one")
    torch.testing.assert_close(explanation.relevance["ids"], want.relevance["ids"])
    (found,) = explanation.graph.rejected
    assert found.reason == "it normalises learned weights, not over tokens"


@pytest.mark.parametrize("form", ["asked", "asked by a product", "asked by a fused call"])
def test_a_token_that_weighs_its_layers(form: str) -> None:
    explanation, want = summed(form), summed("asked one by one")
    torch.testing.assert_close(explanation.relevance["ids"], want.relevance["ids"])
    assert [found.reason for found in explanation.graph.rejected] == [OVER_LAYERS]


def test_a_token_that_weighs_its_only_state_attends_to_nothing() -> None:
    graph = fxplain.inspect(seeded(LayerSum, "asked in einsums"), (words(2, 6),))
    assert [node.module for node in graph.nodes] == [f"blocks.{i}.attention" for i in range(3)]
    assert graph.warnings == ()


# Deformable attention


class Deformable(nn.Module):
    """Object queries sample the image at four places each and weigh what they find."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.block = nn.Conv2d(3, WIDTH, 4, 4), Block()
        self.queries = nn.Parameter(torch.randn(3, WIDTH))
        self.places, self.weights = nn.Linear(WIDTH, 8), nn.Linear(WIDTH, 4)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, image: Tensor) -> Tensor:
        patches = self.patches(image)
        grid = self.block(patches.flatten(2).mT).mT.view_as(patches)
        queries = self.queries.expand(len(image), -1, -1)
        places = self.places(queries).unflatten(-1, (4, 2)).tanh()
        found = F.grid_sample(grid, places, align_corners=False)
        weights = self.weights(queries).softmax(-1).unsqueeze(1)
        return self.head((queries + (found * weights).sum(-1).mT).mean(1))


def test_weights_over_sampled_points() -> None:
    graph = fxplain.inspect(seeded(Deformable), (pixels(2, 3, 16, 16),))
    assert [node.module for node in graph.nodes] == ["block.attention"]
    assert [found.reason for found in graph.rejected] == [
        "weights over sampled points, not over tokens"
    ]
    (warning,) = graph.warnings
    assert warning.startswith("aten.grid_sampler.default in the model mixes tokens without")
