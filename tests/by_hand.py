"""Plain attention that keeps its weights, and the rule by hand for it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import fxplain

WIDE, HEADS = 16, 2


def split(x: Tensor) -> Tensor:
    return x.unflatten(-1, (HEADS, -1)).transpose(1, 2)


def joined(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)


class Attention(nn.Module):
    """Self- or cross-attention that keeps its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(WIDE, WIDE) for _ in range(4))
        self.kept: Tensor | None = None

    def forward(self, x: Tensor, of: Tensor | None = None) -> Tensor:
        of = x if of is None else of
        scores = split(self.q(x)) @ split(self.k(of)).mT / 8**0.5
        self.kept = scores.softmax(-1)
        return self.o(joined(self.kept @ split(self.v(of))))


def heard(model: nn.Module, inputs: tuple[Tensor, ...], of: list[Attention]) -> list[Tensor]:
    """Equation 5 for each attention, (batch, queries, keys), for class 1."""
    score = model(*inputs)[:, 1].sum()
    maps = [attention.kept for attention in of]
    gradients = torch.autograd.grad(score, maps)
    return [(g * a).clamp(min=0).mean(1).detach() for g, a in zip(gradients, maps, strict=True)]


def explained(model: nn.Module, inputs: tuple[Tensor, ...]) -> fxplain.Explanation:
    """The batch's explanation, which must be that of its first sample alone, too."""
    e = fxplain.explain(model, inputs, target=1)
    alone = fxplain.explain(model, tuple(x[:1] for x in inputs), target=1)
    assert list(alone.relevance) == list(e.relevance)
    for name, relevance in alone.relevance.items():
        torch.testing.assert_close(relevance, e.relevance[name][:1], atol=1e-5, rtol=1e-4)
    return e


class OverWords(nn.Module):
    """Words, an attention and a head; what is done with them is a subclass's."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.attention, self.head = (
            nn.Embedding(30, WIDE),
            Attention(),
            nn.Linear(WIDE, 3),
        )
