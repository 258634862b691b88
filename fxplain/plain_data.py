"""Plain data, as JSON has it, read back into what type hints say, or refused by the field's name."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from typing import Any

from fxplain.arguments import shown
from fxplain.errors import LoadError

__all__ = ["from_json", "read_as"]


def read_as(form: Any, value: Any, where: str) -> Any:
    """`value` as the type hint `form` says: lists as tuples, mappings as dataclasses.

    Parameters
    ----------
    form
        A dataclass, a plain type, ``tuple[X, ...]``, ``list[X]``, ``dict[K, V]``, a union or `Any`.
    value
        Plain data.
    where
        What to call it in messages.

    Raises
    ------
    LoadError
        When the data is of another form.
    """
    origin, parts = typing.get_origin(form), typing.get_args(form)
    if form is Any:
        return value
    if dataclasses.is_dataclass(form):
        return _record(form, value, where)
    if origin in (types.UnionType, typing.Union):
        return _one_of(parts, value, where)
    if origin in (tuple, list) and isinstance(value, (list, tuple)):
        return origin(read_as(parts[0], each, f"{where}[{i}]") for i, each in enumerate(value))
    if origin in (dict, Mapping) and isinstance(value, Mapping):
        pairs = {_key(parts[0], k, where): v for k, v in value.items()}
        return {k: read_as(parts[1], v, f"{where}.{k}") for k, v in pairs.items()}
    if origin is None and _is_a(form, value):
        return float(value) if form is float else value
    raise LoadError(f"{where} must be {_named(form)}, not {_shown(value)}.")


def from_json(form: Any, text: Any, where: str) -> Any:
    """What JSON says, as the type hint `form` says.

    Raises
    ------
    LoadError
        When it is no JSON, or of another form.

    Examples
    --------
    >>> from_json(dict[str, tuple[int, ...]], '{"pixels": [2, 3]}', "the grids")
    {'pixels': (2, 3)}
    """
    try:
        plain = json.loads(text)
        return read_as(form, plain, where)
    except LoadError:
        raise
    except (TypeError, ValueError, RecursionError) as error:
        raise LoadError(f"{where} cannot be read: {error}") from error


def _record(form: Any, value: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        raise LoadError(f"{where} must have the fields of {form.__name__}, not be {_shown(value)}.")
    hints = typing.get_type_hints(form)
    fields = {f.name: f for f in dataclasses.fields(form) if f.init}
    needed = [n for n, f in fields.items() if f.default is f.default_factory is dataclasses.MISSING]
    missing, unknown = [n for n in needed if n not in value], [n for n in value if n not in fields]
    if missing or unknown:
        said = [*(f"lacks {n!r}" for n in missing), *(f"has an unknown {n!r}" for n in unknown)]
        raise LoadError(f"{where} {' and '.join(said)}.")
    return form(**{n: read_as(hints[n], v, f"{where}.{n}") for n, v in value.items()})


def _one_of(forms: tuple[Any, ...], value: Any, where: str) -> Any:
    for form in forms:
        try:
            return read_as(form, value, where)
        except LoadError as error:
            last = error
    raise last


def _key(form: Any, key: Any, where: str) -> Any:
    """A mapping's key; JSON writes whole numbers as text."""
    if form is int and isinstance(key, str) and key.removeprefix("-").isdecimal():
        return int(key)
    return read_as(form, key, f"a key of {where}")


def _is_a(form: Any, value: Any) -> bool:
    if form in (int, float):
        kinds = (int,) if form is int else (int, float)
        return isinstance(value, kinds) and not isinstance(value, bool)
    return isinstance(value, form)


def _named(form: Any) -> str:
    plain = {tuple: "a list", list: "a list", dict: "a mapping", Mapping: "a mapping"}
    names = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
    names[type(None)] = "null"
    return plain.get(typing.get_origin(form)) or names.get(form, str(form))


def _shown(value: Any) -> str:
    return shown(value)
