"""The commands."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table
from rich.text import Text

import fxplain
from fxplain.cli.demo import run_demo
from fxplain.cli.given import Given, takes_model
from fxplain.cli.group import Commands
from fxplain.cli.inputs import parse_options, parse_points, parse_targets
from fxplain.cli.options import (
    EXPORTS,
    AsJson,
    Cut,
    Debug,
    HtmlFile,
    MethodName,
    MethodOptions,
    OpenIt,
    OutputName,
    Plot,
    Recompute,
    SpecialTokens,
    Strict,
    Verify,
    exportable,
    known_methods,
    known_or_no_method,
    writable,
)
from fxplain.cli.pages import companion, with_matrices, write_demo_page, write_page
from fxplain.cli.terminal import errors_reported, progress, quiet, results
from fxplain.explanation import Special
from fxplain.methods import every_method
from fxplain.reports import to_rich

__all__ = ["app", "main", "opened", "say_written", "show"]

app = typer.Typer(
    name="fxplain",
    cls=Commands,
    help="Explain any PyTorch transformer: which tokens of each input its output draws on.",
    epilog="Exit codes: 0 done, 1 the model or its input could not be explained, 2 wrong usage.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"fxplain {fxplain.__version__}")
        raise typer.Exit


@app.callback()
def fxplain_command(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Explain any PyTorch transformer: which tokens of each input its output draws on."""


@app.command()
def demo(
    questions: Annotated[
        int, typer.Option("--questions", "-n", min=1, help="How many questions to show.")
    ] = 4,
    method: MethodName = "generic",
    html: HtmlFile = None,
    debug: Debug = False,
) -> None:
    """Explain a small trained model that answers questions about handwritten digits.

    It comes with fxplain: an LXMERT that reads a question and a mosaic of four digits. The demo
    shows its attention graph, explains held-out questions, and counts how much of the relevance
    lies in the corners that a question asks about.
    """
    quiet(debug)
    with errors_reported(debug):
        run_demo(results(), questions, method)
        if html:
            write_demo_page(html, questions, method)
            say_written({"reported in": html}, False)


@app.command()
@takes_model()
def inspect(
    given: Given,
    json_: AsJson = False,
    plot: Plot = None,
    html: HtmlFile = None,
    open_: OpenIt = False,
    export: Annotated[
        Path | None,
        typer.Option(
            "--export",
            help=f"Write the graph to a file, by its ending ({', '.join(EXPORTS)}).",
            callback=exportable,
            show_default=False,
        ),
    ] = None,
    verify: Verify = "light",
    strict: Strict = False,
) -> None:
    """Detect every attention of a model: what attends to what, where, in which order.

    Where no input is given, a sentence, a grey image and a noisy second stand in.

    JSON keys: format, model, nodes (name, module, kind, query, key, heads, q_len, k_len, ...),
    routes, streams, modalities (name to number of tokens), readout, rejected, warnings, capture;
    docs/json.md describes them.
    """
    graph = given.opened().inspected({"verify": verify, "strict": strict})
    if export:
        EXPORTS[export.suffix.lower()](graph, export)
    if plot:
        graph.plot().savefig(plot)
    if html:
        graph.to_html(html)
    show(graph.to_dict() if json_ else to_rich(graph), json_)
    say_written({"drawn in": plot, "exported to": export, "reported in": html}, json_)
    opened(html, open_)


@app.command()
@takes_model()
def verify(
    given: Given,
    light: Annotated[
        bool,
        typer.Option("--light", help="Only the law itself, with one disturbed run."),
    ] = False,
    json_: AsJson = False,
) -> None:
    """Try on a model whether what is detected in it, and said of it, is true.

    The exit status is 1 where something is broken. Where no input is given, a sentence, a grey image
    and a noisy second stand in.

    JSON keys: format, ok, model, laws (law, state, faults, reason, forwards), seconds, forwards;
    docs/json.md describes them.
    """
    found = given.opened().verified("light" if light else "full")
    show(found.to_dict() if json_ else to_rich(found), json_)
    if not found.ok:
        raise typer.Exit(1)


