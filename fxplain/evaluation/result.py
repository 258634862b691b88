"""The result of an evaluation: a row per method, metric and modality, with all that is behind it."""

from __future__ import annotations

import csv
import io
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fxplain.arguments import TEXT, Form, optional, shown
from fxplain.errors import EvaluationError
from fxplain.evaluation.metric import Metric
from fxplain.evaluation.statistics import interval, paired_difference
from fxplain.extras import extra
from fxplain.presentation import Presentable
from fxplain.written import json_text, rounded, written

__all__ = ["Comparison", "Curve", "Evaluation", "Key", "Row"]


_LABEL = Form(
    "a name, a number, or None", lambda value: isinstance(value, Hashable), EvaluationError
)


class Key(NamedTuple):
    """What a row is about."""

    method: str
    metric: str
    modality: str


@dataclass(frozen=True)
class Row:
    """One number: a metric of a method's relevance in a modality, over all samples.

    Attributes
    ----------
    method, metric, modality
        What it is about.
    value, low, high
        The number and its bootstrap confidence interval; of a single sample there is none (NaN).
    samples
        How many samples it is of: those that the metric says something about.
    better
        "higher" or "lower".
    """

    method: str
    metric: str
    modality: str
    value: float
    low: float
    high: float
    samples: int
    better: str


