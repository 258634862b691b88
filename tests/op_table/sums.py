"""Samples of sums, extremes and normalisation along an axis."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import ops

from tests.op_table.layouts import (
    grid,
    heads,
    image,
    one_token,
    scores,
)
from tests.op_table.samples import Sample, along_each_axis

__all__ = ["SUMS"]

aten = ops.aten
F64 = torch.float64


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


SUMS = [*_sums(), *_normalised()]
