"""Python's cycle collector, which looks at all there is each time that much was made."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["collector_paused"]


@contextmanager
def collector_paused() -> Iterator[None]:
    """Without the collector, which would walk over what grows within again and again.

    That takes up to a tenth off the first call. One capture is made at a time, and holds no real
    tensors; a model is remembered in milliseconds, and a walk takes a fifth of a second. Of two
    threads within it, the one that came first ends it.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
