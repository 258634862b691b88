"""Seen: what is known of a model as long as nothing is set on it, looked up once in a call."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from fxplain.capture.fingerprint import Facts, facts_and_watch
from fxplain.capture.locks import borrowed
from fxplain.capture.state import parts_of
from fxplain.capture.watch import Watch

__all__ = ["facts_now", "found_once", "looking", "not_looking", "tensors_now"]

T = TypeVar("T")


@dataclass(eq=False)
class _Seen:
    """A model as it was when it was last walked over; nothing here keeps it alive."""

    facts: Facts
    watch: Watch
    found: dict[str, Any] = field(default_factory=dict)


_last: MutableMapping[nn.Module, _Seen] = WeakIdKeyDictionary()

_this_call: ContextVar[dict[int, _Seen] | None] = ContextVar("this_call", default=None)


@contextmanager
def looking() -> Iterator[None]:
    """A call during which a model is looked at once: only what runs the model could change it."""
    token = _this_call.set({})
    try:
        yield
    finally:
        _this_call.reset(token)


@contextmanager
def not_looking() -> Iterator[None]:
    """A part of a call that runs the model: what was seen of it says nothing, then or later."""
    before = _this_call.get()
    token = _this_call.set(None)
    try:
        yield
    finally:
        _this_call.reset(token)
        if before is not None:
            before.clear()


def facts_now(model: nn.Module) -> Facts:
    """See `facts_of`: a walk only where something that was read the last time is another."""
    return _seen(model).facts


def found_once(model: nn.Module, name: str, find: Callable[[], T]) -> T:
    """What is found by a walk over a model's parts, kept while nothing is set on the model.

    It must keep nothing of the model alive. Outside of `looking` it is found anew.
    """
    if _this_call.get() is None:
        return find()
    found = _seen(model).found
    if name not in found:
        found[name] = find()
    kept: T = found[name]
    return kept


def tensors_now(model: nn.Module) -> list[dict[str, Tensor]]:
    """Parameters and buffers by path, as `tensors_of`."""
    found = found_once(model, "tensors", lambda: _places_of_tensors(model))
    with borrowed(model):
        return [
            {
                path: tensor
                for path, part, name in places
                if (tensor := getattr(part(), table)[name]) is not None
            }
            for table, places in found.items()
        ]


def _places_of_tensors(model: nn.Module) -> dict[str, list[tuple[str, Any, str]]]:
    """For parameters and buffers: the path of each, a reference to its part, its name there."""
    places: dict[str, list[tuple[str, Any, str]]] = {"_parameters": [], "_buffers": []}
    for path, part in parts_of(model):
        prefix, held = f"{path}." if path else "", weakref.ref(part)
        for table, found in places.items():
            there = [name for name, t in getattr(part, table).items() if t is not None]
            found.extend((prefix + name, held, name) for name in there)
    return places


def _seen(model: nn.Module) -> _Seen:
    here = _this_call.get()
    if here is not None and id(model) in here:
        return here[id(model)]
    seen = _last.get(model)
    if seen is None or not seen.watch.holds():
        seen = _last[model] = _Seen(*facts_and_watch(model))
    if here is not None:
        here[id(model)] = seen
    return seen
