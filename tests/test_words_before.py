"""Words that are looked up in several tables, or with the words before them: a row is one word's."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from tests.by_hand import WIDE, Attention, OverWords, explained, heard
from tests.small_models import seeded

N = 6


class Pairs(OverWords):
    """Words, and vectors of each with the one before it, or of that alone."""

    def __init__(self, of: Callable[[Tensor, Tensor], Tensor], put: str) -> None:
        super().__init__()
        self.two, self.of, self.put = nn.Embedding(900, WIDE), of, put

    def forward(self, ids: Tensor) -> Tensor:
        before = ids.roll(1, 1) if self.put == "rolled" else pad(ids, (1, 0))[:, :-1]
        own, two = self.words(ids), self.two(self.of(ids, before))
        x = two if self.put == "alone" else two + own if self.put == "behind" else own + two
        return self.head((x + self.attention(x))[:, -1])


@pytest.mark.parametrize(
    ("of", "put"),
    [
        (lambda ids, before: (ids * 31 + before * 7) % 900, "before"),
        (lambda ids, before: (ids * 31 + before * 7) % 900, "behind"),
        (lambda ids, before: before * 30 + ids, "alone"),
        (lambda ids, before: before, "before"),
        (lambda ids, before: before, "rolled"),
    ],
    ids=["hashed", "hashed first", "pairs alone", "the one before", "rolled"],
)
def test_a_row_is_its_own_word_s(of: Callable[[Tensor, Tensor], Tensor], put: str) -> None:
    model, ids = seeded(Pairs, of, put), torch.randint(0, 30, (2, N))
    e = explained(model, (ids,))
    (own,) = heard(model, (ids,), [model.attention])
    by_hand = (torch.eye(N) + own)[:, -1]
    torch.testing.assert_close(e.relevance["ids"], by_hand, atol=1e-5, rtol=1e-4)


class Streams(nn.Module):
    """Two vectors of each word as streams before the batch, which learned weights mix (AltUp)."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Embedding(30, WIDE), nn.Embedding(30, WIDE)
        self.layers = nn.ModuleList(Attention() for _ in range(2))
        self.mix, self.back = nn.Parameter(torch.randn(2, 2, 2)), nn.Parameter(torch.randn(2, 2))
        self.head = nn.Linear(WIDE, 3)

    def forward(self, ids: Tensor) -> Tensor:
        streams = torch.stack([self.one(ids), self.two(ids)])
        for attention, mix, back in zip(self.layers, self.mix, self.back, strict=True):
            mixed = torch.einsum("ij,jbnd->ibnd", mix, streams)
            heard = mixed[0] + attention(mixed[0])
            streams = mixed + back[:, None, None, None] * (heard - mixed[0])
        return self.head(streams.mean(0)[:, 2])


def test_streams_of_a_word_s_vectors_are_one_word() -> None:
    model, ids = seeded(Streams), torch.randint(0, 30, (2, N))
    e = explained(model, (ids,))
    by_hand = torch.eye(N)
    for own in heard(model, (ids,), list(model.layers)):
        by_hand = by_hand + own @ by_hand
    torch.testing.assert_close(e.relevance["ids"], by_hand[:, 2], atol=1e-5, rtol=1e-4)
    assert e.graph.warnings == ()


class NextWord(OverWords):
    """Each word's state joined with the next word, which is looked up anew (multi-token prediction)."""

    def __init__(self, added: bool) -> None:
        super().__init__()
        self.join, self.second, self.added = nn.Linear(2 * WIDE, WIDE), Attention(), added

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        x, after = (x + self.attention(x))[:, :-1], self.words(ids)[:, 1:]
        h = x + after if self.added else self.join(torch.cat([x, after], -1))
        return self.head((h + self.second(h))[:, -1])


@pytest.mark.parametrize("added", [False, True])
def test_the_next_word_looked_up_anew_is_half_of_its_row(added: bool) -> None:
    model, ids = seeded(NextWord, added), torch.randint(0, 30, (2, N))
    e = explained(model, (ids,))
    first, second = heard(model, (ids,), [model.attention, model.second])
    own, after = (torch.eye(N) + first)[:, :-1], torch.eye(N)[1:]
    rows = (own + after) / 2
    by_hand = (rows + second @ rows)[:, -1]
    torch.testing.assert_close(e.relevance["ids"], by_hand.detach(), atol=1e-5, rtol=1e-4)
    assert e.graph.warnings == ()


class TwoWords(OverWords):
    """A word's state beside another word, which is looked up anew."""

    def __init__(self, of: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.of = of

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        return self.head(self.of((x + self.attention(x))[:, 0], self.words(ids)[:, 1]))


@pytest.mark.parametrize(
    ("of", "share"), [(lambda x, y: x * y, 1), (lambda x, y: x + y, 0.5), (lambda x, y: x - y, 0.5)],
    ids=["product", "sum", "difference"],
)  # fmt: skip
def test_another_word_looked_up_anew_is_read_beside(
    of: Callable[[Tensor, Tensor], Tensor], share: float
) -> None:
    model, ids = seeded(TwoWords, of), torch.randint(0, 30, (2, N))
    e = explained(model, (ids,))
    (own,) = heard(model, (ids,), [model.attention])
    by_hand = share * ((torch.eye(N) + own)[:, 0] + torch.eye(N)[1])
    torch.testing.assert_close(e.relevance["ids"], by_hand, atol=1e-5, rtol=1e-4)
    assert e.graph.warnings == ()
