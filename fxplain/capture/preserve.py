"""Leave the user's model as it was: flags, gradients, buffers, plain attributes and random state."""

from __future__ import annotations

import functools
import inspect
import sys
import types
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from fxplain.capture.chance import RandomState
from fxplain.capture.fingerprint import is_library, names_read
from fxplain.capture.own_weights import same_place
from fxplain.capture.state import kept_on

__all__ = ["ModelState", "preserved"]


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
        self._tensors: list[Tensor] = []
        pending = list(roots)
        while pending:  # no recursion: a chain of objects may be long
            thing = pending.pop()
            if id(thing) not in self._seen:
                self._seen[id(thing)] = thing
                pending += self._remember(thing)
        self.chance = RandomState(self._tensors)

    def restore(self) -> None:
        """Put everything back; may be called more than once."""
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
        if isinstance(thing, dict):
            self._restorers.append(_dict_restorer(thing))
            parts = list(dict.values(thing))
        elif isinstance(thing, (list, set, deque)):
            self._restorers.append(_container_restorer(thing))
            parts = list(thing)
        elif isinstance(thing, torch.Generator):
            self._restorers.append(_generator_restorer(thing))
            return []
        else:
            parts = []
        if isinstance(thing, nn.Module) and self._functions:
            parts.append(inspect.getattr_static(type(thing), "forward"))
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


def _written_by(function: Any) -> list[Any]:
    """What a function of the user's may fill: containers and objects of its closure and its globals."""
    if isinstance(function, functools.partial):
        return [function.func, function.args, function.keywords]
    if isinstance(function, types.MethodType):
        return [function.__func__, function.__self__]
    if not isinstance(function, types.FunctionType) or is_library(function.__code__.co_filename):
        return []
    return [value for _, value in names_read(function) if _may_be_filled(value)]


def _may_be_filled(thing: Any) -> bool:
    containers = (dict, list, set, deque, Tensor, functools.partial)
    if isinstance(thing, (*containers, types.FunctionType, types.MethodType)):
        return True
    home = sys.modules.get(type(thing).__module__)
    return _has_state(thing) and not is_library(getattr(home, "__file__", None) or "<frozen")


def _generator_restorer(generator: torch.Generator) -> Callable[[], None]:
    state = generator.get_state()

    def restore() -> None:
        generator.set_state(state)

    return restore


def _dict_restorer(thing: dict[Any, Any]) -> Callable[[], None]:
    kind = OrderedDict if isinstance(thing, OrderedDict) else dict  # under any override
    items = list(kind.items(thing))

    def restore() -> None:
        now = list(kind.items(thing))
        if len(now) != len(items) or any(
            a is not c or b is not d for (a, b), (c, d) in zip(now, items, strict=True)
        ):
            kind.clear(thing)
            kind.update(thing, items)

    return restore


def _container_restorer(thing: list[Any] | set[Any] | deque[Any]) -> Callable[[], None]:
    items = list(thing)

    def restore() -> None:
        if len(thing) != len(items) or any(a is not b for a, b in zip(thing, items, strict=True)):
            thing.clear()
            thing.update(items) if isinstance(thing, set) else thing.extend(items)

    return restore


def _tensor_restorer(tensor: Tensor) -> Callable[[], None]:
    """The gradient, flag and content of a tensor; of a parameter, which a forward reads, its place."""
    grad, requires_grad = tensor.grad if tensor.is_leaf else None, tensor.requires_grad
    counted = not isinstance(tensor, nn.Parameter) and not tensor.is_inference()
    version = tensor._version if counted else 0
    home = tensor.data if isinstance(tensor, nn.Parameter) else None
    try:
        content = tensor.detach().clone() if counted else None
    except RuntimeError:  # left of a vmap that is over: nobody can read it, or write into it
        content = None

    def restore() -> None:
        if home is not None and not same_place(tensor.data, home):
            tensor.data = home  # what is kept on it, which goes back too, is about these numbers
        if tensor.is_leaf:
            tensor.grad = grad
            if tensor.requires_grad != requires_grad:
                tensor.requires_grad_(requires_grad)
        if content is not None and tensor._version != version:
            with torch.no_grad():
                tensor.copy_(content)

    return restore


@contextmanager
def preserved(*roots: Any, functions: bool = True) -> Iterator[ModelState]:
    """Restore a model (and what else is given) and the random state on exit, also after an error."""
    state = ModelState(*roots, functions=functions)
    try:
        yield state
    finally:
        state.restore()
