"""Runs that are killed: ``python -m benchmarks.killed`` says how many rows are missing or there twice.

5,000 texts, two workers. ``kill -9`` of one worker in the middle; then of a whole run, its workers and
its Ray included, and the same command again.
"""

from __future__ import annotations

import argparse
import csv
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

import fxplain
from benchmarks.corpus import made_texts, saved

MARKS = {"local": "spawn_main", "ray": "ray::MapWorker"}
"""By engine, what the command line of a process says that has the model."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--shard-rows", type=int, default=125)
    parser.add_argument("--engine", nargs="+", default=["local"], choices=list(MARKS))
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        saved(root / "model", 2, 32)
        texts = made_texts(options.rows)
        with (root / "rows.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("id", "text"), *enumerate(texts)])
        for engine in options.engine:
            _a_worker(Killed(root, root / f"{engine}-worker", engine, options))
            _a_run(Killed(root, root / f"{engine}-run", engine, options))


@dataclass(frozen=True)
class Killed:
    """A run that somebody kills."""

    root: Path
    out: Path
    engine: str
    options: argparse.Namespace

    def start(self) -> psutil.Popen:
        """The command, in a process of its own."""
        command = [sys.executable, "-m", "fxplain.cli", "corpus", "explain", self.root / "model"]
        command += ["--data", self.root / "rows.csv", "--out", self.out, "--workers", 2]
        command += ["--shard-rows", self.options.shard_rows, "--engine", self.engine]
        return psutil.Popen([*map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def shards(self) -> dict[Path, int]:
        """Those that are there, and when they were written."""
        return {path: path.stat().st_mtime_ns for path in self.out.glob("part-*.parquet")}

    def wait_for_a_third(self, run: psutil.Popen) -> None:
        """Until so much is done."""
        while 3 * self.options.shard_rows * len(self.shards()) < self.options.rows:
            if run.poll() is not None:
                raise SystemExit(f"the run ended by itself: {run.stderr.read().decode()}")
            time.sleep(0.02)

    def tell(self, what: str, kept: dict[Path, int]) -> None:
        """How whole the folder is now."""
        found = fxplain.load_corpus(self.out)
        counts = Counter(found.to_table(["id"])["id"].to_pylist())
        now = self.shards()
        untouched = sum(now.get(path) == when for path, when in kept.items())
        print(
            f"{self.engine:6} {what:22} {sum(counts.values()):,} rows, "
            f"{self.options.rows - len(counts)} missing, "
            f"{sum(n > 1 for n in counts.values())} twice; "
            f"{untouched} of {len(kept)} files that were there were kept, of {len(now)}; "
            f"left half written: {len(list(self.out.glob('*.tmp')))}",
            flush=True,
        )


def _a_worker(killed: Killed) -> None:
    run = killed.start()
    killed.wait_for_a_third(run)
    kept = killed.shards()
    workers = [p for p in run.children(recursive=True) if MARKS[killed.engine] in _named(p)]
    os.kill(workers[0].pid, signal.SIGKILL)
    if run.wait() != 0:
        raise SystemExit(run.stderr.read().decode())
    killed.tell("kill -9 of a worker", kept)


def _a_run(killed: Killed) -> None:
    run = killed.start()
    killed.wait_for_a_third(run)
    for process in [*run.children(recursive=True), run]:
        if process.is_running():
            process.kill()
    run.wait()
    kept = killed.shards()
    again = killed.start()
    if again.wait() != 0:
        raise SystemExit(again.stderr.read().decode())
    killed.tell("kill -9 of the run", kept)


def _named(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it has ended meanwhile
        return ""


if __name__ == "__main__":
    main()
