"""Watch: what a walk has read of things, to be read again quickly to see that it is the same."""

from __future__ import annotations

import types
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import chain
from operator import attrgetter, itemgetter, methodcaller
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from fxplain.capture.state import life_of

__all__ = [
    "VALUES",
    "Named",
    "Read",
    "Several",
    "Watch",
    "elements",
    "items",
    "kind_of",
    "values_at",
    "values_of",
]

How = Callable[[Any], list[Any]]
"""What is read of a thing, such as the values of a mapping."""

Read = tuple[list[Any], list[Any]]
"""Things, compared by what they are, and plain values, compared by what they say."""

_Source = weakref.ref[Any] | tuple[int, int]
"""A thing, or where it was found: the number of a reading, and the place in that."""

VALUES = (Decimal, Fraction, range, np.generic, date, time, timedelta, itemgetter, attrgetter)
"""Kinds of values that no reference can watch, so that another could get the id of one that is gone."""

_KEPT = (
    bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, types.CodeType,
    property, classmethod, staticmethod, *VALUES,
)  # fmt: skip
"""Kinds of things that hold nothing of a model, and are held."""


@dataclass(frozen=True)
class Several:
    """A reading that is quicker of many things at once: most of a model is many of a few kinds.

    Attributes
    ----------
    one
        What is read of one thing.
    many
        What is read of many: all that `one` finds in any of them, and plain values, which are
        compared by what they are. Where `one` would find something else in one of them, so must this,
        or fail.
    again
        From many as they are now to a reading in the place of `many` that relies on that.
    """

    one: How
    many: Callable[[list[Any]], Read]
    again: Callable[[list[Any]], Callable[[list[Any]], Read]] | None = None

    def __call__(self, thing: Any) -> list[Any]:
        """What is read of one."""
        return self.one(thing)


def _of_all(mappings: Sequence[Any]) -> Read:
    found = [*chain.from_iterable(mappings), *values_of(mappings)]
    return found, [*map(len, mappings)]


def values_of(mappings: Sequence[Any]) -> Iterable[Any]:
    """The values of mappings, one after the other."""
    return chain.from_iterable(map(methodcaller("values"), mappings))


items = Several(lambda mapping: [*mapping, *mapping.values()], _of_all)
"""A mapping's keys and values."""

elements = Several(list, lambda all_of: ([*chain.from_iterable(all_of)], [*map(len, all_of)]))
"""A collection's elements."""


@dataclass(frozen=True)
class Named:
    """A reading of some names of a namespace, such as a module's.

    Attributes
    ----------
    space
        From a thing to its namespace.
    names
        What is looked up.
    """

    space: Callable[[Any], dict[str, Any]]
    names: tuple[str, ...]

    def __call__(self, thing: Any) -> list[Any]:
        """What the names are there; None where they are none."""
        return [*map(self.space(thing).get, self.names)]


class _Namespaces:
    """Readings of names as one: of each namespace all that is asked for, and that no more is there.

    Most of what code mentions is in no namespace. A dictionary that is as long as before and ends
    with the same key has got no other: only where it is longer the names are looked for again.

    Parameters
    ----------
    readings
        The readings, each with its thing.
    """

    def __init__(self, readings: Sequence[tuple[Named, Any]]) -> None:
        names: dict[int, dict[str, None]] = {}
        self.things: list[Any] = []
        self._spaces: list[Callable[[Any], dict[str, Any]]] = []
        for named, thing in readings:
            space = id(named.space(thing))
            if space not in names:
                names[space] = {}
                self.things.append(thing)
                self._spaces.append(named.space)
            names[space].update(dict.fromkeys(named.names))
        self._absent = []
        self._pick = []
        for found, asked in zip(self._now(self.things), names.values(), strict=True):
            there = [name for name in asked if name in found]
            self._absent.append(asked.keys() - there)
            self._pick.append(values_at(there))
        self._ends: Any = None

    def __call__(self, things: list[Any]) -> Read:
        """What the names are in each, and whether those that were in none still are not."""
        spaces = self._now(things)
        ends = [*map(len, spaces)], [next(reversed(space), None) for space in spaces]
        absent = ends == self._ends or all(
            space.keys().isdisjoint(names)
            for space, names in zip(spaces, self._absent, strict=True)
        )
        self._ends = ends if absent else None
        picked = [pick(space) for pick, space in zip(self._pick, spaces, strict=True)]
        return [*chain.from_iterable(picked)], [absent]

    def _now(self, things: Sequence[Any]) -> list[dict[str, Any]]:
        return [space(thing) for space, thing in zip(self._spaces, things, strict=True)]


