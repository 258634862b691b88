"""The door: `explain_corpus`."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from fxplain.arguments import (
    FUNCTION,
    MAPPING,
    PATH,
    TEXT,
    YES_NO,
    checked,
    one_of,
    optional,
    whole,
)
from fxplain.capture import first_parameter
from fxplain.corpora.arrow import arrow
from fxplain.corpora.corpus import Corpus, load_corpus
from fxplain.corpora.explainer import CorpusExplainer
from fxplain.corpora.job import MANIFEST, Manifest
from fxplain.corpora.layout import KINDS, NUMBER, UNREADABLE, Layout
from fxplain.corpora.left import Kept, Left
from fxplain.corpora.pool import Order, in_pool, threads_each
from fxplain.corpora.ray_data import on_ray
from fxplain.corpora.reading import open_data
from fxplain.corpora.run import Progress, Run
from fxplain.corpora.shards import LOCK, alone, clear_aside
from fxplain.corpora.tasks import Done, Output, do
from fxplain.errors import InputError
from fxplain.pipelines import Explainer
from fxplain.written import saving

__all__ = ["explain_corpus"]

SHARD_ROWS = 1000
LOOKED_AT = 100
"""Rows that are looked at for the names of columns."""


_COLUMN = optional(TEXT)


@checked(
    out=PATH,
    text=_COLUMN,
    pair=_COLUMN,
    image=_COLUMN,
    audio=_COLUMN,
    id=_COLUMN,
    label=_COLUMN,
    truncation=optional(YES_NO),
    engine=one_of(("local", "ray")),
    workers=whole(1, 1 << 10),
    batch_tokens=optional(whole(1, 1 << 31)),
    shard_rows=whole(1, 1 << 31),
    resume=YES_NO,
    retry_errors=YES_NO,
    on_error=one_of(("record", "raise")),
    load=optional(MAPPING),
    progress=optional(FUNCTION),
)
def explain_corpus(
    model: Explainer | str | Path,
    data: Any,
    out: str | Path,
    *,
    engine: str = "local",
    workers: int = 1,
    shard_rows: int = SHARD_ROWS,
    resume: bool = True,
    retry_errors: bool = False,
    load: Mapping[str, Any] | None = None,
    progress: Callable[[Progress], None] | None = None,
    **how: Any,
) -> Corpus:
    """Explain every row of some data into a folder of Parquet files.

    A run that was killed is taken up where it stopped by the same call: whole files are kept, no row
    is missing or there twice.

    Parameters
    ----------
    model
        A `fxplain.Explainer`, or what `fxplain.from_pretrained` loads.
    data
        A path to CSV, TSV, JSON Lines, Parquet or plain text (a text a line), a folder of such files,
        of images or of recordings, a glob, a `datasets.Dataset`, a table of pandas, Arrow, Polars or
        DuckDB, columns by name, or anything that yields mappings or strings.
    out
        The folder, made where there is none.
    engine
        "local": this machine. "ray": an actor pool of Ray Data, on this machine or on the cluster that
        Ray is connected to, whose machines all see `out` and the data.
    workers
        How many processes; 1 works in this one, unless the engine is Ray. Several load the model once
        each, and share out the threads that torch has.
    shard_rows
        How many rows a file holds; a run that is taken up goes on with its own number.
    resume
        Whether a run in this folder is taken up; False refuses a folder with rows.
    retry_errors
        Whether rows that had an error are tried again.
    load
        For `fxplain.from_pretrained`: ``task``, ``device``, ``dtype``, ...
    progress
        Called after each file.
    **how
        As `fxplain.CorpusExplainer` takes them: the columns (``text``, ``pair``, ``image``, ``audio``,
        ``id``, ``label``), ``target``, ``method``, ``truncation``, ``batch_tokens``, ``on_error``, and
        options of the task and of the method.

    Returns
    -------
    Corpus
        As `fxplain.load_corpus` opens it.

    Raises
    ------
    InputError
        When columns are missing, or the folder holds another job's rows or another run writes to it.
    LoadError
        When the model or the data cannot be loaded.
    FxplainError
        When the model cannot be explained at all.
    SaveError
        When the folder cannot be written to, or the disk is full.
    MissingExtraError
        Without pyarrow (``pip install 'fxplain[corpus]'``), or Ray (``fxplain[ray]``).
    """
    arrow()
    if isinstance(model, Explainer) and load:
        raise InputError("load= is for a model that is given by its name; this one is loaded.")
    opened = open_data(data)
    rows = opened.rows()
    first = list(islice(rows, LOOKED_AT))
    if not first:
        raise InputError("the data has no rows.")
    columns = tuple(dict.fromkeys(name for row in first for name in row))
    if columns == (UNREADABLE,):
        raise InputError(f"none of the first rows can be read: {first[0][UNREADABLE]}")
    Layout(**{kind: how[kind] for kind in KINDS if kind in how}).found_in(
        columns
    )  # before the model
    explain = CorpusExplainer(model, load=load, **how)
    layout = explain.layout_of(columns)
    layout = layout if layout.id else replace(layout, id=NUMBER)
    explain.job = replace(explain.job, layout=layout)
    manifest = Manifest.of(explain.explainer, explain.job, opened.identity, shard_rows)
    with saving(out):
        folder, manifest = _folder(Path(out), manifest, resume)
    output = Output(folder, manifest.constants, (*columns, NUMBER), opened.folder)
    run = Run(explain.job, output, opened.count, progress)
    left = Left(folder, manifest.shard_rows, explain.job.targets, retry_errors)
    done: Generator[Done | Kept, None, None]
    with alone(folder):
        clear_aside(folder)
        manifest.write(folder)
        if engine == "local" and workers == 1:
            done = (do(task, explain, output) for task in run.new(left.of(chain(first, rows))))
        else:
            order = _order(explain, model, load, manifest, output, workers)
            del explain  # the workers have their own
            if engine == "ray":
                done = on_ray(opened, left, order, workers)
            else:
                tasks = run.new(left.of(chain(first, rows)))
                done = in_pool(tasks, order, workers, run.split, run.dead)
        with closing(done):
            run.follow(done)
        replace(manifest, complete=True).write(folder)
    return load_corpus(folder)


def _folder(folder: Path, manifest: Manifest, resume: bool) -> tuple[Path, Manifest]:
    """The folder, and the manifest for it."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{str(folder)!r} is a file; rows go into a folder.")
    if (folder / MANIFEST).exists():
        there = Manifest.read(folder)
        if not resume:
            raise InputError(
                f"{str(folder)!r} holds rows already: resume=True goes on with them, or write to "
                f"another folder."
            )
        manifest.check(there, folder)
        manifest = replace(manifest, shard_rows=there.shard_rows)
    elif folder.is_dir() and any(path.name != LOCK for path in folder.iterdir()):
        raise InputError(f"the folder {str(folder)!r} holds other files: write to a new one.")
    folder.mkdir(parents=True, exist_ok=True)
    return folder, manifest


def _order(
    explain: CorpusExplainer,
    model: Any,
    load: Mapping[str, Any] | None,
    manifest: Manifest,
    output: Output,
    workers: int,
) -> Order:
    """How a worker loads the very same model."""
    explainer, said = explain.explainer, dict(load or {})
    if isinstance(model, Explainer):
        said = {"task": explainer.task.name}
        weights = first_parameter(explainer.model, floating=True)
        if weights is not None:
            said |= {"device": str(weights.device), "dtype": weights.dtype}
    name = explainer.loaded.name if isinstance(model, Explainer) else str(model)
    weights_said = str(manifest.facts["weights"])
    return Order(name, said, weights_said, explain.job, output, threads_each(workers))
