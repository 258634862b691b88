"""A trial of the model itself, where a graph that was captured for other inputs fails on these."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from fxplain.arguments import first_line
from fxplain.capture.comparison import run_eagerly
from fxplain.capture.inputs import ModelInputs, bind_inputs
from fxplain.capture.preserve import preserved
from fxplain.capture.replaced import replaced_methods
from fxplain.errors import FxplainError, InputError

__all__ = ["model_tried"]


@contextmanager
def model_tried(model: nn.Module, inputs: Any) -> Iterator[None]:
    """Where something fails in here, see whether the model itself takes the inputs.

    A known capture is used again without running the model, so that what the model refuses (a text
    longer than its positions, an id out of range) fails in the graph first.

    Raises
    ------
    InputError
        When the model fails on the inputs, in the place of what was raised in here; or when it is the
        modes of the caller's, or methods of tensors that were replaced, that something fails within.
    """
    try:
        yield
    except (FxplainError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        modes = [*_modes(), *(f"a replaced torch.Tensor.{name}" for name in replaced_methods())]
        if not modes:
            _run(model, inputs)
            raise
        raise InputError(
            f"explaining fails within {' and '.join(modes)} ({first_line(error)}): leave that, and "
            f"explain outside of it."
        ) from error


def _run(model: nn.Module, inputs: Any) -> None:
    bound = inputs if isinstance(inputs, ModelInputs) else bind_inputs(model, inputs)
    with preserved(model, bound.args, bound.kwargs):
        run_eagerly(model, bound)


def _modes() -> list[str]:
    """The modes that the caller is in and that change what operations do, by name."""
    from torch.overrides import _get_current_function_mode_stack as functions
    from torch.utils._python_dispatch import _get_current_dispatch_mode_stack as dispatched

    found = (*functions(), *dispatched())
    return list(dict.fromkeys(_name(mode) for mode in found))


def _name(mode: Any) -> str:
    device = getattr(mode, "device", None)
    return f"torch.device({str(device)!r})" if device is not None else type(mode).__name__
