"""Functions with a backward of their own: a captured graph has the derivative of their forward."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch.autograd import Function

__all__ = ["custom_functions"]


@contextmanager
def custom_functions() -> Iterator[dict[str, None]]:
    """The names of the `torch.autograd.Function` classes that run inside, torch's own left out.

    Noted at their forward, since ``apply`` may have been taken from the class before.
    """
    seen: dict[str, None] = {}
    replaced: list[tuple[type[Function], Any]] = []
    for cls in _subclasses(Function):
        own = vars(cls).get("forward")
        if own is not None and not cls.__module__.startswith("torch."):
            replaced.append((cls, own))
            cls.forward = staticmethod(_noting(cls, seen))  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        for cls, own in replaced:
            cls.forward = own  # type: ignore[method-assign]


def _noting(cls: type[Function], seen: dict[str, None]) -> Callable[..., Any]:
    forward, own = cls.forward, threading.get_ident()

    @functools.wraps(forward)
    def noted(*args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() == own:
            seen[cls.__qualname__.split(".")[-1]] = None
        return forward(*args, **kwargs)

    return noted


def _subclasses(cls: type) -> Iterator[type[Function]]:
    child: type[Function]
    for child in cls.__subclasses__():
        yield child
        yield from _subclasses(child)
