"""Mixing: attention laid out anew, tokens mixed without attention, and what each gives or says."""

import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxplain
from tests.small_models import VOCABULARY, seeded, words


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
