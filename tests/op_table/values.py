"""Samples of values: casts, norms, elementwise calls, sums, contractions, pooling and resampling."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, ops

from tests.op_table.layouts import (
    HEADS,
    LAYOUTS,
    channels_first,
    flat,
    folded,
    grid,
    heads,
    heads_folded,
    image,
    one_token,
    scores,
)  # fmt: skip
from tests.op_table.samples import LATER, Sample, along_each_axis, of_each_layout, thinned
from tests.op_table.setting import BATCH, LENGTH, WIDTH, Setting

__all__ = ["VALUES"]

aten = ops.aten
F64 = torch.float64


def _kept() -> Iterator[Sample]:
    for name in (
        "contiguous",
        "clone",
        "detach",
        "positive",
        "resolve_conj",
        "resolve_neg",
        "conj",
        "conj_physical",
        "real",
        "lift",
        "lift_fresh",
        "lift_fresh_copy",
    ):
        op = getattr(aten, name)
        yield Sample(name, lambda s, o=op: o(s.tokens()))
    yield Sample("_conj", lambda s: aten._conj(_complex(s.tokens())))
    yield Sample("imag", lambda s: aten.imag(aten.fft_fft(s.tokens())))
    for name in ("dropout", "alpha_dropout", "feature_dropout", "feature_alpha_dropout"):
        op = getattr(aten, name)
        yield Sample(name, lambda s, o=op: o(s.tokens(), 0.3, False))
    yield Sample("native_dropout", lambda s: aten.native_dropout(s.tokens(), 0.3, False))
    yield Sample("to", lambda s: aten.to.dtype(s.tokens(), torch.float32))
    yield Sample("_to_copy", lambda s: aten._to_copy(s.tokens(), dtype=torch.float32))
    yield Sample("type_as", lambda s: aten.type_as(s.tokens(), s.numbers(1)))
    yield Sample(
        "fake_quantize",
        lambda s: aten.fake_quantize_per_tensor_affine(
            aten._to_copy(s.tokens(), dtype=torch.float32), 0.01, 0, -1000, 1000
        ),
    )
    yield Sample("view_as_real", lambda s: aten.view_as_real(_complex(s.tokens())))
    yield Sample("view_as_complex", lambda s: _complex(s.tokens()))
    yield Sample(
        "view_as_complex of tokens side by side",
        lambda s: aten.view_as_complex(
            aten.reshape(aten.contiguous(channels_first(s)), [s.batch, WIDTH, 3, 2])
        ),
    )
    yield from of_each_layout("clone", lambda x: aten.clone(x))
    for dim in (0, 1, 2):
        yield Sample(f"renorm along {dim}", lambda s, d=dim: aten.renorm(s.tokens(), 2, d, 0.1))
    yield Sample("renorm of features of rows", lambda s: aten.renorm(folded(s), 2, 0, 0.1))


def _complex(x: fx.Proxy) -> fx.Proxy:
    return aten.view_as_complex(aten.reshape(aten.contiguous(x), [-1, LENGTH, WIDTH // 2, 2]))


def _norms() -> Iterator[Sample]:
    yield Sample("layer_norm", lambda s: aten.layer_norm(s.tokens(), [WIDTH]))
    yield Sample(
        "layer_norm with weights",
        lambda s: aten.layer_norm(s.tokens(), [WIDTH], s.parameter(WIDTH), s.parameter(WIDTH)),
    )
    yield Sample(
        "layer_norm over tokens too", lambda s: aten.layer_norm(s.tokens(), [LENGTH, WIDTH])
    )
    yield Sample("layer_norm along tokens", lambda s: aten.layer_norm(channels_first(s), [LENGTH]))
    yield Sample("rms_norm", lambda s: aten.rms_norm(s.tokens(), [WIDTH]))
    yield Sample("rms_norm along tokens", lambda s: aten.rms_norm(channels_first(s), [LENGTH]))
    yield Sample(
        "_fused_rms_norm",
        lambda s: aten._fused_rms_norm(s.tokens(), [WIDTH], s.parameter(WIDTH), 1e-5)[0],
    )
    yield Sample(
        "native_layer_norm",
        lambda s: aten.native_layer_norm(s.tokens(), [WIDTH], s.parameter(WIDTH), None, 1e-5)[0],
    )
    yield Sample(
        "native_layer_norm along tokens",
        lambda s: aten.native_layer_norm(channels_first(s), [LENGTH], None, None, 1e-5)[0],
    )
    stats = (torch.zeros(WIDTH, dtype=F64), torch.ones(WIDTH, dtype=F64))
    for kind, layout in (("channels first", channels_first), ("image", image), ("folded", folded)):
        yield Sample(
            f"batch_norm of {kind}",
            lambda s, f=layout: aten.batch_norm(
                f(s), None, None, *map(s.constant, stats), False, 0.1, 1e-5, False
            ),
        )
        yield Sample(
            f"batch_norm of {kind} by its own statistics",
            lambda s, f=layout: aten.batch_norm(
                f(s), None, None, None, None, True, 0.1, 1e-5, False
            ),
        )
        yield Sample(
            f"native_batch_norm of {kind}",
            lambda s, f=layout: aten.native_batch_norm(
                f(s), None, None, *map(s.constant, stats), False, 0.1, 1e-5
            )[0],
        )
        yield Sample(
            f"_native_batch_norm_legit_no_training of {kind}",
            lambda s, f=layout: aten._native_batch_norm_legit_no_training(
                f(s), None, None, *map(s.constant, stats), 0.1, 1e-5
            )[0],
        )
        yield Sample(
            f"_native_batch_norm_legit of {kind} by its own statistics",
            lambda s, f=layout: aten._native_batch_norm_legit(f(s), None, None, True, 0.1, 1e-5)[0],
        )
    yield Sample(
        "_native_batch_norm_legit_functional",
        lambda s: aten._native_batch_norm_legit_functional(
            image(s), None, None, *map(s.constant, stats), False, 0.1, 1e-5
        )[0],
    )
    for groups in (1, 3, WIDTH):
        yield Sample(
            f"group_norm of an image in {groups}", lambda s, g=groups: aten.group_norm(image(s), g)
        )
        yield Sample(
            f"group_norm of channels first in {groups}",
            lambda s, g=groups: aten.group_norm(channels_first(s), g),
        )
    yield Sample("group_norm of rows", lambda s: aten.group_norm(folded(s), 3))
    yield Sample("group_norm of tokens as channels", lambda s: aten.group_norm(s.tokens(), LENGTH))
    yield Sample(
        "native_group_norm",
        lambda s: aten.native_group_norm(
            aten.contiguous(image(s)), None, None, BATCH, WIDTH, LENGTH, 3, 1e-5
        )[0],
    )
    yield Sample(
        "instance_norm of an image",
        lambda s: aten.instance_norm(image(s), None, None, None, None, True, 0.1, 1e-5, False),
    )
    yield Sample(
        "instance_norm of tokens as channels",
        lambda s: aten.instance_norm(s.tokens(), None, None, None, None, True, 0.1, 1e-5, False),
    )


def _fresh() -> Iterator[Sample]:
    for name in ("zeros_like", "ones_like", "rand_like", "randn_like", "zero"):
        op = getattr(aten, name)
        yield Sample(name, lambda s, o=op: o(s.tokens()))
    yield Sample("full_like", lambda s: aten.full_like(s.tokens(), 2.0))
    yield Sample("fill", lambda s: aten.fill(s.tokens(), 2.0))
    yield Sample("randint_like", lambda s: aten.randint_like(s.tokens(), 5))
    yield Sample("empty_like", lambda s: aten.zeros_like(aten.empty_like(s.tokens())))
    yield Sample("new_empty", lambda s: aten.zeros_like(aten.new_empty(s.tokens(), [2, 3])))
    for name in ("new_zeros", "new_ones"):
        op = getattr(aten, name)
        yield Sample(name, lambda s, o=op: o(s.tokens(), [2, 3]))
    yield Sample("new_full", lambda s: aten.new_full(s.tokens(), [2, 3], 1.5))
    yield Sample(
        "new_empty_strided",
        lambda s: aten.zeros_like(aten.new_empty_strided(s.tokens(), [2, 3], [3, 1])),
    )
    yield Sample("bernoulli", lambda s: aten.bernoulli(s.tokens(), 0.5))
    yield Sample("bernoulli of probabilities", lambda s: aten.bernoulli(aten.sigmoid(s.tokens())))
    yield Sample("normal", lambda s: s.call(aten.normal.float_float, 0.0, 1.0, [2, 3]))
    yield Sample("normal_functional", lambda s: aten.normal_functional(s.tokens()))
    yield Sample("normal about tokens", lambda s: aten.normal(s.tokens(), 1.0))
    for name, args in (
        ("zeros", ([2, 3],)),
        ("ones", ([2, 3],)),
        ("empty", ([2, 3],)),
        ("full", ([2, 3], 0.5)),
        ("arange", (3.0,)),
        ("scalar_tensor", (2.0,)),
        ("eye", (3,)),
        ("linspace", (0, 1, 3)),
        ("logspace", (0, 1, 3)),
        ("randn", ([2, 3],)),
        ("rand", ([2, 3],)),
        ("hann_window", (4,)),
        ("hamming_window", (4,)),
        ("empty_strided", ([2, 3], [3, 1])),
        ("empty_permuted", ([2, 3], [0, 1])),
    ):
        op = getattr(aten, name)
        yield Sample(name, lambda s, o=op, a=args: s.call(o, *a))
    yield Sample(
        "_weight_norm",
        lambda s: aten._weight_norm(s.parameter(WIDTH, WIDTH), s.parameter(WIDTH, 1), 0),
    )
    yield Sample(
        "_weight_norm_interface",
        lambda s: aten._weight_norm_interface(s.parameter(WIDTH, WIDTH), s.parameter(WIDTH, 1), 0),
    )


def _gates() -> Iterator[Sample]:
    yield from along_each_axis("glu", lambda x, d: aten.glu(_even(x, d), d))


def _even(x: fx.Proxy, dim: int) -> fx.Proxy:
    """Twice as long along an axis, so that it has two halves."""
    return aten.cat([x, aten.mul(x, 2.0)], dim)


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
    for name in ("tril", "triu"):
        op = getattr(aten, name)
        yield Sample(f"{name} of rows", lambda s, o=op: o(s.tokens()))
        yield Sample(f"{name} of channels first", lambda s, o=op: o(channels_first(s), 1))
        yield Sample(f"{name} of scores", lambda s, o=op: o(scores(s)))


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


def _sums() -> Iterator[Sample]:
    for name in (
        "sum",
        "mean",
        "amax",
        "amin",
        "nansum",
        "nanmean",
        "logsumexp",
        "special_logsumexp",
        "linalg_vector_norm",
    ):
        op = getattr(aten, name)
        if name == "linalg_vector_norm":
            yield from along_each_axis(name, lambda x, d, o=op: o(x, 2, [d]))
        else:
            yield from along_each_axis(name, lambda x, d, o=op: o(x, [d]), extreme=name[:2] == "am")
    for name in ("sum", "mean", "amax", "logsumexp"):
        op = getattr(aten, name)
        yield from along_each_axis(
            f"{name}, kept,", lambda x, d, o=op: o(x, [d], True), extreme=name == "amax"
        )
    for name in ("max", "min", "median", "nanmedian", "prod", "mode"):
        op = getattr(aten, name)
        yield from along_each_axis(name, lambda x, d, o=op: o(x, d), extreme=name != "prod")
    for name in ("var", "std"):
        op = getattr(aten, name)
        yield from along_each_axis(name, lambda x, d, o=op: o(x, [d], correction=0))
        yield Sample(
            f"{name}_mean",
            lambda s, n=f"{name}_mean": getattr(aten, n)(
                s.tokens(), [1], correction=0, keepdim=True
            ),
        )
        yield Sample(
            f"{name}_mean of features",
            lambda s, n=f"{name}_mean": getattr(aten, n)(s.tokens(), [-1], correction=0),
        )
    yield from along_each_axis("kthvalue", lambda x, d: aten.kthvalue(x, 1, d), extreme=True)
    yield from along_each_axis("norm", lambda x, d: aten.norm(x, 2, [d]))
    yield from along_each_axis("frobenius_norm", lambda x, d: aten.frobenius_norm(x, [d]))
    yield Sample("linalg_matrix_norm", lambda s: aten.linalg_matrix_norm(heads(s), "fro", [-1, -3]))
    yield Sample("linalg_matrix_norm by default", lambda s: aten.linalg_matrix_norm(heads(s)))
    yield Sample("linalg_norm", lambda s: aten.linalg_norm(s.tokens(), None, [-1], True))
    yield Sample("linalg_norm of tokens", lambda s: aten.linalg_norm(s.tokens(), None, [1]))
    yield Sample("linalg_norm of matrices", lambda s: aten.linalg_norm(s.tokens(), None, [1, 2]))
    for dim in (0, 1, 2, -1):
        yield Sample(
            f"aminmax along {dim}", lambda s, d=dim: aten.aminmax(s.tokens(), dim=d), extreme=True
        )
    for dims in ([1, 2], [-1, -2], [2, 3], [0, 1]):
        yield Sample(f"mean of a grid over {dims}", lambda s, d=dims: aten.mean(grid(s), d))
        yield Sample(f"sum of an image over {dims}", lambda s, d=dims: aten.sum(image(s), d, True))
    for name in ("sum", "mean", "max", "min", "median", "prod", "var", "std", "norm", "amax"):
        op = getattr(aten, name)
        yield Sample(f"{name} of all", lambda s, o=op: o(s.tokens()), extreme=True)
    yield Sample("sum of one token's", lambda s: aten.sum(one_token(s), [-1]))
    yield Sample(
        "mean of masked rows",
        lambda s: aten.sum(
            aten.mul(
                s.tokens(),
                s.given(
                    torch.tensor([[1.0, 1, 1, 0, 0, 0], [0, 1, 1, 1, 1, 1]]).double().unsqueeze(-1)
                ),
            ),
            [1],
        ),
    )
    yield Sample(
        "sum of filled rows",
        lambda s: aten.sum(
            aten.masked_fill(
                s.tokens(),
                s.given(
                    torch.tensor([[1, 1, 1, 0, 0, 0], [0, 1, 1, 1, 1, 1]]).bool().unsqueeze(-1)
                ),
                0.0,
            ),
            [1],
        ),
    )
    for dim in (1, -2):
        yield Sample(f"topk along {dim}", lambda s, d=dim: aten.topk(s.tokens(), 2, d), small=True)
        yield Sample(f"sort along {dim}", lambda s, d=dim: aten.sort(s.tokens(), d), small=True)
    yield Sample("topk of features", lambda s: aten.topk(s.tokens(), 2))
    yield Sample("sort of features", lambda s: aten.sort(s.tokens(), -1, True))
    yield Sample("topk of scores", lambda s: aten.topk(scores(s), 2), small=True)
    yield Sample("max of scores", lambda s: aten.max(scores(s), -1), small=True)
    yield Sample("sum of scores", lambda s: aten.sum(scores(s), [-1]))


def _normalised() -> Iterator[Sample]:
    yield from along_each_axis("softmax", aten.softmax, normalises=True, stages=("attended",))
    yield from along_each_axis(
        "log_softmax", aten.log_softmax, normalises=True, stages=("attended",)
    )
    yield Sample("_softmax of features", lambda s: aten._softmax(s.tokens(), -1, False))
    yield Sample("_log_softmax of features", lambda s: aten._log_softmax(s.tokens(), -1, False))
    yield Sample("_safe_softmax of features", lambda s: aten._safe_softmax(s.tokens(), -1))
    yield Sample("softmax of features", lambda s: aten.softmax(s.tokens(), -1))
    yield Sample("log_softmax of features", lambda s: aten.log_softmax(s.tokens(), 2))
    yield Sample("special_softmax", lambda s: aten.special_softmax(s.tokens(), -1))
    yield Sample("special_log_softmax", lambda s: aten.special_log_softmax(s.tokens(), -1))
    yield Sample("exp", lambda s: aten.exp(s.tokens()))
    yield Sample("exp of log-probabilities", lambda s: aten.exp(aten.log_softmax(s.tokens(), -1)))


def _contractions() -> Iterator[Sample]:
    for layout, (make, _) in LAYOUTS.items():
        yield Sample(f"linear of {layout}", lambda s, f=make: _projected(s, f(s)))
    yield Sample(
        "linear of tokens", lambda s: aten.linear(channels_first(s), s.parameter(4, LENGTH))
    )
    yield Sample(
        "linear of as many tokens",
        lambda s: aten.linear(channels_first(s), s.parameter(LENGTH, LENGTH)),
    )
    yield Sample("linear to one number", lambda s: aten.linear(s.tokens(), s.parameter(WIDTH)))
    yield Sample(
        "linear of merged patches",
        lambda s: aten.linear(
            aten.reshape(s.tokens(), [s.batch, 3, 2 * WIDTH]), s.parameter(5, 2 * WIDTH)
        ),
    )
    yield Sample(
        "linear of all at once", lambda s: aten.linear(flat(s), s.parameter(5, LENGTH * WIDTH))
    )
    yield Sample(
        "linear of a learned query",
        lambda s: aten.linear(s.parameter(3, WIDTH, token=True), s.parameter(WIDTH, WIDTH)),
    )
    for name in ("matmul", "linalg_matmul"):
        op = getattr(aten, name)
        yield Sample(f"{name} with a weight", lambda s, o=op: o(s.tokens(), s.parameter(WIDTH, 5)))
        yield Sample(f"{name} with a vector", lambda s, o=op: o(s.tokens(), s.parameter(WIDTH)))
        yield Sample(
            f"{name} of a weight", lambda s, o=op: o(s.parameter(5, WIDTH), channels_first(s))
        )
        yield Sample(
            f"{name} of a weight with tokens", lambda s, o=op: o(s.parameter(4, LENGTH), s.tokens())
        )
        yield Sample(
            f"{name} of a constant with tokens",
            lambda s, o=op: o(s.numbers(LENGTH, LENGTH), s.tokens()),
        )
        yield Sample(
            f"{name} for scores", lambda s, o=op: o(s.tokens(), aten.mT(s.tokens("others", 5)))
        )
        yield Sample(f"{name} for scores of heads", lambda s, o=op: o(heads(s), aten.mT(heads(s))))
        yield Sample(f"{name} of features", lambda s, o=op: o(channels_first(s), s.tokens("types")))
    offsets = torch.tensor([5, 12], dtype=torch.int32)
    yield Sample(
        "_grouped_mm",
        lambda s: aten._grouped_mm(_single(folded(s)), _single(s.parameter(2, WIDTH, 8)), offsets),
    )
    yield Sample("grouped_mm_fallback", lambda s: _grouped(s, offsets))
    yield Sample("mm", lambda s: aten.mm(folded(s), s.parameter(WIDTH, 5)))
    yield Sample(
        "mm of sequences",
        lambda s: aten.mm(
            aten.select(s.tokens(), 0, 1), aten.t(aten.select(s.tokens("others", 5), 0, 1))
        ),
    )
    yield Sample("bmm", lambda s: aten.bmm(s.tokens(), aten.mT(s.tokens("others", 5))))
    yield Sample(
        "bmm with a weight",
        lambda s: aten.bmm(s.tokens(), aten.expand(s.parameter(1, WIDTH, 5), [s.batch, -1, -1])),
    )
    yield Sample(
        "bmm of folded heads", lambda s: aten.bmm(heads_folded(s), aten.mT(heads_folded(s)))
    )
    yield Sample("mv", lambda s: aten.mv(folded(s), s.parameter(WIDTH)))
    yield Sample(
        "dot",
        lambda s: aten.dot(
            aten.select(one_token(s), 0, 0),
            aten.select(aten.select(s.tokens("others"), 1, 0), 0, 0),
        ),
    )
    yield Sample("vdot", lambda s: aten.vdot(aten.select(one_token(s), 0, 0), s.parameter(WIDTH)))
    yield Sample("addmm", lambda s: aten.addmm(s.parameter(5), folded(s), s.parameter(WIDTH, 5)))
    yield Sample(
        "addmm to tokens",
        lambda s: aten.addmm(folded(s), aten.relu(folded(s)), s.parameter(WIDTH, WIDTH)),
    )
    yield Sample(
        "baddbmm",
        lambda s: aten.baddbmm(s.numbers(1, LENGTH, 5), s.tokens(), aten.mT(s.tokens("others", 5))),
    )
    yield Sample(
        "baddbmm of folded heads",
        lambda s: aten.baddbmm(
            s.numbers(BATCH * HEADS, LENGTH, LENGTH), heads_folded(s), aten.mT(heads_folded(s))
        ),
    )
    yield Sample("cdist", lambda s: aten.cdist(s.tokens(), s.tokens("others", 5)))
    yield Sample("cdist to places", lambda s: aten.cdist(s.tokens(), s.numbers(BATCH, 3, WIDTH)))
    yield Sample(
        "_cdist_forward",
        lambda s: aten._cdist_forward(s.tokens(), s.tokens("others", 5), 2.0, None),
    )
    yield Sample(
        "_euclidean_dist", lambda s: aten._euclidean_dist(s.tokens(), s.tokens("others", 5))
    )
    yield Sample(
        "attention, fused",
        lambda s: aten.scaled_dot_product_attention(heads(s), heads(s), heads(s)),
    )
    for dim in (-1, 2):
        yield Sample(
            f"cosine_similarity along {dim}",
            lambda s, d=dim: aten.cosine_similarity(s.tokens(), s.tokens("types"), d),
        )
        yield Sample(
            f"linalg_vecdot along {dim}",
            lambda s, d=dim: aten.linalg_vecdot(s.tokens(), s.tokens("types"), dim=d),
        )
    yield Sample(
        "cosine_similarity of pairs",
        lambda s: aten.cosine_similarity(
            aten.unsqueeze(s.tokens(), 2), aten.unsqueeze(s.tokens("others", 5), 1), -1
        ),
    )
    yield Sample(
        "cosine_similarity of two embeddings",
        lambda s: aten.cosine_similarity(one_token(s), aten.select(s.tokens("others"), 1, 0)),
    )
    yield Sample(
        "pairwise_distance", lambda s: aten.pairwise_distance(s.tokens(), s.tokens("types"))
    )
    yield Sample(
        "pairwise_distance, kept",
        lambda s: aten.pairwise_distance(s.tokens(), s.numbers(WIDTH), keepdim=True),
    )
    yield Sample(
        "cosine_similarity along tokens",
        lambda s: aten.cosine_similarity(s.tokens(), s.tokens("types"), 1),
    )


def _single(x: fx.Proxy) -> fx.Proxy:
    return aten._to_copy(x, dtype=torch.float32)


def _grouped(s: Setting, offsets: Tensor) -> fx.Proxy:
    """The experts' products of `transformers`, where it is installed with a PyTorch of its liking."""
    import transformers.integrations.moe  # noqa: F401

    return ops.transformers.grouped_mm_fallback(folded(s), s.parameter(2, WIDTH, 8), offsets)


