"""The report of context attribution: an answer, and the sources that it rests on."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from fxplain.explanation.shown import visible
from fxplain.generation import Sources
from fxplain.reports.drawing import Bars
from fxplain.written import rounded

__all__ = ["sources_report"]


def sources_report(found: Sources) -> RenderableType:
    """What was written, how probable it was, and its sources, ranked."""
    errors = [source.error for source in found.sources]
    return Group(
        Text.assemble(("Sources of ", "bold"), (repr(found.text), "bold cyan")),
        Text(
            f"by {found.method}, {found.calls} runs; the text has log probability "
            f"{rounded(found.log_probability, '.4g')}",
            "dim",
        ),
        Bars(
            [visible(source.text) for source in found.sources],
            [source.relevance for source in found.sources],
            10,
            errors if any(error is not None for error in errors) else (),
        ),
    )
