"""Options: what commands can be told, each said once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

import fxplain
from fxplain.cli.terminal import errors_reported
from fxplain.explanation import SPECIAL, UNITS
from fxplain.methods import every_method
from fxplain.verification import LEVELS

__all__ = [
    "EXPORTS",
    "PRECISIONS",
    "AsJson",
    "Cut",
    "Debug",
    "Device",
    "HtmlFile",
    "Images",
    "MethodName",
    "MethodOptions",
    "Model",
    "OneTarget",
    "OpenIt",
    "OutputName",
    "Pairs",
    "Plot",
    "Precision",
    "Recompute",
    "Recordings",
    "Regions",
    "SpecialTokens",
    "Strict",
    "TaskName",
    "Texts",
    "Truncation",
    "TrustRemoteCode",
    "Verify",
    "Videos",
    "check_open",
    "exportable",
    "known_methods",
    "known_or_no_method",
    "known_or_no_unit",
    "token_or_word",
    "writable",
]


def known_or_no_method(name: str | None) -> str | None:
    """A method's name, or none."""
    return None if name is None else _known_method(name)


def _known_method(name: str) -> str:
    known = every_method()
    if name not in known:
        raise typer.BadParameter(f"unknown method {name!r}; there are: {', '.join(known)}.")
    return name


def _known_or_no_task(name: str | None) -> str | None:
    if name is not None and name not in fxplain.tasks():
        raise typer.BadParameter(f"unknown task {name!r}; there are: {', '.join(fxplain.tasks())}.")
    return name


def known_methods(names: list[str] | None) -> list[str] | None:
    """Names of methods."""
    return names and [_known_method(name) for name in names]


def _precision(name: str | None) -> str | None:
    if name is not None and name not in PRECISIONS:
        raise typer.BadParameter(f"{name!r} is none of: {', '.join(PRECISIONS)}.")
    return name


PRECISIONS = ("float32", "bfloat16", "float16", "float64")


def _known_unit(name: str) -> str:
    if name not in UNITS:
        raise typer.BadParameter(f"{name!r} is none of: {', '.join(UNITS)}.")
    return name


def known_or_no_unit(name: str | None) -> str | None:
    """How a text is put together, or nothing."""
    return None if name is None else _known_unit(name)


def _known_level(name: str) -> str:
    if name not in LEVELS:
        raise typer.BadParameter(f"{name!r} is none of: {', '.join(LEVELS)}.")
    return name


def _shown_or_hidden(name: str) -> str:
    if name not in SPECIAL:
        raise typer.BadParameter(f"{name!r} is neither show nor hide.")
    return name


def token_or_word(name: str | None) -> str | None:
    """What of a generated text is explained."""
    if name not in (None, "token", "word"):
        raise typer.BadParameter(f"{name!r} is neither token nor word.")
    return name


def writable(path: Path | None) -> Path | None:
    """A file in an existing folder."""
    if path is not None and not _may_be_written(path):
        raise typer.BadParameter(f"{str(path)!r} is no file in an existing folder.")
    return path


def _may_be_written(path: Path) -> bool:
    try:
        return not path.is_dir() and path.absolute().parent.is_dir()
    except (OSError, ValueError):  # a name that is too long, a NUL
        return False


def _drawable(path: Path | None) -> Path | None:
    if path is not None:
        with errors_reported(debug=False):
            from fxplain.plots import file_formats  # matplotlib is an extra, and slow to import
        _one_of(path, [f".{ending}" for ending in file_formats()])
    return writable(path)


def exportable(path: Path | None) -> Path | None:
    """A file with an ending that a graph is written by."""
    if path is not None:
        _one_of(path, EXPORTS)
    return writable(path)


def _one_of(path: Path, endings: Iterable[str]) -> None:
    if path.suffix.lower() not in endings:
        raise typer.BadParameter(f"{str(path)!r} ends in none of: {', '.join(endings)}.")


