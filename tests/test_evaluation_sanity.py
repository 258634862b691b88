"""Randomised weights and noisy inputs, by hand and against Quantus."""

import copy

import pytest
import torch
from torch import Tensor, nn

import fxplain
from fxplain.capture import cache, share_captures
from fxplain.evaluation.model_copy import ModelCopy
from tests.evaluated_models import bag, bag_of_tokens, contributions
from tests.small_models import TextClassifier, seeded, words


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return seeded(TextClassifier, depth=2)


@pytest.fixture(scope="module")
def inputs() -> dict[str, Tensor]:
    return {"input_ids": words(3, 6)}


def changed(copied: nn.Module, model: nn.Module) -> set[str]:
    before = dict(model.named_parameters())
    return {name for name, p in copied.named_parameters() if not torch.equal(p, before[name])}


def test_weights_are_randomised_from_the_top(model, inputs) -> None:
    copied = ModelCopy(model, inputs, 0)
    assert changed(copied.randomised(0), model) == set()
    top = changed(copied.randomised(0.05), model)
    assert top == {"head.weight", "head.bias"}
    half = changed(copied.randomised(0.5), model)
    assert top < half
    assert any("blocks.1" in name for name in half)
    assert not any("blocks.0" in name or "words" in name for name in half)
    everything = changed(copied.randomised(1), model)
    assert everything >= {n for n, p in model.named_parameters() if p.std(correction=0) > 0}
    assert changed(copied.randomised(0.05), model) == top


def test_random_weights_have_the_deviation_of_the_trained(model, inputs) -> None:
    drawn = dict(ModelCopy(model, inputs, 0).randomised(1).named_parameters())
    trained = model.encoder.words.weight.detach()
    assert float(drawn["encoder.words.weight"].detach().std()) == pytest.approx(
        float(trained.std()), rel=0.1
    )


def test_noise_goes_into_what_looks_words_up(model, inputs) -> None:
    copied = ModelCopy(model, inputs, 0).with_noisy_embeddings(0.1, draw=0)
    assert changed(copied, model) == {"encoder.words.weight", "encoder.positions.weight"}
    before, after = (m.encoder.words.weight.detach() for m in (model, copied))
    assert float((after - before).std() / before.std()) == pytest.approx(0.1, rel=0.1)


def test_an_explanation_that_ignores_the_model_is_found_out(model, inputs) -> None:
    fixed = {
        "fixed": lambda _m, i, _t: {"input_ids": i["input_ids"].double()},
        "generic": "generic",
    }
    metrics = {"randomisation": ("randomisation", {"levels": 2}), "stability": "stability"}
    found = fxplain.evaluate(model, [inputs], fixed, metrics)
    assert found.row("fixed", "randomisation").value == pytest.approx(1)
    assert found.row("fixed", "stability").value == 0
    assert found.row("generic", "randomisation").value < 0.9
    assert found.row("random", "randomisation").value < 0.5
    assert found.row("random", "stability").value > 0.3
    assert found.curves["generic", "randomisation", "input_ids"].mean[0] == 1


def test_stability_by_hand_and_by_quantus() -> None:
    """Of the true contributions: |noise| / |contributions|."""
    quantus = pytest.importorskip("quantus", exc_type=ImportError)
    values = contributions(2, 5)
    seen: list[Tensor] = []

    def right(_model: object, inputs: dict[str, Tensor], _target: object) -> dict[str, Tensor]:
        seen.append(inputs["feats"][..., 0])
        return {"feats": seen[-1]}

    options = {"stability": ("stability", {"noise": 0.1, "draws": 2})}
    found = bag(values, methods={"m": right}, metrics=options)
    got = found.samples["m", "stability", "feats"].flatten()
    clean, *noisy = seen
    by_hand = torch.stack([(x - clean).norm(dim=1) / clean.norm(dim=1) for x in noisy]).mean(0)
    torch.testing.assert_close(got, by_hand.double(), rtol=1e-5, atol=0)
    deviation = torch.stack(noisy).sub(clean).std().item()
    assert deviation == pytest.approx(0.1 * values.std().item(), rel=0.6)

    perturbed = iter(noisy)
    sensitivity = quantus.AvgSensitivity(
        nr_samples=2,
        perturb_func=lambda arr, **_: next(perturbed).numpy().reshape(arr.shape),
        similarity_func=quantus.difference,
        abs=False,
        normalise=False,
        disable_warnings=True,
        return_nan_when_prediction_changes=False,
    )
    theirs = sensitivity(
        model=bag_of_tokens(),
        x_batch=clean[:, None].numpy(),
        y_batch=torch.zeros(2, dtype=torch.long).numpy(),
        a_batch=clean[:, None].numpy(),
        explain_func=lambda model, inputs, targets, **_: inputs,
    )
    assert got.tolist() == pytest.approx(list(theirs), rel=1e-5)


