"""Reading: rows from files, folders, data sets and iterators, one at a time."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import os
import re
import sys
import threading
import zlib
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import IO, Any, cast

from torch import Tensor, nn

from fxplain.arguments import PATH, blaming
from fxplain.corpora.arrow import arrow, parquet
from fxplain.corpora.finding import TEXTS, find_files, kind_of
from fxplain.corpora.layout import UNREADABLE, check_columns
from fxplain.errors import InputError, LoadError

__all__ = ["Data", "of_any_length", "open_data"]

Row = dict[str, Any]

IMAGES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"})
SOUNDS = frozenset({".wav"})
UNREAD = (OSError, EOFError, ValueError, OverflowError, csv.Error, zlib.error, RecursionError)
"""What a file may raise that is damaged, or nested too deep."""

BYTES_AT_ONCE = 1 << 20
ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class Data:
    """What is explained, row by row.

    Attributes
    ----------
    rows
        Begins to read anew, each row a mapping by column; a row that cannot be read has why.
    identity
        What tells this data from other data; None where nothing does (an iterator).
    count
        How many rows there are, where that is known without reading.
    again
        Whether it can be read more than once.
    folder
        Where its files lie, from which a table may name pictures.
    """

    rows: Callable[[], Iterator[Row]]
    identity: str | None = None
    count: int | None = None
    again: bool = True
    folder: str | None = None


def open_data(data: Any) -> Data:
    """The rows of a file, a folder, a glob, a data set, a table or an iterator.

    Parameters
    ----------
    data
        A path to CSV, TSV, JSON Lines, Parquet or plain text (a text a line), to a folder of such
        files, of images or of recordings, or a glob of these; a `datasets.Dataset`, a table of
        pandas, Arrow, Polars or DuckDB, a mapping of columns; or anything that yields mappings or
        strings.

    Raises
    ------
    LoadError
        When there is no such file, or none that could be read.
    InputError
        When it is nothing of these.
    """
    if isinstance(data, (str, Path)):
        PATH.raising(LoadError).check("data", data)
        return _of_files(str(data))
    if hasattr(data, "iterrows"):  # pandas: columns of several types are none of Arrow's
        data = data.to_dict("list")
    if hasattr(data, "to_frame"):  # a column of a table alone
        data = list(data)
    if hasattr(data, "__arrow_c_stream__"):
        known = len(data) if hasattr(data, "__len__") else None
        return Data(lambda: _of_arrow(data), None, known, again=known is not None)
    if hasattr(data, "column_names") and hasattr(data, "__getitem__"):
        return Data(lambda: iter(data), getattr(data, "_fingerprint", None), len(data))
    if isinstance(data, Mapping):
        check_columns(data)
        count = max((len(column) for column in data.values()), default=0)
        return Data(lambda: _transposed(data, count), None, count)
    if isinstance(data, Iterable) and not isinstance(data, (bytes, Tensor, nn.Module)):
        with blaming("reading the data"):
            known = len(data) if isinstance(data, (list, tuple)) else None
            again = iter(data) is not data
        return Data(lambda: map(_as_row, data), None, known, again=again)
    raise InputError(
        f"data is a path, a glob, a data set, columns by name or an iterable of rows, not a "
        f"{type(data).__name__}."
    )


def _of_arrow(data: Any) -> Iterator[Row]:
    for batch in arrow().RecordBatchReader.from_stream(data):
        for start in range(0, len(batch), ROWS_AT_ONCE):
            yield from batch.slice(start, ROWS_AT_ONCE).to_pylist()


def _transposed(columns: Mapping[str, Any], count: int) -> Iterator[Row]:
    return (_as_row({name: own[i] for name, own in columns.items()}) for i in range(count))


def _as_row(given: Any) -> Row:
    if isinstance(given, str):
        given = {"text": given}
    if isinstance(given, Mapping):
        return _of_letters(given, "the row")
    return {
        UNREADABLE: f"InputError: a row is a mapping or a string, not a {type(given).__name__}."
    }


# ---- files --------------------------------------------------------------------------------------


def _of_files(name: str) -> Data:
    files = find_files(name, READERS)
    readers = {_reader(file) for file in files}
    if len(readers) > 1 and readers & {_image, _sound}:
        raise LoadError(f"{name} has files of several kinds: name one kind, such as {name}/*.jpg.")
    root = Path(name) if Path(name).is_dir() else None

    def rows() -> Iterator[Row]:
        for file in files:
            try:
                yield from _reader(file)(file, root)
            except LoadError:
                raise
            except UNREAD as error:
                raise LoadError(f"{str(file)!r} cannot be read to its end: {error}") from error

    one_row_each = readers <= {_image, _sound}
    try:
        identity = _identity(files, one_row_each)
    except OSError as error:
        raise LoadError(f"{name!r} cannot be read: {error}") from error
    beside = os.path.commonpath([file.absolute().parent for file in files])
    return Data(rows, identity, len(files) if one_row_each else None, folder=beside)


def _reader(file: Path) -> Callable[[Path, Path | None], Iterator[Row]]:
    try:
        return READERS[kind_of(file)]
    except KeyError:
        raise LoadError(f"{file} is of no kind that can be read ({', '.join(READERS)}).") from None


def _identity(files: list[Path], names_only: bool) -> str:
    """A hash of what the files hold; of pictures and sounds, of their names, sizes and times."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode())
        if names_only:
            status = file.stat()
            digest.update(f"{status.st_size} {status.st_mtime_ns}".encode())
            continue
        with file.open("rb") as opened:
            for part in iter(lambda: opened.read(BYTES_AT_ONCE), b""):
                digest.update(part)
    return digest.hexdigest()


