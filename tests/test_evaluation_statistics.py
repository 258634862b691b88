"""Intervals and tests against closed forms, enumeration and scipy."""

import itertools

import pytest
import torch

from fxplain.evaluation.localisation import mean_of_ratios
from fxplain.evaluation.statistics import interval, mean, paired_difference, seeded, spearman

OPTIONS = {"seed": 0, "resamples": 4000, "confidence": 0.95}


def normal(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def test_interval_of_a_mean_is_that_of_theory() -> None:
    samples = normal(400)
    value, low, high = interval(samples, mean, **OPTIONS)
    error = samples.std(correction=0) / 400**0.5
    assert float(value) == pytest.approx(float(samples.mean()))
    assert float(low) == pytest.approx(float(value - 1.96 * error), abs=0.15 * float(error))
    assert float(high) == pytest.approx(float(value + 1.96 * error), abs=0.15 * float(error))


def test_interval_of_a_ratio() -> None:
    """The ratio of sums over all samples, not the mean of the samples' ratios."""
    value, low, high = interval(
        torch.tensor([[1.0, 2], [9, 9]], dtype=torch.double), mean_of_ratios, **OPTIONS
    )
    assert float(value) == pytest.approx(10 / 11)
    assert [float(low), float(high)] == pytest.approx([0.5, 1.0])


def test_one_seed_one_interval() -> None:
    samples = normal(50)
    assert interval(samples, mean, **OPTIONS) == interval(samples, mean, **OPTIONS)
    assert interval(samples, mean, **OPTIONS) != interval(samples, mean, **{**OPTIONS, "seed": 1})


def test_p_value_is_the_share_of_exchanges() -> None:
    a, b = normal(6), normal(6, seed=1)
    difference = (a - b).flatten().tolist()
    as_large = [
        abs(sum(s * d for s, d in zip(signs, difference, strict=True)))
        >= abs(sum(difference)) - 1e-9
        for signs in itertools.product((1, -1), repeat=6)
    ]
    found, p_value = paired_difference(a, b, mean, **OPTIONS)
    assert found.value == pytest.approx(sum(difference) / 6)
    assert p_value == pytest.approx(sum(as_large) / len(as_large), abs=0.03)


def test_a_clear_difference_has_a_small_p_value_and_none_has_not() -> None:
    a = normal(100)
    shifted, p_value = paired_difference(a, a - 0.5, mean, **OPTIONS)
    assert (shifted.low, shifted.high, p_value) == pytest.approx((0.5, 0.5, 1 / 4001))
    assert paired_difference(a, a, mean, **OPTIONS)[1] == 1


def test_spearman_is_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    for seed in range(5):
        a, b = (torch.randint(0, 6, (12,), generator=seeded(seed, i)) for i in range(2))
        assert spearman(a, b) == pytest.approx(float(stats.spearmanr(a, b).statistic))
    assert spearman(torch.ones(3), torch.arange(3)) == 0


def test_generators_depend_on_seed_and_purpose() -> None:
    drawn = {
        float(torch.rand(1, generator=seeded(*key)))
        for key in ((0, "a", 1), (0, "a", 2), (0, "b", 1), (1, "a", 1))
    }
    assert len(drawn) == 4
    assert torch.rand(1, generator=seeded(0, "a", 1)) == torch.rand(1, generator=seeded(0, "a", 1))
