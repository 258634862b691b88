"""What happens to tokens before attention, and to what no weight has touched."""

import pytest
import torch
from torch import Tensor, nn

import fxplain
from tests.small_models import VOCABULARY, Attention, Block, seeded, words

WIDTH = 16


class Gated(nn.Module):
    """A stem whose channels are scaled by their means over all places, then attention."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.gate, self.last = (
            nn.Conv2d(3, WIDTH, 4, 4),
            nn.Linear(WIDTH, WIDTH),
            nn.Conv2d(WIDTH, WIDTH, 1),
        )
        self.block, self.head = Block(), nn.Linear(WIDTH, 3)

    def forward(self, pixel_values: Tensor) -> Tensor:
        x = self.stem(pixel_values)
        x = self.last(x * self.gate(x.mean((2, 3))).sigmoid()[..., None, None])
        return self.head(self.block(x.flatten(2).transpose(1, 2))[:, 0])


class UntouchedResidual(nn.Module):
    """Features that no weight has touched are added to what attention made of them; a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.mix = Attention(), nn.Conv1d(WIDTH, WIDTH, 3, padding=1)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, features: Tensor) -> Tensor:
        x = features + self.attention(features, features)
        return self.head(x + self.mix(x.transpose(1, 2)).transpose(1, 2))[:, 0]


class ShortKeys(nn.Module):
    """Keys and values are fewer than the words: each projected along them by weights of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(VOCABULARY, WIDTH), nn.Linear(WIDTH, 3)
        self.q, self.k, self.v = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.along = nn.ParameterList(nn.Parameter(torch.randn(7, 4)) for _ in range(2))

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.words(input_ids)
        keys, values = (
            torch.einsum("bnd,nk->bkd", f(x), w)
            for f, w in zip((self.k, self.v), self.along, strict=True)
        )
        return self.head(x + (self.q(x) @ keys.mT / 4).softmax(-1) @ values)[:, 0]


class Inside(nn.Module):
    """Words attend within pairs and pairs to pairs; a pair hears of its words at each layer."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.pair, self.again = (
            nn.Embedding(VOCABULARY, WIDTH),
            nn.Linear(2 * WIDTH, WIDTH),
            nn.Linear(2 * WIDTH, WIDTH),
        )
        self.inner, self.outer, self.head = Block(), Block(), nn.Linear(WIDTH, 3)

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.words(input_ids)
        pairs = self.pair(x.unflatten(1, (-1, 2)).flatten(2))
        x = self.inner(x.reshape(-1, 2, WIDTH)).reshape(x.shape)
        pairs = pairs + self.again(x.unflatten(1, (-1, 2)).flatten(2))
        return self.head(self.outer(pairs)[:, 0])


class MeanAsks(nn.Module):
    """The mean of all words asks the regions of a picture."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.regions = nn.Embedding(VOCABULARY, WIDTH), nn.Linear(4, WIDTH)
        self.attention, self.head = Attention(), nn.Linear(WIDTH, 3)

    def forward(self, input_ids: Tensor, picture: Tensor) -> Tensor:
        x, regions = self.words(input_ids).mean(1, keepdim=True), self.regions(picture)
        return self.head((x + self.attention(x, regions))[:, 0])


def test_words_that_are_averaged_before_they_ask_have_numbers_of_their_own() -> None:
    inputs = {"input_ids": words(2, 6), "picture": torch.randn(2, 5, 4)}
    explanation = fxplain.explain(seeded(MeanAsks), inputs, target=1)
    assert dict(explanation.graph.modalities) == {"input_ids": 6, "picture": 5}
    own = explanation.relevance["input_ids"]
    assert torch.allclose(own, torch.full_like(own, 1 / 6), atol=1e-6)  # nothing tells them apart


CASES = {
    "gate": (Gated, torch.randn(2, 3, 16, 16), {"pixel_values": 16}),
    "untouched residual": (UntouchedResidual, torch.randn(2, 6, WIDTH), {"features": 6}),
    "short keys": (ShortKeys, words(2, 7), {"input_ids": 7}),
    "words in pairs": (Inside, words(2, 6), {"input_ids": 6}),
}


@pytest.mark.parametrize("case", CASES)
def test_tokens_hold_what_is_said_of_them(case: str) -> None:
    make, inputs, modalities = CASES[case]
    model = seeded(make)
    explanation = fxplain.explain(model, (inputs,), target=1)
    assert dict(explanation.graph.modalities) == modalities
    assert not explanation.graph.warnings
    assert str(fxplain.verify(model, (inputs,)).broken) == "()"


class FewChannelsLast(nn.Module):
    """Images with channels last and places put beside them; latents read them."""

    def __init__(self) -> None:
        super().__init__()
        self.latents, self.features = nn.Parameter(torch.randn(4, WIDTH)), nn.Linear(5, WIDTH)
        self.cross, self.head = Attention(), nn.Linear(WIDTH, 3)

    def forward(self, image: Tensor) -> Tensor:
        side = torch.linspace(-1, 1, image.shape[1])
        places = torch.stack(torch.meshgrid(side, side, indexing="ij"), -1)
        x = torch.cat([image, places.expand(len(image), -1, -1, -1)], -1).flatten(1, 2)
        latents = self.latents.expand(len(image), -1, -1)
        return self.head((latents + self.cross(latents, self.features(x))).mean(1))


def test_images_may_have_their_channels_last() -> None:
    explanation = fxplain.explain(seeded(FewChannelsLast), (torch.randn(2, 6, 6, 3),), target=1)
    assert explanation.relevance["image"].shape == (2, 36)


class ModulatedLast(nn.Module):
    """A learned table plus a time step is cut up into a shift and a scale of all tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.time = nn.Linear(4, WIDTH), nn.Linear(1, WIDTH)
        self.block, self.head = Block(), nn.Linear(WIDTH, 4)
        self.table = nn.Parameter(torch.randn(2, WIDTH))

    def forward(self, latents: Tensor, t: Tensor) -> Tensor:
        x = self.block(self.patches(latents))
        shift, scale = (self.table[None] + self.time(t)[:, None]).chunk(2, 1)
        return self.head(x * (1 + scale) + shift)


