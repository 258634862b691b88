"""What is the user's own stays the user's: stores of activations, weights, the error stream."""

import io
import json
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

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
    for _ in range(2):
        fxplain.explain(model, (IDS,), target=1)
        expected = words_of.weight[IDS]
        for kept in (store["words"], GLOBAL_STORE["words"], recorder.seen["words"], recorder.last):
            assert type(kept) is Tensor
            torch.testing.assert_close(kept, expected)
        assert [type(each) for each in listed] == [Tensor]


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


def test_packed_weights_are_named_where_they_are_written() -> None:
    model = seeded(Writer)
    model.head.weight = PackedWeight(model.head.weight.detach())
    with pytest.raises(fxplain.CaptureError, match=r"'head\.weight'.*PackedWeight.*unquantised"):
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
