"""The commands ``fxplain evaluate`` and ``fxplain metrics``."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.table import Table
from rich.text import Text

import fxplain
from fxplain.cli.commands import app, opened
from fxplain.cli.data import check_factory_data, examples, parse_removals, read_rows
from fxplain.cli.factory import is_factory, load_factory
from fxplain.cli.options import (
    AsJson,
    Debug,
    HtmlFile,
    OpenIt,
    Plot,
    TaskName,
    Truncation,
    TrustRemoteCode,
)
from fxplain.cli.terminal import errors_reported, progress, progress_bar, quiet, results
from fxplain.evaluation import REMOVALS, SCORES, STEPS
from fxplain.methods import every_method
from fxplain.reports import to_rich

__all__ = ["evaluate", "metrics"]


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


@app.command()
def evaluate(
    model: EvaluatedModel,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            "-d",
            help="A CSV or JSON Lines file with the columns that the model reads of text, pair, "
            "image and audio (paths from the file's folder), and label (the true class).",
            exists=True,
            dir_okay=False,
            show_default=False,
        ),
    ] = None,
    task: TaskName = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            "-m",
            help="One of those that `fxplain methods` lists; several: repeat it. By default all.",
            callback=_known_methods,
            show_default=False,
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            help="One of those that `fxplain metrics` lists; several: repeat it. By default the "
            "perturbation tests.",
            callback=_known_metrics,
            show_default=False,
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            help="predicted or true class. By default the predicted one; of a factory's data set, "
            "what each example asks for.",
            show_default=False,
        ),
    ] = None,
    score: Annotated[str, typer.Option("--score", help=", ".join(SCORES) + ".")] = "probability",
    steps: Annotated[
        str, typer.Option("--steps", help="Shares of tokens that go: " + ", ".join(STEPS) + ".")
    ] = "default",
    modality: Annotated[
        list[str] | None,
        typer.Option(
            "--modality",
            help="An input's name, or joint for all ranked together; several: repeat it.",
            show_default=False,
        ),
    ] = None,
    removal: Annotated[
        list[str] | None,
        typer.Option(
            "--removal",
            metavar="[MODALITY=]NAME",
            help="How tokens are removed: " + ", ".join(REMOVALS) + ".",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", help="The output field, where it is not obvious.", show_default=False
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=1, help="Only the first lines of --data.", show_default=False),
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1)] = 32,
    seed: Annotated[int, typer.Option("--seed", help="Of everything drawn.")] = 0,
    by: Annotated[
        str | None,
        typer.Option("--by", help="Numbers for each class, or each group.", show_default=False),
    ] = None,
    json_: AsJson = False,
    csv_: Annotated[bool, typer.Option("--csv", help="Print CSV and nothing else.")] = False,
    plot: Plot = None,
    html: HtmlFile = None,
    open_: OpenIt = False,
    truncation: Truncation = None,
    trust_remote_code: TrustRemoteCode = False,
    debug: Debug = False,
) -> None:
    """Ask which explanations to believe, on a model and data of your own: methods by metrics.

    With --by, a table for each class or group (a column of the data); JSON is then an object by
    class or group.

    JSON keys: settings, rows (method, metric, modality, value, low, high, samples, better), curves
    (method, metric, modality, x, mean, low, high).
    """
    check_factory_data(model, data, is_factory=is_factory(model))
    if json_ and csv_:
        raise typer.BadParameter("give --json or --csv, not both.")
    if by and csv_:
        raise typer.BadParameter("give --by or --csv, not both.")
    removals = parse_removals(removal or ())
    quiet(debug)
    with errors_reported(debug):
        tokenizer, total = None, None
        if data is None:
            with progress(f"calling {model}"):
                module, dataset = load_factory(model)
        else:
            rows = read_rows(data)[:limit]
            with progress(f"loading {model}"):
                explainer = fxplain.from_pretrained(
                    model, task, trust_remote_code=trust_remote_code
                )
            module, tokenizer, total = explainer.model, explainer.loaded.tokenizer, len(rows)
            dataset = examples(explainer, rows, data.parent, batch_size, truncation)
        with progress_bar("evaluating", total) as show_progress:
            found = fxplain.evaluate(
                module,
                dataset,
                method,
                metric,
                target=target or (None if data is None else "predicted"),
                score=score,
                steps=steps,
                modalities=modality,
                removal=removals,
                output=output,
                tokenizer=tokenizer,
                batch_size=batch_size,
                seed=seed,
                progress=show_progress,
            )
        if csv_:
            typer.echo(found.to_csv(), nl=False)
        else:
            _print(found, json_, by)
        if plot:
            found.plot().savefig(plot)
        if html:
            found.to_html(html)
            opened(html, open_)


@app.command()
def metrics(
    name: Annotated[
        str | None,
        typer.Argument(
            help="One metric, to list its options.",
            callback=_known_or_no_metric,
            show_default=False,
        ),
    ] = None,
) -> None:
    """List the metrics of explanations, or the options of one."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    if name is None:
        for heading in ("metric", "better", "about", "source"):
            table.add_column(heading, overflow="fold")
        for metric in fxplain.metrics().values():
            table.add_row(
                Text(metric.name, "bold"), metric.better, Text(metric.about), Text(metric.source)
            )
        results().print(table)
        return
    metric = fxplain.metrics()[name]
    results().print(Text(f"{name}: {metric.about}", "bold"))
    results().print(Text(f"better: {metric.better}\nsource: {metric.source}\n"))
    for heading in ("option", "default"):
        table.add_column(heading, overflow="fold")
    for key, default in metric.options.items():
        table.add_row(Text(key, "bold"), "as the evaluation" if default is None else str(default))
    results().print(table)


def _print(found: fxplain.Evaluation, as_json: bool, by: str | None) -> None:
    parts = found.by(by) if by else {}
    if as_json and by:
        typer.echo(json.dumps({str(label): part.to_dict() for label, part in parts.items()}))
    elif as_json:
        typer.echo(found.to_json(), nl=False)
    for label, part in parts.items() if not as_json else ():
        results().print(Text(f"{by} {label}", "bold"), to_rich(part), "", sep="\n")
    if not by and not as_json:
        results().print(to_rich(found))
