"""Readings: what is read of each kind of thing that a model's output depends on."""

from __future__ import annotations

import functools
import types
import weakref
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from itertools import chain, compress, repeat
from operator import attrgetter, itemgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fxplain.capture.autocasting import Autocast
from fxplain.capture.names import content_of
from fxplain.capture.state import is_plain, kept_on
from fxplain.capture.watch import Read, Several, items, values_of

__all__ = [
    "HOOKS",
    "OF_CLASSES",
    "OF_CODES",
    "OF_FUNCTIONS",
    "OF_MODULES",
    "OF_OBJECTS",
    "OF_TENSORS",
    "OF_TORCH",
    "functions_of",
    "globals_of",
    "of_array",
    "of_context",
    "of_method",
    "of_partial",
    "of_process",
    "of_proxy",
    "of_reference",
    "slots_in",
    "values_in_slots",
]

HOOKS = ("_forward_hooks", "_forward_pre_hooks")
OF_TORCH = frozenset(vars(nn.Module())) - {*HOOKS, "training"}
"""A module's attributes that are torch's own."""

_ABSENT = "absent"


def of_process(module: types.ModuleType) -> list[Any]:
    """What changes every model of the process: hooks on all modules, modes, default types."""
    hooks = [getattr(module, f"_global{name}", None) for name in HOOKS]
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


def functions_of(home: types.ModuleType | type) -> list[Any]:
    """The functions and classes of a namespace."""
    return [*filter(callable, vars(home).values())]


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
    for name in HOOKS:
        tables += filter(None, map(dict.get, owns, repeat(name)))
    found = [*map(type, modules), *chain.from_iterable(own_values), *values_of(tables)]
    return found, [names, *map(len, tables), *chain.from_iterable(tables)]


@functools.lru_cache(maxsize=4096)
def _picker(names: tuple[str, ...]) -> Callable[[dict[str, Any]], tuple[Any, ...]]:
    """From a module's attributes, in this order, to the values of those that are not torch's own."""
    picked = [name for name in names if name not in OF_TORCH]
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


_TABLES = ("_modules", "_parameters", "_buffers", *HOOKS)
_tables_of = itemgetter(*_TABLES)

OF_MODULES = Several(_of_module, _of_modules, _as_before)


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


OF_TENSORS = Several(lambda tensor: items(kept_on(tensor)), _of_tensors, _as_tensors_before)


def _of_classes(classes: Sequence[type]) -> tuple[list[Any], list[Any]]:
    return items.many([*map(vars, classes)])


OF_CLASSES = Several(lambda cls: items(vars(cls)), _of_classes)


def of_method(method: types.MethodType) -> list[Any]:
    """The function of a method, and what it is bound to."""
    return [method.__func__, method.__self__]


def of_context(variable: ContextVar[Any]) -> list[Any]:
    """What a context variable is here."""
    try:
        return [variable.get()]
    except LookupError:  # it has no value here
        return []


def of_reference(reference: weakref.ref[Any]) -> list[Any]:
    """What a weak reference is to."""
    return [weakref.ref.__call__(reference)]  # one of a method would make that anew


def of_proxy(proxy: Any) -> list[Any]:
    """What a weak proxy stands for."""
    try:
        return [proxy.__repr__.__self__]
    except (AttributeError, ReferenceError):  # it is gone
        return []


def of_array(objects: np.ndarray[Any, Any]) -> list[Any]:
    """The objects in an array."""
    found: list[Any] = objects.ravel().tolist()
    return found


def values_in_slots(thing: Any) -> list[Any]:
    """What is in an object's slots."""
    return [getattr(thing, name, _ABSENT) for name in slots_in(type(thing))]


def of_partial(partial: functools.partial[Any]) -> list[Any]:
    """A function with some of its arguments."""
    return [partial.func, partial.args, partial.keywords]


def _of_object(thing: Any) -> list[Any]:
    return _of_objects([thing])[0]


def _of_objects(things: Sequence[Any]) -> Read:
    """What is in objects' dictionaries and slots."""
    return _as_objects_before(things)(things)


def _as_objects_before(things: Sequence[Any]) -> Callable[[Sequence[Any]], Read]:
    """The same of objects of the same classes still."""
    slotted = [(i, slots_in(type(thing))) for i, thing in enumerate(things)]
    slots = [(i, name) for i, names in slotted for name in names]

    def read(things: Sequence[Any]) -> Read:
        owns = [getattr(thing, "__dict__", _NOTHING) for thing in things]
        in_slots = [getattr(things[i], name, _ABSENT) for i, name in slots]
        found = [*map(type, things), *chain.from_iterable(owns), *values_of(owns), *in_slots]
        return found, [*map(len, owns)]

    return read


_NOTHING: dict[str, Any] = {}
OF_OBJECTS = Several(_of_object, _of_objects, _as_objects_before)


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

OF_FUNCTIONS = Several(_of_function, _of_functions)


def _of_codes(functions: Sequence[types.FunctionType]) -> tuple[list[Any], list[Any]]:
    return [*map(attrgetter("__code__"), functions)], []


OF_CODES = Several(lambda function: [function.__code__], _of_codes)


def globals_of(function: types.FunctionType) -> dict[str, Any]:
    """A function's namespace."""
    return function.__globals__


_slots_of: weakref.WeakKeyDictionary[type, tuple[str, ...]] = weakref.WeakKeyDictionary()


def slots_in(cls: type) -> tuple[str, ...]:
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
