"""Fingerprint: what a model's output depends on beside weights and inputs, as far as it can be seen."""

from __future__ import annotations

import functools
import os
import sys
import threading
import types
import weakref
from array import array
from collections import deque
from contextvars import ContextVar
from enum import Enum
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fxplain.capture.contents import (
    PLAIN,
    of_buffer,
    of_environment,
    of_key,
    of_numbers,
    of_tensor,
    serial,
)
from fxplain.capture.names import (
    is_users,
    names_mentioned,
    names_read,
    unwrapped,
    within,
)
from fxplain.capture.readings import (
    HOOKS,
    OF_CLASSES,
    OF_CODES,
    OF_FUNCTIONS,
    OF_MODULES,
    OF_OBJECTS,
    OF_TENSORS,
    OF_TORCH,
    functions_of,
    globals_of,
    of_array,
    of_context,
    of_method,
    of_partial,
    of_process,
    of_proxy,
    of_reference,
    slots_in,
    values_in_slots,
)
from fxplain.capture.state import kept_on, parts_of
from fxplain.capture.tables import interfaces
from fxplain.capture.watch import (
    VALUES,
    Named,
    Watch,
    elements,
    items,
    kind_of,
)

__all__ = [
    "Facts",
    "changed",
    "fact_of",
    "facts_and_watch",
    "facts_of",
]

Facts = dict[tuple[str, str], Any]
"""By path of a module and name of an attribute, what was seen there; it keeps nothing alive."""

_OF_PYTHON = frozenset({
    "__dict__", "__weakref__", "__doc__", "__module__", "__annotations__", "__abstractmethods__",
    "__parameters__", "__orig_bases__", "__static_attributes__", "__firstlineno__", "_abc_impl",
})  # fmt: skip


def facts_of(model: nn.Module) -> Facts:
    """What is seen of a model now: attributes of its parts and classes, hooks, functions, globals.

    Containers, objects and closures are followed. Weights are live in a capture, so of them only
    kind, shape and place are noted.
    """
    return _Walk().over(model).facts


def facts_and_watch(model: nn.Module) -> tuple[Facts, Watch]:
    """The same, and a watch that says whether a later walk would see it all again."""
    walk = _Walk().over(model)
    return walk.facts, walk.watch.closed()


def fact_of(thing: Any) -> Any:
    """What is seen of one thing now, such as a function that a model is called with."""
    return _Walk().fact(thing)


def changed(before: Facts, now: Facts) -> set[tuple[str, str]]:
    """Where two fingerprints differ."""
    if before is now or before == now:
        return set()
    keys = before.keys() | now.keys()
    return {k for k in keys if before.get(k, _ABSENT) != now.get(k, _ABSENT)}


_ABSENT = "absent"
_DEEPEST = 100
"""How far a thing in a thing in a thing is followed: Python's own calls end soon after."""


