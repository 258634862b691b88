"""`fxplain.evaluate` as a whole: data sets, results, reproducibility, wrong use."""

import csv
import io
import json
import sys

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

import fxplain
from fxplain.demo import digits
from fxplain.evaluation.dataset import batches, count_samples
from fxplain.reports import to_text
from tests.evaluated_models import bag, bag_of_tokens, contributions, reversed_, right
from tests.small_models import TextClassifier, seeded, words

CHEAP = ("positive", "negative")


@pytest.fixture(scope="module")
def questions():
    """The demo's model, its tokenizer, and twelve held-out questions with their answers."""
    model, tokenizer = digits.load_model()
    samples = digits.load_samples()
    inputs = digits.encode(
        tokenizer,
        [sample.question.text for sample in samples],
        torch.stack([sample.mosaic for sample in samples]).float(),
    )
    answers = torch.tensor([digits.ANSWERS.index(sample.question.answer) for sample in samples])
    return model, tokenizer, inputs, answers


@pytest.fixture(scope="module")
def found(questions):
    model, tokenizer, inputs, answers = questions
    methods = ("generic", "rollout")
    return fxplain.evaluate(
        model, [(inputs, answers)], methods, [*CHEAP, "abpc"], tokenizer=tokenizer
    )


# ---- the data set -------------------------------------------------------------------------------


def sizes(dataset: object, batch_size: int = 4) -> list[tuple[int, int]]:
    return [(b.first, b.size) for b in batches(bag_of_tokens(), dataset, batch_size)]


def test_neighbours_of_equal_shape_are_put_together() -> None:
    short, long = torch.ones(1, 2, 1), torch.ones(1, 3, 1)
    assert sizes([{"feats": x} for x in (short, short, long, long, long)]) == [(0, 2), (2, 3)]
    assert sizes([{"feats": short}] * 6) == [(0, 4), (4, 2)]
    assert sizes([({"feats": short}, 1), {"feats": short}]) == [(0, 1), (1, 1)]


def test_large_batches_are_cut() -> None:
    example = fxplain.Example(torch.ones(6, 2, 1), list(range(6)), {"feats": torch.ones(6, 2)})
    cut = list(batches(bag_of_tokens(), [example], 4))
    assert [b.targets for b in cut] == [(0, 1, 2, 3), (4, 5)]
    assert [b.mask["feats"].shape for b in cut] == [(4, 2), (2, 2)]


def test_forms_of_items() -> None:
    values = torch.ones(2, 3, 1)
    for item in (
        values,
        {"feats": values},
        (values, [0, 1]),
        ({"feats": values}, torch.tensor([0, 1])),
        {"feats": values, "labels": torch.tensor([0, 1])},
        fxplain.Example((values,), (0, 1)),
    ):
        (batch,) = batches(bag_of_tokens(), [item], 8)
        assert list(batch.inputs) == ["feats"]
        assert batch.targets in (None, (0, 1))
        assert count_samples(bag_of_tokens(), [item, item]) == 4
    assert count_samples(bag_of_tokens(), iter([values])) is None


def test_a_data_loader() -> None:
    pairs = [({"feats": row[:, None]}, i % 2) for i, row in enumerate(contributions(5, 3))]
    found = fxplain.evaluate(
        bag_of_tokens(), DataLoader(pairs, batch_size=2), {"m": right}, ["positive"], target="true"
    )
    assert found.settings["samples"] == 5


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ((1, 2, 3), "a tuple of 3"),
        ((torch.ones(2, 3, 1), [0]), "1 targets for a batch of 2"),
        ({"feats": 3}, "no tensor with a batch axis"),
        (
            fxplain.Example(torch.ones(2, 3, 1), None, {"feats": torch.ones(3)}),
            "must be \\(2, tokens",
        ),
        (fxplain.Example((torch.ones(1, 2, 1), 1, 2)), "do not fit BagOfTokens.forward"),
    ],
)
def test_wrong_items(item: object, message: str) -> None:
    with pytest.raises(fxplain.FxplainError, match=message):
        fxplain.evaluate(bag_of_tokens(), [item], "generic")


# ---- reproducible -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def padded():
    """A small text model in double precision, and texts of several lengths in one batch."""
    ids = words(6, 7)
    mask = torch.ones_like(ids)
    for row, length in zip(mask, (7, 5, 6, 3, 7, 4), strict=True):
        row[length:] = 0
    model = seeded(TextClassifier, depth=2).double()
    return model, {"input_ids": ids, "attention_mask": mask}


