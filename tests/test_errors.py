"""Bad input: each kind has its own error, which says what was wrong and what to do."""

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxplain
from tests.small_models import (
    ImageClassifier,
    TextClassifier,
    architecture,
    pixels,
    seeded,
    words,
)


class MLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 5))

    def forward(self, features: Tensor) -> Tensor:
        return self.layers(features)


class CNN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 5)

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.head(self.convolution(pixel_values).relu().mean((2, 3)))


class Experts(nn.Module):
    """A softmax over experts, which is no attention."""

    def __init__(self) -> None:
        super().__init__()
        self.router, self.experts = nn.Linear(8, 4), nn.Linear(8, 4 * 5)

    def forward(self, features: Tensor) -> Tensor:
        shares = self.router(features).softmax(-1).unsqueeze(-1)
        return (self.experts(features).unflatten(-1, (4, 5)) * shares).sum(-2)


class Predictions(TextClassifier):
    """The class that was predicted instead of its score."""

    def forward(self, input_ids: Tensor) -> Tensor:
        return super().forward(input_ids).argmax(-1)


class EarlyAndLate(TextClassifier):
    """A second output that is computed before attention."""

    def forward(self, input_ids: Tensor) -> dict[str, Tensor]:
        early = self.head(self.encoder.words(input_ids)[:, 0])
        return {"early": early, "logits": super().forward(input_ids)}


class Tagger(TextClassifier):
    """Five classes for every word."""

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.head(self.encoder(input_ids))


class Detector(ImageClassifier):
    """Five classes for every patch."""

    def forward(self, pixel_values: Tensor) -> Tensor:
        x = self.patches(pixel_values).flatten(2).transpose(1, 2)
        return self.head(self.blocks[0](x))


class NotANumber(TextClassifier):
    def forward(self, input_ids: Tensor) -> Tensor:
        return super().forward(input_ids) * float("nan")


@cache
def once(make: type[nn.Module]) -> nn.Module:
    """One model of each class, so that it is captured once."""
    return seeded(make)


def text(inputs: object = None, **kwargs: object) -> object:
    """Explain a text classifier: 2 sentences of 6 words, 5 classes."""
    inputs = {"input_ids": words(2, 6)} if inputs is None else inputs
    return fxplain.explain(once(TextClassifier), inputs, **kwargs)


def image(values: Tensor) -> object:
    return fxplain.explain(once(ImageClassifier), {"pixel_values": values})


def known(name: str, changes: dict | None = None, **kwargs: object) -> object:
    """Explain a well-known architecture; `changes` renames its inputs (None drops one)."""
    model, inputs = architecture(name)
    names = {key: (changes or {}).get(key, key) for key in inputs}
    inputs = {names[key]: value for key, value in inputs.items() if names[key] is not None}
    return fxplain.explain(model, inputs, **kwargs)


def in_training() -> object:
    return fxplain.explain(seeded(TextClassifier).train(), {"input_ids": words(2, 6)})


def partly_in_training() -> object:
    model = seeded(TextClassifier)
    model.encoder.blocks[0].feed_forward.train()
    return fxplain.explain(model, {"input_ids": words(2, 6)})


def of(make: type[nn.Module], *inputs: Tensor, **kwargs: object) -> object:
    return fxplain.explain(once(make), inputs, **kwargs)


@dataclass(frozen=True)
class Bad:
    """A bad call, the error that it should raise, and what the message must contain."""

    name: str
    call: Callable[[], object]
    error: type[Exception]
    says: tuple[str, ...]


IDS = words(2, 6)
FEATURES = torch.ones(2, 6, 8)
T, V, G = fxplain.TargetError, fxplain.InputError, fxplain.NoGradientError

