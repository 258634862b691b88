"""How an attention graph looks: what was found, where, and what was not taken for attention."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import (
    Console,
    ConsoleOptions,
    Group,
    JustifyMethod,
    RenderableType,
    RenderResult,
)
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from fxplain.program import AttentionGraph, AttentionNode, RouteNode
from fxplain.reports.graph_tree import graph_tree
from fxplain.tokens import RejectedSoftmax

__all__ = ["count_nodes", "facts_table", "graph_report", "warning_lines"]


def graph_report(graph: AttentionGraph) -> RenderableType:
    """Everything in an attention graph: facts, warnings, tree, nodes, routes, rejected softmaxes."""
    parts: list[RenderableType] = [
        Text.assemble(("AttentionGraph of ", "bold"), (graph.model, "bold cyan")),
        *warning_lines(graph.warnings),
        facts_table(_facts(graph)),
        Text(),
        *_attentions(graph),
    ]
    if graph.routes:
        parts += [_heading("Routes: tokens mixed by fixed weights"), _route_table(graph.routes)]
    if graph.rejected:
        parts += [_heading("Softmaxes that are not attention"), _rejected_table(graph.rejected)]
    return Group(*parts)


def _attentions(graph: AttentionGraph) -> Iterator[RenderableType]:
    if not graph.nodes:
        yield Text("No attention was found.")
        return
    yield graph_tree(graph)
    yield Text()
    yield _node_table(graph.nodes)


def count_nodes(graph: AttentionGraph) -> str:
    """Such as "12 attention nodes: 8 self, 4 co"."""
    kinds = Counter(node.kind for node in graph.nodes)
    text = f"{len(graph.nodes)} attention node{'' if len(graph.nodes) == 1 else 's'}"
    return text + (": " + ", ".join(f"{n} {kind}" for kind, n in kinds.items()) if kinds else "")


def facts_table(facts: Sequence[tuple[str, str]]) -> Table:
    """Names and what there is to say of them, in two columns."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(name, Text(value))
    return table


def warning_lines(warnings: Sequence[str]) -> Iterator[Text]:
    """Warnings, each led by the word, so that they stand out without colour too."""
    for warning in warnings:
        yield Text.assemble(("WARNING: ", "bold yellow"), (warning, "yellow"))


def _facts(graph: AttentionGraph) -> list[tuple[str, str]]:
    facts = [("found", count_nodes(graph) + _route_count(graph))]
    facts += [
        ("modality" if i == 0 else "", f"{name}: {_tokens(count)}")
        for i, (name, count) in enumerate(graph.modalities.items())
    ]
    derived = [s for s in graph.streams if s.modalities != (s.name,)]
    facts += [
        (
            "stream" if i == 0 else "",
            f"{s.name}: {_tokens(s.tokens)}"
            + (f" of {' and '.join(s.modalities)}" if s.modalities else ", made by a route"),
        )
        for i, s in enumerate(derived)
    ]
    if graph.context:
        facts += [("context", f"{graph.acting}: acts on all tokens alike, not by attention")]
    facts += [("readout", graph.readout), ("captured by", graph.capture.route)]
    return facts + [("", f"after {failure}") for failure in graph.capture.failures]


def _tokens(count: int) -> str:
    return f"{count} token{'' if count == 1 else 's'}"


def _route_count(graph: AttentionGraph) -> str:
    count = len(graph.routes)
    return f"; {count} route{'' if count == 1 else 's'}" if count else ""


def _heading(text: str) -> Text:
    return Text(f"\n{text}", "bold")


@dataclass(frozen=True)
class _Listing:
    """Rows that end in a module's path: one line each where they fit, else the path beneath.

    Attributes
    ----------
    columns
        Heading and justification of each column but the module's.
    rows
        The cells of each row, and its module.
    fold
        The column under whose cells modules stand where the lines are too narrow.
    """

    columns: Sequence[tuple[str, JustifyMethod]]
    rows: Sequence[tuple[Sequence[str], str]]
    fold: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The table that fits."""
        wide = self._table(beneath=False)
        needed = Measurement.get(console, options.update(width=10_000), wide).maximum
        yield wide if needed <= options.max_width else self._table(beneath=True)

    def _table(self, beneath: bool) -> Table:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for i, (heading, justify) in enumerate(self.columns):
            folded = beneath and i == self.fold
            table.add_column(
                f"{heading}, module" if folded else heading,
                justify=justify,
                overflow="fold",
                no_wrap=justify == "right",
            )
        if not beneath:
            table.add_column("module", overflow="fold")
        for cells, module in self.rows:
            texts = [Text(cell) for cell in cells]
            path = Text(module or "-", "dim")
            if beneath:
                texts[self.fold] = Text("\n").join([texts[self.fold], path])
            table.add_row(*texts, *([] if beneath else [path]))
        return table


def _node_table(nodes: Sequence[AttentionNode]) -> _Listing:
    return _Listing(
        columns=[
            ("#", "right"),
            ("kind", "left"),
            ("queries <- keys", "left"),
            ("heads", "right"),
            ("q x k", "right"),
        ],
        rows=[(_node_cells(number, node), _place(node)) for number, node in enumerate(nodes, 1)],
        fold=2,
    )


def _node_cells(number: int, node: AttentionNode) -> list[str]:
    ends = f"{', '.join(node.query) or '-'} <- {', '.join(node.key) or '-'}"
    return [str(number), node.kind, ends, str(node.heads), f"{node.q_len} x {node.k_len}"]


def _place(node: AttentionNode) -> str:
    """The module's path; the node's own name where that says more."""
    return node.name if node.name.startswith(node.module) else f"{node.module} ({node.name})"


def _route_table(routes: Sequence[RouteNode]) -> _Listing:
    return _Listing(
        columns=[("operation", "left"), ("tokens made <- from", "left")],
        rows=[
            ([route.operation, f"{route.target} <- {', '.join(route.source)}"], route.module)
            for route in routes
        ],
        fold=1,
    )


def _rejected_table(rejected: Sequence[RejectedSoftmax]) -> _Listing:
    return _Listing(
        columns=[("softmax", "left"), ("reason", "left")],
        rows=[([softmax.name, softmax.reason], softmax.module) for softmax in rejected],
        fold=0,
    )
