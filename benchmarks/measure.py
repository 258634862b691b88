"""How time and memory are measured, in the process that holds the model."""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

Call = Callable[[], object]

FEWEST_RUNS = 3


class OutOfMemoryError(Exception):
    """A call that needs more memory than the machine has."""


def seconds(call: Call) -> float:
    """How long one call takes, a device's queue included."""
    gc.collect()
    _synchronize()
    start = time.perf_counter()
    within_memory(call)
    _synchronize()
    return time.perf_counter() - start


def interleaved(calls: Mapping[str, Call], runs: int, budget: float) -> dict[str, list[float]]:
    """Seconds of every call, by round: each round runs all of them, each time in another order.

    Stops early, but never before three rounds, when ``budget`` seconds are spent.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    start = time.perf_counter()
    for turn in range(runs):
        if turn >= FEWEST_RUNS and time.perf_counter() - start > budget:
            break
        names = list(calls)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            times[name].append(seconds(calls[name]))
    return times


def spread(values: Sequence[float]) -> dict[str, float | list[float]]:
    """Median, lowest and highest, and the values themselves."""
    return {
        "median": statistics.median(values),
        "lowest": min(values),
        "highest": max(values),
        "values": list(values),
    }


def ratio(above: Sequence[float], below: Sequence[float]) -> dict[str, float | list[float]]:
    """The ratio of two columns, taken round by round."""
    return spread([a / b for a, b in zip(above, below, strict=True)])


def within_memory(call: Call) -> object:
    """The call's result, or `OutOfMemoryError`."""
    try:
        return call()
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise OutOfMemoryError from error
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):
            raise
        raise OutOfMemoryError from error


class Peak:
    """Peak memory of calls in this process, in bytes above what it holds when this is made.

    On a CUDA device what torch has allocated there, otherwise the process's resident memory
    (``ru_maxrss``). Its high-water mark is reset before each call where the system allows that;
    elsewhere a call that stays under an earlier one's peak reads as that peak.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.start = self._reset()

    def of(self, call: Call) -> int:
        """The highest point of one call; what earlier calls left behind counts too."""
        self._reset()
        within_memory(call)
        return self._highest() - self.start

    def _reset(self) -> int:
        gc.collect()
        if self.device != "cpu":
            _synchronize()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)
            return torch.cuda.memory_allocated(self.device)
        if sys.platform == "linux":
            _return_freed_pages()
            Path("/proc/self/clear_refs").write_text("5")  # the high-water mark of resident memory
        return self._highest()

    def _highest(self) -> int:
        if self.device != "cpu":
            return torch.cuda.max_memory_allocated(self.device)
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def machine_memory(device: str) -> int:
    """Bytes that can be used: free now, of the device or of the machine."""
    if device != "cpu":
        return torch.cuda.mem_get_info(device)[0]
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        fields = dict(line.split(":") for line in meminfo.read_text().splitlines())
        return int(fields["MemAvailable"].split()[0]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def limit_memory(device: str) -> None:
    """Let a call that needs more than the machine has fail, rather than harm what else runs."""
    if device == "cpu" and sys.platform == "linux":
        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        limit = int(0.95 * machine_memory(device))
        if most != resource.RLIM_INFINITY:
            limit = min(limit, most)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, most))


def _return_freed_pages() -> None:
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's alone
    if trim is not None:
        trim(0)


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
