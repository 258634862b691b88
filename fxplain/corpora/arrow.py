"""Arrow: pyarrow, which only corpora need, or what to install for it."""

from __future__ import annotations

from typing import Any

from fxplain.extras import extra

__all__ = ["arrow", "parquet"]

_NEEDED = "explaining a corpus needs pyarrow: pip install 'fxplain[corpus]'."


def arrow() -> Any:
    """The module pyarrow.

    Raises
    ------
    MissingExtraError
        When it is not installed.
    """
    return extra("pyarrow", _NEEDED)


def parquet() -> Any:
    """The module pyarrow.parquet.

    Raises
    ------
    MissingExtraError
        When it is not installed.
    """
    return extra("pyarrow.parquet", _NEEDED)
