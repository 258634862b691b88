"""The commands of ``fxplain corpus``: explain a file, sum it up, compare two, write its index."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

import fxplain
from fxplain import corpora
from fxplain.cli.commands import app, show
from fxplain.cli.inputs import parse_options, parse_targets
from fxplain.cli.options import (
    AsJson,
    Debug,
    MethodName,
    MethodOptions,
    TaskName,
    Truncation,
    TrustRemoteCode,
)
from fxplain.cli.terminal import errors_reported, messages, note, progress, quiet, results
from fxplain.written import rounded

corpus = typer.Typer(
    help="Explain every row of a file, and see what stands out.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(corpus, name="corpus")

CLASSES = 20
"""Of how many classes a summary tells."""

Folder = Annotated[
    Path,
    typer.Argument(metavar="DIR", help="What `fxplain corpus explain` wrote.", show_default=False),
]
By = Annotated[
    str,
    typer.Option("--by", help="What drives classes: word, piece, position, region or column."),
]
Minimum = Annotated[
    int, typer.Option("--minimum", min=1, help="In how many rows a word has to occur.")
]


def _column(name: str, what: str) -> Any:
    about = f"The column of {what}; by default told by its heading."
    return typer.Option(name, help=about, show_default=False)


@corpus.command("explain")
def explain_command(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A save_pretrained folder or a hub id.", show_default=False
        ),
    ],
    data: Annotated[
        str,
        typer.Option(
            "--data",
            help="A CSV, TSV, JSON Lines, Parquet or .txt file, a folder of these, of images or of "
            "recordings, or a glob in quotes.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", help="The folder for the rows.", show_default=False)
    ],
    text: Annotated[str | None, _column("--text", "texts")] = None,
    pair: Annotated[str | None, _column("--pair", "each text's second text")] = None,
    image: Annotated[str | None, _column("--image", "image files")] = None,
    audio: Annotated[str | None, _column("--audio", ".wav files")] = None,
    id_: Annotated[str | None, _column("--id", "ids")] = None,
    label: Annotated[str | None, _column("--label", "true labels")] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            "--target",
            help="A class index or label, or a column of them; several: a row for each. By default "
            "what the model predicts.",
            show_default=False,
        ),
    ] = None,
    task: TaskName = None,
    truncation: Truncation = None,
    method: MethodName = "auto",
    option: MethodOptions = None,
    workers: Annotated[int, typer.Option("--workers", "-w", min=1, help="How many processes.")] = 1,
    engine: Annotated[str, typer.Option("--engine", help="local or ray.")] = "local",
    batch_tokens: Annotated[
        int | None,
        typer.Option(
            "--batch-tokens",
            min=1,
            help=f"Tokens in a batch at most; by default {corpora.BATCH_TOKENS}, and on a GPU "
            f"{corpora.ACCELERATOR_TOKENS:,}.",
            show_default=False,
        ),
    ] = None,
    shard_rows: Annotated[
        int, typer.Option("--shard-rows", min=1, help="Rows in a file.")
    ] = corpora.SHARD_ROWS,
    device: Annotated[
        str | None, typer.Option("--device", help="Such as cuda.", show_default=False)
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Go on with the rows that are there.")
    ] = True,
    retry_errors: Annotated[
        bool, typer.Option("--retry-errors", help="Try rows again that had an error.")
    ] = False,
    stop: Annotated[
        bool, typer.Option("--stop-at-error", help="End at the first row with an error.")
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option("--report", help="Write the index into this folder.", show_default=False),
    ] = None,
    trust_remote_code: TrustRemoteCode = False,
    debug: Debug = False,
) -> None:
    """Explain every row of a file into a folder of Parquet files.

    The same command again goes on where it stopped, whatever stopped it.
    """
    quiet(debug)
    with errors_reported(debug), _said_when_stopped(), _bar() as told:
        load = {"task": task, "device": device, "trust_remote_code": trust_remote_code}
        found = corpora.explain_corpus(
            model,
            data,
            out,
            text=text,
            pair=pair,
            image=image,
            audio=audio,
            id=id_,
            label=label,
            target=parse_targets(target or ()),
            method=method,
            truncation=truncation,
            engine=engine,
            workers=workers,
            batch_tokens=batch_tokens,
            shard_rows=shard_rows,
            resume=resume,
            retry_errors=retry_errors,
            on_error="raise" if stop else "record",
            load=load,
            progress=told,
            **parse_options(method, option or ()),
        )
        page = corpora.write_report(found, report) if report else None
    _warn(found.warnings)
    failed = f", {found.failed:,} with an error in their place" if found.failed else ""
    results().print(Text(f"{len(found):,} rows in {out}{failed}"))
    if page:
        results().print(Text(f"reported in {page}"))


@contextmanager
def _said_when_stopped() -> Iterator[None]:
    """What Ctrl-C leaves, said below the bar."""
    try:
        yield
    except KeyboardInterrupt:
        note("stopped; the same command goes on where it was")
        raise


def _warn(warnings: Sequence[str]) -> None:
    for warning in warnings:
        messages().print(Text(f"warning: {warning}", style="yellow"))


@contextmanager
def _bar() -> Iterator[Callable[[corpora.Progress], None]]:
    """A bar with the rate, the time left, and the errors so far, where somebody watches."""
    columns = (
        TextColumn("explaining"),
        BarColumn(),
        TextColumn(
            "{task.fields[rows]:,} rows, {task.fields[errors]:,} errors, {task.fields[rate]}"
        ),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=messages(), transient=True) as bar:
        job = bar.add_task("explaining", total=None, rows=0, errors=0, rate="")

        def show(now: corpora.Progress) -> None:
            seconds = bar.tasks[0].elapsed or 0.0
            own = now.rows - now.before
            rate = f"{own / seconds:.1f} rows/s" if own and seconds else ""
            bar.update(
                job,
                completed=now.rows,
                total=now.total,
                rows=now.rows,
                errors=now.errors,
                rate=rate,
            )

        yield show


@corpus.command("summary")
def summary_command(
    folder: Folder,
    by: By = "word",
    minimum: Minimum = 5,
    json_: AsJson = False,
    debug: Debug = False,
) -> None:
    """Which words drive each class, which rows to look at, duplicates and leaks.

    JSON keys: rows, errors, complete, classes (name, rows, probability, wrong), drivers (target_name,
    feature, count, share, low, high, examples), wrong, unsure, duplicates, leaks, warnings.
    """
    quiet(debug)
    with errors_reported(debug):
        with progress("summing up"):
            found = corpora.summarise(fxplain.load_corpus(folder), by, minimum)
        if json_:
            show(found.to_dict(), json_)
            return
        _warn(found.warnings)
        for part in _summary_parts(found):
            results().print(part)


def _summary_parts(found: corpora.Summary) -> Iterator[Any]:
    state = "" if found.complete else ", not complete"
    errors = ", ".join(f"{count:,} {name}" for name, count in found.errors.items())
    yield Text(f"{found.rows:,} rows{state}; errors: {errors or 'none'}")
    classes = _table("class", "rows", "mean probability", "label differs")
    for one in found.classes[:CLASSES]:
        sure = "" if one.probability is None else f"{one.probability:.1%}"
        classes.add_row(
            one.name, f"{one.rows:,}", sure, "" if one.wrong is None else f"{one.wrong:,}"
        )
    yield classes
    by_class = corpora.by_class(found.drivers, 10)
    for name, drivers in list(by_class.items())[:CLASSES]:
        table = _table(f"what drives {name}", "mean share", "95% interval", "rows", "such as")
        for d in drivers:
            span = f"{rounded(d.low, '.1%')} to {rounded(d.high, '.1%')}"
            share, examples = rounded(d.share, ".1%"), ", ".join(d.examples)
            table.add_row(d.feature, share, span, f"{d.count:,}", examples)
        yield table
    if len(by_class) > CLASSES:
        yield Text(f"{len(by_class) - CLASSES:,} rarer classes are left out (--json has them)")
    if found.wrong:
        yield Text(f"label differs, the surest first: {', '.join(found.wrong)}")
    if found.unsure:
        yield Text(f"least sure: {', '.join(found.unsure)}")
    for names, labels in found.duplicates[:10]:
        differ = f" with {labels} labels" if labels > 1 else ""
        yield Text(f"the same text{differ}: {', '.join(names[:10])}")
    for leak in found.leaks:
        yield Text(
            f"leak? the label's name {leak.label!r} stands in {leak.rows:,} of its texts and carries "
            f"{leak.share:.0%} of their relevance"
        )


@corpus.command("compare")
def compare_command(
    first: Folder,
    second: Folder,
    by: By = "word",
    top: Annotated[int, typer.Option("--top", min=1, help="How many words of a row overlap.")] = 5,
    minimum: Minimum = 5,
    json_: AsJson = False,
    debug: Debug = False,
) -> None:
    """How far two explanations of the same rows agree, and which words moved.

    Of data with no row in common (of two dates) the corpora are compared as wholes.

    JSON keys: rows, only_first, only_second, same_target, rank_correlation, overlap, top, moved
    (feature, rows, first, second, error), farthest, different, other_text, classes (as moved).
    """
    quiet(debug)
    with errors_reported(debug):
        with progress("comparing"):
            opened = (fxplain.load_corpus(first), fxplain.load_corpus(second))
            found = corpora.compare(*opened, by=by, top=top, minimum=minimum)
        if json_:
            show(found.to_dict(), json_)
            return
        if found.rows and found.other_text:
            said = "their ids name different rows (--id says which column holds them)"
            count = f"in {found.other_text:,} of {found.rows:,} rows the text is another"
            _warn([f"{count}: {said}, and these are compared"])
        results().print(
            Text(f"made with different: {', '.join(found.different) or 'nothing'}\n").append(
                "\n".join(_rows_agree(found) if found.rows else _no_row_in_common(found))
            )
        )
        for heading, moved in (("class", found.classes), ("moved", found.moved[:20])):
            _show_moved(heading, moved)
        if found.farthest:
            names = ", ".join(
                f"{name} ({rounded(value, '.2f')})" for name, value in found.farthest[:10]
            )
            results().print(Text(f"farthest apart: {names}"))


def _rows_agree(found: corpora.Drift) -> Iterator[str]:
    yield (
        f"{found.rows:,} rows in both; {found.only_first:,} only in the first, "
        f"{found.only_second:,} only in the second"
    )
    told = (found.same_target, found.rank_correlation, found.overlap)
    same, correlation, overlap = (value or 0.0 for value in told)
    yield f"same class explained: {same:.1%}"
    yield f"rank correlation: {rounded(correlation, '.3f')}"
    yield f"top {found.top} in common: {overlap:.1%}"


def _no_row_in_common(found: corpora.Drift) -> Iterator[str]:
    yield (
        f"no row in common ({found.only_first:,} in the first, {found.only_second:,} in the second): "
        f"compared as wholes"
    )
    yield (
        "what part of the rows each class has, and what part of all relevance each word carries (± the "
        "standard error of the difference; first what chance does not explain)"
    )


def _show_moved(heading: str, moved: Sequence[corpora.Moved]) -> None:
    if not moved:
        return
    unsure = any(one.error is not None for one in moved)
    table = _table(heading, "first", "second", *(["±"] if unsure else []), "rows")
    for one in moved:
        numbers = [one.first, one.second, *([one.error or 0.0] if unsure else [])]
        table.add_row(one.feature, *(rounded(n, ".1%") for n in numbers), f"{one.rows:,}")
    results().print(table)


@corpus.command("report")
def report_command(
    folder: Folder,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Where to; by default DIR/report.", show_default=False),
    ] = None,
    by: By = "word",
    minimum: Minimum = 5,
    rows: Annotated[
        int, typer.Option("--rows", min=1, help="How many rows are shown at most.")
    ] = corpora.MOST_ROWS,
    debug: Debug = False,
) -> None:
    """Write an index of all rows: shaded texts to search, sort and filter, opened from disk."""
    quiet(debug)
    with errors_reported(debug):
        with progress("writing the report"):
            opened = fxplain.load_corpus(folder)
            page = corpora.write_report(
                opened, out or folder / "report", by=by, minimum=minimum, rows=rows
            )
        results().print(Text(f"reported in {page}"))


def _table(*headings: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in headings:
        table.add_column(Text(heading), overflow="fold")
    return table
