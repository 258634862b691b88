"""Fingerprint: what a model's output depends on beside weights and inputs, as far as it can be seen."""

from __future__ import annotations

import functools
import itertools
import os
import sys
import threading
import types
import weakref
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from enum import Enum
from itertools import chain, compress, repeat
from operator import attrgetter, itemgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fxplain.capture.autocasting import Autocast
from fxplain.capture.names import (
    content_of,
    is_users,
    names_mentioned,
    names_read,
    unwrapped,
    within,
)
from fxplain.capture.state import is_plain, kept_on, life_of, parts_of, version_of
from fxplain.capture.tables import interfaces
from fxplain.capture.watch import (
    VALUES,
    Named,
    Read,
    Several,
    Watch,
    elements,
    items,
    kind_of,
    values_of,
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

_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
_OF_TORCH = frozenset(vars(nn.Module())) - {*_HOOKS, "training"}
_OF_PYTHON = frozenset({
    "__dict__", "__weakref__", "__doc__", "__module__", "__annotations__", "__abstractmethods__",
    "__parameters__", "__orig_bases__", "__static_attributes__", "__firstlineno__", "_abc_impl",
})  # fmt: skip
_SMALL = 1024
"""Elements up to which a tensor is looked at, so that a write that torch does not count is seen."""

_MOST_BYTES = 1 << 16
"""The same for arrays, which count no writes at all."""


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
            functions = self.watch.read(home, _functions_of)
            self.facts["", home.__name__] = tuple(map(_serial, functions))
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
        if issubclass(type(thing), _PLAIN):
            self.facts[path, name] = thing
            return
        self._place, self._count = (path, name), 0
        self.facts[path, name] = self.fact(thing)

    def _process(self) -> Any:
        """What changes every model of the process: hooks on all modules, modes, default types."""
        self._place = ("", "process")
        return tuple(
            map(self.fact, self.watch.read(sys.modules[nn.Module.__module__], _of_process))
        )

    def _tables(self) -> None:
        """By what name transformers finds which function, for attention and masks."""
        for kind, instances in interfaces():
            self.watch.read(kind, _OF_CLASSES)
            own = [table for table in vars(kind).values() if isinstance(table, dict)]
            for instance in instances:
                self.watch.read(instance, _OF_OBJECTS)
                own += [table for table in vars(instance).values() if isinstance(table, dict)]
            for number, table in enumerate(own):
                self._note(f"interface {kind.__qualname__}", str(number), table)

    def _module(self, path: str, module: nn.Module) -> None:
        self.watch.read(module, _OF_MODULES)
        own = vars(module)
        self.facts[path, "type"] = id(type(module))
        for name, value in own.items():
            if name in _HOOKS:
                if value:  # their keys are numbers that torch counts up
                    self._place, self._count = (path, name), 0
                    named = own.get(f"{name}_with_kwargs", ())
                    hooks = [(key in named, self.fact(hook)) for key, hook in [*value.items()]]
                    self.facts[path, name] = tuple(hooks)
            elif name not in _OF_TORCH:
                self._note(path, name, value)
        if _slots(type(module)):
            in_slots = zip(_slots(type(module)), self.watch.read(module, _in_slots), strict=True)
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
        self.watch.read(tensor, _OF_TENSORS)
        for attribute, value in kept_on(tensor).items():
            self._note(path, f"{name}.{attribute}", value)

    def _class(self, cls: type) -> None:
        """A class of a part: its attributes; of a library's methods those that may be called."""
        self.watch.read(cls, _OF_CLASSES)
        path, users = f"class {cls.__module__}.{cls.__qualname__}", is_users(cls)
        for name, value in list(vars(cls).items()):
            found = unwrapped(value)
            if name in _OF_PYTHON:
                continue
            if not isinstance(found, types.FunctionType) or users or is_users(found):
                self._note(path, name, found)
            else:
                self.facts[path, name] = _serial(found)
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
            return "proxy", *map(self.fact, self.watch.read(thing, _of_proxy))
        if isinstance(thing, _PLAIN) and not isinstance(thing, Enum):
            return thing
        if isinstance(thing, VALUES):
            return type(thing).__name__, repr(thing)
        if isinstance(thing, _SETTLED):
            return _serial(thing)
        met = self._met.get(id(thing))
        if met is not None:
            return met
        if self._depth > _DEEPEST:
            return _serial(type(thing))
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
            said = self.watch.value(thing, _tensor)
            self.watch.read(thing, _OF_TENSORS)
            own = kept_on(thing)
            return (*said, tuple([(k, self.fact(v)) for k, v in own.items()])) if own else said
        if isinstance(thing, np.ndarray):
            if thing.dtype.hasobject:
                return "objects", *map(self.fact, self.watch.read(thing, _of_array))
            return self.watch.value(thing, _array)
        if isinstance(thing, (bytearray, array, memoryview)):
            return self.watch.value(thing, _buffer)
        if isinstance(thing, types.FunctionType):
            return self._function(thing)
        if isinstance(thing, types.MethodType):
            return "method", *map(self.fact, self.watch.read(thing, _of_method))
        if isinstance(thing, functools.partial):
            return "partial", *map(self.fact, self.watch.read(thing, _of_partial))
        if isinstance(thing, ContextVar):
            return "context", *map(self.fact, self.watch.read(thing, _of_context))
        if isinstance(thing, weakref.ref):
            return "reference", *map(self.fact, self.watch.read(thing, _of_reference))
        if isinstance(thing, type) and is_users(thing):
            return self._own_class(thing)
        if isinstance(thing, (type, types.ModuleType, Enum)):
            return _serial(thing)
        if thing is os.environ:
            return self.watch.value(thing, _environment)
        # another mapping may read a disk, or fail, when it is asked
        if isinstance(thing, (dict, types.MappingProxyType)):
            both = self.watch.read(thing, items)
            keys, values = both[: len(both) // 2], both[len(both) // 2 :]
            entries = tuple([(_key(k), self.fact(v)) for k, v in zip(keys, values, strict=True)])
            return self._kind_of(thing), entries, self._attributes(thing)
        if isinstance(thing, (list, tuple, deque)):
            listed = tuple(map(self.fact, self.watch.read(thing, elements)))
            return self._kind_of(thing), listed, self._attributes(thing)
        if isinstance(thing, (set, frozenset)):
            held = frozenset(map(_key, self.watch.read(thing, elements)))
            return self._kind_of(thing), held, self._attributes(thing)
        return self._kind_of(thing), self._attributes(thing) or _serial(thing)

    def _kind_of(self, thing: Any) -> Any:
        """The class of a thing: the user's own with all that is in it."""
        cls = type(thing)
        return self.fact(cls) if is_users(cls) else _serial(cls)

    def _own_class(self, cls: type) -> Any:
        """A class of the user's, its attributes and methods, and those that it is made of."""
        self.watch.read(cls, _OF_CLASSES)
        own = [(k, unwrapped(v)) for k, v in list(vars(cls).items()) if k not in _OF_PYTHON]
        above = [each for each in (*cls.__bases__, type(cls)) if is_users(each)]
        found = tuple([(k, self.fact(v)) for k, v in own])
        return "class", _serial(cls), found, tuple(map(self.fact, above))

    def _attributes(self, thing: Any) -> Any:
        """The attributes of an object, in its ``__dict__`` and its slots; of torch's plain ones."""
        cls = type(thing)
        home = cls.__module__.split(".")[0]
        if home in _CLOSED and not isinstance(thing, (nn.Module, threading.local)):
            return ()
        self.watch.read(thing, _OF_OBJECTS)
        found = dict(getattr(thing, "__dict__", ()))
        found.update((n, getattr(thing, n)) for n in _slots(cls) if hasattr(thing, n))
        skipped = _OF_TORCH - {"_parameters", "_buffers", "_modules"}
        skip = skipped if isinstance(thing, nn.Module) else ()
        if home == "torch" and not skip:  # what a graph or a process group hangs together with
            found = {k: v for k, v in found.items() if isinstance(v, (*_PLAIN, Tensor))}
        return tuple([(k, self.fact(v)) for k, v in found.items() if k not in skip])

    def _function(self, function: types.FunctionType) -> Any:
        """A function by its code and what the code reads: two closures of equal values are equal."""
        self.watch.read(function, _OF_FUNCTIONS)
        mentioned = names_mentioned(function.__code__)
        found = self.watch.read(function, Named(_globals_of, mentioned))
        modules = [x for x in found if isinstance(x, types.ModuleType)]
        for module in dict.fromkeys(each for x in modules for each in within(x, mentioned)):
            found = [*found, *self.watch.read(module, Named(vars, mentioned))]
        for value in found:
            if isinstance(value, types.FunctionType):
                self.watch.read(value, _OF_CODES)
                self._mentioned.update(names_mentioned(value.__code__))
        self._mentioned.update(mentioned)
        code = _serial(function.__code__)
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


def _of_process(module: types.ModuleType) -> list[Any]:
    hooks = [getattr(module, f"_global{name}", None) for name in _HOOKS]
    stack = getattr(torch.overrides, "_get_current_function_mode_stack", list)
    return [*hooks, *Autocast.now().types, torch.get_default_dtype(), *_flags(), *stack()]


def _flags() -> list[bool]:
    """What says which kernels torch takes; code may ask for it, too."""
    cuda = torch.backends.cuda
    return [
        torch.are_deterministic_algorithms_enabled(),
        torch.get_float32_matmul_precision() == "highest",
        cuda.flash_sdp_enabled(),
        cuda.mem_efficient_sdp_enabled(),
        cuda.math_sdp_enabled(),
        bool(torch.backends.mkldnn.enabled),
    ]


def _functions_of(home: types.ModuleType | type) -> list[Any]:
    return [*filter(callable, vars(home).values())]


def _environment(variables: Any) -> Any:
    known = getattr(variables, "_data", variables)  # as the system has them, where Python tells
    return "environment", tuple(sorted(known.items()))


def _of_module(module: nn.Module) -> list[Any]:
    return _of_modules([module])[0]


def _of_modules(modules: Sequence[nn.Module]) -> tuple[list[Any], list[Any]]:
    """All that hangs on modules: attributes, parts, tensors, hooks; and the names of that."""
    owns = [*map(vars, modules)]
    names = [*map(tuple, owns)]
    pickers = map(_picker, names)
    own_values = [pick(own) for pick, own in zip(pickers, owns, strict=True)]
    tables: list[Any] = [own.get("_modules") for own in owns]
    if not all(issubclass(kind, dict) for kind in {*map(type, tables)}):
        return [object()], []  # TorchScript's are made anew whenever they are asked for
    tables += map(attrgetter("_parameters"), modules)
    tables += map(attrgetter("_buffers"), modules)
    for name in _HOOKS:
        tables += filter(None, map(dict.get, owns, repeat(name)))
    found = [*map(type, modules), *chain.from_iterable(own_values), *values_of(tables)]
    return found, [names, *map(len, tables), *chain.from_iterable(tables)]


@functools.lru_cache(maxsize=4096)
def _picker(names: tuple[str, ...]) -> Callable[[dict[str, Any]], tuple[Any, ...]]:
    """From a module's attributes, in this order, to the values of those that are not torch's own."""
    picked = [name for name in names if name not in _OF_TORCH]
    return itemgetter(*picked) if len(picked) > 1 else lambda own: (*map(own.get, picked),)


def _as_before(modules: Sequence[nn.Module]) -> Callable[[Sequence[nn.Module]], Read]:
    """A reading as `_of_modules`, of modules that have attributes of the same names still.

    Where there are as many, and one of ours has gone, it fails.
    """
    owns = [*map(vars, modules)]
    if not all(isinstance(own.get(table), dict) for own in owns for table in _TABLES):
        return _of_modules
    pickers = [_picker(tuple(own)) for own in owns]

    def read(modules: Sequence[nn.Module]) -> Read:
        owns = [*map(vars, modules)]
        own_values = [pick(own) for pick, own in zip(pickers, owns, strict=True)]
        tables = [*chain.from_iterable(map(_tables_of, owns))]
        sizes = [*map(len, tables)]
        filled = [*compress(tables, sizes)]
        found = [*map(type, modules), *chain.from_iterable(own_values), *values_of(filled)]
        return found, [*map(len, owns), *sizes, *chain.from_iterable(filled)]

    return read


_TABLES = ("_modules", "_parameters", "_buffers", *_HOOKS)
_tables_of = itemgetter(*_TABLES)

_OF_MODULES = Several(_of_module, _of_modules, _as_before)


def _of_tensors(tensors: Sequence[Tensor]) -> Read:
    return items.many([*map(kept_on, tensors)])


def _as_tensors_before(tensors: Sequence[Tensor]) -> Callable[[Sequence[Tensor]], Read]:
    """The same of tensors of torch's own classes still."""
    if not all(map(is_plain, tensors)):
        return _of_tensors

    def read(tensors: Sequence[Tensor]) -> Read:
        owns = [*map(vars, tensors)]
        some = [*filter(None, owns)]
        found = [*map(type, tensors), *chain.from_iterable(some), *values_of(some)]
        return found, [*map(len, owns)]

    return read


_OF_TENSORS = Several(lambda tensor: items(kept_on(tensor)), _of_tensors, _as_tensors_before)


def _of_classes(classes: Sequence[type]) -> tuple[list[Any], list[Any]]:
    return items.many([*map(vars, classes)])


_OF_CLASSES = Several(lambda cls: items(vars(cls)), _of_classes)


def _of_method(method: types.MethodType) -> list[Any]:
    return [method.__func__, method.__self__]


def _of_context(variable: ContextVar[Any]) -> list[Any]:
    try:
        return [variable.get()]
    except LookupError:  # it has no value here
        return []


def _of_reference(reference: weakref.ref[Any]) -> list[Any]:
    return [weakref.ref.__call__(reference)]  # one of a method would make that anew


def _of_proxy(proxy: Any) -> list[Any]:
    try:
        return [proxy.__repr__.__self__]
    except (AttributeError, ReferenceError):  # it is gone
        return []


def _of_array(objects: np.ndarray[Any, Any]) -> list[Any]:
    found: list[Any] = objects.ravel().tolist()
    return found


def _in_slots(thing: Any) -> list[Any]:
    return [getattr(thing, name, _ABSENT) for name in _slots(type(thing))]


def _of_partial(partial: functools.partial[Any]) -> list[Any]:
    return [partial.func, partial.args, partial.keywords]


def _of_object(thing: Any) -> list[Any]:
    return _of_objects([thing])[0]


def _of_objects(things: Sequence[Any]) -> Read:
    """What is in objects' dictionaries and slots."""
    return _as_objects_before(things)(things)


def _as_objects_before(things: Sequence[Any]) -> Callable[[Sequence[Any]], Read]:
    """The same of objects of the same classes still."""
    slotted = [(i, _slots(type(thing))) for i, thing in enumerate(things)]
    slots = [(i, name) for i, names in slotted for name in names]

    def read(things: Sequence[Any]) -> Read:
        owns = [getattr(thing, "__dict__", _NOTHING) for thing in things]
        in_slots = [getattr(things[i], name, _ABSENT) for i, name in slots]
        found = [*map(type, things), *chain.from_iterable(owns), *values_of(owns), *in_slots]
        return found, [*map(len, owns)]

    return read


_NOTHING: dict[str, Any] = {}
_OF_OBJECTS = Several(_of_object, _of_objects, _as_objects_before)


def _of_function(function: types.FunctionType) -> list[Any]:
    return _of_functions([function])[0]


def _of_functions(functions: Sequence[types.FunctionType]) -> tuple[list[Any], list[Any]]:
    """Code, defaults, attributes (what is wrapped is one), and what is in the closure."""
    found = [*chain.from_iterable(map(_parts_of_function, functions))]
    owns = [*filter(None, map(vars, functions))]
    found += [*chain.from_iterable(owns), *values_of(owns)]
    cells = chain.from_iterable(filter(None, map(attrgetter("__closure__"), functions)))
    return [*found, *map(content_of, cells)], []


_parts_of_function = attrgetter("__code__", "__defaults__", "__kwdefaults__", "__closure__")

_OF_FUNCTIONS = Several(_of_function, _of_functions)


def _of_codes(functions: Sequence[types.FunctionType]) -> tuple[list[Any], list[Any]]:
    return [*map(attrgetter("__code__"), functions)], []


_OF_CODES = Several(lambda function: [function.__code__], _of_codes)


def _globals_of(function: types.FunctionType) -> dict[str, Any]:
    return function.__globals__


_slots_of: weakref.WeakKeyDictionary[type, tuple[str, ...]] = weakref.WeakKeyDictionary()


def _slots(cls: type) -> tuple[str, ...]:
    """The names of an object's slots."""
    if cls not in _slots_of:
        names = []
        for base in cls.__mro__:
            own = vars(base).get("__slots__", ())
            for name in (own,) if isinstance(own, str) else own:
                if isinstance(vars(base).get(name), types.MemberDescriptorType):
                    names.append(name)
        _slots_of[cls] = tuple(names)
    return _slots_of[cls]


def _tensor(tensor: Tensor) -> Any:
    """A small tensor's content; a large one's identity, writes and place."""
    kind = tensor.dtype, tensor.device, tensor.shape
    plain = is_plain(tensor) and tensor.device.type == "cpu"
    storage = life_of(tensor)
    if not plain or storage is tensor:  # a sparse one, or one of a transform that is over
        return "tensor", *kind, _serial(tensor), version_of(tensor)
    freed = storage.nbytes() == 0  # by what splits a model over processes
    if tensor.numel() <= _SMALL and not (tensor.is_quantized or freed):
        return "tensor", *kind, repr(tensor.detach().resolve_conj().tolist())
    return "tensor", *kind, _serial(tensor), version_of(tensor), tensor.data_ptr()


def _array(numbers: np.ndarray[Any, Any]) -> Any:
    content = numbers.tobytes() if numbers.nbytes <= _MOST_BYTES else None
    return "array", str(numbers.dtype), numbers.shape, _serial(numbers), content


def _buffer(numbers: bytearray | array[Any] | memoryview) -> Any:
    seen = memoryview(numbers)
    content = seen.tobytes() if seen.nbytes <= _MOST_BYTES else _serial(numbers)
    return type(numbers).__name__, seen.format, seen.shape, content


def _key(key: Any) -> Any:
    """A key of a mapping, or an element of a set, without a hold on it."""
    return key if isinstance(key, _PLAIN) else _serial(key)


_serials: dict[int, tuple[Any, int]] = {}
_next = itertools.count()


def _serial(thing: Any) -> Any:
    """A number of one thing's own, which no later thing gets (as it may get its id)."""
    known = _serials.get(id(thing))
    life = life_of(thing) if isinstance(thing, Tensor) else thing
    if known is not None and known[0]() is life:
        return known[1]
    key = id(thing)
    try:
        held = weakref.ref(life, lambda ref: _forget(key, ref))
    except TypeError:  # a thing that cannot be watched
        return "id", key
    number = next(_next)
    _serials[key] = (held, number)
    return number


def _forget(key: int, ref: Any) -> None:
    known = _serials.get(key)
    if known is not None and known[0] is ref:
        _serials.pop(key, None)
