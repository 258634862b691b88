"""Written: results go into files, or it is said why not."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import Any

from fxplain.arguments import PATH
from fxplain.errors import FxplainError, SaveError

__all__ = ["into", "json_text", "rounded", "saving", "written"]


@contextmanager
def saving(name: str | os.PathLike[str]) -> Iterator[None]:
    """What is written within, into a file or a folder of that name.

    Raises
    ------
    SaveError
        When it cannot be.
    """
    try:
        yield
    except FxplainError:
        raise
    except (OSError, ValueError) as error:  # a NUL in a path is a ValueError
        raise SaveError(f"{str(name)!r} cannot be written: {error}") from error


@contextmanager
def into(path: str | os.PathLike[str]) -> Iterator[Path]:
    """The path of a file that is written within.

    Raises
    ------
    InputError
        When it is no path.
    SaveError
        When it is a folder, lies in none, or cannot be written to.
    """
    PATH.check("path", path)
    name = os.fspath(path)
    with saving(name):
        file = Path(path)
        if file.is_dir():
            raise SaveError(f"{name!r} is a folder: give the name of a file in it.")
        if not file.absolute().parent.is_dir():
            raise SaveError(f"there is no folder {str(file.absolute().parent)!r} to write into.")
        yield file


def json_text(value: Any, *, indent: int | None = None) -> str:
    """Plain data as JSON, in which numbers that are no numbers (NaN, infinite) are null.

    Examples
    --------
    >>> json_text({"low": float("nan"), "x": (1.5, float("inf"))})
    '{"low": null, "x": [1.5, null]}'
    """
    return json.dumps(_known(value), indent=indent, ensure_ascii=False, allow_nan=False)


def _known(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _known(own) for key, own in value.items()}
    if isinstance(value, (list, tuple)):
        return [_known(own) for own in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def written(text: str, path: str | os.PathLike[str] | None) -> str:
    """The text, which is also in the file where there is a path."""
    if path is not None:
        with into(path) as file:
            file.write_text(text, encoding="utf-8")
    return text


def rounded(value: float, form: str) -> str:
    """A number as a format says, without the minus of what is rounded to zero.

    Examples
    --------
    >>> rounded(-0.004, ".2f"), rounded(-0.004, "+.2f"), rounded(-0.0, ".4g"), rounded(-0.4, ".1f")
    ('0.00', '+0.00', '0', '-0.4')
    """
    text = format(float(value), form)
    return text if text.strip("-+0.%e") else format(0.0, form)
