"""The report of a stability: each unit with its interval, and how much of the order stays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fxplain.evaluation import Moved, Stability
from fxplain.written import rounded

__all__ = ["stability_report"]

_MOST_ROWS = 30


def stability_report(found: Stability) -> RenderableType:
    """What was done, then each sample's units, the most relevant first."""
    told = found.settings
    done = [f"noise of {told['noise']:.0%} in the tokens"] if told["noise"] else []
    done += [f"{told['heads']:.0%} of the heads silent"] if told["heads"] else []
    head = Text.assemble(
        (found.method, "bold"), f", {told['draws']} times with {' and '.join(done)}"
    )
    parts: list[RenderableType] = [head]
    if told["steady"]:
        parts.append(Text(f"heads left as they are: {', '.join(told['steady'])}", "dim"))
    for sample, units in enumerate(found.units):
        parts += _of_sample(found, sample, units)
    return Group(*parts)


def _of_sample(found: Stability, sample: int, units: Sequence[Moved]) -> Iterator[RenderableType]:
    mean, low, high = (rounded(value, ".2f") for value in found.interval(sample))
    scores = found.scores[sample]
    least, most = (rounded(float(score), ".4g") for score in (scores.min(), scores.max()))
    yield Text(
        f"\nsample {sample}: rank correlation {mean} ({low} to {high}); the most relevant "
        f"stays so in {float(found.first_kept[sample]):.0%}; score {least} to {most}"
    )
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("", overflow="fold")
    for name in ("relevance", f"{found.settings['level']:.0%} of the draws", "rank", "ranks"):
        table.add_column(name, justify="right", no_wrap=True)
    several = len({unit.modality for unit in units}) > 1
    for unit in sorted(units, key=lambda unit: unit.rank)[:_MOST_ROWS]:
        ranks = f"{unit.lowest} to {unit.highest}" if unit.lowest < unit.highest else "the same"
        if unit.lowest == unit.highest != unit.rank:
            ranks = str(unit.lowest)
        table.add_row(
            Text(unit.text + (f" ({unit.modality})" if several else "")),
            rounded(unit.relevance, ".4g"),
            f"{rounded(unit.low, '.4g')} to {rounded(unit.high, '.4g')}",
            str(unit.rank),
            ranks,
        )
    yield table
    if len(units) > _MOST_ROWS:
        yield Text(f"and {len(units) - _MOST_ROWS} less relevant", "dim")
