"""``python -m tests.zoo``: the table of architectures, and how many are right."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from rich.console import Console
from rich.progress import track

from tests.zoo import CASES
from tests.zoo.coverage import page
from tests.zoo.parallel import checked
from tests.zoo.table import as_json, from_json, summary, table


def main() -> int:
    """Check the chosen architectures; the exit status says whether all are right."""
    families = sorted({case.family for case in CASES})
    parser = argparse.ArgumentParser(prog="python -m tests.zoo", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="architectures, by name")
    parser.add_argument("--family", choices=families)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows as JSON")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the coverage page")
    parser.add_argument(
        "--rows", type=Path, metavar="FILE", help="take the rows from a file that --json wrote"
    )
    parser.add_argument("--limit", type=int, default=120, help="seconds per architecture")
    parser.add_argument(
        "-j", "--jobs", type=int, default=os.cpu_count(), help="architectures at a time"
    )
    parser.add_argument("--problems", action="store_true", help="say what is wrong, and where")
    options = parser.parse_args()
    unknown = set(options.only or ()) - {case.name for case in CASES}
    if unknown:
        parser.error(f"no such architecture: {', '.join(sorted(unknown))}")
    chosen = [
        case
        for case in CASES
        if (not options.only or case.name in options.only)
        and (not options.family or case.family == options.family)
    ]
    progress = Console(stderr=True)
    if options.rows:
        rows = from_json(json.loads(options.rows.read_text(encoding="utf-8")))
    else:
        every = checked(chosen, options.limit, options.jobs)
        silent = not progress.is_terminal
        bar = track(every, total=len(chosen), console=progress, transient=True, disable=silent)
        rows = list(bar)
    console = Console(width=None if progress.is_terminal else 180)
    console.print(table(rows))
    if options.problems:
        for row in rows:
            if not row.right:
                console.print(f"[bold]{row.name}[/bold]", row.error or row.wrong)
                for line in row.unmatched:
                    console.print(f"    no node saw {line}", markup=False)
    console.print(summary(rows))
    if options.json:
        options.json.write_text(json.dumps(as_json(rows), indent=1) + "\n", encoding="utf-8")
    if options.markdown:
        options.markdown.write_text(page(rows), encoding="utf-8")
    return 0 if all(row.right for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
