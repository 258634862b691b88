"""Unit methods in one call: by hand, by enumeration, and through every door."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import comb
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

import fxplain
from fxplain.html.generation_data import generation_data
from fxplain.html.report_data import Extras
from fxplain.methods import UnitMethod, occlusion, unit_methods, windows_of
from fxplain.reports import to_text
from fxplain.reports.generation_report import drawn_from
from tests.small_models import ImageClassifier, TextClassifier, pixels, seeded, words
from tests.small_pretrained import save

SHARED = seeded(TextClassifier)
TEN = words(1, 11)  # the first is what the class is read from


def test_shapley_values_are_those_of_all_subsets() -> None:
    model = SHARED
    e = fxplain.explain(model, (TEN,), 2, "kernel_shap", budget=1024, removal="attention_mask")
    kept = torch.tensor(list(product((0, 1), repeat=10)))
    mask = torch.cat([torch.ones(len(kept), 1).long(), kept], 1)
    value = model(TEN.expand(len(kept), -1), mask)[:, 2].detach().double()
    exact = []
    for i in range(10):
        without = kept[:, i] == 0
        size = kept[without].sum(1)
        weight = torch.tensor([1 / (10 * comb(9, int(s))) for s in size])
        beside = torch.arange(len(kept))[without] + 2 ** (9 - i)
        exact.append(float((weight * (value[beside] - value[without])).sum()))
    found = e.relevance["input_ids"][0]
    torch.testing.assert_close(found, torch.tensor([0.0, *exact]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(e.completeness(), torch.ones(1).double())
    assert e.error is None
    drawn = fxplain.explain(model, (TEN,), 2, "permutation_shap", removal="attention_mask")
    off = (drawn.relevance["input_ids"][0] - found).abs()
    assert bool((off <= 5 * drawn.error["input_ids"][0] + 1e-5).all())
    assert 0 < float(drawn.error["input_ids"].max()) < 0.2 * float(found.abs().max())
    torch.testing.assert_close(drawn.completeness(), torch.ones(1).double())


def test_occlusion_by_hand() -> None:
    def score(kept: Tensor) -> Tensor:
        return (kept.double() @ torch.tensor([1.0, 2.0, 4.0, 8.0]).double()).square()

    windows = windows_of([("a", (0,)), ("a", (1,)), ("a", (2,)), ("b", (0,))], 2)
    assert windows.int().tolist() == [[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]]
    found = occlusion(score, windows)
    fallen = [225 - 12**2, 225 - 9**2, 225 - 7**2]
    assert found.values.tolist() == [fallen[0], (fallen[0] + fallen[1]) / 2, fallen[1], fallen[2]]
    grid = windows_of([("x", (i, j)) for i in range(3) for j in range(3)], 2)
    assert grid.sum(1).tolist() == [4, 4, 4, 4]
    assert grid[0].reshape(3, 3).int().tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]


def test_a_sample_is_judged_as_if_alone() -> None:
    """In a batch, by index, by function, and among several targets, the same; one model for all."""
    model, ids, near = SHARED, words(2, 5), {"atol": 1e-5, "rtol": 1e-4}

    def asked(output: Tensor) -> list[Tensor]:
        return [output[0, 1], output[1, 3]]  # which knows its samples by number

    for method in unit_methods():
        both = fxplain.explain(model, (ids,), [1, 3], method).relevance["input_ids"]
        alone = fxplain.explain(model, (ids[1:],), 3, method).relevance["input_ids"]
        torch.testing.assert_close(both[1:], alone, **near, msg=lambda m, n=method: f"{n}: {m}")
        by_function = fxplain.explain(model, (ids,), asked, method).relevance["input_ids"]
        torch.testing.assert_close(by_function, both, **near, msg=lambda m, n=method: f"{n}: {m}")
        several = fxplain.explain(model, (ids[1:],), targets=[0, 3], method=method)
        torch.testing.assert_close(several[1].relevance["input_ids"], alone)


def test_regions_of_an_image() -> None:
    model, image = seeded(ImageClassifier), pixels(1, 3, 16, 16)
    e = fxplain.explain(model, (image,), 1, "leave_one_out", regions=4, removal="zero")
    corner = image.clone()
    corner[..., :8, :8] = 0
    fall = float((model(image) - model(corner)).detach()[0, 1])
    heat = e.pixels("pixel_values", "nearest")[0]
    assert heat[:8, :8].unique().tolist() == pytest.approx([fall / 4], rel=1e-3)
    assert float(e.relevance["pixel_values"][0, 0]) == 0  # the CLS, which is no input


def test_where_a_model_compares_its_batch(tmp_path: Path) -> None:
    """Each text among all: one copy runs at a time, for in two a row would mean something else."""
    explainer = fxplain.from_pretrained(save("clip", tmp_path))
    from tests.small_pretrained import picture

    e = explainer(text=["a cat", "two old dogs"], image=picture(), method="leave_one_out")
    assert all(bool(torch.isfinite(r).all()) for r in e.relevance.values())
    assert any(bool(r.any()) for r in e.relevance.values())


class Compared(nn.Module):
    """Each sample's words beside the words of every sample."""

    config = SimpleNamespace(mask_token_id=0)

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Embedding(60, 8), nn.Embedding(60, 8)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        x, y = self.one(a), self.other(b)
        x = x + nn.functional.scaled_dot_product_attention(x, x, x)
        y = y + nn.functional.scaled_dot_product_attention(y, y, y)
        return x.mean(1) @ y.mean(1).T


