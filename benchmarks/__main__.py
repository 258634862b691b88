"""What an explanation costs, beside a gradient and beside the classic recipe.

Times are taken in one process per model: all columns in turn, round by round, and a ratio is the
median of the rounds' ratios. Peak memory is taken in one process per model and column.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks.child import Task
from benchmarks.columns import ALL
from benchmarks.models import CASES, QUICK
from benchmarks.plot import FAMILY, plot
from benchmarks.tables import notes, tables
from benchmarks.workload import Case

NO_TIMES: dict[str, Any] = {"cold": {}, "seconds": {}, "ratios": {}, "notes": {}}
ROOT = Path(__file__).parents[1]
IMPORT = (
    "import time, torch; t = time.perf_counter(); import fxplain; print(time.perf_counter() - t)"
)


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    console = Console(width=None if sys.stdout.isatty() else 160)
    results: dict[str, Any] = {
        "machine": machine(options.device),
        "import seconds": import_seconds(),
        "cases": {},
    }
    for case in _chosen(options):
        console.print(f"{case.name} ...", style="dim")
        results["cases"][case.name] = measured(case, options)
        if options.json:
            _save(results, options.json)
    for table in tables(results):
        console.print(table)
    for note in notes(results):
        console.print(note, highlight=False)
    console.print(", ".join(f"{key}: {value}" for key, value in results["machine"].items()))
    if options.plot:
        options.plot.parent.mkdir(parents=True, exist_ok=True)
        plot(results, options.plot)
    if any(_failed(case) for case in results["cases"].values()):
        sys.exit(1)


def measured(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    """One case's times, then the memory of each column that could be run."""
    shared = {"case": case.name, "device": options.device, "tiny": options.tiny}
    times = Task("times", runs=options.runs, budget=options.budget, **shared)
    result = {"tokens": case.tokens, **NO_TIMES, "memory": {}, **_child(times)}
    for column in _columns_of_memory(case, options):
        if column in result["seconds"]:
            result["memory"][column] = _child(Task("memory", column=column, **shared))
    return result


def import_seconds() -> float:
    """What ``import fxplain`` takes beyond ``import torch``, in fresh processes."""
    runs = [_python("-c", IMPORT) for _ in range(3)]
    return statistics.median(float(run.stdout) for run in runs)


def machine(device: str) -> dict[str, Any]:
    """What the numbers were measured on."""
    name = torch.cuda.get_device_name() if device != "cpu" else platform.machine()
    return {
        "device": name,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
    }


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = [case.name for case in CASES]
    parser.add_argument("--quick", action="store_true", help=f"only {'; '.join(QUICK)}")
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"of {'; '.join(names)}")
    parser.add_argument("--runs", type=int, default=7, help="rounds, at most (default 7)")
    parser.add_argument(
        "--budget",
        type=float,
        help="seconds for a model's rounds, and for its integrated gradients (default 120; quick: 8)",
    )
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--tiny", action="store_true", help="tiny models, to see that all runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save the results")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw cost against tokens")
    options = parser.parse_args(arguments)
    if options.budget is None:
        options.budget = 8 if options.quick else 120
    for name in options.only or ():
        if not any(case.startswith(name) for case in names):
            parser.error(f"no model is called {name!r}; there are {'; '.join(names)}")
    return options


def _chosen(options: argparse.Namespace) -> list[Case]:
    wanted = options.only or (QUICK if options.quick else [""])
    return [case for case in CASES if any(case.name.startswith(name) for name in wanted)]


def _columns_of_memory(case: Case, options: argparse.Namespace) -> Iterator[str]:
    if options.quick and not case.name.startswith(FAMILY):
        return
    yield from ALL


def _child(task: Task) -> dict[str, Any]:
    """What a child measured; where it broke down, only its last words."""
    done = _python("-m", "benchmarks.child", task.argument())
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    words = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
    return {"failed": words[-1]}


def _failed(case: dict[str, Any]) -> bool:
    return any("failed" in found for found in (case, *case["memory"].values()))


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def _save(results: dict[str, Any], path: Path) -> None:
    """After every model, so that a long run that is stopped leaves what it found."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
