"""Samples of values that keep their tokens, or have none: casts, norms, gates, fresh tensors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import fx, ops

from tests.op_table.layouts import (
    channels_first,
    folded,
    image,
)
from tests.op_table.samples import LATER, Sample, along_each_axis, of_each_layout
from tests.op_table.setting import BATCH, LENGTH, WIDTH

__all__ = ["VALUES", "complex_pairs"]

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
    yield Sample("_conj", lambda s: aten._conj(complex_pairs(s.tokens())))
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
    yield Sample("view_as_real", lambda s: aten.view_as_real(complex_pairs(s.tokens())))
    yield Sample("view_as_complex", lambda s: complex_pairs(s.tokens()))
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


def complex_pairs(x: fx.Proxy) -> fx.Proxy:
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


VALUES = [*_kept(), *(replace(s, stages=LATER) for s in _norms()), *_fresh(), *_gates()]