def _projected(s: Setting, x: fx.Proxy) -> fx.Proxy:
    """A linear layer over the last axis, however wide it is."""
    return aten.linear(x, s.parameter(5, s.shape(x)[-1]))


def _windows() -> Iterator[Sample]:
    def volume(s: Setting) -> fx.Proxy:
        return aten.unsqueeze(image(s), 2)

    for count, layout in ((1, channels_first), (2, image), (3, volume)):
        one = [1] * count
        k = {1: [2], 2: [2, 2], 3: [1, 2, 2]}[count]
        p = {1: [1], 2: [0, 1], 3: [0, 0, 1]}[count]
        odd = {1: [3], 2: [1, 3], 3: [1, 1, 3]}[count]
        conv = getattr(aten, f"conv{count}d")
        for what, size, stride, pad in (
            ("", k, one, [0] * count),
            ("strided ", k, k, [0] * count),
            ("padded ", odd, one, p),
            ("padded strided ", odd, k, p),
        ):
            how: dict[str, Any] = {"stages": LATER} if what == "padded " else {}
            yield Sample(
                f"{what}conv{count}d",
                lambda s, o=conv, f=layout, k=size, n=stride, p=pad: o(
                    f(s), s.parameter(5, WIDTH, *k), None, n, p
                ),
                **how,
            )
            yield Sample(
                f"{what}depthwise conv{count}d",
                lambda s, o=conv, f=layout, k=size, n=stride, p=pad: o(
                    f(s), s.parameter(WIDTH, 1, *k), None, n, p, [1] * len(k), WIDTH
                ),
                **how,
            )
            yield Sample(
                f"{what}convolution in {count}d",
                lambda s, f=layout, k=size, n=stride, p=pad: aten.convolution(
                    f(s),
                    s.parameter(5, WIDTH, *k),
                    None,
                    n,
                    p,
                    [1] * len(k),
                    False,
                    [0] * len(k),
                    1,
                ),
                **how,
            )
            for kind in ("max", "avg"):
                pool = getattr(aten, f"{kind}_pool{count}d")
                yield Sample(
                    f"{what}{kind}_pool{count}d",
                    lambda s, o=pool, f=layout, k=size, n=stride, p=pad: o(f(s), k, n, p),
                    **how,
                )
            pool = getattr(aten, f"max_pool{count}d_with_indices")
            yield Sample(
                f"{what}max_pool{count}d_with_indices",
                lambda s, o=pool, f=layout, k=size, n=stride, p=pad: o(f(s), k, n, p),
                **how,
            )
        yield Sample(
            f"pointwise conv{count}d",
            lambda s, o=conv, f=layout, c=count: o(f(s), s.parameter(5, WIDTH, *[1] * c)),
        )
        yield Sample(
            f"dilated conv{count}d",
            lambda s, o=conv, f=layout, c=count: o(
                f(s),
                s.parameter(5, WIDTH, *[1] * (c - 1), 2),
                None,
                [1] * c,
                [0] * c,
                [*[1] * (c - 1), 2],
            ),
        )
        yield Sample(
            f"conv{count}d of the same size",
            lambda s, o=conv, f=layout, c=count: o(
                f(s), s.parameter(5, WIDTH, *[1] * (c - 1), 3), None, [1] * c, "same"
            ),
            stages=LATER,
        )
        yield Sample(
            f"conv{count}d of the same size, even",
            lambda s, o=conv, f=layout, c=count: o(
                f(s), s.parameter(5, WIDTH, *[1] * (c - 1), 2), None, [1] * c, "same"
            ),
            stages=LATER,
        )
        turned = getattr(aten, f"conv_transpose{count}d")
        yield Sample(
            f"conv_transpose{count}d",
            lambda s, o=turned, f=layout, c=count: o(
                f(s), s.parameter(WIDTH, 5, *[1] * (c - 1), 2), None, [*[1] * (c - 1), 2]
            ),
        )
        yield Sample(
            f"conv_transpose{count}d that overlaps",
            lambda s, o=turned, f=layout, c=count: o(
                f(s),
                s.parameter(WIDTH, 5, *[1] * (c - 1), 3),
                None,
                [*[1] * (c - 1), 2],
                [*[0] * (c - 1), 1],
            ),
        )
        yield Sample(
            f"conv_transpose{count}d, stride 1",
            lambda s, o=turned, f=layout, c=count: o(
                f(s), s.parameter(WIDTH, 5, *[1] * (c - 1), 2)
            ),
        )
        for kind in ("max", "avg"):
            pool = getattr(aten, f"adaptive_{kind}_pool{count}d")
            for out in {(1,) * count: 0, (*(1,) * (count - 1), 2): 0, (2,) * count: 0}:
                yield Sample(
                    f"adaptive_{kind}_pool{count}d to {out}",
                    lambda s, o=pool, f=layout, n=out: o(f(s), list(n)),
                )
        if count > 1:
            pool = getattr(aten, f"_adaptive_avg_pool{count}d")
            yield Sample(
                f"_adaptive_avg_pool{count}d",
                lambda s, o=pool, f=layout, c=count: o(f(s), [1] * (c - 1) + [2]),
            )
    yield Sample(
        "conv1d along features", lambda s: aten.conv1d(s.tokens(), s.parameter(LENGTH, LENGTH, 1))
    )
    yield Sample(
        "conv1d of tokens as channels",
        lambda s: aten.conv1d(s.tokens(), s.parameter(4, LENGTH, 3), None, [1], [1]),
    )
    yield Sample(
        "_convolution_mode",
        lambda s: aten._convolution_mode(
            channels_first(s), s.parameter(5, WIDTH, 3), None, [1], "same", [1], 1
        ),
        stages=LATER,
    )
    yield Sample(
        "_convolution",
        lambda s: aten._convolution(
            channels_first(s),
            s.parameter(5, WIDTH, 2),
            None,
            [1],
            [0],
            [1],
            False,
            [0],
            1,
            False,
            False,
            False,
            False,
        ),
    )
    yield Sample(
        "convolution, transposed",
        lambda s: aten.convolution(
            image(s), s.parameter(WIDTH, 5, 2, 2), None, [2, 2], [0, 0], [1, 1], True, [0, 0], 1
        ),
    )
    yield Sample(
        "avg_pool2d with ceil", lambda s: aten.avg_pool2d(image(s), [2, 2], [2, 2], [0, 0], True)
    )
    yield Sample("max_pool1d of rows", lambda s: aten.max_pool1d(s.tokens(), [2], [2]))
    yield Sample(
        "max_pool2d of a bare image", lambda s: aten.max_pool2d(aten.select(image(s), 0, 0), [1, 2])
    )
    yield Sample(
        "max_pool2d, dilated", lambda s: aten.max_pool2d(image(s), [1, 2], [1, 1], [0, 0], [1, 2])
    )