def test_a_table_that_is_cut_up_holds_no_tokens() -> None:
    inputs = {"latents": torch.randn(2, 6, 4), "t": torch.randn(2, 1)}
    graph = fxplain.inspect(seeded(ModulatedLast), inputs)
    assert dict(graph.modalities) == {"latents": 6}


class FoldedHeads(nn.Module):
    """One head of keys, the heads of queries one behind the other among the rows; a CLS comes last."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.cls = nn.Embedding(VOCABULARY, WIDTH), nn.Parameter(torch.randn(WIDTH))
        self.q, self.kv, self.o = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 16), nn.Linear(16, 3)

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.words(input_ids)
        x = torch.cat([x, self.cls.expand(len(x), 1, -1)], 1)
        k, v = self.kv(x).chunk(2, -1)
        q = self.q(x).unflatten(-1, (2, 8)).transpose(1, 2).flatten(1, 2)
        y = ((q @ k.mT / 8**0.5).softmax(-1) @ v).unflatten(1, (2, -1)).transpose(1, 2).flatten(2)
        return self.o(y)


def test_heads_among_the_queries_do_not_move_a_class_token() -> None:
    explanation = fxplain.explain(
        seeded(FoldedHeads), (words(2, 5),), target=lambda out: out[:, 3, 1]
    )
    assert list(explanation.special["input_ids"]) == [5]
    assert explanation.readout == ("input_ids[3]", "input_ids[3]")


class GatedResidual(nn.Module):
    """A recurrent cell decides how much of the attention's output is let into the stream."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.attention = nn.Embedding(VOCABULARY, WIDTH), Attention()
        self.cell, self.head = nn.GRUCell(WIDTH, WIDTH), nn.Linear(WIDTH, 3)

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.words(input_ids)
        y = self.attention(x, x)
        x = self.cell(y.flatten(0, 1), x.flatten(0, 1)).view_as(x)
        return self.head(x[:, 0])


def test_a_gated_residual_is_a_residual() -> None:
    explanation = fxplain.explain(seeded(GatedResidual), (words(2, 5),), target=1)
    assert not explanation.graph.warnings
    assert bool((explanation.relevance["input_ids"][:, 0] >= 1).all())  # the identity is there
    assert explanation.relevance["input_ids"].sum() > 2


class Drawn(nn.Module):
    """Each place in the batch draws numbers of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.block, self.head = (
            nn.Embedding(VOCABULARY, WIDTH), Block(), nn.Linear(WIDTH, 3)
        )  # fmt: skip

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.words(input_ids)
        return self.head(self.block(x + torch.randn_like(x))[:, 0])


def test_samples_that_draw_numbers_may_differ_by_their_place() -> None:
    assert fxplain.verify(seeded(Drawn), (words(2, 5),)).ok
