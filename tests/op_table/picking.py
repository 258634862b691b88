"""Samples of picking and writing: gather, advanced indexing, scatter."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, fx, ops

from tests.op_table.layouts import (
    DEPTH,
    HEADS,
    grid,
    heads,
    one_token,
    scores,
)  # fmt: skip
from tests.op_table.samples import Sample
from tests.op_table.setting import BATCH, LENGTH, WIDTH, Setting

__all__ = ["PICKING"]

aten = ops.aten

ORDER = torch.tensor([[3, 1, 4, 0, 5, 2], [5, 2, 0, 1, 4, 3]])
KEPT = torch.tensor([[1, 0, 1, 1, 0, 0], [0, 1, 1, 0, 0, 1]]).bool()


def wide(index: Tensor) -> Tensor:
    """An index for every feature."""
    return index.unsqueeze(-1).expand(*index.shape, WIDTH)


def _picking() -> Iterator[Sample]:
    yield Sample("gather", lambda s: aten.gather(s.tokens(), 1, s.given(wide(ORDER))))
    yield Sample("gather fewer", lambda s: aten.gather(s.tokens(), -2, wide(ORDER[:, :2])))
    yield Sample("gather of one sample", lambda s: aten.gather(s.tokens(), 1, wide(ORDER[:1])))
    yield Sample(
        "gather of some features", lambda s: aten.gather(s.tokens(), 1, wide(ORDER)[..., :5])
    )
    yield Sample(
        "gather along features",
        lambda s: aten.gather(s.tokens(), -1, torch.randint(WIDTH, (BATCH, LENGTH, 2))),
    )
    yield Sample(
        "gather by feature",
        lambda s: aten.gather(
            s.tokens(), 1, torch.randint(LENGTH, (BATCH, 3, WIDTH), generator=_chance())
        ),
    )
    yield Sample(
        "gather of other heads",
        lambda s: aten.gather(heads(s), 2, ORDER[:, None, :, None].expand(-1, HEADS, -1, DEPTH)),
    )
    yield Sample(
        "gather of some heads",
        lambda s: aten.gather(heads(s), 2, ORDER[:, None, :, None].expand(-1, 2, -1, DEPTH)),
    )
    yield Sample(
        "gather of scores",
        lambda s: aten.gather(
            scores(s), 2, torch.randint(5, (BATCH, LENGTH, 4), generator=_chance())
        ),
    )
    yield Sample(
        "take_along_dim", lambda s: aten.take_along_dim(s.tokens(), s.given(ORDER.unsqueeze(-1)), 1)
    )
    yield Sample(
        "take_along_dim from behind",
        lambda s: aten.take_along_dim(s.tokens(), ORDER[:, :3].unsqueeze(-1), -2),
    )
    yield Sample(
        "take_along_dim of flat",
        lambda s: aten.take_along_dim(s.tokens(), torch.tensor([3, 40, 100])),
    )
    rows = torch.arange(BATCH)
    yield Sample(
        "index by samples and places",
        lambda s: aten.index(s.tokens(), [s.given(rows), s.given(ORDER[:, 2])]),
    )
    yield Sample("index of all rows", lambda s: aten.index(s.tokens(), [rows[:, None], ORDER]))
    yield Sample(
        "index of one axis", lambda s: aten.index(s.tokens(), [None, torch.tensor([3, 1])])
    )
    yield Sample("index by a mask", lambda s: aten.index(s.tokens(), [KEPT]))
    yield Sample("index by a given mask", lambda s: aten.index(s.tokens(), [s.given(KEPT)]))
    yield Sample("index by a mask of tokens", lambda s: aten.index(s.tokens(), [None, KEPT[0]]))
    yield Sample(
        "index of a grid",
        lambda s: aten.index(grid(s), [None, torch.tensor([1, 0, 1]), torch.tensor([2, 2, 0])]),
    )
    yield Sample(
        "index of axes apart",
        lambda s: aten.index(grid(s), [torch.tensor([1, 0]), None, torch.tensor([2, 0])]),
    )
    yield Sample(
        "index of features", lambda s: aten.index(s.tokens(), [None, None, torch.tensor([3, 1])])
    )
    yield Sample("masked_select", lambda s: aten.masked_select(s.tokens(), KEPT.unsqueeze(-1)))
    yield Sample(
        "masked_select by a given mask",
        lambda s: aten.masked_select(s.tokens(), s.given(KEPT.unsqueeze(-1))),
    )
    yield Sample("take", lambda s: aten.take(s.tokens(), torch.tensor([[3, 40], [100, 7]])))
    yield Sample(
        "_unsafe_index",
        lambda s: aten._unsafe_index(s.tokens(), [None, torch.tensor([[3, 1], [0, 0]])]),
    )
    yield Sample(
        "index of scores", lambda s: aten.index(scores(s), [None, None, torch.tensor([4, 1])])
    )


def _chance() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _writing() -> Iterator[Sample]:
    def rows(s: Setting, n: int) -> fx.Proxy:
        return aten.slice(s.tokens("others"), 1, 0, n)

    zeros = torch.zeros(BATCH, LENGTH, WIDTH, dtype=torch.float64)
    rows_of = torch.arange(BATCH)[:, None]
    for kind, base in (("tokens", Setting.tokens), ("zeros", lambda s: s.constant(zeros))):
        yield Sample(
            f"index_put into {kind}",
            lambda s, b=base: aten.index_put(b(s), [None, torch.tensor([3, 0, 4])], rows(s, 3)),
        )
        yield Sample(
            f"index_put of samples into {kind}",
            lambda s, b=base: aten.index_put(b(s), [rows_of, s.given(ORDER[:, :2])], rows(s, 2)),
        )
        yield Sample(
            f"index_put of one for all into {kind}",
            lambda s, b=base: aten.index_put(b(s), [None, torch.tensor([3, 0])], rows(s, 1)),
        )
        yield Sample(
            f"index_put by a mask into {kind}",
            lambda s, b=base: aten.index_put(b(s), [KEPT], aten.reshape(rows(s, 3), [-1, WIDTH])),
        )
        yield Sample(
            f"index_copy into {kind}",
            lambda s, b=base: aten.index_copy(b(s), 1, torch.tensor([3, 0, 4]), rows(s, 3)),
        )
        yield Sample(
            f"scatter into {kind}",
            lambda s, b=base: aten.scatter(
                b(s), 1, s.given(wide(ORDER[:, :4])), s.tokens("others")
            ),
        )
        yield Sample(
            f"scatter from behind into {kind}",
            lambda s, b=base: aten.scatter(b(s), -2, wide(ORDER[:, :4]), s.tokens("others")),
        )
        yield Sample(
            f"slice_scatter into {kind}",
            lambda s, b=base: aten.slice_scatter(b(s), rows(s, 2), 1, 1, 5, 2),
        )
        yield Sample(
            f"select_scatter into {kind}",
            lambda s, b=base: aten.select_scatter(b(s), aten.select(rows(s, 2), 1, 1), -2, 4),
        )
        yield Sample(
            f"masked_scatter into {kind}",
            lambda s, b=base: aten.masked_scatter(b(s), s.given(wide(KEPT)), rows(s, 3)),
        )
        yield Sample(
            f"masked_scatter by a narrow mask into {kind}",
            lambda s, b=base: aten.masked_scatter(b(s), KEPT.unsqueeze(-1), rows(s, 3)),
        )
        yield Sample(
            f"slice_scatter of features into {kind}",
            lambda s, b=base: aten.slice_scatter(
                b(s), aten.slice(s.tokens("others"), 2, 0, 4), -1, 2, 6
            ),
        )
    yield Sample(
        "index_add into zeros",
        lambda s: aten.index_add(s.constant(zeros), 1, torch.tensor([3, 0, 4]), rows(s, 3)),
    )
    yield Sample(
        "scatter_add into zeros",
        lambda s: aten.scatter_add(s.constant(zeros), 1, wide(ORDER), s.tokens()),
    )
    yield Sample(
        "scatter_reduce into zeros",
        lambda s: aten.scatter_reduce(s.constant(zeros), 1, wide(ORDER), s.tokens(), "sum"),
    )
    same = torch.tensor([0, 0, 1, 1, 2, 2])
    yield Sample(
        "index_add of several", lambda s: aten.index_add(s.constant(zeros), 1, same, s.tokens())
    )
    yield Sample(
        "index_add to tokens",
        lambda s: aten.index_add(s.tokens(), 1, torch.tensor([3, 0, 4]), rows(s, 3)),
    )
    yield Sample(
        "scatter_add of several",
        lambda s: aten.scatter_add(s.constant(zeros), 1, wide(same.expand(BATCH, -1)), s.tokens()),
    )
    yield Sample(
        "scatter_reduce of several",
        lambda s: aten.scatter_reduce(
            s.constant(zeros), 1, wide(same.expand(BATCH, -1)), s.tokens(), "mean"
        ),
    )
    yield Sample(
        "index_put that adds up",
        lambda s: aten.index_put(s.constant(zeros), [None, same], s.tokens(), True),
    )
    yield Sample(
        "index_put of a number",
        lambda s: aten.index_put(
            s.tokens(), [None, torch.tensor([2])], s.constant(torch.zeros((), dtype=torch.float64))
        ),
    )
    yield Sample(
        "scatter of a number", lambda s: aten.scatter(s.tokens(), 1, wide(ORDER[:, :2]), 0.5)
    )
    for dim in (1, -2, 2):
        yield Sample(
            f"index_fill along {dim}",
            lambda s, d=dim: aten.index_fill(s.tokens(), d, torch.tensor([2, 0]), 0.5),
        )
    yield Sample(
        "index_fill by a tensor",
        lambda s: aten.index_fill(
            s.tokens(), 1, torch.tensor([2, 0]), s.constant(torch.zeros((), dtype=torch.float64))
        ),
    )
    yield Sample(
        "scatter that adds a number",
        lambda s: aten.scatter(s.tokens(), 1, wide(ORDER[:, :2]), 0.5, reduce="add"),
    )
    yield Sample(
        "scatter that adds up",
        lambda s: aten.scatter(
            s.constant(zeros), 1, wide(same.expand(BATCH, -1)), s.tokens(), reduce="add"
        ),
    )
    yield Sample(
        "diagonal_scatter",
        lambda s: aten.diagonal_scatter(
            grid(s), aten.transpose(aten.slice(s.tokens("others"), 1, 0, 2), 1, 2), 0, 1, 2
        ),
    )
    yield Sample(
        "index_reduce",
        lambda s: aten.index_reduce(
            s.constant(zeros), 1, torch.tensor([3, 0, 4]), rows(s, 3), "mean", include_self=False
        ),
    )
    yield Sample(
        "index_reduce of several",
        lambda s: aten.index_reduce(
            s.constant(zeros), 1, same, s.tokens(), "mean", include_self=False
        ),
    )
    yield Sample("copy", lambda s: aten.copy(s.constant(zeros), s.tokens()))
    yield Sample(
        "copy of one for all",
        lambda s: aten.copy(s.constant(zeros), aten.unsqueeze(one_token(s), 1)),
    )


PICKING = [*_picking(), *_writing()]