def test_what_another_sample_gives_is_taken_from_it() -> None:
    model = seeded(Compared)
    inputs = {"a": words(2, 4), "b": words(2, 3, seed=1)}
    options = {"method": "leave_one_out", "removal": "mask_token"}
    e = fxplain.explain(model, inputs, [1, 0], **options)  # each beside the other one's words
    assert e.rows == {"a": (0, 1), "b": (1, 0)}
    for sample, other in ((0, 1), (1, 0)):
        for name, row in (("a", sample), ("b", other)):
            for place in range(inputs[name].shape[1]):
                without = {n: x.clone() for n, x in inputs.items()}
                without[name][row, place] = 0
                less = (model(**inputs) - model(**without)).detach()[sample, other]
                torch.testing.assert_close(e.relevance[name][sample, place], less)
    with pytest.raises(fxplain.MethodError, match="of different samples of the batch"):
        fxplain.explain(model, inputs, targets=[[1, 0], [0, 1]], **options)
    with pytest.raises(fxplain.EvaluationError, match="of another sample of its batch"):
        fxplain.evaluate(model, [inputs], ["raw_attention"], "abpc", target=[1, 0])


@pytest.fixture(scope="module")
def explainer(tmp_path_factory: pytest.TempPathFactory) -> fxplain.Explainer:
    return fxplain.from_pretrained(save("classifier", tmp_path_factory.mktemp("units")))


TEXT = "the movie was great. the end was bad!"


def test_words_and_sentences_of_a_pipeline(explainer: fxplain.Explainer, tmp_path: Path) -> None:
    e = explainer(TEXT, method="kernel_shap", units="sentence")
    sentences = e.units("input_ids", "sentence")[0]
    values = [v for v, w in zip(sentences.relevance.tolist(), sentences.words, strict=True)
              if not w.special]  # fmt: skip
    assert len(values) == 2
    assert sum(values) == pytest.approx(float(e.promised), rel=1e-4)
    e = explainer(TEXT, method="permutation_shap", units=["great", "bad"], budget=16)
    judged = [s for s in e.top(units=["great", "bad"]) if s.text in ("great", "bad")]
    assert len(judged) == 2
    assert all(s.error is not None for s in judged)
    assert "±" in to_text(e)
    frame = e.to_frame(units=["great", "bad"])
    assert {*frame[frame.text.isin(["great", "bad"])].error} == {s.error for s in judged}
    assert "error" not in explainer(TEXT).to_frame()
    e.save(tmp_path / "e.safetensors")
    loaded = fxplain.load(tmp_path / "e.safetensors")
    torch.testing.assert_close(loaded.error["input_ids"], e.error["input_ids"])
    e.to_html(tmp_path / "e.html")
    assert "permutation_shap" in (tmp_path / "e.html").read_text(encoding="utf-8")


