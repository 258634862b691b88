"""Statistics over samples: bootstrap intervals, paired comparison, rank correlation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from zlib import crc32

import torch
from torch import Tensor

__all__ = ["Interval", "Summary", "interval", "mean", "paired_difference", "seeded", "spearman"]

Summary = Callable[[Tensor], Tensor]
"""From the mean over samples of what is kept per sample, (..., k), to a metric's numbers."""

MOST_AT_ONCE = 2**22


@dataclass(frozen=True)
class Interval:
    """A number over all samples with its bootstrap confidence interval."""

    value: float
    low: float
    high: float


def seeded(seed: int, *purpose: object) -> torch.Generator:
    """A generator that depends on the seed and on what it is for, and on nothing else."""
    return torch.Generator().manual_seed(crc32(repr((seed, *purpose)).encode()))


def mean(means: Tensor) -> Tensor:
    """The summary of a metric that keeps one number per sample."""
    return means[..., 0]


def interval(
    samples: Tensor, summary: Summary, *, seed: int, resamples: int, confidence: float
) -> tuple[Tensor, Tensor, Tensor]:
    """A metric's numbers and their percentile bootstrap interval (Efron, 1979) over samples.

    Parameters
    ----------
    samples
        (n, k) what a metric keeps per sample.
    summary
        From means (..., k) to numbers (...) or (..., points).
    seed, resamples, confidence
        Of the bootstrap. One seed gives the same resamples to every metric and method.

    Returns
    -------
    tuple of torch.Tensor
        Value, lower and upper end; of a single sample, which tells nothing of others, NaN for both.
    """
    value = summary(samples.mean(0))
    if len(samples) == 1:
        return value, *2 * (torch.full_like(value, torch.nan),)
    drawn = torch.cat([summary(means) for means in _resampled(samples, seed, resamples)])
    tail = (1 - confidence) / 2
    ends = torch.quantile(drawn, torch.tensor([tail, 1 - tail], dtype=drawn.dtype), dim=0)
    return value, ends[0], ends[1]


def _resampled(samples: Tensor, seed: int, resamples: int) -> Iterator[Tensor]:
    """Means (part of resamples, k) of samples drawn with replacement."""
    n = len(samples)
    generator = seeded(seed, "bootstrap")
    for part in torch.arange(resamples).split(max(1, MOST_AT_ONCE // n)):
        drawn = torch.randint(n, (len(part), n), generator=generator)
        times = torch.zeros(len(part), n, dtype=samples.dtype)
        times.scatter_add_(1, drawn, torch.ones_like(drawn, dtype=samples.dtype))
        yield times @ samples / n


def paired_difference(
    a: Tensor, b: Tensor, summary: Summary, *, seed: int, resamples: int, confidence: float
) -> tuple[Interval, float]:
    """How much a metric of two methods differs on the same samples, and the chance of that.

    The interval is a paired bootstrap's, the p-value that of a paired permutation test (two-sided):
    under the null hypothesis the two methods' results can be exchanged in each sample.

    Parameters
    ----------
    a, b
        (n, k) what the metric keeps per sample.

    Returns
    -------
    tuple
        The difference a - b, and the p-value.
    """
    k = a.shape[1]

    def difference(means: Tensor) -> Tensor:
        return summary(means[..., :k]) - summary(means[..., k:])

    options = {"seed": seed, "resamples": resamples}
    found = interval(torch.cat([a, b], 1), difference, confidence=confidence, **options)
    observed = found[0].abs()
    as_large = 0
    for means in _exchanged(a, b, **options):
        as_large += int((difference(means).abs() >= observed - 1e-12).sum())
    return Interval(*(float(x) for x in found)), (1 + as_large) / (1 + resamples)


def _exchanged(a: Tensor, b: Tensor, seed: int, resamples: int) -> Iterator[Tensor]:
    """Means (part of resamples, 2 k) with a and b exchanged in samples chosen by chance."""
    n = len(a)
    generator = seeded(seed, "permutation")
    for part in torch.arange(resamples).split(max(1, MOST_AT_ONCE // n)):
        swapped = torch.rand(len(part), n, generator=generator) < 0.5
        moved = swapped.to(a.dtype) @ (b - a) / n
        yield torch.cat([a.mean(0) + moved, b.mean(0) - moved], 1)


def spearman(a: Tensor, b: Tensor) -> float:
    """Spearman's rank correlation of two vectors, ties sharing their mean rank; 0 if one is constant.

    Examples
    --------
    >>> round(spearman(torch.tensor([1.0, 2, 3, 4]), torch.tensor([1.0, 4, 9, 2])), 3)
    0.4
    """
    x, y = (_mean_ranks(v) for v in (a, b))
    x, y = x - x.mean(), y - y.mean()
    norm = float(x.norm() * y.norm())
    return float(x @ y) / norm if norm else 0.0


def _mean_ranks(values: Tensor) -> Tensor:
    _, group, counts = values.unique(return_inverse=True, return_counts=True)
    ends = counts.cumsum(0).double()
    middles: Tensor = ends - (counts - 1) / 2
    return middles[group]
