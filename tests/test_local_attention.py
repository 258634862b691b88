"""Attention to some of the tokens: each form against the paper's equations by hand."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.attention_by_hand import (
    HEADS,
    SIZE,
    TOKENS,
    WIDTH,
    Form,
    check_classifier,
    classifier,
    distances,
    merged,
    noted,
    split,
)


class SlidingWindow(Form):
    def scores(self, query: Tensor, key: Tensor) -> Tensor:
        far = (distances() > 0) | (distances() < -2)
        return super().scores(query, key).masked_fill(far, float("-inf"))


class Chunks(Form):
    """Each chunk of two attends to itself and to the chunk before it."""

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            split(f(x)).unflatten(2, (-1, 2)) for f in (self.query, self.key, self.value)
        )
        key, value = (torch.cat([F.pad(y, (0, 0, 0, 0, 1, -1)), y], 3) for y in (key, value))
        outside = torch.zeros(TOKENS // 2, 2, 4, dtype=torch.bool)
        outside[0, :, :2] = True
        scores = (query @ key.mT).masked_fill(outside, float("-inf"))
        mixed = noted(scores.softmax(-1), self.place) @ value
        return self.out(merged(mixed.flatten(2, 3)))

    @staticmethod
    def place(weights: Tensor) -> Tensor:
        full = weights.new_zeros(*weights.shape[:2], TOKENS, TOKENS + 2)
        for chunk in range(TOKENS // 2):
            rows, columns = slice(2 * chunk, 2 * chunk + 2), slice(2 * chunk, 2 * chunk + 4)
            full[:, :, rows, columns] += weights[:, :, chunk]
        return full[..., 2:]


class SpatialReduction(Form):
    """PVT: keys and values of every two tokens' mean."""

    def forward(self, x: Tensor) -> Tensor:
        fewer = F.avg_pool1d(x.mT, 2).mT
        scores = self.scores(split(self.query(x)), split(self.key(fewer)))
        weights = noted(scores.softmax(-1), lambda a: a.repeat_interleave(2, -1) / 2)
        return self.out(merged(weights @ split(self.value(fewer))))


class AlongRows(Form):
    """Axial attention: tokens on a grid of 2 by 3 attend along their row."""

    def forward(self, x: Tensor) -> Tensor:
        return self.along(x.unflatten(1, (2, 3))).flatten(1, 2)

    def along(self, grid: Tensor) -> Tensor:
        lines = grid.flatten(0, 1)
        query, key, value = (split(f(lines)) for f in (self.query, self.key, self.value))
        weights = noted(self.scores(query, key).softmax(-1), self.place)
        return self.out(merged(weights @ value)).unflatten(0, grid.shape[:2])

    @staticmethod
    def place(weights: Tensor) -> Tensor:
        lines = weights.unflatten(0, (-1, 2))
        full = weights.new_zeros(len(lines), HEADS, 2, 3, 2, 3)
        for row in range(2):
            full[:, :, row, :, row] = lines[:, row]
        return full.flatten(4, 5).flatten(2, 3)


class AlongColumns(AlongRows):
    """And along their column."""

    def forward(self, x: Tensor) -> Tensor:
        columns = x.unflatten(1, (2, 3)).transpose(1, 2)
        return self.along(columns).transpose(1, 2).flatten(1, 2)

    @staticmethod
    def place(weights: Tensor) -> Tensor:
        lines = weights.unflatten(0, (-1, 3))
        full = weights.new_zeros(len(lines), HEADS, 2, 3, 2, 3)
        for column in range(3):
            full[:, :, :, column, :, column] = lines[:, column]
        return full.flatten(4, 5).flatten(2, 3)


class Dilated(Form):
    """Tokens attend to every second token."""

    def forward(self, x: Tensor) -> Tensor:
        apart = x.unflatten(1, (-1, 2)).transpose(1, 2).flatten(0, 1)
        query, key, value = (split(f(apart)) for f in (self.query, self.key, self.value))
        weights = noted(self.scores(query, key).softmax(-1), self.place)
        made = self.out(merged(weights @ value))
        return made.unflatten(0, (-1, 2)).transpose(1, 2).flatten(1, 2)

    @staticmethod
    def place(weights: Tensor) -> Tensor:
        lines = weights.unflatten(0, (-1, 2))
        full = weights.new_zeros(len(lines), HEADS, TOKENS, TOKENS)
        for start in range(2):
            full[:, :, start::2, start::2] = lines[:, start]
        return full


class GatheredKeys(Form):
    """Each query gathers the three keys with the highest scores and attends to them alone."""

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (split(f(x)) for f in (self.query, self.key, self.value))
        best, index = self.scores(query, key).topk(3, dim=-1)

        def place(weights: Tensor) -> Tensor:
            return weights.new_zeros(*weights.shape[:3], TOKENS).scatter(-1, index, weights)

        rows = index.unsqueeze(-1).expand(-1, -1, -1, -1, SIZE)
        values = value.unsqueeze(2).expand(-1, -1, TOKENS, -1, -1).gather(3, rows)
        weights = noted(best.softmax(-1), place)
        return self.out(merged((weights.unsqueeze(3) @ values).squeeze(3)))


class MaskedTop(Form):
    """All but the three highest scores of each query are masked."""

    def scores(self, query: Tensor, key: Tensor) -> Tensor:
        scores = super().scores(query, key)
        lowest = scores.topk(3, dim=-1).values[..., -1:]
        return torch.where(scores < lowest, float("-inf"), scores)


class Neighbourhood(Form):
    """Tokens on a grid of 2 by 3 attend to the 3 by 3 around them, channels first, by `unfold`."""

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            f(x).mT.unflatten(2, (2, 3)) for f in (self.query, self.key, self.value)
        )
        key, value = (
            F.unfold(t, 3, padding=1).view(-1, WIDTH, 9, TOKENS) for t in (key, value)
        )  # each of the window's nine places, for each token
        there = F.unfold(torch.ones(1, 1, 2, 3), 3, padding=1)[0] > 0
        scores = (query.flatten(2).unsqueeze(2) * key).sum(1)
        weights = noted(scores.masked_fill(~there, -1e9).softmax(1), self.place)
        return self.out((weights.unsqueeze(1) * value).sum(2).mT)

    @staticmethod
    def place(weights: Tensor) -> Tensor:
        numbers = F.unfold(torch.arange(1.0, 7.0).view(1, 1, 2, 3), 3, padding=1)[0].long()
        full = weights.new_zeros(len(weights), TOKENS, TOKENS + 1)
        return full.scatter(2, numbers.T.expand(len(weights), -1, -1), weights.mT)[:, None, :, 1:]


FORMS = [
    SlidingWindow, Chunks, AlongRows, Dilated, GatheredKeys, MaskedTop, SpatialReduction,
    Neighbourhood,
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_form_is_what_it_is_by_hand(form: type[nn.Module]) -> None:
    check_classifier(classifier(form))


def test_one_axis_after_the_other() -> None:
    check_classifier(classifier(AlongRows, AlongColumns))
