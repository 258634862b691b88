"""Inputs that are added: twins of one token, labels of several, conditions of all, two readouts."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxplain
from tests.small_models import VOCABULARY, Block, seeded, words

WIDTH, STEPS = 16, 4


class Trajectory(nn.Module):
    """States and actions of the same time steps: each has the step's embedding added."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.states, self.actions = nn.Linear(5, WIDTH), nn.Linear(2, WIDTH)
        self.time = nn.Linear(1, WIDTH) if form == "numbers" else nn.Embedding(20, WIDTH)
        self.block, self.head, self.form = Block(), nn.Linear(WIDTH, 2), form

    def forward(self, timesteps: Tensor, states: Tensor, actions: Tensor) -> Tensor:
        t = self.time(timesteps.float()[..., None] if self.form == "numbers" else timesteps)
        states, actions = self.states(states), self.actions(actions)
        if self.form == "normed":
            states, actions = (
                F.layer_norm(states + t, (WIDTH,)),
                F.layer_norm(actions + t, (WIDTH,)),
            )
        elif self.form == "at once":
            pairs = torch.stack([states, actions], 2) + t[:, :, None]
            states, actions = pairs.unbind(2)
        else:
            states, actions = states + t, t + actions
        return self.head(self.block(torch.cat([states, actions], 1))[:, -1])


@pytest.mark.parametrize("form", ["added", "numbers", "normed", "at once"])
def test_a_shared_time_step_unites_nothing(form: str) -> None:
    given = {
        "timesteps": torch.arange(STEPS).expand(2, STEPS).contiguous(),
        "states": torch.randn(2, STEPS, 5),
        "actions": torch.randn(2, STEPS, 2),
    }
    graph = fxplain.inspect(seeded(Trajectory, form), given)
    assert graph.modalities == {"states": STEPS, "actions": STEPS}
    assert graph.readout == f"actions[{STEPS - 1}]"
    assert [(n.query, n.q_len) for n in graph.nodes] == [(("states", "actions"), 2 * STEPS)]


