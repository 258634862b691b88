"""Curves as pictures: the paper's methods, the default with corrected gradients, and chance."""

from __future__ import annotations

from pathlib import Path

from examples.miniature.experiment import Experiment
from examples.miniature.findings import Found
from examples.miniature.methods import BASELINES, CORRECTED, GENERIC
from fxplain.evaluation import RANDOM, Evaluation

SHOWN = (GENERIC, CORRECTED, "transformer_attribution", *BASELINES, RANDOM)
METRICS = ("negative", "positive")
DPI = 80


def draw(experiment: Experiment, found: Found, folder: Path) -> None:
    """Write the curves of negative and positive perturbation, a picture per plot."""
    for name, (part, modality) in experiment.plots.items():
        results = found[part]
        assert isinstance(results, Evaluation)
        folder.mkdir(parents=True, exist_ok=True)
        figure = shown(results).plot(modality=modality)
        figure.savefig(folder / f"{name}.png", dpi=DPI)


def shown(results: Evaluation) -> Evaluation:
    """The same results without what no picture shows."""

    def is_shown(method: str, metric: str) -> bool:
        return method in SHOWN and metric in METRICS

    return Evaluation(
        samples={k: v for k, v in results.samples.items() if is_shown(k.method, k.metric)},
        points={k: v for k, v in results.points.items() if is_shown(k.method, k.metric)},
        metrics={name: results.metrics[name] for name in METRICS},
        settings=results.settings,
    )
