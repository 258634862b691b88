"""What is left to do: shards that no earlier run has written, or whose errors are tried again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fxplain.corpora.layout import NUMBER
from fxplain.corpora.reading import Row, in_shards
from fxplain.corpora.shards import finished, shard_path, table_in
from fxplain.corpora.tasks import Task

__all__ = ["Kept", "Left"]


@dataclass(frozen=True)
class Kept:
    """What earlier runs wrote and this one keeps: rows of the data, and errors."""

    rows: int
    errors: int


@dataclass(frozen=True)
class Left:
    """What a run has to do in a folder; plain enough to be sent to another process.

    Attributes
    ----------
    folder
        The corpus.
    shard_rows
        How many rows of the data a shard holds.
    targets
        How many rows of the result each has.
    retry_errors
        Whether rows that had an error are tried again.
    """

    folder: Path
    shard_rows: int
    targets: int
    retry_errors: bool

    def of(self, rows: Iterator[Row]) -> Iterator[Task | Kept]:
        """By shard of the data, in its order: a task, or what is kept."""
        there = finished(self.folder)
        numbered = ({**row, NUMBER: number} for number, row in enumerate(rows))
        for shard, part in enumerate(in_shards(numbered, self.shard_rows)):
            yield from self._of_shard(shard, part, there)

    def _of_shard(
        self, shard: int, part: list[Row], there: Mapping[int, tuple[int, int]]
    ) -> Iterator[Task | Kept]:
        count, errors = there.get(shard, (0, 0))
        if count != len(part):  # not there, or of data that has grown
            yield Task(shard, part)
        elif errors and self.retry_errors:
            places = self._failed(shard)
            yield Kept(count - len(places), 0)
            yield Task(shard, [part[place] for place in places], places)
        else:
            yield Kept(count, errors)

    def _failed(self, shard: int) -> tuple[int, ...]:
        """The places in a shard whose rows have an error."""
        path = shard_path(self.folder, shard)
        errors = table_in(path, ["error"])["error"].to_pylist()
        return tuple(sorted({i // self.targets for i, e in enumerate(errors) if e is not None}))
