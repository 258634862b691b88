"""Leave the user's model as it was: flags, gradients, buffers, plain attributes and random state."""

from __future__ import annotations

import functools
import inspect
import types
import weakref
from collections import ChainMap, OrderedDict, UserDict, UserList, deque
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from operator import is_
from queue import Queue
from typing import Any

import torch
from torch import Tensor, nn

from fxplain.capture.chance import RandomState, note_generator
from fxplain.capture.collector import collector_paused
from fxplain.capture.locks import borrowed
from fxplain.capture.names import is_users, names_mentioned, names_read, unwrapped
from fxplain.capture.own_weights import same_place
from fxplain.capture.state import is_plain, kept_on

__all__ = ["ModelState", "hooks_on_all", "preserved"]


class ModelState:
    """All that a run of a model may change, and the way back.

    A forward may count, fill caches (in attributes, in containers, in objects of its own), write
    into buffers and draw random numbers; while it is traced, it may also keep traced tensors.
    A run that finds what an earlier one left behind is another computation than the first.

    Parameters
    ----------
    *roots
        A module, or anything else whose state matters: arguments that a model writes into.
    functions
        Whether what hooks and other functions fill (a store of activations) is put back, too.
    """

    def __init__(self, *roots: Any, functions: bool = True) -> None:
        self._functions = functions
        self._seen: dict[int, Any] = {}
        self._restorers: list[Callable[[], None]] = []
        self._empty: list[dict[Any, Any]] = []
        self._tensors: list[Tensor] = []
        pending = list(roots)
        if functions:
            pending += map(list, map(dict.values, hooks_on_all()))
        with collector_paused():
            while pending:  # no recursion: a chain of objects may be long
                thing = pending.pop()
                if type(thing) in _UNCHANGING or id(thing) in self._seen:
                    continue
                if type(thing) in _DICTS and not thing:  # most of what a module has, for its hooks
                    self._empty.append(thing)
                elif type(thing) not in weakref.ProxyTypes:
                    self._seen[id(thing)] = thing
                    pending += self._remember(thing)
        self.chance = RandomState(self._tensors)

    def restore(self) -> None:
        """Put everything back; may be called more than once."""
        for filled in filter(None, self._empty):
            filled.clear()
        for restorer in self._restorers:
            restorer()
        self.chance.restore()

    def _remember(self, thing: Any) -> list[Any]:
        """Note how to restore one thing; its parts."""
        if isinstance(thing, Tensor):
            self._tensors.append(thing)
            self._restorers.append(_tensor_restorer(thing))
            own = kept_on(thing)
            self._restorers.append(_dict_restorer(own))
            return [part for part in own.values() if not isinstance(part, Tensor)]
        if isinstance(thing, tuple):
            return list(thing)
        if isinstance(thing, type):
            self._restorers.append(_class_restorer(thing))
            kept = [value for value in vars(thing).values() if isinstance(value, _CONTAINERS)]
            return [*kept, *filter(is_users, thing.__bases__), *_methods(thing)]
        if isinstance(thing, dict):
            self._restorers.append(_dict_restorer(thing))
            parts = list(dict.values(thing))
        elif isinstance(thing, (list, set, deque)):
            self._restorers.append(_container_restorer(thing))
            parts = list(thing)
        elif isinstance(thing, torch.Generator):
            note_generator(thing)
            return []
        else:
            parts = []
        if type(thing) in _DICTS:
            return parts
        if self._functions:
            parts += _written_by(thing)
        return parts + ([vars(thing)] if _has_state(thing) else [])


def _has_state(thing: Any) -> bool:
    """Whether a thing's attributes are a model's to change: no code, nothing of torch's own."""
    if isinstance(thing, nn.Module):
        return True
    code = (type, types.ModuleType, types.FunctionType, types.MethodType)
    if isinstance(thing, code) or not hasattr(thing, "__dict__"):
        return False
    return type(thing).__module__.split(".")[0] != "torch"


def hooks_on_all() -> list[dict[Any, Any]]:
    """The hooks on all modules of the process."""
    from torch.nn.modules import module

    return [module._global_forward_hooks, module._global_forward_pre_hooks]


def _written_by(thing: Any) -> list[Any]:
    """What code of the user's may fill: containers and objects of its closure and its globals.

    That of a thing's class is its code, too: of a module's what its forward leads to.
    """
    if isinstance(thing, functools.partial):
        return [thing.func, thing.args, thing.keywords]
    if isinstance(thing, types.MethodType):
        return [thing.__func__, thing.__self__]
    if isinstance(thing, types.FunctionType):
        if not is_users(thing):
            return []
        return [vars(thing), *(v for _, v in names_read(thing) if _may_be_filled(v))]
    classes = [cls for cls in type(thing).__mro__ if is_users(cls)]
    return [*classes, *(_methods(type(thing)) if classes else ())]