BAD = [
    # inputs
    Bad("missing", lambda: text({"attention_mask": IDS}), V,
        ("TextClassifier", "input_ids, attention_mask", "missing", "'input_ids'")),
    Bad("missing, seen by the model", lambda: known("lxmert", {"visual_pos": None}), V,
        ("LxmertForQuestionAnswering", "`visual_pos`", "visual_feats: float32 (2, 5, 12)")),
    Bad("misnamed", lambda: text({"inputs_ids": IDS}), V,
        ("no argument 'inputs_ids'", "Did you mean 'input_ids'?", "TextClassifier")),
    Bad("misnamed, with **kwargs", lambda: known("lxmert", {"visual_feats": "visual_feat"}), V,
        ("'visual_feat'", "Did you mean 'visual_feats'?")),
    Bad("misnamed and optional, with **kwargs",
        lambda: known("bert", {"attention_mask": "attention_masks"}), V,
        ("'attention_masks'", "Did you mean 'attention_mask'?")),
    Bad("too many", lambda: text((IDS, IDS, IDS)), V, ("input_ids, attention_mask", "too many")),
    Bad("none", lambda: text({}), V, ("TextClassifier", "input_ids", "missing")),
    Bad("no tensor", lambda: text({"input_ids": [[1, 2]]}), V,
        ("no tensor", "TextClassifier.forward", "input_ids")),
    Bad("no mapping", lambda: text("a sentence"), V, ("mapping", "got str")),
    Bad("dtype of words", lambda: text({"input_ids": IDS.float()}), V,
        ("TextClassifier", "input_ids: float32 (2, 6)", "Long")),
    Bad("dtype of pixels", lambda: image(pixels().double()), V,
        ("ImageClassifier", "pixel_values: float64 (2, 3, 8, 8)", "its parameters are float32")),
    Bad("device", lambda: text({"input_ids": IDS.to("meta")}), V,
        ("'input_ids'", "on meta", "the model on cpu", ".to('cpu')")),
    Bad("shapes", lambda: text({"input_ids": IDS, "attention_mask": torch.ones(3, 6)}), V,
        ("input_ids: int64 (2, 6)", "attention_mask: float32 (3, 6)")),
    Bad("unknown word", lambda: text({"input_ids": IDS + 1000}), V, ("out of range",)),
    Bad("empty batch", lambda: text({"input_ids": IDS[:0]}), V, ("'input_ids'", "(0, 6)", "batch")),
    Bad("empty sequence", lambda: text({"input_ids": IDS[:, :0]}), V, ("empty", "(2, 0)")),
    # targets
    Bad("out of range", lambda: text(target=7), T, ("target 7", "out of range", "(5,)")),
    Bad("one out of range", lambda: text(target=[0, -6]), T, ("target -6", "sample 1", "(5,)")),
    Bad("position out of range", lambda: of(Tagger, IDS, target=(9, 1)), T,
        ("(9, 1)", "out of range", "(6, 5)")),
    Bad("too many targets", lambda: text(target=[0, 1, 2]), T, ("3 targets", "batch of 2")),
    Bad("too few targets", lambda: text(target=torch.tensor([0])), T, ("1 target", "batch of 2")),
    Bad("too many indices", lambda: text(target=(1, 2)), T, ("(1, 2)", "2 indices", "1 ax")),
    Bad("too few indices", lambda: of(Detector, pixels(), target=2), T,
        ("(4, 5)", "index tuple", "(position, class)")),
    Bad("unknown label", lambda: known("bert", target="cat"), T,
        ("no label 'cat'", "'LABEL_0', 'LABEL_1', 'LABEL_2'")),
    Bad("label without labels", lambda: text(target="cat"), T, ("no label 'cat'", "none")),
    Bad("not whole", lambda: text(target=1.5), T, ("1.5", "whole number")),
    Bad("not finite", lambda: text(target=float("inf")), T, ("inf", "no target")),
    Bad("no target at all", lambda: text(target={"class": 1}), T,
        ("{'class': 1}", "index tuple", "function")),
    Bad("unknown output", lambda: known("bert", output="logitz"), T,
        ("no output 'logitz'", "'logits'")),
    Bad("output of a single tensor", lambda: text(output="logits"), T,
        ("no output 'logits'", "single tensor")),
    # target functions
    Bad("function of many numbers", lambda: text(target=lambda output: output), T,
        ("'<lambda>'", "(2, 5)", "one number per sample", "(2,)")),
    Bad("function of one sample", lambda: text(target=lambda output: output[0]), T,
        ("'<lambda>'", "(5,)", "one number per sample")),
    Bad("function summed over the batch", lambda: text(target=lambda output: output.sum()), T,
        ("'<lambda>'", "()", "one number per sample")),
    Bad("function of no tensor", lambda: text(target=lambda _output: 3.0), T,
        ("'<lambda>'", "float", "one number per sample")),
    Bad("function of nothing", lambda: text(target=lambda _output: None), T,
        ("'<lambda>'", "None", "one number per sample")),
    Bad("constant function", lambda: text(target=lambda output: output.argmax(-1).float()), T,
        ("'<lambda>'", "does not depend", "differentiable")),
    Bad("function of infinity", lambda: text(target=lambda output: output[:, 0] / 0),
        fxplain.NonFiniteError, ("inf", "finite")),
    # models
    Bad("MLP", lambda: of(MLP, FEATURES[:, 0]), fxplain.NoAttentionError, ("MLP", "no attention")),
    Bad("CNN", lambda: of(CNN, pixels()), fxplain.NoAttentionError, ("CNN", "no attention")),
    Bad("experts", lambda: of(Experts, FEATURES), fxplain.NoAttentionError,
        ("Experts", "no attention", "softmax in the model", "4 features, classes or experts")),
    Bad("training", in_training, fxplain.TrainingModeError,
        ("TextClassifier is in training mode", "model.eval()")),
    Bad("part in training", partly_in_training, fxplain.TrainingModeError,
        ("encoder.blocks.0.feed_forward", "training mode", "eval()")),
    Bad("argmax", lambda: of(Predictions, IDS), G, ("differentiable", "argmax")),
    Bad("before attention", lambda: of(EarlyAndLate, IDS, output="early"), G,
        ("before attention|comes after attention", "output")),
    Bad("NaN", lambda: of(NotANumber, IDS), fxplain.NonFiniteError,
        ("output", "NaN", "inputs", "weights", "masks")),
    # methods and results
    Bad("method", lambda: text(method="generik"), fxplain.MethodError, ("'generik'", "generic")),
    Bad("option", lambda: text(normalise=False), fxplain.MethodError,
        ("'normalise'", "'generic'", "normalize")),
    Bad("modality of a matrix", lambda: text().matrix("input_ids", "pixel_values"),
        fxplain.ModalityError, ("'pixel_values'", "'input_ids'")),
    Bad("modality of tokens", lambda: text().tokens("words"), fxplain.ModalityError,
        ("'words'", "'input_ids'")),
    Bad("modality of relevance", lambda: text().relevance["boxes"], fxplain.ModalityError,
        ("'boxes'", "'input_ids'")),
    Bad("saved file", lambda: fxplain.load("/nowhere/e.safetensors"), fxplain.LoadError,
        ("/nowhere/e.safetensors", "saved explanation")),
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_bad_input_has_its_own_error(bad: Bad) -> None:
    with pytest.raises(fxplain.FxplainError) as raised:
        bad.call()
    message = str(raised.value)
    assert type(raised.value) is bad.error, message
    for words_or in bad.says:
        found = any(part in message for part in words_or.split("|"))
        assert found, f"{words_or!r} is not in: {message}"
    assert not re.search(r"''| in :|  ", message), f"an empty name in: {message}"


def test_errors_are_what_convention_says() -> None:
    assert issubclass(fxplain.InputError, ValueError)
    assert issubclass(fxplain.TargetError, ValueError)
    assert issubclass(fxplain.ModalityError, KeyError)
    assert issubclass(fxplain.CaptureError, RuntimeError)
    public = {name for name in fxplain.__all__ if name.endswith("Error")}
    assert public == set(fxplain.errors.__all__)
    assert all(issubclass(getattr(fxplain, name), fxplain.FxplainError) for name in public)


def test_inspect_raises_the_same_errors() -> None:
    model = seeded(TextClassifier)
    with pytest.raises(fxplain.InputError, match="Did you mean 'input_ids'"):
        fxplain.inspect(model, {"inputs_ids": IDS})
    with pytest.raises(fxplain.TrainingModeError):
        fxplain.inspect(model.train(), (IDS,))


class _Passing(TextClassifier):
    """Takes any name, as models of transformers do."""

    def forward(self, input_ids: Tensor, position_ids: Any = None, **_: Any) -> Tensor:
        return super().forward(input_ids)


def test_another_name_is_no_slip_where_any_is_taken() -> None:
    model, places = seeded(_Passing), torch.arange(IDS.shape[1])
    found = fxplain.explain(model, {"input_ids": IDS, "cache_position": places}, target=1)
    assert list(found.relevance) == ["input_ids"]
    with pytest.raises(fxplain.InputError, match="Did you mean 'position_ids'"):
        fxplain.explain(model, {"input_ids": IDS, "positions_ids": places}, target=1)


def test_a_good_call_after_a_bad_one() -> None:
    model = seeded(TextClassifier)
    for inputs, target in ((IDS[0], None), (IDS.float(), None), (IDS, 9)):
        with pytest.raises(fxplain.FxplainError):
            fxplain.explain(model, (inputs,), target=target)
    want = fxplain.explain(once(TextClassifier), (IDS,)).relevance["input_ids"]
    torch.testing.assert_close(fxplain.explain(model, (IDS,)).relevance["input_ids"], want)


class Scaled(TextClassifier):
    def forward(self, input_ids: Tensor, scale: Tensor) -> Tensor:
        return super().forward(input_ids) * scale.unsqueeze(-1)


def test_nan_with_a_known_capture() -> None:
    model = seeded(Scaled)
    fxplain.explain(model, (IDS, torch.tensor([1.0, 2.0])))
    with pytest.raises(fxplain.NonFiniteError, match=r"NaN|finite"):
        fxplain.explain(model, (IDS, torch.tensor([1.0, float("nan")])))


def test_quantised_layers_that_are_not_linear_pass_no_gradient() -> None:
    from torch.ao.nn.quantized import dynamic
    from torch.ao.quantization import quantize_dynamic

    class Curved(dynamic.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).tanh()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch means to drop these layers for those of torchao
        model = quantize_dynamic(seeded(TextClassifier), {nn.Linear}, dtype=torch.qint8).eval()
    for part in model.modules():
        if type(part) is dynamic.Linear:
            part.__class__ = Curved
    inputs = (words(2, 6),)
    message = "no gradient comes through quantized.linear_dynamic in .* before it was quantised"
    with pytest.raises(fxplain.NoGradientError, match=message):
        fxplain.explain(model, inputs)
    with pytest.raises(fxplain.NoGradientError, match=message):
        fxplain.explain(model, inputs, engine="matrices")
    assert fxplain.explain(model, inputs, method="rollout").relevance["input_ids"].sum() > 0


def test_a_known_capture_does_not_hide_what_the_model_refuses(capsys):
    model, inputs = architecture("bert")
    fxplain.explain(model, inputs)
    ids = inputs["input_ids"]
    longer = torch.ones(2, model.config.max_position_embeddings + 1, dtype=torch.int64)
    for wrong in (ids + 1000, -1 - ids, longer):
        for door in (fxplain.explain, fxplain.inspect, fxplain.attention_weights, fxplain.verify):
            with pytest.raises(fxplain.InputError, match="itself fails"):
                door(model, {"input_ids": wrong})
    assert capsys.readouterr().err == ""  # torch prints the code of a graph that fails


@torch.library.custom_op("fxplain_tests::doubled", mutates_args=())
def doubled(x: torch.Tensor) -> torch.Tensor:
    """An operation without a backward."""
    return 2 * x


@doubled.register_fake
def _(x: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


class Doubled(nn.Module):
    """Attention, an operation that nobody gave a backward, and a config that fails when asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(10, 8), nn.Linear(8, 3)

    @property
    def config(self):
        raise RuntimeError("there is none")

    def forward(self, ids):
        x = self.words(ids)
        x = x + (x @ x.transpose(1, 2)).softmax(-1) @ x
        return self.head(doubled(x)[:, 0])


def test_an_operation_without_a_backward_is_named():
    model, ids = seeded(Doubled), torch.tensor([[1, 2, 3]])
    for method in ("generic", "gradcam", "input_x_gradient"):
        with pytest.raises(fxplain.NoGradientError, match=r"fxplain_tests\.doubled"):
            fxplain.explain(model, (ids,), target=1, method=method)
    rollout = fxplain.explain(model, (ids,), target=1, method="rollout")
    assert rollout.relevance["ids"].shape == (1, 3)
