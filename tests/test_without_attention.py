"""Tokens that are mixed without attention: a warning names operation and module."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxplain
from tests.between_attentions import WIDTH, Between, between
from tests.small_models import seeded, words


class Projected(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.register_buffer("random", torch.randn(WIDTH, 8))

    def forward(self, x: Tensor) -> Tensor:
        return self.mixed(self.query(x), self.key(x), self.value(x))


class Linear(Projected):
    """Linear attention: keys and values are contracted first."""

    def mixed(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        query, key = F.elu(query) + 1, F.elu(key) + 1
        return query @ (key.mT @ value) / (query @ key.sum(1, keepdim=True).mT)


class Performer(Linear):
    """Random features before the same."""

    def mixed(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        query, key = (
            torch.exp(x @ self.random - x.pow(2).sum(-1, keepdim=True) / 2) for x in (query, key)
        )
        return torch.einsum("bnm,bmd->bnd", query, torch.einsum("bnm,bnd->bmd", key, value))


class OverChannels(Projected):
    """XCiT: features attend to features."""

    def mixed(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        query, key = F.normalize(query, dim=1), F.normalize(key, dim=1)
        return ((query.mT @ key).softmax(-1) @ value.mT).mT


class Signed(Projected):
    """Scores that nothing normalises."""

    def mixed(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return (query @ key.mT).tanh() @ value


class Lstm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(WIDTH, WIDTH, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(x)[0]


MIXING = {
    "linear": (Linear, "aten.matmul.default in middle mixes tokens without attention"),
    "random features": (Performer, "aten.matmul.default in middle mixes tokens without attention"),
    "channels": (OverChannels, "aten.matmul.default in middle mixes tokens without attention"),
    "signed scores": (Signed, "aten.matmul.default in middle mixes tokens without attention"),
    "LSTM": (Lstm, "aten.lstm.input in middle.lstm"),
}


@pytest.mark.parametrize("name", MIXING)
def test_mixing_is_warned_of_by_name(name: str) -> None:
    middle, start = MIXING[name]
    (warning,) = between(middle).graph.warnings
    assert warning.startswith(start)


@pytest.mark.parametrize("name", ["linear", "LSTM"])
def test_an_error_where_nothing_is_left(name: str) -> None:
    model = seeded(Between, MIXING[name][0], attention=False)
    with pytest.raises(fxplain.NoAttentionError, match="Between has no attention over tokens"):
        fxplain.explain(model, (words(2, 6),), target=1)


def test_a_convolution_after_attention_is_a_route() -> None:
    class Convolution(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.along = nn.Conv1d(WIDTH, WIDTH, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return self.along(x.mT).mT

    graph = between(Convolution).graph
    assert [(route.operation, route.module) for route in graph.routes] == [
        ("conv1d", "middle.along")
    ]
    assert graph.warnings == ()


class Nystrom(Projected):
    """Three softmaxes around an inverse: what the inverse mixes is said."""

    def mixed(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        few_queries, few_keys = (x.unflatten(1, (3, 2)).mean(2) for x in (query, key))
        first, last = (query @ few_keys.mT).softmax(-1), (few_queries @ key.mT).softmax(-1)
        middle = torch.linalg.pinv((few_queries @ few_keys.mT).softmax(-1))
        return first @ middle @ (last @ value)


def test_nystrom_is_warned_of() -> None:
    graph = fxplain.inspect(seeded(Between, Nystrom), (words(2, 6),))
    assert any("aten.linalg_pinv" in warning for warning in graph.warnings)
    assert any("in middle mixes tokens without attention" in warning for warning in graph.warnings)
