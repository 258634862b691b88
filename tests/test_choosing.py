"""`method="auto"`: what it takes on which kind of model, and where a method is warned of."""

import pytest
import torch
from torch import Tensor, nn

import fxplain
from fxplain.methods import every_method, register_method, resolve_method
from fxplain.reports import to_text
from tests.small_models import ImageClassifier, TextClassifier, TextEncoder, pixels, seeded, words

WORDS = {"input_ids": words(2, 6)}


def text(**options: object) -> fxplain.Explanation:
    return fxplain.explain(seeded(TextClassifier), WORDS, method="auto", **options)


def same(a: fxplain.Explanation, b: fxplain.Explanation) -> None:
    assert (a.method, a.options, a.engine) == (b.method, b.options, b.engine)
    for name in a.modalities:
        assert torch.equal(a.relevance[name], b.relevance[name])


class Layer(nn.Module):
    """Attention and a linear layer, each behind or before a norm."""

    def __init__(self, *, post: bool) -> None:
        super().__init__()
        self.post, self.mix = post, nn.Linear(8, 8)
        self.norms = nn.ModuleList(nn.LayerNorm(8) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        def attend(x: Tensor) -> Tensor:
            return nn.functional.scaled_dot_product_attention(x, x, x)

        for part, norm in zip((attend, self.mix), self.norms, strict=True):
            x = norm(x + part(x)) if self.post else x + part(norm(x))
        return x


class Encoder(nn.Module):
    """A classifier, or a language model, of words."""

    def __init__(self, *, post: bool = True, classes: int = 3) -> None:
        super().__init__()
        self.words = nn.Embedding(30, 8)
        self.layers = nn.Sequential(Layer(post=post), Layer(post=post))
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, classes)

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.head(self.norm(self.layers(self.words(input_ids)))[:, 0])