def _methods(cls: type) -> list[Any]:
    """The methods of a class that may run when it is called, by their names: from `forward` on."""
    found: dict[str, Any] = {}
    waiting = ["__call__", "forward"] if issubclass(cls, nn.Module) else list(_names_in(cls))
    while waiting:
        name = waiting.pop()
        method = unwrapped(inspect.getattr_static(cls, name, None))
        if name not in found and isinstance(method, types.FunctionType) and is_users(method):
            found[name] = method
            waiting += names_mentioned(method.__code__)
    return [*found.values()]


def _names_in(cls: type) -> Iterator[str]:
    return (name for each in cls.__mro__ if is_users(each) for name in vars(each))


_UNCHANGING = frozenset({bool, int, float, complex, str, bytes, type(None), torch.dtype})
"""Kinds of values that nothing writes into; most of what hangs on a model is of these."""

_DICTS = (dict, OrderedDict)

_CONTAINERS = (
    dict, list, set, deque, Tensor, functools.partial, ChainMap, UserDict, UserList, Queue,
    types.SimpleNamespace,
)  # fmt: skip


def _may_be_filled(thing: Any) -> bool:
    if isinstance(thing, (*_CONTAINERS, tuple, types.FunctionType, types.MethodType)):
        return True
    return is_users(thing if isinstance(thing, type) else type(thing))


def _are_same(now: Collection[Any], before: Collection[Any]) -> bool:
    """Whether two collections hold the very same things in the same order."""
    return len(now) == len(before) and all(map(is_, now, before))


def _dict_restorer(thing: dict[Any, Any]) -> Callable[[], None]:
    kind = OrderedDict if isinstance(thing, OrderedDict) else dict  # under any override
    keys, values = [*kind.keys(thing)], [*kind.values(thing)]

    def restore() -> None:
        same_keys = _are_same(kind.keys(thing), keys)
        if not (same_keys and _are_same(kind.values(thing), values)):
            kind.clear(thing)
            kind.update(thing, zip(keys, values, strict=True))

    return restore


def _class_restorer(cls: type) -> Callable[[], None]:
    """What is set on a class, such as a count of all calls."""
    own = dict(vars(cls))

    def restore() -> None:
        now = dict(vars(cls))
        if own.keys() == now.keys() and all(now[name] is value for name, value in own.items()):
            return
        for name in now.keys() - own.keys():
            delattr(cls, name)
        for name, value in own.items():
            if name not in now or now[name] is not value:
                setattr(cls, name, value)

    return restore


def _container_restorer(thing: list[Any] | set[Any] | deque[Any]) -> Callable[[], None]:
    items = list(thing)

    def restore() -> None:
        if not _are_same(thing, items):
            thing.clear()
            thing.update(items) if isinstance(thing, set) else thing.extend(items)

    return restore


def _tensor_restorer(tensor: Tensor) -> Callable[[], None]:
    """The gradient, flag and content of a tensor; of a parameter, which a forward reads, its place."""
    grad, requires_grad = tensor.grad if tensor.is_leaf else None, tensor.requires_grad
    counted = not isinstance(tensor, nn.Parameter) and not tensor.is_inference()
    version = tensor._version if counted else 0
    plain = is_plain(tensor) and tensor.layout is torch.strided and not tensor.is_inference()
    try:
        home = tensor.data if plain or isinstance(tensor, nn.Parameter) else None
        content = tensor.detach().clone() if counted else None
    except RuntimeError:  # left of a vmap that is over: nobody can read it, or write into it
        home = content = None

    def restore() -> None:
        if home is not None and not same_place(tensor.data, home):
            tensor.data = home  # what is kept on it goes back too, and is about these numbers
        if tensor.is_leaf:
            tensor.grad = grad
            if tensor.requires_grad != requires_grad:
                tensor.requires_grad_(requires_grad)
        if content is not None and (tensor._version != version or _written(tensor, content)):
            with torch.no_grad():
                tensor.copy_(content)

    return restore


def _written(tensor: Tensor, content: Tensor) -> bool:
    """Whether a tensor was written behind torch's back, by ``.data`` or by NumPy."""
    if not is_plain(tensor) or tensor.layout is not torch.strided or tensor.is_quantized:
        return False
    if tensor.device.type != "cpu" or tensor.shape != content.shape:
        return False
    now = tensor.detach()
    try:
        return not (
            torch.equal(now, content) or torch.equal(now.nan_to_num(), content.nan_to_num())
        )
    except RuntimeError:  # a type that nothing compares
        return False


@contextmanager
def preserved(*roots: Any, functions: bool = True) -> Iterator[ModelState]:
    """Restore a model (and what else is given) and the random state on exit, also after an error.

    Within, no other thread captures a model that is given: what it puts in the places of weights is
    nothing to remember, or to run.
    """
    with ExitStack() as locks:
        for model in roots:
            if isinstance(model, nn.Module):
                locks.enter_context(borrowed(model))
        state = ModelState(*roots, functions=functions)
        try:
            yield state
        finally:
            state.restore()
