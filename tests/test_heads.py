"""Heads in every way that a model may compute them: equation 5 takes the mean over them."""

import pytest
import torch
from torch import Tensor, nn

import fxplain
from tests.small_models import VOCABULARY, seeded, words


class Headed(nn.Module):
    """One attention of two heads over words."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(VOCABULARY, 16), nn.Linear(16, 3)
        self.query, self.key, self.value = (nn.Linear(16, n) for n in (16, 16, 32))
        self.form = form

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        query, key, value = (
            f(x).unflatten(-1, (2, -1)).transpose(1, 2) for f in (self.query, self.key, self.value)
        )
        if self.form == "among keys":
            weights = torch.einsum("bhsd,bqhd->bhsq", query, key.transpose(1, 2)).softmax(-1)
            return self.read(x, torch.einsum("bhsq,bhqw->bsw", weights, value))
        if self.form == "one by one":
            parts = [(query[:, i] @ key[:, i].mT).softmax(-1) @ value[:, i] for i in range(2)]
            mixed = torch.cat(parts, -1).unflatten(-1, (2, 16))
            return self.read(x, mixed.sum(2))
        return self.read(x, ((query @ key.mT).softmax(-1) @ value).sum(1))

    def read(self, x: Tensor, mixed: Tensor) -> Tensor:
        return self.head((x + mixed)[:, 0])


@pytest.mark.parametrize("form", ["among keys", "one by one"])
def test_the_mean_over_heads_however_they_are_computed(form: str) -> None:
    ids = words(2, 6)
    e, want = (fxplain.explain(seeded(Headed, f), (ids,), target=1) for f in (form, "at once"))
    torch.testing.assert_close(e.output, want.output)
    assert e.graph.warnings == ()
    assert len(e.graph.nodes) == (2 if form == "one by one" else 1)
    torch.testing.assert_close(e.relevance["ids"], want.relevance["ids"])


class Repeated(nn.Module):
    """Every key stands there twice, and one softmax sees both: they are summed."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(VOCABULARY, 16), nn.Linear(16, 3)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        keys = torch.cat([x, x], 1)
        return self.head((x + (x @ keys.mT).softmax(-1) @ keys)[:, 0])


def test_keys_that_stand_there_twice_are_no_heads() -> None:
    model, ids = seeded(Repeated), words(1, 5)
    e = fxplain.explain(model, (ids,), target=1)
    x = model.words(ids)[0]
    weights = (x[:1] @ torch.cat([x, x]).mT).softmax(-1)
    gradient = (model.head.weight[1] @ torch.cat([x, x]).mT)[None]
    want = (weights * gradient).clamp(min=0).unflatten(-1, (2, 5)).sum(1)[0].detach()
    torch.testing.assert_close(e.relevance["ids"][0], want + torch.eye(5)[0])
