"""``python -m benchmarks.real``: measure methods on real checkpoints, and write the pages."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.real.cases import CASES, LackingError
from benchmarks.real.measured import AUTO, is_kept, kept
from benchmarks.real.page import choosing_page, results_page

__all__ = ["main"]


def main() -> None:
    """Measure, keep what was measured under build/real, and write both pages from all that is kept."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.real", description=__doc__)
    parser.add_argument("--only", action="append", help="only this case; several: repeat it")
    parser.add_argument("--again", action="store_true", help="measure also what is kept")
    parser.add_argument("--kept", type=Path, default=Path("build/real"))
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    asked = parser.parse_args()
    known = []
    for case in CASES:
        is_asked = not asked.only or case.name in asked.only
        if not is_asked and not is_kept(case, asked.kept):
            continue
        try:
            measured = kept(case, asked.kept, again=asked.again and is_asked)
        except LackingError as lacking:
            print(f"{case.name} is left out: {lacking}", flush=True)
            continue
        known.append((case, measured))
        best, auto = measured.results[0], measured.result(AUTO)
        print(f"{case.name}: {best.method} {best.value:.3f}, auto {auto.value:.3f}", flush=True)
    (asked.docs / "results").mkdir(exist_ok=True)
    (asked.docs / "results" / "real.md").write_text(results_page(known))
    (asked.docs / "choose-a-method.md").write_text(choosing_page(known))


if __name__ == "__main__":
    main()