@pytest.mark.parametrize("options", [{"levels": 0}, {"draws": 0}, {"noise": 0.0}])
def test_options(options: dict[str, float]) -> None:
    metric = "randomisation" if "levels" in options else "stability"
    with pytest.raises(fxplain.EvaluationError, match="must be"):
        bag(contributions(1, 3), methods="generic", metrics={"m": (metric, options)})


def test_what_is_the_same_for_every_class_is_found_out(model, inputs) -> None:
    found = fxplain.evaluate(
        model, [inputs], ["raw_attention", "input_x_gradient"], "random_target", target=[1, 2, 3]
    )
    assert found.row("raw_attention", "random_target").value == pytest.approx(1)
    # by hand: another class for each sample, and Spearman's correlation over words but the first
    wanted = []
    for sample, target in enumerate((1, 2, 3)):
        own = {"input_ids": inputs["input_ids"][sample : sample + 1]}
        of = [
            fxplain.explain(model, own, k, "input_x_gradient").relevance["input_ids"][0, 1:]
            for k in range(5)
        ]
        ranks = torch.stack([x.argsort().argsort().double() for x in of])
        d = (ranks - ranks[target]).square().sum(1)
        wanted.append([float(1 - 6 * x / (5 * 24)) for i, x in enumerate(d) if i != target])
    for value, possible in zip(
        found.samples["input_x_gradient", "random_target", "input_ids"][:, 0].tolist(),
        wanted,
        strict=True,
    ):
        assert min(abs(value - x) for x in possible) < 1e-6


def test_sanity_checks_are_there_by_default_and_never_in_the_way(model, inputs) -> None:
    found = fxplain.evaluate(model, [inputs], ["generic", "raw_attention"])
    assert set(found.metrics) == {"positive", "negative", "abpc", "randomisation", "random_target"}
    assert found.row("raw_attention", "random_target").value == pytest.approx(1)
    score = lambda output: output[:, 1]  # noqa: E731
    other = fxplain.evaluate(model, [inputs], ["generic"], target=score, score="logit")
    assert "random_target" not in other.metrics
    assert "there is none" in other.settings["skipped"]["random_target"]
    assert "random_target was skipped" in " ".join(str(other).split())


def test_sanity_checks_take_the_first_samples(model) -> None:
    inputs = {"input_ids": words(40, 5)}
    found = [fxplain.evaluate(model, [inputs], ["generic"], batch_size=size) for size in (40, 16)]
    for each in found:
        assert each.row("generic", "randomisation").samples == 32
        assert each.row("generic", "positive").samples == 40
    a, b = (each.samples["generic", "random_target", "input_ids"][:32] for each in found)
    torch.testing.assert_close(a, b)


def test_a_copy_with_other_weights_is_not_captured_anew(model, inputs, monkeypatch) -> None:
    made: list[nn.Module] = []
    make = cache._make
    monkeypatch.setattr(cache, "_make", lambda m, *rest: made.append(m) or make(m, *rest))
    fxplain.clear_captures(model)
    fxplain.explain(model, inputs)
    drawn = ModelCopy(model, inputs, 0).randomised(1)
    found = fxplain.explain(drawn, inputs, [1, 2, 3])
    assert made == [model]
    fxplain.clear_captures(drawn)
    alone = fxplain.explain(drawn, inputs, [1, 2, 3])
    assert made == [model, drawn]
    assert torch.equal(found.output, alone.output)
    assert torch.equal(found.relevance["input_ids"], alone.relevance["input_ids"])


def test_what_branches_on_weights_is_captured_of_the_copy(inputs) -> None:
    class Branching(nn.Module):
        """Reads its words with another sign where a weight is negative."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = seeded(TextClassifier)
            self.sign = nn.Parameter(torch.ones(2))

        def forward(self, input_ids: Tensor) -> Tensor:
            found = self.inner(input_ids)
            return found if bool(self.sign.sum() > 0) else -found

    model = Branching().eval()
    fxplain.explain(model, inputs)
    copied = copy.deepcopy(model)
    with torch.no_grad():
        copied.sign.neg_()
    share_captures(model, copied)
    torch.testing.assert_close(
        fxplain.explain(copied, inputs).output, -model(**inputs).detach(), atol=1e-6, rtol=1e-5
    )