@app.command()
@takes_model()
def explain(
    given: Given,
    target: Annotated[
        list[str] | None,
        typer.Option(
            "--target",
            help="What to explain: a class index, a label, a word, or an index into the output such "
            "as 3,7 (object query, class; or position, word). Several: one per sample, or of one "
            "sample each by itself. By default what the model predicts.",
            show_default=False,
        ),
    ] = None,
    word: Annotated[
        str | None,
        typer.Option(
            "--word", help="Of token-classification: the word to explain.", show_default=False
        ),
    ] = None,
    each: Annotated[
        bool,
        typer.Option(
            "--each",
            help="Explain all that the model says by itself: each entity, each detection, start and "
            "end of an answer, each token that it writes.",
        ),
    ] = False,
    point: Annotated[
        list[str] | None,
        typer.Option(
            "--point",
            metavar="X,Y",
            help="Of mask-generation: a place in the image, in pixels. Several: repeat it.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[
        bool,
        typer.Option(
            "--split",
            help="Take the words of --text, parted by spaces, as words that are one each.",
        ),
    ] = False,
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            min=0,
            max=1,
            help="Of object-detection and of several labels with --each: how sure each must be (0.5).",
            show_default=False,
        ),
    ] = None,
    method: MethodName = "auto",
    option: MethodOptions = None,
    output: OutputName = None,
    json_: AsJson = False,
    save: Annotated[
        Path | None,
        typer.Option(
            "--save",
            help="Write the explanation to a file that fxplain.load reads.",
            callback=writable,
            show_default=False,
        ),
    ] = None,
    plot: Plot = None,
    html: HtmlFile = None,
    side_by_side: Annotated[
        Path | None,
        typer.Option(
            "--side-by-side",
            help="Write a page with several texts, targets or methods side by side, and what differs "
            "between two.",
            callback=writable,
            show_default=False,
        ),
    ] = None,
    open_: OpenIt = False,
    units: Cut = "word",
    special: SpecialTokens = "show",
    also_method: Annotated[
        list[str] | None,
        typer.Option(
            "--also-method",
            help="Another method, for the report of --html to switch to. Several: repeat it.",
            callback=known_methods,
            show_default=False,
        ),
    ] = None,
    also_model: Annotated[
        list[str] | None,
        typer.Option(
            "--also-model",
            metavar="MODEL",
            help="Another checkpoint, explained of the same inputs, for the page of --side-by-side.",
            show_default=False,
        ),
    ] = None,
    verify: Verify = "light",
    strict: Strict = False,
    recompute: Recompute = False,
    stability: Annotated[
        int | None,
        typer.Option(
            "--stability",
            min=1,
            max=10_000,
            metavar="DRAWS",
            help="Explain the same this often with a little noise in the tokens and some heads silent, "
            "and show how relevance and its order move.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Explain a model's output: how much it draws on each word, patch or other token.

    JSON keys: format, method, options, engine, target, target_names, readout and scores (one per
    sample), relevance (modality to samples to {token, relevance}), special, grids, graph (as
    `fxplain inspect --json` prints it); with --stability also stability; docs/json.md describes them.
    With --each it is a list.
    """
    if open_ and not html:
        raise typer.BadParameter("it opens the report of --html.", param_hint="--open")
    if each and (save or plot):
        raise typer.BadParameter("--save and --plot take one explanation: leave --each out.")
    if also_model and not side_by_side:
        raise typer.BadParameter("it is for the page of --side-by-side.", param_hint="--also-model")
    if also_method and not (html or side_by_side):
        raise typer.BadParameter("it is for the report of --html.", param_hint="--also-method")
    several = len(target or ()) > 1 and given.samples == 1
    asked: dict[str, Any] = {"target": parse_targets(target or ())}
    if several:
        asked = {"targets": asked["target"]}
    named = {"output": output, "word": word, "threshold": threshold}
    asked |= {name: value for name, value in named.items() if value is not None}
    asked |= {"verify": verify, "strict": strict, "recompute": recompute}
    raw: dict[str, Any] = {"points": parse_points(point or ())}
    if split:
        raw |= {"text": [words.split() for words in given.text or ()] or None}
    options = parse_options(method, option or ())
    if method in fxplain.unit_methods():
        options = {"units": units, **options}
    source = given.opened(**raw)
    again = {**asked, **options, "method": method}
    explanations = source.explained(again, each)
    if save:
        explanations[0].save(save)
    if plot:
        explanations[0].plot(units=units, special=special).savefig(plot)
    compared = [given.opened(name, **raw).explained(again, each) for name in also_model or ()]
    others = [source.explained({**asked, "method": m}, each) for m in also_method or ()]
    if side_by_side and explanations:
        beside = [*explanations, *chain(*compared, *others)]
        fxplain.compare(beside, side_by_side, units=units, special=special)
    if html and explanations:
        with progress("writing the report"):
            page = [*explanations, *chain(*others)]
            if len(page) == 1:
                page += with_matrices(source, page[0], asked)
            write_page(html, page, source, output, {"units": units, "special": special})
    moves = [e.stability(stability, units=units) for e in explanations] if stability else []
    if json_:
        hidden: Special = "hide" if special == "hide" else "show"
        cut = None if (units, special) == ("word", "show") else units
        told = [explanation.to_dict(cut, hidden) for explanation in explanations]
        for own, moved in zip(told, moves, strict=False):
            own["stability"] = moved.to_dict()
        show(told if each or several else told[0], json_)
        return
    for explanation in explanations:
        show(to_rich(explanation, units=units, special=special), json_)
        if beside_it := companion(explanation):
            results().print(Text(beside_it))
    for moved in moves:
        show(to_rich(moved), json_)
    if not explanations:
        results().print(Text("the model says nothing here that could be explained"))
        return
    say_written({"saved to": save, "drawn in": plot, "reported in": html}, json_)
    say_written({"compared in": side_by_side}, json_)
    opened(html, open_)


@app.command()
def methods(
    name: Annotated[
        str | None,
        typer.Argument(
            help="One method, to list its options.",
            callback=known_or_no_method,
            show_default=False,
        ),
    ] = None,
) -> None:
    """List the explanation methods, or the options of one."""
    known = every_method()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    if name is None:
        for heading in ("method", "cost", "source"):
            table.add_column(heading, overflow="fold")
        for method in known.values():
            table.add_row(Text(method.name, "bold"), Text(method.cost), Text(method.source))
        results().print(table)
        return
    method = known[name]
    results().print(Text(f"{name}: {method.about}", "bold"))
    results().print(Text(f"cost: {method.cost}\nsource: {method.source}\n"))
    for heading in ("option", "default", "may be", "about"):
        table.add_column(heading, overflow="fold")
    for key, option in method.options.items():
        said = option.form.said if option.form else "a whole number"
        values = ", ".join(map(str, option.choices)) if option.choices else said
        table.add_row(Text(key, "bold"), str(option.default), values, Text(option.about))
    results().print(table)


def show(result: Any, as_json: bool) -> None:
    """Print a result, or what it is as JSON."""
    if as_json:
        json.dump(result, sys.stdout, ensure_ascii=False, indent=1)
        sys.stdout.write("\n")
    else:
        results().print(result)


def say_written(files: Mapping[str, Path | None], as_json: bool) -> None:
    """Tell which files were written, where not JSON alone is printed."""
    for done, path in files.items():
        if path and not as_json:
            results().print(Text(f"\n{done} {path}"))


def opened(path: Path | None, asked: bool) -> None:
    """Show a page in the browser."""
    if asked and path is not None:
        typer.launch(path.absolute().as_uri())


def main() -> None:
    """The entry point of the command ``fxplain``."""
    app(prog_name="fxplain")
