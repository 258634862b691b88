"""The commands ``fxplain evaluate`` and ``fxplain metrics``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import typer
from rich import box
from rich.table import Table
from rich.text import Text
from torch import nn

import fxplain
from fxplain.cli.commands import app, opened
from fxplain.cli.data import check_factory_data, check_filler, examples, parse_removals, read_rows
from fxplain.cli.evaluation_options import (
    AsCsv,
    BatchSize,
    Data,
    EvaluatedModel,
    Filler,
    Limit,
    Methods,
    Metric,
    Metrics,
    Modalities,
    Output,
    PartedBy,
    Removals,
    ScoreName,
    Seed,
    StepsName,
    Target,
)
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
    check_open,
)
from fxplain.cli.terminal import errors_reported, progress, progress_bar, quiet, results
from fxplain.errors import LoadError
from fxplain.reports import to_rich
from fxplain.written import json_text

__all__ = ["evaluate", "metrics"]


@app.command()
def evaluate(
    model: EvaluatedModel,
    data: Data = None,
    task: TaskName = None,
    method: Methods = None,
    metric: Metrics = None,
    target: Target = None,
    score: ScoreName = None,
    steps: StepsName = "default",
    modality: Modalities = None,
    removal: Removals = None,
    filler: Filler = None,
    output: Output = None,
    limit: Limit = None,
    batch_size: BatchSize = 32,
    seed: Seed = 0,
    by: PartedBy = None,
    json_: AsJson = False,
    csv_: AsCsv = False,
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
    check_open({"html": html, "open_": open_})
    check_factory_data(model, data, is_factory=is_factory(model))
    _check_formats(json_, csv_, by)
    removals = parse_removals(removal or ())
    check_filler(filler, removals)
    quiet(debug)
    with errors_reported(debug):
        if data is None:
            evaluated = _of_factory(model)
        else:
            explainer = _loaded(model, task, trust_remote_code)
            evaluated = _of_data(explainer, data, limit, batch_size, truncation)
        fills, tokenizer = _filler(filler, evaluated.tokenizer, trust_remote_code)
        with progress_bar("evaluating", evaluated.total) as show_progress:
            found = fxplain.evaluate(
                evaluated.module,
                evaluated.dataset,
                method,
                metric,
                target=target or evaluated.target,
                score=score,
                steps=steps,
                modalities=modality,
                removal=removals,
                output=output or (None if target else evaluated.output),
                tokenizer=tokenizer,
                filler=fills,
                batch_size=batch_size,
                seed=seed,
                progress=show_progress,
            )
        _tell(found, json_, csv_, by)
        if plot:
            found.plot().savefig(plot)
        if html:
            found.to_html(html)
            opened(html, open_)


@app.command()
def metrics(name: Metric = None) -> None:
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


# -- steps of an evaluation -----------------------------------------------------------------------


def _check_formats(as_json: bool, as_csv: bool, by: str | None) -> None:
    if as_json and as_csv:
        raise typer.BadParameter("give --json or --csv, not both.")
    if by and as_csv:
        raise typer.BadParameter("give --by or --csv, not both.")


@dataclass(frozen=True)
class _Evaluated:
    """A model, its data, how many samples these are where it is known, and what is explained."""

    module: nn.Module
    dataset: Iterable[Any]
    tokenizer: Any = None
    total: int | None = None
    target: str | None = None
    output: str | None = None


def _of_factory(name: str) -> _Evaluated:
    with progress(f"calling {name}"):
        return _Evaluated(*load_factory(name))


def _loaded(name: str, task: str | None, trust_remote_code: bool) -> fxplain.Explainer:
    with progress(f"loading {name}"):
        return fxplain.from_pretrained(name, task, trust_remote_code=trust_remote_code)


def _of_data(
    explainer: fxplain.Explainer,
    data: Path,
    limit: int | None,
    batch_size: int,
    truncation: bool | None,
) -> _Evaluated:
    rows = read_rows(data)[:limit]
    asked = examples(explainer, rows, data.parent, batch_size, truncation)
    first = next(asked)  # of rows that can be read there are some, or it is an error
    dataset = (each.example for each in chain([first], asked))
    target = None if first.is_asked else "predicted"
    own = explainer.loaded.tokenizer
    return _Evaluated(first.model, dataset, own, len(rows), target, first.output)


def _filler(
    name: str | None, tokenizer: Any, trust_remote_code: bool
) -> tuple[nn.Module | None, Any]:
    """The masked language model, and a tokenizer that knows the mask token of both.

    Raises
    ------
    LoadError
        When the filler's words have other ids than the model's.
    """
    if name is None:
        return None, tokenizer
    found = _loaded(name, "fill-mask", trust_remote_code)
    own = found.loaded.tokenizer
    if tokenizer is not None and tokenizer.get_vocab() != own.get_vocab():
        raise LoadError(
            f"--filler {name} has another vocabulary than the model, so that its words are other ids: "
            f"give a masked language model with the model's tokenizer."
        )
    return found.model, own if tokenizer is None else tokenizer


def _tell(found: fxplain.Evaluation, as_json: bool, as_csv: bool, by: str | None) -> None:
    parts = found.by(by) if by else {}
    if as_csv:
        typer.echo(found.to_csv(), nl=False)
    elif as_json and by:
        typer.echo(json_text({str(label): part.to_dict() for label, part in parts.items()}))
    elif as_json:
        typer.echo(found.to_json(), nl=False)
    elif by:
        for label, part in parts.items():
            results().print(Text(f"{by} {label}", "bold"), to_rich(part), "", sep="\n")
    else:
        results().print(to_rich(found))
