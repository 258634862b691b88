"""What is left to do: shards that no earlier run has written, or whose errors are tried again.

Shards that are kept are compared with the rows that the data has in their place: only files tell by
their manifest that they are what they were.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fxplain.corpora.layout import NUMBER
from fxplain.corpora.reading import Row, in_shards
from fxplain.corpora.row_hash import rows_hash
from fxplain.corpora.shards import Finished, finished, shard_path, table_in
from fxplain.corpora.tasks import Task
from fxplain.errors import InputError

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
        """By shard of the data, in its order: a task, or what is kept.

        Raises
        ------
        InputError
            When rows that are kept were made of other data.
        """
        there = finished(self.folder)
        numbered = ({**row, NUMBER: number} for number, row in enumerate(rows))
        shard = -1
        for shard, part in enumerate(in_shards(numbered, self.shard_rows)):
            yield from self._of_shard(shard, part, there.get(shard))
        beyond = [number for number in there if number > shard]
        if beyond:
            self._refuse(min(beyond), "the data ends before them")

    def _of_shard(
        self, shard: int, part: list[Row], there: Finished | None
    ) -> Iterator[Task | Kept]:
        if there is not None:
            self._check(shard, part, there)
        data = rows_hash(part)
        if there is None or there.rows != len(part):  # not there, or of data that has grown
            yield Task(shard, part, data=data)
        elif there.errors and self.retry_errors:
            places = self._failed(shard)
            yield Kept(there.rows - len(places), 0)
            yield Task(shard, [part[place] for place in places], places, data=data)
        else:
            yield Kept(there.rows, there.errors)

    def _check(self, shard: int, part: list[Row], there: Finished) -> None:
        if there.rows > len(part):
            self._refuse(shard, "the data ends before them")
        if there.data and there.data != rows_hash(part[: there.rows]):
            self._refuse(shard, "the data has others in their place")

    def _refuse(self, shard: int, why: str) -> None:
        name = shard_path(self.folder, shard).name
        raise InputError(
            f"{str(self.folder)!r} holds rows of other data, in {name}: {why}. Give the same data, "
            f"which may have grown at its end, or write to another folder."
        )

    def _failed(self, shard: int) -> tuple[int, ...]:
        """The places in a shard whose rows have an error."""
        path = shard_path(self.folder, shard)
        errors = table_in(path, ["error"])["error"].to_pylist()
        return tuple(sorted({i // self.targets for i, e in enumerate(errors) if e is not None}))
