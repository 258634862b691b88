"""Files as people have them: delimiters, encodings, quotes, gzip, JSON as lines and as one list."""

import gzip
import json

import pytest

from fxplain.corpora.layout import UNREADABLE
from fxplain.corpora.reading import open_data
from fxplain.errors import LoadError

pytest.importorskip("pyarrow")

ROWS = [{"id": "1", "text": 'say "hi", you;\nthere'}, {"id": "2", "text": "à bientôt"}]


def table(delimiter):
    quoted = ['"' + row["text"].replace('"', '""') + '"' for row in ROWS]
    lines = [f"{row['id']}{delimiter}{text}" for row, text in zip(ROWS, quoted, strict=True)]
    return "\r\n".join([f"id{delimiter}text", *lines]) + "\r\n"


FILES = {
    "commas.csv": table(",").encode(),
    "semicolons.csv": table(";").encode(),
    "bars.csv": table("|").encode(),
    "tabs.csv": table("\t").encode(),
    "tabs.tsv": table("\t").encode(),
    "marked.CSV": table(",").encode("utf-8-sig"),
    "wide.csv": table("\t").encode("utf-16"),
    "zipped.csv.gz": gzip.compress(table(";").encode(), mtime=0),
    "lines.jsonl": "\n".join(map(json.dumps, ROWS)).encode("utf-8-sig"),
    "lines.json.gz": gzip.compress("\n".join(map(json.dumps, ROWS)).encode(), mtime=0),
    "list.json": json.dumps(ROWS, indent=2).encode("utf-8-sig"),
    "line.json": json.dumps(ROWS).encode(),
}


def read(path, content):
    path.write_bytes(content)
    return list(open_data(path).rows())


@pytest.mark.parametrize("name", FILES)
def test_rows_are_what_was_written(tmp_path, name):
    assert read(tmp_path / name, FILES[name]) == ROWS
    assert list(open_data(tmp_path).rows()) == ROWS  # as a file of a folder, too


def test_what_is_wrong_with_a_row_is_said_by_the_row(tmp_path):
    latin = read(tmp_path / "latin.csv", "id;text\n1;caf\xe9\n2;a;b\n3\n".encode("latin-1"))
    assert latin[0][UNREADABLE] == "LoadError: line 2 is not UTF-8."
    assert latin[1][UNREADABLE] == "LoadError: line 3 has more columns than the first."
    assert latin[2] == {"id": "3", "text": None}
    (number,) = read(tmp_path / "numbers.json", b"[3]")
    assert number[UNREADABLE].startswith("InputError: a row is a mapping")


TORN: dict[str, bytes] = {
    "torn.csv.gz": gzip.compress(table(",").encode() * 99, mtime=0)[:40],
    "other.csv.gz": b"text\na\n",
    "torn.json": b'[{"text": "a"},',
    "torn.parquet": b"PAR1",
}


@pytest.mark.parametrize("name", TORN)
def test_a_file_that_is_torn_is_named(tmp_path, name):
    with pytest.raises(LoadError, match=f"{name}' cannot be read to its end"):
        read(tmp_path / name, TORN[name])


def test_tables_are_rows():
    pa, pd = pytest.importorskip("pyarrow"), pytest.importorskip("pandas")
    table = pa.table({name: [row[name] for row in ROWS] for name in ROWS[0]})
    for given in (table, table.to_batches()[0], table.to_reader(), pd.DataFrame(ROWS)):
        assert list(open_data(given).rows()) == ROWS
    assert not open_data(table.to_reader()).again
    pl = pytest.importorskip("polars")
    assert list(open_data(pl.DataFrame(ROWS)).rows()) == ROWS


def test_a_heading_alone_has_no_rows(tmp_path):
    assert read(tmp_path / "a.csv", b"id,text\n") == []
    assert read(tmp_path / "b.csv", b"") == []
