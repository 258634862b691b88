"""The two doors: a result as a rich renderable, and as text."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Any

from rich.console import Console, RenderableType

from fxplain.arguments import only_known
from fxplain.circuits import Circuit
from fxplain.errors import InputError
from fxplain.evaluation import Evaluation, Stability
from fxplain.explanation import Explanation
from fxplain.generation import ActivationMaps, Generation, Sources
from fxplain.inside import Contributions, Flow, HeadRelevance, LayerRelevance, Lens, Pairs, Paths
from fxplain.interventions import Check, Effects
from fxplain.program import AttentionGraph
from fxplain.reports.activation_report import activation_maps_report
from fxplain.reports.check_report import check_report
from fxplain.reports.circuit_report import circuit_report
from fxplain.reports.effects_report import effects_report
from fxplain.reports.evaluation_report import evaluation_report
from fxplain.reports.explanation_report import explanation_report
from fxplain.reports.generation_report import generation_report
from fxplain.reports.graph_report import graph_report
from fxplain.reports.inside_report import (
    contributions_report,
    flow_report,
    heads_report,
    layers_report,
    lens_report,
    pairs_report,
    paths_report,
)
from fxplain.reports.sources_report import sources_report
from fxplain.reports.stability_report import stability_report
from fxplain.reports.verification_report import verification_report
from fxplain.verification import Verification

__all__ = ["to_rich", "to_text"]


Reported = (
    AttentionGraph
    | Explanation
    | Evaluation
    | Generation
    | Sources
    | ActivationMaps
    | Verification
    | Effects
    | Check
    | Stability
    | Circuit
    | HeadRelevance
    | LayerRelevance
    | Paths
    | Pairs
    | Flow
    | Lens
    | Contributions
)

_REPORTS: dict[type, Callable[..., RenderableType]] = {
    AttentionGraph: graph_report,
    Explanation: explanation_report,
    Evaluation: evaluation_report,
    Generation: generation_report,
    Sources: sources_report,
    ActivationMaps: activation_maps_report,
    Verification: verification_report,
    Effects: effects_report,
    Check: check_report,
    Stability: stability_report,
    Circuit: circuit_report,
    HeadRelevance: heads_report,
    LayerRelevance: layers_report,
    Paths: paths_report,
    Pairs: pairs_report,
    Flow: flow_report,
    Lens: lens_report,
    Contributions: contributions_report,
}


def to_rich(result: Reported, **options: Any) -> RenderableType:
    """A result as something that a `rich.console.Console` prints.

    Parameters
    ----------
    result
        What `fxplain.inspect`, `fxplain.explain`, `fxplain.evaluate`, `fxplain.explain_generation`,
        `fxplain.verify`, `fxplain.intervene` or `fxplain.circuit` returned, or what is inside of an
        Explanation.
    **options
        Of an Explanation: ``units=`` and ``special=`` as `Explanation.top` takes them.

    Raises
    ------
    InputError
        When there is no report for such a result.
    """
    for kind, report in _REPORTS.items():
        if isinstance(result, kind):
            only_known(report, options, f"the report of {kind.__name__}")
            return report(result, **options)
    known = ", ".join(kind.__name__ for kind in _REPORTS)
    raise InputError(f"there is no report for a {type(result).__name__}, only for: {known}.")


def to_text(result: Reported, width: int | None = None, **options: Any) -> str:
    """A result as plain text, without colour.

    Parameters
    ----------
    result
        What `fxplain.inspect`, `fxplain.explain`, `fxplain.evaluate`, `fxplain.explain_generation`,
        `fxplain.verify`, `fxplain.intervene` or `fxplain.circuit` returned, or what is inside of an
        Explanation.
    width
        Characters per line; the terminal's width (or 80) by default.
    **options
        As `to_rich` takes them.
    """
    # The text will most likely be printed: where standard output cannot show block characters, it
    # has none.
    return _text_of(to_rich(result, **options), width, getattr(sys.stdout, "encoding", None))


def to_page(result: Reported, width: int) -> str:
    """The same for a file, which holds any character."""
    return _text_of(to_rich(result), width, None)


def _text_of(shown: RenderableType, width: int | None, encoding: str | None) -> str:
    encoding = encoding or "utf-8"
    page = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="replace", newline="\n")
    console = Console(
        file=page,
        width=None if width is None else int(width),
        color_system=None,
        force_terminal=False,
        force_jupyter=False,
        legacy_windows=False,
    )
    console.print(shown)
    page.seek(0)
    return "\n".join(line.rstrip() for line in page.read().splitlines()).strip("\n")
