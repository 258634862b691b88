"""Samples of the operations without a row that PyTorch's own schema calls pointwise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx, ops

from fxplain.tokens.op_table import TABLE
from tests.op_table.layouts import channels_first, scores
from tests.op_table.samples import Sample
from tests.op_table.setting import BATCH, LENGTH, WIDTH, Setting

__all__ = ["POINTWISE"]

aten = ops.aten
_OFTEN = ("abs", "gelu", "relu", "sigmoid", "silu", "tanh", "sqrt", "rsqrt", "log", "elu", "neg", "sin",
          "erf", "mish", "leaky_relu", "square", "xlogy", "hypot", "float_power")  # fmt: skip
"""What models have every day: the others are tried where there is time."""

_NUMBERS = {"float": 0.5, "Scalar": 0.5, "number": 0.5, "int": 1, "bool": False}


def _overloads() -> Iterator[torch._ops.OpOverload]:
    """The functional overloads that are pointwise and take a float."""
    for name in sorted(torch._C._dispatch_get_all_op_names()):
        space, _, rest = name.partition("::")
        operation, _, overload = rest.partition(".")
        if space != "aten" or operation.startswith("_") or f"aten.{operation}" in TABLE:
            continue
        op = getattr(getattr(aten, operation), overload or "default", None)
        if op is None or op._schema.is_mutable or torch.Tag.pointwise not in op.tags:
            continue
        if any(a.is_out for a in op._schema.arguments) or "backward" in operation:
            continue
        yield op


def _given(op: Any, first: Any, other: Any) -> list[Any] | None:
    """Arguments for a call: the first tensor, others in the place of further ones, plain numbers."""
    tensors = iter([first])
    given: list[Any] = []
    for argument in op._schema.arguments:
        kind = str(argument.type)
        if argument.kwarg_only:
            continue
        if kind == "Tensor":
            given.append(next(tensors, other))
        elif kind == "Optional[Tensor]" or argument.has_default_value():
            given.append(argument.default_value)
        elif kind in _NUMBERS:
            given.append(_NUMBERS[kind])
        else:
            return None
    return given if any(g is first for g in given) else None


def _works(op: Any) -> bool:
    """Whether the overload computes floats of floats between 0 and 1, and not the same for all."""
    first, other = (torch.rand(BATCH, LENGTH, WIDTH, dtype=torch.float64) for _ in "ab")
    given = _given(op, first, other)
    if given is None:
        return False
    try:
        made = op(*given)
    except (RuntimeError, TypeError, NotImplementedError):
        return False  # it takes integers, or a range of its own
    return isinstance(made, Tensor) and made.is_floating_point() and len(made.unique()) > LENGTH


def _samples() -> Iterator[Sample]:
    torch.manual_seed(0)
    for op in filter(_works, _overloads()):
        takes_two = sum(str(a.type) == "Tensor" for a in op._schema.arguments) > 1

        def call(s: Setting, make: Any, other: Any, op: Any = op) -> fx.Proxy:
            return op(*_given(op, aten.sigmoid(make(s)), other(s)))

        def constant(s: Setting) -> fx.Proxy:
            return aten.sigmoid(s.numbers(BATCH, LENGTH, WIDTH))

        often = str(op).removeprefix("aten.").split(".")[0] in _OFTEN
        yield Sample(
            f"{op}", lambda s, c=call, o=constant: c(s, Setting.tokens, o), thorough=not often
        )
        if takes_two:
            yield Sample(
                f"{op} of two values",
                lambda s, c=call: c(s, Setting.tokens, lambda s: aten.sigmoid(s.tokens("types"))),
                extreme=True,
                thorough=not often,
            )
            yield Sample(
                f"{op} of a parameter",
                lambda s, c=call: c(s, Setting.tokens, lambda s: aten.sigmoid(s.parameter(WIDTH))),
                thorough=True,
            )
        else:
            for name, make in (("channels first", channels_first), ("scores", scores)):
                yield Sample(
                    f"{op} of {name}", lambda s, c=call, m=make: c(s, m, constant), thorough=True
                )


POINTWISE = [*_samples()]
