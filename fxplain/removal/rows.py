"""Rows: arguments of a model for copies of a batch, and for some of its samples."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fxplain.capture import leaves_of, opens_objects, tables_as_tensors, with_leaves
from fxplain.errors import InputError

__all__ = ["are_divisible", "named_inputs", "tiled", "with_rows"]


def named_inputs(model: nn.Module, inputs: Any) -> dict[str, Any]:
    """Arguments by name.

    Raises
    ------
    InputError
        When they do not fit the model, or hold no numbers.
    """
    inputs, _ = tables_as_tensors(model, inputs)
    if isinstance(inputs, Mapping):
        named = dict(inputs)
    else:
        args = tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
        signature = inspect.signature(model.forward)
        try:
            named = dict(signature.bind(*args).arguments)
        except TypeError as error:
            raise InputError(
                f"inputs do not fit {type(model).__name__}.forward{signature}: {error}."
            ) from error
    return {
        name: _as_tensor(name, x) if isinstance(x, np.ndarray) else x for name, x in named.items()
    }


def _as_tensor(name: str, array: Any) -> Tensor:
    if array.dtype.kind not in "biuf":
        raise InputError(f"input {name!r} is an array of {array.dtype}, not of numbers.")
    return torch.from_numpy(array)


def tiled(value: Any, size: int, times: int) -> Any:
    """An argument for `times` copies of the batch, one after the other.

    Tensors whose first axis is the batch's `size` are repeated along it, all else stays.
    """
    return _over_samples(value, size, lambda x: x.repeat(times, *(1,) * (x.dim() - 1)))


def with_rows(value: Any, size: int, rows: Tensor) -> Any:
    """An argument for some of the samples."""
    return _over_samples(value, size, lambda x: x[rows.to(x.device)])


def _over_samples(value: Any, size: int, change: Any) -> Any:
    def changed(x: Any) -> Any:
        has_rows = isinstance(x, Tensor) and x.dim() and x.shape[0] == size
        return change(x) if has_rows else x

    return with_leaves(value, changed, opens_objects)


def are_divisible(inputs: Mapping[str, Any], size: int) -> bool:
    """Whether every tensor has a row per sample."""
    leaves = [x for _, x in leaves_of(inputs, opens_objects) if isinstance(x, Tensor)]
    return all(x.dim() and x.shape[0] == size for x in leaves)