def values_at(keys: Sequence[Any]) -> Callable[[Any], Sequence[Any]]:
    """From a mapping to its values at some keys; one that is not there is an error."""
    if len(keys) > 1:
        return itemgetter(*keys)
    return lambda mapping: [mapping[key] for key in keys]


@dataclass(frozen=True, eq=False)
class _Round:
    """Readings that are made again at once.

    Attributes
    ----------
    sources
        What is read: watched things, or all by the earlier round that finds it and the place in that.
    how
        From the things to what is found in them, and to plain values.
    ids, plain
        Of what was found.
    """

    sources: Sequence[_Source]
    how: Callable[[list[Any]], Read]
    ids: list[int]
    plain: list[Any]

    def holds(self, found: list[list[Any]]) -> bool:
        """Whether the same is found; what is, is added to what earlier rounds did."""
        now, plain = self.how(_things(self.sources, found))
        found.append(now)
        return plain == self.plain and [*map(id, now)] == self.ids


@dataclass(frozen=True, eq=False)
class _Values:
    """What is said of things that one round finds.

    Attributes
    ----------
    of
        Says it of one.
    number, pick
        The round, and from what it finds to the things.
    said
        What was said.
    """

    of: Callable[[Any], Any]
    number: int
    pick: Callable[[Any], Sequence[Any]]
    said: list[Any]

    def holds(self, found: list[list[Any]]) -> bool:
        """Whether the same is said."""
        return [*map(self.of, self.pick(found[self.number]))] == self.said


def _things(sources: Sequence[Any], found: list[list[Any]]) -> list[Any]:
    if isinstance(sources[0], tuple):
        return [found[number][place] for number, place in sources]
    return [source() for source in sources]


