"""A run over the data: what comes of tasks is put together, counted and told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from fxplain.corpora.job import Job
from fxplain.corpora.left import Kept
from fxplain.corpora.reading import Row
from fxplain.corpora.schema import failed_row
from fxplain.corpora.tasks import Assembly, Done, Output, Task, dead_row

__all__ = ["Progress", "Run"]


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


@dataclass
class Run:
    """One run over the data: what is written of it, and how far it is."""

    job: Job
    output: Output
    total: int | None
    progress: Callable[[Progress], None] | None
    rows: int = 0
    errors: int = 0
    before: int = 0

    def __post_init__(self) -> None:
        self.assembly = Assembly(self.output, self.job.targets)

    def new(self, left: Iterator[Task | Kept]) -> Iterator[Task]:
        """The tasks among what is left; what is kept is counted."""
        for one in left:
            if isinstance(one, Task):
                yield one
            else:
                self.keep(one)

    def split(self, task: Task) -> None:
        """A shard comes in parts."""
        self.assembly.split(task)

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

        return dead_row(task, said, self.job.targets)

    def follow(self, done: Iterator[Done | Kept]) -> None:
        """Write what comes in parts, and tell how far it is."""
        for one in done:
            if isinstance(one, Kept):
                self.keep(one)
                continue
            self.assembly.add(one)
            self.rows += one.rows
            self.errors += one.errors
            self._tell()

    def keep(self, kept: Kept) -> None:
        """Count what earlier runs wrote."""
        self.rows += kept.rows
        self.before += kept.rows
        self.errors += kept.errors
        self._tell()

    def _tell(self) -> None:
        if self.progress is not None:
            self.progress(Progress(self.rows, self.errors, self.total, self.before))
