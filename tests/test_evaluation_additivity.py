"""Metrics of sums and spread, each against a slow literal transcription; targets and slices."""

import json
import math
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import fxplain
from tests.evaluated_models import bag, bag_of_tokens, contributions, reversed_, right
from tests.small_models import TextClassifier, seeded, words

VALUES = contributions(3, 6)


def noisy(_model: nn.Module, inputs: dict[str, Tensor], _target: object) -> dict[str, Tensor]:
    values = inputs["feats"][..., 0]
    return {"feats": values + torch.randn(values.shape, generator=torch.Generator().manual_seed(1))}


METHODS = {"right": right, "reversed": reversed_, "noisy": noisy}


def kept(found: fxplain.Evaluation, method: str, metric: str) -> list[float]:
    return found.samples[method, metric, "feats"].flatten().tolist()


def test_completeness() -> None:
    """The bag's score is the sum of its tokens: the right relevance is complete."""
    found = bag(VALUES, methods=METHODS, metrics=["completeness"])
    assert kept(found, "right", "completeness") == pytest.approx([0, 0, 0], abs=1e-6)
    assert kept(found, "reversed", "completeness") == pytest.approx([1, 1, 1])
    relevance = noisy(None, {"feats": VALUES[..., None]}, 0)["feats"]  # type: ignore[arg-type]
    for got, row, values in zip(
        kept(found, "noisy", "completeness"), relevance.tolist(), VALUES.tolist(), strict=True
    ):
        total, lost = sum(row), sum(values)
        assert got == pytest.approx(abs(total - lost) / (abs(total) + abs(lost)), rel=1e-4)


def test_sparseness_is_the_gini_index() -> None:
    """Half the mean difference of all pairs over the mean: G = sum |a - b| / (2 n^2 mean)."""
    found = bag(VALUES, methods=METHODS, metrics=["sparseness"])
    for got, row in zip(kept(found, "right", "sparseness"), VALUES.tolist(), strict=True):
        pairs = sum(2 * abs(a - b) for a, b in combinations(row, 2))
        n = len(row)
        assert got == pytest.approx(pairs / (2 * n * n * (sum(row) / n)), rel=1e-5)
    one = {"one": lambda *_: {"feats": torch.eye(6)[:3]}}
    found = bag(VALUES, methods=one, metrics=["sparseness"])
    assert kept(found, "one", "sparseness") == pytest.approx([1 - 1 / 6] * 3)


def test_datamodelling() -> None:
    found = bag(VALUES, methods=METHODS, metrics=["datamodelling"])
    assert kept(found, "right", "datamodelling") == pytest.approx([1, 1, 1])
    assert kept(found, "reversed", "datamodelling") == pytest.approx([-1, -1, -1])
    assert abs(found.row("random", "datamodelling").value) < 0.9
    stats = pytest.importorskip("scipy.stats")
    relevance = noisy(None, {"feats": VALUES[..., None]}, 0)["feats"]  # type: ignore[arg-type]
    for sample, got in enumerate(kept(found, "noisy", "datamodelling")):
        generator = fxplain.evaluation.statistics.seeded(0, "datamodelling", 32, sample)
        stays = torch.rand(32, 6, generator=generator) < 0.5
        scores = [float(VALUES[sample][way].sum()) for way in stays]
        sums = [float(relevance[sample][way].sum()) for way in stays]
        assert got == pytest.approx(stats.spearmanr(sums, scores).statistic, abs=1e-3)


def test_top_k_drop() -> None:
    metrics = {"two": ("top_k_drop", {"k": 2, "score": "logit"}), "all": ("top_k_drop", {"k": 99})}
    found = bag(VALUES, methods=METHODS, metrics=metrics)
    top = VALUES.sort(descending=True).values[:, :2].sum(1)
    last = VALUES.sort().values[:, :2].sum(1)
    assert kept(found, "right", "two") == pytest.approx(top.tolist(), rel=1e-4)
    assert kept(found, "reversed", "two") == pytest.approx(last.tolist(), rel=1e-4)
    whole = [1 / (1 + math.exp(-sum(row))) - 0.5 for row in VALUES.tolist()]
    assert kept(found, "right", "all") == pytest.approx(whole, rel=1e-4)


