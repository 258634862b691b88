"""The commands."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
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
from fxplain.cli.options import (
    EXPORTS,
    AsJson,
    Debug,
    HtmlFile,
    MethodName,
    OpenIt,
    Plot,
    Strict,
    Verify,
    exportable,
    known_or_no_method,
)
from fxplain.cli.pages import write_demo_page
from fxplain.cli.terminal import errors_reported, quiet, results
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
    said = f"\nrelevance: {method.equation}" if method.equation else ""
    results().print(Text(f"cost: {method.cost}\nsource: {method.source}{said}\n"))
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
