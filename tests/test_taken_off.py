"""What is taken off a sum of tokens is no part of it: leave one out, windows of running sums."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxplain
from tests.attention_by_hand import by_hand
from tests.small_models import VOCABULARY, seeded, words

WIDTH, TOKENS = 8, 5
ALL = torch.ones(TOKENS, TOKENS, dtype=torch.float64)
FIRST = torch.eye(TOKENS, dtype=torch.float64)[0]

Mix = Callable[[Tensor], Tensor]


def windows(x: Tensor) -> Tensor:
    sums = F.pad(x.cumsum(1), (0, 0, 2, 0))
    return sums[:, 2:] - sums[:, :-2]


POOLED: dict[str, tuple[Mix, Tensor]] = {
    "without the first": (lambda x: x.sum(1) - x[:, 0], ALL[0] - FIRST),
    "without two": (lambda x: x.sum(1) - x[:, 0] - x[:, -1], torch.tensor([0.0, 1, 1, 1, 0])),
    "negated and added": (lambda x: (-x[:, 0] + x.sum(1)) / 4, ALL[0] - FIRST),
    "of a mean": (lambda x: x.mean(1) - x[:, 0] / TOKENS, ALL[0] - FIRST),
    "a sum off a sum": (lambda x: x.sum(1) - x[:, :2].sum(1), torch.tensor([0.0, 0, 1, 1, 1])),
    "a sum of differences": (lambda x: x.diff(dim=1).sum(1), torch.tensor([1.0, 0, 0, 0, 1])),
    "a half stays": (lambda x: x.sum(1) - x[:, 0] / 2 - x[:, 2], torch.tensor([0.5, 1, 0, 1, 1])),
}

MIXED: dict[str, tuple[Mix, Tensor]] = {
    "leave one out": (lambda x: (x.sum(1, keepdim=True) - x) / 4, ALL - ALL.diag().diag()),
    "those before": (lambda x: x.cumsum(1) - x, ALL.tril(-1)),
    "windows": (windows, ALL.tril() - ALL.tril(-2)),
}


class Between(nn.Module):
    """Attention, tokens mixed in some way, and then their mean, or attention and its last row."""

    def __init__(self, mix: Mix, pooled: bool) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(VOCABULARY, WIDTH), nn.Linear(WIDTH, 3)
        self.mix, self.pooled = mix, pooled

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.mix(attended(self.words(input_ids)))
        return self.head(x if self.pooled else attended(x)[:, -1])


def attended(x: Tensor) -> Tensor:
    return x + F.scaled_dot_product_attention(x, x, x)


@pytest.mark.parametrize("name", [*POOLED, *MIXED])
def test_what_cancels_is_not_read(name: str) -> None:
    """Equations 5 and 6, and between them a route that says of each token as much as is left."""
    mix, left = (POOLED | MIXED)[name]
    model = seeded(Between, mix, name in POOLED).double()
    ids = words(2, TOKENS)
    with by_hand() as notes:
        model(ids)[:, 1].sum().backward()
    maps = [(w.grad * w).clamp(min=0).detach() for w, _, _ in notes]
    shares = left.double() / left.double().sum(-1, keepdim=True).clamp(min=1e-9)
    rows = shares @ (torch.eye(TOKENS).double() + maps[0])
    want = rows if name in POOLED else (rows + maps[1] @ rows)[:, -1]
    explanation = fxplain.explain(model, (ids,), target=1)
    torch.testing.assert_close(explanation.relevance["input_ids"].double(), want)
    assert explanation.graph.warnings == ()


def test_what_is_centred_keeps_its_place() -> None:
    """Nothing cancels in a row less the mean of all: each token stays, and hears of the mean."""
    model = seeded(Between, lambda x: x - x.mean(1, keepdim=True), False).double()
    graph = fxplain.inspect(model, (words(2, TOKENS),))
    assert [route.operation for route in graph.routes] == ["mean", "sub"]
