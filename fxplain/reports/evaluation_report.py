"""How an evaluation looks: settings, and for each modality a table of methods by metrics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from fxplain.evaluation import OF_EXAMPLES, Evaluation, Row
from fxplain.reports.graph_report import facts_table, warning_lines
from fxplain.written import rounded

__all__ = ["evaluation_report", "facts_of"]


def evaluation_report(evaluation: Evaluation) -> RenderableType:
    """What was evaluated and how, then the numbers, the best of each metric in bold."""
    settings = evaluation.settings
    skipped = [f"{name} was skipped: {reason}" for name, reason in settings["skipped"].items()]
    parts: list[RenderableType] = [
        Text.assemble(("Evaluation of ", "bold"), (settings["model"], "bold cyan")),
        *warning_lines(skipped),
        facts_table(list(facts_of(settings))),
    ]
    for modality in evaluation.modalities:
        rows = [row for row in evaluation.rows if row.modality == modality]
        parts += [Text(), Text(modality, "bold"), _Numbers(rows)]
    return Group(*parts)


def facts_of(settings: Any) -> Iterator[tuple[str, str]]:
    """What was evaluated and how, by name."""
    yield "samples", str(settings["samples"])
    yield "explained", _explained(settings["target"])
    yield from settings.get("chosen", {}).items()
    if settings["removal"]:
        yield "score", f"{settings['score']}, as {_percents(settings['steps'])} of the tokens go"
    for place, (modality, removal) in enumerate(settings["removal"].items()):
        yield "removed" if place == 0 else "", f"{modality} by {removal}"
    yield (
        "intervals",
        f"{settings['confidence']:.0%}, bootstrap of {settings['resamples']} resamples, seed "
        f"{settings['seed']}",
    )


def _explained(target: Any) -> str:
    if target == OF_EXAMPLES:
        return "what each example asks for"
    return f"the {target} class" if target in ("predicted", "true") else f"target {target}"


def _percents(steps: Sequence[float]) -> str:
    return ", ".join(f"{100 * step:g}" for step in steps) + "%"


class _Numbers:
    """Methods by metrics; metrics that do not fit side by side go below."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = {(row.method, row.metric): row for row in rows}
        self.methods = tuple(dict.fromkeys(row.method for row in rows))
        self.metrics = tuple(dict.fromkeys(row.metric for row in rows))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Tables of at most the screen's width."""
        label = max(len("method"), *(len(method) for method in self.methods)) + 2
        width = max(_CELL, *(len(metric) + 2 for metric in self.metrics)) + 2
        side_by_side = max(1, (options.max_width - label) // width)
        arrows = ("v", "^") if options.ascii_only else ("↓", "↑")
        for start in range(0, len(self.metrics), side_by_side):
            if start:
                yield Text()
            yield self._table(self.metrics[start : start + side_by_side], arrows)

    def _table(self, metrics: Sequence[str], arrows: tuple[str, str]) -> Table:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        table.add_column("method", no_wrap=True)
        for metric in metrics:
            is_higher = self._row(self.methods[0], metric).better == "higher"
            table.add_column(f"{metric} {arrows[is_higher]}", justify="right", no_wrap=True)
        best = {metric: self._best(metric) for metric in metrics}
        for method in self.methods:
            cells = []
            for metric in metrics:
                row = self._row(method, metric)
                cells.append(Text(_number(row), "bold" if row.value == best[metric] else ""))
            table.add_row(method, *cells)
        return table

    def _row(self, method: str, metric: str) -> Row:
        return self.rows[method, metric]

    def _best(self, metric: str) -> float | None:
        rows = [self._row(method, metric) for method in self.methods]
        values = [row.value for row in rows if isfinite(row.value)]
        choose = max if rows[0].better == "higher" else min
        return choose(values) if values else None


_CELL = len("-0.123 [-0.123, -0.123]")


def _number(row: Row) -> str:
    if not isfinite(row.value):
        return "-"
    if row.samples == 1:
        return f"{rounded(row.value, '.3f')} (one sample)"
    return f"{rounded(row.value, '.3f')} [{rounded(row.low, '.3f')}, {rounded(row.high, '.3f')}]"
