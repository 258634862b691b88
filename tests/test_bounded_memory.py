"""What is kept of a model that is asked for long does not grow."""

import gc
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.fx.graph_module import _loader
from torch.utils._python_dispatch import TorchDispatchMode

import fxplain
from fxplain.capture import cache, shelf
from fxplain.explanation.detection import program_of
from fxplain.run import Scratch
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


class Made(TorchDispatchMode):
    """The most elements that a tensor of yes and no had."""

    most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if type(made) is Tensor and made.device.type == "cpu" and made.dtype is torch.bool:
            self.most = max(self.most, made.untyped_storage().nbytes())
        return made


def test_no_call_makes_a_causal_mask_whole() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = dict.fromkeys(("hidden_size", "intermediate_size", "vocab_size"), 16)
    config = LlamaConfig(**sizes, num_hidden_layers=1, num_attention_heads=2)
    model, tokens = LlamaForCausalLM(config).eval(), 2048
    inputs = {"input_ids": torch.arange(tokens).remainder(16)[None]}
    with Made() as made:
        fxplain.explain(
            model, inputs, target=1, recheck=True
        )  # compared with the model, and checked
    assert tokens < made.most < tokens**2  # of some queries at a time


def test_an_explanation_that_is_dropped_is_gone() -> None:
    model, ids = seeded(TextClassifier), words(1, 6)
    fxplain.explain(model, (ids,), target=1)
    gc.collect()
    gc.disable()
    try:
        explained = fxplain.explain(model, (ids,), target=1)
        output = weakref.ref(explained.output)
        del explained
        assert output() is None
    finally:
        gc.enable()


def test_a_program_holds_no_analysis() -> None:
    model, ids = seeded(TextClassifier), words(1, 6)
    _, _, program = program_of(model, (ids,), verify="off")
    assert not program.versions.scalings


def test_scratch_of_tiles_that_grow_is_taken_once() -> None:
    scratch, like = Scratch(), torch.empty(0)
    first = scratch.take("weights", (2, 3), like, room=20)
    second = scratch.take("weights", (2, 9), like, room=20)
    assert first is not None
    assert second is not None
    assert first.data_ptr() == second.data_ptr()
