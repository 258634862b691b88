"""``python -m tests.wild``: the table of models from other places, and how many are right."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.console import Console

from tests.wild import HANDWRITTEN, entries
from tests.wild.page import page
from tests.wild.processes import check_all
from tests.wild.table import Row, as_json, from_json, summary, table


def main() -> int:
    """Check the chosen models; the exit status says whether all are right."""
    parser = argparse.ArgumentParser(prog="python -m tests.wild", description=__doc__)
    parser.add_argument("names", nargs="*", help="parts of the models' or families' names")
    parser.add_argument("--handwritten", action="store_true", help="no packages")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--limit", type=int, default=120, help="seconds per model")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows as JSON")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the page")
    parser.add_argument("--rows", type=Path, metavar="FILE", help="rows that --json wrote")
    options = parser.parse_args()
    if options.rows:
        rows = from_json(json.loads(options.rows.read_text(encoding="utf-8")))
    else:
        rows = _checked(options)
    console = Console(width=None if Console().is_terminal else 180)
    console.print(table(rows))
    console.print(summary(rows))
    if options.json:
        options.json.write_text(json.dumps(as_json(rows), indent=1) + "\n", encoding="utf-8")
    if options.markdown:
        options.markdown.write_text(page(rows), encoding="utf-8")
    return 0 if all(row.right for row in rows) else 1


def _checked(options: argparse.Namespace) -> list[Row]:
    chosen = [
        entry.name
        for entry in (HANDWRITTEN if options.handwritten else entries())
        if not options.names or any(n in f"{entry.family}/{entry.name}" for n in options.names)
    ]
    return check_all(chosen, options.jobs, handwritten=options.handwritten, limit=options.limit)


if __name__ == "__main__":
    raise SystemExit(main())
