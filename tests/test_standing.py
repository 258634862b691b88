"""Constants that weights make queries, keys or rows of a sequence: tokens, as a parameter's are."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.by_hand import WIDE, Attention, OverWords, explained, heard
from tests.small_models import seeded

ROWS = 5


def sines() -> Tensor:
    return (torch.arange(float(ROWS)).unsqueeze(1) * torch.arange(1.0, WIDE + 1)).sin()


class WithRows(OverWords):
    """Rows of the model's own, as a parameter, as a buffer or computed, in one of several places."""

    def __init__(self, stored: str, place: str) -> None:
        super().__init__()
        if stored == "parameter":
            self.rows = nn.Parameter(sines())
        else:
            self.register_buffer("rows", sines())
        self.own, self.across, self.map = Attention(), Attention(), nn.Linear(WIDE, WIDE)
        self.fused = nn.MultiheadAttention(WIDE, 2, batch_first=True)
        self.stored, self.place = stored, place

    def forward(self, ids: Tensor) -> Tensor:
        rows = sines() if self.stored == "computed" else self.rows
        rows = rows.expand(len(ids), -1, -1)
        x = self.words(ids)
        x = x + self.attention(x)
        if self.place == "keys":
            x = x + self.across(x, rows)
        elif self.place == "fused keys":
            x = x + self.fused(x, rows, rows)[0]
        elif self.place == "decoder":
            y = rows + self.own(rows)
            x = y + self.across(y, x)
        else:
            x = torch.cat([x, self.map(rows)], 1)
            x = x + self.own(x)
        return self.head(x.mean(1))


@pytest.mark.parametrize("place", ["keys", "fused keys", "decoder", "sequence"])
@pytest.mark.parametrize("stored", ["buffer", "computed"])
def test_a_constant_s_rows_are_tokens_as_a_parameter_s_are(stored: str, place: str) -> None:
    ids = torch.randint(0, 30, (2, 6))
    model = seeded(WithRows, "parameter", place)
    model.rows.data.copy_(sines())
    expected = explained(model, (ids,))
    other = seeded(WithRows, stored, place)
    other.load_state_dict(model.state_dict())
    e = explained(other, (ids,))
    assert [n.kind for n in e.graph.nodes] == [n.kind for n in expected.graph.nodes]
    for given, right in zip(e.relevance.values(), expected.relevance.values(), strict=True):
        torch.testing.assert_close(given, right, atol=1e-6, rtol=1e-5)
    if place == "keys":
        own, across = heard(model, (ids,), [model.attention, model.across])
        by_hand = (torch.eye(6) + own / own.sum(-1, keepdim=True)).mT @ across
        torch.testing.assert_close(list(e.relevance.values())[1], by_hand.mean(1))


class Retrieved(OverWords):
    """Words that attend to the rows of a bank that suit their text best."""

    def __init__(self, picked: str) -> None:
        super().__init__()
        self.bank = nn.Parameter(torch.randn(12, WIDE))
        self.across, self.picked = Attention(), picked

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        x = x + self.attention(x)
        best = (x.mean(1) @ self.bank.mT).topk(4).indices
        if self.picked == "index":
            rows = self.bank[best]
        elif self.picked == "index_select":
            rows = self.bank.index_select(0, best.flatten()).unflatten(0, best.shape)
        else:
            whole = self.bank.expand(len(ids), -1, -1)
            rows = whole.gather(1, best.unsqueeze(-1).expand(-1, -1, WIDE))
        return self.head((x + self.across(x, rows)).mean(1))


@pytest.mark.parametrize("picked", ["index", "index_select", "gather"])
def test_rows_that_each_sample_chooses_are_its_own(picked: str) -> None:
    model, ids = seeded(Retrieved, picked), torch.randint(0, 30, (3, 6))
    e = explained(model, (ids,))
    assert e.graph.warnings == ()
    own, across = heard(model, (ids,), [model.attention, model.across])
    by_hand = ((torch.eye(6) + own / own.sum(-1, keepdim=True)).mT @ across).mean(1)
    torch.testing.assert_close(
        e.relevance["bank"].sort().values, by_hand.sort().values, atol=1e-6, rtol=1e-4
    )  # tokens lie in the bank's order
