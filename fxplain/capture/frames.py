"""Frames: tables of pandas or Polars as a model's inputs, each column's name kept for its token."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fxplain.errors import InputError

__all__ = ["Columns", "without_frames"]

_NO_NUMBERS = (
    complex, np.complexfloating, datetime.date, datetime.timedelta, np.datetime64, np.timedelta64,
)  # fmt: skip
"""What NumPy makes numbers of, but no model was meant to be given."""

Columns = dict[str, tuple[str, ...]]
"""By argument, what the columns of the table are called that it was given as."""


def without_frames(
    inputs: Any, parameters: Sequence[str], dtype: torch.dtype | None = None
) -> tuple[Any, Columns]:
    """Inputs with tensors in the place of tables, and the names of the tables' columns.

    A table, or a row of one, may be all of the inputs: each column is the argument of its name where
    the model has one for every column, else the table is the model's first argument. Or it is one of
    the arguments: ``{"numbers": table[["age", "income"]], "city": table["city_number"]}``.

    Parameters
    ----------
    inputs
        What a model is to be given; returned as it is where there is no table in it.
    parameters
        The names of the model's arguments.
    dtype
        The precision that fractions get: the model's own.

    Raises
    ------
    InputError
        When a column is not of numbers, or a number is missing.

    Examples
    --------
    >>> import pandas
    >>> table = pandas.DataFrame({"age": [31, 45], "income": [2.5, 1.0]})
    >>> without_frames(table, ["numbers"], torch.float32)
    ({'numbers': tensor([[31.0000,  2.5000],
            [45.0000,  1.0000]])}, {'numbers': ('age', 'income')})
    >>> inputs, columns = without_frames(table.iloc[0], ["age", "income"])
    >>> inputs["age"], columns
    (tensor([31.], dtype=torch.float64), {})
    """
    if _is_table(inputs):
        return _of_table(inputs, parameters, dtype)
    if _is_column(inputs):
        return _of_table(inputs.to_frame().transpose(), parameters, dtype)
    if not isinstance(inputs, (Mapping, tuple, list)):
        return inputs, {}
    pairs = inputs.items() if isinstance(inputs, Mapping) else zip(parameters, inputs, strict=False)
    given = dict(pairs)
    columns = {name: _names(value) for name, value in given.items() if _is_table(value)}
    if not columns and not any(map(_is_column, given.values())):
        return inputs, {}
    made = {name: _as_tensor(value, name, dtype) for name, value in given.items()}
    return made, columns


def _is_table(value: Any) -> bool:
    """Whether a value is a table of pandas or Polars; neither need be installed."""
    if isinstance(value, (Tensor, np.ndarray)):
        return False
    return getattr(value, "ndim", len(getattr(value, "shape", ()))) == 2 and _is_of_columns(value)


def _is_of_columns(value: Any) -> bool:
    return hasattr(value, "columns") and hasattr(value, "to_numpy")


def _is_column(value: Any) -> bool:
    """Whether a value is a column of a table, or one of its rows."""
    return not isinstance(value, type) and hasattr(value, "to_numpy") and hasattr(value, "to_frame")


def _names(table: Any) -> tuple[str, ...]:
    return tuple(map(str, table.columns))


def _of_table(
    table: Any, parameters: Sequence[str], dtype: torch.dtype | None
) -> tuple[dict[str, Any], Columns]:
    names = _names(table)
    if names and _all_in(names, parameters):
        own = zip(names, table.columns, strict=True)
        return {name: _as_tensor(table[label], name, dtype) for name, label in own}, {}
    if not parameters:
        raise InputError("inputs are a table, but the model's forward names no argument for it.")
    return {parameters[0]: _as_tensor(table, parameters[0], dtype)}, {parameters[0]: names}


def _all_in(names: Collection[str], parameters: Collection[str]) -> bool:
    return set(names) <= set(parameters)


def _as_tensor(value: Any, name: str, dtype: torch.dtype | None) -> Any:
    if not (_is_table(value) or _is_column(value)):
        return value
    array = np.asarray(value.to_numpy())
    if array.dtype.kind not in "biuf":
        array = _of_numbers(array, value, name)
    if array.dtype.kind == "f" and np.isnan(array).any():
        raise InputError(
            f"input {name!r} is a table in which a number is missing{_which(array, value)}: fill it as "
            f"the model was trained to be given it."
        )
    made: Tensor = torch.from_numpy(np.array(array))  # a table's memory may not be written to
    return made.to(dtype) if dtype is not None and made.is_floating_point() else made


def _of_numbers(array: Any, value: Any, name: str) -> Any:
    """Numbers of several kinds, or with missing ones, as fractions."""
    try:
        if array.dtype.kind in "mMc" or any(isinstance(x, _NO_NUMBERS) for x in array.flat):
            raise TypeError  # NumPy would count a date's nanoseconds, and drop an imaginary part
        return array.astype(np.float64)
    except (TypeError, ValueError):
        raise InputError(
            f"input {name!r} is a table of which a column holds no numbers{_texts(array, value)}: give "
            f"its categories as the numbers that the model was trained on, or leave it out."
        ) from None


def _texts(array: Any, value: Any) -> str:
    if array.ndim < 2:
        return ""
    columns = zip(_names(value), array.T, strict=True)
    found = [name for name, own in columns if any(isinstance(cell, str) for cell in own)]
    return f" ({', '.join(map(repr, found))})" if found else ""


def _which(array: Any, value: Any) -> str:
    if array.ndim < 2:
        return ""
    columns = zip(_names(value), np.isnan(array).any(axis=0), strict=True)
    return f" ({', '.join(repr(name) for name, missing in columns if missing)})"
