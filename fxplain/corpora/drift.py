"""Drift: how far two explanations of the same rows agree, by two models or at two dates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from heapq import nsmallest
from typing import Any

import torch

from fxplain.arguments import checked
from fxplain.corpora.corpus import Corpus
from fxplain.corpora.drivers import Often
from fxplain.corpora.joined import Half, joined
from fxplain.corpora.shares import A_CORPUS, BY, COUNT, columns_of_data, largest, shared_rows
from fxplain.corpora.summary import keep_least
from fxplain.errors import InputError
from fxplain.evaluation.statistics import spearman

__all__ = ["Drift", "Moved", "compare"]

FARTHEST = 20


@dataclass(frozen=True)
class Moved:
    """A feature whose mean share is another in the second corpus."""

    feature: str
    rows: int
    first: float
    second: float

    @property
    def by(self) -> float:
        """How much."""
        return self.second - self.first


@dataclass(frozen=True)
class Drift:
    """How two corpora differ on the rows that both explain.

    Attributes
    ----------
    rows
        How many both explain.
    only_first, only_second
        How many only one of them does.
    same_target
        The part of the rows whose explained class is the same.
    rank_correlation, overlap
        Means over rows: Spearman's of the features' shares, and how many of the first's top features
        are the second's.
    top
        How many those are.
    moved
        Features, the farthest first.
    farthest
        Ids of the rows with the lowest rank correlation.
    different
        Which facts of the two manifests are not the same: weights, method, data, ...
    other_text
        Of how many of the rows the text is another: their ids name different rows.
    """

    rows: int
    only_first: int
    only_second: int
    same_target: float
    rank_correlation: float
    overlap: float
    top: int
    moved: Sequence[Moved]
    farthest: Sequence[tuple[str, float]]
    different: Sequence[str] = ()
    other_text: int = 0

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


@checked(first=A_CORPUS, second=A_CORPUS, by=BY, top=COUNT, minimum=COUNT)
def compare(
    first: Corpus, second: Corpus, *, by: str = "word", top: int = 5, minimum: int = 5
) -> Drift:
    """Compare two corpora row by row, by id.

    Memory grows with the features and not with the rows: what is compared of each row is kept in a
    temporary folder meanwhile.

    Parameters
    ----------
    by
        "word", "piece", "position", "region" or "column".
    top
        How many features of each row overlap.
    minimum
        In how many rows a feature has to occur to be listed.

    Raises
    ------
    InputError
        When no row is explained in both.
    """
    often = Often()

    def halves(corpus: Corpus) -> Iterator[Half]:
        reads = "text" in columns_of_data(corpus)  # of pictures it is where they lie
        for shared in shared_rows(corpus, by):
            row = shared.row
            if row["error"] is None:
                often.add(shared)
                text = hash(row["text"]) if reads else None
                yield Half(row["id"], row["target_name"], shared.shares, text)

    sums: dict[str, list[float]] = {}
    farthest: list[tuple[float, str]] = []
    correlations, overlaps, same = 0.0, 0.0, 0
    only_first, only_second, other_text = 0, 0, 0
    count = 0
    for one, other in joined(first, second, halves):
        if one is None or other is None:
            only_first += other is None
            only_second += one is None
            continue
        a, b = one.shares, other.shares
        correlation = _correlation(a, b)
        count += 1
        correlations += correlation
        keep_least(farthest, (correlation, one.id))
        overlaps += _overlap(a, b, top)
        same += one.target_name == other.target_name
        other_text += one.text != other.text and None not in (one.text, other.text)
        for name in {**a, **b}:
            if often(name) >= minimum:
                kept = sums.setdefault(name, [0.0, 0.0, 0.0])
                kept[0] += 1
                kept[1] += a.get(name, 0.0)
                kept[2] += b.get(name, 0.0)
    if not count:
        raise InputError(
            "the two corpora explain no row with the same id, and are compared row by row: explain "
            "the same rows twice, or set the summaries of different ones side by side."
        )
    return Drift(
        count,
        only_first,
        only_second,
        same / count,
        correlations / count,
        overlaps / count,
        top,
        _moved(sums, minimum),
        [(name, value) for value, name in nsmallest(FARTHEST, farthest)],
        _different(first.manifest.facts, second.manifest.facts),
        other_text,
    )


def _different(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    return [name for name in {**first, **second} if first.get(name) != second.get(name)]


def _correlation(a: Mapping[str, float], b: Mapping[str, float]) -> float:
    names = list({**a, **b})
    x = torch.tensor([a.get(name, 0.0) for name in names], dtype=torch.float64)
    y = torch.tensor([b.get(name, 0.0) for name in names], dtype=torch.float64)
    return 1.0 if torch.equal(x, y) else spearman(x, y)


def _overlap(a: Mapping[str, float], b: Mapping[str, float], top: int) -> float:
    first, second = set(largest(a, top)), set(largest(b, top))
    return len(first & second) / max(len(first), len(second), 1)


def _moved(sums: Mapping[str, Sequence[float]], minimum: int) -> list[Moved]:
    found = [
        Moved(name, int(n), first / n, second / n)
        for name, (n, first, second) in sums.items()
        if n >= minimum
    ]
    return sorted(found, key=lambda moved: -abs(moved.by))
