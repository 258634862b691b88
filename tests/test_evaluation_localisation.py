"""Localisation by hand, and against scikit-learn, scikit-image and Quantus."""

import pytest
import torch
from torch import Tensor

import fxplain
from fxplain.evaluation.localisation import average_precision, otsu_threshold
from tests.evaluated_models import bag_of_tokens
from tests.small_models import ImageClassifier, pixels, seeded

RELEVANCE = torch.tensor([[4.0, 1.0, 3.0, -2.0], [1.0, 5.0, 2.0, 0.0]])
EVIDENCE = torch.tensor([[True, False, True, False], [True, False, False, False]])
METRICS = ("pixel_accuracy", "mean_iou", "mean_ap", "pointing_game", "relevance_mass")


def localised(relevance: Tensor, mask: Tensor, **metrics: object) -> fxplain.Evaluation:
    data = [fxplain.Example({"feats": torch.ones(*relevance.shape, 1)}, mask={"feats": mask})]
    method = {"m": lambda *_: {"feats": relevance}}
    return fxplain.evaluate(bag_of_tokens(), data, method, metrics or METRICS, target=0)


def test_by_hand() -> None:
    """Thresholds are the means, 1.5 and 2: found are tokens 0 and 2, and token 1."""
    found = localised(RELEVANCE, EVIDENCE)
    value = {row.metric: row.value for row in found.rows if row.method == "m"}
    assert value["pixel_accuracy"] == pytest.approx((4 + 2) / 8)
    evidence, rest = (2 + 0) / (2 + 2), (2 + 2) / (2 + 4)
    assert value["mean_iou"] == pytest.approx((evidence + rest) / 2)
    assert value["pointing_game"] == pytest.approx((1 + 0) / 2)
    assert value["relevance_mass"] == pytest.approx((7 / 8 + 1 / 8) / 2)


def test_average_precision_is_sklearns() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        scores = torch.randint(0, 5, (20,), generator=generator) / 4  # many are equal
        truth = torch.rand(20, generator=generator) < 0.4
        want = metrics.average_precision_score(truth, scores)
        assert float(average_precision(scores, truth)) == pytest.approx(want)
    found = localised(RELEVANCE, EVIDENCE).samples["m", "mean_ap", "feats"].flatten()
    for got, values, mask in zip(found.tolist(), RELEVANCE, EVIDENCE, strict=True):
        scaled = (values - values.min()) / (values.max() - values.min())
        want = metrics.average_precision_score(
            torch.cat([~mask, mask]), torch.cat([1 - scaled, scaled])
        )
        assert got == pytest.approx(want)


def test_otsu_parts_best() -> None:
    """Of all thresholds, and no worse than scikit-image's."""
    filters = pytest.importorskip("skimage.filters")
    generator = torch.Generator().manual_seed(0)
    two = torch.randn(90, generator=generator), 4 + torch.randn(30, generator=generator)
    values = torch.cat(two)

    def between(threshold: float) -> float:
        above = values > threshold
        gap = values[above].mean() - values[~above].mean()
        return float(above.sum() * (~above).sum() * gap**2)

    got = between(otsu_threshold(values))
    assert got >= between(float(filters.threshold_otsu(values.numpy(), nbins=256)))
    assert got >= 0.999 * max(between(float(v)) for v in values.sort().values[:-1])
    assert otsu_threshold(torch.ones(4)) == 1


def test_threshold_option() -> None:
    relevance = torch.tensor([[0.0, 0.0, 4.0, 5.0, 20.0, 21.0]])
    mask = relevance > 10
    accuracy = {
        threshold: localised(relevance, mask, a=("pixel_accuracy", {"threshold": threshold}))
        .row("m", "a")
        .value
        for threshold in ("otsu", "mean")
    }
    assert accuracy == {"otsu": 1.0, "mean": 1.0}
    with pytest.raises(fxplain.EvaluationError, match="must be one of"):
        localised(relevance, mask, a=("pixel_accuracy", {"threshold": "median"}))


def test_pointing_and_mass_are_quantus() -> None:
    quantus = pytest.importorskip("quantus", exc_type=ImportError)
    found = localised(RELEVANCE.clamp(min=0), EVIDENCE)
    shape = (2, 1, 2, 2)
    call = {
        "model": bag_of_tokens(),
        "x_batch": torch.ones(shape).numpy(),
        "y_batch": torch.zeros(2, dtype=torch.long).numpy(),
        "a_batch": RELEVANCE.clamp(min=0).reshape(shape).numpy(),
        "s_batch": EVIDENCE.reshape(shape).numpy(),
    }
    options = {"abs": False, "normalise": False, "disable_warnings": True}
    for name, metric in (
        ("pointing_game", quantus.PointingGame(**options)),
        ("relevance_mass", quantus.RelevanceMassAccuracy(**options)),
    ):
        ours = found.samples["m", name, "feats"].flatten().tolist()
        assert ours == pytest.approx([float(score) for score in metric(**call)])


def test_pixels_of_an_image() -> None:
    """Relevance of four patches, brought to the mask's pixels."""
    model = seeded(ImageClassifier)
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[:, :4, :4] = True
    relevance = torch.tensor([[9.0, 1.0, 0.0, 0.0, 0.0]])  # the CLS first
    found = fxplain.evaluate(
        model,
        [fxplain.Example({"pixel_values": pixels(1, 3, 8, 8)}, mask={"pixel_values": mask})],
        {"m": lambda *_: {"pixel_values": relevance}},
        METRICS,
    )
    assert found.row("m", "relevance_mass").value == 1
    assert found.row("m", "pointing_game").value == 1
    smooth = torch.nn.functional.interpolate(
        relevance[:, 1:].reshape(1, 1, 2, 2), size=(8, 8), mode="bilinear"
    )[0, 0]
    same = (smooth > smooth.mean()) == mask[0]
    assert found.row("m", "pixel_accuracy").value == pytest.approx(float(same.float().mean()))


def test_a_mask_of_another_size() -> None:
    with pytest.raises(fxplain.EvaluationError, match="has 3 tokens, the modality 4"):
        localised(RELEVANCE, EVIDENCE[:, :3])


def test_where_nothing_is_evidence_nothing_points_at_it() -> None:
    found = localised(RELEVANCE, EVIDENCE & torch.tensor([[True], [False]]))
    for metric, value in (("pointing_game", 1), ("relevance_mass", 7 / 8)):
        row = found.row("m", metric)
        assert (row.value, row.samples) == (pytest.approx(value), 1)


@pytest.mark.parametrize("mask", [torch.ones(2, 4), {"feats": "the first"}])
def test_what_is_no_mask(mask: object) -> None:
    with pytest.raises(fxplain.EvaluationError, match="mask"):
        fxplain.evaluate(bag_of_tokens(), [fxplain.Example(RELEVANCE[..., None], None, mask)])


def test_no_mask_at_all() -> None:
    data = [{"feats": torch.ones(1, 3, 1)}]
    with pytest.raises(fxplain.EvaluationError, match="'mean_iou' had nothing to measure in feats"):
        fxplain.evaluate(bag_of_tokens(), data, "generic", "mean_iou", target=0)
