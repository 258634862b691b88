"""The command ``fxplain cut``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer

import fxplain
from fxplain.cli.commands import app, show
from fxplain.cli.given import Given, takes_model
from fxplain.cli.inputs import parse_targets
from fxplain.cli.options import AsJson, MethodName, OneTarget, OutputName
from fxplain.cli.terminal import progress_bar
from fxplain.reports import to_rich

__all__ = ["cut"]

_INTO = ("zero", "mean")


def _known_filling(name: str) -> str:
    if name not in _INTO:
        raise typer.BadParameter(f"{name!r} is none of: {', '.join(_INTO)}.")
    return name


def _several(flag: str, metavar: str, said: str) -> Any:
    """An option that may be repeated."""
    return typer.Option(flag, metavar=metavar, help=said, show_default=False)


@app.command()
@takes_model()
def cut(
    given: Given,
    head: Annotated[
        list[str] | None,
        _several(
            "--head",
            "NODE[:HEADS]",
            "Heads of an attention node, by name or place: 0:1,2. Repeat it.",
        ),
    ] = None,
    edge: Annotated[
        list[str] | None,
        _several(
            "--edge",
            "QUERIES->KEYS",
            "Attention between words, places or modalities: 'it->cat', '0->3,4'. Repeat it.",
        ),
    ] = None,
    token: Annotated[
        list[str] | None,
        _several("--token", "[MODALITY:]TOKENS", "Words or places, as they are born. Repeat it."),
    ] = None,
    write: Annotated[
        list[str] | None,
        _several("--write", "MODULE", "What a module adds to the residual stream. Repeat it."),
    ] = None,
    to: Annotated[
        str,
        typer.Option("--to", help="What takes its place: zero, mean.", callback=_known_filling),
    ] = "zero",
    together: Annotated[
        bool, typer.Option("--together", help="Cut all that is named at once, not each by itself.")
    ] = False,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="All effects to first order, from one backward.")
    ] = False,
    check: Annotated[
        bool,
        typer.Option("--check", help="Cut what the explanation says matters most, and least."),
    ] = False,
    most: Annotated[int, typer.Option("-k", min=1, help="How many words of --check.")] = 10,
    target: OneTarget = None,
    output: OutputName = None,
    method: MethodName = "generic",
    json_: AsJson = False,
) -> None:
    """Cut heads, attention between words, tokens or layers out of a model, and see the score.

    Where nothing is named, every head by itself. JSON keys: format, model, target, baseline,
    estimated, cuts (name, cut, scores); docs/json.md describes them.
    """
    if check and (head or edge or token or write):
        raise typer.BadParameter("it chooses what is cut by itself.", param_hint="--check")
    cuts = [*_heads(head, to), *_edges(edge), *_writes(write, to)]
    source = given.opened()
    asked: dict[str, Any] = {"target": parse_targets([target] if target else ())}
    asked |= {"output": output} if output else {}
    (explanation,) = source.explained({**asked, "method": method}, False)
    cuts += _tokens(token, to, list(explanation.relevance))
    cuts = cuts or [
        fxplain.Cut.heads(node.name, number)
        for node in explanation.graph.nodes
        for number in range(node.heads)
    ]
    if together and len(cuts) > 1:
        first, *rest = cuts
        cuts = [sum(rest, first)]
    with progress_bar("cutting", None) as done:
        found = (
            explanation.check(most, progress=done)
            if check
            else explanation.intervene(cuts, estimate=estimate, progress=done)
        )
    show(found.to_dict() if json_ else to_rich(found), json_)


# ---- what was typed -------------------------------------------------------------------------------


def _heads(given: Sequence[str] | None, to: Any) -> Iterator[fxplain.Cut]:
    for text in given or ():
        name, _, numbers = text.rpartition(":") if re.search(r":[\d,]+$", text) else (text, "", "")
        node = int(name) if name.isdigit() else name
        heads = [int(number) for number in numbers.split(",") if number] or None
        yield fxplain.Cut.heads(node, heads, to=to).named(text)


def _edges(given: Sequence[str] | None) -> Iterator[fxplain.Cut]:
    for text in given or ():
        queries, arrow, keys = text.partition("->")
        if not arrow:
            raise typer.BadParameter(
                f"{text!r} is not of the form QUERIES->KEYS.", param_hint="--edge"
            )
        yield fxplain.Cut.edges(_choice(queries), _choice(keys)).named(text)


def _tokens(
    given: Sequence[str] | None, to: Any, modalities: Sequence[str]
) -> Iterator[fxplain.Cut]:
    for text in given or ():
        name, colon, places = text.partition(":")
        if not (colon and name in modalities):
            name, places = modalities[0], text
            if len(modalities) > 1:
                known = ", ".join(f"{modality}:{text}" for modality in modalities)
                raise typer.BadParameter(f"say whose {text!r} is: {known}.", param_hint="--token")
        yield fxplain.Cut.tokens(name, _choice(places), to=to).named(text)


def _writes(given: Sequence[str] | None, to: Any) -> Iterator[fxplain.Cut]:
    for name in given or ():
        yield fxplain.Cut.write(name, to=to)


def _choice(text: str) -> Any:
    """Places, or a word or a modality's name; nothing is all tokens."""
    text = text.strip()
    if re.fullmatch(r"-?\d+(\s*,\s*-?\d+)*", text):
        return [int(place) for place in text.split(",")]
    return text or None
