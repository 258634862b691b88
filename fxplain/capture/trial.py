"""A trial of the model itself, where a graph that was captured for other inputs fails on these."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from fxplain.capture.comparison import run_eagerly
from fxplain.capture.inputs import bind_inputs
from fxplain.capture.preserve import preserved
from fxplain.errors import FxplainError

__all__ = ["model_tried"]


@contextmanager
def model_tried(model: nn.Module, inputs: Any) -> Iterator[None]:
    """Where something fails in here, see whether the model itself takes the inputs.

    A known capture is used again without running the model, so that what the model refuses (a text
    longer than its positions, an id out of range) fails in the graph first.

    Raises
    ------
    InputError
        When the model fails on the inputs, in the place of what was raised in here.
    """
    try:
        yield
    except (FxplainError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception:
        bound = bind_inputs(model, inputs)
        with preserved(model, bound.args, bound.kwargs):
            run_eagerly(model, bound)
        raise