def _resized() -> Iterator[Sample]:
    def volume(s: Setting) -> fx.Proxy:
        return aten.unsqueeze(image(s), 2)

    for name in ("upsample_nearest1d", "_upsample_nearest_exact1d"):
        op = getattr(aten, name)
        for out in (12, 4, 9):
            yield Sample(f"{name} to {out}", lambda s, o=op, n=out: o(channels_first(s), [n]))
    for name in ("upsample_nearest2d", "_upsample_nearest_exact2d"):
        op = getattr(aten, name)
        for out in ([4, 6], [1, 2], [3, 5]):
            yield Sample(f"{name} to {out}", lambda s, o=op, n=out: o(image(s), n))
    for name in ("upsample_nearest3d", "_upsample_nearest_exact3d"):
        op = getattr(aten, name)
        yield Sample(name, lambda s, o=op: o(volume(s), [2, 4, 5]))
    for corners in (True, False):
        for out in (12, 4, 9):
            yield Sample(
                f"upsample_linear1d to {out}, {corners}",
                lambda s, n=out, c=corners: aten.upsample_linear1d(channels_first(s), [n], c),
            )
        for name in (
            "upsample_bilinear2d",
            "upsample_bicubic2d",
            "_upsample_bilinear2d_aa",
            "_upsample_bicubic2d_aa",
        ):
            op = getattr(aten, name)
            for out in ([4, 6], [1, 2], [3, 5], [2, 3]):
                yield Sample(
                    f"{name} to {out}, {corners}",
                    lambda s, o=op, n=out, c=corners: o(image(s), n, c),
                )
        yield Sample(
            f"upsample_trilinear3d, {corners}",
            lambda s, c=corners: aten.upsample_trilinear3d(volume(s), [2, 4, 5], c),
        )
    yield Sample(
        "col2im",
        lambda s: aten.col2im(
            aten.im2col(image(s), [2, 2], [1, 1], [0, 0], [1, 1]),
            [2, 3],
            [2, 2],
            [1, 1],
            [0, 0],
            [1, 1],
        ),
    )
    yield Sample(
        "col2im of patches",
        lambda s: aten.col2im(
            aten.im2col(image(s), [2, 3], [1, 1], [0, 0], [2, 3]),
            [2, 3],
            [2, 3],
            [1, 1],
            [0, 0],
            [2, 3],
        ),
    )
    yield Sample(
        "col2im of windows of tokens",
        lambda s: aten.col2im(
            aten.repeat(channels_first(s), [1, 9, 1]), [2, 3], [3, 3], [1, 1], [1, 1], [1, 1]
        ),
        stages=LATER,
    )
    for name in ("grid_sampler", "grid_sampler_2d"):
        op = getattr(aten, name)
        yield Sample(
            name, lambda s, o=op: o(image(s), s.numbers(BATCH, 2, 2, 2), 0, 0, False), lossy=True
        )
    yield Sample(
        "grid_sampler_3d",
        lambda s: aten.grid_sampler_3d(volume(s), s.numbers(BATCH, 1, 2, 2, 3), 0, 0, False),
        lossy=True,
    )
    for n in (1, 2):
        yield from along_each_axis(
            f"diff {n}", lambda x, d, n=n: aten.diff(aten.cat([x, aten.mul(x, x), x], d), n, d)
        )
    yield Sample("diff", lambda s: aten.diff(s.tokens(), 1, 1))
    for name in ("cumsum", "cumprod", "logcumsumexp", "cummax", "cummin"):
        op = getattr(aten, name)
        yield from along_each_axis(
            name, lambda x, d, o=op: o(x, d), extreme=name[3:] in ("max", "min")
        )
    for name in ("fft_fft", "fft_ifft", "fft_rfft", "fft_ihfft"):
        op = getattr(aten, name)
        yield from along_each_axis(name, lambda x, d, o=op: aten.abs(o(x, None, d)))
    for name in ("fft_irfft", "fft_hfft"):
        op = getattr(aten, name)
        for n in (5, 10):
            yield from along_each_axis(
                f"{name} to {n}", lambda x, d, o=op, n=n: o(aten.complex(x, aten.mul(x, 0.3)), n, d)
            )
    for name in ("fft_fft2", "fft_ifft2", "fft_fftn", "fft_ifftn", "fft_rfft2", "fft_rfftn"):
        op = getattr(aten, name)
        yield Sample(name, lambda s, o=op: aten.abs(o(image(s), None, [-2, -1])))
        yield Sample(
            f"{name} of the last two", lambda s, o=op: aten.abs(o(s.tokens(), None, [1, 2]))
        )
        yield Sample(f"{name} of features", lambda s, o=op: aten.abs(o(s.tokens(), None, [2])))
        yield Sample(f"{name} by default", lambda s, o=op: aten.abs(o(s.tokens())))
    for name in ("fft_irfft2", "fft_irfftn"):
        op = getattr(aten, name)
        yield Sample(
            name,
            lambda s, o=op: o(
                aten.mul(aten.fft_rfft2(image(s)), torch.tensor([[1.0, 2.2], [3.1, 4.7]])),
                [2, 3],
                [-2, -1],
            ),
        )
    yield Sample("_fft_r2c", lambda s: aten.abs(aten._fft_r2c(s.tokens(), [1], 0, True)))
    yield Sample("_fft_c2c", lambda s: aten.abs(aten._fft_c2c(_complex(s.tokens()), [1], 0, True)))
    yield Sample(
        "_fft_c2r",
        lambda s: aten._fft_c2r(
            aten.mul(
                aten._fft_r2c(s.tokens(), [1], 0, True), torch.tensor([[1.0], [2.2], [3.1], [4.7]])
            ),
            [1],
            2,
            6,
        ),
    )
    yield Sample(
        "stft",
        lambda s: aten.abs(aten.stft(flat(s), 8, 4, 8, return_complex=True)),
        stages=("newborn",),
    )
    for name in ("lstm", "gru", "rnn_tanh", "rnn_relu"):
        yield Sample(name, lambda s, n=name: _recurrent(s, n, batch_first=True))
        yield Sample(
            f"{name}, sequence first",
            lambda s, n=name: _recurrent(s, n, batch_first=False),
            lossy=True,
        )
        yield Sample(f"{name} of a packed batch", lambda s, n=name: _packed(s, n))
        yield Sample(f"{name}_cell", lambda s, n=name: _cell(s, n))


