"""What one call gives back: targets, outputs, readouts, labels, matrices, files, precisions."""

import json
import pickle
import zipfile
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import fxplain
from tests.small_models import (
    Block,
    ImageClassifier,
    TextClassifier,
    TextEncoder,
    architecture,
    pixels,
    seeded,
    words,
)

IDS = words(2, 6, seed=2)
TEXT = seeded(TextClassifier, depth=2)
"""Shared by the tests: captured once."""


def same(a: fxplain.Explanation, b: fxplain.Explanation) -> None:
    assert a.relevance.keys() == b.relevance.keys()
    for name, relevance in a.relevance.items():
        torch.testing.assert_close(relevance, b.relevance[name])


def of_sample(e: fxplain.Explanation, sample: int) -> dict[str, Tensor]:
    return {name: relevance[sample] for name, relevance in e.relevance.items()}


# Targets


def test_no_target_is_the_predicted_class() -> None:
    e = fxplain.explain(TEXT, (IDS,))
    predicted = TEXT(IDS).argmax(-1).tolist()
    assert len(set(predicted)) == 2, "the samples should differ, or the test shows nothing"
    assert list(e.target) == predicted
    torch.testing.assert_close(e.scores, TEXT(IDS).max(-1).values.detach())
    same(e, fxplain.explain(TEXT, (IDS,), target=predicted))


TARGETS = {
    "a list": [3, 1],
    "a tensor": torch.tensor([3, 1]),
    "an array": np.array([3, 1]),
    "numbers of NumPy": [np.int64(3), np.int64(1)],
    "negative": [-2, -4],
    "index tuples": [(3,), (1,)],
    "a tensor of index tuples": torch.tensor([[3], [1]]),
    "whole floats": [3.0, 1.0],
    "a function": lambda output: output[torch.arange(2), torch.tensor([3, 1])],
    "a function that returns a list": lambda output: [output[0, 3], output[1, 1]],
}


@pytest.mark.parametrize("form", TARGETS)
def test_targets_for_each_sample(form: str) -> None:
    e = fxplain.explain(TEXT, (IDS,), target=TARGETS[form])
    for sample, target in enumerate((3, 1)):
        alone = fxplain.explain(TEXT, (IDS,), target=target)
        assert alone.target == (target, target)
        torch.testing.assert_close(of_sample(e, sample), of_sample(alone, sample))
    torch.testing.assert_close(e.scores, TEXT(IDS)[[0, 1], [3, 1]].detach())
    if "function" not in form:
        assert e.target == (3, 1)
        assert all(type(target) is int for target in e.target)
    other = fxplain.explain(TEXT, (IDS,), target=0)
    assert not torch.allclose(e.relevance["input_ids"], other.relevance["input_ids"])


def test_a_label() -> None:
    model, inputs = architecture("bert")
    e = fxplain.explain(model, inputs, target="LABEL_2")
    assert e.target == (2, 2)
    mixed = fxplain.explain(model, inputs, target=["LABEL_2", 0])
    assert mixed.target == (2, 0)
    torch.testing.assert_close(of_sample(e, 0), of_sample(mixed, 0))


def test_a_function_is_named_and_may_combine_outputs() -> None:
    def margin(output: Tensor) -> Tensor:
        return output[:, 0] - output[:, 1]

    e = fxplain.explain(TEXT, (IDS,), target=margin)
    assert e.target == ("margin", "margin")
    assert e.readout == ("input_ids[0]", "input_ids[0]")
    torch.testing.assert_close(e.scores, margin(TEXT(IDS)).detach())
    double = fxplain.explain(TEXT, (IDS,), target=lambda output: 2 * margin(output))
    assert not torch.allclose(double.relevance["input_ids"], e.relevance["input_ids"])


def test_a_function_of_one_sample_may_return_a_single_number() -> None:
    e = fxplain.explain(TEXT, (IDS[:1],), target=lambda output: output[0, 3])
    torch.testing.assert_close(
        of_sample(e, 0), of_sample(fxplain.explain(TEXT, (IDS,), target=3), 0)
    )


