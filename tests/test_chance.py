"""Random numbers in a forward: every run draws the same ones, and the user's come as they would."""

import random

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fxplain
from tests.small_models import TextClassifier, seeded, words

IDS = words(2, 6)


class Chancy(TextClassifier):
    """Attends to a random choice of its tokens, with noise; `how` says where chance comes from."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def numbers(self, count: int) -> Tensor:
        if self.how == "python":
            return torch.tensor([random.random() for _ in range(count)])
        if self.how == "numpy":
            return torch.tensor(np.random.rand(count), dtype=torch.float32)
        if self.how == "a seed of its own":
            torch.manual_seed(5)
        return torch.rand(count)

    def forward(self, input_ids: Tensor) -> Tensor:
        hidden = self.encoder(input_ids)
        noise = self.numbers(16)
        order = self.numbers(input_ids.shape[1]).argsort()
        if self.how == "recorded" and noise.sum() < 0:
            return noise
        mixed = self.encoder.blocks[0](hidden[:, order[:4]] + noise)
        return self.head(mixed[:, 0])


WAYS = ["torch", "recorded", "a seed of its own", "python", "numpy"]


@pytest.mark.parametrize("how", WAYS)
def test_the_same_draw_as_the_models_own(how: str) -> None:
    model = seeded(Chancy, how)
    torch.manual_seed(3)
    random.seed(3)
    np.random.seed(3)
    first, again = fxplain.explain(model, (IDS,)), fxplain.explain(model, (IDS,))
    assert torch.equal(first.relevance["input_ids"], again.relevance["input_ids"])
    torch.testing.assert_close(first.output, model(IDS).detach())
    (warning,) = first.graph.warnings
    assert "draws random numbers" in warning


def test_what_is_read_is_what_was_drawn() -> None:
    """The analysis and the run agree on the tokens that chance picked."""
    model = seeded(Chancy, "torch")
    readouts = set()
    for seed in range(6):
        torch.manual_seed(seed)
        e = fxplain.explain(model, (IDS[:1],))
        torch.rand(16)
        first = int(torch.rand(6).argsort()[0])
        assert e.readout == (f"input_ids[{first}]",)
        readouts.add(first)
    assert len(readouts) > 1, "one draw only shows nothing"


class Dropping(TextClassifier):
    """Dropout that is on in eval mode."""

    def forward(self, input_ids: Tensor) -> Tensor:
        return nn.functional.dropout(super().forward(input_ids), 0.5, training=True)


def test_dropout_in_eval_mode() -> None:
    model = seeded(Dropping)
    torch.manual_seed(2)
    e = fxplain.explain(model, (IDS,))
    torch.testing.assert_close(e.output, model(IDS).detach())
    assert "draws random numbers (torch)" in e.graph.warnings[0]
    assert fxplain.inspect(seeded(TextClassifier), (IDS,)).warnings == ()


def test_draws_that_nothing_depends_on() -> None:
    """A decorator looks at a random one of the arguments' items, as run-time type checkers do."""

    class Checked(TextClassifier):
        def forward(self, input_ids: Tensor) -> Tensor:
            row = random.randrange(len(input_ids))
            assert isinstance(input_ids[row], Tensor)
            assert np.random.rand() <= 1
            return super().forward(input_ids)

    before = random.getstate(), np.random.get_state(legacy=False)
    e = fxplain.explain(seeded(Checked), (IDS,), 1)
    assert e.graph.warnings == ()
    assert random.getstate() == before[0]
    assert str(np.random.get_state(legacy=False)) == str(before[1])
