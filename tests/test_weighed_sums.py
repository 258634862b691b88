"""Rows and sums of the same words that are added by numbers: each word has its share."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.by_hand import OverWords, explained, heard
from tests.small_models import seeded

N = 6


class Read(OverWords):
    """What is read of words that have attended."""

    def __init__(self, read: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.read = read

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        return self.head(self.read(x + self.attention(x)))


@pytest.mark.parametrize(
    ("read", "shares"),
    [
        (lambda x: 0.1 * x[:, 0] + 0.9 * x.mean(1), [0.25] + [0.15] * 5),
        (lambda x: (0.1 * x + 0.9 * x.mean(1, keepdim=True))[:, 0], [0.25] + [0.15] * 5),
        (lambda x: torch.lerp(x[:, 0], x[:, 1:].mean(1), 0.9), [0.1] + [0.18] * 5),
        (lambda x: (0.1 * x + 0.9 * x.roll(1, 1))[:, 1], [0.9, 0.1, 0, 0, 0, 0]),
        (lambda x: (x[:, :-1] + x[:, 1:])[:, 0], [0.5, 0.5, 0, 0, 0, 0]),
        (lambda x: (x[:, 1:] - x[:, :-1])[:, 0], [0.5, 0.5, 0, 0, 0, 0]),
        (lambda x: (x[:, :-2] + x[:, 1:-1] + x[:, 2:])[:, 0], [1 / 3, 1 / 3, 1 / 3, 0, 0, 0]),
    ],
    ids=["row and mean", "each and mean", "lerp", "neighbours", "pairs", "differences", "threes"],
)
def test_numbers_that_weigh_what_is_added_are_shares(
    read: Callable[[Tensor], Tensor], shares: list[float]
) -> None:
    model, ids = seeded(Read, read), torch.randint(0, 30, (2, N))
    e = explained(model, (ids,))
    (own,) = heard(model, (ids,), [model.attention])
    by_hand = torch.tensor(shares) @ (torch.eye(N) + own)
    torch.testing.assert_close(e.relevance["ids"], by_hand, atol=1e-5, rtol=1e-4)
    assert e.graph.warnings == ()


class LessPadding(OverWords):
    """The sum of all words, less that of the padding's."""

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = self.words(ids)
        x = x + self.attention(x)
        return self.head(x.sum(1) - (x * (1 - mask).unsqueeze(-1)).sum(1))


def test_padding_that_is_taken_off_may_be_none() -> None:
    model, ids = seeded(LessPadding), torch.randint(0, 30, (1, N))
    (own,) = heard(model, (ids, torch.ones_like(ids)), [model.attention])
    e = explained(model, (ids, torch.ones_like(ids)))
    by_hand = (torch.eye(N) + own).mean(1)
    torch.testing.assert_close(e.relevance["ids"], by_hand, atol=1e-5, rtol=1e-4)
