"""Factories: a model and its inputs from a function of the user's own, ``package.module:factory``."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from fxplain.arguments import blaming, first_line
from fxplain.errors import LoadError

__all__ = ["is_factory", "load_factory"]


def is_factory(name: str) -> bool:
    """Whether a name has the form ``package.module:factory``."""
    module, colon, function = name.partition(":")
    dotted = all(part.isidentifier() for part in module.split("."))
    return bool(colon) and dotted and function.isidentifier()


def load_factory(name: str) -> tuple[nn.Module, Any]:
    """Call a function that returns a model and its inputs.

    Raises
    ------
    LoadError
        When the function is not found, fails or returns something else.
    """
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    factory = _factory(*name.split(":"))
    with blaming(f"{name}()", LoadError):
        made = factory()
    if not (isinstance(made, tuple) and len(made) == 2 and isinstance(made[0], nn.Module)):
        raise LoadError(
            f"{name}() returned {_described(made)}; it must return a torch.nn.Module and its "
            f"inputs: (model, inputs)."
        )
    return made


def _factory(module_name: str, function: str) -> Callable[[], Any]:
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # a missing module, or whatever its code raises
        raise LoadError(
            f"module {module_name!r} cannot be imported: {first_line(error)}"
        ) from error
    factory = getattr(module, function, None)
    if not callable(factory):
        close = difflib.get_close_matches(function, dir(module), n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise LoadError(f"module {module_name!r} has no function {function!r}.{hint}")
    found: Callable[[], Any] = factory
    return found


def _described(made: Any) -> str:
    if isinstance(made, tuple):
        return f"a tuple of ({', '.join(type(item).__name__ for item in made)})"
    return f"something of type {type(made).__name__}"
