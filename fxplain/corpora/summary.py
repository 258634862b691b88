"""The summary of a corpus: classes, drivers, errors, rows to look at, duplicates and leaks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from fxplain.arguments import checked, whole
from fxplain.corpora.corpus import Corpus
from fxplain.corpora.drivers import Driver, Often, Tally
from fxplain.corpora.duplicates import Duplicates
from fxplain.corpora.shares import A_CORPUS, BY, COUNT, WORD, SharedRow, shared_rows

__all__ = ["ClassCount", "Leak", "Summary", "keep_least", "summarise"]

MOST_LISTED = 1000
LEAK_SHARE = 0.2
"""The mean share from which a class's own name in the text is called a leak."""


@dataclass(frozen=True)
class ClassCount:
    """How often a class was explained, how sure the model was, how often the label differs."""

    name: str
    rows: int
    probability: float | None
    wrong: int | None


@dataclass(frozen=True)
class Leak:
    """A label's name stands in texts of that label, and carries that share of their relevance."""

    label: str
    rows: int
    share: float


@dataclass(frozen=True)
class Summary:
    """What stands out in an explained corpus.

    Attributes
    ----------
    rows, errors
        All, and those that could not be explained, by why.
    complete
        Whether the run came to its end.
    classes
        The most frequent first.
    drivers
        By class, the most frequent first; of each the largest mean share first.
    wrong
        Ids of rows whose label is not what the model predicts, the surest first.
    unsure
        Ids of the rows whose predicted class, which is the explained one, has the lowest probability.
    duplicates
        Ids of rows with one text, and of how many different labels.
    leaks
        Labels whose names stand in the texts.
    warnings
        What the explanations warned of, of which classes rows have no relevance to share, and whether
        no label at all is what is predicted.
    """

    rows: int
    errors: Mapping[str, int]
    complete: bool
    classes: Sequence[ClassCount]
    drivers: Sequence[Driver]
    wrong: Sequence[str]
    unsure: Sequence[str]
    duplicates: Sequence[tuple[tuple[str, ...], int]]
    leaks: Sequence[Leak]
    warnings: Sequence[str] = ()

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


@dataclass
class Count:
    """What is counted row by row."""

    rows: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    classes: Counter[str] = field(default_factory=Counter)
    sure: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    silent: Counter[str] = field(default_factory=Counter)
    labelled: int = 0
    called: tuple[str, str] | None = None
    wrong: list[tuple[float, str]] = field(default_factory=list)
    unsure: list[tuple[float, str]] = field(default_factory=list)
    duplicates: Duplicates = field(default_factory=Duplicates)
    named: dict[str, tuple[int, float]] = field(default_factory=dict)

    def add(self, shared: SharedRow) -> None:
        row = shared.row
        self.rows += 1
        self.duplicates.add(row)
        if row["error"] is not None:
            self.errors[row["error"].partition(":")[0]] += 1
            return
        name = str(row["target_name"])
        self.classes[name] += 1
        sure = row["probability"]
        if sure is not None:
            self.sure[name] += sure
            if row["predicted"] in (None, name):
                keep_least(self.unsure, (sure, row["id"]))
        self.silent[name] += bool(shared.shares) and not any(shared.shares.values())
        self._label(row, name, 0.0 if sure is None else sure)
        self._leak(shared)

    def _label(self, row: Mapping[str, Any], name: str, sure: float) -> None:
        if row["label"] is None or row["predicted"] is None:
            return
        self.labelled += 1
        self.called = self.called or (row["label"], row["predicted"])
        if row["label"].strip().lower() != row["predicted"].strip().lower():
            self.faults[name] += 1
            keep_least(self.wrong, (-sure, row["id"]))

    def _leak(self, shared: SharedRow) -> None:
        label = shared.row["label"] or shared.row["target_name"]
        words = [word.lower() for word in WORD.findall(label or "")]
        if words and all(word in shared.shares for word in words):
            rows, share = self.named.get(label, (0, 0.0))
            self.named[label] = rows + 1, share + sum(shared.shares[word] for word in words)


def keep_least(least: list[tuple[float, str]], one: tuple[float, str]) -> None:
    """Add to the least, of which no more are kept than could be listed."""
    least.append(one)
    if len(least) >= 2 * MOST_LISTED:
        least.sort()
        del least[MOST_LISTED:]


@checked(corpus=A_CORPUS, by=BY, minimum=COUNT, listed=whole(0, 1 << 62))
def summarise(corpus: Corpus, by: str = "word", minimum: int = 5, listed: int = 20) -> Summary:
    """Sum a corpus up, in memory that grows with what drives it and hardly with its rows.

    Parameters
    ----------
    by
        "word", "piece", "position", "region" (ninths of a picture) or "column" (of the data): what
        drivers are.
    minimum
        In how many rows a driver has to occur.
    listed
        How many rows of each kind are named, 1,000 at most.
    """
    often = Often()
    for row in shared_rows(corpus, by):
        often.add(row)
    tally, count = Tally(often, minimum), Count()
    for row in shared_rows(corpus, by):
        tally.add(row)
        count.add(row)
    return Summary(
        count.rows,
        dict(count.errors.most_common()),
        corpus.manifest.complete,
        [_class(count, name) for name, _ in count.classes.most_common()],
        _frequent_first(tally.drivers(), count),
        _first(count.wrong, listed),
        _first(count.unsure, listed),
        count.duplicates.found(corpus, listed),
        _leaks(count, minimum),
        [*corpus.warnings, *_silent(count), *_never_right(count)],
    )


def _first(least: Sequence[tuple[float, str]], listed: int) -> list[str]:
    """Ids, each once: a row with several targets is there as often."""
    return list(dict.fromkeys(name for _, name in sorted(least)))[:listed]


def _silent(count: Count) -> list[str]:
    found = [(name, rows) for name, rows in count.silent.most_common() if rows]
    if not found:
        return []
    named = [f"{name} {rows:,} of {count.classes[name]:,}" for name, rows in found[:5]]
    return [
        f"in {sum(rows for _, rows in found):,} rows all shares are 0, for no token has relevance but "
        f"special ones: {', '.join(named)}{', ...' if len(found) > 5 else ''}"
    ]


def _never_right(count: Count) -> list[str]:
    if count.called is None or count.labelled < 2 or sum(count.faults.values()) < count.labelled:
        return []
    return [
        f"no row's label is what is predicted: labels are such as {count.called[0]!r}, classes such as "
        f"{count.called[1]!r}"
    ]


def _frequent_first(drivers: Sequence[Driver], count: Count) -> list[Driver]:
    places = {name: place for place, (name, _) in enumerate(count.classes.most_common())}
    return sorted(drivers, key=lambda driver: places[driver.target_name])


def _class(count: Count, name: str) -> ClassCount:
    rows = count.classes[name]
    sure = count.sure[name] / rows if name in count.sure else None
    return ClassCount(name, rows, sure, count.faults[name] if count.labelled else None)


def _leaks(count: Count, minimum: int) -> list[Leak]:
    found = [
        Leak(label, rows, share / rows)
        for label, (rows, share) in count.named.items()
        if rows >= minimum
    ]
    return sorted(
        (leak for leak in found if leak.share >= LEAK_SHARE), key=lambda leak: -leak.share
    )
