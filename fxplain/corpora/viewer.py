"""The viewer: a folder with an index page that opens from disk, its data in scripts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Any

from fxplain.arguments import PATH, checked, whole
from fxplain.corpora.corpus import Corpus
from fxplain.corpora.drivers import by_class
from fxplain.corpora.reading import in_shards
from fxplain.corpora.shares import A_CORPUS, BY, COUNT, columns_of_data, largest, shares_of
from fxplain.corpora.summary import Summary, summarise
from fxplain.written import saving

__all__ = ["write_report"]

FACTS = ("id", "target_name", "probability", "score", "label", "predicted", "error")
ROWS_A_FILE = 1000
MOST_ROWS = 100_000
DRIVERS = 12
ASSETS = ("index.html", "corpus.css", "corpus.js")


@checked(corpus=A_CORPUS, folder=PATH, by=BY, minimum=COUNT, rows=whole(0, 1 << 62))
def write_report(
    corpus: Corpus, folder: str | Path, *, by: str = "word", minimum: int = 5, rows: int = MOST_ROWS
) -> Path:
    """Write the index of a corpus: its rows with shaded text, to search, sort and filter.

    Parameters
    ----------
    corpus
        From `fxplain.load_corpus`.
    folder
        Where to write; what an earlier report left there is replaced.
    by, minimum
        Of the drivers: by one of `fxplain.corpora.shares.KINDS`, in at least so many rows.
    rows
        How many rows are shown at most, the first.

    Returns
    -------
    pathlib.Path
        The page.

    Raises
    ------
    SaveError
        When the folder cannot be written to.
    """
    with saving(folder):
        return _written(corpus, Path(folder), by, minimum, rows)


def _written(corpus: Corpus, target: Path, by: str, minimum: int, rows: int) -> Path:
    data = target / "data"
    if data.is_dir():
        for old in [*data.glob("rows-*.js"), *data.glob("summary.js")]:
            old.unlink()
    data.mkdir(parents=True, exist_ok=True)
    for name in ASSETS:
        (target / name).write_bytes((files("fxplain.corpora") / "assets" / name).read_bytes())
    columns = columns_of_data(corpus)
    histogram, written, count = [0] * 10, 0, 0
    methods: dict[str, None] = {}  # what "auto" stood for
    for written, part in enumerate(in_shards(islice(_rows(corpus), rows), ROWS_A_FILE), 1):
        shown = [_shown(row, by, columns) for row in part]
        _write(data / f"rows-{written - 1:04d}.js", f"rows({count}, ", shown)
        count += len(part)
        for row in part:
            if row["error"] is None:
                methods[row["method"]] = None
            if row["probability"] is not None:
                histogram[min(9, int(10 * row["probability"]))] += 1
    facts = _facts(corpus, summarise(corpus, by, minimum), count, written, histogram, list(methods))
    _write(data / "summary.js", "summary(", facts)
    return target / ASSETS[0]


def _rows(corpus: Corpus) -> Iterator[dict[str, Any]]:
    for batch in corpus.batches():
        for i in range(len(batch["id"])):
            yield {name: column[i] for name, column in batch.items()}


def _write(path: Path, call: str, data: Any) -> None:
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    path.write_text(f"corpus.{call}{text});\n", encoding="ascii")


def _shown(row: Mapping[str, Any], by: str, columns: Mapping[str, str]) -> list[Any]:
    """A row as corpus.js reads it: relevance in thousandths of the largest that is not special."""
    values = row["relevance"] or []
    plain = [abs(v) for v, special in zip(values, row["special"] or (), strict=True) if not special]
    most = max(plain, default=0.0) or max(map(abs, values), default=0.0)
    spans = zip(row["tokens"] or (), row["starts"] or (), row["ends"] or (), strict=True)
    known = any(start is not None for start in row["starts"] or ())
    text = row["text"] if known or row["error"] is not None else None
    places = _places(text or "")
    tokens = [t if a is None else [places(a), places(b)] for t, a, b in spans]
    more = {"text": row["text"]} if text is None and row["text"] else {}
    more |= {"read from": row["readout"], "method": row["method"]}
    facts = [row[name] for name in FACTS]
    top = [name.lower() for name in largest(shares_of(row, by, columns), 5)]
    parts = [round(1000 * value / most) if most else 0 for value in values]
    grid = _grid(row) if text is None and row["error"] is None else None
    return [*facts, text, tokens, parts, most, top, more, grid]


def _grid(row: Mapping[str, Any]) -> list[int] | None:
    """Rows and columns of the grid that a picture's tokens lie on, and at which token it begins."""
    grids = [*json.loads(row["grids"] or "{}").values()]
    plain = [place for place, special in enumerate(row["special"]) if not special]
    if len(grids) != 1 or len(grids[0]) != 2 or not all(isinstance(n, int) for n in grids[0]):
        return None
    height, width = grids[0]
    lies = len(plain) == height * width == plain[-1] - plain[0] + 1
    return [height, width, plain[0]] if lies else None


def _places(text: str) -> Any:
    """From a place in the text to that in JavaScript's, which counts some characters twice."""
    if text.isascii() or max(text) <= "\uffff":
        return int
    before = [0]
    for character in text:
        before.append(before[-1] + (2 if character > "\uffff" else 1))
    return before.__getitem__


def _facts(
    corpus: Corpus,
    summary: Summary,
    rows: int,
    written: int,
    histogram: Sequence[int],
    methods: Sequence[str],
) -> dict[str, Any]:
    said = corpus.manifest
    about = f"{summary.rows:,} rows of {said.constants.get('name', said.facts['model'])}"
    about += f", explained by {', '.join(methods) or said.facts['method']}"
    about += f"; the first {rows:,} are shown" if rows < summary.rows else ""
    about += "" if summary.complete else "; the run is not complete"
    found = by_class(summary.drivers, DRIVERS)
    return {
        "about": f"{about}.",
        "rows": rows,
        "files": written,
        "classes": [asdict(one) for one in summary.classes],
        "errors": dict(summary.errors),
        "warnings": list(summary.warnings),
        "leaks": [asdict(leak) for leak in summary.leaks],
        "drivers": {name: [asdict(d) for d in ds] for name, ds in list(found.items())[:12]},
        "histogram": list(histogram),
    }
