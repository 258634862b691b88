"""Values that pass where gradients do not: rounding, detach, a choice between two models."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import fxplain
from tests.small_models import words

WIDTH = 16


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.scaled_dot_product_attention(self.q(x), self.k(x), self.v(x))
        return self.o(y)


class Cut(nn.Module):
    """Two layers; something happens to what the first one gives."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.e, self.head = nn.Embedding(60, WIDTH), nn.Linear(WIDTH, 3)
        self.one, self.two = Layer(), Layer()

    def between(self, y: Tensor) -> Tensor:
        if self.how == "round":
            return torch.round(y * 8) / 8
        if self.how == "floor":
            return torch.floor(y * 8) / 8
        if self.how == "integers":
            return (y * 8).to(torch.int8).to(y.dtype) / 8
        if self.how == "detach":
            return y.detach()
        if self.how == "sign":
            return torch.sign(y) * 0.1
        if self.how == "straight through":
            return y + (torch.round(y * 8) / 8 - y).detach()
        return y

    def forward(self, ids: Tensor) -> Tensor:
        x = self.e(ids)
        x = x + self.between(self.one(x))
        return self.head((x + self.two(x))[:, 0])


def _made(make: type[nn.Module], *args: object) -> nn.Module:
    torch.manual_seed(0)
    return make(*args).eval()


@pytest.mark.parametrize("how", ["round", "floor", "integers", "detach", "sign"])
def test_a_cut_is_named(how: str) -> None:
    e = fxplain.explain(_made(Cut, how), (words(2, 5),), 1)
    (warning,) = e.graph.warnings
    names = {"integers": "aten._to_copy|aten.to", "detach": "aten.detach"}
    assert any(name in warning for name in names.get(how, f"aten.{how}").split("|"))
    assert e.graph.nodes[0].name in warning
    assert e.graph.nodes[1].name not in warning
    free = fxplain.explain(_made(Cut, how), (words(2, 5),), 1, method="raw_attention")
    assert free.graph.warnings == ()  # it needs no gradient


@pytest.mark.parametrize("how", ["plain", "straight through"])
def test_no_cut_is_named_where_gradients_pass(how: str) -> None:
    assert fxplain.explain(_made(Cut, how), (words(2, 5),), 1).graph.warnings == ()


def test_nothing_left() -> None:
    class All(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.e, self.head, self.one = nn.Embedding(60, WIDTH), nn.Linear(WIDTH, 3), Layer()

        def forward(self, ids: Tensor) -> Tensor:
            x = self.e(ids)
            return self.head((x + torch.round(self.one(x) * 4))[:, 0])

    model = _made(All)
    with pytest.raises(fxplain.NoGradientError, match=r"aten\.round"):
        fxplain.explain(model, (words(2, 5),), 1)
    assert fxplain.explain(model, (words(2, 5),), 1, method="rollout").relevance


def test_a_choice_between_two_models() -> None:
    """A retriever picks a passage by argmax, a reader reads it."""

    class RetrieveAndRead(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.e, self.head = nn.Embedding(60, WIDTH), nn.Linear(WIDTH, 3)
            self.retriever, self.reader = Layer(), Layer()

        def forward(self, question: Tensor, passages: Tensor) -> Tensor:
            asked = self.retriever(self.e(question)).mean(1)
            scores = torch.einsum("bd,bpd->bp", asked, self.e(passages).mean(2))
            best = passages[torch.arange(len(passages)), scores.argmax(1)]
            x = self.e(best)
            return self.head((x + self.reader(x)).mean(1))

    e = fxplain.explain(_made(RetrieveAndRead), (words(2, 4), words(2, 3, 5)), 1)
    assert any("aten.argmax" in warning for warning in e.graph.warnings)


def test_a_routed_mixture_is_no_cut() -> None:
    class Mixture(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.e, self.head, self.one = nn.Embedding(60, WIDTH), nn.Linear(WIDTH, 3), Layer()
            self.router = nn.Linear(WIDTH, 3)
            self.experts = nn.Parameter(torch.randn(3, WIDTH, WIDTH) * 0.1)

        def forward(self, ids: Tensor) -> Tensor:
            x = self.e(ids)
            x = x + self.one(x)
            weight, chosen = self.router(x).softmax(-1).topk(1)
            x = x + weight * torch.einsum("btd,btdf->btf", x, self.experts[chosen[..., 0]])
            return self.head(x[:, 0])

    warnings = fxplain.explain(_made(Mixture), (words(2, 5),), 1).graph.warnings
    assert not any("gradient" in warning for warning in warnings)