class Tagger(nn.Module):
    """Five classes for every word."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.head = TextEncoder(), nn.Linear(16, 5)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        return self.head(self.encoder(input_ids, attention_mask))


TAGGER = seeded(Tagger)


def test_index_tuples() -> None:
    e = fxplain.explain(TAGGER, (IDS,), target=[(2, 3), (-1, 0)])
    assert e.target == ((2, 3), (5, 0))
    assert e.readout == ("input_ids[2]", "input_ids[5]")
    torch.testing.assert_close(e.scores, TAGGER(IDS)[[0, 1], [2, 5], [3, 0]].detach())
    one = fxplain.explain(TAGGER, (IDS,), target=(2, 3))
    assert one.target == ((2, 3), (2, 3))
    torch.testing.assert_close(of_sample(one, 0), of_sample(e, 0))
    tensor = fxplain.explain(TAGGER, (IDS,), target=torch.tensor([[2, 3], [5, 0]]))
    same(tensor, e)


def test_a_class_of_a_sequence_is_read_at_its_last_position() -> None:
    e = fxplain.explain(TAGGER, (IDS,), target=3)
    assert e.target == ((5, 3), (5, 3))
    assert e.readout == ("input_ids[5]", "input_ids[5]")


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_last_real_position(side: str) -> None:
    ids, mask = words(2, 7), torch.ones(2, 7, dtype=torch.long)
    pads = slice(0, 3) if side == "left" else slice(4, 7)
    mask[1, pads] = 0
    real = mask[1].bool()
    e = fxplain.explain(TAGGER, {"input_ids": ids, "attention_mask": mask})
    last = 6 if side == "left" else 3
    assert e.readout == ("input_ids[6]", f"input_ids[{last}]")
    predicted = TAGGER(ids, mask)[1, last].argmax().item()
    assert e.target[1] == (last, predicted)
    assert torch.equal(e.relevance["input_ids"][1, ~real], torch.zeros(3))
    if side == "right":  # positions are as in the text alone, so its explanation is the same
        alone = fxplain.explain(TAGGER, (ids[1:, real],), target=predicted)
        torch.testing.assert_close(
            e.relevance["input_ids"][1, real], alone.relevance["input_ids"][0]
        )


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_last_real_position_of_a_language_model(side: str) -> None:
    model, inputs = architecture("gpt2")
    mask = torch.ones(2, 7, dtype=torch.long)
    mask[0, slice(0, 2) if side == "left" else slice(5, 7)] = 0
    e = fxplain.explain(model, {**inputs, "attention_mask": mask})
    assert e.readout == (f"input_ids[{6 if side == 'left' else 4}]", "input_ids[6]")
    assert torch.isfinite(e.relevance["input_ids"]).all()
    assert (e.relevance["input_ids"][0, ~mask[0].bool()] == 0).all()


# Outputs and readouts


class TwoHeads(nn.Module):
    """Hidden states, a pooled vector, and two heads on different words."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.first, self.second = TextEncoder(), nn.Linear(16, 3), nn.Linear(16, 4)

    def forward(self, input_ids: Tensor) -> dict[str, Tensor]:
        hidden = self.encoder(input_ids)
        return {
            "embeddings": self.encoder.words(input_ids),
            "first": self.first(hidden[:, 2]),
            "second": self.second(hidden[:, 4]),
            "mean": self.first(hidden.mean(1)),
            "most": self.first(hidden.amax(1)),
            "some": self.first(hidden[:, 1:4].mean(1)),
            "sum": self.first(hidden).sum((1, 2)),
            "pair": (hidden[:, 0] * hidden[:, 5]),
        }


HEADS = seeded(TwoHeads)
READOUTS = {
    "first": "input_ids[2]",
    "second": "input_ids[4]",
    "mean": "mean of input_ids[0..5]",
    "most": "amax of input_ids[0..5]",
    "some": "mean of input_ids[1..3]",
    "sum": "sum of input_ids[0..5]",
    "pair": "input_ids[0] and input_ids[5]",
}


@pytest.mark.parametrize("output", READOUTS)
def test_an_output_by_name_and_its_readout(output: str) -> None:
    e = fxplain.explain(HEADS, (IDS,), output=output)
    assert e.readout == (READOUTS[output],) * 2
    values = HEADS(IDS)[output]
    best = values if values.dim() == 1 else values.max(-1).values
    torch.testing.assert_close(e.scores, best.detach())


