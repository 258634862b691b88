"""Models that take the samples of a batch one by one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import fxplain
from tests.small_models import VOCABULARY, Block, words

WIDTH = 8


class Reader(nn.Module):
    """Two blocks over each sample's words, one sample after the other; subclasses say how to read."""

    def __init__(self) -> None:
        super().__init__()
        self.e, self.cls = nn.Embedding(VOCABULARY, WIDTH), nn.Parameter(torch.randn(1, 1, WIDTH))
        self.blocks = nn.ModuleList(Block(WIDTH, 2) for _ in range(2))
        self.head = nn.Linear(WIDTH, 3)

    def blocked(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x

    def forward(self, ids: Tensor) -> Tensor:
        return torch.cat([self.one(own.unsqueeze(0)) for own in ids.unbind(0)])

    def one(self, ids: Tensor) -> Tensor:
        return self.head(self.blocked(self.e(ids))[:, 0])


class WithClass(Reader):
    def one(self, ids: Tensor) -> Tensor:
        return self.head(self.blocked(torch.cat([self.cls, self.e(ids)], 1))[:, 0])


class Pooled(Reader):
    def one(self, ids: Tensor) -> Tensor:
        return self.head(self.blocked(self.e(ids)).mean(1))


class PooledAlone(Reader):
    """All at once, but for the mean over each sample's words."""

    def forward(self, ids: Tensor) -> Tensor:
        x = self.blocked(self.e(ids))
        return self.head(torch.stack([own.mean(0) for own in x.unbind(0)]))


class OfSeveralLengths(Pooled):
    """Each without its padding."""

    def forward(self, ids: Tensor) -> Tensor:
        lengths = (ids > 0).sum(1).tolist()
        return torch.cat([self.one(own[None, :n]) for own, n in zip(ids, lengths, strict=True)])


def _relevance(model: nn.Module, ids: Tensor) -> Tensor:
    explanation = fxplain.explain(model, {"ids": ids}, target=1)
    assert explanation.graph.warnings == ()
    return explanation.relevance["ids"]


@pytest.mark.parametrize(
    "make",
    [
        Reader,
        WithClass,
        Pooled,
        PooledAlone,
        pytest.param(OfSeveralLengths, marks=pytest.mark.slow),
    ],
)
def test_samples_one_by_one(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    model, ids = make().double().eval(), words(3, 5)
    if make is OfSeveralLengths:
        ids[1, 3:] = ids[2, 2:] = 0
    found = _relevance(model, ids)
    alone = _relevance(model, ids[[2]])
    own, words_of = found[2][-5:], ids[2] > 0
    torch.testing.assert_close(found[[2], : alone.shape[1]], alone)
    assert own[words_of].min() > 0
    assert own[~words_of].abs().sum() == 0
