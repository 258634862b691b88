"""Shards: one Parquet file for each part of the data, there as a whole or not at all."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fxplain.corpora.arrow import parquet
from fxplain.corpora.schema import COLUMNS, Columns, misfit, table_of
from fxplain.errors import FxplainError, InputError, LoadError, SaveError
from fxplain.extras import extra
from fxplain.written import saving

__all__ = [
    "LOCK",
    "Finished",
    "alone",
    "batches_in",
    "begun_path",
    "clear_aside",
    "finished",
    "opened_shard",
    "shard_path",
    "shards",
    "table_in",
    "with_warnings",
    "write_shard",
]

LOCK = ".run.lock"
NAME = "part-{:06d}.parquet"
PER_TOKEN = ("texts", "places", "numbers", "flags")
PATTERN = re.compile(r"part-(\d{6,})\.parquet")


def shard_path(folder: Path, number: int) -> Path:
    """Where a shard is written."""
    return folder / NAME.format(number)


def begun_path(folder: Path, number: int) -> Path:
    """What stands for a shard while another machine's worker is at it."""
    return folder / f"{NAME.format(number)}.begun.tmp"


def shards(folder: Path) -> list[Path]:
    """The shards that are there, in the data's order."""
    numbers = {
        int(found[1]): path for path in folder.iterdir() if (found := PATTERN.fullmatch(path.name))
    }
    return [numbers[number] for number in sorted(numbers)]


def write_shard(
    folder: Path,
    number: int,
    columns: Columns,
    rows: int,
    constants: Mapping[str, str],
    data: str = "",
) -> None:
    """Write a shard aside and rename it.

    Parameters
    ----------
    rows
        How many rows of the data it is of; a row may have several targets.
    data
        The hash of these.

    Raises
    ------
    SaveError
        When the disk is full, or the like; nothing is left then.
    """
    failed = sum(error is not None for error in columns["error"])
    known = {**constants, "rows": str(rows), "errors": str(failed), "data": data}
    table = table_of(columns, {f"fxplain.{name}": value for name, value in known.items()})
    path = shard_path(folder, number)
    aside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with saving(folder):
            parquet().write_table(table, aside, compression="zstd")
            aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def with_warnings(constants: Mapping[str, str], warnings: Iterable[str]) -> dict[str, str]:
    """Constants of a shard whose explanations warned of something."""
    return {**constants, "warnings": json.dumps(list(warnings))}


@dataclass(frozen=True)
class Finished:
    """What a shard says of itself: rows of the data, rows with an error, and the hash of the data's."""

    rows: int
    errors: int
    data: str


def finished(folder: Path) -> dict[int, Finished]:
    """By number, the shards that are there.

    Raises
    ------
    LoadError
        When a file is damaged.
    """
    return {int(PATTERN.fullmatch(path.name)[1]): _finished(path) for path in shards(folder)}  # type: ignore[index]


def _finished(path: Path) -> Finished:
    said = metadata_of(path)
    return Finished(int(said["rows"]), int(said["errors"]), said.get("data", ""))


def metadata_of(path: Path) -> dict[str, str]:
    """What a shard says of itself.

    Raises
    ------
    LoadError
        When it is damaged, or no shard.
    """
    try:
        raw: Any = parquet().read_schema(path).metadata or {}
        said = {k.decode().removeprefix("fxplain."): v.decode() for k, v in raw.items()}
        return {**said, "rows": str(int(said["rows"])), "errors": str(int(said["errors"]))}
    except (OSError, ValueError, KeyError) as error:
        raise LoadError(
            f"{str(path)!r} is damaged ({error}): delete it, and run the same command again."
        ) from error


@contextmanager
def opened_shard(path: Path) -> Iterator[Any]:
    """A shard as a pyarrow.parquet.ParquetFile, whose columns are those of a corpus.

    Raises
    ------
    LoadError
        When it is damaged, or no shard; also of what is read of it within.
    """
    try:
        with parquet().ParquetFile(path) as opened:
            wrong = misfit(opened.schema_arrow)
            if wrong:
                raise LoadError(f"{str(path)!r} is no file of an explained corpus: {wrong}.")
            yield opened
    except (OSError, ValueError, RuntimeError) as error:
        if isinstance(error, FxplainError):
            raise
        raise LoadError(f"{str(path)!r} is damaged: {error}") from error


def table_in(path: Path, columns: Sequence[str] | None = None) -> Any:
    """A shard, or some columns of it, as a pyarrow.Table.

    Raises
    ------
    LoadError
        As `opened_shard` raises.
    """
    with opened_shard(path) as opened:
        return _even(opened.read(columns=columns), path)


def batches_in(path: Path, columns: Sequence[str] | None, size: int) -> Iterator[Any]:
    """A shard as pyarrow.RecordBatch of so many rows.

    Raises
    ------
    LoadError
        As `opened_shard` raises.
    """
    with opened_shard(path) as opened:
        for batch in opened.iter_batches(size, columns=columns):
            yield _even(batch, path)


def _even(rows: Any, path: Path) -> Any:
    """Rows, of which each has as many entries in all columns that have one per token."""
    compute = extra("pyarrow.compute", "")
    names = [name for name in rows.schema.names if COLUMNS.get(name) in PER_TOKEN]
    lengths = [compute.list_value_length(rows.column(name)) for name in names]
    if any(not length.equals(lengths[0]) for length in lengths[1:]):
        raise LoadError(f"{str(path)!r} is damaged: a row's {', '.join(names)} differ in length.")
    return rows


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """A run that no other writes to the folder beside; the lock goes with the process.

    Raises
    ------
    InputError
        When another does.
    SaveError
        When nothing can be written there.
    """
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(
            f"another run is writing to {str(folder)!r}: wait for it, or write to another folder."
        ) from None
    except NotImplementedError:  # a file system that has no locks
        yield
        return
    except OSError as error:
        raise SaveError(f"{str(folder)!r} cannot be written to: {error}") from error
    try:
        yield
    finally:
        lock.release()


def clear_aside(folder: Path) -> None:
    """Delete what a run that was killed left half written."""
    for path in folder.glob("*.tmp"):
        path.unlink(missing_ok=True)
