"""Each patch with each word: a grid of pairs, laid out as one sequence that attends."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.by_hand import WIDE, Attention, explained, heard
from tests.small_models import seeded

PATCHES, WORDS = 5, 4


class Grid(nn.Module):
    def __init__(self, form: str) -> None:
        super().__init__()
        self.patches, self.words = nn.Linear(8, WIDE), nn.Embedding(30, WIDE)
        self.attention, self.head = Attention(), nn.Linear(WIDE, 3)
        self.both, self.form = nn.Linear(2 * WIDE, WIDE), form

    def forward(self, image: Tensor, ids: Tensor) -> Tensor:
        x, y = self.patches(image).unsqueeze(2), self.words(ids).unsqueeze(1)
        if self.form == "added":
            z = x + y
        elif self.form == "multiplied":
            z = x * y
        else:
            sides = (x.expand(-1, -1, WORDS, -1), y.expand(-1, PATCHES, -1, -1))
            z = self.both(torch.cat(sides, -1))
        z = z.relu().flatten(1, 2)
        return self.head((z + self.attention(z)).mean(1))


@pytest.mark.parametrize("form", ["added", "multiplied", "beside"])
def test_a_pair_is_made_of_both(form: str) -> None:
    model, inputs = (
        seeded(Grid, form),
        (torch.randn(2, PATCHES, 8), torch.randint(0, 30, (2, WORDS))),
    )
    e = explained(model, inputs)
    (own,) = heard(model, inputs, [model.attention])
    rows = (torch.eye(PATCHES * WORDS) + own).mean(1).unflatten(1, (PATCHES, WORDS)) / 2
    torch.testing.assert_close(e.relevance["image"], rows.sum(2), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(e.relevance["ids"], rows.sum(1), atol=1e-5, rtol=1e-4)
