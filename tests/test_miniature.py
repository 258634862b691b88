"""The paper's experiments in miniature: each runs, and the page says what the numbers say."""

import re
from pathlib import Path

import pytest
import torch

pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")
pytest.importorskip("transformers")

import fxplain
from examples.miniature import pictures, record
from examples.miniature.__main__ import EXPERIMENTS, main
from examples.miniature.experiment import Claim, Column, Experiment, Run
from examples.miniature.findings import Findings, Tally, holm, true_against_predicted
from examples.miniature.methods import GENERIC, IDEAL
from examples.miniature.page import page
from examples.miniature.segmentation import THRESHOLDS, MaskScores, hits, mask_iou
from fxplain.evaluation import RANDOM, Evaluation
from fxplain.evaluation.result import Key
from tests.long_run import quickly

ROOT = Path(__file__).parents[1]
METHODS = {GENERIC: GENERIC, "raw_attention": "raw_attention"}
SAMPLES = 6
WEIGHTS = ROOT / "fxplain" / "demo" / "lxmert_digits"


@pytest.mark.parametrize(
    "experiment",
    quickly(EXPERIMENTS, ["visualbert"], lambda experiment: experiment.name),
    ids=lambda experiment: experiment.name,
)
def test_experiment_runs(experiment: Experiment, tmp_path: Path) -> None:
    part, find = next(reversed(experiment.parts.items()))
    results = find(Run(SAMPLES, 0, METHODS))
    assert results.settings["samples"] == SAMPLES
    assert set(results.methods) - {IDEAL} == {*METHODS, RANDOM}
    columns = [column for column in experiment.columns if column.part == part]
    for column in columns:
        for method in results.methods:
            row = results.row(method, column.metric, column.modality)
            assert 0 <= row.value <= 1
            assert row.low <= row.value + 1e-9
            assert row.value <= row.high + 1e-9
    findings = Findings(_only(experiment, columns), {part: results})
    text = page([findings], 0, "this test")
    shown = results.row(GENERIC, columns[0].metric, columns[0].modality).value
    assert re.search(rf"^\| `generic` \| \**{100 * shown:.1f}", text, re.MULTILINE)
    assert f"| `{RANDOM}` |" in text
    pictures.draw(experiment, {part: results}, tmp_path)
    assert {path.stem for path in tmp_path.iterdir()} == set(experiment.plots)


def _only(experiment: Experiment, columns: list[Column]) -> Experiment:
    """The experiment with some of its columns."""
    claims = [
        Claim(claim.text, [c for c in claim.columns if c in columns], claim.others)
        for claim in experiment.claims
    ]
    return Experiment(**{**vars(experiment), "columns": columns, "claims": claims})


def test_the_page_that_ships_names_every_experiment() -> None:
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    for experiment in EXPERIMENTS:
        assert experiment.title in text
    assert text.count(f"| `{RANDOM}` |") == len(re.findall(r"^## \d", text, re.MULTILINE)) > 0
    assert "examples.miniature" in text or "make paper" in text


# ---- findings on numbers that are known ---------------------------------------------------------

COLUMN = Column(("gain",), "true", "abpc", "x")


def evaluation(**of_method: list[float]) -> Evaluation:
    """An evaluation whose only metric has these numbers, one per sample."""
    return Evaluation(
        samples={
            Key(method, "abpc", "x"): torch.tensor(values, dtype=torch.double)[:, None]
            for method, values in of_method.items()
        },
        points={},
        metrics={"abpc": fxplain.metrics()["abpc"]},
        settings={"samples": 12, "seed": 0, "resamples": 1000, "confidence": 0.95},
    )


def experiment(others: tuple[str, ...] = ("rollout",)) -> Experiment:
    claims = [Claim("a claim", [COLUMN], others)]
    return Experiment("one", "One", "a model", WEIGHTS, "About.", "This.", {}, [COLUMN], claims)


BASE = [0.5 + 0.01 * i for i in range(12)]
BETTER = [value + 0.2 for value in BASE]
WORSE = [value - 0.2 for value in BASE]
SAME = [value + 0.01 * (-1) ** i for i, value in enumerate(BASE)]


def test_wins_losses_and_ties_are_told() -> None:
    found = evaluation(generic=BASE, rollout=WORSE, gradcam=BETTER, legrad=SAME, random=WORSE)
    findings = Findings(experiment(("rollout", "gradcam")), {"true": found})
    assert findings.tally("rollout") == Tally(losses=1)
    assert findings.tally("gradcam") == Tally(wins=1)
    assert findings.tally("legrad") == Tally(ties=1)
    assert findings.mean_ranks() == {"generic": 2.5, "rollout": 4, "gradcam": 1, "legrad": 2.5}
    text = page([findings], 0, "a command")
    mean = sum(BASE) / 12
    assert f"| `generic` | {100 * mean:.1f} |" in text
    assert f"| `gradcam` | **{100 * mean + 20:.1f}**\\* |" in text
    assert f"| `legrad` | {100 * mean:.1f}° |" in text
    assert f"| `rollout` | {100 * mean - 20:.1f} |" in text
    assert "wins 1 of 2 tests, loses 1" in text
    assert "Better than `generic` somewhere" in text
    assert "`gradcam` ranks best" in text