UTF_16 = (b"\xff\xfe", b"\xfe\xff")
DELIMITERS = ",;\t|"
QUOTED = re.compile('"[^"]*"')


def _opened(file: Path) -> IO[bytes]:
    zipped = file.suffix.lower() == ".gz"
    return cast("IO[bytes]", gzip.open(file, "rb")) if zipped else file.open("rb")


def _table(file: Path, _: Path | None) -> Iterator[Row]:
    """Lines of CSV; a line that is not UTF-8 is a row that cannot be read."""
    with _opened(file) as raw:
        opened = _decoded(raw, newline="")
        heading = opened.readline()
        if "\0" in heading:
            raise LoadError(
                f"{str(file)!r} is no table of text: its first line holds NUL bytes, as what is "
                f"compressed or of another kind does (.gz, .parquet: name it so)."
            )
        delimiter = "\t" if kind_of(file).startswith(".tsv") else _delimiter(heading)
        opened.seek(0)
        lines = _Lines(opened)
        rows = csv.DictReader(lines, delimiter=delimiter)
        _check_headings(file, rows.fieldnames or ())
        lines.first = 0
        for row in of_any_length(rows):
            if lines.ended:  # a row is there before the end is seen, unless a quote is still open
                raise LoadError(
                    f"{str(file)!r} has a quote in line {lines.first} or below that nothing closes: "
                    f"the rows behind it would be lost in one cell."
                )
            yield _checked(row, f"line {lines.first}")
            lines.first = 0


class _Lines:
    """Lines of a file, counted; `first` is where a row begins, behind empty lines."""

    def __init__(self, opened: Iterator[str]) -> None:
        self._opened = opened
        self._count = self.first = 0
        self.ended = False

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = next(self._opened, None)
        if line is None:
            self.ended = True
            raise StopIteration
        self._count += 1
        self.first = self.first or (self._count if line.strip("\r\n") else 0)
        return line


def _check_headings(file: Path, names: Sequence[str]) -> None:
    twice = [name for i, name in enumerate(names) if name and name in names[:i]]
    if twice:
        raise LoadError(
            f"{str(file)!r} has two columns called {twice[0]!r}: give each a name of its own."
        )


_limit = threading.Lock()


def of_any_length(rows: Iterator[Row]) -> Iterator[Row]:
    """Rows whose fields may be books; the limit is the process's, so it is put back after each."""
    done = object()
    while True:
        with _limit:
            before = csv.field_size_limit(sys.maxsize)
            try:
                row = next(rows, done)
            finally:
                csv.field_size_limit(before)
        if row is done:
            return
        yield cast("Row", row)


def _decoded(raw: IO[bytes], newline: str | None = None) -> TextIOWrapper:
    """As UTF-8 or UTF-16, by its mark; what is neither is told by surrogates."""
    encoding = "utf-16" if raw.read(2) in UTF_16 else "utf-8-sig"
    raw.seek(0)
    return TextIOWrapper(raw, encoding, errors="surrogateescape", newline=newline)


