"""Files as people have them: delimiters, encodings, quotes, gzip, JSON as lines and as one list."""

import csv
import gzip
import json
from pathlib import Path

import pytest

from fxplain.corpora import finding
from fxplain.corpora.layout import UNREADABLE
from fxplain.corpora.reading import open_data
from fxplain.errors import InputError, LoadError

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


def test_lines_are_counted_as_editors_do(tmp_path):
    rows = read(tmp_path / "a.csv", b'id,text\n1,"one\ntwo"\n\n2,a,b\n')
    assert rows[1] == {"id": "2", "text": "a", UNREADABLE: rows[1][UNREADABLE]}
    assert rows[1][UNREADABLE] == "LoadError: line 5 has more columns than the first."


def test_rows_behind_a_quote_that_nothing_closes_are_not_lost(tmp_path):
    with pytest.raises(LoadError, match="quote in line 3 or below that nothing closes"):
        read(tmp_path / "a.csv", b'id,text\n1,a\n2,"b\n3,c\n')
    assert len(read(tmp_path / "b.csv", b'id,text\n1,"a"')) == 1


def test_two_columns_of_one_name_are_refused(tmp_path):
    with pytest.raises(LoadError, match="two columns called 'text'"):
        read(tmp_path / "a.csv", b"text,text,,\na,b,,\n")
    with pytest.raises(InputError, match="differ in how many entries"):
        open_data({"text": ["a", "b"], "id": [1]})


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


def test_a_field_of_a_book_leaves_the_process_as_it_was(tmp_path):
    before = csv.field_size_limit()
    (tmp_path / "book.csv").write_text("id,text\n1," + "a" * (before + 1) + "\n2,b\n")
    rows = open_data(tmp_path / "book.csv").rows()
    assert len(next(iter(rows))["text"]) == before + 1
    assert csv.field_size_limit() == before


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


TEXTS = '\ufeffto be\r\n\r\nor not,\tto be\u2028\n  \n"quoted" '
PLAIN: dict[str, bytes] = {
    "lines.txt": TEXTS.encode(),
    "LINES.TXT": TEXTS.removeprefix("\ufeff").encode(),
    "wide.txt": TEXTS.removeprefix("\ufeff").encode("utf-16"),
    "zipped.txt.gz": gzip.compress(TEXTS.encode(), mtime=0),
}


@pytest.mark.parametrize("name", PLAIN)
def test_plain_text_is_a_text_a_line(tmp_path, name):
    told = [{"text": text} for text in ("to be", "or not,\tto be\u2028", '"quoted" ')]
    assert read(tmp_path / name, PLAIN[name]) == told
    assert list(open_data(tmp_path).rows()) == told


def test_a_line_of_plain_text_that_is_not_utf_8_is_a_row_that_cannot_be_read(tmp_path):
    good, bad = read(tmp_path / "latin.txt", "tea\ncaf\xe9\n".encode("latin-1"))
    assert good == {"text": "tea"}
    assert bad[UNREADABLE] == "LoadError: line 2 is not UTF-8."


def test_texts_beside_data_tell_of_it(tmp_path):
    (tmp_path / "README.txt").write_text("what this is")
    rows = read(tmp_path / "lines.jsonl", FILES["lines.jsonl"])
    assert list(open_data(tmp_path).rows()) == rows
    assert list(open_data(tmp_path / "*.txt").rows()) == [{"text": "what this is"}]


def test_json_that_is_nested_deep_is_named(tmp_path):
    (row,) = read(tmp_path / "deep.jsonl", b'{"a":' * 200_000 + b"1" + b"}" * 200_000)
    assert row[UNREADABLE].startswith("LoadError: line 1 is no JSON")
    with pytest.raises(LoadError, match="cannot be read to its end"):
        read(tmp_path / "deep.json", b"[" * 200_000 + b"]" * 200_000)


def names(data):
    return [row["id"] for row in open_data(data).rows()]


def test_globs_name_the_files_that_a_shell_would(tmp_path):
    for name in ("a.png", "b/c.png", "b/d/e.png", "b/d/.f.png", "b/x.jpg", "b/.g/h.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert names(tmp_path / "*.png") == ["a.png"]
    assert names(tmp_path / "**" / "*.png") == ["a.png", "c.png", "e.png"]
    assert names(tmp_path / "b" / "**" / "?.png") == ["c.png", "e.png"]
    assert names(tmp_path / "**" / "d" / "*") == ["e.png"]
    assert names(tmp_path / "**") == ["a.png", "c.png", "e.png", "x.jpg"]


def test_folders_that_link_to_themselves_are_read_once(tmp_path):
    (tmp_path / "a.png").touch()
    for loop in ("here", "there"):
        (tmp_path / loop).symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "knot.png").symlink_to(tmp_path / "knot.png")
    assert names(tmp_path) == ["a.png"]
    assert names(tmp_path / "**" / "*.png") == ["a.png"]
    with pytest.raises(LoadError):
        open_data(tmp_path / "knot.png")


def test_a_folder_of_other_things_is_not_walked_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(finding, "MOST_OTHERS", 20)
    for i in range(30):
        (tmp_path / f"{i}.png").touch()
    assert len(names(tmp_path)) == 30
    for i in range(30):
        (tmp_path / f"{i}.o").touch()
    for data in (tmp_path, tmp_path / "**" / "*.png", Path("/")):
        with pytest.raises(LoadError, match="more than 20 folders and files"):
            open_data(data)
