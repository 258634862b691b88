"""Perturbation metrics against closed forms, literal loops and Quantus."""

import itertools
import math

import pytest
import torch
from torch import Tensor

import fxplain
from fxplain.evaluation.faithfulness import STEPS, area, steps_of
from fxplain.evaluation.ranking import number_removed, ranks
from tests.evaluated_models import BagOfTokens, bag, bag_of_tokens, contributions, reversed_, right

FIFTHS = tuple(i / 5 for i in range(6))
ORDERS = {"right": right, "reversed": reversed_}


def by_hand(values: list[float], order: list[int], steps: tuple[float, ...]) -> float:
    """The area under the sum of what is left, as tokens go in an order: the definition, literally."""
    total = 0.0
    left = []
    for step in steps:
        gone = len(values) - math.floor((1 - step) * len(values) + 1e-6)
        left.append(sum(values[i] for i in order[gone:]))
    for a, b, x, y in zip(left, left[1:], steps, steps[1:], strict=False):
        total += (y - x) * (a + b) / 2
    return total / (steps[-1] - steps[0])


def test_right_order_is_the_best_of_all_and_reversed_the_worst() -> None:
    values = contributions(3, 5)
    found = bag(values, methods=ORDERS, metrics=["positive", "negative"], steps=FIFTHS)
    for sample, row in enumerate(values.tolist()):
        areas = [
            by_hand(row, order, FIFTHS) for order in map(list, itertools.permutations(range(5)))
        ]
        for metric, best, worst in (("positive", min, max), ("negative", max, min)):
            got = [float(found.samples[m, metric, "feats"][sample, 0]) for m in ORDERS]
            assert got == pytest.approx([best(areas), worst(areas)], rel=1e-5)


def test_random_order_is_in_the_middle() -> None:
    """On average each token is as likely to go as any other: the score falls in a straight line."""
    values = contributions(400, 6)
    found = bag(values, methods=ORDERS, metrics=["positive"], steps=[i / 6 for i in range(7)])
    row = found.row("random", "positive")
    assert row.low < float(values.sum(1).mean()) / 2 < row.high
    assert found.row("right", "positive").high < row.low
    assert found.row("reversed", "positive").low > row.high


def test_generic_finds_the_right_order() -> None:
    values = contributions(4, 7)
    found = bag(values, methods={"generic": "generic", "right": right}, metrics=["positive"])
    for metric in found.metrics:
        a, b = (found.samples[method, metric, "feats"] for method in ("generic", "right"))
        assert torch.allclose(a, b)


def test_each_metric_by_hand() -> None:
    values = torch.tensor([[0.4, 0.3, 0.2, 0.1]])
    quarters = (0.0, 0.25, 0.5, 0.75, 1.0)
    most, least = [1.0, 0.6, 0.3, 0.1, 0.0], [1.0, 0.9, 0.7, 0.4, 0.0]
    falling = (most[0] / 2 + sum(most[1:4]) + most[4] / 2) / 4
    rising = (least[0] / 2 + sum(least[1:4]) + least[4] / 2) / 4
    shares = {"shares": (0.25, 0.5), "score": "logit"}
    found = bag(
        values,
        methods={"right": right},
        metrics={
            "positive": "positive",
            "negative": "negative",
            "abpc": "abpc",
            "deletion": ("deletion", {"steps": quarters, "score": "logit"}),
            "insertion": ("insertion", {"steps": quarters, "score": "logit"}),
            "comprehensiveness": ("comprehensiveness", shares),
            "sufficiency": ("sufficiency", shares),
        },
        steps=quarters,
    )
    assert {row.metric: row.value for row in found.rows if row.method == "right"} == pytest.approx(
        {
            "positive": falling,
            "negative": rising,
            "abpc": rising - falling,
            "deletion": falling,
            "insertion": rising,
            "comprehensiveness": ((1.0 - 0.6) + (1.0 - 0.3)) / 2,
            "sufficiency": ((1.0 - 0.4) + (1.0 - 0.7)) / 2,
        }
    )
    curve = found.curves["right", "insertion", "feats"]
    assert curve.x == quarters
    assert curve.mean == pytest.approx(least[::-1])


