"""Branches over one input: their features are those of one token, however they are put together."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import fxplain
from tests.by_hand import WIDE, Attention, OverWords, explained, heard
from tests.small_models import seeded


class Branches(nn.Module):
    """Convolutions over one series, whose features are those of one token a step."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Conv1d(4, 4, k, 4, padding=k // 2) for k in (3, 5, 7, 9))
        self.first = nn.Parameter(torch.randn(1, 1, WIDE))
        self.attention, self.head, self.form = Attention(), nn.Linear(WIDE, 3), form

    def forward(self, series: Tensor) -> Tensor:
        parts = [branch(series).mT for branch in self.branches]
        if self.form == "beside":
            x = torch.cat(parts, -1)
        else:
            x = torch.stack(parts, 2 if self.form == "stacked" else 3).flatten(2)
        x = torch.cat([self.first.expand(len(x), -1, -1), x], 1)
        return self.head((x + self.attention(x))[:, 1])


@pytest.mark.parametrize("form", ["beside", "stacked", "interleaved"])
def test_features_that_are_stacked_are_features_of_one_token(form: str) -> None:
    model, series = seeded(Branches, form), torch.randn(2, 4, 12)
    e = explained(model, (series,))
    (own,) = heard(model, (series,), [model.attention])
    by_hand = (torch.eye(4) + own)[:, 1]  # the class token and three steps
    torch.testing.assert_close(e.relevance["series"], by_hand, atol=1e-5, rtol=1e-4)
    assert e.graph.warnings == ()


