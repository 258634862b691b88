"""The index of a large corpus in a browser: ``python -m benchmarks.corpus_page`` (needs Chromium).

Milliseconds from an action to the frame that shows it, the middle and the worst of ten, with those of
them that the page's own thread computed (what is left on a machine that has nothing else to do), and
how long the page takes until all rows are there.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

import fxplain
from benchmarks.corpus import saved
from benchmarks.million import made_rows, made_up
from fxplain import corpora
from tests.browser import Visit, launched

INPUT = "document.getElementById('query').dispatchEvent(new Event('input', {bubbles: true}))"
ACTIONS = {
    "search a text": f"document.getElementById('query').value = `w${{100 + i}}`; {INPUT}",
    "search nothing": f"document.getElementById('query').value = i % 2 ? '' : ' '; {INPUT}",
    "by a top word": f"document.getElementById('token').value = i % 2 ? '' : `w${{i}}`; {INPUT}",
    "filter by class": f"document.getElementById('class').selectedIndex = i % 3; {INPUT}",
    "filter by state": f"document.getElementById('state').selectedIndex = i % 4; {INPUT}",
    "bounds": f"document.getElementById('low').value = i / 20; {INPUT}",
    "sort": f"document.getElementById('sort').selectedIndex = i % 6; {INPUT}",
    "scroll": "document.getElementById('list').scrollTop = 40000 * (i + 1)",
    "open a row": "document.querySelector('.one').click(); document.querySelector('dialog').close()",
}
RESET = (
    f"for (const one of ['query', 'token', 'low']) document.getElementById(one).value = ''; {INPUT}"
)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=corpora.MOST_ROWS)
    rows = parser.parse_args(arguments).rows
    corpora.CorpusExplainer._rows = made_up  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as name, launched() as browser:
        root = Path(name)
        explainer = fxplain.from_pretrained(saved(root / "model", 1, 32))
        found = corpora.explain_corpus(explainer, made_rows(rows), root / "rows")
        page = corpora.write_report(found, root / "report")
        size = sum(file.stat().st_size for file in page.parent.rglob("*") if file.is_file())
        print(f"{rows:,} rows, {size / 2**20:.0f} MiB; load average {psutil.getloadavg()[0]:.0f}")
        start = time.perf_counter()
        with Visit(browser, page) as visit:
            visit.page.wait_for_function(
                "said => document.getElementById('count').textContent === said",
                arg=f"{rows:,} of {rows:,} rows",
                timeout=300_000,
            )
            print(f"{'all rows there':18} {time.perf_counter() - start:7.1f} s")
            clock = Clock(visit)
            for what, action in {"nothing": "", **ACTIONS}.items():
                times, computed = zip(*(clock.of(action, i) for i in range(10)), strict=True)
                print(f"{what:18} {_told(times)}; computed {_told(computed)}", flush=True)
                visit.page.evaluate(RESET)


class Clock:
    """What an action takes until it is shown, by the clock and of the page's own thread."""

    def __init__(self, visit: Visit) -> None:
        self.visit = visit

    def of(self, action: str, i: int) -> tuple[float, float]:
        """Both, in milliseconds."""
        before = self.visit.computed()
        (took,) = self.visit.times(action, 1, i)
        return took, self.visit.computed() - before


def _told(times: Sequence[float]) -> str:
    ordered = sorted(times)
    return f"{ordered[5]:5.0f} ms, at most {ordered[-1]:.0f} ms"


if __name__ == "__main__":
    main()
