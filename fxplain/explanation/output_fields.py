"""Output fields: the tensors that a model's output is made of, by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

__all__ = ["are_boxes", "named_outputs"]

SLACK = 0.01
"""Boxes may reach this far beyond the picture."""


def named_outputs(output: Any, name: str = "output") -> Iterator[tuple[str, Tensor]]:
    """Every tensor in a model's output with the name of its field."""
    if isinstance(output, Tensor):
        yield name, output
    elif isinstance(output, Mapping):
        for key, value in output.items():
            yield from named_outputs(value, str(key))
    elif isinstance(output, (tuple, list)):
        for value in output:
            yield from named_outputs(value, name)


def are_boxes(value: Tensor, count: int | None = None) -> bool:
    """Whether numbers may be (batch, `count` boxes, 4), as fractions of a picture."""
    shaped = value.is_floating_point() and value.dim() == 3 and value.shape[2] == 4
    if not shaped or count not in (None, value.shape[1]):
        return False
    return bool(((value >= -SLACK) & (value <= 1 + SLACK)).all())