@dataclass(frozen=True)
class Curve:
    """A curve over all samples, with a confidence interval at each point."""

    x: tuple[float, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class Comparison:
    """Two methods on the same samples.

    Attributes
    ----------
    a, b, metric, modality
        What is compared.
    difference, low, high
        The metric of a less that of b, and its paired bootstrap interval.
    p_value
        Of a paired permutation test, two-sided.
    samples
        How many samples both have.
    better
        The method that is better as far as the difference goes, whatever the p-value.
    """

    a: str
    b: str
    metric: str
    modality: str
    difference: float
    low: float
    high: float
    p_value: float
    samples: int
    better: str

    def __str__(self) -> str:
        found = (self.difference, self.low, self.high)
        difference, low, high = (rounded(value, "+.4f") for value in found)
        said = f"{self.metric} of {self.modality}: {self.a} - {self.b} = {difference}"
        if self.samples == 1:
            return f"{said}, one sample"
        return f"{said} [{low}, {high}], p = {self.p_value:.2g}, {self.samples} samples"


@dataclass(frozen=True, eq=False)
class Evaluation(Presentable):
    """What one call of `fxplain.evaluate` found. Print it for a table.

    Attributes
    ----------
    samples
        By (method, metric, modality): what the metric keeps of each sample, (samples, k); the
        metric's own number where k is 1. NaN where it says nothing of a sample.
    points
        By the same, of metrics with a curve: its x values, and (samples, points).
    metrics
        The metrics by the label of their rows.
    settings
        Everything that the numbers depend on, as plain data: model, target, score, steps, how tokens
        of each modality are removed, seed, what "auto" chose and methods that were skipped, and why.
    labels
        Of every sample, its "class" (the true one; where it is not known, the explained one) and the
        "group" that its `Example` names.
    """

    samples: Mapping[Key, Tensor] = field(repr=False)
    points: Mapping[Key, tuple[tuple[float, ...], Tensor]] = field(repr=False)
    metrics: Mapping[str, Metric]
    settings: Mapping[str, Any]
    labels: Mapping[str, tuple[Any, ...]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        rows = {key: self._row(key) for key in self.samples}
        curves = {key: self._curve(key) for key in self.points}
        object.__setattr__(self, "_rows", rows)
        object.__setattr__(self, "_curves", curves)

    @property
    def rows(self) -> tuple[Row, ...]:
        """Every number, by metric, modality and method."""
        return tuple(self._rows.values())  # type: ignore[attr-defined]

    @property
    def curves(self) -> dict[Key, Curve]:
        """Every curve by (method, metric, modality)."""
        return dict(self._curves)  # type: ignore[attr-defined]

    @property
    def methods(self) -> tuple[str, ...]:
        """The labels of the methods, chance last."""
        return tuple(dict.fromkeys(key.method for key in self.samples))

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that are evaluated."""
        return tuple(dict.fromkeys(key.modality for key in self.samples))

    def by(self, label: str | Sequence[Any]) -> dict[Any, Evaluation]:
        """The same apart for each class, each group, or any other part of the samples.

        Parameters
        ----------
        label
            "class", "group", or a list with one label per sample. Samples whose label is None are in
            no part.

        Returns
        -------
        dict
            From label to an `Evaluation` of the samples that have it, with intervals and tests of
            their own.

        Raises
        ------
        EvaluationError
            When there is no such label, or not one for each sample.
        """
        labels = self._labels(label)
        return {
            value: self._only(torch.tensor([other == value for other in labels]))
            for value in dict.fromkeys(labels)
            if value is not None
        }

    def _labels(self, label: str | Sequence[Any]) -> Sequence[Any]:
        if isinstance(label, str):
            if label not in self.labels:
                known = ", ".join(map(repr, self.labels)) or "none"
                raise EvaluationError(f"samples have no label {label!r}; they have: {known}.")
            if all(value is None for value in self.labels[label]):
                raise EvaluationError(f"no sample has a {label}: give Example(..., {label}=...).")
            return self.labels[label]
        n = self.settings["samples"]
        label = label.tolist() if hasattr(label, "tolist") else label  # an array, a column
        if not isinstance(label, (list, tuple)) or len(label) != n:
            raise EvaluationError(f"label={shown(label)} must be a name, or a list of {n} labels.")
        for value in label:
            _LABEL.check("a label", value)
        return label

    def _only(self, chosen: Tensor) -> Evaluation:
        places = chosen.nonzero().flatten().tolist()
        return replace(
            self,
            samples={key: of[chosen] for key, of in self.samples.items()},
            points={key: (x, of[chosen]) for key, (x, of) in self.points.items()},
            settings={**self.settings, "samples": len(places)},
            labels={kind: tuple(of[i] for i in places) for kind, of in self.labels.items()},
        )

    def row(self, method: str, metric: str, modality: str | None = None) -> Row:
        """One row; the modality may be left out where there is only one.

        Raises
        ------
        EvaluationError
            When there is no such row, or several.
        """
        row: Row = self._rows[self._key(method, metric, modality)]  # type: ignore[attr-defined]
        return row

    def compare(self, a: str, b: str, metric: str, modality: str | None = None) -> Comparison:
        """Compare two methods on the same samples: paired bootstrap and paired permutation test.

        Parameters
        ----------
        a, b
            Two methods.
        metric
            A metric's label.
        modality
            May be left out where there is only one.

        Raises
        ------
        EvaluationError
            When one of them has no such row.
        """
        keys = [self._key(method, metric, modality) for method in (a, b)]
        both = [self.samples[key] for key in keys]
        known = torch.stack([x.isfinite().all(1) for x in both]).all(0)
        if not known.any():
            raise EvaluationError(f"no sample has {metric!r} of both {a!r} and {b!r}.")
        found, p_value = paired_difference(
            both[0][known], both[1][known], self.metrics[metric].summary, **self._bootstrap
        )
        a_wins = (found.value > 0) == (self.metrics[metric].better == "higher")
        return Comparison(
            a=a,
            b=b,
            metric=metric,
            modality=keys[0].modality,
            difference=found.value,
            low=found.low,
            high=found.high,
            p_value=p_value,
            samples=int(known.sum()),
            better="neither" if found.value == 0 else a if a_wins else b,
        )

    # -- files and other libraries ------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Settings, rows and curves as plain data (for JSON)."""
        return {
            "settings": dict(self.settings),
            "rows": [asdict(row) for row in self.rows],
            "curves": [{**key._asdict(), **asdict(curve)} for key, curve in self.curves.items()],
        }

    def to_json(self, path: str | Path | None = None) -> str:
        """`to_dict` as JSON text, NaN as null, also written to a file if one is given."""
        return written(json_text(self.to_dict(), indent=1) + "\n", path)

    def to_csv(self, path: str | Path | None = None) -> str:
        """The rows as CSV text, also written to a file if one is given."""
        page = io.StringIO()
        writer = csv.DictWriter(page, list(Row.__dataclass_fields__), lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in self.rows)
        return written(page.getvalue(), path)

    def to_pandas(self) -> Any:
        """The rows as a pandas.DataFrame.

        Raises
        ------
        MissingExtraError
            When pandas is not installed.
        """
        pandas = extra(
            "pandas",
            "to_pandas needs pandas, which is not installed: pip install pandas. "
            "to_csv and to_dict need nothing.",
        )
        return pandas.DataFrame([asdict(row) for row in self.rows])

    def plot(self, metric: str | None = None, modality: str | None = None, ax: Any = None) -> Any:
        """Draw curves and numbers with their intervals: axes for each metric and modality.

        Parameters
        ----------
        metric, modality
            Only this one.
        ax
            Axes to draw in, where one metric and modality is left; a new figure by default.

        Returns
        -------
        matplotlib.figure.Figure
            The figure, ``.savefig(path)`` writes it.

        Raises
        ------
        MissingExtraError
            When matplotlib is not installed.
        PlotError
            When there is no such number, or there are too many for the given axes.
        """
        return import_module("fxplain.plots").plot_curves(self, metric, modality, ax)

    def __repr__(self) -> str:
        return (
            f"<Evaluation of {self.settings.get('model')}: {len(self.methods)} methods, "
            f"{len(self.metrics)} metrics, {self.settings.get('samples')} samples>"
        )

    # -- numbers ------------------------------------------------------------------------------------

    @property
    def _bootstrap(self) -> dict[str, Any]:
        return {name: self.settings[name] for name in ("seed", "resamples", "confidence")}

    def _row(self, key: Key) -> Row:
        metric = self.metrics[key.metric]
        known = self.samples[key][self.samples[key].isfinite().all(1)]
        ends = (torch.tensor(torch.nan),) * 3
        if len(known):
            ends = interval(known, metric.summary, **self._bootstrap)
        value, low, high = (float(end) for end in ends)
        return Row(*key, value, low, high, len(known), metric.better)

    def _curve(self, key: Key) -> Curve:
        x, points = self.points[key]
        known = points[points.isfinite().all(1)]
        if not len(known):
            nothing = (float("nan"),) * len(x)
            return Curve(x, nothing, nothing, nothing)
        ends = interval(known, lambda means: means, **self._bootstrap)
        return Curve(x, *(tuple(end.tolist()) for end in ends))

    def _key(self, method: str, metric: str, modality: str | None) -> Key:
        name = TEXT.raising(EvaluationError)
        name.check("method", method)
        name.check("metric", metric)
        optional(name).check("modality", modality)
        keys = [k for k in self.samples if k.method == method and k.metric == metric]
        if modality is not None:
            keys = [k for k in keys if k.modality == modality]
        if len(keys) == 1:
            return keys[0]
        if keys:
            names = ", ".join(repr(k.modality) for k in keys)
            raise EvaluationError(f"metric {metric!r} has several modalities: {names}. Name one.")
        wanted = f"{metric!r} of {method!r}" + (f" in {modality!r}" if modality else "")
        raise EvaluationError(
            f"there is no {wanted}. Methods: {', '.join(self.methods)}; metrics: "
            f"{', '.join(self.metrics)}; modalities: {', '.join(self.modalities)}."
        )
