"""Rows beside their neighbours: token shift and its relatives are routes that keep the row's token."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxplain
from tests.small_models import VOCABULARY, seeded, words

WIDTH, LENGTH, LAYERS = 16, 6, 2


def before(x: Tensor) -> Tensor:
    return F.pad(x, (0, 0, 1, -1))


def after(x: Tensor) -> Tensor:
    return F.pad(x, (0, 0, -1, 1))


SHIFTS = {
    "half from before": (
        lambda x: torch.cat([before(x.chunk(2, -1)[0]), x.chunk(2, -1)[1]], -1),
        {-1: 0.5, 0: 0.5},
    ),
    "zeros put before": (
        lambda x: torch.cat(
            [torch.cat([torch.zeros_like(x[:, :1, :8]), x[:, :-1, :8]], 1), x[..., 8:]], -1
        ),
        {-1: 0.5, 0: 0.5},
    ),
    "both sides": (
        lambda x: torch.cat([before(x[..., :4]), after(x[..., 4:8]), x[..., 8:]], -1),
        {-1: 0.25, 1: 0.25, 0: 0.5},
    ),
    "added": (lambda x: x + before(x), {-1: 0.5, 0: 0.5}),
    "mean": (lambda x: (before(x) + x) / 2, {-1: 0.5, 0: 0.5}),
    "interpolated": (lambda x: torch.lerp(x, before(x), 0.3), {-1: 0.5, 0: 0.5}),
    "round": (lambda x: torch.cat([x[..., :8].roll(1, 1), x[..., 8:]], -1), {-1: 0.5, 0: 0.5}),
}


class Shifted(nn.Module):
    """Attention over rows that hold something of their neighbours, added to rows that do not."""

    def __init__(self, form: str, projected: bool) -> None:
        super().__init__()
        self.words, self.head, self.shift = (
            nn.Embedding(VOCABULARY, WIDTH),
            nn.Linear(WIDTH, 3),
            form,
        )
        self.q, self.k, self.v = (
            nn.Linear(WIDTH, WIDTH) if projected else nn.Identity() for _ in range(3)
        )

    def run(self, ids: Tensor) -> tuple[Tensor, list[Tensor]]:
        x, seen = self.words(ids), []
        for _ in range(LAYERS):
            y = SHIFTS[self.shift][0](x)
            weights = (self.q(y) @ self.k(y).mT / 4).softmax(-1)
            seen.append(weights)
            x = x + weights @ self.v(y)
        return self.head(x[:, -1]), seen

    def forward(self, ids: Tensor) -> Tensor:
        return self.run(ids)[0]


def mixture(form: str) -> Tensor:
    """What each row is made of, (rows, tokens)."""
    P = torch.zeros(LENGTH, LENGTH)
    for row in range(LENGTH):
        for step, share in SHIFTS[form][1].items():
            place = (row + step) % LENGTH if form == "round" else row + step
            if 0 <= place < LENGTH:
                P[row, place] += share
    return P / P.sum(1, keepdim=True)


@pytest.mark.parametrize("projected", [True, False])
@pytest.mark.parametrize("form", SHIFTS)
def test_attended_rows_are_made_of_neighbours(form: str, projected: bool) -> None:
    model, ids = seeded(Shifted, form, projected), words(1, LENGTH)
    score, seen = model.run(ids)
    for weights in seen:
        weights.retain_grad()
    score[0, 1].backward()
    R = torch.eye(LENGTH)
    for weights in seen:
        R = R + (weights.grad * weights.detach())[0].clamp(min=0) @ (mixture(form) @ R)
    e = fxplain.explain(model, (ids,), target=1)
    assert e.graph.warnings == ()
    assert e.graph.modalities == {"ids": LENGTH}
    assert [node.kind for node in e.graph.nodes] == ["self"] * LAYERS
    torch.testing.assert_close(e.relevance["ids"][0], R[-1])