class Decoder(nn.Module):
    """Words that attend to other words."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.said, self.head = nn.Embedding(30, 8), nn.Embedding(30, 8), nn.Linear(8, 3)

    def forward(self, input_ids: Tensor, said_ids: Tensor) -> Tensor:
        x, y = self.words(input_ids), self.said(said_ids)
        return self.head((y + nn.functional.scaled_dot_product_attention(y, x, x))[:, -1])


def test_words_that_are_classified() -> None:
    e = text()
    same(
        e,
        fxplain.explain(
            seeded(TextClassifier), WORDS, method="input_x_gradient", gradients="corrected"
        ),
    )
    assert "classify words" in e.chosen
    assert fxplain.explain(seeded(TextClassifier), WORDS).chosen == ""


@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        (ImageClassifier, {"pixel_values": pixels(1, 3, 8, 8)}),
        (Decoder, {"input_ids": words(2, 6), "said_ids": words(2, 3)}),
        (lambda: Encoder(classes=30), WORDS),
    ],
    ids=["image", "encoder and decoder", "language model"],
)
def test_all_else(model: type[nn.Module], inputs: dict[str, Tensor]) -> None:
    made = seeded(model)
    e = fxplain.explain(made, inputs, method="auto")
    same(e, fxplain.explain(made, inputs, gradients="corrected"))
    assert e.chosen


def test_words_that_are_written_of_words_read() -> None:
    class Translator(Decoder):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(8, 30)

    made, inputs = seeded(Translator), {"input_ids": words(2, 6), "said_ids": words(2, 3)}
    e = fxplain.explain(made, inputs, method="auto")
    same(e, fxplain.explain(made, inputs, method="input_x_gradient", gradients="corrected"))
    assert "reads an encoder of words" in e.chosen


@pytest.mark.slow
def test_as_many_classes_as_kinds_of_words_or_positions() -> None:
    """BERT with two labels: its table of token types has two entries, that of positions seven."""
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 8, "vocab_size": 30, "max_position_embeddings": 7}
    for labels, method in ((2, "input_x_gradient"), (7, "input_x_gradient"), (30, "generic")):
        config = transformers.BertConfig(**sizes, num_labels=labels)
        model = seeded(lambda: transformers.BertForSequenceClassification(config))  # noqa: B023
        inputs = {**WORDS, "token_type_ids": torch.zeros_like(WORDS["input_ids"])}
        for given in (WORDS, inputs):
            assert fxplain.explain(model, given, method="auto").method == method
    model = seeded(lambda: transformers.BertForMaskedLM(transformers.BertConfig(**sizes)))
    assert fxplain.explain(model, WORDS, method="auto").method == "generic"


def test_options_narrow_the_choice() -> None:
    assert text(signed=False).method == "input_x_gradient"
    assert text(signed=False).options["signed"] is False
    only = text(normalize=False)
    assert (only.method, only.options["normalize"]) == ("generic", False)
    assert only.options["gradients"] == "corrected"
    plain = text(gradients="plain")
    assert plain.options["gradients"] == "plain"
    assert plain.chosen.endswith("though not with these options")
    with pytest.raises(fxplain.MethodError, match="has no option 'colour'"):
        text(colour=1)
    with pytest.raises(fxplain.MethodError, match="none of True, False"):
        text(signed=3)


def test_a_preset_is_no_choice() -> None:
    e = text(preset="clip-notebook")
    assert (e.method, e.chosen, e.options["start_layer"]) == ("generic", "", -1)


def test_several_targets_and_a_function() -> None:
    several = fxplain.explain(seeded(TextClassifier), WORDS, targets=[0, 1], method="auto")
    assert {e.method for e in several} == {"input_x_gradient"}
    assert text(target=lambda output: output[:, 1]).method == "input_x_gradient"


def test_it_says_what_it_chose_and_why(tmp_path) -> None:
    e = text()
    said = " ".join(to_text(e).split())
    assert "method input_x_gradient, corrected gradients" in said
    assert f"chosen by auto {e.chosen}" in said
    e.save(tmp_path / "e.safetensors")
    assert fxplain.load(tmp_path / "e.safetensors").chosen == e.chosen
    assert "chosen by auto" not in to_text(fxplain.explain(seeded(TextClassifier), WORDS))


def test_it_is_no_method_of_its_own() -> None:
    assert "auto" not in fxplain.methods()
    assert every_method()["auto"].options["gradients"].default == "corrected"
    method, _ = resolve_method("auto", {})
    with pytest.raises(fxplain.MethodError, match="already"):
        register_method(method)
    with pytest.raises(fxplain.MethodError, match=r"generic.*auto"):
        resolve_method("automatic", {})


def test_evaluated_beside_what_it_stands_for() -> None:
    methods = {"auto": "auto", "same": ("input_x_gradient", {"gradients": "corrected"})}
    found = fxplain.evaluate(seeded(TextClassifier), [WORDS], methods, ["sparseness"])
    assert found.row("auto", "sparseness").value == found.row("same", "sparseness").value
    said = found.settings["chosen"]["auto"]
    assert said.startswith("input_x_gradient, corrected gradients: on encoders that classify words")
    assert " ".join(said.split()) in " ".join(str(found).split())


@pytest.mark.parametrize(
    ("post", "classes", "options", "warned"),
    [
        (True, 3, {}, True),
        (True, 3, {"gradients": "corrected"}, False),
        (False, 3, {}, False),
        (True, 30, {}, False),
    ],
)
def test_below_chance(post: bool, classes: int, options: dict[str, str], warned: bool) -> None:
    model = seeded(Encoder, post=post, classes=classes)
    e = fxplain.explain(model, WORDS, method="input_x_gradient", **options)
    assert any("below chance" in warning for warning in e.graph.warnings) is warned
    assert not any(
        "below chance" in warning for warning in fxplain.explain(model, WORDS).graph.warnings
    )


@pytest.mark.parametrize("method", ["rollout", "lrp"])
def test_no_better_than_chance(method: str) -> None:
    """Each warns on the kind of model that it measured so on, and on no other."""
    kinds = {
        "rollout": (seeded(TextEncoder), seeded(TextClassifier)),
        "lrp": (seeded(Encoder, post=True, classes=3), seeded(Encoder, post=False, classes=3)),
    }
    for model, warned in zip(kinds[method], (True, False), strict=True):
        e = fxplain.explain(model, WORDS, method=method)
        assert any("chance" in warning for warning in e.graph.warnings) is warned


class Writer(nn.Module):
    """Words that attend to frames, or to patches of a picture, and go on."""

    def __init__(self, *, hears: bool) -> None:
        super().__init__()
        self.read = nn.Conv1d(3, 8, 2, 2) if hears else nn.Conv2d(3, 8, 4, 4)
        self.said, self.head = nn.Embedding(30, 8), nn.Linear(8, 30)

    def forward(self, inputs: Tensor, said_ids: Tensor) -> Tensor:
        x, y = self.read(inputs).flatten(2).transpose(1, 2), self.said(said_ids)
        x = nn.functional.scaled_dot_product_attention(x, x, x)
        return self.head((y + nn.functional.scaled_dot_product_attention(y, x, x))[:, -1])


@pytest.mark.parametrize("hears", [True, False])
def test_spoken_words(hears: bool) -> None:
    """Corrected input x gradient warns where what is heard is written, not where what is seen is."""
    given = pixels(1, 3, 12) if hears else pixels(1, 3, 8, 8)
    e = fxplain.explain(
        seeded(Writer, hears=hears),
        {"inputs": given, "said_ids": words(1, 3)},
        method="input_x_gradient",
        gradients="corrected",
    )
    assert any("spoken words" in warning for warning in e.graph.warnings) is hears
