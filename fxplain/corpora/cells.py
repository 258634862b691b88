"""Cells: what stands in one place of a table, as Python has it, whatever wrote the table."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

__all__ = ["name_of", "plain", "target_in"]


def plain(value: Any) -> Any:
    """Numbers and texts of numpy as Python's own; None of what pandas and numpy have for nothing.

    Examples
    --------
    >>> import numpy as np
    >>> plain(np.int64(3)), plain(float("nan")), plain(np.datetime64("NaT")), plain("")
    (3, None, None, '')
    """
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, (str, bytes)) or hasattr(value, "__len__") or hasattr(value, "shape"):
        return value
    return None if (value == value) is not True else value


def name_of(value: Any) -> str | None:
    """What an id or a label is called; None where there is none.

    A column of whole numbers of which one is missing is one of floats in pandas: 1.0 is "1".

    Examples
    --------
    >>> name_of(1.0), name_of(0.5), name_of("a"), name_of(""), name_of(float("nan"))
    ('1', '0.5', 'a', None, None)
    """
    value = _whole(plain(value))
    return None if value is None or value == "" else str(value)


def target_in(value: Any, labels: Collection[str]) -> Any:
    """The target that a cell names: nothing is what the model predicts, and a number a class.

    Parameters
    ----------
    labels
        What the model calls its classes; of one that names words or answers, nothing.

    Examples
    --------
    >>> target_in("1", ["bad", "good"]), target_in("1", ["1", "2"]), target_in("1", [])
    (1, '1', '1')
    >>> target_in("", ["bad"]), target_in(1.0, ["bad"])
    (None, 1)
    """
    value = _whole(plain(value))
    if not isinstance(value, str):
        return tuple(value) if isinstance(value, list) else value
    if not value:
        return None
    number = value.strip()
    return int(number) if labels and value not in labels and number.isdecimal() else value


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value
