"""Memory over a million rows: explaining a CSV and an iterator, summing up, comparing, reporting.

``python -m benchmarks.million`` prints what the process holds after each tenth of the rows, and how
much more each later step held at its highest. A model that explains nothing stands in for a real one,
which would take days: everything else, from reading over the tokenizer to the files, is what a real
run does.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

import fxplain
from benchmarks.corpus import WORDS, saved
from benchmarks.measure import Peak
from fxplain import corpora
from fxplain.corpora.prepared import Prepared


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--data", nargs="+", default=["CSV", "iterator"])
    options = parser.parse_args(arguments)
    rows = options.rows
    corpora.CorpusExplainer._rows = made_up  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        explainer = fxplain.from_pretrained(saved(root / "model", 1, 32))
        write_csv(root / "rows.csv", rows)
        given = {"CSV": root / "rows.csv", "iterator": made_rows(rows)}
        for kind in options.data:
            tell = Teller(f"explain a {kind}", rows)
            found = corpora.explain_corpus(explainer, given[kind], root / kind, progress=tell)
            tell.end()
        other = fxplain.load_corpus(root / options.data[0])
        for what, call in {
            "load": lambda: found[rows // 2],
            "summary": lambda: corpora.summarise(found, minimum=20),
            "compare": lambda: corpora.compare(found, other, minimum=20),
            "report": lambda: corpora.write_report(found, root / "report"),
        }.items():
            tell, peak = Teller(what, rows), Peak("cpu")
            tell.end(f"at most +{peak.of(call) / 2**20:,.0f} MB")


def made_rows(count: int) -> Iterator[dict[str, str]]:
    """Texts of 2 to 21 words and a number that no other has."""
    chance = random.Random(0)
    for i in range(count):
        words = chance.choices(WORDS, k=chance.randint(2, 21))
        yield {"id": f"r{i}", "text": " ".join([*words, f"n{i}"]), "label": str(i % 4)}


def write_csv(path: Path, count: int) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["id", "text", "label"])
        writer.writeheader()
        writer.writerows(made_rows(count))


def made_up(
    self: Any, rows: Sequence[Prepared], _: Sequence[Any]
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """In the place of `CorpusExplainer._rows`: equal shares, and a class by the row's number."""
    for row in rows:
        assert row.pieces is not None
        pieces, count = row.pieces, len(row.pieces.ids)
        assert pieces.offsets is not None
        spans = zip(pieces.offsets, pieces.special, strict=True)
        places = [(None, None) if special else span for span, special in spans]
        name = f"LABEL_{len(row.row['text']) % 4}"
        yield (
            row.place,
            {
                **{column: row.row[column] for column in ("id", "text", "label")},
                **{"predicted": name, "target": "0", "target_name": name, "error": None},
                **{"modality": ["input_ids"] * count, "grids": "{}", "readout": "input_ids[0]"},
                **{"tokens": self.explainer.loaded.tokenizer.convert_ids_to_tokens(pieces.ids)},
                **{"starts": [a for a, _ in places], "ends": [b for _, b in places]},
                **{"relevance": [0.1] * count, "special": pieces.special, "score": 1.0},
                **{"probability": 0.5, "method": "generic", "options": json.dumps({})},
            },
        )


class Teller:
    """Prints the memory after each tenth."""

    def __init__(self, what: str, rows: int) -> None:
        self.what, self.rows, self.told, self.start = what, rows, 0, time.perf_counter()

    def __call__(self, now: corpora.Progress) -> None:
        if 10 * now.rows // self.rows > self.told:
            self.told = 10 * now.rows // self.rows
            self._tell(f"{now.rows:,} rows")

    def end(self, said: str = "done") -> None:
        self._tell(said)

    def _tell(self, said: str) -> None:
        held = psutil.Process().memory_info().rss / 2**20
        seconds = time.perf_counter() - self.start
        print(f"{self.what:20} {said:18} {held:7,.0f} MB {seconds:7.0f} s", flush=True)


if __name__ == "__main__":
    main()
