"""Layouts: where a value of (batch, tokens, features) may have its tokens."""

from __future__ import annotations

from collections.abc import Callable

from torch import fx, ops

from tests.op_table.setting import BATCH, LENGTH, WIDTH, Setting

__all__ = ["HEADS", "LAYOUTS", "Layout"]

aten = ops.aten
HEADS, HEIGHT, COLUMNS = 3, 2, 3
DEPTH = WIDTH // HEADS

Layout = Callable[[Setting], fx.Proxy]


def sequence_first(s: Setting) -> fx.Proxy:
    return aten.transpose(s.tokens(), 0, 1)


def folded(s: Setting) -> fx.Proxy:
    return aten.reshape(s.tokens(), [-1, WIDTH])


def heads(s: Setting) -> fx.Proxy:
    return aten.transpose(aten.view(s.tokens(), [s.batch, LENGTH, HEADS, DEPTH]), 1, 2)


def heads_folded(s: Setting) -> fx.Proxy:
    return aten.reshape(heads(s), [s.batch * HEADS, LENGTH, DEPTH])


def channels_first(s: Setting) -> fx.Proxy:
    return aten.transpose(s.tokens(), 1, 2)


def grid(s: Setting) -> fx.Proxy:
    return aten.view(s.tokens(), [s.batch, HEIGHT, COLUMNS, WIDTH])


def image(s: Setting) -> fx.Proxy:
    return aten.permute(grid(s), [0, 3, 1, 2])


def volume(s: Setting) -> fx.Proxy:
    return aten.unsqueeze(image(s), 2)


def flat(s: Setting) -> fx.Proxy:
    return aten.reshape(s.tokens(), [s.batch, LENGTH * WIDTH])


def one_token(s: Setting) -> fx.Proxy:
    return aten.select(s.tokens(), 1, 2)


def bare_sequence(s: Setting) -> fx.Proxy:
    """(tokens, features) of one sample."""
    return aten.select(s.tokens(), 0, 0)


def scores(s: Setting) -> fx.Proxy:
    """(batch, queries, keys) of two sequences."""
    return aten.matmul(s.tokens(), aten.transpose(s.tokens("others", LENGTH - 1), 1, 2))


LAYOUTS: dict[str, tuple[Layout, int]] = {
    "rows": (Setting.tokens, 3),
    "sequence first": (sequence_first, 3),
    "folded": (folded, 2),
    "heads": (heads, 4),
    "heads folded": (heads_folded, 3),
    "channels first": (channels_first, 3),
    "grid": (grid, 4),
    "image": (image, 4),
    "flat": (flat, 2),
    "one token": (one_token, 2),
    "bare sequence": (bare_sequence, 2),
}
"""Each with its number of axes."""

assert BATCH != HEADS
