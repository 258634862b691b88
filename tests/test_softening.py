"""GIM: its backward pass against a literal transcription, and why it is there."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import fxplain
from tests.small_models import ImageClassifier, pixels, seeded

IDS = torch.tensor([[3, 1, 4, 1, 5], [2, 6, 5, 3, 5]])
WIDTH = 4


class OneHead(nn.Module):
    """One attention without norms, read from the last word, fused or written out."""

    def __init__(self, *, fused: bool) -> None:
        super().__init__()
        self.fused = fused
        self.words = nn.Embedding(8, WIDTH)
        self.q, self.k, self.v = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(3))
        self.head = nn.Linear(WIDTH, 3, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        q, k, v = self.q(x), self.k(x), self.v(x)
        if self.fused:
            mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        else:
            mixed = (q @ k.transpose(1, 2) / WIDTH**0.5).softmax(-1) @ v
        return self.head(mixed[:, -1])


def model(*, fused: bool) -> OneHead:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = OneHead(fused=fused).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(2)
    return made


def transcribed(made: OneHead, ids: Tensor, target: int, base: int | None = None) -> list[float]:
    """The paper's backward pass, step by step, for one text: embedding times gradient by word.

    With a base, the embedding of that word is taken off first.
    """
    x = made.words.weight[ids].detach()
    wq, wk, wv = (w.weight.detach() for w in (made.q, made.k, made.v))
    q, k, v = x @ wq.T, x @ wk.T, x @ wv.T
    scores = q @ k.T / WIDTH**0.5
    weights, soft = scores.softmax(-1), (scores / 2).softmax(-1)
    mixed = torch.zeros_like(x)
    mixed[-1] = made.head.weight[target].detach()  # what reaches the attention's output
    to_v = weights.T @ (mixed / 2)  # a product of two activations: half to each
    to_weights = (mixed / 2) @ v.T
    to_scores = torch.zeros_like(scores)
    for i in range(len(ids)):
        along = sum(to_weights[i, j] * soft[i, j] for j in range(len(ids)))
        for j in range(len(ids)):
            to_scores[i, j] = soft[i, j] * (to_weights[i, j] - along)
    to_q = (to_scores / 2) @ k / WIDTH**0.5
    to_k = (to_scores / 2).T @ q / WIDTH**0.5
    to_x = to_q @ wq + to_k @ wk + to_v @ wv
    apart = x if base is None else x - made.words.weight[base].detach()
    return (apart * to_x).sum(-1).tolist()


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "written out"])
def test_the_backward_pass_is_that_of_the_paper(fused: bool) -> None:
    made = model(fused=fused)
    how = {"method": "input_x_gradient", "gradients": "corrected"}
    e = fxplain.explain(made, (IDS,), [1, 2], attention="gim", **how)
    wanted = torch.tensor([transcribed(made, ids, t) for ids, t in zip(IDS, (1, 2), strict=True)])
    torch.testing.assert_close(e.relevance["ids"], wanted, atol=1e-5, rtol=1e-4)
    half = fxplain.explain(made, (IDS,), [1, 2], **how)
    assert not torch.allclose(half.relevance["ids"], wanted, atol=1e-3)


def test_each_word_is_compared_with_another() -> None:
    """Of GIM, a space or padding; a word in the place of itself is worth nothing."""
    made = model(fused=True)
    how = {"method": "input_x_gradient", "gradients": "corrected", "attention": "gim"}
    e = fxplain.explain(made, (IDS,), [1, 2], baseline=3, **how)
    wanted = [transcribed(made, ids, t, base=3) for ids, t in zip(IDS, (1, 2), strict=True)]
    torch.testing.assert_close(e.relevance["ids"], torch.tensor(wanted), atol=1e-5, rtol=1e-4)
    assert e.relevance["ids"][IDS == 3].abs().max() == 0
    with pytest.raises(fxplain.MethodError, match="knows 0 to 7"):
        fxplain.explain(made, (IDS,), baseline=8, **how)
    with pytest.raises(fxplain.MethodError, match="reads no words"):
        fxplain.explain(seeded(ImageClassifier), (pixels(1, 3, 8, 8),), baseline=1, **how)


class Seen(nn.Module):
    """Words beside features, read from the first word."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.place = nn.Embedding(8, 4), nn.Parameter(torch.randn(3, 4))
        self.seen, self.head = nn.Linear(5, 4), nn.Linear(4, 3)

    def forward(self, ids: Tensor, features: Tensor) -> Tensor:
        x = torch.cat([self.words(ids) + self.place, self.seen(features)], 1)
        return self.head(x + nn.functional.scaled_dot_product_attention(x, x, x))[:, 0]


def test_what_is_no_word_is_compared_with_nothing() -> None:
    made, given = seeded(Seen), {"ids": IDS[:1, :3], "features": torch.ones(1, 2, 5)}
    how = {"target": 1, "method": "input_x_gradient"}
    other, none = (fxplain.explain(made, given, **how, **o) for o in ({"baseline": 2}, {}))
    torch.testing.assert_close(other.relevance["features"], none.relevance["features"])
    assert bool((other.relevance["ids"] != none.relevance["ids"]).any())
