"""Samples of resampling, scans, transforms and recurrences along a sequence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import ops

from tests.op_table.layouts import (
    channels_first,
    flat,
    image,
    one_token,
    volume,
)
from tests.op_table.samples import LATER, Sample, along_each_axis, thinned
from tests.op_table.setting import BATCH, WIDTH, Setting
from tests.op_table.values import complex_pairs

__all__ = ["RESAMPLING"]

aten = ops.aten
F64 = torch.float64


def _resized() -> Iterator[Sample]:
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
    yield from along_each_axis(  # of numbers near 1: products of many others vanish
        "cumprod", lambda x, d: aten.cumprod(aten.add(aten.sigmoid(x), 0.5), d)
    )
    for name in ("cumsum", "logcumsumexp", "cummax", "cummin"):
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
    yield Sample(
        "_fft_c2c", lambda s: aten.abs(aten._fft_c2c(complex_pairs(s.tokens()), [1], 0, True))
    )
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


RESAMPLING = [*thinned(_resized(), 2)]
