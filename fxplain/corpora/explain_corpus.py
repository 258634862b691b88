"""The door: `explain_corpus`."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from fxplain.corpora.arrow import arrow, parquet
from fxplain.corpora.corpus import Corpus, load_corpus
from fxplain.corpora.explainer import BATCH_TOKENS, CorpusExplainer
from fxplain.corpora.job import MANIFEST, Job, Manifest
from fxplain.corpora.layout import NUMBER, Layout
from fxplain.corpora.pool import Order, in_pool, threads_each
from fxplain.corpora.reading import Data, Row, in_shards, open_data
from fxplain.corpora.schema import failed_row
from fxplain.corpora.shards import clear_aside, finished, shard_path
from fxplain.corpora.tasks import Assembly, Done, Output, Task, dead_row, do
from fxplain.errors import InputError, MissingExtraError
from fxplain.pipelines import Explainer, from_pretrained

__all__ = ["Progress", "explain_corpus"]

SHARD_ROWS = 1000
LOOKED_AT = 100
"""Rows that are looked at for the names of columns."""


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes
    ----------
    rows, errors
        Rows of the data that are explained, those of earlier runs included, and rows of the result
        that have an error.
    total
        How many rows there are, where that is known.
    before
        How many of `rows` earlier runs explained.
    """

    rows: int
    errors: int
    total: int | None
    before: int


def explain_corpus(
    model: Explainer | str | Path,
    data: Any,
    out: str | Path,
    *,
    text: str | None = None,
    pair: str | None = None,
    image: str | None = None,
    audio: str | None = None,
    id: str | None = None,
    label: str | None = None,
    target: Any = None,
    method: str = "generic",
    truncation: bool | None = None,
    engine: str = "local",
    workers: int = 1,
    batch_tokens: int = BATCH_TOKENS,
    shard_rows: int = SHARD_ROWS,
    resume: bool = True,
    retry_errors: bool = False,
    on_error: str = "record",
    load: Mapping[str, Any] | None = None,
    progress: Callable[[Progress], None] | None = None,
    **options: Any,
) -> Corpus:
    """Explain every row of some data into a folder of Parquet files.

    A run that was killed is taken up where it stopped by the same call: whole files are kept, no row
    is missing or there twice.

    Parameters
    ----------
    model
        A `fxplain.Explainer`, or what `fxplain.from_pretrained` loads.
    data
        A path to CSV, TSV, JSON Lines or Parquet, a folder of such files, of images or of recordings,
        a glob, a `datasets.Dataset`, columns by name, or anything that yields mappings or strings.
    out
        The folder, made where there is none.
    text, pair, image, audio, id, label
        Names of the data's columns; by default told by their headings. Without ids rows are numbered.
    target
        As `fxplain.CorpusExplainer` takes it.
    method
        One of `fxplain.methods()`.
    truncation
        Of texts that are longer than the model takes: True cuts them; by default they are errors.
    engine
        "local": this machine.
    workers
        How many processes; 1 works in this one. Several load the model once each, and share out the
        threads that torch has.
    batch_tokens
        How many tokens a batch holds at most; a GPU is quicker with more than the default.
    shard_rows
        How many rows a file holds; a run that is taken up goes on with its own number.
    resume
        Whether a run in this folder is taken up; False refuses a folder with rows.
    retry_errors
        Whether rows that had an error are tried again.
    on_error
        "record" writes a row's error into its `error` cell; "raise" ends at the first.
    load
        For `fxplain.from_pretrained`: ``task``, ``device``, ``dtype``, ...
    progress
        Called after each file.
    **options
        Of the task and of the method.

    Returns
    -------
    Corpus
        As `fxplain.load_corpus` opens it.

    Raises
    ------
    InputError
        When columns are missing, or the folder holds another job's rows.
    LoadError
        When the model or the data cannot be loaded.
    FxplainError
        When the model cannot be explained at all.
    MissingExtraError
        Without pyarrow (``pip install 'fxplain[corpus]'``).
    """
    arrow()
    _check_engine(engine, workers, shard_rows)
    opened = open_data(data)
    rows = opened.rows()
    first = list(islice(rows, LOOKED_AT))
    columns = tuple(dict.fromkeys(name for row in first for name in row))
    layout = Layout(text, pair, image, audio, id, label).found_in(columns)
    layout = layout if layout.id else replace(layout, id=NUMBER)
    job = Job(layout, target, method, truncation, on_error, options, batch_tokens)
    explainer = model if isinstance(model, Explainer) else from_pretrained(model, **load or {})
    explain = CorpusExplainer(explainer, **job.keywords())
    manifest = Manifest.of(explainer, job, opened.identity, shard_rows)
    folder, manifest = _folder(Path(out), manifest, resume)
    output = Output(folder, manifest.constants, (*columns, NUMBER))
    run = Run(job, output, manifest, opened, progress)
    tasks = run.tasks(chain(first, rows), retry_errors)
    done: Generator[Done, None, None]
    if workers == 1:
        done = (do(task, explain, output) for task in tasks)
    else:
        order = _order(explainer, model, load, manifest, job, output, workers)
        del explainer, explain  # the workers have their own
        done = in_pool(tasks, order, workers, run.split, run.dead)
    with closing(done):
        run.follow(done)
    replace(manifest, complete=True).write(folder)
    return load_corpus(folder)


