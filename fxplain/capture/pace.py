"""Free sizes can cost a minute: give up on them where reasoning about sizes is what takes the time."""

from __future__ import annotations

import time
from typing import Any

from torch.fx.experimental.proxy_tensor import get_proxy_mode
from torch.overrides import TorchFunctionMode

from fxplain.errors import CaptureError

__all__ = ["Pace"]

_PATIENCE = 6.0
"""Seconds that a trace may take at any pace."""

_PER_OPERATION = 0.02
"""Seconds per recorded operation: with free sizes a trace usually takes half of that."""


class Pace(TorchFunctionMode):
    """Stops a trace that goes on for long at a slow pace.

    Models whose windows, blocks or masks depend on the length ask for a proof about sizes at almost
    every operation. With fixed sizes the same trace takes a tenth of the time.

    Raises
    ------
    CaptureError
        Out of the running trace.
    """

    def __init__(self) -> None:
        super().__init__()
        self._start = time.thread_time()  # a busy machine is no reason to give up
        self._stopped = False

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        elapsed = time.thread_time() - self._start
        too_slow = elapsed > _PATIENCE and elapsed > _PER_OPERATION * _recorded()
        if too_slow and not self._stopped:  # once: what cleans up after the error must run
            self._stopped = True
            raise CaptureError(
                f"free sizes are too costly here: {elapsed:.0f} seconds for {_recorded()} operations"
            )
        return function(*args, **(kwargs or {}))


def _recorded() -> int:
    """How many nodes the running trace has so far."""
    mode = get_proxy_mode()
    return len(mode.tracer.graph.nodes) if mode is not None else 1 << 30
