"""The report of a circuit: its edges by reader, and how faithfulness grows with their number."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fxplain.circuits import Circuit
from fxplain.written import rounded

__all__ = ["circuit_report"]


def circuit_report(circuit: Circuit) -> RenderableType:
    """Each edge with what corrupting it does, to first order, then the curve."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("reader", overflow="fold")
    table.add_column("as")
    table.add_column("hears of", overflow="fold")
    table.add_column("strength", justify="right", no_wrap=True)
    before = ""
    for edge in circuit.edges:
        reader = str(edge.target)
        slot = "" if edge.slot == "in" else edge.slot
        table.add_row(
            Text("" if reader == before else reader),
            slot,
            Text(str(edge.source)),
            rounded(circuit.strengths[edge], "+.4g"),
        )
        before = reader
    clean, corrupted = rounded(circuit.clean, ".4g"), rounded(circuit.corrupted, ".4g")
    head = Text.assemble(
        (circuit.model, "bold"),
        f": {len(circuit.edges)} of {circuit.of_edges} edges keep {circuit.faithfulness:.1%} of "
        f"{', '.join(circuit.metric)} ({clean} clean, {corrupted} corrupted)",
    )
    curve = ", ".join(f"{size}: {kept:.2f}" for size, kept in circuit.curve)
    return Group(head, table, Text(f"the strongest edges by attribution keep {curve}", "dim"))