def test_the_obvious_output_comes_after_attention() -> None:
    assert fxplain.explain(HEADS, (IDS,)).readout == ("input_ids[2]",) * 2
    assert fxplain.inspect(HEADS, (IDS,)).readout == "input_ids[2]"


def test_a_mean_is_the_mean_of_the_rows() -> None:
    def gradients_of(position: int) -> fxplain.Explanation:
        return fxplain.explain(HEADS, (IDS,), output="mean", target=position)

    e = gradients_of(1)
    matrix = e.matrix("input_ids", "input_ids")
    torch.testing.assert_close(e.relevance["input_ids"], matrix.mean(1))
    some = fxplain.explain(HEADS, (IDS,), output="some", target=1)
    torch.testing.assert_close(
        some.relevance["input_ids"], some.matrix("input_ids", "input_ids")[:, 1:4].mean(1)
    )


def test_the_output_is_the_models_own() -> None:
    for name in ("bert", "gpt2", "clip"):
        model, inputs = architecture(name)
        output = "logits_per_image" if name == "clip" else None
        e, want = fxplain.explain(model, inputs, output=output), model(**inputs)
        assert type(e.output) is type(want)
        for key in ("logits", "logits_per_image", "text_embeds"):
            if key in want:
                torch.testing.assert_close(e.output[key], want[key].detach())
                assert not e.output[key].requires_grad


# Two towers


def test_two_images_against_the_same_text() -> None:
    model, inputs = architecture("clip")
    e = fxplain.explain(model, inputs, target=[0, 0], output="logits_per_image")
    assert e.readout[0] == e.readout[1] == "input_ids[5] and pixel_values[0]"
    for image in (0, 1):
        pair = {
            "input_ids": inputs["input_ids"][:1],
            "attention_mask": inputs["attention_mask"][:1],
            "pixel_values": inputs["pixel_values"][image : image + 1],
        }
        alone = fxplain.explain(model, pair, target=0, output="logits_per_image")
        torch.testing.assert_close(of_sample(e, image), of_sample(alone, 0), rtol=1e-4, atol=1e-6)
        for names in (("input_ids", "input_ids"), ("pixel_values", "pixel_values")):
            torch.testing.assert_close(
                e.matrix(*names)[image], alone.matrix(*names)[0], rtol=1e-4, atol=1e-6
            )


def test_a_text_of_another_sample() -> None:
    """Image 0 against text 1 and image 1 against text 0."""
    model, inputs = architecture("clip")
    e = fxplain.explain(model, inputs, target=[1, 0], output="logits_per_image")
    assert e.readout == ("input_ids[3] and pixel_values[0]", "input_ids[5] and pixel_values[0]")
    swapped = {**inputs, "pixel_values": inputs["pixel_values"].flip(0)}
    straight = fxplain.explain(model, swapped, target=[0, 1], output="logits_per_image")
    torch.testing.assert_close(
        e.relevance["pixel_values"], straight.relevance["pixel_values"].flip(0)
    )
    torch.testing.assert_close(e.relevance["input_ids"], straight.relevance["input_ids"].flip(0))


# Labels


class Tokenizer:
    """As much of a tokenizer as the labels need."""

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        return [f"<{i}>" for i in ids]


def test_labels_are_ids_or_word_pieces() -> None:
    plain = fxplain.explain(TEXT, (IDS,)).tokens("input_ids")
    assert plain == [[str(i) for i in row] for row in IDS.tolist()]
    pieces = fxplain.explain(TEXT, (IDS,), tokenizer=Tokenizer()).tokens("input_ids")
    assert pieces == [[f"<{i}>" for i in row] for row in IDS.tolist()]


class Named(nn.Module):
    """A model whose config names its classes, or its words, as those of transformers do."""

    def __init__(self, model: nn.Module, **config: object) -> None:
        super().__init__()
        self.model, self.config = model, SimpleNamespace(**config)

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.model(input_ids)