class _Walk:
    """One walk over a model; a thing that is met again is named by where it was met first."""

    def __init__(self) -> None:
        self.facts: Facts = {}
        self.watch = Watch()
        self._met: dict[int, Any] = {}
        self._alive: list[Any] = []  # or an id could come again within the walk
        self._tensors: dict[int, int] = {}
        self._place: tuple[str, str] = ("", "")
        self._count, self._depth = 0, 0
        self._mentioned: set[str] = set()
        self._methods: list[tuple[str, str, types.FunctionType]] = []

    def over(self, model: nn.Module) -> _Walk:
        """Itself, when it has been over all of a model."""
        self.facts["", "process"] = self._process()
        for home in (F, torch.Tensor, nn.Module):  # torch's own modules call them, too
            functions = self.watch.read(home, functions_of)
            self.facts["", home.__name__] = tuple(map(serial, functions))
        self._tables()
        parts = list(parts_of(model))
        for path, module in parts:
            self._met.setdefault(id(module), ("part", path))
        classes: dict[type, None] = {}
        for path, module in parts:
            classes.setdefault(type(module))
            self._module(path, module)
        for cls in dict.fromkeys(base for each in classes for base in each.__mro__):
            if cls not in (nn.Module, object):
                self._class(cls)
        self._open_methods()
        return self

    def _note(self, path: str, name: str, thing: Any) -> None:
        if issubclass(type(thing), PLAIN):
            self.facts[path, name] = thing
            return
        self._place, self._count = (path, name), 0
        self.facts[path, name] = self.fact(thing)

    def _process(self) -> Any:
        """What changes every model of the process: hooks on all modules, modes, default types."""
        self._place = ("", "process")
        return tuple(map(self.fact, self.watch.read(sys.modules[nn.Module.__module__], of_process)))

    def _tables(self) -> None:
        """By what name transformers finds which function, for attention and masks."""
        for kind, instances in interfaces():
            self.watch.read(kind, OF_CLASSES)
            own = [table for table in vars(kind).values() if isinstance(table, dict)]
            for instance in instances:
                self.watch.read(instance, OF_OBJECTS)
                own += [table for table in vars(instance).values() if isinstance(table, dict)]
            for number, table in enumerate(own):
                self._note(f"interface {kind.__qualname__}", str(number), table)

    def _module(self, path: str, module: nn.Module) -> None:
        self.watch.read(module, OF_MODULES)
        own = vars(module)
        self.facts[path, "type"] = id(type(module))
        for name, value in own.items():
            if name in HOOKS:
                if value:  # their keys are numbers that torch counts up
                    self._place, self._count = (path, name), 0
                    named = own.get(f"{name}_with_kwargs", ())
                    hooks = [(key in named, self.fact(hook)) for key, hook in [*value.items()]]
                    self.facts[path, name] = tuple(hooks)
            elif name not in OF_TORCH:
                self._note(path, name, value)
        if slots_in(type(module)):
            in_slots = zip(
                slots_in(type(module)), self.watch.read(module, values_in_slots), strict=True
            )
            for name, value in in_slots:
                self._note(path, name, value)
        tensors = [*module._parameters.items(), *module._buffers.items()]
        if tensors:
            self.facts[path, "tensors"] = tuple([self._kind(n, t) for n, t in tensors])
        for name, tensor in tensors:
            if tensor is not None:
                self._kept_on(path, name, tensor)

    def _kind(self, name: str, tensor: Tensor | None) -> Any:
        if tensor is None:
            return name
        same = self._tensors.setdefault(id(tensor), len(self._tensors))  # tied weights
        return name, same, self.watch.value(tensor, kind_of(tensor))

    def _kept_on(self, path: str, name: str, tensor: Tensor) -> None:
        """What is kept on a tensor as its attributes."""
        self.watch.read(tensor, OF_TENSORS)
        for attribute, value in kept_on(tensor).items():
            self._note(path, f"{name}.{attribute}", value)

    def _class(self, cls: type) -> None:
        """A class of a part: its attributes; of a library's methods those that may be called."""
        self.watch.read(cls, OF_CLASSES)
        path, users = f"class {cls.__module__}.{cls.__qualname__}", is_users(cls)
        for name, value in list(vars(cls).items()):
            found = unwrapped(value)
            if name in _OF_PYTHON:
                continue
            if not isinstance(found, types.FunctionType) or users or is_users(found):
                self._note(path, name, found)
            else:
                self.facts[path, name] = serial(found)
                self._methods.append((path, name, found))

    def _open_methods(self) -> None:
        """Look into a library's methods that code which was looked into mentions by name.

        Most of what its classes have is about loading, saving and printing.
        """
        waiting = self._methods
        while waiting:
            closed = []
            for path, name, function in waiting:
                if name in self._mentioned or _is_implicit(name):
                    self._note(path, name, function)
                else:
                    closed.append((path, name, function))
            if len(closed) == len(waiting):
                return
            waiting = closed

    def fact(self, thing: Any) -> Any:
        """What is seen of one thing."""
        if type(thing) in weakref.ProxyTypes:  # it would pass for what it stands for
            return "proxy", *map(self.fact, self.watch.read(thing, of_proxy))
        if isinstance(thing, PLAIN) and not isinstance(thing, Enum):
            return thing
        if isinstance(thing, VALUES):
            return type(thing).__name__, repr(thing)
        if isinstance(thing, _SETTLED):
            return serial(thing)
        met = self._met.get(id(thing))
        if met is not None:
            return met
        if self._depth > _DEEPEST:
            return serial(type(thing))
        self._count += 1
        self._met[id(thing)] = ("met", *self._place, self._count)
        self._alive.append(thing)
        self._depth += 1
        try:
            return self._new(thing)
        finally:
            self._depth -= 1

    def _new(self, thing: Any) -> Any:
        if isinstance(thing, Tensor):
            said = self.watch.value(thing, of_tensor)
            self.watch.read(thing, OF_TENSORS)
            own = kept_on(thing)
            return (*said, tuple([(k, self.fact(v)) for k, v in own.items()])) if own else said
        if isinstance(thing, np.ndarray):
            if thing.dtype.hasobject:
                return "objects", *map(self.fact, self.watch.read(thing, of_array))
            return self.watch.value(thing, of_numbers)
        if isinstance(thing, (bytearray, array, memoryview)):
            return self.watch.value(thing, of_buffer)
        if isinstance(thing, types.FunctionType):
            return self._function(thing)
        if isinstance(thing, types.MethodType):
            return "method", *map(self.fact, self.watch.read(thing, of_method))
        if isinstance(thing, functools.partial):
            return "partial", *map(self.fact, self.watch.read(thing, of_partial))
        if isinstance(thing, ContextVar):
            return "context", *map(self.fact, self.watch.read(thing, of_context))
        if isinstance(thing, weakref.ref):
            return "reference", *map(self.fact, self.watch.read(thing, of_reference))
        if isinstance(thing, type) and is_users(thing):
            return self._own_class(thing)
        if isinstance(thing, (type, types.ModuleType, Enum)):
            return serial(thing)
        if thing is os.environ:
            return self.watch.value(thing, of_environment)
        # another mapping may read a disk, or fail, when it is asked
        if isinstance(thing, (dict, types.MappingProxyType)):
            both = self.watch.read(thing, items)
            keys, values = both[: len(both) // 2], both[len(both) // 2 :]
            entries = tuple([(of_key(k), self.fact(v)) for k, v in zip(keys, values, strict=True)])
            return self._kind_of(thing), entries, self._attributes(thing)
        if isinstance(thing, (list, tuple, deque)):
            listed = tuple(map(self.fact, self.watch.read(thing, elements)))
            return self._kind_of(thing), listed, self._attributes(thing)
        if isinstance(thing, (set, frozenset)):
            held = frozenset(map(of_key, self.watch.read(thing, elements)))
            return self._kind_of(thing), held, self._attributes(thing)
        return self._kind_of(thing), self._attributes(thing) or serial(thing)

    def _kind_of(self, thing: Any) -> Any:
        """The class of a thing: the user's own with all that is in it."""
        cls = type(thing)
        return self.fact(cls) if is_users(cls) else serial(cls)

    def _own_class(self, cls: type) -> Any:
        """A class of the user's, its attributes and methods, and those that it is made of."""
        self.watch.read(cls, OF_CLASSES)
        own = [(k, unwrapped(v)) for k, v in list(vars(cls).items()) if k not in _OF_PYTHON]
        above = [each for each in (*cls.__bases__, type(cls)) if is_users(each)]
        found = tuple([(k, self.fact(v)) for k, v in own])
        return "class", serial(cls), found, tuple(map(self.fact, above))

    def _attributes(self, thing: Any) -> Any:
        """The attributes of an object, in its ``__dict__`` and its slots; of torch's plain ones."""
        cls = type(thing)
        home = cls.__module__.split(".")[0]
        if home in _CLOSED and not isinstance(thing, (nn.Module, threading.local)):
            return ()
        self.watch.read(thing, OF_OBJECTS)
        found = dict(getattr(thing, "__dict__", ()))
        found.update((n, getattr(thing, n)) for n in slots_in(cls) if hasattr(thing, n))
        skipped = OF_TORCH - {"_parameters", "_buffers", "_modules"}
        skip = skipped if isinstance(thing, nn.Module) else ()
        if home == "torch" and not skip:  # what a graph or a process group hangs together with
            found = {k: v for k, v in found.items() if isinstance(v, (*PLAIN, Tensor))}
        return tuple([(k, self.fact(v)) for k, v in found.items() if k not in skip])

    def _function(self, function: types.FunctionType) -> Any:
        """A function by its code and what the code reads: two closures of equal values are equal."""
        self.watch.read(function, OF_FUNCTIONS)
        mentioned = names_mentioned(function.__code__)
        found = self.watch.read(function, Named(globals_of, mentioned))
        modules = [x for x in found if isinstance(x, types.ModuleType)]
        for module in dict.fromkeys(each for x in modules for each in within(x, mentioned)):
            found = [*found, *self.watch.read(module, Named(vars, mentioned))]
        for value in found:
            if isinstance(value, types.FunctionType):
                self.watch.read(value, OF_CODES)
                self._mentioned.update(names_mentioned(value.__code__))
        self._mentioned.update(mentioned)
        code = serial(function.__code__)
        own = vars(function) if is_users(function) else {}
        kept = tuple([(k, self.fact(v)) for k, v in own.items()])
        read = tuple([(name, self.fact(value)) for name, value in names_read(function)])
        return "function", code, read, kept


def _is_implicit(name: str) -> bool:
    """Whether a method is called without its name: a model's, and those of Python's operators."""
    return name == "forward" or (name.startswith("__") and name not in _UNASKED)


_UNASKED = frozenset({
    "__init__", "__new__", "__del__", "__init_subclass__", "__class_getitem__", "__set_name__",
    "__repr__", "__str__", "__format__", "__dir__", "__sizeof__", "__copy__", "__deepcopy__",
    "__reduce__", "__reduce_ex__", "__getstate__", "__setstate__", "__subclasshook__",
})  # fmt: skip
"""What runs where a module is made, copied, saved or printed."""

_SETTLED = (types.BuiltinFunctionType, types.CodeType, np.ufunc)
_CLOSED = {"logging", "threading", "_thread", "numpy", "re", "builtins"}
