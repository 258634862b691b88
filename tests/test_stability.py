"""Stability: what moves when tokens are noisy and heads silent, against runs by hand."""

from __future__ import annotations

import copy
import json
from itertools import product

import pytest
import torch

import fxplain
from tests.small_models import TextClassifier, architecture, seeded, words


@pytest.fixture(scope="module")
def explained() -> fxplain.Explanation:
    return fxplain.explain(seeded(TextClassifier, depth=2), (words(2, 7),), gradients="corrected")


def without_heads(made: TextClassifier, silent: tuple[bool, ...]) -> TextClassifier:
    """A copy whose silent heads write nothing: two heads of each of two blocks."""
    other = copy.deepcopy(made)
    with torch.no_grad():
        for block, pair in zip(other.encoder.blocks, (silent[:2], silent[2:]), strict=True):
            for head, is_silent in enumerate(pair):
                if is_silent:
                    block.attention.out.weight[:, 8 * head : 8 * head + 8] = 0
    return other


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "written out"])
def test_silent_heads_are_as_if_they_wrote_nothing(fused: bool) -> None:
    made, ids = seeded(TextClassifier, depth=2, fused=fused), words(2, 7)
    e = fxplain.explain(made, (ids,), 1)
    found = e.stability(12, noise=0, heads=0.5)
    assert found.settings["steady"] == []
    possible = torch.stack(
        [without_heads(made, s)(ids)[:, 1].detach() for s in product((False, True), repeat=4)]
    )
    distance = (found.scores.T[:, None] - possible[None]).abs().amax(-1)
    assert (distance.min(1).values < 1e-4).all()
    assert len(set(distance.argmin(1).tolist())) > 4
    # and so is the relevance of each draw
    silent = list(product((False, True), repeat=4))[int(distance[0].argmin())]
    by_hand = fxplain.explain(without_heads(made, silent), (ids,), 1)
    one = e.stability(1, noise=0, heads=0.5)
    wanted = [
        float(by_hand.beyond_identity()["input_ids"][0, unit.tokens[0]]) for unit in one.units[0]
    ]
    torch.testing.assert_close(
        torch.tensor([unit.low for unit in one.units[0]]),
        torch.tensor(wanted),
        atol=1e-5,
        rtol=1e-4,
    )


def correlation(a: list[float], b: list[float]) -> float:
    """Spearman's, 1 - 6 sum d^2 / (n (n^2 - 1)), of numbers without ties."""
    n = len(a)
    d = [sorted(a).index(x) - sorted(b).index(y) for x, y in zip(a, b, strict=True)]
    return 1 - 6 * sum(x * x for x in d) / (n * (n * n - 1))


def test_one_draw_is_the_explanation_with_that_noise(explained) -> None:
    found = explained.stability(1, noise=0.3, heads=0)
    for sample in (0, 1):
        units = found.units[sample]
        before, after = [u.relevance for u in units], [u.low for u in units]
        assert after == [u.high for u in units]
        assert before != after
        assert float(found.correlations[sample, 0]) == pytest.approx(correlation(before, after))
        order = sorted(after, reverse=True)
        assert [u.lowest for u in units] == [order.index(x) + 1 for x in after]
        first = before.index(max(before)) == after.index(max(after))
        assert float(found.first_kept[sample]) == float(first)
        assert all(u.tokens != (0,) for u in units)  # that the target is read from


def test_draws_are_reproducible_and_grow_with_the_noise(explained) -> None:
    small, again, other = (explained.stability(4, noise=0.01, heads=0, seed=s) for s in (0, 0, 1))
    large = explained.stability(4, noise=0.5, heads=0)
    assert torch.equal(small.scores, again.scores)
    assert not torch.equal(small.scores, other.scores)
    assert small.to_dict() == again.to_dict()
    width = lambda found: sum(u.high - u.low for own in found.units for u in own)  # noqa: E731
    assert 0 < width(small) < width(large)
    assert small.correlations.mean() > large.correlations.mean()


def test_a_smoothed_explanation_moves_less() -> None:
    made, ids = seeded(TextClassifier), words(1, 7)
    how = {"noise": 0.2, "heads": 0.0}
    plain = fxplain.explain(made, (ids,), method="input_x_gradient").stability(6, **how)
    smooth = fxplain.explain(made, (ids,), method="smoothgrad", noise=0.2).stability(6, **how)
    spread = lambda found: float(found.deviation["input_ids"].norm())  # noqa: E731
    assert spread(smooth) > 0
    assert not torch.equal(plain.deviation["input_ids"], smooth.deviation["input_ids"])


@pytest.mark.parametrize("name", ["swin", pytest.param("lxmert", marks=pytest.mark.slow)])
def test_any_architecture_can_be_asked(name: str) -> None:
    model, inputs = architecture(name)
    found = fxplain.explain(model, inputs).stability(2)
    assert found.correlations.isfinite().all()
    assert found.deviation.keys() == found.explanation.relevance.keys()


def test_it_prints_and_marks_the_explanation(explained) -> None:
    found = explained.stability(3)
    text = str(found)
    assert "3 times with noise of 5% in the tokens and 10% of the heads silent" in text
    assert "rank correlation" in text
    assert "±" in str(found.marked())
    assert len(found.to_frame()) == len(found.table()) == 12
    json.dumps(found.to_dict(), allow_nan=False)
    mean, low, high = found.interval(-1)
    assert low <= mean <= high


def test_what_cannot_be_asked_is_said(explained, tmp_path) -> None:
    with pytest.raises(fxplain.MethodError, match="disturb nothing"):
        explained.stability(3, noise=0, heads=0)
    with pytest.raises(fxplain.InputError, match="draws"):
        explained.stability(0)
    units = fxplain.explain(seeded(TextClassifier), (words(1, 4),), 1, "leave_one_out")
    with pytest.raises(fxplain.MethodError, match="judges units"):
        units.stability()
    explained.save(tmp_path / "e.safetensors")
    with pytest.raises(fxplain.MethodError, match="no model"):
        fxplain.load(tmp_path / "e.safetensors").stability()