def test_classes_are_named_by_the_config() -> None:
    classes = fxplain.explain(TEXT, (IDS,)).output.shape[-1]
    names = {i: f"class {i}" for i in range(classes)}
    model = Named(TEXT, id2label=names, label2id={name: i for i, name in names.items()}).eval()
    given = fxplain.explain(model, (IDS,), target=[0, fxplain.Contrast(2, "class 1")])
    assert given.target_names == ("class 0", "class 2 rather than class 1")
    predicted, other = fxplain.explain(model, (IDS,), targets=[None, 1])
    assert predicted.target_names == tuple(names[i] for i in predicted.target)
    assert other.target_names == ("class 1", "class 1")
    assert "target 0 (class 0)" in str(given)
    unnamed = Named(TEXT, id2label={i: f"LABEL_{i}" for i in range(classes)}).eval()
    of_others = Named(
        TEXT, id2label={0: "a", 1: "b"}
    ).eval()  # as many names as there are no classes
    for model in (TEXT, unnamed, of_others):
        assert fxplain.explain(model, (IDS,)).target_names == ()


def test_words_are_named_by_the_tokenizer() -> None:
    model = Named(TAGGER, vocab_size=5).eval()
    e = fxplain.explain(model, (IDS,), target=(1, 2), tokenizer=Tokenizer())
    assert e.target_names == ("'<2>'", "'<2>'")
    assert fxplain.explain(model, (IDS,), target=(1, 2)).target_names == ()  # nothing reads words


def test_labels_of_patches_are_their_places() -> None:
    e = fxplain.explain(seeded(ImageClassifier), (pixels(2, 3, 8, 12),), tokenizer=Tokenizer())
    places = ["0,0", "0,1", "0,2", "1,0", "1,1", "1,2"]
    assert e.tokens("pixel_values") == [["cls_token", *places]] * 2
    assert e.grids["pixel_values"] == (2, 3)


def test_labels_of_object_queries_and_boxes() -> None:
    model, inputs = architecture("lxmert")
    e = fxplain.explain(model, inputs, tokenizer=Tokenizer())
    assert e.tokens("visual_feats")[1] == ["0", "1", "2", "3", "4"]
    assert e.tokens("input_ids")[1][0] == f"<{inputs['input_ids'][1, 0]}>"


# Matrices


def test_matrices() -> None:
    model, inputs = architecture("lxmert")
    e = fxplain.explain(model, inputs)
    assert e.modalities == ("input_ids", "visual_feats")
    assert e.batch_size == 2
    matrices = e.matrices()
    sizes = {"input_ids": 7, "visual_feats": 5}
    assert matrices.keys() == {(a, b) for a in sizes for b in sizes}
    for (a, b), matrix in matrices.items():
        assert matrix.shape == (2, sizes[a], sizes[b])
        assert torch.equal(matrix, e.matrix(a, b))
        assert torch.isfinite(matrix).all()
        assert not matrix.requires_grad
    for name in sizes:  # the answer is read from the first word
        torch.testing.assert_close(matrices["input_ids", name][:, 0], e.relevance[name])
    assert repr(e) == (
        "<Explanation of LxmertForQuestionAnswering by 'generic': "
        "input_ids: (2, 7), visual_feats: (2, 5)>"
    )


def test_options_of_the_method() -> None:
    model, inputs = architecture("lxmert")
    plain = fxplain.explain(model, inputs)
    of_use_with = {"attention": {"gradients": "corrected"}, "rules": {"attribution": "lrp"}}
    for name, option in fxplain.methods()["generic"].options.items():
        other = (
            1 if option.choices is None else next(c for c in option.choices if c != option.default)
        )
        before = fxplain.explain(model, inputs, **of_use_with.get(name, {}))
        after = fxplain.explain(model, inputs, **of_use_with.get(name, {}), **{name: other})
        assert not torch.allclose(
            before.relevance["visual_feats"], after.relevance["visual_feats"]
        ), name
    same(plain, fxplain.explain(model, inputs, normalize=True, self_in_bimodal=True))


def test_attention_weights_are_the_models() -> None:
    model, inputs = architecture("bert", "eager")
    weights = fxplain.attention_weights(model, inputs)
    fused = fxplain.attention_weights(*architecture("bert", "sdpa"))
    want = model(**inputs, output_attentions=True).attentions
    assert list(weights) == [node.name for node in fxplain.inspect(model, inputs).nodes]
    for a, b, c in zip(weights.values(), fused.values(), want, strict=True):
        torch.testing.assert_close(a, c.detach())
        torch.testing.assert_close(b, c.detach())


