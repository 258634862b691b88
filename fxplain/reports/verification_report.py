"""The report of a verification: a table of laws, and where they break."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fxplain.verification import Verification

__all__ = ["verification_report"]

_STYLES = {"holds": "green", "broken": "bold red", "not checked": "dim"}


def verification_report(verification: Verification) -> RenderableType:
    """Each law with its state, its cost, and the first operation at which it breaks."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("law")
    table.add_column("state", no_wrap=True)
    table.add_column("forwards", justify="right")
    table.add_column("where", overflow="fold")
    for law in verification.laws:
        said = "\n".join(map(str, law.faults)) or law.reason
        state = Text(law.state, _STYLES[law.state])
        table.add_row(law.law, state, f"{law.forwards:g}" if law.forwards else "", Text(said))
    verdict = "nothing is broken" if verification.ok else "what fxplain says here is wrong"
    head = Text.assemble((verification.model, "bold"), f": {verdict}")
    cost = Text(f"{verification.forwards:g} forwards, {verification.seconds:.2f} s", "dim")
    return Group(head, table, cost)
