"""The options of ``fxplain evaluate`` and ``fxplain metrics``."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Annotated

import typer

import fxplain
from fxplain.evaluation import REMOVALS, SCORES, STEPS
from fxplain.methods import every_method

__all__ = [
    "AsCsv",
    "BatchSize",
    "Data",
    "EvaluatedModel",
    "Filler",
    "Limit",
    "Methods",
    "Metric",
    "Metrics",
    "Modalities",
    "Output",
    "PartedBy",
    "Removals",
    "ScoreName",
    "Seed",
    "StepsName",
    "Target",
]


def _check(kind: str, names: Collection[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            raise typer.BadParameter(f"unknown {kind} {name!r}; there are: {', '.join(known)}.")


def _known_methods(names: list[str] | None) -> list[str] | None:
    _check("method", names or (), every_method())
    return names or None


def _known_metrics(names: list[str] | None) -> list[str] | None:
    _check("metric", names or (), fxplain.metrics())
    return names or None


def _known_or_no_metric(name: str | None) -> str | None:
    _check("metric", () if name is None else [name], fxplain.metrics())
    return name


EvaluatedModel = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A save_pretrained folder, a hub id, or package.module:factory, a function without "
        "arguments that returns a model and a data set, as `fxplain.evaluate` takes them.",
        show_default=False,
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        "-d",
        help="A CSV, TSV, JSON Lines or Parquet file with the columns that the model reads of text, "
        "pair, "
        "image, video and audio (paths from the file's folder), and label (the true class).",
        exists=True,
        dir_okay=False,
        show_default=False,
    ),
]
Methods = Annotated[
    list[str] | None,
    typer.Option(
        "--method",
        "-m",
        help="One of those that `fxplain methods` lists; several: repeat it. By default all.",
        callback=_known_methods,
        show_default=False,
    ),
]
Metrics = Annotated[
    list[str] | None,
    typer.Option(
        "--metric",
        help="One of those that `fxplain metrics` lists; several: repeat it. By default the "
        "perturbation tests, and two sanity checks of the first samples.",
        callback=_known_metrics,
        show_default=False,
    ),
]
Target = Annotated[
    str | None,
    typer.Option(
        "--target",
        help="predicted or true class. By default what `fxplain explain` explains: the predicted "
        "class, an answer, a masked word; of a factory's data set, what each example asks for.",
        show_default=False,
    ),
]
ScoreName = Annotated[
    str | None,
    typer.Option(
        "--score",
        help=", ".join(SCORES) + ". By default the probability, or, where no class is explained, "
        "the explained number.",
        show_default=False,
    ),
]
StepsName = Annotated[
    str, typer.Option("--steps", help="Shares of tokens that go: " + ", ".join(STEPS) + ".")
]
Modalities = Annotated[
    list[str] | None,
    typer.Option(
        "--modality",
        help="An input's name, or joint for all ranked together; several: repeat it.",
        show_default=False,
    ),
]
Removals = Annotated[
    list[str] | None,
    typer.Option(
        "--removal",
        metavar="[MODALITY=]NAME",
        help="How tokens are removed: " + ", ".join(REMOVALS) + ".",
        show_default=False,
    ),
]
Filler = Annotated[
    str | None,
    typer.Option(
        "--filler",
        metavar="MODEL",
        help="For --removal filled: a masked language model of the same vocabulary, a folder or a "
        "hub id, that draws the words that stand for the removed ones.",
        show_default=False,
    ),
]
Output = Annotated[
    str | None,
    typer.Option("--output", help="The output field, where it is not obvious.", show_default=False),
]
Limit = Annotated[
    int | None,
    typer.Option("--limit", min=1, help="Only the first lines of --data.", show_default=False),
]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1)]
Seed = Annotated[int, typer.Option("--seed", help="Of everything drawn.")]
PartedBy = Annotated[
    str | None,
    typer.Option("--by", help="Numbers for each class, or each group.", show_default=False),
]
AsCsv = Annotated[bool, typer.Option("--csv", help="Print CSV and nothing else.")]
Metric = Annotated[
    str | None,
    typer.Argument(
        help="One metric, to list its options.",
        callback=_known_or_no_metric,
        show_default=False,
    ),
]
