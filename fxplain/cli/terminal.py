"""The terminal: where results, progress and errors go, and what is kept from it."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

import typer
from rich.console import Console
from rich.text import Text

from fxplain.cli.inputs import as_typed
from fxplain.errors import FxplainError
from fxplain.pipelines import WeightsWarning

__all__ = ["errors_reported", "messages", "note", "progress", "progress_bar", "quiet", "results"]


def results() -> Console:
    """Standard output: results, and nothing else."""
    return Console()


def messages() -> Console:
    """Standard error: progress, notes and errors."""
    return Console(stderr=True)


def note(text: str) -> None:
    """Say something beside the results."""
    messages().print(Text(f"note: {text}", "dim"), soft_wrap=True)


@contextmanager
def progress_bar(doing: str, total: int | None) -> Iterator[Callable[[int, int | None], None]]:
    """A bar of what is done, where somebody watches; call it with (done, all or None)."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = TextColumn(doing), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=messages(), transient=True) as bar:
        task = bar.add_task(doing, total=total)

        def show(done: int, known: int | None) -> None:
            bar.update(task, completed=done, total=total if known is None else known)

        yield show


@contextmanager
def progress(doing: str) -> Iterator[None]:
    """Show that something goes on, where somebody watches."""
    with messages().status(Text(f"{doing} ...")):
        yield


@contextmanager
def errors_reported(debug: bool) -> Iterator[None]:
    """Turn an error into one clear message and exit code 1; with `debug` show its traceback too."""
    try:
        yield
    except (typer.BadParameter, typer.Exit, typer.Abort, BrokenPipeError):  # typer's to end
        raise
    except FxplainError as error:
        _fail(as_typed(str(error)), debug)
    except OSError as error:
        _fail(str(error), debug)
    except Exception as error:  # noqa: BLE001 - a bug in fxplain or in the model
        hint = "" if debug else " (--debug shows where)"
        _fail(f"unexpected {type(error).__name__}: {error}{hint}", debug)


def _fail(message: str, debug: bool) -> None:
    console = messages()
    if debug:
        console.print_exception()
    console.print(Text.assemble(("error: ", "bold red"), message), soft_wrap=True)
    raise typer.Exit(1)


def quiet(debug: bool) -> None:
    """Keep the log lines, progress bars and warnings of the libraries beneath from the terminal."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a token that the terminal cannot show is no error
            stream.reconfigure(errors="replace")
    _note_warnings()
    if debug:
        return
    # transformers reads this when it is first imported, and speaks of missing torchvision then.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    for name in ("huggingface_hub", "torch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    warnings.simplefilter("always", WeightsWarning)


def _note_warnings() -> None:
    """What a checkpoint lacks is said as a note, without the line of code that warned."""
    show = warnings.showwarning

    def noted(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, WeightsWarning):
            note(str(message))
        else:
            show(message, category, filename, lineno, file, line)

    warnings.showwarning = noted