def _recurrent(s: Setting, name: str, *, batch_first: bool) -> Any:
    gates = {"lstm": 4, "gru": 3}.get(name, 1)
    x = s.tokens() if batch_first else aten.transpose(s.tokens(), 0, 1)
    start = s.constant(torch.zeros(1, s.batch, 5, dtype=F64))
    weights = [s.parameter(gates * 5, WIDTH), s.parameter(gates * 5, 5)]
    weights += [s.parameter(gates * 5), s.parameter(gates * 5)]
    op = getattr(aten, name)
    state = [start, start] if name == "lstm" else start
    return op.input(x, state, weights, True, 1, 0.0, False, False, batch_first)


def _packed(s: Setting, name: str) -> Any:
    gates = {"lstm": 4, "gru": 3}.get(name, 1)
    made = aten._pack_padded_sequence(s.tokens(), torch.tensor([5, 3]), True)
    start = s.constant(torch.zeros(1, s.batch, 5, dtype=F64))
    weights = [s.parameter(gates * 5, WIDTH), s.parameter(gates * 5, 5)]
    weights += [s.parameter(gates * 5), s.parameter(gates * 5)]
    state = [start, start] if name == "lstm" else start
    op = getattr(aten, name).data
    return op(made[0], made[1], state, weights, True, 1, 0.0, False, False)


def _cell(s: Setting, name: str) -> Any:
    gates = {"lstm": 4, "gru": 3}.get(name, 1)
    start = s.constant(torch.zeros(s.batch, 5, dtype=F64))
    weights = [s.parameter(gates * 5, WIDTH), s.parameter(gates * 5, 5)]
    op = getattr(aten, f"{name}_cell")
    return op(one_token(s), [start, start] if name == "lstm" else start, *weights)


VALUES = [
    *_kept(), *(replace(s, stages=LATER) for s in _norms()), *_fresh(), *_gates(), *_joins(), *_masks(),
    *_sums(), *_normalised(), *_contractions(), *thinned(_windows(), 3), *thinned(_resized(), 2),
]  # fmt: skip