EXPORTS: dict[str, Callable[[fxplain.AttentionGraph, Path], str]] = {
    ".graphml": fxplain.AttentionGraph.to_graphml,
    ".dot": fxplain.AttentionGraph.to_dot,
    ".gv": fxplain.AttentionGraph.to_dot,
    ".mmd": fxplain.AttentionGraph.to_mermaid,
    ".mermaid": fxplain.AttentionGraph.to_mermaid,
    ".json": fxplain.AttentionGraph.to_json,
}
"""How the attention graph is written, by the file's ending."""

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A save_pretrained folder, a hub id, or package.module:factory, a function without "
        "arguments that returns a model and its inputs (the current folder is importable).",
        show_default=False,
    ),
]
Texts = Annotated[
    list[str] | None,
    typer.Option("--text", "-t", help="A text; several make a batch.", show_default=False),
]
Pairs = Annotated[
    list[str] | None,
    typer.Option(
        "--pair",
        help="The second text that goes with each --text (a premise's hypothesis, a question's "
        "context).",
        show_default=False,
    ),
]
Images = Annotated[
    list[Path] | None,
    typer.Option(
        "--image",
        "-i",
        help="An image file; several make a batch, or are all of one text.",
        exists=True,
        dir_okay=False,
        show_default=False,
    ),
]
Videos = Annotated[
    list[Path] | None,
    typer.Option(
        "--video",
        help="A video file, an animated GIF, or a folder of frames; several make a batch.",
        exists=True,
        show_default=False,
    ),
]
Recordings = Annotated[
    list[Path] | None,
    typer.Option(
        "--audio",
        "-a",
        help="A .wav file; several make a batch.",
        exists=True,
        dir_okay=False,
        show_default=False,
    ),
]
Truncation = Annotated[
    bool | None,
    typer.Option(
        "--truncation/--no-truncation",
        help="Of a text that is longer than the model takes: cut it, or give it as it is. By default "
        "it is an error.",
        show_default=False,
    ),
]
TaskName = Annotated[
    str | None,
    typer.Option(
        "--task",
        help="What the model is for, such as question-answering; by default what its config says.",
        callback=_known_or_no_task,
        show_default=False,
    ),
]
OneTarget = Annotated[
    str | None,
    typer.Option(
        "--target", help="What is scored, as `fxplain explain` takes it.", show_default=False
    ),
]
OutputName = Annotated[
    str | None,
    typer.Option("--output", help="The output field, where it is not obvious.", show_default=False),
]
MethodName = Annotated[
    str,
    typer.Option(
        "--method",
        "-m",
        help="One of those that `fxplain methods` lists, or auto: what measured best on the kind of "
        "model.",
        callback=_known_method,
    ),
]
HtmlFile = Annotated[
    Path | None,
    typer.Option(
        "--html",
        help="Write a report to look at and to share: one HTML file that needs no network.",
        callback=writable,
        show_default=False,
    ),
]
MethodOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        "-o",
        metavar="NAME=VALUE",
        help="An option of the method, for example normalize=false; `fxplain methods NAME` "
        "lists them. Several: repeat it.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
Plot = Annotated[
    Path | None,
    typer.Option(
        "--plot",
        help="Draw it into a file (.png, .svg, .pdf, ...); needs fxplain[plot].",
        callback=_drawable,
        show_default=False,
    ),
]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Let a hub repository run code of its own.")
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device", help="Where the model runs: cpu, cuda, cuda:1, mps.", show_default=False
    ),
]
Precision = Annotated[
    str | None,
    typer.Option(
        "--dtype",
        help="The precision of its weights: float32, bfloat16, float16.",
        callback=_precision,
        show_default=False,
    ),
]
Cut = Annotated[
    str,
    typer.Option(
        "--units", help=f"How a text is put together: {', '.join(UNITS)}.", callback=_known_unit
    ),
]
Regions = Annotated[
    list[str] | None,
    typer.Option(
        "--region",
        metavar="REGION",
        help="Tell of parts of an image: NAME=LEFT,TOP,RIGHT,BOTTOM in its own pixels (of the second "
        "of several images NAME=1:LEFT,...), or ROWSxCOLUMNS for parts as large as each other; of a "
        "recording NAME=START,STOP in seconds. Several: repeat it.",
        show_default=False,
    ),
]
SpecialTokens = Annotated[
    str,
    typer.Option(
        "--special",
        help="Whether special tokens and sinks are shown: show, hide.",
        callback=_shown_or_hidden,
    ),
]
Verify = Annotated[
    str,
    typer.Option(
        "--verify",
        help="How what is detected is checked against the model: off, light, full.",
        callback=_known_level,
    ),
]
Strict = Annotated[
    bool,
    typer.Option("--strict", help="Where that is broken: an error in the place of a warning."),
]
Recompute = Annotated[
    bool,
    typer.Option(
        "--recompute", help="Run each layer again for its gradients: less memory, more time."
    ),
]
OpenIt = Annotated[bool, typer.Option("--open", help="Open the report in a browser; needs --html.")]
PAGES = {"html": "--html", "side_by_side": "--side-by-side"}
"""What writes a page that --open opens."""


def check_open(typed: Mapping[str, Any]) -> None:
    """Refuse to open a page that is not written."""
    written = [name for name in PAGES if name in typed]
    if typed.get("open_") and not any(typed[name] for name in written):
        pages = " or ".join(PAGES[name] for name in written)
        raise typer.BadParameter(f"it opens the page of {pages}.", param_hint="--open")


Debug = Annotated[bool, typer.Option("--debug", help="Show an error's traceback.")]
