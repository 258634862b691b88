"""What is read of a sample is that sample's, alone as in a batch, wherever the samples lie."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

import fxplain
from tests.by_hand import WIDE, OverWords, explained, heard
from tests.small_models import seeded

N = 6


class WordsFirst(OverWords):
    """Logits of each word with the samples on another axis than the first, or folded away."""

    def __init__(self, flat: bool) -> None:
        super().__init__()
        self.flat = flat

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        x = self.head(x + self.attention(x))
        return x.flatten(0, 1) if self.flat else x.transpose(0, 1)


def test_logits_of_words_first_are_of_the_sample() -> None:
    model, ids = seeded(WordsFirst, False), torch.randint(0, 30, (2, N))
    e = explained(model, (ids,))
    x = model(ids)[-1, :, 1].sum()
    (gradient,) = torch.autograd.grad(x, model.attention.kept)
    by_hand = torch.eye(N) + (gradient * model.attention.kept).clamp(min=0).mean(1)
    torch.testing.assert_close(e.relevance["ids"], by_hand[:, -1], atol=1e-5, rtol=1e-4)


def test_words_folded_with_samples_are_no_samples() -> None:
    model, ids = seeded(WordsFirst, True), torch.randint(0, 30, (2, N))
    alone = fxplain.explain(model, (ids[:1],), target=(2, 1))
    assert alone.relevance["ids"].shape == (1, N)
    assert alone.readout == ("ids[2]",)
    with pytest.raises(fxplain.TargetError, match="they lie folded in one"):
        fxplain.explain(model, (ids,), target=1)


class WordsFirstLayer(nn.Module):
    """PyTorch's own attention as it is: words come first."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(30, WIDE), nn.Linear(WIDE, 3)
        self.attention = nn.MultiheadAttention(WIDE, 2)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        return self.head((x + self.attention(x, x, x)[0])[0])


def test_one_word_of_several_samples_is_asked_about() -> None:
    model, ids = seeded(WordsFirstLayer), torch.randint(0, 30, (1, 3))
    with pytest.raises(fxplain.TargetError, match="batch_axis=1 where tokens come first"):
        fxplain.explain(model, (ids,), target=1)
    assert fxplain.explain(model, (ids,), target=1, batch_axis=1).relevance["ids"].shape == (3, 1)


class Packed(OverWords):
    """Words without their padding, in one row, and put back."""

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        real = mask.bool()
        rows = self.words(ids[real])
        x = rows.new_zeros(*ids.shape, WIDE)
        x[real] = rows
        x = (x + self.attention(x)) * mask.unsqueeze(-1)
        return self.head(x.sum(1) / mask.sum(1, keepdim=True))


def test_packed_words_keep_their_positions() -> None:
    model, ids = seeded(Packed), torch.randint(0, 30, (2, N))
    mask = torch.tensor([[1, 0, 1, 1, 0, 0], [1] * N])
    e = explained(model, (ids, mask))
    (own,) = heard(model, (ids, mask), [model.attention])
    share = mask / mask.sum(1, keepdim=True)
    by_hand = (share.unsqueeze(1) @ (torch.eye(N) + own * mask.unsqueeze(1))).squeeze(1)
    torch.testing.assert_close(e.relevance["ids"], by_hand, atol=1e-5, rtol=1e-4)


class AcrossSamples(OverWords):
    """A statistic of the batch in what each sample says."""

    def __init__(self, of_words: Callable[[Tensor], Tensor], of_scores: Callable[[Tensor], Tensor]):
        super().__init__()
        self.of_words, self.of_scores = of_words, of_scores

    def forward(self, ids: Tensor) -> Tensor:
        x = self.of_words(self.words(ids))
        return self.of_scores(self.head((x + self.attention(x))[:, 0]))


@pytest.mark.parametrize(
    ("of_words", "of_scores"),
    [
        (lambda x: x - x.mean(0), lambda y: y),
        (lambda x: x, lambda y: y - y.mean(0)),
        (lambda x: x, lambda y: normalize(y, dim=0)),
    ],
    ids=["words", "scores", "norm"],
)
def test_a_statistic_of_the_batch_is_warned_of(
    of_words: Callable[[Tensor], Tensor], of_scores: Callable[[Tensor], Tensor]
) -> None:
    model = seeded(AcrossSamples, of_words, of_scores)
    e = fxplain.explain(model, (torch.randint(0, 30, (2, N)),), target=1)
    assert any("all samples of the batch" in warning for warning in e.graph.warnings)


class TurnedAbout(OverWords):
    """Samples in another order inside (as where they are sorted by length), and back."""

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids.flip(0))
        return self.head((x + self.attention(x))[:, 0]).flip(0)


@pytest.mark.parametrize("method", ["generic", "rollout"])
def test_matrices_of_samples_in_another_order(method: str) -> None:
    model, ids = seeded(TurnedAbout), torch.randint(0, 30, (2, N))
    e = fxplain.explain(model, (ids,), target=1, method=method)
    torch.testing.assert_close(e.matrix("ids", "ids")[:, 0], e.relevance["ids"])
    alone = fxplain.explain(model, (ids[:1],), target=1, method=method)
    torch.testing.assert_close(e.relevance["ids"][:1], alone.relevance["ids"])
