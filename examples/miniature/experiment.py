"""What an experiment is: parts that each give numbers, and the columns of its table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from examples.miniature.methods import BASELINES, compared_methods
from fxplain.evaluation import Comparison, Row


class Results(Protocol):
    """Numbers of several methods on the same samples, as an `fxplain.Evaluation` holds them."""

    @property
    def methods(self) -> tuple[str, ...]:
        """The labels of the rows, chance last."""
        ...

    @property
    def settings(self) -> Mapping[str, Any]:
        """What the numbers depend on."""
        ...

    def row(self, method: str, metric: str, modality: str | None = None) -> Row:
        """One number."""
        ...

    def compare(self, a: str, b: str, metric: str, modality: str | None = None) -> Comparison:
        """A paired test of two methods."""
        ...


@dataclass(frozen=True)
class Run:
    """What a part is asked for.

    Attributes
    ----------
    samples : int
        How many held-out samples.
    seed : int
        Of all that is drawn.
    methods : mapping
        By label a method's name and options.
    progress : callable
        Told how many samples are done, and of how many.
    """

    samples: int
    seed: int = 0
    methods: Mapping[str, Any] = field(default_factory=compared_methods)
    progress: Callable[[int, int | None], None] | None = None


@dataclass(frozen=True)
class Column:
    """A column of an experiment's table: one number per method.

    Attributes
    ----------
    heading : tuple of str
        From the widest heading, which neighbours may share, to its own.
    part, metric, modality : str
        Where in the experiment's results the number is.
    """

    heading: tuple[str, ...]
    part: str
    metric: str
    modality: str


@dataclass(frozen=True)
class Claim:
    """A finding of the paper's: `generic` is better than others in some columns.

    Attributes
    ----------
    text : str
        In what.
    columns : sequence of Column
    others : tuple of str
    """

    text: str
    columns: Sequence[Column]
    others: tuple[str, ...] = BASELINES


@dataclass(frozen=True)
class Experiment:
    """One of the paper's experiments, on a small model.

    Attributes
    ----------
    name : str
        What the command line calls it.
    title : str
        Of its section.
    model : str
        The kind of model, in a few words.
    weights : Path
        The model's folder.
    about : str
        What is measured, and how.
    paper : str
        What the paper finds.
    parts : mapping
        By name, what gives results; each is kept on its own.
    columns : sequence of Column
        Its table.
    claims : sequence of Claim
        The paper's findings, for the paired tests.
    plots : mapping
        By file name, the part and modality whose curves are drawn.
    """

    name: str
    title: str
    model: str
    weights: Path
    about: str
    paper: str
    parts: Mapping[str, Callable[[Run], Results]]
    columns: Sequence[Column]
    claims: Sequence[Claim]
    plots: Mapping[str, tuple[str, str]] = field(default_factory=dict)


def perturbation_columns(modality: str, name: str, parts: Sequence[str]) -> list[Column]:
    """Negative and positive perturbation of a modality, for each explained class."""
    return [
        Column((f"{name}, {metric}", part), part, metric, modality)
        for metric in ("negative", "positive")
        for part in parts
    ]
