"""Patches that ask coarser ones and windows around themselves, one image as many."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, unfold

from tests.by_hand import WIDE, Attention, explained, heard
from tests.small_models import seeded

SIDE = 4
N = SIDE * SIDE


class Patches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches, self.head = nn.Conv2d(3, WIDE, 4, 4), nn.Linear(WIDE, 3)
        self.first, self.second, self.out = Attention(), Attention(), nn.Linear(WIDE, WIDE)


class Focal(Patches):
    """Keys of three grains: all patches, means of two by two, and the mean of all."""

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image).flatten(2).mT
        coarse = avg_pool2d(x.mT.unflatten(-1, (SIDE, SIDE)), 2).flatten(2).mT
        x = x + self.first(x, torch.cat([x, coarse, x.mean(1, keepdim=True)], 1))
        return self.head((x + self.second(x))[:, 5])


def test_keys_of_several_grains() -> None:
    model, image = seeded(Focal), torch.randn(2, 3, 16, 16)
    e = explained(model, (image,))
    assert [(n.kind, n.q_len, n.k_len) for n in e.graph.nodes] == [
        ("self", N, N + 5),
        ("self", N, N),
    ]
    first, second = heard(model, (image,), [model.first, model.second])
    places = torch.arange(N).view(2, 2, 2, 2).transpose(1, 2).reshape(4, 4)
    coarse = torch.zeros(4, N).scatter(1, places, 0.25)
    relevance = torch.eye(N) + first @ torch.cat([torch.eye(N), coarse, torch.full((1, N), 1 / N)])
    by_hand = (relevance + second @ relevance)[:, 5]
    torch.testing.assert_close(e.relevance["image"], by_hand, atol=1e-5, rtol=1e-4)


class Sliding(Patches):
    """Each patch asks its neighbours, laid out beside each other by ``unfold``."""

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image).flatten(2).mT
        around = unfold(x.mT.unflatten(-1, (SIDE, SIDE)), 3, padding=1).view(-1, WIDE, 9, N)
        around = around.permute(0, 3, 2, 1)
        weights = (x.unsqueeze(2) * around).sum(-1).softmax(-1)
        x = x + self.out((weights.unsqueeze(-1) * around).sum(2))
        return self.head((x + self.second(x))[:, 5])


def test_neighbours_of_one_image_are_those_of_many() -> None:
    e = explained(seeded(Sliding), (torch.randn(2, 3, 16, 16),))
    assert [(n.q_len, n.k_len) for n in e.graph.nodes] == [(N, 9), (N, N)]
    assert e.graph.warnings == ()
