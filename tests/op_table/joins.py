"""Samples of values that are combined element by element, or chosen by a mask."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import fx, ops

from tests.op_table.layouts import (
    HEADS,
    channels_first,
    heads,
    one_token,
    scores,
)
from tests.op_table.samples import LATER, Sample
from tests.op_table.setting import BATCH, LENGTH, WIDTH, Setting

__all__ = ["JOINS"]

aten = ops.aten
F64 = torch.float64


def _joins() -> Iterator[Sample]:
    both = {
        "add": aten.add,
        "sub": aten.sub,
        "subtract": aten.subtract,
        "rsub": aten.rsub,
        "maximum": aten.maximum,
        "minimum": aten.minimum,
        "mul": aten.mul,
        "multiply": aten.multiply,
        "div": aten.div,
        "divide": aten.divide,
        "true_divide": aten.true_divide,
        "atan2": aten.atan2,
        "fmod": aten.fmod,
        "remainder": aten.remainder,
        "max": aten.max.other,
        "min": aten.min.other,
    }
    for name, op in both.items():
        rare = name not in ("add", "mul", "sub", "div", "maximum")
        yield Sample(
            f"{name} of a number",
            lambda s, o=op: (
                o(s.tokens(), 1.7)
                if o not in (aten.maximum, aten.minimum, aten.atan2, aten.max.other, aten.min.other)
                else o(s.tokens(), s.constant(torch.tensor(0.2, dtype=F64)))
            ),
        )
        yield Sample(f"{name} of one with itself", lambda s, o=op: _itself(s, o), thorough=rare)
        yield Sample(
            f"{name} of a parameter",
            lambda s, o=op: o(s.tokens(), s.parameter(WIDTH)),
            thorough=rare,
        )
        yield Sample(
            f"{name} of a constant",
            lambda s, o=op: o(s.tokens(), s.numbers(BATCH, LENGTH, WIDTH)),
            thorough=rare,
        )
        yield Sample(
            f"{name} of places",
            lambda s, o=op: o(s.tokens(), s.parameter(LENGTH, WIDTH)),
            thorough=rare,
        )
        yield Sample(
            f"{name} of another input of the same tokens",
            lambda s, o=op: o(s.tokens(), s.tokens("types")),
            thorough=rare,
        )
        yield Sample(
            f"{name} of one token",
            lambda s, o=op: _of_one(s, o),
            thorough=rare,
            stages=("attended",),
        )
        yield Sample(f"{name} of shifted rows", lambda s, o=op: _with_shifted(s, o), thorough=rare)
        yield Sample(
            f"{name} of pairs",
            lambda s, o=op: o(
                aten.unsqueeze(s.tokens(), 2), aten.unsqueeze(s.tokens("others", 5), 1)
            ),
            thorough=rare,
        )
        yield Sample(f"{name} of two single tokens", lambda s, o=op: _two_rows(s, o), thorough=rare)
        yield Sample(
            f"{name} of single tokens of two inputs",
            lambda s, o=op: o(one_token(s), aten.select(s.tokens("others"), 1, 0)),
            thorough=rare,
        )
        yield Sample(
            f"{name} of heads", lambda s, o=op: o(heads(s), s.parameter(HEADS, 1, 1)), thorough=rare
        )
        yield Sample(
            f"{name} of scores and a bias",
            lambda s, o=op: o(scores(s), s.parameter(LENGTH, 5)),
            extreme=True,
            thorough=rare,
        )
        if not name.startswith(("max", "min")):
            yield Sample(
                f"{name} of scores and a row's statistic",
                lambda s, o=op: _with_statistic(s, o),
                normalises=name[:3] in ("sub", "div", "tru"),
                thorough=rare,
                stages=LATER,
            )
    yield Sample("pow of a number", lambda s: aten.pow(s.tokens(), 2))
    yield Sample("pow of a value", lambda s: aten.pow(aten.abs(s.tokens()), s.tokens("types")))
    yield Sample("lerp", lambda s: aten.lerp(s.tokens(), s.numbers(BATCH, LENGTH, WIDTH), 0.3))
    yield Sample("lerp by a parameter", lambda s: _shifted_lerp(s))
    yield Sample(
        "addcmul", lambda s: aten.addcmul(s.numbers(1, 1, WIDTH), s.tokens(), s.parameter(WIDTH))
    )
    yield Sample(
        "addcdiv", lambda s: aten.addcdiv(s.tokens(), s.parameter(WIDTH), s.parameter(WIDTH))
    )
    yield Sample("clamp", lambda s: aten.clamp(s.tokens(), -0.5))
    yield Sample("clamp by tensors", lambda s: aten.clamp(s.tokens(), s.numbers(WIDTH), None))
    for name in ("absolute", "negative", "fix", "arctan", "arcsinh"):
        yield Sample(name, lambda s, n=name: getattr(aten, n)(aten.mul(s.tokens(), 3.3)))
    for name in ("arccos", "arcsin", "arctanh"):
        yield Sample(name, lambda s, n=name: getattr(aten, n)(aten.sigmoid(s.tokens())))
    yield Sample("arccosh", lambda s: aten.arccosh(aten.exp(aten.abs(s.tokens()))))
    for name in ("log", "log2", "log10", "log1p"):
        yield Sample(name, lambda s, n=name: getattr(aten, n)(aten.exp(s.tokens())))
    yield Sample("arctan2", lambda s: aten.arctan2(s.tokens(), s.numbers(WIDTH)))
    yield Sample("_prelu_kernel", lambda s: aten._prelu_kernel(s.tokens(), s.parameter(WIDTH)))
    for name in (
        "softplus",
        "nan_to_num",
        "hardswish",
        "hardsigmoid",
        "hardtanh",
        "log_sigmoid",
        "special_expit",
        "special_erf",
        "special_i0",
        "floor_divide",
    ):
        op = getattr(aten, name)
        yield Sample(
            name, lambda s, o=op: o(s.tokens(), *([0.01] if o is aten.floor_divide else []))
        )
    yield Sample("prelu", lambda s: aten.prelu(channels_first(s), s.parameter(WIDTH)))
    yield Sample("special_logit", lambda s: aten.special_logit(aten.sigmoid(s.tokens())))
    yield Sample("special_log1p", lambda s: aten.special_log1p(aten.abs(s.tokens())))
    yield Sample("log_sigmoid_forward", lambda s: aten.log_sigmoid_forward(s.tokens())[0])
    yield Sample("complex", lambda s: aten.complex(s.tokens(), s.numbers(BATCH, LENGTH, WIDTH)))
    yield Sample(
        "polar", lambda s: aten.polar(aten.abs(s.tokens()), s.numbers(BATCH, LENGTH, WIDTH))
    )
    for dim in (-1, 2):
        yield Sample(
            f"linalg_cross along {dim}",
            lambda s, d=dim: aten.linalg_cross(
                aten.slice(s.tokens(), 2, 0, 3), s.numbers(BATCH, LENGTH, 3), dim=d
            ),
        )
        yield Sample(
            f"cross along {dim}",
            lambda s, d=dim: aten.cross(
                aten.slice(s.tokens(), 2, 0, 3), s.numbers(BATCH, LENGTH, 3), d
            ),
        )
    yield Sample(
        "linalg_cross of tokens",
        lambda s: aten.linalg_cross(s.tokens("some", 3), s.numbers(BATCH, 3, WIDTH), dim=1),
    )
    yield Sample("kron of features", lambda s: aten.kron(s.tokens(), s.parameter(3)))
    yield Sample("kron of rows", lambda s: aten.kron(s.tokens(), s.parameter(1, 2, 1)))
    yield Sample("kron before rows", lambda s: aten.kron(s.parameter(2, 1), s.tokens()))
    yield Sample("kron of rows and columns", lambda s: aten.kron(s.tokens(), s.parameter(2, 3)))
    yield Sample("kron of two tokens", lambda s: aten.kron(_row(s, "tokens"), _row(s, "others")))
    for name in ("tril", "triu"):
        op = getattr(aten, name)
        yield Sample(f"{name} of rows", lambda s, o=op: o(s.tokens()))
        yield Sample(f"{name} of channels first", lambda s, o=op: o(channels_first(s), 1))
        yield Sample(f"{name} of scores", lambda s, o=op: o(scores(s)))


def _row(s: Setting, name: str) -> fx.Proxy:
    """The third token of the second sample."""
    return aten.select(aten.select(s.tokens(name), 0, 1), 0, 2)


def _itself(s: Setting, op: Any) -> fx.Proxy:
    x = s.tokens()
    return op(x, aten.add(aten.mul(x, x), 0.3))


def _of_one(s: Setting, op: Any) -> fx.Proxy:
    x = s.tokens()
    return op(x, aten.add(aten.mul(aten.slice(x, 1, 2, 3), 1.7), 0.3))


def _with_shifted(s: Setting, op: Any) -> fx.Proxy:
    x = s.tokens()
    return op(x, aten.roll(x, [1], [1]))


def _two_rows(s: Setting, op: Any) -> fx.Proxy:
    x = s.tokens()
    return op(aten.select(x, 1, 0), aten.select(x, 1, 3))


def _with_statistic(s: Setting, op: Any) -> fx.Proxy:
    x = scores(s)
    return op(x, aten.amax(x, [-1], True))


def _shifted_lerp(s: Setting) -> fx.Proxy:
    """Token shift, as RWKV mixes each row with the one before."""
    x = s.tokens()
    return aten.lerp(x, aten.roll(x, [1], [1]), s.parameter(WIDTH))


def _masks() -> Iterator[Sample]:
    mask = torch.tensor([[1, 0, 1, 1, 0, 0], [0, 1, 1, 0, 0, 1]]).bool().unsqueeze(-1)
    zero = torch.zeros((), dtype=F64)
    yield Sample("masked_fill", lambda s: aten.masked_fill(s.tokens(), s.given(mask), 0.0))
    yield Sample(
        "masked_fill of features",
        lambda s: aten.masked_fill(s.tokens(), torch.arange(WIDTH) > 4, 0.0),
    )
    yield Sample(
        "masked_fill by a constant", lambda s: aten.masked_fill(s.tokens(), s.constant(mask), zero)
    )
    yield Sample(
        "masked_fill of scores",
        lambda s: aten.masked_fill(scores(s), torch.ones(LENGTH, 5).triu(1).bool(), float("-inf")),
    )
    yield Sample("where of zeros", lambda s: aten.where(s.given(mask), s.tokens(), zero))
    yield Sample(
        "where of zeros, the other way", lambda s: aten.where(s.given(mask), zero, s.tokens())
    )
    yield Sample(
        "where of two values",
        lambda s: aten.where(s.given(mask), s.tokens(), s.tokens("types")),
        chooses=True,
    )
    yield Sample(
        "where of a mask token",
        lambda s: aten.where(s.given(mask), s.tokens(), s.parameter(WIDTH)),
        chooses=True,
    )
    yield Sample(
        "where of shifted rows",
        lambda s: _with_shifted(s, lambda x, y: aten.where(s.given(mask), x, y)),
        chooses=True,
    )
    yield Sample(
        "where by features",
        lambda s: _with_shifted(s, lambda x, y: aten.where(torch.arange(WIDTH) > 4, x, y)),
    )
    yield Sample(
        "where of scores",
        lambda s: aten.where(torch.ones(LENGTH, 5).tril().bool(), scores(s), zero),
    )


JOINS = [*_joins(), *_masks()]