def test_log_odds(explainer: fxplain.Explainer) -> None:
    e = explainer(TEXT, method="leave_one_out", score="log_odds")
    p = explainer(TEXT, method="leave_one_out", score="probability")
    share = float(p.output.logits.softmax(-1)[0, p.target[0]])
    worth = p.relevance["input_ids"][0].double()
    before = torch.tensor(share).double()
    wanted = before.logit() - (before - worth).logit()
    torch.testing.assert_close(e.relevance["input_ids"][0].double(), wanted, atol=1e-4, rtol=1e-3)


def test_a_generated_text(tmp_path: Path) -> None:
    writer = fxplain.from_pretrained(save("gpt2", tmp_path))
    g = writer.generate("the movie was", max_new_tokens=3, method="leave_one_out")
    assert len(g.explanations) == 3
    matrix = g.matrix("input_ids")[0]
    assert bool(matrix.any())
    assert bool(torch.isfinite(matrix).all())
    told = dict(part.rsplit(" ", 1) for part in _parts_told(g))
    assert set(told) <= {"the", "movie", "was", "␣"}  # words, and not the pieces "mo" and "vie"
    movie = float(g.row(0, 0, "input_ids")[1:3].sum())
    assert told["movie"].startswith("\u2212") == (movie < 0)
    # what is written goes on with the prompt's last word, which stays as it was given
    shown = generation_data(g, Extras())["samples"][0][g.modalities.index("input_ids")]["units"]
    assert "".join(gap + text for text, gap, *_ in shown["word"]) == "the movie was"


def _parts_told(g: fxplain.Generation) -> list[str]:
    """What the terminal says that the first token drew on."""
    (line,) = drawn_from(g, 0, 0)
    return line.partition(": ")[2].split("  ")


def test_evaluated_beside_others() -> None:
    methods = {
        "loo": "leave_one_out",
        "shap": ("kernel_shap", {"budget": 32}),
        "generic": "generic",
    }
    found = fxplain.evaluate(SHARED, [{"input_ids": words(2, 6)}], methods, ["deletion"])
    assert {row.method for row in found.rows} == {*methods, "random"}
    assert not set(unit_methods()) & set(fxplain.methods())


def test_a_single_word_is_worth_the_whole() -> None:
    ids = TEN[:, :2]  # the class is read from the first
    less = SHARED(ids) - SHARED(ids, torch.tensor([[1, 0]]))
    for method in ("leave_one_out", "permutation_shap", "kernel_shap"):
        e = fxplain.explain(SHARED, (ids,), 1, method)
        torch.testing.assert_close(e.relevance["input_ids"][0, 1], less[0, 1].detach())


@dataclass
class Said:
    """What a model of the user's own returns."""

    each: Tensor
    last: Tensor


class EachWord(nn.Module):
    """Two classes for each word, and no way to hide one but to cut it out."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(60, 8), nn.Linear(8, 2)

    def forward(self, ids: Tensor) -> Said:
        x = self.words(ids)
        each = self.head(x + nn.functional.scaled_dot_product_attention(x, x, x))
        return Said(each, each[:, -1])


def test_what_is_read_does_not_change_where_words_are_cut_out() -> None:
    """A named position stays where it is and would be another word's; the last one goes along."""
    made, ids = seeded(EachWord), words(1, 4)
    for target in ((2, 1), fxplain.Contrast((2, 1), (2, 0)), lambda said: said.each[:, 2, 1]):
        with pytest.raises(
            fxplain.MethodError, match="is read at position 2 of it, which would move"
        ):
            fxplain.explain(made, (ids,), target, "leave_one_out", output="each")
    less = [ids[:, [j for j in range(4) if j != i]] for i in range(3)]
    whole = made(ids).last[0, 1]
    wanted = torch.stack([*(whole - made(x).last[0, 1] for x in less), torch.tensor(0.0)]).detach()
    for target, output in ((1, "last"), (lambda said: said.each[:, -1, 1], None)):
        e = fxplain.explain(made, (ids,), target, "leave_one_out", output=output)
        torch.testing.assert_close(e.relevance["ids"][0], wanted)


