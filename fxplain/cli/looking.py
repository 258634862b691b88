"""The command ``fxplain look``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from fxplain.cli.commands import app, opened, say_written, show
from fxplain.cli.given import Given, takes_model
from fxplain.cli.inputs import parse_options, parse_targets
from fxplain.cli.options import (
    AsJson,
    HtmlFile,
    MethodName,
    MethodOptions,
    OneTarget,
    OpenIt,
    OutputName,
    Plot,
)
from fxplain.reports import to_rich

__all__ = ["look"]

VIEWS = ("heads", "layers", "paths", "flow", "contributions", "lens", "pairs")


def _known_views(names: list[str] | None) -> list[str]:
    unknown = [name for name in names or () if name not in VIEWS]
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r} is none of: {', '.join(VIEWS)}.")
    return list(dict.fromkeys(names or ()))


@app.command()
@takes_model()
def look(
    given: Given,
    show_: Annotated[
        list[str] | None,
        typer.Option(
            "--show",
            "-s",
            help=f"What to show: {', '.join(VIEWS)}. Several: repeat it; by default heads.",
            callback=_known_views,
            show_default=False,
        ),
    ] = None,
    most: Annotated[
        int, typer.Option("-k", min=1, max=10_000, help="How many of the strongest paths.")
    ] = 10,
    share: Annotated[
        float,
        typer.Option("--share", min=0, max=1, help="What part of the relevance the flow brings."),
    ] = 0.9,
    sample: Annotated[
        int, typer.Option("--sample", help="Of several, which one's paths and flow.")
    ] = 0,
    target: OneTarget = None,
    output: OutputName = None,
    method: MethodName = "auto",
    option: MethodOptions = None,
    json_: AsJson = False,
    html: HtmlFile = None,
    open_: OpenIt = False,
    plot: Plot = None,
) -> None:
    """Take an explanation apart: by head, by layer, by path of attention, by term of the score.

    *heads* and *layers* are relevance by attention node; *paths* the strongest chains of attention,
    and *flow* the graph of all that count (--html and --plot draw it); *contributions* what each
    head, layer and bias adds to the score; *lens* what the model's own head says after each layer;
    *pairs* what pairs of tokens of two inputs add to the score together.

    JSON keys: those of --show, each as its `to_dict()`; docs/json.md describes them.
    """
    shown = show_ or ["heads"]
    if (html or plot) and "flow" not in shown:
        raise typer.BadParameter(
            "it draws the flow: give --show flow.", param_hint="--html, --plot"
        )
    asked: dict[str, Any] = {"target": parse_targets([target] if target else ()), "method": method}
    asked |= {"output": output} if output else {}
    (explanation,) = given.opened().explained(
        {**asked, **parse_options(method, option or ())}, False
    )
    views: dict[str, Callable[[], Any]] = {
        name: getattr(explanation, name)
        for name in ("heads", "layers", "contributions", "lens", "pairs")
    }
    views |= {
        "paths": lambda: explanation.paths(most, sample=sample),
        "flow": lambda: explanation.flow(share, sample=sample),
    }
    found = {name: views[name]() for name in shown}
    flow = found.get("flow")
    if html and flow:
        flow.to_html(html)
    if plot and flow:
        flow.plot().savefig(plot)
    if json_:
        show({name: each.to_dict() for name, each in found.items()}, True)
        return
    for each in found.values():
        show(to_rich(each), False)
    say_written({"drawn in": plot, "reported in": html}, False)
    opened(html, open_)
