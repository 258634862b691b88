"""Arrow: pyarrow, which only corpora need, or what to install for it."""

from __future__ import annotations

from typing import Any

from fxplain.errors import MissingExtraError

__all__ = ["arrow", "parquet"]


def arrow() -> Any:
    """The module pyarrow.

    Raises
    ------
    MissingExtraError
        When it is not installed.
    """
    try:
        import pyarrow
    except ImportError as error:
        raise MissingExtraError(
            "explaining a corpus needs pyarrow: pip install 'fxplain[corpus]'."
        ) from error
    return pyarrow


def parquet() -> Any:
    """The module pyarrow.parquet.

    Raises
    ------
    MissingExtraError
        When it is not installed.
    """
    arrow()
    import pyarrow.parquet

    return pyarrow.parquet