@pytest.mark.parametrize(
    ("metric", "options"),
    [
        ("datamodelling", {"draws": 1}),
        ("datamodelling", {"keep": 1}),
        ("top_k_drop", {"k": 0}),
        ("comprehensiveness", {"shares": [2]}),
        ("comprehensiveness", {"shares": []}),
        ("sufficiency", {"shares": 0.5}),
        ("randomisation", {"levels": 10**9}),
        ("stability", {"noise": "much"}),
    ],
)
def test_options_out_of_range(metric: str, options: dict[str, object]) -> None:
    with pytest.raises(fxplain.EvaluationError, match=f"{next(iter(options))}=.* must be"):
        bag(VALUES, methods=METHODS, metrics={"m": (metric, options)})


def test_the_largest_change_is_at_least_the_mean_one() -> None:
    found = bag(VALUES, methods={"right": right}, metrics=["stability", "max_sensitivity"])
    mean, most = kept(found, "right", "stability"), kept(found, "right", "max_sensitivity")
    assert all(a < b for a, b in zip(mean, most, strict=True))
    single = {name: (name, {"draws": 1}) for name in ("stability", "max_sensitivity")}
    found = bag(VALUES, methods={"right": right}, metrics=single)
    assert kept(found, "right", "stability") == kept(found, "right", "max_sensitivity")


# ---- what an example asks for ---------------------------------------------------------------------


class PointsAt(nn.Module):
    """Output i is token i's number, read by a query of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.queries = nn.Parameter(30 * torch.eye(4)[None])

    def forward(self, feats: Tensor) -> Tensor:
        weights = (self.queries @ torch.eye(4) + 0 * feats.transpose(1, 2)).softmax(-1)
        return (weights @ feats)[..., 0]


def test_an_example_is_explained_for_its_target() -> None:
    """Evidence of output 2 is token 2; the prediction is output 0."""
    values = torch.tensor([[[4.0], [3.0], [2.0], [1.0]]])
    mask = torch.tensor([[False, False, True, False]])
    example = fxplain.Example(values, 2, {"feats": mask})
    call = ([example], ["generic"], ["pointing_game"])
    found = fxplain.evaluate(PointsAt().eval(), *call)
    assert found.settings["target"] == "of each example"
    assert found.row("generic", "pointing_game").value == 1
    predicted = fxplain.evaluate(PointsAt().eval(), *call, target="predicted")
    assert predicted.row("generic", "pointing_game").value == 0
    pair = fxplain.evaluate(PointsAt().eval(), [(values, 2)], ["generic"], ["sparseness"])
    assert pair.settings["target"] == "predicted"


class NextWord(nn.Module):
    """A decoder without a mask argument: each position predicts a class."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(30, 8), nn.Linear(8, 5)

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.words(input_ids)
        attended = nn.functional.scaled_dot_product_attention(x, x, x, is_causal=True)
        return self.head(x + attended)


def test_where_nothing_is_removed_no_removal_is_planned() -> None:
    """Dropping words would move the position that is read: only a test that drops them is refused."""
    mask = torch.zeros(2, 6, dtype=torch.bool)
    mask[:, 1] = True
    data = [fxplain.Example(words(2, 6), [(5, 1), (5, 2)], {"input_ids": mask})]
    model = seeded(NextWord)
    local = ["pointing_game", "relevance_mass", "sparseness", "stability"]
    found = fxplain.evaluate(model, data, ["generic"], local)
    assert found.settings["removal"] == {}
    assert "removed" not in str(found)
    assert {row.metric for row in found.rows} == set(local)
    with pytest.raises(fxplain.EvaluationError, match="cannot be dropped"):
        fxplain.evaluate(model, data, ["generic"], [*local, "positive"])
    joint = fxplain.evaluate(model, data, ["generic"], ["sparseness"], modalities=["joint"])
    assert joint.row("generic", "sparseness").samples == 2


# ---- slices -----------------------------------------------------------------------------------------


