"""Doors of the command line: every argument and option of every command, given what nobody meant."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import typer
from typer.testing import CliRunner

import fxplain
from fxplain.cli import app
from fxplain.errors import FxplainError
from tests import small_pretrained
from tests.bad_input.door import Door
from tests.bad_input.files import FILES, FOLDERS, corpus
from tests.bad_input.given import home

__all__ = ["shell"]

_load = fxplain.from_pretrained

WORDS: dict[str, Callable[[], Any]] = {
    each or "nothing": lambda each=each: each  # type: ignore[misc]
    for each in (
        "", "nonsense", "-1", "0", "1.5", "1e400", "nan", "9" * 30, "a=b=c", "=", "[", "{\"a\": [1",
        "\ud800", "a\0b", "/", "/nowhere/at/all", "os:getcwd", "json:", "layers.0", "1,2,x", "x" * 5000,
        "\u202e\U0001f600",
    )
}  # fmt: skip

WRITTEN = ("html", "save", "plot", "export", "out", "report", "sources")
"""Options that name what is written."""


@cache
def _bases() -> dict[str, list[str]]:
    """By command, what it needs to run."""
    model, writer = (small_pretrained.save(name, home()) for name in ("classifier", "gpt2"))
    rows = Path(home()) / "rows.csv"
    rows.write_text("id,text,label\na,the movie,1\nb,great,0\n")
    folder = str(corpus().folder)
    asked = [str(model), "-t", "the movie"]
    return {
        "methods": [],
        "metrics": [],
        "inspect": asked,
        "verify": asked,
        "explain": asked,
        "cut": [*asked, "--head", "0.0"],
        "look": asked,
        "serve": [str(model)],
        "generate": [str(writer), "-t", "the movie", "-n", "1"],
        "evaluate": [str(model), "--data", str(rows), "-m", "raw_attention"],
        "corpus explain": [str(model), "--data", str(rows), "--out", "explained"],
        "corpus summary": [folder, "--minimum", "1"],
        "corpus compare": [folder, folder, "--minimum", "1"],
        "corpus report": [folder, "--out", "report"],
    }


_LOADED: dict[str, Any] = {}


def _loaded_once(name: Any, task: Any = None, **options: Any) -> Any:
    """As `fxplain.from_pretrained`, whose models are kept, so that each is captured once."""
    key = f"{name} {task} {options}"
    if key not in _LOADED:
        _LOADED[key] = _load(name, task, **options)
    return _LOADED[key]


def _commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    if hasattr(command, "commands"):
        for name, each in command.commands.items():
            yield from _commands(each, (*path, name))
    else:
        yield " ".join(path), command


def shell() -> Iterator[Door]:
    """Every argument and option that takes a value."""
    for name, command in _commands(typer.main.get_command(app)):
        if name not in _bases():
            continue  # the demo asks a model of its own, for a minute
        base = _bases()[name]
        arguments = [p.name for p in command.params if p.param_type_name == "argument"]
        for parameter in command.params:
            if parameter.param_type_name == "argument":
                place = arguments.index(parameter.name)

                def given(word: Any, base: list[str] = base, place: int = place) -> list[str]:
                    return [*base[:place], str(word), *base[place + 1 :]]
            elif getattr(parameter, "is_flag", False):
                continue
            else:

                def given(
                    word: Any, base: list[str] = base, option: str = parameter.opts[0]
                ) -> list[str]:
                    return [*base, option, str(word)]

            values = WORDS
            if parameter.name in WRITTEN:
                values = FOLDERS if parameter.name in ("out", "report") else FILES
            yield Door(
                f"fxplain {name} {parameter.name}",
                lambda word, name=name, given=given: _run([*name.split(), *given(word)]),
                frozenset(values),
                values=values,
            )


def _run(arguments: list[str]) -> None:
    """Run a command as a shell would.

    Raises
    ------
    FxplainError
        When it ends with an error that was foreseen.
    """
    once = mock.patch("fxplain.from_pretrained", _loaded_once)
    with once, mock.patch("uvicorn.run"), mock.patch("webbrowser.open"):
        result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    if result.exit_code == 0:
        return
    said = result.stderr.strip()
    if "unexpected" in said or "Traceback" in said or "rror" not in said:
        raise RuntimeError(f"exit code {result.exit_code}: {said[-200:]}")
    raise FxplainError(said)
