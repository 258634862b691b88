"""Time and measure explanations: ``python -m benchmarks``.

The floor of any gradient method is one forward and one backward to where the tokens are born, with
all parameters frozen. Calls of one model are interleaved; medians are printed, and ratios of calls
that followed each other. Peak memory is what one call needs above the model.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.calls import Call, calls
from benchmarks.memory import peak
from benchmarks.models import CASES, Case

MEASURED = ("floor", "fxplain", "classic")


@dataclass
class Result:
    """Seconds of every run by call (fxplain's first under "cold"), and MiB of peak memory."""

    name: str
    tokens: int
    seconds: dict[str, list[float]] = field(default_factory=dict)
    mebibytes: dict[str, float | None] = field(default_factory=dict)

    def median(self, call: str) -> float | None:
        return statistics.median(self.seconds[call]) if call in self.seconds else None

    def ratios(self, a: str, b: str) -> list[float]:
        pairs = zip(self.seconds.get(a, []), self.seconds.get(b, []), strict=False)
        return sorted(x / y for x, y in pairs)

    def memory_ratio(self, a: str, b: str) -> float | None:
        x, y = self.mebibytes.get(a), self.mebibytes.get(b)
        return x / y if x is not None and y else None


def seconds(call: Call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure(case: Case, runs: int, *, quick: bool, memory: bool) -> Result:
    result = Result(case.name, case.tokens)
    of_case = calls(case, quick=quick)
    result.seconds["cold"] = [seconds(of_case["fxplain"])]
    for call in of_case.values():
        call()
    for _ in range(runs):
        for name, call in of_case.items():
            result.seconds.setdefault(name, []).append(seconds(call))
    if memory:
        for name in MEASURED:
            if name in of_case:
                result.mebibytes[name] = peak(CASES.index(case), name, quick=quick)
    return result


COLUMNS = {
    "model": lambda r: r.name,
    "tokens": lambda r: f"{r.tokens:,}",
    "forward s": lambda r: number(r.median("forward"), 3),
    "floor s": lambda r: number(r.median("floor"), 3),
    "fxplain s": lambda r: number(r.median("fxplain"), 3),
    "cold s": lambda r: number(r.median("cold"), 1),
    "fxplain / floor": lambda r: spread(r.ratios("fxplain", "floor")),
    "classic / fxplain": lambda r: spread(r.ratios("classic", "fxplain")),
    "floor MiB": lambda r: number(r.mebibytes.get("floor"), 0),
    "fxplain MiB": lambda r: number(r.mebibytes.get("fxplain"), 0),
    "memory / floor": lambda r: number(r.memory_ratio("fxplain", "floor"), 2),
    "classic / fxplain memory": lambda r: number(r.memory_ratio("classic", "fxplain"), 1),
}


def number(x: float | None, digits: int) -> str:
    return "" if x is None else f"{x:,.{digits}f}"


def spread(ratios: list[float]) -> str:
    if not ratios:
        return ""
    return f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer layers and lengths")
    parser.add_argument("--runs", type=int, default=0, help="of each call (default: 5; quick, 3)")
    parser.add_argument("--only", help="models whose name has this in it")
    parser.add_argument("--tokens", type=int, nargs="*", help="only these lengths")
    parser.add_argument("--no-memory", action="store_true", help="time only")
    parser.add_argument("--threads", type=int, default=0, help="of torch (default: its own choice)")
    parser.add_argument("--json", type=Path, help="where to save every number")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    runs = arguments.runs or (3 if arguments.quick else 5)
    results = []
    for case in CASES:
        wanted = not arguments.only or arguments.only.lower() in case.name.lower()
        wanted &= not arguments.tokens or case.tokens in arguments.tokens
        if wanted and (case.quick or not arguments.quick):
            memory = not arguments.no_memory
            results.append(measure(case, runs, quick=arguments.quick, memory=memory))
    table = Table(*COLUMNS)
    for result in results:
        table.add_row(*(column(result) for column in COLUMNS.values()))
    Console(width=170).print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(result) for result in results], indent=1))


if __name__ == "__main__":
    main()