class Page(nn.Module):
    """Words and patches of a page, each with the embedding of where it lies."""

    def __init__(self) -> None:
        super().__init__()
        self.places, self.words = nn.Embedding(20, WIDTH), nn.Embedding(VOCABULARY, WIDTH)
        self.patches, self.block, self.head = nn.Linear(5, WIDTH), Block(), nn.Linear(WIDTH, 2)

    def forward(self, places: Tensor, ids: Tensor, patches: Tensor) -> Tensor:
        x = torch.cat([self.words(ids), self.patches(patches)], 1)
        return self.head(self.block(x + self.places(places) + self.places(places // 2))[:, 0])


def test_a_place_of_words_and_patches_names_neither() -> None:
    given = {"places": words(2, 7) % 20, "ids": words(2, 3), "patches": torch.randn(2, 4, 5)}
    graph = fxplain.inspect(seeded(Page), given)
    assert graph.modalities == {"ids": 3, "patches": 4}
    assert graph.readout == "ids[0]"


class Embedded(nn.Module):
    """Word, type and position are inputs, added in one order or another."""

    def __init__(self, order: int) -> None:
        super().__init__()
        self.words, self.types = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(3, WIDTH)
        self.places, self.block, self.head = nn.Embedding(9, WIDTH), Block(), nn.Linear(WIDTH, 3)
        self.order = order

    def forward(self, input_ids: Tensor, token_type_ids: Tensor, position_ids: Tensor) -> Tensor:
        word, kind = self.words(input_ids), self.types(token_type_ids)
        place = self.places(position_ids)
        sums = (
            lambda: (word + kind) + place,
            lambda: (kind + place) + word,
            lambda: place + (kind + word),
            lambda: (word + place) + (kind + place),
        )
        return self.head(self.block(sums[self.order]())[:, 0])


@pytest.mark.parametrize("order", range(4))
def test_word_type_and_position_are_one_token_in_any_order(order: int) -> None:
    given = {
        "input_ids": words(2, 5),
        "token_type_ids": torch.zeros(2, 5, dtype=torch.long),
        "position_ids": torch.arange(5).expand(2, 5).contiguous(),
    }
    graph = fxplain.inspect(seeded(Embedded, order), given)
    assert graph.modalities == {"input_ids": 5}
    assert graph.readout == "input_ids[0]"


class Modulated(nn.Module):
    """Patches whose norms are scaled and shifted, and whose attention is gated, by other inputs."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.patches, self.time = nn.Linear(5, WIDTH), nn.Linear(8, WIDTH)
        self.label, self.head = nn.Embedding(10, WIDTH), nn.Linear(WIDTH, 3)
        self.qkv = nn.ModuleList(nn.Linear(WIDTH, 3 * WIDTH) for _ in range(layers))
        self.modulations = nn.ModuleList(nn.Linear(WIDTH, 3 * WIDTH) for _ in range(layers))

    def run(self, patches: Tensor, step: Tensor, label: Tensor) -> tuple[Tensor, list[Tensor]]:
        angles = step[:, None].float() * torch.exp(-torch.arange(4.0))
        c = self.time(torch.cat([angles.cos(), angles.sin()], -1)) + self.label(label)
        x, seen = self.patches(patches), []
        for qkv, modulation in zip(self.qkv, self.modulations, strict=True):
            shift, scale, gate = modulation(F.silu(c)).chunk(3, -1)
            y = F.layer_norm(x, (WIDTH,)) * (1 + scale[:, None]) + shift[:, None]
            q, k, v = qkv(y).chunk(3, -1)
            weights = (q @ k.mT / WIDTH**0.5).softmax(-1)
            seen.append(weights)
            x = x + gate[:, None] * (weights @ v)
        return self.head(x), seen

    def forward(self, patches: Tensor, step: Tensor, label: Tensor) -> Tensor:
        return self.run(patches, step, label)[0]


@pytest.mark.parametrize("layers", [1, 3])
def test_conditions_are_context_and_no_depth_makes_them_relevant(layers: int) -> None:
    model = seeded(Modulated, layers)
    given = {
        "patches": torch.randn(2, 6, 5),
        "step": torch.tensor([5, 70]),
        "label": torch.tensor([1, 2]),
    }
    score, seen = model.run(**given)
    for weights in seen:
        weights.retain_grad()
    score[:, 2, 1].sum().backward()
    R = torch.eye(6).expand(2, -1, -1)
    for weights in seen:
        R = R + (weights.grad * weights.detach()).clamp(min=0) @ R
    e = fxplain.explain(model, given, target=(2, 1))
    assert list(e.relevance) == ["patches"]
    assert set(e.graph.context) == {"step", "label"}
    torch.testing.assert_close(e.relevance["patches"], R[:, 2])


class Fused(nn.Module):
    """A text's first word and an image's vector, or the mean of its patches, become one value."""

    def __init__(self, image: str, how: str) -> None:
        super().__init__()
        self.words, self.patches = nn.Embedding(VOCABULARY, WIDTH), nn.Linear(5, WIDTH)
        self.text, self.image, self.form = Block(), Block(), image
        self.head, self.how = nn.Linear(2 * WIDTH if how == "cat" else WIDTH, 3), how

    def forward(self, ids: Tensor, image: Tensor) -> Tensor:
        x, y = self.text(self.words(ids))[:, 0], self.patches(image)
        y = y if self.form == "vector" else self.image(y).mean(1)
        made = {"add": x + y, "mul": x * y, "cat": torch.cat([x, y], -1)}
        return self.head(made[self.how])


@pytest.mark.parametrize("how", ["add", "mul", "cat"])
@pytest.mark.parametrize(
    ("image", "shape", "read"),
    [("vector", (2, 5), "image[0]"), ("mean", (2, 4, 5), "mean of image[0..3]")],
)
def test_what_is_fused_is_read_from_both(
    image: str, shape: tuple[int, ...], read: str, how: str
) -> None:
    given = {"ids": words(2, 5), "image": torch.randn(*shape)}
    e = fxplain.explain(seeded(Fused, image, how), given, target=1)
    assert e.graph.warnings == ()
    assert sorted(e.readout[0].split(" and ")) == sorted(["ids[0]", read])
    assert float(e.relevance["ids"][0, 0]) >= 1
    assert float(e.relevance["image"][0].sum()) >= 1


def test_pixels_given_as_bytes_are_tokens() -> None:
    class Bytes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches, self.block = nn.Conv2d(3, WIDTH, 4, 4), Block()
            self.head = nn.Linear(WIDTH, 3)

        def forward(self, image: Tensor) -> Tensor:
            x = self.patches(image.float() / 255).flatten(2).mT
            return self.head(self.block(x).mean(1))

    image = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    graph = fxplain.inspect(seeded(Bytes), (image,))
    assert graph.modalities == {"image": 4}
    assert graph.readout == "mean of image[0..3]"


class First(nn.Module):
    """A sequence whose first token is learned, a buffer, or zeros."""

    def __init__(self, kind: str, place: int) -> None:
        super().__init__()
        self.words, self.head, self.place = (
            nn.Embedding(VOCABULARY, WIDTH),
            nn.Linear(WIDTH, 3),
            place,
        )
        first = torch.zeros(1, 1, WIDTH) if kind == "zeros" else torch.randn(1, 1, WIDTH)
        if kind == "parameter":
            self.first: Tensor | None = nn.Parameter(first)
        elif kind == "made":
            self.first = None
        else:
            self.register_buffer("first", first)

    def run(self, ids: Tensor) -> tuple[Tensor, list[Tensor]]:
        x, seen = self.words(ids), []
        first = x.new_zeros(1, 1, WIDTH) if self.first is None else self.first
        x = torch.cat([first.expand(len(ids), -1, -1), x], 1)
        for _ in range(2):
            weights = (x @ x.mT * 0.3).softmax(-1)
            seen.append(weights)
            x = x + weights @ x
        return self.head(x[:, self.place]), seen

    def forward(self, ids: Tensor) -> Tensor:
        return self.run(ids)[0]


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("kind", ["parameter", "buffer", "zeros", "made"])
def test_a_first_token_is_one_whatever_it_is_made_of(kind: str, place: int) -> None:
    model, ids = seeded(First, kind, place), words(1, 4)
    score, seen = model.run(ids)
    for weights in seen:
        weights.retain_grad()
    score[0, 1].backward()
    R = torch.eye(5)
    for weights in seen:
        R = R + (weights.grad * weights.detach())[0].clamp(min=0) @ R
    e = fxplain.explain(model, (ids,), target=1)
    assert e.graph.modalities == {"ids": 5}
    assert list(e.special["ids"]) == [0]
    assert e.readout == (f"ids[{place}]",)
    torch.testing.assert_close(e.relevance["ids"][0], R[place])