class OfABatch(nn.Module):
    """Words that come in an object."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = EachWord()

    def forward(self, batch: Said) -> Tensor:
        return self.inner(batch.each).last


def test_words_inside_an_argument_are_told() -> None:
    made, given = seeded(OfABatch), Said(words(2, 4), torch.zeros(2))
    said = r"'batch\.each' lies inside the argument 'batch'.*wrap the model"
    with pytest.raises(fxplain.MethodError, match=said):
        fxplain.explain(made, (given,), 1, "leave_one_out")
    with pytest.raises(fxplain.EvaluationError, match=said):
        fxplain.evaluate(made, [{"batch": given}], ["raw_attention"], "deletion")


class MeanOfWords(EachWord):
    """A class from the mean of words, of which there may be none."""

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        return self.head((x + nn.functional.scaled_dot_product_attention(x, x, x)).mean(1))


def test_a_mean_of_no_words_is_refused() -> None:
    """With what to do, by unit methods and by evaluations, which told dashes."""
    made, ids = seeded(MeanOfWords), words(2, 4)
    said = r"MeanOfWords says NaN where tokens of ids are cut out.*\(attention_mask, mask_token"
    with pytest.raises(fxplain.NonFiniteError, match=said):
        fxplain.explain(made, (ids,), 1, "kernel_shap")
    assert fxplain.explain(made, (ids,), 1, "leave_one_out").relevance["ids"].all()
    with pytest.raises(fxplain.NonFiniteError, match=said):
        fxplain.evaluate(made, [ids], ["raw_attention"], "deletion")


def test_refused() -> None:
    model = SHARED
    for options, said in (
        ({"units": "chapter"}, "chapter"),
        ({"units": ["no such words"]}, "no part of the text"),
        ({"removal": "melt"}, "unknown removal"),
        ({"score": "bits"}, "one of"),
        ({"steps": 3}, "no option 'steps'"),
        ({"regions": 0}, "whole number"),
    ):
        with pytest.raises(fxplain.FxplainError, match=said):
            fxplain.explain(model, (TEN,), method="leave_one_out", **options)
    with pytest.raises(fxplain.MethodError, match="no token can be removed"):
        fxplain.explain(model, (TEN[:, :1],), method="leave_one_out")
    with pytest.raises(fxplain.MethodError, match="no relevancy matrices"):
        fxplain.explain(model, (TEN,), method="leave_one_out").matrix("input_ids", "input_ids")


def test_every_unit_method_says_what_it_is() -> None:
    for name, method in unit_methods().items():
        assert isinstance(method, UnitMethod)
        assert method.name == name
        assert method.source
        assert "forward" in method.cost
        assert method.about
        assert all(option.about for option in method.options.values())


class Seeing(nn.Module):
    """Words, and the patches of all images in one row, as many as `counts` says."""

    config = SimpleNamespace(mask_token_id=0)

    def __init__(self) -> None:
        super().__init__()
        self.words, self.patches, self.head = nn.Embedding(20, 8), nn.Linear(3, 8), nn.Linear(8, 2)

    def forward(self, input_ids: Tensor, patches: Tensor, counts: Tensor) -> Tensor:
        if len(patches) != int(counts.sum()):
            raise ValueError("patches and places do not match")
        x, seen = self.words(input_ids), self.patches(patches)[None]
        x = x + (x @ seen.transpose(1, 2)).softmax(-1) @ seen
        x = x + nn.functional.scaled_dot_product_attention(x, x, x)
        return self.head(x[:, -1])


def test_inputs_without_a_row_for_each_sample_are_run_one_by_one() -> None:
    model = seeded(Seeing)
    ids = torch.tensor([[3, 1, 4, 7, 5]])
    rest = {"patches": pixels(6, 3), "counts": torch.tensor([[6]])}
    e = fxplain.explain(model, {"input_ids": ids, **rest}, 0, "leave_one_out")
    with torch.no_grad():
        whole = model(ids, **rest)[0, 0]
        without = [model(ids.index_fill(1, torch.tensor([i]), 0), **rest)[0, 0] for i in range(4)]
    torch.testing.assert_close(
        e.relevance["input_ids"][0, :4].float(), torch.stack([whole - w for w in without])
    )
    # what was not judged is not what nothing was drawn from
    assert any("patches has no relevance here" in warning for warning in e.graph.warnings)
