"""Patches and words that are repeated and then mixed: each place is made of what is around it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool1d, interpolate

from tests.by_hand import WIDE, Attention, OverWords, explained, heard
from tests.small_models import seeded

SIDE = 4
N = SIDE * SIDE


class Segmented(nn.Module):
    """Patches that have attended, on a grid twice as fine, convolved."""

    def __init__(self, added: bool) -> None:
        super().__init__()
        self.patches, self.attention = nn.Conv2d(3, WIDE, 4, 4), Attention()
        self.around, self.head = nn.Conv2d(WIDE, WIDE, 3, padding=1), nn.Linear(WIDE, 3)
        self.added = added

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image).flatten(2).mT
        x = (x + self.attention(x)).mT.unflatten(-1, (SIDE, SIDE))
        fine = interpolate(x, scale_factor=2)
        h = fine + self.around(fine) if self.added else self.around(fine)
        return self.head(h.flatten(2).mT)[:, 2]


@pytest.mark.parametrize("added", [False, True])
def test_a_finer_grid_that_is_convolved(added: bool) -> None:
    model, image = seeded(Segmented, added), torch.randn(2, 3, 16, 16)
    e = explained(model, (image,))
    (own,) = heard(model, (image,), [model.attention])
    kernel = model.around.weight.detach().abs().sum((0, 1))
    shares = torch.zeros(N)  # of the third pixel of the first row, of 8: in the second patch
    shares[0], shares[1] = kernel[1:, 0].sum(), kernel[1:, 1:].sum()
    shares = shares / shares.sum() + added * torch.eye(N)[1]
    by_hand = shares @ (torch.eye(N) + own)
    torch.testing.assert_close(e.relevance["image"], by_hand, atol=1e-5, rtol=1e-4)
    assert e.graph.warnings == ()


class Repeated(OverWords):
    """Words that have attended, each said twice, and mixed."""

    def __init__(self, mix: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.mix = mix

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        return self.head(self.mix((x + self.attention(x)).repeat_interleave(2, 1))[:, 2])


@pytest.mark.parametrize(
    ("mix", "shares"),
    [
        (lambda x: avg_pool1d(x.mT, 3, 1, 1).mT, [1 / 3, 2 / 3, 0, 0]),
        (lambda x: x.cumsum(1), [2 / 3, 1 / 3, 0, 0]),
    ],
    ids=["pooled", "running sum"],
)
def test_words_said_twice_and_mixed(mix: Callable[[Tensor], Tensor], shares: list[float]) -> None:
    model, ids = seeded(Repeated, mix), torch.randint(0, 30, (2, 4))
    e = explained(model, (ids,))
    (own,) = heard(model, (ids,), [model.attention])
    by_hand = torch.tensor(shares) @ (torch.eye(4) + own)
    torch.testing.assert_close(e.relevance["ids"], by_hand, atol=1e-5, rtol=1e-4)
