"""The registry: metrics by name, with their options checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fxplain.arguments import shown
from fxplain.errors import EvaluationError
from fxplain.evaluation.asked import labelled
from fxplain.evaluation.catalogue import DEFAULT_METRICS, METRICS, SANITY_CHECKS
from fxplain.evaluation.metric import Metric

__all__ = ["AskedMetrics", "ChosenMetrics", "choose_metrics", "metrics", "register_metric"]

_METRICS = dict(METRICS)

AskedMetrics = Sequence[str] | Mapping[str, str | tuple[str, Mapping[str, Any]]] | None
ChosenMetrics = dict[str, tuple[Metric, dict[str, Any]]]
"""By label, a metric and the options that were given."""


def metrics() -> dict[str, Metric]:
    """All metrics of explanations by name.

    Examples
    --------
    >>> import fxplain
    >>> fxplain.metrics()["deletion"].better
    'lower'
    """
    return dict(_METRICS)


def register_metric(metric: Metric) -> None:
    """Make a metric known by its name, to `evaluate` and to the command line of this process.

    Raises
    ------
    EvaluationError
        When there is a metric of that name, or it does not say which way is better.
    """
    if not isinstance(metric, Metric):
        raise EvaluationError(f"a metric is a fxplain.Metric, not {shown(metric)}.")
    if metric.name in _METRICS:
        raise EvaluationError(f"there is a metric {metric.name!r} already.")
    if metric.better not in ("higher", "lower"):
        raise EvaluationError(f'better={metric.better!r} is neither "higher" nor "lower".')
    _METRICS[metric.name] = metric


def _sanity_checks() -> dict[str, tuple[str, Mapping[str, Any]]]:
    return {name: (name, options) for name, options in SANITY_CHECKS.items()}


def choose_metrics(asked: AskedMetrics) -> ChosenMetrics:
    """Metrics by the label of their rows.

    Parameters
    ----------
    asked
        Names, or names (with options) by label; None for the perturbation tests and sanity checks.

    Raises
    ------
    EvaluationError
        When a metric or one of its options is unknown.
    """
    if asked is None:
        asked = {**{name: name for name in DEFAULT_METRICS}, **_sanity_checks()}
    chosen: ChosenMetrics = {}
    for label, entry in labelled(asked, (), "metric").items():
        if not isinstance(entry, tuple):
            raise EvaluationError(
                f"metric {label!r} is a function: register a Metric with it first."
            )
        name, options = entry
        if name not in _METRICS:
            raise EvaluationError(f"unknown metric {name!r}; there are: {', '.join(_METRICS)}.")
        chosen[label] = (_METRICS[name], _METRICS[name].checked(options))
    if not chosen:
        raise EvaluationError("no metric is asked for.")
    return chosen
