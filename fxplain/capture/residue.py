"""Residue: what torch keeps of a trace for the rest of the process goes when the capture is made."""

from __future__ import annotations

import functools
import linecache
import threading
import weakref
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx
from torch._subclasses import meta_utils
from torch.utils.weak import WeakIdKeyDictionary

__all__ = ["source_goes_with", "without_residue"]


@contextmanager
def without_residue() -> Iterator[None]:
    """Free what is traced within as soon as nothing asks for it.

    Two things keep the shapes of every trace alive: caches of `ShapeEnv`'s methods hold the object
    itself, and it holds its first fake tensors, whose sizes lead back to it by way of C++, where the
    garbage collector does not look. Clearing the caches costs others a little time and nothing else.
    The source of every graph is kept besides, to be shown in tracebacks. And fake tensors remember by
    weak references which weight is which: as long as they do, no weight can be swapped for another,
    which is how ``model.to`` moves those that are quantised or spread over devices.
    """
    from torch.fx.experimental.symbolic_shapes import ShapeEnv  # here: it takes a while to import

    before = set(_sources())
    with _noted(ShapeEnv) as made, _noted(_describer()) as describers:
        try:
            yield
        finally:
            for name in set(_sources()) - before:
                _forget(name)
            for each in made:
                fakes = getattr(each(), "tracked_fakes", None)
                if isinstance(fakes, list):
                    fakes.clear()
            for each in describers:
                weights = getattr(each(), "lookup_tensor", None)
                if isinstance(weights, WeakIdKeyDictionary):
                    weights.clear()
            for method in tuple(vars(ShapeEnv).values()):
                clear = getattr(method, "cache_clear", None)
                if callable(clear):
                    clear()


def source_goes_with(module: fx.GraphModule) -> fx.GraphModule:
    """The module, whose source torch now forgets when it is gone."""
    code = getattr(type(module).forward, "__code__", None)
    if code is not None:
        weakref.finalize(module, _forget, code.co_filename)
    return module


def _sources() -> MutableMapping[str, str]:
    """By the name of its file, the source of each graph, where this torch keeps it there."""
    loader = getattr(torch.fx.graph_module, "_loader", None)
    found = getattr(loader, "eval_cache", None)
    return found if isinstance(found, dict) else {}


def _forget(name: str) -> None:
    _sources().pop(name, None)
    linecache.cache.pop(name, None)


def _describer() -> type | None:
    """The class of what fake tensors remember, where this torch has it."""
    found = getattr(meta_utils, "MetaTensorDescriber", None)
    return found if isinstance(found, type) else None


@contextmanager
def _noted(kind: Any) -> Iterator[list[weakref.ref[Any]]]:
    """Those of a class that this thread makes within; none where there is no such class."""
    made: list[weakref.ref[Any]] = []
    if kind is None:
        yield made
        return
    thread, begin = threading.get_ident(), kind.__init__

    @functools.wraps(begin)
    def noted(self: Any, *args: Any, **kwargs: Any) -> None:
        begin(self, *args, **kwargs)
        if threading.get_ident() == thread:
            made.append(weakref.ref(self))

    kind.__init__ = noted
    try:
        yield made
    finally:
        kind.__init__ = begin