def test_probability_and_accuracy_by_hand() -> None:
    """The top class changes from 0 to 1 when the sum falls below 0; ties go to class 0."""
    values = torch.tensor([[0.5, 0.2, -0.3]])
    thirds = [i / 3 for i in range(4)]
    left = [0.4, -0.1, -0.3, 0.0]
    for score, want in {
        "probability": [1 / (1 + math.exp(-x)) for x in left],
        "accuracy": [1, 0, 0, 1],
        "logit": left,
    }.items():
        found = bag(values, methods={"m": right}, metrics=["positive"], score=score, steps=thirds)
        assert found.curves["m", "positive", "feats"].mean == pytest.approx(want)


def test_accuracy_is_against_the_true_class() -> None:
    data = [(torch.tensor([[[0.5], [0.2]]]), 1), (torch.tensor([[[0.5], [0.2]]]), 0)]
    found = fxplain.evaluate(
        bag_of_tokens(), data, {"m": right}, ["positive"], score="accuracy", removal="zero"
    )
    assert found.samples["m", "positive", "feats"].flatten().tolist() == pytest.approx([0.0, 1.0])


def test_a_score_of_the_users_own() -> None:
    def doubled(output: Tensor, targets: list[int]) -> Tensor:
        return 2 * output[torch.arange(len(output)), torch.tensor(targets)]

    values = contributions(2, 4)
    once, twice = (
        bag(values, methods={"m": right}, metrics=["positive"], score=score)
        for score in ("logit", doubled)
    )
    assert twice.settings["score"] == "doubled"
    assert twice.rows[0].value == pytest.approx(2 * once.rows[0].value)


@pytest.mark.parametrize("step", [0.0, 0.25, 0.5, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0])
def test_number_removed_is_the_papers(step: float) -> None:
    """Its code keeps int((1 - step) * n) of 36 boxes."""
    assert int(number_removed(torch.tensor(36), step)) == 36 - int(round((1 - step) * 36, 6))


def test_ranks_of_ties_are_drawn() -> None:
    relevance, counted = (
        torch.tensor([[1.0, 1.0, 2.0, 9.0]]),
        torch.tensor([[True, True, True, False]]),
    )
    seen = {
        tuple(ranks(relevance, counted, [torch.Generator().manual_seed(seed)])[0].tolist())
        for seed in range(20)
    }
    assert seen == {(1, 2, 0, 3), (2, 1, 0, 3)}


def test_area_of_a_line_is_its_middle() -> None:
    x = (0.0, 0.1, 0.5, 0.9)
    assert float(area(x, torch.tensor(x, dtype=torch.double))) == pytest.approx(0.45)


def test_steps() -> None:
    assert steps_of("lxmert") == STEPS["lxmert"] == (0, 0.25, 0.5, 0.75, 0.8, 0.85, 0.9, 0.95, 1)
    assert steps_of(None) == tuple(i / 10 for i in range(10))
    for wrong in ("paper", [], [0], [0.5, 0.2], [0, 1.5]):
        with pytest.raises(fxplain.EvaluationError):
            steps_of(wrong)


def test_deletion_is_quantus_pixel_flipping() -> None:
    quantus = pytest.importorskip("quantus", exc_type=ImportError)
    values = contributions(4, 6)
    model = bag_of_tokens()
    sixths = [i / 6 for i in range(7)]
    options = {"deletion": ("deletion", {"steps": sixths, "score": "logit"})}
    found = bag(values, methods={"m": right}, metrics=options)
    flipping = quantus.PixelFlipping(
        features_in_step=1,
        perturb_baseline=0.0,
        abs=False,
        normalise=False,
        disable_warnings=True,
        return_auc_per_sample=False,
    )
    curves = flipping(
        model=_Channels(model).eval(),
        x_batch=values[:, None].numpy(),
        y_batch=torch.zeros(4, dtype=torch.long).numpy(),
        a_batch=values[:, None].numpy(),
        softmax=False,
        channel_first=True,
    )
    ours = found.points["m", "deletion", "feats"][1][:, 1:]
    assert torch.allclose(torch.tensor(curves, dtype=torch.double), ours, atol=1e-5)


class _Channels(torch.nn.Module):
    """A bag of tokens that reads (batch, one channel, tokens)."""

    def __init__(self, model: BagOfTokens) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x.reshape(len(x), -1, 1))