def test_a_route_follows_live_weights() -> None:
    """A convolution after attention shares relevance by its weights, which a user may change."""

    class Convolved(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.head = TextEncoder(depth=1), nn.Linear(16, 3)
            self.convolution = nn.Conv1d(16, 16, 2, 2)

        def forward(self, input_ids: Tensor) -> Tensor:
            x = self.convolution(self.encoder(input_ids).transpose(1, 2))
            return self.head(x[..., 0])

    model = seeded(Convolved)
    before = fxplain.explain(model, (IDS,), target=0)
    with torch.no_grad():
        model.convolution.weight[..., 0].mul_(5.0)
    after = fxplain.explain(model, (IDS,), target=0)
    fxplain.clear_captures(model)
    same(after, fxplain.explain(model, (IDS,), target=0))
    assert not torch.allclose(before.relevance["input_ids"], after.relevance["input_ids"])


# Files


@pytest.fixture
def saved(tmp_path: Path) -> tuple[fxplain.Explanation, Path]:
    model, inputs = architecture("lxmert")
    e = fxplain.explain(model, inputs, target=[1, (2,)], tokenizer=Tokenizer())
    path = tmp_path / "explanation.safetensors"
    e.save(path, matrices=True)
    return e, path


def test_save_and_load(saved: tuple[fxplain.Explanation, Path], tmp_path: Path) -> None:
    e, path = saved
    loaded = fxplain.load(path)
    same(e, loaded)
    assert list(loaded.relevance) == list(e.relevance)
    for names, matrix in e.matrices().items():
        torch.testing.assert_close(loaded.matrix(*names), matrix)
    for name in ("method", "target", "readout", "modalities", "batch_size"):
        assert getattr(loaded, name) == getattr(e, name), name
    assert loaded.output is None
    torch.testing.assert_close(loaded.scores, e.scores)
    assert loaded.inputs.keys() == e.inputs.keys() >= {"input_ids", "visual_feats"}
    for name, value in e.inputs.items():
        assert torch.equal(loaded.inputs[name], value)
    for name in e.modalities:
        assert loaded.tokens(name) == e.tokens(name)
        assert dict(loaded.special[name]) == dict(e.special[name])
        assert loaded.grids[name] == e.grids[name]
    assert loaded.graph.to_dict() == e.graph.to_dict()
    assert loaded.graph.nodes == e.graph.nodes
    assert loaded.to_dict() == e.to_dict()
    assert repr(loaded) == repr(e)
    with pytest.raises(fxplain.ModalityError, match="'pixels'"):
        loaded.matrix("input_ids", "pixels")
    loaded.save(str(tmp_path / "again.safetensors"), matrices=True)
    same(fxplain.load(str(tmp_path / "again.safetensors")), e)


def test_special_tokens_and_grids_are_saved(tmp_path: Path) -> None:
    e = fxplain.explain(
        seeded(ImageClassifier), (pixels(),), target=lambda output: output[:, 0] * 2
    )
    e.save(tmp_path / "image.safetensors")
    loaded = fxplain.load(tmp_path / "image.safetensors")
    assert loaded.target == e.target
    assert dict(loaded.special["pixel_values"]) == {0: "cls_token"}
    assert loaded.grids["pixel_values"] == (2, 2)


def test_a_file_holds_no_pickle(saved: tuple[fxplain.Explanation, Path]) -> None:
    _, path = saved
    content = path.read_bytes()
    assert not zipfile.is_zipfile(path)
    assert content[8:9] == b"{"
    with pytest.raises((pickle.UnpicklingError, ValueError)):  # it begins with its header's length
        pickle.loads(content)


def test_files_that_are_no_explanation(tmp_path: Path) -> None:
    text, other = tmp_path / "text", tmp_path / "other.safetensors"
    text.write_text("relevance")
    save_file({"a": torch.ones(2)}, str(other))
    pickled = tmp_path / "pickled"
    pickled.write_bytes(pickle.dumps({"relevance": 1}))
    for path in (text, other, pickled, tmp_path / "missing", tmp_path):
        with pytest.raises(fxplain.LoadError, match=path.name):
            fxplain.load(path)


@pytest.mark.parametrize("name", ["bert", "lxmert", "clip"])
def test_to_dict_is_plain_data(name: str) -> None:
    model, inputs = architecture(name)
    output = "logits_per_image" if name == "clip" else None
    e = fxplain.explain(model, inputs, output=output)
    data = json.loads(json.dumps(e.to_dict(), allow_nan=False))
    assert data["method"] == "generic"
    assert data["readout"] == list(e.readout)
    for modality, relevance in e.relevance.items():
        rows = data["relevance"][modality]
        assert [[t["token"] for t in row] for row in rows] == e.tokens(modality)
        values = torch.tensor([[t["relevance"] for t in row] for row in rows])
        torch.testing.assert_close(values, relevance)
    assert [n["module"] for n in data["graph"]["nodes"]] == [n.module for n in e.graph.nodes]
    assert fxplain.AttentionGraph.from_dict(data["graph"]).to_dict() == e.graph.to_dict()


# Precisions


@cache
def text_model(fused: bool) -> nn.Module:
    return seeded(TextClassifier, fused=fused)


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "explicit"])
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-4), (torch.bfloat16, 0.1), (torch.float16, 0.02)],
    ids=["float64", "bfloat16", "float16"],
)
def test_other_precisions(dtype: torch.dtype, tolerance: float, fused: bool) -> None:
    mask = torch.ones(2, 6, dtype=torch.long)
    mask[1, 4:] = 0
    inputs = {"input_ids": IDS, "attention_mask": mask}
    single = fxplain.explain(text_model(fused), inputs, target=1)
    e = fxplain.explain(seeded(TextClassifier, fused=fused).to(dtype), inputs, target=1)
    assert e.output.dtype == dtype
    assert e.graph.warnings == ()
    relevance, want = e.relevance["input_ids"], single.relevance["input_ids"]
    assert torch.isfinite(relevance).all()
    assert relevance.dtype in (torch.float32, torch.float64)
    start = torch.zeros(6).index_fill(0, torch.tensor(0), 1.0)  # what attention adds is smaller
    largest = (want - start).abs().max()
    torch.testing.assert_close(
        relevance.double(), want.double(), rtol=0, atol=tolerance * float(largest)
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
def test_images_in_other_precisions(dtype: torch.dtype) -> None:
    single = fxplain.explain(seeded(ImageClassifier), (pixels(),), target=1)
    e = fxplain.explain(seeded(ImageClassifier).to(dtype), (pixels().to(dtype),), target=1)
    matrix = e.matrix("pixel_values", "pixel_values")
    assert torch.isfinite(matrix).all()
    want = single.matrix("pixel_values", "pixel_values")
    largest = float((want - torch.eye(5)).abs().max())
    torch.testing.assert_close(matrix.double(), want.double(), rtol=0, atol=0.1 * largest)


def test_a_row_that_may_attend_to_nothing_gives_no_nan() -> None:
    """A sample that is all padding: its weights are 0/0 in the model's own way of masking."""

    class Lenient(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.block, self.head = nn.Embedding(30, 16), Block(), nn.Linear(16, 3)

        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
            x = self.block(self.words(input_ids), attention_mask)
            return self.head(x.nan_to_num().mean(1))

    mask = torch.tensor([[1, 1, 1, 0], [0, 0, 0, 0]])
    e = fxplain.explain(seeded(Lenient), (words(2, 4), mask), target=0)
    assert torch.isfinite(e.relevance["input_ids"]).all()


@pytest.mark.parametrize(("method", "told"), [("input_x_gradient", 1), ("generic", 0)])
def test_a_sample_without_any_relevance_is_named(method: str, told: int) -> None:
    """Its score is multiplied by 0: no gradient comes back, and of R the identity is left."""

    class Gated(TextClassifier):
        def forward(self, input_ids: Tensor) -> Tensor:
            open_at = torch.tensor([1.0, 0.0], device=input_ids.device)[: len(input_ids), None]
            return super().forward(input_ids) * open_at

    warnings = fxplain.explain(seeded(Gated), (IDS,), target=1, method=method).graph.warnings
    assert [w for w in warnings if "nothing was found" in w] == [
        "nothing was found that the target of sample 1 draws on"
    ] * told
