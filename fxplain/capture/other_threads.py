"""Other threads that run models while one captures: the traced model waits, the others go on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn
from torch.fx.experimental import proxy_tensor

from fxplain.capture.locks import borrowed
from fxplain.capture.state import parts_of

__all__ = ["others_kept_out"]

_A_LAYER = 0.01
"""Seconds that other threads are given to leave the layer that they are in."""

_TRACERS = ("PythonKeyTracer", "_ModuleStackTracer")


@contextmanager
def others_kept_out(model: nn.Module) -> Iterator[None]:
    """Within, a trace takes in what this thread runs, and nothing of the others.

    A tracer of torch replaces ``nn.Module.__call__`` for the whole process. A call from another
    thread is no part of the trace; one of the traced model, whose weights are replaced meanwhile,
    waits for the end of the capture at its next part.
    """
    own, parts = threading.get_ident(), {id(part) for _, part in parts_of(model)}

    def wait(m: nn.Module) -> None:
        if id(m) in parts:
            with borrowed(model):
                pass

    original_call = nn.Module.__call__

    def call(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() != own:
            wait(self)
        return original_call(self, *args, **kwargs)

    def call_of(original: Callable[..., Any]) -> Callable[..., Any]:
        def call_module(self: Any, m: Any, forward: Any, args: Any, kwargs: Any) -> Any:
            if threading.get_ident() == own:
                return original(self, m, forward, args, kwargs)
            wait(m)
            return forward(*args, **kwargs)

        return call_module

    def getattr_of(original: Callable[..., Any]) -> Callable[..., Any]:
        def read(self: Any, attr: str, attr_val: Any, cache: Any) -> Any:
            foreign = threading.get_ident() != own
            return attr_val if foreign else original(self, attr, attr_val, cache)

        return read

    with ExitStack() as undo:
        undo.callback(setattr, nn.Module, "__call__", original_call)
        nn.Module.__call__ = call  # type: ignore[method-assign]
        for name in _TRACERS:  # private names, which a release of torch may lack
            tracer = vars(getattr(proxy_tensor, name, object))
            for method, wrap in (("call_module", call_of), ("getattr", getattr_of)):
                if method in tracer:
                    cls = getattr(proxy_tensor, name)
                    undo.callback(setattr, cls, method, tracer[method])
                    setattr(cls, method, wrap(tracer[method]))
        if threading.active_count() > 1:
            time.sleep(_A_LAYER)  # what runs now comes to its next part, and waits there
        yield