def test_results_do_not_depend_on_batches(padded) -> None:
    """Ties, chance and noise are drawn by sample."""
    model, inputs = padded
    metrics = {
        **{name: name for name in (*CHEAP, "insertion", "comprehensiveness")},
        "randomisation": ("randomisation", {"levels": 2}),
        "stability": ("stability", {"draws": 2}),
    }
    whole, parts = (
        fxplain.evaluate(
            model, [inputs], ["generic", "gradcam"], metrics, batch_size=size, max_tokens=9 * size
        )
        for size in (6, 2)
    )
    for key, samples in whole.samples.items():
        torch.testing.assert_close(parts.samples[key], samples, equal_nan=True)
    for row, other in zip(whole.rows, parts.rows, strict=True):
        assert (row.low, row.high) == pytest.approx((other.low, other.high), abs=1e-6)


def test_one_seed_one_result(padded) -> None:
    model, inputs = padded
    once, again, other = (
        fxplain.evaluate(model, [inputs], "raw_attention", CHEAP, seed=seed) for seed in (0, 0, 1)
    )
    assert once.to_json() == again.to_json()
    assert once.to_json() != other.to_json()


def test_the_model_is_left_alone(padded) -> None:
    model, inputs = padded
    before = {name: value.clone() for name, value in model.state_dict().items()}
    generator = torch.get_rng_state()
    fxplain.evaluate(model, [inputs], "generic", ["randomisation", "stability", "positive"])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_each_sample_is_explained_once_per_method() -> None:
    seen: list[int] = []

    def counting(model: object, inputs: dict[str, Tensor], target: object) -> dict[str, Tensor]:
        seen.append(len(inputs["feats"]))
        return right(model, inputs, target)

    metrics = [*CHEAP, "abpc", "insertion", "deletion", "sufficiency"]
    bag(contributions(5, 4), methods={"m": counting}, metrics=metrics, batch_size=2)
    assert seen == [2, 2, 1]


# ---- the demo's model ---------------------------------------------------------------------------


def test_better_than_chance(found) -> None:
    for modality in ("input_ids", "visual_feats"):
        compared = found.compare("generic", "random", "abpc", modality)
        assert compared.difference > 0
        assert compared.p_value < 0.05
        assert compared.better == "generic"
        assert compared.difference == pytest.approx(
            found.row("generic", "abpc", modality).value
            - found.row("random", "abpc", modality).value
        )


def test_what_was_done_is_said(found) -> None:
    settings = found.settings
    assert settings["removal"].keys() == {"input_ids", "visual_feats"}
    assert all(text.startswith("attention_mask") for text in settings["removal"].values())
    text = to_text(found, width=100)
    for part in (
        "12",
        "the predicted class",
        "probability",
        "visual_feats by attention_mask",
        "seed 0",
    ):
        assert part in text
    assert text.count("random") == 2 + text.count("random_")


def test_boxes_are_dropped_as_in_the_papers_code(questions) -> None:
    """Features go with their boxes, and the question stays."""
    model, _, inputs, _ = questions
    kept_last = torch.arange(16, 0, -1.0).expand(len(inputs["input_ids"]), 16)
    words_alike = torch.zeros(inputs["input_ids"].shape)
    found = fxplain.evaluate(
        model,
        [inputs],
        {"m": lambda _m, i, _t: {
            "visual_feats": kept_last[: len(i["input_ids"])],
            "input_ids": words_alike[: len(i["input_ids"])],
        }},
        ["positive"],
        modalities=["visual_feats"],
        removal={"visual_feats": "drop"},
        steps=[0.25, 0.75],
        score="logit",
    )  # fmt: skip
    target = model(**inputs).question_answering_score.argmax(1, keepdim=True)
    for step, gone in enumerate((0, 4, 12)):
        fewer = {k: v[:, gone:] if k.startswith("visual") else v for k, v in inputs.items()}
        want = model(**fewer).question_answering_score.gather(1, target).mean().item()
        got = found.curves["m", "positive", "visual_feats"].mean[step]
        assert got == pytest.approx(want, abs=1e-4)


@pytest.mark.slow
def test_ranking_is_stable_over_seeds() -> None:
    """Over what the evaluation draws, and over which questions it is about."""
    pytest.importorskip("sklearn")  # the digits' source
    import random

    from examples.tasks import digit_images, questions

    model, tokenizer = digits.load_model()
    _, held_out = digit_images.split_digits()
    rankings = set()
    for seed in range(3):
        samples = questions.draw_samples(held_out, 200, random.Random(seed))
        found = fxplain.evaluate(
            model,
            [(questions.encode_lxmert(tokenizer, samples), questions.encode_targets(samples))],
            ("generic", "gradcam"),
            ["abpc"],
            modalities=["visual_feats"],
            tokenizer=tokenizer,
            seed=seed,
        )
        rankings.add(tuple(sorted(found.methods, key=lambda m: -found.row(m, "abpc").value)))
    assert rankings == {("generic", "gradcam", "random")}


