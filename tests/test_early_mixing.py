"""Mixing of a whole sequence before any attention: a route between tokens, as it is after one."""

import pytest
import torch
from torch import Tensor, nn

import fxplain
from tests.small_models import VOCABULARY, seeded, words

WIDTH, LENGTH = 8, 5


class Mixed(nn.Module):
    """Words, each with a mixture of all of them; then they attend, and the first is read."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(VOCABULARY, WIDTH), nn.Linear(WIDTH, 3)
        self.mixer, self.form = nn.Linear(LENGTH, LENGTH, bias=False), form
        self.wide, self.narrow = nn.Linear(LENGTH, 9), nn.Linear(9, LENGTH)

    def mix(self, x: Tensor) -> Tensor:
        if self.form == "linear":
            return self.mixer(x.transpose(1, 2)).transpose(1, 2)
        if self.form == "wider":
            return self.narrow(self.wide(x.transpose(1, 2)).relu()).transpose(1, 2)
        return x.cumsum(1) if self.form == "running sum" else torch.fft.fft(x, dim=1).real

    def shares(self) -> Tensor:
        wide, narrow = (part.weight.detach().abs() for part in (self.wide, self.narrow))
        made = {
            "linear": self.mixer.weight.detach().abs(),
            "wider": narrow @ (wide / wide.sum(1, keepdim=True)),
            "running sum": torch.ones(LENGTH, LENGTH).tril(),
            "fourier": torch.ones(LENGTH, LENGTH),
        }[self.form]
        return made / made.sum(1, keepdim=True)

    def attend(self, x: Tensor) -> tuple[Tensor, Tensor]:
        weights = (x @ x.transpose(1, 2) / WIDTH**0.5).softmax(-1)
        return x + weights @ x, weights

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.words(input_ids)
        return self.head(self.attend(x + self.mix(x))[0][:, 0])


@pytest.mark.parametrize("form", ["linear", "wider", "running sum", "fourier"])
def test_words_that_are_mixed_before_they_attend_hear_of_one_another(form: str) -> None:
    model, ids = seeded(Mixed, form), words(1, LENGTH)
    x = model.words(ids)
    y, weights = model.attend(x + model.mix(x))
    weights.retain_grad()
    model.head(y[:, 0])[0, 1].backward()
    shown = (weights.grad * weights.detach())[0].clamp(min=0)
    model.zero_grad(set_to_none=True)
    before = torch.eye(LENGTH) + model.shares()
    e = fxplain.explain(model, (ids,), target=1)
    assert e.graph.warnings == ()
    assert e.graph.modalities == {"input_ids": LENGTH}
    torch.testing.assert_close(e.relevance["input_ids"][0], (before + shown @ before)[0])
