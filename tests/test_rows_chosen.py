"""A row or its neighbour, as a mask says: each place holds the row that was chosen."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.by_hand import WIDE, Attention, OverWords, explained, heard
from tests.small_models import seeded

N = 6


def written(x: Tensor, mask: Tensor) -> Tensor:
    y = x.clone()
    y[mask] = x.roll(1, 1)[mask]
    return y


FORMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "where": lambda x, mask: torch.where(mask.unsqueeze(-1), x.roll(1, 1), x),
    "blended": lambda x, mask: (
        mask.unsqueeze(-1).float() * x.roll(1, 1) + (1 - mask.unsqueeze(-1).float()) * x
    ),
    "written": written,
}


class Chosen(OverWords):
    def __init__(self, form: str) -> None:
        super().__init__()
        self.second, self.form = Attention(), form

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = self.words(ids)
        x = FORMS[self.form](x + self.attention(x), mask)
        return self.head((x + self.second(x))[:, 2])


@pytest.mark.parametrize("form", FORMS)
def test_the_chosen_row_is_the_place_s(form: str) -> None:
    model = seeded(Chosen, form)
    ids = torch.tensor([[3, 4, 13, 8, 9, 19], [1, 2, 6, 7, 12, 5]])
    mask = torch.tensor([[1, 0, 0, 1, 0, 1], [0, 0, 1, 0, 1, 0]]).bool()
    e = explained(model, (ids, mask))
    first, second = heard(model, (ids, mask), [model.attention, model.second])
    places = torch.eye(N)[(torch.arange(N) - mask.long()) % N]
    rows = places @ (torch.eye(N) + first)
    by_hand = (rows + second @ rows)[:, 2]
    torch.testing.assert_close(e.relevance["ids"], by_hand, atol=1e-5, rtol=1e-4)
    assert e.graph.warnings == ()


class Replaced(OverWords):
    """Words of which a mask replaces some by what they hear, or by the rows of another input."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.second, self.patches, self.form = Attention(), nn.Linear(5, WIDE), form

    def forward(self, ids: Tensor, mask: Tensor, image: Tensor) -> Tensor:
        here, x = mask.unsqueeze(-1), self.words(ids)
        if self.form == "another input":
            x = torch.where(here, self.patches(image), x)
        elif self.form == "where":
            x = torch.where(here, self.attention(x), x)
        else:
            x = self.attention(x) * here.float() + x * (1 - here.float())
        return self.head((x + self.second(x))[:, 2])


@pytest.mark.parametrize("form", ["where", "blended", "another input"])
def test_what_is_replaced_is_gone(form: str) -> None:
    model, image = seeded(Replaced, form), torch.randn(2, N, 5)
    ids = torch.tensor([[3, 4, 13, 8, 9, 19], [1, 2, 6, 7, 12, 5]])
    mask = torch.tensor([[1, 0, 0, 1, 0, 1], [0, 0, 1, 0, 1, 0]]).bool()
    e = explained(model, (ids, mask, image))
    if form == "another input":
        (second,) = heard(model, (ids, mask, image), [model.second])
        by_hand = (torch.eye(N) + second)[:, 2]
        torch.testing.assert_close(e.relevance["image"], by_hand * mask, atol=1e-5, rtol=1e-4)
        by_hand = by_hand * ~mask
    else:
        first, second = heard(model, (ids, mask, image), [model.attention, model.second])
        rows = torch.where(mask.unsqueeze(-1), first, torch.eye(N))
        by_hand = (rows + second @ rows)[:, 2]
    torch.testing.assert_close(e.relevance["ids"], by_hand, atol=1e-5, rtol=1e-4)