class Channels(nn.Module):
    """Branches whose channels are put together before a convolution of groups of channels."""

    def __init__(self) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Conv1d(4, 4, k, padding=k // 2) for k in (1, 3, 5, 7))
        self.grouped = nn.Conv1d(WIDE, WIDE, 4, 4, groups=4)
        self.attention, self.after = Attention(), nn.Conv1d(2 * WIDE, WIDE, 1, groups=2)
        self.head = nn.Linear(WIDE, 3)

    def forward(self, series: Tensor) -> Tensor:
        x = self.grouped(torch.cat([branch(series) for branch in self.branches], 1)).mT
        both = torch.cat(
            [x.mT, self.attention(x).mT], 1
        )  # groups of channels, each of one of the two
        return self.head(self.after(both)[..., 1])


def test_channels_of_branches_are_features_of_one_token() -> None:
    model, series = seeded(Channels), torch.randn(2, 4, 12)
    e = explained(model, (series,))
    (own,) = heard(model, (series,), [model.attention])
    by_hand = (torch.eye(3) + own)[:, 1]
    torch.testing.assert_close(e.relevance["series"], by_hand, atol=1e-5, rtol=1e-4)
    assert e.graph.warnings == ()


class MadeWeights(OverWords):
    """A layer whose weights are made of other weights."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form
        if form == "orthogonal":
            nn.utils.parametrizations.orthogonal(self.attention.v)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        x = x + self.attention(x)
        weight = self.head.weight
        if self.form == "kept short":
            weight = torch.renorm(weight, 2, 1, 0.1)
        return torch.nn.functional.linear(x[:, 0], weight)


@pytest.mark.parametrize("form", ["orthogonal", "kept short"])
def test_weights_that_are_made_of_weights_are_no_tokens(form: str) -> None:
    model, ids = seeded(MadeWeights, form), torch.randint(0, 30, (2, 7))
    e = explained(model, (ids,))
    (own,) = heard(model, (ids,), [model.attention])
    assert list(e.relevance) == ["ids"]
    assert e.graph.warnings == ()
    torch.testing.assert_close(e.relevance["ids"], (torch.eye(7) + own)[:, 0], atol=1e-5, rtol=1e-4)
    assert fxplain.verify(model, (ids,)).ok


class TwoHeads(OverWords):
    """Classes of the first word, of all words' mean, and of the first again, in one output."""

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        x = x + self.attention(x)
        first, every = x[:, 0], x.mean(1)
        return torch.cat([self.head(first), self.head(every), self.head(-first)], -1)


@pytest.mark.parametrize(
    ("columns", "readout"),
    [
        ([1], "ids[0]"),
        ([8], "ids[0]"),
        ([3], "mean of ids[0..6]"),
        ([0, 1, 4, 5], "ids[0] and mean of ids[0..6]"),
    ],
)
def test_heads_in_one_output_are_read_by_themselves(columns: list[int], readout: str) -> None:
    model, ids = seeded(TwoHeads), torch.randint(0, 30, (2, 7))
    score, weights = model(ids)[:, columns].sum(), model.attention.kept
    (slope,) = torch.autograd.grad(score, weights)
    every = torch.eye(7) + (slope * weights).clamp(min=0).mean(1)
    by_hand = every[:, 0] * ("ids[0]" in readout) + every.mean(1) * ("mean" in readout)
    e = fxplain.explain(model, (ids,), target=lambda y: y[:, columns].sum(1))
    assert e.readout == (readout, readout)
    torch.testing.assert_close(e.relevance["ids"], by_hand, atol=1e-5, rtol=1e-4)
    if len(columns) == 1:
        one = fxplain.explain(model, (ids,), target=columns[0])
        torch.testing.assert_close(one.relevance, e.relevance)


class Scales(OverWords):
    """Single numbers that are stacked, and laid out to scale the words."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.7))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        scales = torch.stack([self.scale, 1 - self.scale]).reshape(2, 1)
        return self.head((x * scales.sum() + self.attention(x))[:, 0])


def test_single_numbers_that_are_stacked() -> None:
    model, ids = seeded(Scales), torch.randint(0, 30, (2, 7))
    e = explained(model, (ids,))
    (own,) = heard(model, (ids,), [model.attention])
    torch.testing.assert_close(e.relevance["ids"], (torch.eye(7) + own)[:, 0], atol=1e-5, rtol=1e-4)


class Parted(OverWords):
    """An attention of four heads that are computed in two parts, with other keys in each."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form, self.kept = form, list[Tensor]()

    def part(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        self.kept.append((q @ k.mT).softmax(-1))
        return self.kept[-1] @ v

    def forward(self, ids: Tensor) -> Tensor:
        x, a, self.kept = self.words(ids), self.attention, []
        q, k, v = (f(x).unflatten(-1, (4, -1)).transpose(1, 2) for f in (a.q, a.k, a.v))
        if self.form == "unequal":
            heard = [self.part(q[:, own], k[:, own], v[:, own]) for own in (slice(1), slice(1, 4))]
        elif self.form == "pooled":
            pooled = x.unflatten(1, (-1, 2)).mean(2)
            k_, v_ = (f(pooled).unflatten(-1, (4, -1)).transpose(1, 2)[:, 2:] for f in (a.k, a.v))
            heard = [self.part(q[:, :2], k[:, :2], v[:, :2]), self.part(q[:, 2:], k_, v_)]
        else:
            q, k, v = (t.unflatten(2, (3, 2)) for t in (q, k, v))  # three rows of two
            rows = self.part(q[:, :2], k[:, :2], v[:, :2])
            columns = self.part(*(t[:, 2:].transpose(2, 3) for t in (q, k, v))).transpose(2, 3)
            heard = [rows.flatten(2, 3), columns.flatten(2, 3)]
        x = x + a.o(torch.cat(heard, 1).transpose(1, 2).flatten(2))
        return self.head(x[:, 0])


@pytest.mark.parametrize("form", ["unequal", "pooled", "rows and columns"])
def test_heads_in_parts_are_those_of_one_attention(form: str) -> None:
    model, ids = seeded(Parted, form), torch.randint(0, 30, (2, 6))
    score = model(ids)[:, 1].sum()
    slopes = torch.autograd.grad(score, model.kept)
    first, second = (
        (slope * kept).clamp(min=0).detach() for slope, kept in zip(slopes, model.kept, strict=True)
    )
    if form == "pooled":
        second = second @ torch.kron(torch.eye(3), torch.full((1, 2), 0.5))
    if form == "rows and columns":
        of_rows, of_columns = (torch.zeros(2, 2, 3, 2, 3, 2) for _ in range(2))
        for row in range(3):
            of_rows[:, :, row, :, row] = first[:, :, row]
        for column in range(2):
            of_columns[:, :, :, column, :, column] = second[:, :, column]
        first, second = (t.reshape(2, 2, 6, 6) for t in (of_rows, of_columns))
    by_hand = (torch.eye(6) + torch.cat([first, second], 1).mean(1))[:, 0]
    e = explained(model, (ids,))
    torch.testing.assert_close(e.relevance["ids"], by_hand, atol=1e-5, rtol=1e-4)
    assert e.graph.warnings == ()


MEMBERS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "stacked": lambda x, own: torch.stack([x + one for one in own]),
    "expanded": lambda x, own: x[None].expand(3, -1, -1, -1) + own[:, None, None],
    "repeated": lambda x, own: x.repeat(3, 1, 1, 1) + own[:, None, None],
    "added": lambda x, own: x + own[:, None, None],
    "in the batch": lambda x, own: (x[None].expand(3, -1, -1, -1) + own[:, None, None]).flatten(
        0, 1
    ),
}


class Members(OverWords):
    """Three members that each add a vector of their own to the words, side by side; their mean."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.own, self.form = nn.Parameter(torch.randn(3, WIDE)), form

    def forward(self, ids: Tensor) -> Tensor:
        x, a = MEMBERS[self.form](self.words(ids), self.own), self.attention
        q, k, v = (f(x).unflatten(-1, (2, -1)).transpose(-2, -3) for f in (a.q, a.k, a.v))
        heard = (q @ k.mT).softmax(-1) @ v
        x = x + a.o(heard.transpose(-2, -3).flatten(-2))
        return self.head(x[..., 0, :]).reshape(3, len(ids), -1).mean(0)


@pytest.mark.parametrize("form", MEMBERS)
def test_members_side_by_side_are_no_heads(form: str) -> None:
    model, ids = seeded(Members, form), torch.randint(0, 30, (2, 5))
    by_hand = 0
    for one in model.own.detach():
        x, a = model.words(ids) + one, model.attention
        q, k, v = (f(x).unflatten(-1, (2, -1)).transpose(-2, -3) for f in (a.q, a.k, a.v))
        kept = (q @ k.mT).softmax(-1)
        heard = (kept @ v).transpose(-2, -3).flatten(-2)
        score = model.head((x + a.o(heard))[:, 0])[:, 1].sum() / 3
        (slope,) = torch.autograd.grad(score, kept)
        by_hand = by_hand + (slope * kept).clamp(min=0).mean(1).detach()[:, 0]
    by_hand = by_hand + torch.eye(5)[0]
    e = explained(model, (ids,))
    torch.testing.assert_close(e.relevance["ids"], by_hand, atol=1e-5, rtol=1e-4)


class InOneBatch(OverWords):
    """Two runs of one attention, apart or in one batch: with other keys, or the words turned about."""

    def __init__(self, form: str, *, apart: bool) -> None:
        super().__init__()
        self.form, self.apart, self.null = form, apart, nn.Parameter(torch.randn(1, 3, WIDE))

    def forward(self, ids: Tensor, text: Tensor) -> Tensor:
        x, a = self.words(ids), self.attention
        if self.form == "guided":
            runs = [(x, self.words(text)), (x, self.null.expand(len(x), -1, -1))]
        else:
            runs = [(x, x), (x.flip(1), x.flip(1))]
        if self.apart:
            one, two = (own + a(own, keys) for own, keys in runs)
        else:
            both, keys = (torch.cat(parts) for parts in zip(*runs, strict=True))
            one, two = (both + a(both, keys)).chunk(2)
        return self.head(
            (one + 3 * (two - one))[:, 0] if self.form == "guided" else one[:, 0] + two[:, 0]
        )


@pytest.mark.parametrize("form", ["guided", "turned"])
def test_two_runs_in_one_batch_are_two_runs(form: str) -> None:
    model, plain = (seeded(lambda own: InOneBatch(form, apart=own), own) for own in (False, True))
    inputs = torch.randint(0, 30, (2, 4)), torch.randint(0, 30, (2, 3))
    want, e = explained(plain, inputs), explained(model, inputs)
    for name, relevance in want.relevance.items():
        torch.testing.assert_close(e.relevance[name], relevance, atol=1e-5, rtol=1e-4)


class Blocks(OverWords):
    """Keys by blocks, each of which every block of queries sees: repeated keys are no copies."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, ids: Tensor) -> Tensor:
        x, a = self.words(ids), self.attention
        q, k, v = (f(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for f in (a.q, a.k, a.v))
        q, k, v = (t.unflatten(2, (4, 2)) for t in (q, k, v))
        seen = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0], [2, 3, 0, 1], [3, 0, 1, 2]])
        k, v = (t[:, :, seen].flatten(3, 4) for t in (k, v))
        a.kept = (q @ k.mT).softmax(-1)
        y = (a.kept @ v).flatten(2, 3).transpose(1, 2).flatten(2)
        return self.head((x + a.o(y))[:, 0])


@pytest.mark.parametrize("heads", [2, 4])
def test_keys_that_every_block_sees_are_no_copies(heads: int) -> None:
    model, ids = seeded(Blocks, heads), torch.randint(0, 30, (2, 8))
    (own,) = heard(model, (ids,), [model.attention])  # (batch, blocks, queries, keys)
    by_hand = torch.eye(8)[0] + own[:, 0, 0]
    e = explained(model, (ids,))
    torch.testing.assert_close(e.relevance["ids"], by_hand, atol=1e-5, rtol=1e-4)