class Watch:
    """Readings of things, each a list of what was found in one.

    A later reading is the same if it finds the very same things. An id says that as long as what had
    it lives: plain values are held, all else is watched, and what cannot be (a list, a dict) is
    compared by what is in it. So nothing is kept alive, and things that come and go are noticed.
    """

    def __init__(self) -> None:
        self._readings: list[tuple[_Source, How, list[int]]] = []
        self._values: list[tuple[int, Callable[[Any], Any], Any]] = []
        self._placed: list[_Values] = []
        self._valued: list[tuple[Callable[[Any], Any], weakref.ref[Any], Any]] = []
        self._gone: list[Any] = []
        self._kept: dict[int, Any] = {}
        self._seen: dict[int, weakref.ref[Any]] = {}
        self._found: dict[int, tuple[int, int]] = {}
        self._rounds: list[_Round] | None = None
        self._blind = False

    def read(self, thing: Any, how: How) -> list[Any]:
        """Read a thing, and note what is found."""
        found = how(thing)
        source: _Source | None = self._found.get(id(thing))
        if not issubclass(type(thing), Tensor):  # of a tensor only the storage is watched
            source = self._seen_as(thing) or source
        if source is None:
            self._blind = True  # it came from nowhere: nothing can be said
            return found
        number = len(self._readings)
        self._readings.append((source, how, [*map(id, found)]))
        for place, each in enumerate(found):
            if id(each) not in self._found:
                self._found[id(each)] = (number, place)
                if issubclass(type(each), _KEPT):  # a proxy would pass for what it stands for
                    self._kept[id(each)] = each
                else:
                    self._seen_as(each)
        return found

    def value(self, thing: Any, of: Callable[[Any], Any]) -> Any:
        """What is to be said of a thing itself, such as how often a tensor was written."""
        said = of(thing)
        if self._seen_as(thing) is None and id(thing) not in self._found:
            self._blind = True
        self._values.append((id(thing), of, said))
        return said

    def closed(self) -> Watch:
        """The watch, once all is read: what can be read together is so from now on."""
        self._found = {}
        if not self._blind:
            try:
                self._rounds = self._together()
                self._things_read()  # another thread may have set something meanwhile
            except Exception:  # noqa: BLE001 - a thing that fails when it is asked is not the same
                self._blind = True
        self._readings = []
        return self

    def holds(self) -> bool:
        """Whether everything that was read would be found again; never before it is closed."""
        if self._blind or self._gone or self._rounds is None:
            return False
        found: list[list[Any]] = []
        try:
            if not all(each.holds(found) for each in self._rounds):
                return False
            return all(each.holds(found) for each in self._placed) and all(
                of(seen()) == said for of, seen, said in self._valued
            )
        except Exception:  # noqa: BLE001 - a thing that fails when it is asked is not the same
            return False

    def _things_read(self) -> list[Any]:
        """What each reading is of.

        Raises
        ------
        LookupError
            Where one would now find something else.
        """
        found: list[list[Any]] = []
        things = []
        for source, how, ids in self._readings:
            thing = found[source[0]][source[1]] if isinstance(source, tuple) else source()
            found.append(how(thing))
            things.append(thing)
            if [*map(id, found[-1])] != ids:
                raise LookupError("something was set during the walk")
        return things

    def _together(self) -> list[_Round]:
        """The readings in as few rounds as they can be made in."""
        kinds: dict[Any, list[tuple[How, Any]]] = {}
        depths: list[int] = []
        for (source, how, _), thing in zip(self._readings, self._things_read(), strict=True):
            depths.append(depths[source[0]] + 1 if isinstance(source, tuple) else 0)
            kind: Any = how if isinstance(how, Several) else (id(thing), id(how))
            if isinstance(how, Named):
                kind = Named
            kinds.setdefault((depths[-1], kind), []).append((how, thing))
        rounds: list[_Round] = []
        places: dict[int, tuple[int, int]] = {}
        for _, readings in sorted(kinds.items(), key=lambda of_kind: of_kind[0][0]):
            read, things = _united(readings)
            found, plain = read(things)
            sources = [
                (None if issubclass(type(thing), Tensor) else self._seen.get(id(thing)))
                or places[id(thing)]
                for thing in things
            ]
            for place, each in enumerate(found):
                places.setdefault(id(each), (len(rounds), place))
            rounds.append(_Round(sources, read, [*map(id, found)], plain))
        placed: dict[tuple[Any, int], list[tuple[int, Any]]] = {}
        for key, of, said in self._values:
            if key in places:  # of a tensor only the storage is watched
                number, place = places[key]
                placed.setdefault((of, number), []).append((place, said))
            else:
                self._valued.append((of, self._seen[key], said))
        self._placed = [
            _Values(of, number, values_at([place for place, _ in each]), [said for _, said in each])
            for (of, number), each in placed.items()
        ]
        self._values = []
        return rounds

    def _seen_as(self, thing: Any) -> weakref.ref[Any] | None:
        known = self._seen.get(id(thing))
        life = life_of(thing) if issubclass(type(thing), Tensor) else thing
        if known is not None and known() is life:
            return known
        try:
            seen = weakref.ref(life, self._gone.append)
        except TypeError:
            return None
        self._seen[id(thing)] = seen
        return seen


def _united(
    readings: Sequence[tuple[How, Any]],
) -> tuple[Callable[[list[Any]], Read], list[Any]]:
    """Readings of one kind as one, and the things that it is of."""
    first, things = readings[0][0], [thing for _, thing in readings]
    if isinstance(first, Several):
        return first.many if first.again is None else first.again(things), things
    if isinstance(first, Named):
        named = _Namespaces([(how, thing) for how, thing in readings if isinstance(how, Named)])
        return named, named.things
    one = first
    return lambda of: (one(of[0]), []), things[:1]


_LAZY = (UninitializedParameter, UninitializedBuffer)


def kind_of(tensor: Tensor) -> Callable[[Any], Any]:
    """How to say what a graph depends on in a weight: its type, shape and place."""
    return _of_lazy if isinstance(tensor, _LAZY) else _of_tensor


_of_tensor = attrgetter("__class__", "dtype", "device", "shape")
_of_lazy = attrgetter("__class__", "dtype", "device")  # it has no shape yet
