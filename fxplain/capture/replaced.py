"""Replaced: functions of torch that the user replaced are applied once while a tracer looks on.

Torch's functions in Python hand themselves on to a mode (`__torch_function__`) by the name under which
they stand in their module. Where something else stands there that calls the function it replaced, each
mode calls that again, and tracers set several: a `layer_norm` that doubles what it gets did so five
times. Within a call of the replacement, a call that a mode makes is the original's.
"""

from __future__ import annotations

import functools
import os
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional

__all__ = ["applied_once", "replaced_methods"]

_HOMES: tuple[Any, ...] = (functional, torch.functional, torch.Tensor)


def _hands_itself_on(thing: Any) -> bool:
    """Whether it is a function in Python that asks for modes, or that is wrapped to do so."""
    code = getattr(getattr(thing, "__wrapped__", thing), "__code__", None)
    return code is not None and "handle_torch_function" in code.co_names


def _originals() -> dict[tuple[int, str], Any]:
    """By home and name, torch's own functions, also those that were replaced already."""
    found: dict[tuple[int, str], Any] = {}
    for number, home in enumerate(_HOMES):
        for name, thing in vars(home).items():
            own = [f for f in (thing, *_held_by(thing)) if _hands_itself_on(f)]
            if isinstance(thing, types.FunctionType) and own:
                found[number, name] = own[0]
    return found


def _held_by(thing: Any) -> list[Any]:
    """What a function keeps of others: in its closure, and as the values of its arguments."""
    cells = [
        cell.cell_contents for cell in getattr(thing, "__closure__", None) or () if _full(cell)
    ]
    named = (getattr(thing, "__kwdefaults__", None) or {}).values()
    return [*cells, *(getattr(thing, "__defaults__", None) or ()), *named]


def _full(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - it raises where nothing is in it yet
    except ValueError:
        return False
    return True


_ORIGINALS = _originals()
_TORCH = os.path.dirname(torch.__file__)


def replaced_methods() -> list[str]:
    """The names of tensors' methods in the place of which something that is not torch's stands."""
    own = (
        *vars(torch._C.TensorBase),
        *(name for number, name in _ORIGINALS if _HOMES[number] is torch.Tensor),
    )
    functions = [(name, vars(torch.Tensor).get(name)) for name in dict.fromkeys(own)]
    return [
        name
        for name, thing in functions
        if isinstance(thing, types.FunctionType)
        and not thing.__code__.co_filename.startswith(_TORCH)
    ]


def _known() -> dict[tuple[int, str], Any]:
    """Torch's own functions, and of those in C the replaced ones: they ask for modes by name, too."""
    tensor = _HOMES.index(torch.Tensor)
    in_c = {name: getattr(torch._C.TensorBase, name, None) for name in replaced_methods()}
    return {**{(tensor, n): method for n, method in in_c.items() if method}, **_ORIGINALS}


@contextmanager
def applied_once() -> Iterator[None]:
    """Within, each replacement of a function of torch is applied once for each call."""
    set_here = []
    for (number, name), original in _known().items():
        home = _HOMES[number]
        now = vars(home).get(name)
        if (
            now is not original
            and callable(now)
            and not isinstance(now, (staticmethod, classmethod))
        ):
            once = _once(now, original)
            setattr(home, name, once)
            set_here.append((home, name, now, once))
    try:
        yield
    finally:
        for home, name, now, once in set_here:
            if vars(home).get(name) is once:
                setattr(home, name, now)


def _once(replacement: Callable[..., Any], original: Callable[..., Any]) -> Callable[..., Any]:
    within = threading.local()

    @functools.wraps(replacement)
    def once(*args: Any, **kwargs: Any) -> Any:
        if getattr(within, "depth", 0):
            return original(*args, **kwargs)
        within.depth = 1
        try:
            return replacement(*args, **kwargs)
        finally:
            within.depth = 0

    return once
