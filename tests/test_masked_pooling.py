"""What multiplies a token's row belongs to it: a sum over rows reads each by its factor."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxplain
from tests.small_models import VOCABULARY, seeded, words

WIDTH, LENGTH = 8, 7
ODD = torch.tensor([1.0, 0, 1, 0, 1, 0, 1])
RISING = torch.arange(1.0, LENGTH + 1)

Pool = Callable[[Tensor, Tensor], Tensor]
"""From words (batch, words, width) and the mask (batch, words) to (batch, width)."""


def column(mask: Tensor) -> Tensor:
    return mask.float().unsqueeze(-1)


def in_place(x: Tensor, mask: Tensor) -> Tensor:
    x = x.clone()
    x[mask == 0] = 0
    return x.sum(1)


def expanded(x: Tensor, mask: Tensor) -> Tensor:
    wide = mask.unsqueeze(-1).expand(x.size()).float()
    return (x * wide).sum(1) / wide.sum(1).clamp(min=1e-9)


MASKED: dict[str, Pool] = {
    "product and sum": lambda x, m: (x * column(m)).sum(1) / column(m).sum(1),
    "mask of the value's size": expanded,
    "masked_fill": lambda x, m: x.masked_fill(column(m) == 0, 0.0).sum(1) / column(m).sum(1),
    "where": lambda x, m: torch.where(column(m) > 0, x, torch.zeros_like(x)).sum(1),
    "where the other way": lambda x, m: torch.where(column(m) == 0, 0.0, x).mean(1),
    "in place": in_place,
    "matrix product": lambda x, m: (column(m) / column(m).sum(1, keepdim=True)).mT.bmm(x)[:, 0],
    "einsum": lambda x, m: torch.einsum("bsd,bs->bd", x, m.float()),
    "divided before the sum": lambda x, m: (x * column(m) / column(m).sum(1, keepdim=True)).sum(1),
    "booleans": lambda x, m: (x * m.bool().unsqueeze(-1)).sum(1),
    "a step between": lambda x, m: torch.tanh(x * column(m)).sum(1),
    "a norm between": lambda x, m: (F.layer_norm(x * column(m), (WIDTH,)) * column(m)).sum(1),
    "turned": lambda x, m: (x * column(m)).mT.sum(-1),
    "sequence first": lambda x, m: (x.transpose(0, 1) * column(m).transpose(0, 1)).sum(0),
    "average pooling": lambda x, m: F.adaptive_avg_pool1d((x * column(m)).mT, 1)[..., 0],
    "a masked gate": lambda x, m: (x * (torch.sigmoid(x.mean(-1, keepdim=True)) * column(m))).sum(
        1
    ),
    "a mask that is added": lambda x, m: (x + (1 - column(m)) * -1e9).amax(1),
    "maximum": lambda x, m: x.masked_fill(column(m) == 0, float("-inf")).amax(1),
}

WEIGHTED: dict[str, tuple[Pool, Tensor]] = {
    "every other row": (lambda x, m: x[:, ::2].sum(1), ODD),
    "a constant mask": (lambda x, m: (x * ODD[:, None]).sum(1), ODD),
    "weights by position": (lambda x, m: (x * RISING[:, None]).sum(1), RISING),
    "two factors": (lambda x, m: (x * RISING[:, None] * ODD[:, None]).mean(1), RISING * ODD),
    "divided": (lambda x, m: (x / RISING[:, None]).sum(1), 1 / RISING),
}


class Encoder(nn.Module):
    """One attention that hides padding, and a way to pool the words."""

    def __init__(self, pool: Pool) -> None:
        super().__init__()
        self.words, self.head, self.pool = (
            nn.Embedding(VOCABULARY, WIDTH),
            nn.Linear(WIDTH, 3),
            pool,
        )

    def attend(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        x = self.words(input_ids)
        scores = (x @ x.mT / WIDTH**0.5).masked_fill(attention_mask[:, None] == 0, float("-inf"))
        weights = scores.softmax(-1)
        return x + weights @ x, weights

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        x, _ = self.attend(input_ids, attention_mask)
        return self.head(self.pool(x, attention_mask))


def inputs() -> dict[str, Tensor]:
    mask = torch.ones(2, LENGTH, dtype=torch.long)
    mask[1, 4:] = 0
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(1, VOCABULARY, (2, LENGTH), generator=generator)
    return {"input_ids": ids, "attention_mask": mask}


def by_hand(model: Encoder, given: dict[str, Tensor], shares: Tensor) -> Tensor:
    """Equations 5 to 7 for one layer, read by `shares` (batch, words)."""
    x, weights = model.attend(**given)
    weights.retain_grad()
    model.head(model.pool(x, given["attention_mask"]))[:, 1].sum().backward()
    R = torch.eye(LENGTH) + (weights.grad * weights.detach()).clamp(min=0)
    return (shares.unsqueeze(1) @ R)[:, 0] / shares.sum(1, keepdim=True)


@pytest.mark.parametrize("form", MASKED)
@pytest.mark.parametrize("kind", [torch.long, torch.float32])
def test_a_mean_over_real_tokens_reads_these_alone(form: str, kind: torch.dtype) -> None:
    model, given = seeded(Encoder, MASKED[form]), inputs()
    given["attention_mask"] = given["attention_mask"].to(kind)
    expected = by_hand(model, given, given["attention_mask"].float())
    e = fxplain.explain(model, given, target=1)
    assert e.graph.warnings == ()
    assert list(e.relevance) == ["input_ids"]
    torch.testing.assert_close(e.relevance["input_ids"], expected)
    assert not e.relevance["input_ids"][1, 4:].any()
    assert e.readout[1].endswith("input_ids[0..3]")


@pytest.mark.parametrize("form", WEIGHTED)
def test_rows_are_read_by_their_factors(form: str) -> None:
    pool, factors = WEIGHTED[form]
    model, given = seeded(Encoder, pool), inputs()
    e = fxplain.explain(model, given, target=1)
    torch.testing.assert_close(
        e.relevance["input_ids"], by_hand(model, given, factors.expand(2, -1))
    )


def test_another_mask_of_the_same_size_is_another_reading() -> None:
    model, given = seeded(Encoder, MASKED["product and sum"]), inputs()
    first = fxplain.explain(model, given, target=1).relevance["input_ids"]
    other = {**given, "attention_mask": given["attention_mask"].flip(0)}
    second = fxplain.explain(model, other, target=1).relevance["input_ids"]
    assert not second[0, 4:].any()
    assert bool((second[1] > 0).all())
    again = fxplain.explain(model, given, target=1).relevance["input_ids"]
    torch.testing.assert_close(again, first, rtol=0, atol=0)


class PartialSums(nn.Module):
    """The mean of all words as the sum of sums over a part of them each."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(VOCABULARY, 16), nn.Linear(16, 3)
        self.form = form

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = self.words(ids)
        x = (x + (x @ x.mT / 4).softmax(-1) @ x) * mask[..., None]
        if self.form == "every other":
            pooled = x[:, ::2].sum(1) + x[:, 1::2].sum(1)
        elif self.form == "slices":
            pooled = x[:, :1].sum(1) + x[:, 1:3].sum(1) + x[:, 3:].sum(1)
        else:
            pooled = x.sum(1)
        return self.head(pooled / mask.sum(1, keepdim=True))


