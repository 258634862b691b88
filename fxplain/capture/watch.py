"""Watch: what a walk has read of things, to be read again quickly to see that it is the same."""

from __future__ import annotations

import types
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

__all__ = ["Watch", "elements", "items", "kind_of"]

How = Callable[[Any], list[Any]]
"""What is read of a thing, such as the values of a mapping."""

_Source = weakref.ref[Any] | tuple[int, int]
"""A thing, or where it was found: the number of a reading, and the place in that."""

_KEPT = (
    bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, types.CodeType,
    property, classmethod, staticmethod,
)  # fmt: skip
"""Kinds of things that hold nothing of a model, and are held."""


def items(mapping: Any) -> list[Any]:
    """A mapping's keys and values."""
    return [*mapping, *mapping.values()]


def elements(several: Iterable[Any]) -> list[Any]:
    """A collection's elements."""
    return [*several]


class Watch:
    """Readings of things, each a list of what was found in one.

    A later reading is the same if it finds the very same things. An id says that as long as what had
    it lives: plain values are held, all else is watched, and what cannot be (a list, a dict) is
    compared by what is in it. So nothing is kept alive, and things that come and go are noticed.
    """

    def __init__(self) -> None:
        self._readings: list[tuple[_Source, How, list[int]]] = []
        self._values: list[tuple[weakref.ref[Any], Callable[[Any], Any], Any]] = []
        self._gone: list[Any] = []
        self._kept: dict[int, Any] = {}
        self._seen: dict[int, weakref.ref[Any]] = {}
        self._found: dict[int, tuple[int, int]] = {}
        self._blind = False

    def read(self, thing: Any, how: How) -> list[Any]:
        """Read a thing, and note what is found."""
        found = how(thing)
        source = self._seen_as(thing) or self._found.get(id(thing))
        if source is None:
            self._blind = True  # it came from nowhere: nothing can be said
            return found
        number = len(self._readings)
        self._readings.append((source, how, [*map(id, found)]))
        for place, each in enumerate(found):
            if id(each) not in self._found:
                self._found[id(each)] = (number, place)
                if isinstance(each, _KEPT):
                    self._kept[id(each)] = each
                else:
                    self._seen_as(each)
        return found

    def value(self, thing: Any, of: Callable[[Any], Any]) -> Any:
        """What is to be said of a thing itself, such as how often a tensor was written."""
        said, seen = of(thing), self._seen_as(thing)
        if seen is None:
            self._blind = True
        else:
            self._values.append((seen, of, said))
        return said

    def closed(self) -> Watch:
        """The watch, once all is read."""
        self._found = {}
        return self

    def holds(self) -> bool:
        """Whether everything that was read would be found again."""
        if self._blind or self._gone:
            return False
        found: list[list[Any]] = []
        try:
            for source, how, ids in self._readings:
                where = found[source[0]][source[1]] if isinstance(source, tuple) else source()
                now = how(where)
                if [*map(id, now)] != ids:
                    return False
                found.append(now)
            return all(of(seen()) == said for seen, of, said in self._values)
        except Exception:  # noqa: BLE001 - a thing that fails when it is asked is not the same
            return False

    def _seen_as(self, thing: Any) -> weakref.ref[Any] | None:
        known = self._seen.get(id(thing))
        if known is not None and known() is thing:
            return known
        try:
            seen = weakref.ref(thing, self._gone.append)
        except TypeError:
            return None
        self._seen[id(thing)] = seen
        return seen


def kind_of(tensor: Tensor) -> Any:
    """What a graph depends on in a weight: its type, shape and place."""
    lazy = isinstance(tensor, UninitializedParameter | UninitializedBuffer)  # it has no shape yet
    return type(tensor), tensor.dtype, tensor.device, None if lazy else tensor.shape
