"""What fxplain sets out to reach, each bar beside what was measured."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Results = Mapping[str, Any]


@dataclass(frozen=True)
class Bar:
    """``best`` is the least, or the most, that ``measured`` may be; None where nothing was."""

    text: str
    sign: str
    limit: float
    measured: float | None
    unit: str = ""

    @property
    def reached(self) -> bool | None:
        if self.measured is None:
            return None
        compare = {"≤": operator.le, "≥": operator.ge}[self.sign]
        return compare(self.measured, self.limit)


def bars(results: Results) -> Iterator[Bar]:
    """All bars, in the order of what they ask for."""
    time, memory, cold = (
        _by_case(results, _time),
        _by_case(results, _memory),
        _by_case(results, _cold),
    )
    for limit, names in (
        (1.20, ("BERT-base, 128", "ViT-B/16", "LXMERT-base", "BART-base")),
        (1.30, ("BERT-base, 512",)),
        (1.60, ("attention stack, 4096",)),
    ):
        for name in names:
            yield Bar(f"time, warm / floor: {name}", "≤", limit, time(name, "warm/floor"))
    for limit, name in ((1.5, "BERT-base, 512"), (2.5, "attention stack, 2048")):
        yield Bar(f"time, classic / warm: {name}", "≥", limit, time(name, "classic/warm"))
    for name in results["cases"]:
        yield Bar(f"memory, warm / floor: {name}", "≤", 1.15, memory(name, "warm/floor"))
    large = "attention stack, 2048"
    yield Bar(f"memory, classic / warm: {large}", "≥", 6.0, memory(large, "classic/warm"))
    bert = "BERT-base, 128"
    yield Bar("capture and analysis, BERT-base", "≤", 5.0, cold(bert, "capture and analysis"), "s")
    yield Bar("a further length, BERT-base", "≤", 0.3, cold(bert, "further length"), "s")
    yield Bar("import fxplain, beyond torch", "≤", 0.3, results.get("import seconds"), "s")


def memory_ratio(case: Results, above: str, below: str) -> float | None:
    """The ratio of two columns' peaks of a call that was not the first."""
    peaks = [case["memory"].get(name, {}).get("again") for name in (above, below)]
    if None in peaks or peaks[1] <= 0:  # a tiny model's peak is less than can be seen
        return None
    return peaks[0] / peaks[1]


def _time(case: Results, pair: str) -> float | None:
    return case["ratios"].get(pair, {}).get("median")


def _memory(case: Results, pair: str) -> float | None:
    return memory_ratio(case, *pair.split("/"))


def _cold(case: Results, what: str) -> float | None:
    return case["cold"].get(what)


def _by_case(
    results: Results, value: Callable[[Results, str], float | None]
) -> Callable[[str, str], float | None]:
    """``value`` of a case by its name; None where the case was not run."""

    def of(name: str, what: str) -> float | None:
        case = results["cases"].get(name)
        return None if case is None else value(case, what)

    return of
