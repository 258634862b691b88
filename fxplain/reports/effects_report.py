"""The report of interventions: each cut with the score under it, and the largest effects first."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fxplain.interventions import Effects
from fxplain.written import rounded

__all__ = ["effects_report"]

_MOST_ROWS = 40
_MOST_SAMPLES = 4


def effects_report(effects: Effects) -> RenderableType:
    """The cuts in the order of the size of their mean effect, with each sample's score."""
    samples = len(effects.baseline)
    alone = samples <= _MOST_SAMPLES
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("cut", overflow="fold")
    table.add_column("effect", justify="right", no_wrap=True)
    if alone:
        for i in range(samples):
            table.add_column(f"score {i}" if samples > 1 else "score", justify="right")
        table.add_row(
            Text("none", "dim"), "", *(rounded(x, ".4g") for x in effects.baseline.tolist())
        )
    places = {name: i for i, name in enumerate(effects.names)}
    for name, mean in effects.strongest(_MOST_ROWS) if len(effects) else ():
        scores = effects.scores[places[name]].tolist() if alone else ()
        style = "dark_orange" if mean > 0 else "blue"
        table.add_row(
            Text(name),
            Text(rounded(mean, "+.4g"), style),
            *(rounded(x, ".4g") for x in scores),
        )
    left = len(effects) - _MOST_ROWS
    head = Text.assemble(
        (effects.model, "bold"),
        f": {len(effects)} cut{'' if len(effects) == 1 else 's'}, target ",
        ", ".join(dict.fromkeys(map(str, effects.target))),
        ", estimated to first order" if effects.estimated else "",
    )
    rest = [Text(f"and {left} with smaller effects", "dim")] if left > 0 else []
    return Group(head, table, *rest)
