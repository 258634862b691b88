"""The table of the zoo as Markdown: what README.md and docs/coverage.md show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tests.zoo.table import Row, summary

__all__ = ["by_family", "page"]

INTRODUCTION = """\
# Coverage

What fxplain detects in {count} tiny architectures of `transformers` (random weights, batch 2 where the
model allows it), against what eager attention returns: the number of attention nodes of each kind,
heads and sizes, and the attention weights themselves; and against what is known of each architecture:
the modalities with their numbers of tokens, and the tokens that the main output is read from. The laws
are checked besides: the matrix's row at the token that is read is the relevance, ids have one number
each, a query's map sums to what its weights sum to, padding has no relevance. `make zoo` prints it;
this page is written by `python -m tests.zoo --markdown docs/coverage.md`.

**{summary}.**
"""


KNOWN = {
    "codes that the model makes of the recording are looked up: at which of its samples is not known": (
        "mimi"
    ),
    "the token that a vector of ids makes without an embedding is lost": "oneformer",
    "what a mixer makes of patches before the first attention stands beside them": "patchtsmixer",
    "queries take the name of the proposals that place them": "grounding-dino",
}
"""Why something is not right, as far as it is known: a cause, and the architectures that it touches."""

REASONS = {
    name: "; ".join(cause for cause, names in KNOWN.items() if name in names.split())
    for every in KNOWN.values()
    for name in every.split()
}
"""The causes by architecture."""


def page(rows: Sequence[Row]) -> str:
    """The whole page: a summary, a table by family, what is not right, every architecture."""
    parts = [
        INTRODUCTION.format(count=len(rows), summary=summary(rows)),
        by_family(rows),
        _not_right(rows),
        "## Every architecture\n",
        _table(
            ("architecture", "capture", "attention nodes", "modalities", "readout", "right"),
            [
                (
                    row.name,
                    row.route,
                    _counts(row.found),
                    _counts(row.modalities),
                    row.readout,
                    _yes(row.right),
                )
                for row in rows
            ],
        ),
    ]
    return "\n".join(parts)


def by_family(rows: Sequence[Row]) -> str:
    """One line per family."""
    lines = []
    for family in dict.fromkeys(row.family for row in rows):
        own = [row for row in rows if row.family == family]
        names = ", ".join(row.name for row in own[:6]) + (", ..." if len(own) > 6 else "")
        right = f"{sum(row.right for row in own)} of {len(own)}"
        lines.append((family, right, _counts(Counter(row.route for row in own)), names))
    return _table(("family", "right", "captured by", "such as"), lines)


def _not_right(rows: Sequence[Row]) -> str:
    wrong = [row for row in rows if not row.right]
    if not wrong:
        return ""
    lines = [
        (row.name, "; ".join(row.wrong).replace("|", " or "), REASONS.get(row.name, ""))
        for row in wrong
    ]
    return "## What is not right\n\n" + _table(("architecture", "what differs", "why"), lines)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"`{name}` {count}" for name, count in counts.items() if name) or "none"


def _yes(right: bool) -> str:
    return "yes" if right else "**no**"


def _table(heading: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [heading, ["---"] * len(heading), *lines]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
