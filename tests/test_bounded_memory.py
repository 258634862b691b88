"""What is kept of a model that is asked for long does not grow."""

import gc

import pytest
import torch
from torch import Tensor

import fxplain
from fxplain.capture import cache, shelf
from tests.small_models import TextClassifier, seeded, words


class Branching(TextClassifier):
    """A branch on data, so that each input is recorded."""

    def forward(self, input_ids: Tensor) -> Tensor:  # type: ignore[override]
        out = super().forward(input_ids)
        return out * 2 if bool(out.sum() > -1e9) else out


def _objects() -> int:
    gc.collect()
    return len(gc.get_objects())


@pytest.mark.slow
def test_many_inputs_of_a_recorded_model() -> None:
    model = seeded(Branching)
    for i in range(shelf._MOST_CAPTURES + 6):
        fxplain.explain(model, (_ids(i),), target=1)
        if i == shelf._MOST_CAPTURES + 1:
            before = _objects()
    assert len(cache._captures[model]) == shelf._MOST_CAPTURES
    assert _objects() < before * 1.02


def _ids(i: int) -> Tensor:
    return torch.tensor([[1 + i % 20, 2, 3, 4, 5, 1 + i // 20]])


def test_many_weight_updates_of_a_recorded_model() -> None:
    model = seeded(Branching)
    ids = words(1, 6)
    for _ in range(5):
        fxplain.explain(model, (ids,), target=1)
        with torch.no_grad():
            model.head.weight.add_(0.01)
    assert len(cache._captures[model]) == 1


def test_many_lengths() -> None:
    model = seeded(TextClassifier)
    for length in range(2, 6):
        fxplain.explain(model, (torch.ones(2, length, dtype=torch.long),), target=1)
    (kept,) = cache._captures[model]._kept
    kept.capture.memo._most = 8
    for length in range(6, 30):
        fxplain.explain(model, (torch.ones(2, length, dtype=torch.long),), target=1)
        assert len(kept.capture.memo) <= 8
