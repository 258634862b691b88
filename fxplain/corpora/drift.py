"""Drift: how far two explanations of the same rows agree, by two models or at two dates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from fxplain.corpora.corpus import Corpus
from fxplain.corpora.shares import OF_TOKENS, columns_of_data, largest, shares_of
from fxplain.errors import InputError
from fxplain.evaluation.statistics import spearman

__all__ = ["Drift", "Moved", "compare"]

COLUMNS = ("id", "text", "target_name", "error", *OF_TOKENS)


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

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def compare(
    first: Corpus, second: Corpus, *, by: str = "word", top: int = 5, minimum: int = 5
) -> Drift:
    """Compare two corpora row by row, by id.

    Parameters
    ----------
    by
        "word", "piece" or "position".
    top
        How many features of each row overlap.
    minimum
        In how many rows a feature has to occur to be listed.

    Raises
    ------
    InputError
        When no row is explained in both.
    """
    columns = columns_of_data(first)
    table = second.to_table(COLUMNS)
    places: dict[str, int] = {}
    errors = table["error"].to_pylist()
    for number, name in enumerate(table["id"].to_pylist()):
        if errors[number] is None:
            places.setdefault(name, number)
    sums: dict[str, list[float]] = {}
    found: list[tuple[str, float]] = []
    overlaps, same, only_first = 0.0, 0, 0
    for row in _explained(first):
        place = places.pop(row["id"], None)
        if place is None:
            only_first += 1
            continue
        other = table.slice(place, 1).to_pylist()[0]
        a, b = (shares_of(each, by, columns) for each in (row, other))
        found.append((row["id"], _correlation(a, b)))
        overlaps += _overlap(a, b, top)
        same += row["target_name"] == other["target_name"]
        for name in {**a, **b}:
            kept = sums.setdefault(name, [0.0, 0.0, 0.0])
            kept[0] += 1
            kept[1] += a.get(name, 0.0)
            kept[2] += b.get(name, 0.0)
    if not found:
        raise InputError("the two corpora explain no row with the same id.")
    count = len(found)
    return Drift(
        count,
        only_first,
        len(places),
        same / count,
        sum(value for _, value in found) / count,
        overlaps / count,
        top,
        _moved(sums, minimum),
        sorted(found, key=lambda pair: pair[1])[:20],
    )


def _explained(corpus: Corpus) -> Any:
    """Rows that were explained, each id once: of several targets the first."""
    seen: set[str] = set()
    for batch in corpus.batches(COLUMNS):
        for i, name in enumerate(batch["id"]):
            if batch["error"][i] is None and name not in seen:
                seen.add(name)
                yield {column: values[i] for column, values in batch.items()}


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