def test_results_by_class_and_by_slice() -> None:
    values = contributions(6, 5)
    groups = ["long", "short", "long", None, "short", "long"]
    data = [
        fxplain.Example(values[:4, :, None], [0, 1, 0, 1], group=groups[:4]),
        fxplain.Example(values[4:, :, None], [1, 1], group=groups[4:]),
    ]
    call = (["generic"], ["positive", "sparseness"])
    settings = {"target": 0, "score": "logit", "removal": "zero"}
    whole = fxplain.evaluate(bag_of_tokens(), data, *call, **settings)
    parts = whole.by("group")
    assert {name: part.settings["samples"] for name, part in parts.items()} == {
        "long": 3,
        "short": 2,
    }
    alone = fxplain.evaluate(bag_of_tokens(), [values[[0, 2, 5], :, None]], *call, **settings)
    assert parts["long"].row("generic", "positive") == alone.row("generic", "positive")
    assert list(whole.by("class")) == [0, 1]
    own = whole.by([i < 1 for i in range(6)])
    assert own[True].settings["samples"] == 1
    assert own[True].compare("generic", "random", "sparseness").samples == 1


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("colour", "no label 'colour'"),
        ("group", "no sample has a group"),
        ([1], "a list of 3"),
        ([[1]] * 3, "a label="),
    ],
)
def test_labels_that_are_not_there(label: object, message: str) -> None:
    found = bag(VALUES, methods={"right": right}, metrics=["sparseness"])
    with pytest.raises(fxplain.EvaluationError, match=message):
        found.by(label)  # type: ignore[arg-type]


@pytest.mark.parametrize(("group", "message"), [(["a"], "1 groups"), (object(), "a group")])
def test_wrong_groups(group: object, message: str) -> None:
    with pytest.raises(fxplain.EvaluationError, match=message):
        fxplain.evaluate(bag_of_tokens(), [fxplain.Example(VALUES[..., None], group=group)])


def test_a_single_sample_has_no_interval(tmp_path: Path) -> None:
    """Of a class with one sample the bootstrap would draw that one always, as if it were certain."""
    items = [fxplain.Example(VALUES[i, None, :, None], group=g) for i, g in enumerate("aba")]
    found = fxplain.evaluate(bag_of_tokens(), items, METHODS, "abpc")
    parts = found.by("group")
    row = parts["b"].row("right", "abpc")
    assert (math.isnan(row.low), math.isnan(row.high), row.samples) == (True, True, 1)
    assert row.value == parts["b"].samples["right", "abpc", "feats"].item()
    assert parts["a"].row("noisy", "abpc").low < parts["a"].row("noisy", "abpc").high
    assert f"{row.value:.3f} (one sample)" in str(parts["b"])
    assert str(parts["b"].compare("right", "reversed", "abpc")).endswith(", one sample")
    assert json.loads(parts["b"].to_json())["rows"][0]["low"] is None
    parts["b"].to_html(tmp_path / "b.html")
    page = (tmp_path / "b.html").read_text(encoding="utf-8")
    assert "<small>one sample</small>" in page
    assert "nan" not in page.partition("<body>")[2].lower()


def test_an_example_may_ask_for_a_function_of_its_output() -> None:
    """It knows its samples by their number: they are neither cut nor put with others."""
    model, ids = seeded(TextClassifier), words(4, 4)

    def asked(*classes: int) -> Callable[[Tensor], list[Tensor]]:
        return lambda output: [output[i, c] for i, c in enumerate(classes)]

    call = (["generic"], "abpc")
    items = [fxplain.Example(ids[:3], asked(0, 3, 1)), fxplain.Example(ids[3:], asked(2))]
    found = fxplain.evaluate(model, items, *call, batch_size=2)
    same = fxplain.evaluate(model, [ids], *call, target=[0, 3, 1, 2], score="logit")
    key = ("generic", "abpc", "input_ids")
    torch.testing.assert_close(found.samples[key], same.samples[key])


def test_targets_of_samples_go_with_their_samples() -> None:
    """One for each sample of the data set, however it is batched."""
    model, ids, targets = seeded(TextClassifier), words(5, 4), [0, 3, 1, 2, 3]
    asked = (["generic"], "abpc")
    whole = fxplain.evaluate(model, [ids], *asked, target=targets)
    cut = fxplain.evaluate(model, [ids], *asked, target=torch.tensor(targets), batch_size=2)
    key = ("generic", "abpc", "input_ids")
    torch.testing.assert_close(whole.samples[key], cut.samples[key])
    with pytest.raises(fxplain.EvaluationError, match="names 4 targets"):
        fxplain.evaluate(model, [ids], *asked, target=targets[:4], batch_size=2)


def test_words_in_random_halves() -> None:
    """Words that a mask hides go and come back in any number at once."""
    ids = words(2, 6)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    metrics = ["completeness", "datamodelling", "top_k_drop"]
    found = fxplain.evaluate(seeded(TextClassifier), [inputs], ["generic"], metrics)
    assert all(row.samples == 2 for row in found.rows)
