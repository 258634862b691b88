"""What the numbers say: paired tests against the default method, wins and losses, ranks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from examples.miniature.experiment import Column, Experiment, Results
from examples.miniature.methods import GENERIC, IDEAL
from fxplain.evaluation import RANDOM, Comparison, Evaluation
from fxplain.evaluation.result import Key

LEVEL = 0.05
"""Of significance, after Holm's correction for the number of methods compared in a column."""

Found = Mapping[str, Results]
"""An experiment's results by the name of their part."""


@dataclass(frozen=True)
class Tally:
    """Tests of one method against another: how many it wins, loses, and that tell nothing apart."""

    wins: int = 0
    losses: int = 0
    ties: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.wins + other.wins, self.losses + other.losses, self.ties + other.ties)

    def __neg__(self) -> Tally:
        """The same tests, seen from the other method."""
        return Tally(self.losses, self.wins, self.ties)

    @property
    def tests(self) -> int:
        """All of them."""
        return self.wins + self.losses + self.ties


@dataclass(frozen=True)
class Test:
    """A paired test of a method against `generic`, with Holm's p-value."""

    comparison: Comparison
    p_value: float

    @property
    def tally(self) -> Tally:
        """One win, loss or tie of the method."""
        if self.p_value > LEVEL or self.comparison.better == "neither":
            return Tally(ties=1)
        won = self.comparison.better == self.comparison.a
        return Tally(wins=1) if won else Tally(losses=1)


class Findings:
    """An experiment's results with the tests of every method against `generic`.

    Parameters
    ----------
    experiment : Experiment
    found : mapping
        Its results by part.
    """

    def __init__(self, experiment: Experiment, found: Found) -> None:
        self.experiment, self.found = experiment, found
        self.tests = {
            (column, method): test
            for column in experiment.columns
            for method, test in self._column_tests(column).items()
        }

    @property
    def rows(self) -> tuple[str, ...]:
        """Methods, and what they are measured by: chance, and perhaps the ideal."""
        return next(iter(self.found.values())).methods

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods of the library."""
        return tuple(row for row in self.rows if row not in (RANDOM, IDEAL))

    @property
    def samples(self) -> int:
        """How many samples were explained."""
        samples: int = next(iter(self.found.values())).settings["samples"]
        return samples

    def tally(self, method: str, columns: Iterable[Column] | None = None) -> Tally:
        """The tests of a method against `generic`, in some columns or in all."""
        columns = self.experiment.columns if columns is None else columns
        return sum((self.tests[column, method].tally for column in columns), Tally())

    def mean_ranks(self) -> dict[str, float]:
        """By method, the mean over columns of its rank, 1 being the best; equals share theirs."""
        ranks: dict[str, list[float]] = {method: [] for method in self.methods}
        for column in self.experiment.columns:
            goodness = {method: self._goodness(column, method) for method in self.methods}
            for method, own in goodness.items():
                better = sum(other > own for other in goodness.values())
                equal = sum(other == own for other in goodness.values())
                ranks[method].append(better + (equal + 1) / 2)
        return {method: mean(places) for method, places in ranks.items()}

    def best(self, column: Column) -> float:
        """The best value of a method in a column."""
        best = max(self.methods, key=lambda method: self._goodness(column, method))
        return self.value(column, best)

    def value(self, column: Column, row: str) -> float:
        """One number of the table."""
        return self.found[column.part].row(row, column.metric, column.modality).value

    def _goodness(self, column: Column, method: str) -> float:
        row = self.found[column.part].row(method, column.metric, column.modality)
        return row.value if row.better == "higher" else -row.value

    def _column_tests(self, column: Column) -> dict[str, Test]:
        compare = self.found[column.part].compare
        comparisons = {
            method: compare(method, GENERIC, column.metric, column.modality)
            for method in self.methods
            if method != GENERIC
        }
        corrected = holm([comparison.p_value for comparison in comparisons.values()])
        return {
            method: Test(comparison, p_value)
            for (method, comparison), p_value in zip(comparisons.items(), corrected, strict=True)
        }


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number (Holm, 1979).

    Examples
    --------
    >>> holm([0.01, 0.5, 0.02])
    [0.03, 0.5, 0.04]
    """
    corrected, highest = [1.0] * len(p_values), 0.0
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    for place, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[i]))
        corrected[i] = highest
    return corrected


def true_against_predicted(found: Found, column: Column) -> Comparison:
    """A paired test of `generic` with the true class explained and with the predicted one."""
    parts = {}
    for part in ("true", "predicted"):
        results = found[part]
        assert isinstance(results, Evaluation)
        parts[part] = results
    both = Evaluation(
        samples={
            Key(part, column.metric, column.modality): results.samples[
                Key(GENERIC, column.metric, column.modality)
            ]
            for part, results in parts.items()
        },
        points={},
        metrics=parts["true"].metrics,
        settings=parts["true"].settings,
    )
    return both.compare("true", "predicted", column.metric, column.modality)
