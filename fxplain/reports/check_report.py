"""The report of a check: what an explanation says of words, beside what cutting them did."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fxplain.interventions import Check, Claim
from fxplain.written import rounded

__all__ = ["check_report"]


def check_report(check: Check) -> RenderableType:
    """The most and the least relevant units by themselves, then together, then chance."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("cut", overflow="fold")
    table.add_column("relevance", justify="right")
    table.add_column("score falls by", justify="right")
    for head, claims in (("most relevant", check.most), ("least relevant", check.least)):
        table.add_row(Text(head, "dim"))
        for row in _rows(claims):
            table.add_row(*row)
    k = len(check.most)
    mean, low, high = check.chance
    table.add_row(Text("at once", "dim"))
    table.add_row(f"the {k} most relevant", "", rounded(check.fall_of_most, "+.4g"))
    table.add_row(f"the {k} least relevant", "", rounded(check.fall_of_least, "+.4g"))
    table.add_row(
        f"{k} by chance, {len(check.by_chance)} times",
        "",
        f"{rounded(mean, '+.4g')} ({rounded(low, '+.4g')} to {rounded(high, '+.4g')})",
    )
    verdict = f"did more than {check.beaten} of {len(check.by_chance)} draws of chance"
    head_line = Text.assemble(
        (check.method, "bold"),
        f", sample {check.sample}, score {rounded(check.score, '.4g')}: ",
        "cutting what it says matters most ",
        verdict,
    )
    return Group(head_line, table)


def _rows(claims: Sequence[Claim]) -> list[tuple[Text, str, str]]:
    several = len({claim.modality for claim in claims if claim.modality not in claim.text}) > 1
    return [
        (
            Text(f"  {claim.text}{f' ({claim.modality})' if several else ''}"),
            rounded(claim.relevance, ".4g"),
            rounded(claim.fall, "+.4g"),
        )
        for claim in claims
    ]
