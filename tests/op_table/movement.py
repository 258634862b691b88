"""Samples of movement: views, pieces, copies, padding, values side by side."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import fx, ops

from tests.op_table.layouts import (
    DEPTH,
    HEADS,
    channels_first,
    folded,
    grid,
    heads,
    heads_folded,
    image,
    one_token,
    scores,
)  # fmt: skip
from tests.op_table.samples import Sample, along_each_axis, of_each_layout
from tests.op_table.setting import LENGTH, WIDTH, Setting

__all__ = ["MOVEMENT"]

aten = ops.aten


def picked(x: fx.Proxy, dim: int) -> fx.Proxy:
    return aten.index_select(x, dim, torch.tensor([1, 0, 0]))


def sliced(x: fx.Proxy, dim: int) -> fx.Proxy:
    return aten.slice.Tensor(x, dim, 1, 9, 2)


def _views() -> Iterator[Sample]:
    yield from along_each_axis("transpose", lambda x, d: aten.transpose(x, d, 0))
    yield from along_each_axis("select", lambda x, d: aten.select(x, d, -1))
    yield from along_each_axis("slice", sliced)
    yield from along_each_axis("narrow", lambda x, d: aten.narrow(x, d, 1, 1))
    yield from along_each_axis("unsqueeze", aten.unsqueeze)
    yield from along_each_axis("squeeze", lambda x, d: aten.squeeze(aten.unsqueeze(x, d), d))
    yield from along_each_axis("unfold", lambda x, d: aten.unfold(x, d, 2, 1))
    yield from along_each_axis("movedim", lambda x, d: aten.movedim(x, d, -1))
    yield from along_each_axis("moveaxis", lambda x, d: aten.moveaxis(x, d, 0))
    yield from along_each_axis("swapaxes", lambda x, d: aten.swapaxes(x, d, 0))
    yield from along_each_axis("swapdims", lambda x, d: aten.swapdims(x, -1, d))
    yield from of_each_layout("alias", aten.alias)
    yield from of_each_layout("mT", aten.mT)
    yield from of_each_layout("numpy_T", aten.numpy_T)
    yield from of_each_layout("squeeze", aten.squeeze.default)
    yield Sample("t of a sequence", lambda s: aten.t(aten.select(s.tokens(), 0, 1)))
    yield Sample("t of rows", lambda s: aten.t(folded(s)))
    yield Sample("mH", lambda s: aten.mH(s.tokens()))
    yield Sample("adjoint", lambda s: aten.adjoint(s.tokens()))
    yield Sample("matrix_H", lambda s: aten.matrix_H(folded(s)))
    yield Sample("linalg_diagonal", lambda s: aten.linalg_diagonal(s.tokens()))
    yield Sample(
        "linalg_diagonal of a grid", lambda s: aten.linalg_diagonal(grid(s), dim1=1, dim2=2)
    )
    yield Sample("permute", lambda s: aten.permute(grid(s), [0, 3, -2, 1]))
    yield Sample("diagonal of a grid", lambda s: aten.diagonal(grid(s), 1, 1, 2))
    yield Sample("diagonal of features", lambda s: aten.diagonal(s.tokens(), -1, -2, -1))
    yield Sample("permute of scores", lambda s: aten.permute(scores(s), [2, 0, 1]))
    yield Sample("slice of scores", lambda s: aten.slice(scores(s), 2, 1, 4, 2))


def _pieces() -> Iterator[Sample]:
    yield from along_each_axis("split", lambda x, d: aten.split(x, 4, d))
    yield from along_each_axis("chunk", lambda x, d: aten.chunk(x, 2, d))
    yield from along_each_axis("unbind", lambda x, d: aten.unbind(aten.slice(x, d, 0, 3), d))
    yield from along_each_axis("tensor_split", lambda x, d: aten.tensor_split(x, 2, d))
    yield from along_each_axis("tensor_split at", lambda x, d: aten.tensor_split(x, [1], d))
    yield from along_each_axis("unsafe_split", lambda x, d: aten.unsafe_split(x, 5, d))
    yield from along_each_axis("unsafe_chunk", lambda x, d: aten.unsafe_chunk(x, 2, d))
    for dim in (1, -2):
        yield Sample(
            f"split by sizes along {dim}",
            lambda s, d=dim: aten.split_with_sizes(s.tokens(), [1, 3, 2], d),
        )
        yield Sample(
            f"split by a list along {dim}", lambda s, d=dim: aten.split(s.tokens(), [4, 2], d)
        )
        yield Sample(
            f"split unsafely along {dim}",
            lambda s, d=dim: aten.unsafe_split_with_sizes(s.tokens(), [5, 1], d),
        )
    yield Sample("query, key, value", lambda s: aten.split(s.tokens(), [4, 4, 4], -1))
    yield Sample("hsplit", lambda s: aten.hsplit(s.tokens(), 2))
    yield Sample("hsplit of a sequence", lambda s: aten.hsplit(aten.select(s.tokens(), 0, 0), 2))
    yield Sample("vsplit", lambda s: aten.vsplit(s.tokens(), 2))
    yield Sample("dsplit", lambda s: aten.dsplit(s.tokens(), 3))
    yield Sample("chunk of scores", lambda s: aten.chunk(scores(s), 2, 1))


def _reshapes() -> Iterator[Sample]:
    yield Sample("view of rows", lambda s: aten.view(s.tokens(), [s.batch, 2, 3, WIDTH]))
    yield Sample("view that folds the batch", lambda s: aten.view(s.tokens(), [-1, WIDTH]))
    yield Sample("view of heads", lambda s: aten.view(s.tokens(), [s.batch, LENGTH, HEADS, -1]))
    yield Sample(
        "view of two tokens a row",
        lambda s: aten.view(s.tokens(), [s.batch, LENGTH // 2, 2 * WIDTH]),
    )
    yield Sample(
        "view of half a token a row",
        lambda s: aten.view(s.tokens(), [s.batch, 2 * LENGTH, WIDTH // 2]),
    )
    yield Sample("view across tokens", lambda s: aten.view(s.tokens(), [s.batch, 8, 9]))
    yield Sample(
        "reshape of heads side by side",
        lambda s: aten.reshape(aten.transpose(heads(s), 1, 2), [s.batch, LENGTH, -1]),
    )
    yield Sample(
        "reshape of heads as they lie", lambda s: aten.reshape(heads(s), [s.batch, LENGTH, -1])
    )
    yield Sample("reshape of an image", lambda s: aten.reshape(image(s), [s.batch, WIDTH, -1]))
    yield Sample(
        "reshape of channels first",
        lambda s: aten.reshape(channels_first(s), [s.batch, LENGTH, WIDTH]),
    )
    yield Sample(
        "reshape of folded heads",
        lambda s: aten.reshape(heads_folded(s), [s.batch, HEADS, LENGTH, DEPTH]),
    )
    yield Sample("_unsafe_view", lambda s: aten._unsafe_view(s.tokens(), [-1, WIDTH]))
    yield Sample(
        "_reshape_alias",
        lambda s: aten._reshape_alias(s.tokens(), [LENGTH * s.batch, WIDTH], [WIDTH, 1]),
    )
    yield from of_each_layout("flatten", lambda x: aten.flatten(x, 0, 1))
    yield Sample("flatten to features", lambda s: aten.flatten(s.tokens(), 1))
    yield from of_each_layout("ravel", aten.ravel)
    for name in ("atleast_1d", "atleast_2d", "atleast_3d"):
        yield Sample(name, lambda s, n=name: getattr(aten, n)(folded(s)))
        yield Sample(
            f"{name} of a vector", lambda s, n=name: getattr(aten, n)(aten.select(folded(s), 0, 1))
        )
    yield Sample("unflatten", lambda s: aten.unflatten(s.tokens(), -1, [HEADS, -1]))
    yield Sample("unflatten of tokens", lambda s: aten.unflatten(s.tokens(), 1, [2, -1]))
    yield Sample(
        "view_as",
        lambda s: aten.view_as(s.tokens(), aten.view(s.tokens("others"), [s.batch, 2, 3, WIDTH])),
    )
    yield Sample(
        "reshape_as", lambda s: aten.reshape_as(s.tokens(), s.numbers(s.batch * LENGTH, WIDTH))
    )
    yield Sample("reshape of scores", lambda s: aten.reshape(scores(s), [s.batch, LENGTH, 5, 1]))
    yield Sample("scores folded", lambda s: aten.reshape(scores(s), [s.batch, -1]))


def _copies() -> Iterator[Sample]:
    yield Sample(
        "expand over heads", lambda s: aten.expand(aten.unsqueeze(s.tokens(), 1), [-1, 3, -1, -1])
    )
    yield Sample(
        "expand of one token", lambda s: aten.expand(aten.unsqueeze(one_token(s), 1), [-1, 4, -1])
    )
    yield Sample(
        "expand of a learned token",
        lambda s: aten.expand(s.parameter(1, 1, WIDTH, token=True), [s.batch, -1, -1]),
    )
    yield Sample(
        "expand of learned queries",
        lambda s: aten.expand(s.parameter(5, WIDTH, token=True), [s.batch, -1, -1]),
    )
    yield Sample(
        "expand_as", lambda s: aten.expand_as(aten.unsqueeze(one_token(s), 1), s.tokens("others"))
    )
    yield Sample(
        "broadcast_to", lambda s: aten.broadcast_to(aten.unsqueeze(s.tokens(), 2), [-1, -1, 2, -1])
    )
    yield Sample(
        "broadcast_tensors",
        lambda s: aten.broadcast_tensors(
            [aten.unsqueeze(s.tokens(), 2), aten.unsqueeze(s.tokens("others", 4), 1)]
        ),
    )
    for sizes in ([1, 2, 1], [2, 1, 1], [1, 1, 3], [2, 1, 1, 1], [1, 3, 1, 2]):
        yield Sample(f"repeat {sizes}", lambda s, n=sizes: aten.repeat(s.tokens(), n))
    yield Sample(
        "repeat of a learned token",
        lambda s: aten.repeat(s.parameter(1, 3, WIDTH, token=True), [s.batch, 1, 1]),
    )
    yield Sample(
        "repeat of learned tokens one after the other",
        lambda s: aten.repeat(s.parameter(3, WIDTH, token=True), [2, 1]),
    )
    yield Sample("tile", lambda s: aten.tile(s.tokens(), [2, 1]))
    yield Sample("tile of an image", lambda s: aten.tile(image(s), [1, 1, 2, 2]))
    yield from along_each_axis("repeat_interleave", lambda x, d: aten.repeat_interleave(x, 2, d))
    yield Sample("repeat_interleave of all", lambda s: aten.repeat_interleave(s.tokens(), 2))
    yield Sample(
        "repeat_interleave by counts",
        lambda s: aten.repeat_interleave(s.tokens(), torch.tensor([1, 0, 2, 1, 3, 0]), 1),
    )
    yield Sample(
        "repeat_interleave by given counts",
        lambda s: aten.repeat_interleave(s.tokens(), s.given(torch.tensor([1, 2, 2, 1, 3, 1])), 1),
    )


def _along() -> Iterator[Sample]:
    yield from along_each_axis("roll", lambda x, d: aten.roll(x, [1], [d]))
    yield from along_each_axis("flip", lambda x, d: aten.flip(x, [d]))
    yield from along_each_axis("index_select", picked)
    yield from along_each_axis("fft_fftshift", lambda x, d: aten.fft_fftshift(x, [d]))
    yield from along_each_axis("fft_ifftshift", lambda x, d: aten.fft_ifftshift(x, [d]))
    yield from of_each_layout("fliplr", aten.fliplr)
    yield from of_each_layout("flipud", aten.flipud)
    yield from of_each_layout("roll of all", lambda x: aten.roll(x, [5]))
    yield from of_each_layout("rot90", lambda x: aten.rot90(x, 1, [0, 1]))
    yield Sample("roll of a window", lambda s: aten.roll(grid(s), [-1, 2], [1, -2]))
    yield Sample("flip of an image", lambda s: aten.flip(image(s), [-1, -2]))
    yield Sample("rot90 of an image", lambda s: aten.rot90(image(s), 1, [2, 3]))
    yield Sample("rot90 backwards", lambda s: aten.rot90(image(s), -1, [-2, -1]))
    yield Sample("fftshift of all", lambda s: aten.fft_fftshift(grid(s)))
    yield Sample("flip of scores", lambda s: aten.flip(scores(s), [1]))
    yield Sample("roll of scores", lambda s: aten.roll(scores(s), [1], [-1]))


def _padding() -> Iterator[Sample]:
    for mode in ("constant", "reflect", "replicate", "circular"):
        yield Sample(
            f"pad of an image, {mode}", lambda s, m=mode: aten.pad(image(s), [1, 0, 0, 1], m)
        )
        yield Sample(
            f"pad of channels first, {mode}",
            lambda s, m=mode: aten.pad(channels_first(s), [2, 1], m),
        )
        yield Sample(f"pad of features, {mode}", lambda s, m=mode: aten.pad(s.tokens(), [2, 1], m))
    yield Sample("pad of rows", lambda s: aten.pad(s.tokens(), [0, 0, 2, 1]))
    yield Sample("pad that crops", lambda s: aten.pad(s.tokens(), [0, 0, -2, 1]))
    yield Sample("pad of features and rows", lambda s: aten.pad(s.tokens(), [1, 0, 0, 2]))
    yield Sample("pad of the batch", lambda s: aten.pad(s.tokens(), [0, 0, 0, 0, 0, 1]))
    yield Sample("constant_pad_nd", lambda s: aten.constant_pad_nd(s.tokens(), [0, 0, 2, -1], 1.0))
    yield Sample(
        "constant_pad_nd of scores", lambda s: aten.constant_pad_nd(scores(s), [1, 0, 0, 2])
    )
    yield Sample(
        "pad_sequence",
        lambda s: aten.pad_sequence(
            [aten.select(s.tokens("some", 3), 0, 0), aten.select(s.tokens("others", 5), 0, 1)], True
        ),
    )
    yield Sample(
        "pad_sequence, sequence first",
        lambda s: aten.pad_sequence(
            [aten.select(s.tokens("some", 3), 0, 0), aten.select(s.tokens("others", 5), 0, 1)]
        ),
    )
    yield Sample(
        "pad_sequence from the left",
        lambda s: aten.pad_sequence(
            [aten.select(s.tokens("some", 3), 0, 0), aten.select(s.tokens("others", 5), 0, 1)],
            True,
            0.0,
            "left",
        ),
    )
    lengths = torch.tensor([5, 3])
    for first in (True, False):

        def packed(s: Setting, first: bool = first) -> fx.Proxy:
            x = s.tokens() if first else aten.transpose(s.tokens(), 0, 1)
            return aten._pack_padded_sequence(x, s.given(lengths), first)

        yield Sample(f"_pack_padded_sequence, {first}", lambda s, p=packed: p(s)[0])
        yield Sample(
            f"_pad_packed_sequence, {first}",
            lambda s, p=packed, b=first: aten._pad_packed_sequence(p(s)[0], p(s)[1], b, 1.5, 6)[0],
        )
    for kind, layout, amounts in (
        ("1d", channels_first, [2, 1]),
        ("2d", image, [1, 0, 1, 1]),
        ("3d", lambda s: aten.unsqueeze(image(s), 1), [1, 1, 0, 1, 2, 2]),
    ):
        for edge in ("reflection", "replication"):
            if (kind, edge) == ("3d", "reflection"):
                amounts = [1, 1, 0, 1, 3, 2]
            op = getattr(aten, f"{edge}_pad{kind}")
            yield Sample(
                f"{edge}_pad{kind}", lambda s, o=op, f=layout, n=tuple(amounts): o(f(s), list(n))
            )
    yield Sample("_pad_circular", lambda s: aten._pad_circular(image(s), [1, 0, 1, 1]))


def _beside() -> Iterator[Sample]:
    for dim in (0, 1, 2, -1, -2, -3):
        yield Sample(
            f"cat along {dim}", lambda s, d=dim: aten.cat([s.tokens(), s.tokens("others")], d)
        )
        yield Sample(
            f"stack along {dim}", lambda s, d=dim: aten.stack([s.tokens(), s.tokens("others")], d)
        )
        yield Sample(
            f"cat of one with itself along {dim}", lambda s, d=dim: _with_itself(s, aten.cat, d)
        )
        yield Sample(
            f"stack of one with itself along {dim}", lambda s, d=dim: _with_itself(s, aten.stack, d)
        )
        yield Sample(
            f"cat with constants along {dim}",
            lambda s, d=dim: aten.cat([s.tokens(), s.numbers(s.batch, LENGTH, WIDTH)], d),
        )
    yield Sample(
        "cat of unlike lengths", lambda s: aten.cat([s.tokens("some", 2), s.tokens("others", 5)], 1)
    )
    yield Sample("cat of features of pieces", lambda s: _shifted(s))
    yield Sample(
        "cat of a learned token",
        lambda s: aten.cat(
            [aten.expand(s.parameter(1, 1, WIDTH, token=True), [s.batch, -1, -1]), s.tokens()], 1
        ),
    )
    yield Sample(
        "cat of a learned token behind",
        lambda s: aten.cat(
            [s.tokens(), aten.expand(s.parameter(1, 2, WIDTH, token=True), [s.batch, -1, -1])], -2
        ),
    )
    yield Sample("cat of an empty cache", lambda s: aten.cat([s.numbers(0), s.tokens()], 1))
    yield Sample(
        "cat of zeros",
        lambda s: aten.cat([s.tokens(), aten.zeros([s.batch, 2, WIDTH], dtype=torch.float64)], 1),
    )
    yield Sample("concat", lambda s: aten.concat([s.tokens(), s.tokens("others", 2)], 1))
    yield Sample("concatenate", lambda s: aten.concatenate([s.tokens(), s.tokens("others", 2)], 1))
    yield Sample("hstack", lambda s: aten.hstack([s.tokens(), s.tokens("others", 2)]))
    yield Sample("vstack", lambda s: aten.vstack([s.tokens(), s.tokens("others")]))
    for name in ("hstack", "vstack", "row_stack", "column_stack", "dstack"):
        op = getattr(aten, name)
        yield Sample(f"{name} of images", lambda s, o=op: o([image(s), image(s)]))
        yield Sample(f"{name} of sequences", lambda s, o=op: o([folded(s), folded(s)]))
        yield Sample(
            f"{name} of vectors",
            lambda s, o=op: o(
                [
                    aten.select(one_token(s), 0, 0),
                    aten.select(aten.select(s.tokens("others"), 1, 0), 0, 0),
                ]
            ),
        )
    yield Sample("stack of steps", lambda s: aten.stack(_each_row(s.tokens()), 1))
    yield Sample(
        "cat of scores", lambda s: aten.cat([scores(s), aten.slice(scores(s), 2, 0, 2)], 2)
    )
    yield Sample(
        "cat of scores with constants",
        lambda s: aten.cat([s.numbers(s.batch, LENGTH, 1), scores(s)], -1),
    )


def _each_row(x: fx.Proxy) -> list[fx.Proxy]:
    return [aten.select(x, 1, i) for i in reversed(range(LENGTH))]


def _with_itself(s: Setting, op: Any, dim: int) -> fx.Proxy:
    x = s.tokens()
    return op([x, aten.flip(x, [1])], dim)


def _shifted(s: Setting) -> fx.Proxy:
    """Token shift: half of the features are those of the row before."""
    x = s.tokens()
    return aten.cat([aten.slice(x, 2, 0, 6), aten.slice(aten.roll(x, [1], [1]), 2, 6)], -1)


def _shuffles() -> Iterator[Sample]:
    yield Sample(
        "pixel_shuffle",
        lambda s: aten.pixel_shuffle(aten.reshape(image(s), [s.batch, WIDTH, 2, 3]), 2),
    )
    yield Sample(
        "pixel_unshuffle", lambda s: aten.pixel_unshuffle(aten.repeat(image(s), [1, 1, 2, 2]), 2)
    )
    yield Sample("im2col", lambda s: aten.im2col(image(s), [2, 2], [1, 1], [0, 0], [1, 1]))
    yield Sample(
        "im2col of patches", lambda s: aten.im2col(image(s), [2, 3], [1, 1], [0, 0], [2, 3])
    )
    yield Sample(
        "im2col with padding", lambda s: aten.im2col(image(s), [3, 3], [1, 1], [1, 1], [1, 1])
    )
    yield Sample("channel_shuffle", lambda s: aten.channel_shuffle(image(s), 3))
    yield Sample("channel_shuffle of tokens", lambda s: aten.channel_shuffle(s.tokens(), 3))
    yield Sample("native_channel_shuffle", lambda s: aten.native_channel_shuffle(image(s), 4))
    yield Sample(
        "diag of scores",
        lambda s: aten.diag(
            aten.select(aten.matmul(s.tokens(), aten.mT(s.tokens("others"))), 0, 0)
        ),
    )
    yield Sample("diag", lambda s: aten.diag(aten.select(s.tokens(), 0, 1)))
    yield Sample("diagflat", lambda s: aten.diagflat(aten.select(s.tokens(), 0, 1)))
    yield Sample("diag_embed", lambda s: aten.diag_embed(s.tokens()))
    yield Sample("diag_embed of tokens", lambda s: aten.diag_embed(channels_first(s), 0, 1, 2))
    yield Sample(
        "as_strided",
        lambda s: aten.as_strided(s.tokens(), [s.batch, 5, 2 * WIDTH], [LENGTH * WIDTH, WIDTH, 1]),
    )
    yield Sample(
        "as_strided of heads",
        lambda s: aten.as_strided(
            aten.contiguous(heads(s)),
            [s.batch, HEADS, 3, 2, DEPTH],
            [HEADS * LENGTH * DEPTH, LENGTH * DEPTH, 2 * DEPTH, DEPTH, 1],
        ),
    )


MOVEMENT = [
    *_views(), *_pieces(), *_reshapes(), *_copies(), *_along(), *_padding(), *_beside(), *_shuffles(),
]  # fmt: skip
