"""The command that lets a model write."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fxplain.cli.commands import app, opened, say_written, show
from fxplain.cli.given import Given, takes_model
from fxplain.cli.inputs import parse_options
from fxplain.cli.options import (
    AsJson,
    HtmlFile,
    MethodName,
    MethodOptions,
    OpenIt,
    Plot,
    known_or_no_unit,
    token_or_word,
    writable,
)
from fxplain.generation import ActivationMaps, Generation, Sources
from fxplain.reports import to_rich

__all__ = ["generate"]


def _told(
    generation: Generation, found: Sources | None, maps: ActivationMaps | None
) -> dict[str, Any]:
    told = generation.to_dict()
    told |= {"sources": found.to_dict()} if found else {}
    return told | ({"activation_maps": maps.to_dict()} if maps else {})


@app.command()
@takes_model("pair")
def generate(
    given: Given,
    max_new_tokens: Annotated[
        int, typer.Option("--max-new-tokens", "-n", min=1, help="How many tokens at most.")
    ] = 20,
    beams: Annotated[
        int, typer.Option("--beams", min=1, help="Search with beams; the chosen one is explained.")
    ] = 1,
    seed: Annotated[
        int | None,
        typer.Option("--seed", help="Sample, with this seed, rather than take the likeliest."),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            "--by",
            help="What is explained of what it writes: each token, or each word; by default each "
            "token, and each word of what is heard in a recording.",
            callback=token_or_word,
            show_default=False,
        ),
    ] = None,
    method: MethodName = "auto",
    option: MethodOptions = None,
    json_: AsJson = False,
    save: Annotated[
        Path | None,
        typer.Option(
            "--save",
            help="Write the generation to a file that fxplain.Generation.load reads.",
            callback=writable,
            show_default=False,
        ),
    ] = None,
    sources: Annotated[
        str | None,
        typer.Option(
            "--sources",
            help="Also say which parts of the prompt the text rests on: sentence, passage, word, ...",
            callback=known_or_no_unit,
            show_default=False,
        ),
    ] = None,
    activation_maps: Annotated[
        Path | None,
        typer.Option(
            "--activation-maps",
            help="Of models that read words and an image as one: write a page of where in the image "
            "each written token is activated (no network needed).",
            callback=writable,
            show_default=False,
        ),
    ] = None,
    html: HtmlFile = None,
    open_: OpenIt = False,
    plot: Plot = None,
) -> None:
    """Let a model write, and explain each token: the inputs and earlier outputs it draws on.

    JSON keys: format, method, score, samples (text, tokens, inputs, and targets with name, score,
    readout and relevance by modality), graph, and sources and activation_maps where they are asked for.
    """
    asked: dict[str, Any] = {"method": method, "max_new_tokens": max_new_tokens}
    asked |= {"num_beams": beams, "do_sample": seed is not None, "seed": seed}
    asked |= {"targets": {"token": slice(None), "word": "words", None: None}[by]}
    asked |= parse_options(method, option or ())
    source = given.opened()
    generation = source.generated(asked)
    if save:
        generation.save(save)
    if html:
        names = source.class_namer(generation.explanations[0], None)
        generation.to_html(html, class_names=names)
    if plot:
        generation.plot().savefig(plot)
    found = generation.sources(sources) if sources else None
    maps = generation.activation_maps() if activation_maps else None
    if maps:
        maps.to_html(activation_maps)
    show(_told(generation, found, maps) if json_ else to_rich(generation), json_)
    for more in (found, maps):
        if more and not json_:
            show(to_rich(more), json_)
    written = {"saved to": save, "drawn in": plot, "reported in": html}
    say_written({**written, "activation maps in": activation_maps}, json_)
    opened(html, open_)