@pytest.mark.parametrize("form", ["every other", "slices"])
def test_sums_over_parts_are_one_sum(form: str) -> None:
    given = {
        "ids": words(2, 5),
        "mask": torch.tensor([[1.0, 1, 1, 1, 1], [1, 1, 1, 0, 0]]),
    }
    e, want = (fxplain.explain(seeded(PartialSums, f), given, target=1) for f in (form, "all"))
    torch.testing.assert_close(e.output, want.output)
    assert e.graph.warnings == ()
    torch.testing.assert_close(e.relevance["ids"], want.relevance["ids"])


class PickedThenSummed(nn.Module):
    """Two words of each sample, others in each, attend once more; then all are summed by parts."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.words, self.score, self.head = (
            nn.Embedding(VOCABULARY, 16), nn.Linear(16, 1), nn.Linear(16, 3)
        )  # fmt: skip
        self.form = form

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        x = x + (x @ x.mT / 4).softmax(-1) @ x
        at = self.score(x).topk(2, 1).indices.expand(-1, -1, 16)
        few = x.gather(1, at)
        x = x.scatter(1, at, few + (few @ few.mT / 4).softmax(-1) @ few)
        parts = (x[:, ::2].sum(1), x[:, 1::2].sum(1))
        return self.head(x.sum(1) if self.form == "all" else parts[0] + parts[1])


def test_a_part_may_be_one_token_that_samples_have_heard_differently() -> None:
    given = (torch.tensor([[1, 2, 3], [3, 1, 2]]),)
    e, want = (fxplain.explain(seeded(PickedThenSummed, f), given) for f in ("parts", "all"))
    torch.testing.assert_close(e.output, want.output)
    torch.testing.assert_close(e.relevance["ids"], want.relevance["ids"])
