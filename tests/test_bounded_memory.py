"""What is kept of a model that is asked for long does not grow."""

import gc

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.fx.graph_module import _loader

import fxplain
from fxplain.capture import cache, shelf
from tests.small_models import TextClassifier, seeded, words


class Branching(TextClassifier):
    """A branch on data, so that each input is recorded."""

    def forward(self, input_ids: Tensor) -> Tensor:  # type: ignore[override]
        out = super().forward(input_ids)
        return out * 2 if bool(out.sum() > -1e9) else out


def _objects() -> int:
    """What tracing makes; a test's log keeps other things."""
    for _ in range(4):  # what C++ held is found garbage only when that is gone
        gc.collect()
    parts = ("torch.fx", "torch._subclasses")
    return sum(str(type(each).__module__).startswith(parts) for each in gc.get_objects())


@pytest.mark.slow
def test_many_inputs_of_a_recorded_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf, "_MOST_CAPTURES", 2)
    model, most, inputs = seeded(Branching), 5, 4
    for i in range(most):
        fxplain.explain(model, (_ids(i),), target=1)
    before, sources, environments = _objects(), len(_loader.eval_cache), _environments()
    for i in range(most, most + inputs):
        fxplain.explain(model, (_ids(i),), target=1)
    assert len(cache._captures[model]) == 2
    assert _objects() - before < 10 * inputs  # torch kept some 1,200 of each trace
    assert len(_loader.eval_cache) <= sources
    assert _environments() <= environments


def _environments() -> int:
    return sum(isinstance(each, ShapeEnv) for each in gc.get_objects())


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
