"""Peak memory of one call above what is there before it, measured in a process of its own."""

from __future__ import annotations

import argparse
import gc
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.calls import calls
from benchmarks.models import CASES

STATUS, REFERENCES = Path("/proc/self/status"), Path("/proc/self/clear_refs")

# Freed memory goes back to the system at once, so that the second call's peak is its own.
AT_ONCE = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def peak(case: int, call: str, *, quick: bool) -> float | None:
    """MiB of `call` above the model; None where this system cannot tell."""
    if not REFERENCES.exists():
        return None
    command = [sys.executable, "-m", "benchmarks.memory", str(case), call]
    done = subprocess.run(
        command + ["--quick"] * quick,
        env={**os.environ, **AT_ONCE},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return float(done.stdout)


def _kibibytes(field: str) -> int:
    line = next(x for x in STATUS.read_text().splitlines() if x.startswith(field))
    return int(line.split()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", type=int)
    parser.add_argument("call")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    call = calls(CASES[arguments.case], quick=arguments.quick)[arguments.call]
    call()
    gc.collect()
    REFERENCES.write_text("5")  # forget the peak so far
    before = _kibibytes("VmRSS")
    held = call()  # what it returns counts
    print((_kibibytes("VmHWM") - before) / 1024)
    del held


if __name__ == "__main__":
    main()