def test_a_claim_that_holds_is_said_to_hold() -> None:
    found = evaluation(generic=BASE, rollout=WORSE, random=WORSE)
    text = page([Findings(experiment(), {"true": found})], 0, "a command")
    assert "**better throughout**" in text
    assert "No method is better than `generic` in any column." in text


def test_classes_are_compared_by_samples() -> None:
    found = {"true": evaluation(generic=BETTER), "predicted": evaluation(generic=BASE)}
    test = true_against_predicted(found, COLUMN)
    assert test.better == "true"
    assert test.difference == pytest.approx(0.2)
    assert test.p_value < 0.05


def test_holm() -> None:
    assert holm([0.01, 0.5, 0.02]) == pytest.approx([0.03, 0.5, 0.04])
    assert holm([0.6, 0.7]) == [1, 1]


# ---- masks --------------------------------------------------------------------------------------


def test_mask_iou() -> None:
    found = torch.tensor([[[True, True, False, False]]])
    objects = torch.tensor([[[False, True, True, False]], [[False, False, False, True]]])
    torch.testing.assert_close(mask_iou(found, objects), torch.tensor([[1 / 3, 0]]).double())


def test_each_object_is_hit_once_and_by_its_class() -> None:
    overlaps = torch.tensor([[0.72, 0.0], [0.9, 0.6], [0.0, 0.95]], dtype=torch.double)
    found = hits(overlaps, [3, 3, 4], [3, 3])
    # The first takes object 0 up to .7; the second then takes object 1 up to .6, and 0 above .7.
    assert found[:, 0].tolist() == [t <= 0.7 for t in THRESHOLDS]
    assert found[:, 1].tolist() == [t <= 0.6 or 0.7 < t <= 0.9 for t in THRESHOLDS]
    assert not found[:, 2].any()


def masks(**hit: list[bool]) -> MaskScores:
    """Four detections of one class in two images, each method's hits alike at every threshold."""
    return MaskScores(
        images=torch.tensor([0, 0, 1, 1]),
        labels=torch.tensor([1, 1, 1, 1]),
        confidences=torch.tensor([0.9, 0.8, 0.7, 0.6]),
        objects=torch.tensor([[0, 2], [0, 2]]),
        hit={m: torch.tensor(h).expand(len(THRESHOLDS), 4) for m, h in hit.items()},
        overlap={m: torch.tensor(h).double() for m, h in hit.items()},
        settings={"samples": 2, "seed": 0, "resamples": 200, "confidence": 0.95},
    )


def test_average_precision_by_hand() -> None:
    found = masks(all=[True] * 4, half=[True, False, True, False], none=[False] * 4)
    # Recall reaches .25 with precision 1, then .5 with precision 2/3: 26 and 25 of COCO's 101 points.
    want = {"all": (1, 1), "half": ((26 + 25 * 2 / 3) / 101, 0.5), "none": (0, 0)}
    for method, (precision, recall) in want.items():
        for metric in ("AP", "AP50"):
            assert found.row(method, metric).value == pytest.approx(precision)
        assert found.row(method, "AR").value == pytest.approx(recall)
        assert found.row(method, "IoU").value == pytest.approx(recall)
    assert found.row("all", "AP").low == found.row("all", "AP").high == 1


def test_masks_are_compared_image_by_image() -> None:
    found = masks(all=[True] * 4, none=[False] * 4)
    test = found.compare("all", "none", "AP")
    assert (test.difference, test.better, test.samples) == (1, "all", 2)
    assert 0.3 < test.p_value < 0.7  # of two images both or neither are exchanged half the time
    assert found.compare("none", "all", "AP").difference == -1


# ---- what is kept -------------------------------------------------------------------------------


def test_a_part_is_found_once(tmp_path: Path) -> None:
    asked = []

    def find(run: Run) -> Evaluation:
        asked.append(run.samples)
        return evaluation(generic=BASE)

    for samples in (5, 5, 6):
        found = record.kept("part", Run(samples), find, WEIGHTS, tmp_path)
        assert found.row("generic", "abpc").value == pytest.approx(sum(BASE) / 12)
    assert asked == [5, 6]


def test_generic_must_be_among_the_methods(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--methods", "rollout"])
    assert "name it among --methods" in capsys.readouterr().err
