"""The best of all words' scores is that word's."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import fxplain
from tests.by_hand import OverWords, explained, heard
from tests.small_models import seeded

N = 6


class Best(OverWords):
    """Scores of every word, of which one is picked for each class (a bag of instances)."""

    def __init__(self, pick: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.pick = pick

    def scores(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        return self.head(x + self.attention(x))  # type: ignore[no-any-return]

    def forward(self, ids: Tensor) -> Tensor:
        return self.pick(self.scores(ids))


@pytest.mark.parametrize(
    ("pick", "rank"),
    [
        (lambda y: y.amax(1), -1),
        (lambda y: y.max(1).values, -1),
        (lambda y: y.amin(1, keepdim=True)[:, 0], 0),
        (lambda y: y.median(1).values, 2),
        (lambda y: y.kthvalue(2, 1).values, 1),
    ],
    ids=["amax", "max", "amin", "median", "kthvalue"],
)
def test_the_picked_score_is_its_word_s(pick: Callable[[Tensor], Tensor], rank: int) -> None:
    model, ids = seeded(Best, pick), torch.stack([torch.randperm(30)[:N] for _ in range(2)])
    e = explained(model, (ids,))
    place = model.scores(ids)[..., 1].argsort(1)[:, rank]
    (own,) = heard(model, (ids,), [model.attention])
    by_hand = (torch.eye(N) + own)[torch.arange(2), place]
    torch.testing.assert_close(e.relevance["ids"], by_hand, atol=1e-5, rtol=1e-4)
    assert e.graph.warnings == ()
    assert fxplain.verify(model, (ids,)).ok
