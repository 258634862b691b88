"""Extras: libraries that only some of what fxplain does needs, imported when it is done."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from fxplain.errors import MissingExtraError

__all__ = ["extra"]


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