def _texts(file: Path, _: Path | None) -> Iterator[Row]:
    """Plain text: a text a line; empty lines are none."""
    with _opened(file) as raw:
        for number, line in enumerate(_decoded(raw), 1):
            if line.strip():
                yield _checked({"text": line.rstrip("\n")}, f"line {number}")


def _delimiter(heading: str) -> str:
    """What parts the headings: the one that makes most columns of them, a comma where none does.

    Examples
    --------
    >>> _delimiter("id;text;label"), _delimiter('text,"yes;no;maybe"'), _delimiter("text")
    (';', ',', ',')
    """
    return max(DELIMITERS, key=QUOTED.sub("", heading).count)


SURROGATE = re.compile("[\ud800-\udfff]")


def _checked(row: Mapping[Any, Any], where: str) -> Row:
    if row.get(None):
        own = {name: value for name, value in row.items() if name is not None}
        return {**own, UNREADABLE: f"LoadError: {where} has more columns than the first."}
    return _of_letters(row, where)


def _of_letters(row: Mapping[Any, Any], where: str) -> Row:
    """A row whose texts can be written down; halves of letters are no text."""
    if any(isinstance(value, str) and SURROGATE.search(value) for value in row.values()):
        clean = {k: SURROGATE.sub("\ufffd", v) if isinstance(v, str) else v for k, v in row.items()}
        return {**clean, UNREADABLE: f"LoadError: {where} is not UTF-8."}
    return dict(row)


def _lines(file: Path, _: Path | None) -> Iterator[Row]:
    with _opened(file) as opened:
        for number, line in enumerate(opened, 1):
            line = line.removeprefix(BOM_UTF8)
            if number == 1 and line.lstrip().startswith(b"["):
                yield from _array(line + opened.read())
                return
            if line.strip():
                yield _parsed(line, number)


def _array(text: bytes) -> Iterator[Row]:
    """JSON that is one list of rows; it has to be read as a whole."""
    yield from map(_as_row, json.loads(text))


def _parsed(line: bytes, number: int) -> Row:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:  # that it is no UTF-8, too; nested too deep
        return {UNREADABLE: f"LoadError: line {number} is no JSON: {error}"}
    return _of_letters(row, f"line {number}") if isinstance(row, dict) else _as_row(row)


def _parquet(file: Path, _: Path | None) -> Iterator[Row]:
    with parquet().ParquetFile(file) as opened:
        names = opened.schema_arrow.names
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise LoadError(
                f"{str(file)!r} has two columns called {twice!r}: give each a name of its own."
            )
        for batch in opened.iter_batches(ROWS_AT_ONCE):
            yield from batch.to_pylist()


def _image(file: Path, root: Path | None) -> Iterator[Row]:
    yield {"image": str(file), "id": _name(file, root)}


def _sound(file: Path, root: Path | None) -> Iterator[Row]:
    yield {"audio": str(file), "id": _name(file, root)}


def _name(file: Path, root: Path | None) -> str:
    return file.relative_to(root).as_posix() if root else file.name


READERS: dict[str, Callable[[Path, Path | None], Iterator[Row]]] = {
    **{f"{kind}{gz}": _table for kind in (".csv", ".tsv") for gz in ("", ".gz")},
    **{f"{kind}{gz}": _lines for kind in (".jsonl", ".ndjson", ".json") for gz in ("", ".gz")},
    **dict.fromkeys(sorted(TEXTS), _texts),
    ".parquet": _parquet,
    **dict.fromkeys(sorted(IMAGES), _image),
    **dict.fromkeys(sorted(SOUNDS), _sound),
}
"""By ending, how a file is read."""


def in_shards(rows: Iterator[Row], size: int) -> Iterator[list[Row]]:
    """Rows in parts of equal size, the last perhaps smaller."""
    while part := list(islice(rows, size)):
        yield part


def columns_of(rows: list[Row], known: Iterable[str]) -> dict[str, list[Any]]:
    """Rows as columns; what a row lacks is None."""
    names = dict.fromkeys([*known, *(name for row in rows for name in row)])
    return {name: [row.get(name) for row in rows] for name in names}
