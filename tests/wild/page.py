"""The table of the wild zoo as Markdown: docs/wild.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from tests.wild.known import REASONS
from tests.wild.table import Row, summary

__all__ = ["page"]

INTRODUCTION = """\
# Models from elsewhere

What fxplain says of {count} tiny models that do not come from `transformers`: of packages of the
registry, and written by hand in the styles of many hands. Compared are the kind, number and sizes of
attention nodes, the weights against the softmaxes that the model computes, the modalities and their
numbers of tokens, what the target is read from, and relevance by hand where a model is plain enough.
`make wild` prints it and writes this page.

**{summary}.**

*Warned*: wrong, and the graph's warnings say so. *Silent*: wrong without a word. *Refused*: an
`FxplainError`. *Crashed*: any other error.
"""


def page(rows: Sequence[Row]) -> str:
    """The whole page: a summary, a table by family, what is not right, every model."""
    parts = [INTRODUCTION.format(count=len(rows), summary=summary(rows)), _by_family(rows)]
    wrong = [row for row in rows if not row.right]
    if wrong:
        lines = [
            (f"`{row.name}`", row.outcome, _differs(row), REASONS.get(row.name, ""))
            for row in wrong
        ]
        heading_of_wrong = ("model", "outcome", "what differs", "why")
        parts += ["## What is not right\n", _table(heading_of_wrong, lines)]
    heading = ("model", "attention nodes", "modalities", "compared", "outcome")
    lines_of_all = [
        (f"`{r.name}`", _counts(r.found), _counts(r.modalities), ", ".join(r.compared), r.outcome)
        for r in rows
    ]
    return "\n".join([*parts, "## Every model\n", _table(heading, lines_of_all)])


def _by_family(rows: Sequence[Row]) -> str:
    lines = []
    for family in dict.fromkeys(row.family for row in rows):
        outcomes = Counter(row.outcome for row in rows if row.family == family)
        right, count = outcomes.pop("right", 0), sum(outcomes.values())
        others = ", ".join(f"{n} {outcome}" for outcome, n in outcomes.items())
        lines.append((family, f"{right} of {right + count}", others))
    return _table(("family", "right", "otherwise"), lines)


def _differs(row: Row) -> str:
    text = row.error.split(" [")[0].splitlines()[0] if row.error else "; ".join(row.problems)
    return text.replace("|", " or ")[:300]


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"`{name}` {count}" for name, count in counts.items()) or "none"


def _table(heading: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [heading, ["---"] * len(heading), *lines]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