# ---- the result ---------------------------------------------------------------------------------


def test_files(found, tmp_path) -> None:
    rows = list(csv.DictReader(io.StringIO(found.to_csv(tmp_path / "rows.csv"))))
    assert len(rows) == len(found.rows) == 3 * 3 * 2
    assert (tmp_path / "rows.csv").read_text() == found.to_csv()
    data = json.loads(found.to_json(tmp_path / "found.json"))
    assert [row["value"] for row in data["rows"]] == [row.value for row in found.rows]
    assert float(rows[0]["value"]) == found.rows[0].value
    assert {curve["metric"] for curve in data["curves"]} == {"positive", "negative", "abpc"}


def test_pandas(found) -> None:
    pytest.importorskip("pandas")
    frame = found.to_pandas()
    assert frame.groupby("metric").size().to_dict() == {"abpc": 6, "negative": 6, "positive": 6}


def test_pandas_is_missing(found, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(fxplain.MissingExtraError, match="pip install pandas"):
        found.to_pandas()


def test_rows_are_found_by_name(found) -> None:
    with pytest.raises(fxplain.EvaluationError, match="several modalities: 'input_ids', 'visual"):
        found.row("generic", "positive")
    with pytest.raises(fxplain.EvaluationError, match="no 'positive' of 'lrp'"):
        found.compare("generic", "lrp", "positive", "input_ids")


# ---- what is asked for --------------------------------------------------------------------------


def test_joint() -> None:
    model = seeded(TextClassifier)
    data = [{"input_ids": words(3, 6)}]
    alone, joint = (
        fxplain.evaluate(model, data, "raw_attention", ["positive"], modalities=[m])
        for m in ("input_ids", "joint")
    )
    assert [row.value for row in alone.rows] == pytest.approx([row.value for row in joint.rows])


def test_joint_order_crosses_modalities(questions) -> None:
    """Image tokens before words: first only patches go, and then nothing but words is left."""
    model, tokenizer, inputs, _ = questions

    def image_first(_model: object, given: dict[str, Tensor], _target: object) -> dict[str, Tensor]:
        ids, patches = given["input_ids"], given["visual_feats"]
        return {"input_ids": torch.zeros(ids.shape), "visual_feats": torch.ones(patches.shape[:2])}

    one = {name: value[:1] for name, value in inputs.items()}
    words_that_count = int(one["attention_mask"].sum()) - 2
    step = 16 / (16 + words_that_count)
    found = fxplain.evaluate(
        model, [one], {"m": image_first}, ["positive"], steps=[step], modalities=["joint"],
        score="logit", tokenizer=tokenizer,
    )  # fmt: skip
    blank = {**one, "visual_feats": torch.zeros_like(one["visual_feats"])}
    target = int(model(**one).question_answering_score.argmax())
    want = float(model(**blank).question_answering_score[0, target].detach())
    assert found.curves["m", "positive", "joint"].mean[1] == pytest.approx(want, abs=1e-4)


def test_methods_that_do_not_apply_are_skipped_unless_asked_for(monkeypatch) -> None:
    from fxplain.methods import registry

    only = {name: registry._METHODS[name] for name in ("generic", "raw_attention")}
    monkeypatch.setattr(registry, "_METHODS", only)

    def fails(*_: object) -> None:
        raise fxplain.MethodError("not for this model")

    broken = type(only["generic"])(**{**vars(only["generic"]), "name": "broken", "score": fails})
    monkeypatch.setitem(registry._METHODS, "broken", broken)
    data = [{"feats": contributions(2, 3)[..., None]}]
    found = fxplain.evaluate(bag_of_tokens(), data, metrics=["positive"], target=0)
    assert found.methods == ("generic", "raw_attention", "random")
    assert found.settings["skipped"] == {"broken": "not for this model"}
    assert "broken was skipped: not for this model" in to_text(found)
    with pytest.raises(fxplain.MethodError, match="not for this model"):
        fxplain.evaluate(bag_of_tokens(), data, ["broken"], target=0)


def test_a_metric_of_the_users_own(monkeypatch) -> None:
    from fxplain.evaluation import Measured, registry

    monkeypatch.setattr(registry, "_METRICS", registry._METRICS.copy())

    def largest_share(case: object, modality: str, *, power: float = 1.0) -> Measured:
        values = case.values(modality).abs() ** power  # type: ignore[attr-defined]
        return Measured(values.amax(1) / values.sum(1))

    metric = fxplain.Metric("largest_share", "an example", "higher", largest_share)
    fxplain.register_metric(metric)
    assert fxplain.metrics()["largest_share"].options == {"power": 1.0}
    values = torch.tensor([[1.0, 3.0]])
    asked = {"plain": "largest_share", "squared": ("largest_share", {"power": 2.0})}
    found = bag(values, methods={"m": right}, metrics=asked)
    assert [found.row("m", name).value for name in asked] == pytest.approx([0.75, 0.9])
    with pytest.raises(fxplain.EvaluationError, match="already"):
        fxplain.register_metric(metric)


def test_progress() -> None:
    calls: list[tuple[int, int | None]] = []
    bag(
        contributions(5, 3), methods={"m": reversed_}, batch_size=2,
        progress=lambda done, total: calls.append((done, total)),
    )  # fmt: skip
    assert calls == [(2, 5), (4, 5), (5, 5)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ["magic"]}, "unknown method 'magic'"),
        ({"methods": {"a": ("generic", {"magic": 1})}}, "no option 'magic'"),
        ({"methods": {"a": 3}}, "method 'a' is given as 3"),
        ({"methods": {"a": lambda *_: {}}}, "must return relevance of 'feats' of shape"),
        (
            {"methods": {"a": lambda *_: {"feats": [[1.0, float("nan"), 0.0]] * 2}}},
            "NaN or infinite",
        ),
        ({"methods": {"a": lambda *_: {"feats": [[1.0], [1.0, 2.0]]}}}, "reading what the method"),
        ({"score": lambda output, _: [float("nan")] * len(output)}, "returned NaN"),
        ({"metrics": ["magic"]}, "unknown metric 'magic'; there are: positive"),
        ({"metrics": {"a": ("positive", {"magic": 1})}}, "no option 'magic'; its options: steps"),
        ({"metrics": []}, "no metric"),
        ({"score": "magic"}, "score='magic' must be one of"),
        ({"modalities": ["magic"]}, "no modality 'magic'; there are: 'feats'"),
        ({"removal": {"magic": "zero"}}, "no modality 'magic'"),
        ({"target": "true"}, 'target="true" needs the true classes'),
        ({"batch_size": 0}, "batch_size=0 must be a whole number"),
        ({"target": fxplain.Contrast(0, 1), "score": "accuracy"}, "no score 'accuracy' here"),
    ],
)
def test_wrong_use(options: dict[str, object], message: str) -> None:
    with pytest.raises(fxplain.FxplainError, match=message):
        bag(contributions(2, 3), **{"methods": {"m": right}, **options})


