"""Names: what code reads beside its arguments, as far as it says so by name."""

from __future__ import annotations

import builtins
import functools
import os
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

__all__ = [
    "content_of",
    "is_library",
    "is_users",
    "names_mentioned",
    "names_read",
    "unwrapped",
    "within",
]


def names_read(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """What a function reads beside its arguments: defaults, its closure, and globals by name.

    Of a library's function only which functions it calls; of the user's also the values of globals,
    classes, and what is taken out of modules.
    """
    code = function.__code__
    library = is_library(code.co_filename)
    if function.__defaults__:
        yield "defaults", function.__defaults__
    if function.__kwdefaults__:
        yield "keyword defaults", function.__kwdefaults__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=False):
        yield name, content_of(cell)
    names = names_mentioned(code)
    for name in names:
        value = function.__globals__.get(name)
        if value is None:
            continue
        if value is os.getenv and not library:
            yield "environ", os.environ
        if isinstance(value, types.ModuleType):
            yield from _taken(value, names)
        elif isinstance(value, types.FunctionType):
            near = value.__globals__ is function.__globals__  # what one file of a library calls
            yield name, value if near or is_users(value) else value.__code__
        elif not library and (is_users(value) or not isinstance(value, type)):
            yield name, value


def _taken(module: types.ModuleType, names: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """What code takes out of a module, by the names that it mentions: of the user's anything."""
    for each in within(module, names):
        own, users = vars(each), is_users(each)
        for name in names:
            value = own.get(name)
            if isinstance(value, types.FunctionType):
                yield name, value if is_users(value) else value.__code__
                continue
            anything = users and not isinstance(value, (type, types.ModuleType, type(None)))
            if anything or is_users(value) or isinstance(value, (*_SIMPLE, Tensor, *_IN_C)):
                yield name, value
        if each is os and not {"environ", "getenv"}.isdisjoint(names):
            yield "environ", os.environ


_SIMPLE = (bool, int, float, str)
_IN_C = (types.BuiltinFunctionType, np.ufunc)


def within(module: types.ModuleType, names: tuple[str, ...]) -> Iterator[types.ModuleType]:
    """A module, and the modules in it that are reached by names."""
    waiting, met = [module], {id(module)}
    while waiting:
        found = waiting.pop()
        yield found
        own = vars(found)
        for name in names:
            value = own.get(name)
            if isinstance(value, types.ModuleType) and id(value) not in met:
                met.add(id(value))
                waiting.append(value)


@functools.lru_cache(maxsize=4096)
def names_mentioned(code: types.CodeType) -> tuple[str, ...]:
    """The names that code and the functions within it mention.

    Where it looks something up by a text (``globals()["scale"]``), so are its texts.
    """
    inner = [c for c in code.co_consts if isinstance(c, types.CodeType)]
    said: list[str] = []
    if not _BY_TEXT.isdisjoint(code.co_names):
        said = [c for c in code.co_consts if isinstance(c, str) and c.isidentifier()]
    below = (n for c in inner for n in names_mentioned(c))
    return tuple(dict.fromkeys([*code.co_names, *said, *below]))


_BY_TEXT = {"globals", "getattr", "vars", "__dict__"}


def is_users(thing: Any) -> bool:
    """Whether a module, class or function is the user's own, or holds a function that is.

    A library's decorator makes a function of the library around one of the user's.
    """
    if isinstance(thing, types.FunctionType):
        if not is_library(thing.__code__.co_filename):
            return True
        cells = (content_of(cell) for cell in thing.__closure__ or ())
        held = (vars(thing).get("__wrapped__"), *cells)
        return any(
            isinstance(f, types.FunctionType) and not is_library(f.__code__.co_filename)
            for f in held
        )
    if isinstance(thing, type):
        return _is_users_module(thing.__module__)
    return isinstance(thing, types.ModuleType) and _is_users_module(thing.__name__)


def _is_users_module(name: Any) -> bool:
    if name == builtins.__name__ or not isinstance(name, str):
        return False
    root = name.partition(".")[0]
    found = (getattr(sys.modules.get(n), "__file__", None) for n in (name, root))
    file = next(filter(None, found), None)
    return root not in sys.stdlib_module_names if file is None else not is_library(file)


@functools.lru_cache(maxsize=4096)
def is_library(filename: str) -> bool:
    """Whether a file is an installed package's, Python's own, or of this one."""
    return "site-packages" in filename or filename.startswith((_PYTHON, _OWN, "<frozen"))


_PYTHON = types.__file__.rpartition("/")[0]
_OWN = str(Path(__file__).parents[1]) + os.sep


def content_of(cell: Any) -> Any:
    """What is in a cell of a closure; None where nothing is yet."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def unwrapped(value: Any) -> Any:
    """The function in a method of a class or in a property."""
    if isinstance(value, (classmethod, staticmethod)):
        return value.__func__
    return value.fget if isinstance(value, property) else value
