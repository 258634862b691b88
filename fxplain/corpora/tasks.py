"""Tasks: what is handed to a worker, what comes back, and shards put together of parts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fxplain.corpora.explainer import CorpusExplainer
from fxplain.corpora.layout import FOLDER
from fxplain.corpora.reading import Row, columns_of
from fxplain.corpora.schema import COLUMNS, Columns, empty_columns
from fxplain.corpora.shards import metadata_of, shard_path, table_in, with_warnings, write_shard

__all__ = ["Assembly", "Done", "Output", "Task", "dead_row", "do"]


@dataclass(frozen=True)
class Output:
    """Where shards go.

    Attributes
    ----------
    folder
        The corpus.
    constants
        For each file's metadata.
    columns
        Those that the data has, also where no row of a shard does.
    beside
        The folder that the data lies in, if it is of files.
    """

    folder: Path
    constants: Mapping[str, str]
    columns: tuple[str, ...]
    beside: str | None = None


@dataclass(frozen=True)
class Task:
    """A shard to explain, or a part of one.

    Attributes
    ----------
    shard
        Its number.
    rows
        What is explained.
    places
        Where they stand in the shard; None where they are all of it.
    deaths
        How many workers died of it.
    data
        The hash of the whole shard's rows.
    """

    shard: int
    rows: Sequence[Row]
    places: tuple[int, ...] | None = None
    deaths: int = 0
    data: str = ""

    def again(self) -> list[Task]:
        """What is tried after a worker died: once more, then in halves; nothing for a row alone."""
        if self.deaths == 0:
            return [replace(self, deaths=1)]
        places = tuple(range(len(self.rows))) if self.places is None else self.places
        if len(places) == 1:
            return []
        half = len(places) // 2
        return [
            replace(self, rows=self.rows[part], places=places[part])
            for part in (slice(half), slice(half, None))
        ]


@dataclass(frozen=True)
class Done:
    """What came of a task: how many rows and errors; of a part, the rows themselves and warnings."""

    shard: int
    rows: int
    errors: int
    places: tuple[int, ...] | None = None
    columns: Columns | None = None
    warnings: tuple[str, ...] = ()


def do(task: Task, explain: CorpusExplainer, output: Output) -> Done:
    """Explain a task's rows; those of a whole shard are written."""
    count = len(task.rows)
    given = columns_of(list(task.rows), output.columns)
    columns = explain({**given, FOLDER: [output.beside] * count})
    errors = sum(error is not None for error in columns["error"])
    if task.places is not None:
        return Done(task.shard, count, errors, task.places, columns, tuple(explain.warnings))
    said = with_warnings(output.constants, explain.warnings)
    write_shard(output.folder, task.shard, columns, count, said, task.data)
    return Done(task.shard, count, errors)


def dead_row(task: Task, explain_nothing: Callable[[Row], dict[str, Any]], targets: int) -> Done:
    """The row that workers die of."""
    columns = empty_columns()
    for _ in range(targets):
        for name, value in explain_nothing(task.rows[0]).items():
            columns[name].append(value)
    return Done(task.shard, 1, 1, task.places or (0,), columns)


@dataclass
class Assembly:
    """Shards whose rows come in parts: of a shard that was split, or of rows tried again.

    Attributes
    ----------
    output
        Where they are written when they are whole.
    targets
        How many rows of the result each row of the data has.
    sizes, data, warnings
        By shard in parts, how many rows it has, their hash, and what their explanations warned of.
    """

    output: Output
    targets: int
    sizes: dict[int, int] = field(default_factory=dict)
    data: dict[int, str] = field(default_factory=dict)
    warnings: dict[int, dict[str, None]] = field(default_factory=dict)
    _found: dict[int, dict[int, list[dict[str, Any]]]] = field(default_factory=dict)

    def split(self, task: Task) -> None:
        """A shard comes in parts."""
        self.sizes[task.shard] = len(task.rows)
        self.data[task.shard] = task.data

    def add(self, done: Done) -> bool:
        """Take a part; whether its shard is whole now, and written."""
        if done.columns is None or done.places is None:
            return True
        if done.shard not in self.sizes:  # it is there, and some of its rows were tried again
            self._begin(done.shard, done.places)
        rows = self._found.setdefault(done.shard, {})
        for i, place in enumerate(done.places):
            span = range(i * self.targets, (i + 1) * self.targets)
            rows[place] = [{name: done.columns[name][j] for name in COLUMNS} for j in span]
        warnings = self.warnings.setdefault(done.shard, {})
        warnings |= dict.fromkeys(done.warnings)
        if len(rows) < self.sizes[done.shard]:
            return False
        columns = empty_columns()
        for row in _in_order(self._found.pop(done.shard)):
            for name in COLUMNS:
                columns[name].append(row[name])
        size = self.sizes.pop(done.shard)
        said = with_warnings(self.output.constants, self.warnings.pop(done.shard))
        data = self.data.pop(done.shard)
        write_shard(self.output.folder, done.shard, columns, size, said, data)
        return True

    def _begin(self, shard: int, again: Iterable[int]) -> None:
        """Take the rows at all but these places from the file that is there."""
        path = shard_path(self.output.folder, shard)
        table = table_in(path).to_pylist()
        known = metadata_of(path)
        self.data[shard] = known.get("data", "")
        self.warnings[shard] = dict.fromkeys(json.loads(known.get("warnings", "[]")))
        size = len(table) // self.targets
        self._found[shard] = {
            place: table[place * self.targets : (place + 1) * self.targets]
            for place in set(range(size)) - set(again)
        }
        self.sizes[shard] = size


def _in_order(rows: Mapping[int, list[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    return (row for place in sorted(rows) for row in rows[place])
