"""Compiled parts while a model is captured: they run as they were written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

__all__ = ["nothing_compiled"]


@contextmanager
def nothing_compiled() -> Iterator[None]:
    """Within, what `torch.compile` made runs as it was written, also below a trace.

    Compiling takes long, and no trace looks into what was compiled; torch refuses to trace it unless
    a private flag, which a release may lack, says otherwise.
    """
    import torch._dynamo.config as settings  # here, since it takes a while to import

    config: Any = settings
    flag = "error_on_nested_fx_trace"
    before = getattr(config, flag, None)
    with torch.compiler.set_stance("force_eager"):
        if before is not None:
            setattr(config, flag, False)
        try:
            yield
        finally:
            if before is not None:
                setattr(config, flag, before)
