"""One measurement in a process of its own: ``python -m benchmarks.child JSON`` prints JSON.

A process that has measured something else would hide a peak of memory, and would not be cold.
"""

from __future__ import annotations

import json
import sys
import warnings
from dataclasses import asdict, dataclass
from typing import Any

import torch

import fxplain
from benchmarks.columns import ALL, COLUMNS, INTEGRATED, STEPS, has_captum
from benchmarks.measure import (
    OutOfMemoryError,
    Peak,
    interleaved,
    limit_memory,
    machine_memory,
    ratio,
    seconds,
    spread,
    within_memory,
)
from benchmarks.models import BY_NAME
from benchmarks.workload import Case, Workload

RATIOS = (("warm", "floor"), ("classic", "warm"), ("classic, frozen", "warm"))


@dataclass(frozen=True)
class Task:
    """What a child measures: the times of a case, or the memory of one of its columns.

    ``budget`` bounds the seconds of the interleaved runs, and those of integrated gradients.
    """

    what: str
    case: str
    column: str = ""
    runs: int = 7
    budget: float = 120.0
    device: str = "cpu"
    tiny: bool = False

    def argument(self) -> str:
        return json.dumps(asdict(self))


def measured(task: Task) -> dict[str, Any]:
    case = BY_NAME[task.case]
    if task.what == "times":
        return times(task, case)
    return memory(task, case)


def times(task: Task, case: Case) -> dict[str, Any]:
    """Cold first, in a process that has explained nothing; then all columns in turn."""
    workload = case.make(task.tiny).to(task.device)
    notes: dict[str, str] = {}
    cold = _cold(workload)
    calls = {}
    for name, prepare in COLUMNS.items():
        why_not = _too_large(case, name, task)
        if why_not is None:
            calls[name] = prepare(workload)
            why_not = _fails(calls[name])  # and warms up
        if why_not is not None:
            notes[name] = why_not
            calls.pop(name, None)
    rounds = interleaved(calls, task.runs, task.budget)
    result: dict[str, Any] = {
        "cold": cold,
        "seconds": {name: spread(values) for name, values in rounds.items()},
        "ratios": {
            f"{above}/{below}": ratio(rounds[above], rounds[below])
            for above, below in RATIOS
            if above in rounds and below in rounds
        },
        "notes": notes,
    }
    if "floor" in rounds:
        _integrated(task, workload, result)
    return result


def memory(task: Task, case: Case) -> dict[str, Any]:
    """The first call's peak above model and inputs, and that of a second one.

    Libraries are loaded before by a tiny model's call.
    """
    why_not = _too_large(case, task.column, task)
    if why_not is not None:
        return {"note": why_not}
    prepare = ALL[task.column]
    prepare(case.make(True).to(task.device))()
    workload = case.make(task.tiny).to(task.device)
    try:
        peak = Peak(task.device)
        call = prepare(workload)
        first = peak.of(call)
        if task.column == INTEGRATED:  # fifty calls already
            return {"first": first, "again": first}
        return {"first": first, "again": peak.of(call)}
    except OutOfMemoryError:
        return {"note": "out of memory"}


def _cold(workload: Workload) -> dict[str, float]:
    """Seconds to capture and analyse, of the first explanation in all, and of another length."""
    try:
        inspect = seconds(lambda: fxplain.inspect(workload.model, workload.inputs))
        first = seconds(ALL["warm"](workload))
        result = {"capture and analysis": inspect, "first explanation": inspect + first}
        if workload.further is not None:
            further = workload.further
            result["further length"] = seconds(lambda: fxplain.inspect(workload.model, further))
    except OutOfMemoryError:
        return {}
    return result


def _integrated(task: Task, workload: Workload, result: dict[str, Any]) -> None:
    """One run of fifty steps, where that fits into the budget."""
    expected = STEPS * result["seconds"]["floor"]["median"]
    if not has_captum():
        result["notes"][INTEGRATED] = "captum is not installed"
    elif expected > task.budget:
        result["notes"][INTEGRATED] = f"not run: about {expected:.0f} s"
    else:
        result["seconds"][INTEGRATED] = spread([seconds(ALL[INTEGRATED](workload))])


def _too_large(case: Case, column: str, task: Task) -> str | None:
    """Why the classic recipe is not run: what it keeps is more than there is."""
    if not column.startswith("classic") or task.tiny:
        return None
    if case.classic_bytes < 0.9 * machine_memory(task.device):
        return None
    return f"not run: A and dA are {case.classic_bytes / 2**30:.0f} GiB"


def _fails(call: Any) -> str | None:
    try:
        within_memory(call)
    except OutOfMemoryError:
        return "out of memory"
    return None


def main() -> None:
    task = Task(**json.loads(sys.argv[1]))
    warnings.filterwarnings("ignore")
    limit_memory(task.device)
    torch.manual_seed(0)
    print(json.dumps(measured(task)))


if __name__ == "__main__":
    main()