def test_labels_that_the_model_has_none_of_part_the_samples_alone() -> None:
    """They are refused where they would have to be classes of the model's."""
    model, data = seeded(TextClassifier), [(words(3, 4), ["news", "sport", "news"])]
    found = fxplain.evaluate(model, data, "raw_attention", "abpc")
    assert list(found.by("class")) == ["news", "sport"]
    with pytest.raises(fxplain.EvaluationError, match="no label 'news'; its labels: none"):
        fxplain.evaluate(model, data, "raw_attention", "abpc", score="accuracy")


def test_the_usual_score_is_what_the_output_has() -> None:
    """Of classes the probability; of one number, such as a difference, that number."""
    metrics = {"abpc": "abpc", "of its own": "comprehensiveness"}
    call = (seeded(TextClassifier), [words(3, 4)], "raw_attention", metrics)
    contrast = fxplain.Contrast(0, 1)
    for target, usual in ((0, "probability"), (contrast, "logit")):
        found = fxplain.evaluate(*call, target=target)
        named = {**metrics, "of its own": ("comprehensiveness", {"score": usual})}
        same = fxplain.evaluate(*call[:3], named, target=target, score=usual)
        assert found.settings["score"] == usual
        assert {k: v.tolist() for k, v in found.samples.items()} == {
            k: v.tolist() for k, v in same.samples.items()
        }
    with pytest.raises(fxplain.EvaluationError, match="no score 'probability' here"):
        fxplain.evaluate(*call, target=contrast, score="probability")


def test_an_empty_data_set() -> None:
    with pytest.raises(fxplain.EvaluationError, match="the data set is empty"):
        fxplain.evaluate(bag_of_tokens(), [], "generic")
