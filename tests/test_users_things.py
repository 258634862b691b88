"""What is the user's own stays the user's: stores of activations, weights, the error stream."""

import io
import json
import sys
import weakref
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

import fxplain
from tests.small_models import TextClassifier, seeded, words

GLOBAL_STORE: dict[str, Tensor] = {}
IDS = words(2, 6)


class Recorder:
    """A store of activations in an object's attributes."""

    def __init__(self) -> None:
        self.seen: dict[str, Tensor] = {}
        self.last: Tensor | None = None

    def hook(self, _module: nn.Module, _args: object, output: Tensor) -> None:
        self.seen["words"] = self.last = output


class OfAll:
    """A store in the attributes of a class."""

    seen: ClassVar[dict[str, Tensor]] = {}
    last: Tensor | None = None
    count = 0

    @classmethod
    def keep(cls, output: Tensor) -> None:
        cls.seen["words"] = cls.last = output
        cls.count += 1


class Restless(TextClassifier):
    """Sets its class, writes a buffer behind torch's back, draws from a generator of its own."""

    counted = 0
    seen: ClassVar[dict[str, Tensor]] = {}

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(2))
        self.own = torch.Generator().manual_seed(3)
        owner = Recorder()  # it is gone when this returns
        self.gone = weakref.proxy(owner)

    def noted(self, x: Tensor) -> None:
        type(self).counted += 1
        self.seen["words"] = x
        GLOBAL_STORE["head"] = x

    def forward(self, input_ids: Tensor) -> Tensor:  # type: ignore[override]
        self.calls.data += 1
        self.calls.data = self.calls.data + 1
        x = super().forward(input_ids)
        self.noted(x)
        return x + torch.rand((), generator=self.own)


def test_a_restless_model_is_as_it_was() -> None:
    model = seeded(Restless)
    before = model.calls, model.calls.data_ptr(), model.own.get_state()
    found = fxplain.explain(model, (IDS,), target=1)
    assert (model.calls, model.calls.data_ptr()) == before[:2]
    assert not model.calls.any()
    assert torch.equal(model.own.get_state(), before[2])
    assert (Restless.counted, Restless.seen, GLOBAL_STORE.get("head")) == (0, {}, None)
    torch.testing.assert_close(found.output, model(IDS))
    assert "draws random numbers (torch)" in found.graph.warnings[0]


def test_a_store_of_activations_holds_real_ones() -> None:
    model = seeded(TextClassifier)
    store: dict[str, Tensor] = {}
    listed: list[Tensor] = []
    recorder = Recorder()
    words_of = model.encoder.words
    words_of.register_forward_hook(lambda _m, _a, out: store.update(words=out))
    words_of.register_forward_hook(lambda _m, _a, out: GLOBAL_STORE.update(words=out))
    words_of.register_forward_hook(lambda _m, _a, out: listed.append(out))
    words_of.register_forward_hook(recorder.hook)
    words_of.register_forward_hook(lambda _m, _a, out: OfAll.keep(out))
    defaults: list[Tensor] = []
    words_of.register_forward_hook(lambda _m, _a, out, kept=defaults: kept.append(out))
    of_all: list[Tensor] = []
    handle = register_module_forward_hook(
        lambda m, _a, out: of_all.append(out) if m is words_of else None
    )
    for _ in range(2):
        fxplain.explain(model, (IDS,), target=1)
        expected = words_of.weight[IDS]
        stores = store, GLOBAL_STORE, recorder.seen, OfAll.seen
        for kept in (*(each["words"] for each in stores), recorder.last, OfAll.last):
            assert type(kept) is Tensor
            torch.testing.assert_close(kept, expected)
        for each in (listed, defaults, of_all):
            assert [type(kept) for kept in each] == [Tensor]
        assert OfAll.count == 1
    handle.remove()


class Writer(TextClassifier):
    """Writes into a parameter as it runs."""

    how = "in place"

    def forward(self, input_ids: Tensor) -> Tensor:  # type: ignore[override]
        weight = self.head.weight
        if self.how == "in place":
            weight.data.mul_(2)
        elif self.how == "by a view":
            weight.data[0].add_(1)
        else:
            weight.data = weight.data * 2
        return super().forward(input_ids)


@pytest.mark.parametrize("how", ["in place", "by a view", "replaced"])
def test_a_forward_that_writes_weights_is_refused_and_undone(how: str) -> None:
    model = seeded(Writer)
    model.how = how
    before = model.head.weight.detach().clone()
    with pytest.raises(fxplain.CaptureError, match=r"its own parameter 'head\.weight'"):
        fxplain.explain(model, (IDS,), target=1)
    torch.testing.assert_close(model.head.weight.detach(), before, rtol=0, atol=0)


class PackedWeight(nn.Parameter):
    """A weight in a class of its own, as bitsandbytes has them."""


def test_a_weight_of_a_class_of_its_own_is_not_written_either() -> None:
    model = seeded(Writer)
    model.head.weight = PackedWeight(model.head.weight.detach())
    with pytest.raises(fxplain.CaptureError, match=r"its own parameter 'head\.weight'"):
        fxplain.explain(model, (IDS,), target=1)


def test_the_error_stream_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    fxplain.explain(seeded(TextClassifier), (IDS,), target=1)
    assert sys.stderr is stream


def test_nothing_asks_on_stdin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A repository with code of its own is refused; transformers by itself would ask, and wait."""

    def asked(*_: object) -> str:
        raise AssertionError("a prompt")

    monkeypatch.setattr("builtins.input", asked)
    monkeypatch.setattr("signal.alarm", asked)  # how long it would wait
    config = {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig"}}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (tmp_path / "own.py").write_text("raise AssertionError('it ran')", encoding="utf-8")
    with pytest.raises(fxplain.LoadError, match="custom code"):
        fxplain.from_pretrained(tmp_path)
