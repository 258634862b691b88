"""The report of token activation maps: where each written token is activated most."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fxplain.explanation.merging import plain
from fxplain.explanation.shown import visible
from fxplain.generation import ActivationMaps
from fxplain.written import rounded

__all__ = ["activation_maps_report"]

_MOST_SAMPLES = 4


def activation_maps_report(found: ActivationMaps) -> RenderableType:
    """A row for each written token: its place of most activation, and how much that is."""
    parts: list[RenderableType] = [
        Text.assemble(("Token activation maps", "bold"), f" on {found.modality}")
    ]
    for sample, (maps, labels) in enumerate(zip(found.maps, found.labels, strict=True)):
        if sample == _MOST_SAMPLES:
            parts.append(Text(f"and {len(found.maps) - sample} more samples", "dim"))
            break
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for heading in (
            "token",
            "most at row, column" if found.grid else "most at",
            "logit",
            "of all",
        ):
            table.add_column(heading, overflow="fold")
        for label, row in zip(labels, maps, strict=True):
            largest, total = float(row.max()), float(row.sum())
            place = int(row.argmax())
            at = divmod(place, found.grid[1]) if found.grid else (place,)
            told = (", ".join(map(str, at)), rounded(largest, ".3g"), f"{largest / total:.0%}")
            table.add_row(
                Text(visible(plain(label) or " ")), *(told if total > 0 else ("nowhere", "0", ""))
            )
        parts.append(table)
    return Group(*parts)
