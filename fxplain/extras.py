"""Extras: libraries that only some of what fxplain does needs, imported when it is done."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from fxplain.errors import MissingExtraError

__all__ = ["data_frame", "extra"]


def extra(module: str, message: str) -> Any:
    """An optional module.

    Parameters
    ----------
    module
        Its name.
    message
        What needs it, and how to install it.

    Raises
    ------
    MissingExtraError
        When it cannot be imported.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError(message) from error


def data_frame(rows: Sequence[dict[str, Any]], *, flattened: bool = False) -> Any:
    """Rows as a pandas.DataFrame.

    Parameters
    ----------
    rows
        Each by column.
    flattened
        Whether what is a mapping in a row has a column for each of its values.

    Raises
    ------
    MissingExtraError
        When pandas is not installed.
    """
    pandas = extra("pandas", "to_frame needs pandas: pip install pandas.")
    return pandas.json_normalize(rows) if flattened else pandas.DataFrame(rows)
