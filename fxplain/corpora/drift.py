"""Drift: how far two explanations of the same rows agree, and what moved from one corpus to another."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from heapq import nsmallest
from typing import Any

import torch

from fxplain.arguments import checked
from fxplain.corpora.corpus import Corpus
from fxplain.corpora.drivers import Often
from fxplain.corpora.joined import Half, joined
from fxplain.corpora.layout import NUMBER
from fxplain.corpora.shares import A_CORPUS, BY, COUNT, columns_of_data, largest, shared_rows
from fxplain.corpora.summary import keep_least
from fxplain.errors import InputError
from fxplain.evaluation.statistics import spearman

__all__ = ["Drift", "Moved", "compare"]

FARTHEST = 20


@dataclass(frozen=True)
class Moved:
    """A feature whose mean share is another in the second corpus, or a class that is said of more rows.

    Attributes
    ----------
    feature
        Its name.
    rows
        In how many rows it occurs.
    first, second
        Its mean share in each corpus: where it occurs, or over all rows if none is in both.
    error
        The standard error of the difference, if no row is in both; else None.
    """

    feature: str
    rows: int
    first: float
    second: float
    error: float | None = None

    @property
    def by(self) -> float:
        """How much."""
        return self.second - self.first


@dataclass(frozen=True)
class Drift:
    """How two corpora differ on the rows that both explain, or as wholes where there are none.

    Attributes
    ----------
    rows
        How many both explain. With none, nothing is told row by row: `same_target`,
        `rank_correlation` and `overlap` are None.
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
        Features, the farthest first; of corpora as wholes those first that chance does not explain.
    classes
        The part of each corpus's rows that are explained for a class, the farthest first.
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
    same_target: float | None
    rank_correlation: float | None
    overlap: float | None
    top: int
    moved: Sequence[Moved]
    farthest: Sequence[tuple[str, float]]
    different: Sequence[str] = ()
    other_text: int = 0
    classes: Sequence[Moved] = ()

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


@checked(first=A_CORPUS, second=A_CORPUS, by=BY, top=COUNT, minimum=COUNT)
def compare(
    first: Corpus, second: Corpus, *, by: str = "word", top: int = 5, minimum: int = 5
) -> Drift:
    """Compare two corpora row by row, by id; as wholes where no row is in both (data of two dates).

    Rows without ids of their own are numbered. Where the text of each number is another one in the
    other corpus, they are no rows in common.

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
        When no row of a corpus is explained.
    """
    often = Often()
    wholes = (_Whole(), _Whole())

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
        frequent: list[dict[str, float]] = [{}, {}]
        for half, whole, own in zip((one, other), wholes, frequent, strict=True):
            if half is not None:
                own.update((f, s) for f, s in half.shares.items() if often(f) >= minimum)
                whole.add(half, own)
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
        for name in {**frequent[0], **frequent[1]}:
            kept = sums.setdefault(name, [0.0, 0.0, 0.0])
            kept[0] += 1
            kept[1] += a.get(name, 0.0)
            kept[2] += b.get(name, 0.0)
    if not all(whole.rows for whole in wholes):
        raise InputError("a corpus explains no row, and there is nothing to compare.")
    different = _different(first.manifest.facts, second.manifest.facts)
    ours, theirs = wholes
    classes = _between(ours.classes, theirs.classes, ours.rows, theirs.rows)
    if not count or (other_text == count and not any(map(_has_ids, (first, second)))):
        return Drift(
            0,
            ours.rows,
            theirs.rows,
            same_target=None,
            rank_correlation=None,
            overlap=None,
            top=top,
            moved=[
                moved
                for moved in _between(ours.shares, theirs.shares, ours.rows, theirs.rows)
                if moved.rows >= minimum
            ],
            farthest=(),
            different=different,
            other_text=other_text,
            classes=classes,
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
        different,
        other_text,
        [replace(moved, error=None) for moved in classes],
    )


Sums = dict[str, list[float]]
"""By name in how many rows, and the sums of the numbers there and of their squares."""


@dataclass
class _Whole:
    """What all rows of one corpus say."""

    rows: int = 0
    shares: Sums = field(default_factory=dict)
    classes: Sums = field(default_factory=dict)

    def add(self, half: Half, shares: Mapping[str, float]) -> None:
        """Count one row in."""
        self.rows += 1
        said = {} if half.target_name is None else {half.target_name: 1.0}
        for sums, found in ((self.shares, shares), (self.classes, said)):
            for name, value in found.items():
                kept = sums.setdefault(name, [0.0, 0.0, 0.0])
                kept[0] += 1
                kept[1] += value
                kept[2] += value * value


def _has_ids(corpus: Corpus) -> bool:
    """Whether the data told what its rows are called, and they are not numbered."""
    return corpus.manifest.columns.get("id", NUMBER) != NUMBER


def _between(first: Sums, second: Sums, rows: int, others: int) -> list[Moved]:
    """How means over all rows of two corpora differ, first what is beyond two standard errors.

    The errors are Welch's, of two samples.
    """
    found = []
    for name in dict.fromkeys([*first, *second]):
        one, one_error = _mean(first.get(name), rows)
        other, other_error = _mean(second.get(name), others)
        count = sum(int(sums[name][0]) for sums in (first, second) if name in sums)
        found.append(Moved(name, count, one, other, math.hypot(one_error, other_error)))
    return sorted(found, key=lambda m: (abs(m.by) <= 2 * (m.error or 0.0), -abs(m.by)))


def _mean(sums: Sequence[float] | None, rows: int) -> tuple[float, float]:
    """A mean over all rows, and its standard error."""
    _, total, squares = sums or (0.0, 0.0, 0.0)
    mean = total / rows
    return mean, math.sqrt(max(squares / rows - mean * mean, 0.0) / rows)


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