def _check_engine(engine: str, workers: Any, shard_rows: Any) -> None:
    if engine == "ray":
        raise MissingExtraError(
            "engine='ray' is not there yet: give fxplain.CorpusExplainer to Ray Data's map_batches, "
            "as docs/how-to/explain-a-corpus.md shows, or use engine='local'."
        )
    if engine != "local":
        raise InputError(f"engine is 'local', not {engine!r}.")
    for name, value in (("workers", workers), ("shard_rows", shard_rows)):
        if not isinstance(value, int) or value < 1:
            raise InputError(f"{name} is a whole number from 1 on, not {value!r}.")


def _folder(folder: Path, manifest: Manifest, resume: bool) -> tuple[Path, Manifest]:
    """The folder, with this job's manifest in it."""
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
    elif folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"the folder {str(folder)!r} holds other files: write to a new one.")
    folder.mkdir(parents=True, exist_ok=True)
    clear_aside(folder)
    manifest.write(folder)
    return folder, manifest


def _order(
    explainer: Explainer,
    model: Any,
    load: Mapping[str, Any] | None,
    manifest: Manifest,
    job: Job,
    output: Output,
    workers: int,
) -> Order:
    """How a worker loads the very same model."""
    said = dict(load or {})
    if isinstance(model, Explainer):
        weights = next(explainer.model.parameters())
        said = {"task": explainer.task.name, "device": str(weights.device), "dtype": weights.dtype}
    name = explainer.loaded.name if isinstance(model, Explainer) else str(model)
    return Order(name, said, str(manifest.facts["weights"]), job, output, threads_each(workers))


@dataclass
class Run:
    """One run over the data: which shards are left, and how far it is."""

    job: Job
    output: Output
    manifest: Manifest
    data: Data
    progress: Callable[[Progress], None] | None
    rows: int = 0
    errors: int = 0
    before: int = 0

    def __post_init__(self) -> None:
        targets = len(self.job.target) if isinstance(self.job.target, list) else 1
        self.assembly = Assembly(self.output, targets)

    def tasks(self, rows: Iterator[Row], retry_errors: bool) -> Iterator[Task]:
        """The shards that are left, in the data's order."""
        there = finished(self.output.folder)
        numbered = ({**row, NUMBER: number} for number, row in enumerate(rows))
        for shard, part in enumerate(in_shards(numbered, self.manifest.shard_rows)):
            count, errors = there.get(shard, (0, 0))
            if count != len(part):  # not there, or of data that has grown
                yield Task(shard, part)
            elif errors and retry_errors:
                yield self._retried(shard, part)
            else:
                self.rows += count
                self.before += count
                self.errors += errors
                self._tell()

    def _retried(self, shard: int, part: list[Row]) -> Task:
        path = shard_path(self.output.folder, shard)
        errors = parquet().read_table(path, columns=["error"])["error"].to_pylist()
        failed = {i // self.assembly.targets for i, error in enumerate(errors) if error is not None}
        places = tuple(sorted(failed))
        self.assembly.keep(shard, len(part), places)
        self.rows += len(part) - len(places)
        return Task(shard, [part[place] for place in places], places)

    def split(self, task: Task) -> None:
        """A shard comes in parts."""
        self.assembly.sizes[task.shard] = len(task.rows)

    def dead(self, task: Task) -> Done:
        """The row that workers die of has that as its error."""
        layout = self.job.layout

        def said(row: Row) -> dict[str, Any]:
            known = {k: row.get(getattr(layout, k) or "") for k in ("id", "text", "label")}
            known = {k: None if v is None else str(v) for k, v in known.items()}
            constants = {"method": self.job.method, "options": "{}"}
            return failed_row(
                {**known, **constants}, "FxplainError: the worker process died of it."
            )

        return dead_row(task, said, self.assembly.targets)

    def follow(self, done: Iterator[Done]) -> None:
        """Write what comes in parts, and tell how far it is."""
        for one in done:
            self.assembly.add(one)
            self.rows += one.rows
            self.errors += one.errors
            self._tell()

    def _tell(self) -> None:
        if self.progress is not None:
            self.progress(Progress(self.rows, self.errors, self.data.count, self.before))
