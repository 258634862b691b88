"""Drivers: which words, pieces or positions carry the relevance of each class, over all rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from fxplain.corpora.shares import SharedRow

__all__ = ["Driver", "Tally", "drivers"]

RESAMPLES = 200
EXAMPLES = 3


@dataclass(frozen=True)
class Driver:
    """What a feature carries of a class's relevance, where it occurs.

    Attributes
    ----------
    target_name, feature
        The class, and the word, piece or position.
    count
        In how many rows of the class it occurs.
    share
        The mean share of those rows' relevance.
    low, high
        The 95% bootstrap interval of that mean over rows.
    examples
        Ids of the rows where its share is largest.
    """

    target_name: str
    feature: str
    count: int
    share: float
    low: float
    high: float
    examples: tuple[str, ...] = ()


@dataclass
class Often:
    """In how many rows a feature occurs at most: counts by hash, in memory of one size.

    Most words of many texts are rare ones, and a tally of them all would be as large as the texts.
    """

    counts: np.ndarray = field(default_factory=lambda: np.zeros(1 << 22, np.uint32))

    def add(self, row: SharedRow) -> None:
        """Count one row in."""
        self.counts[[self._place(feature) for feature in row.shares]] += 1

    def __call__(self, feature: str) -> int:
        return int(self.counts[self._place(feature)])

    def _place(self, feature: str) -> int:
        return hash(feature) % len(self.counts)


@dataclass
class Tally:
    """Sums by class and feature, and the same of resamples: of Poisson weights, row by row.

    A Poisson bootstrap (Chamandy et al., 2012) needs no further look at the rows, so that memory
    grows with the features that occur in at least `minimum` of them, and not with the rows.
    """

    often: Often
    minimum: int
    resamples: int = RESAMPLES
    seed: int = 0
    places: dict[tuple[str, str], int] = field(default_factory=dict)
    examples: list[list[tuple[float, str]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.generator = np.random.default_rng(self.seed)
        self.counts = np.zeros((16, self.resamples + 1), np.float32)
        self.sums = np.zeros((16, self.resamples + 1), np.float32)

    def add(self, row: SharedRow) -> None:
        """Count one row in."""
        if not row.shares:
            return
        target, name = str(row.row["target_name"]), str(row.row["id"])
        kept = {f: share for f, share in row.shares.items() if self.often(f) >= self.minimum}
        if not kept:
            return
        places = [self._place((target, feature)) for feature in kept]
        weights = np.ones(self.resamples + 1, np.float32)
        weights[1:] = self.generator.poisson(1.0, self.resamples)
        shares = np.fromiter(kept.values(), np.float32)
        self.counts[places] += weights
        self.sums[places] += shares[:, None] * weights
        for place, share in zip(places, shares.tolist(), strict=True):
            best = self.examples[place]
            if len(best) < EXAMPLES or share > best[-1][0]:
                best.append((share, name))
                best.sort(key=lambda pair: -pair[0])
                del best[EXAMPLES:]

    def _place(self, key: tuple[str, str]) -> int:
        place = self.places.setdefault(key, len(self.places))
        if place == len(self.examples):
            self.examples.append([])
        if place == len(self.counts):
            more = np.zeros_like(self.counts)
            self.counts = np.concatenate([self.counts, more])
            self.sums = np.concatenate([self.sums, more])
        return place

    def drivers(self) -> list[Driver]:
        """Those that occur in enough rows, by class, the largest mean share first."""
        found = []
        for (target, feature), place in self.places.items():
            count = int(self.counts[place, 0])
            if count < self.minimum:
                continue
            with np.errstate(invalid="ignore"):  # a resample may have none of its rows
                means = self.sums[place] / self.counts[place]
            low, high = np.nanquantile(means[1:], [0.025, 0.975]).tolist()
            examples = tuple(name for _, name in self.examples[place])
            found.append(Driver(target, feature, count, float(means[0]), low, high, examples))
        return sorted(found, key=lambda d: (d.target_name, -d.share))


def drivers(rows: Iterable[SharedRow], minimum: int = 5) -> list[Driver]:
    """What carries the relevance of each class.

    Parameters
    ----------
    rows
        From `fxplain.corpora.shares.shared_rows`; kept, for they are looked at twice.
    minimum
        In how many rows a feature has to occur.
    """
    often, kept = Often(), list(rows)
    for row in kept:
        often.add(row)
    tally = Tally(often, minimum)
    for row in kept:
        tally.add(row)
    return tally.drivers()


def by_class(found: Sequence[Driver], most: int) -> Mapping[str, list[Driver]]:
    """Of each class the first so many."""
    classes: dict[str, list[Driver]] = {}
    for driver in found:
        kept = classes.setdefault(driver.target_name, [])
        if len(kept) < most:
            kept.append(driver)
    return classes
