"""The results as tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.table import Table

from benchmarks.bars import Results, bars, memory_ratio
from benchmarks.columns import COLUMNS, INTEGRATED

NOTHING = "–"


def tables(results: Results) -> Iterator[Table]:
    yield time_table(results)
    yield memory_table(results)
    yield bar_table(results)


def time_table(results: Results) -> Table:
    """Medians, and the median of the ratios of one round with the lowest and the highest."""
    table = Table(
        *("model, tokens", "forward", "floor", "warm", "warm / floor", "cold", "a further length"),
        *("classic", "classic / warm", "classic, frozen / warm", "IG, 50 steps"),
        title="Time in seconds (floor: one forward and one backward to the embeddings)",
        title_justify="left",
    )
    _right(table)
    for name, case in results["cases"].items():
        forward, floor, warm, classic, _ = (_seconds(case, column) for column in COLUMNS)
        cold = case["cold"]
        table.add_row(
            *(name, forward, floor, warm, _ratio(case, "warm/floor")),
            *(_number(cold.get("first explanation")), _number(cold.get("further length"))),
            *(classic, _ratio(case, "classic/warm"), _ratio(case, "classic, frozen/warm")),
            _seconds(case, INTEGRATED),
        )
    return table


def memory_table(results: Results) -> Table:
    """Peaks above model and inputs."""
    columns = [*COLUMNS, INTEGRATED]
    table = Table(
        *("model, tokens", "forward", "floor", "warm", "cold", "classic", "classic, frozen"),
        *("IG, 50 steps", "warm / floor", "classic / warm"),
        title="Peak memory above the model, in MiB",
        title_justify="left",
    )
    _right(table)
    for name, case in results["cases"].items():
        peaks = [_mebibytes(case, column, "again") for column in columns]
        table.add_row(
            *(name, *peaks[:3], _mebibytes(case, "warm", "first"), *peaks[3:]),
            _number(memory_ratio(case, "warm", "floor")),
            _number(memory_ratio(case, "classic", "warm")),
        )
    return table


def bar_table(results: Results) -> Table:
    table = Table("bar", "", "measured", "reached", title="Bars", title_justify="left")
    said = {True: "[green]yes[/]", False: "[red]no[/]", None: NOTHING}
    for bar in bars(results):
        limit = f"{bar.sign} {bar.limit:g} {bar.unit}".strip()
        table.add_row(bar.text, limit, _number(bar.measured), said[bar.reached])
    return table


def notes(results: Results) -> Iterator[str]:
    """Why a number is missing, a line each."""
    for name, case in results["cases"].items():
        if "failed" in case:
            yield f"{name}: failed: {case['failed']}"
        for column, note in case["notes"].items():
            yield f"{name}: {column}: {note}"
        for column, peak in case["memory"].items():
            if "failed" in peak:
                yield f"{name}: memory of {column} failed: {peak['failed']}"
            if "note" in peak and case["notes"].get(column) != peak["note"]:
                yield f"{name}: memory of {column}: {peak['note']}"


def _right(table: Table) -> None:
    for column in table.columns[1:]:
        column.justify = "right"


def _seconds(case: Results, column: str) -> str:
    return _number(case["seconds"].get(column, {}).get("median"))


def _ratio(case: Results, pair: str) -> str:
    found: Any = case["ratios"].get(pair)
    if found is None:
        return NOTHING
    return f"{found['median']:.2f} ({found['lowest']:.2f} to {found['highest']:.2f})"


def _mebibytes(case: Results, column: str, which: str) -> str:
    peak = case["memory"].get(column, {}).get(which)
    return NOTHING if peak is None else f"{peak / 2**20:,.0f}"


def _number(value: float | None) -> str:
    if value is None:
        return NOTHING
    return f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"
