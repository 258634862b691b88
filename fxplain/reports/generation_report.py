"""How a generation looks: for each generated token, what it draws on most."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich import box
from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from fxplain.generation import EARLIER, Generation
from fxplain.reports.explanation_report import readout_place
from fxplain.reports.graph_report import count_nodes, facts_table, warning_lines
from fxplain.reports.shading import percent, printable

__all__ = ["generation_report"]

MOST_SAMPLES = 8
MOST_SOURCES = 4
"""How many samples, and sources of a token, are shown."""


def generation_report(generation: Generation) -> RenderableType:
    """Model, method and warnings, then each text with a row for each explained token."""
    shown = min(generation.batch_size, MOST_SAMPLES)
    method = generation.explanations[0].method
    explained = generation.score.replace("_", " ")
    parts: list[RenderableType] = [
        Text.assemble(("Generation of ", "bold"), (generation.graph.model, "bold cyan")),
        *warning_lines(generation.graph.warnings),
        facts_table([
            ("method", method), ("explained", f"each token's {explained}"),
            ("found", count_nodes(generation.graph)),
        ]),
    ]  # fmt: skip
    for sample in range(shown):
        title = f"sample {sample}: {printable(generation.text[sample])}"
        rule = Rule(Text(title, "bold"), align="left", characters="-", style="dim")
        parts += [Text(), rule, _table(generation, sample)]
    left = generation.batch_size - shown
    if left:
        parts.append(Text(f"\n({left} more samples are not shown; see .matrix)", "dim"))
    return Group(*parts)


def _table(generation: Generation, sample: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("output", overflow="fold")
    table.add_column("score", justify="right", no_wrap=True)
    names = generation.modalities
    for name in names:
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("draws most on", overflow="fold")
    for target, e in enumerate(generation.explanations):
        if not generation.real[sample, target]:
            continue
        sources = list(_sources(generation, sample, target))
        total = sum(s.amount for s in sources) or 1.0
        shares = [sum(s.amount for s in sources if s.modality == name) / total for name in names]
        most = sorted(sources, key=lambda s: -s.amount)[:MOST_SOURCES]
        told = ", ".join(f"{s.label} {percent(s.amount / total)}" for s in most if s.amount)
        table.add_row(
            Text(_output(generation, sample, target)),
            f"{float(e.scores[sample]):.4g}",
            *map(percent, shares),
            Text(told or "nothing"),
        )
    return table


def _output(generation: Generation, sample: int, target: int) -> str:
    asked = generation.targets[target]
    place = f"{asked} " if isinstance(asked, int) else ""
    return place + printable(generation.names[target][sample])


@dataclass(frozen=True)
class _Source:
    modality: str
    label: str
    amount: float


def _sources(generation: Generation, sample: int, target: int) -> Iterator[_Source]:
    """What a target draws on; the token that it is read from starts from 1 and is left out."""
    e = generation.explanations[target]
    for modality in generation.modalities:
        source, places = generation.columns(modality)
        read = {readout_place(part, source) for part in e.readout[sample].split(" and ")}
        values = e.relevance[source][sample].tolist()
        labels = e.tokens(source)[sample]
        for number, place in enumerate(places):
            if place not in read:
                label = _label(modality, number, printable(labels[place]))
                yield _Source(modality, label, abs(values[place]))


def _label(modality: str, number: int, label: str) -> str:
    """A source's label; an earlier output's index, and an id or a place of a grid, say of what."""
    if modality == EARLIER:
        return f"{number} {label}"
    return f"{modality} {label}" if label.replace(",", "").isdigit() else label
