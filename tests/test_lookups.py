"""Words are an input's tokens, whatever way their rows are picked from a table."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxplain
from tests.small_models import VOCABULARY, seeded, words


class Lookup(nn.Module):
    """Words looked up in one of many ways, and one attention."""

    def __init__(self, form: str) -> None:
        super().__init__()
        table, self.head = torch.randn(VOCABULARY, 16), nn.Linear(16, 3)
        self.places, self.form = nn.Parameter(torch.randn(9, 16)), form
        if form in FIXED:
            self.register_buffer("table", table)
        else:
            self.table = nn.Parameter(table)

    def looked_up(self, ids: Tensor) -> Tensor:
        if self.form in ("index", "fixed"):
            return self.table[ids]
        if self.form == "index_select":
            return self.table.index_select(0, ids.flatten()).view(*ids.shape, -1)
        if self.form == "one-hot":
            return F.one_hot(ids, VOCABULARY).to(self.table.dtype) @ self.table
        if self.form == "one-hot, folded":
            return (F.one_hot(ids.view(-1), VOCABULARY).float() @ self.table).view(*ids.shape, -1)
        if self.form == "compared":
            return (ids[..., None] == torch.arange(VOCABULARY)).float() @ self.table
        if self.form == "one-hot in an einsum":
            return torch.einsum("btv,vd->btd", F.one_hot(ids, VOCABULARY).float(), self.table)
        if self.form in ("gather", "gathered from a fixed one"):
            rows = ids.flatten()[:, None].expand(-1, 16)
            return self.table.gather(0, rows).view(*ids.shape, -1)
        if self.form in ("for each sample", "a fixed one for each sample"):
            return self.table.expand(len(ids), -1, -1).take_along_dim(ids[..., None], 1)
        if self.form == "a table that is made":
            return (2 * self.table @ torch.eye(16))[ids] / 2
        if self.form == "quantised":  # floats that are integers are themselves
            return torch.round(self.table * 2**20).int()[ids].float() / 2**20
        if self.form == "counted":
            return self.table[torch.searchsorted(torch.arange(VOCABULARY), ids)]
        return F.embedding(ids, self.table)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.looked_up(ids) + self.places[torch.arange(ids.shape[1])]
        return self.head((x + (x @ x.mT / 4).softmax(-1) @ x)[:, 0])


FIXED = ["fixed", "gathered from a fixed one", "a fixed one for each sample", "quantised"]
FORMS = [
    "index", "index_select", "one-hot", "one-hot, folded", "compared", "one-hot in an einsum", "gather",
    "for each sample", "a table that is made", *FIXED,
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("samples", [1, 2])
def test_words_are_tokens_however_they_are_looked_up(form: str, samples: int) -> None:
    given = {"ids": words(samples, 5)}
    model, embedded = seeded(Lookup, form), seeded(Lookup, "embedding")
    embedded.load_state_dict(model.state_dict())
    e, want = (fxplain.explain(m, given, target=1) for m in (model, embedded))
    torch.testing.assert_close(e.output, want.output)
    assert e.graph.modalities == {"ids": 5}
    assert e.graph.warnings == ()
    torch.testing.assert_close(e.relevance["ids"], want.relevance["ids"])


class FirstThree(Lookup):
    """The last words are looked up, and dropped."""

    def forward(self, ids: Tensor) -> Tensor:
        x = self.looked_up(ids)[:, :3]
        return self.head((x + (x @ x.mT / 4).softmax(-1) @ x)[:, 0])


@pytest.mark.parametrize("form", ["embedding", "index", "index_select"])
def test_words_that_nothing_reads_are_shown(form: str) -> None:
    e = fxplain.explain(seeded(FirstThree, form), {"ids": words(2, 5)}, target=1)
    assert e.graph.modalities == {"ids": 5}
    assert not bool(e.relevance["ids"][:, 3:].any())


def test_an_explanation_without_the_inputs_says_so() -> None:
    (warning,) = fxplain.inspect(seeded(Lookup, "counted"), (words(2, 5),)).warnings
    assert "says nothing of the inputs" in warning
