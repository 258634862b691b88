"""An encoder-decoder of your own, explained: hand-written attention and a head that pools.

    python examples/encoder_decoder.py

The model judges a draft by its source. A learned query gathers the draft's tokens for the verdict, so
that no single token is the readout. Weights are random: a trained model goes through the same one call.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

import fxplain

VOCABULARY, VERDICTS = 50, 3


class Attention(nn.Module):
    """Multi-head attention by matrix products; padded keys and later keys may be masked."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)

    def split(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)

    def forward(self, x: Tensor, context: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
        query = self.split(self.query(x))
        key, value = map(self.split, self.key_value(context).chunk(2, -1))
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
        weights = scores.masked_fill(~allowed, float("-inf")).softmax(-1)
        return self.out((weights @ value).transpose(1, 2).flatten(2)), weights


class Layer(nn.Module):
    """Self-attention, cross-attention where there is a memory, and a feed-forward layer."""

    def __init__(self, width: int, heads: int, *, cross: bool = False) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.cross = Attention(width, heads) if cross else None
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width)
        )

    def forward(
        self, x: Tensor, own: Tensor, memory: Tensor | None = None, real: Tensor | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        normed = self.norms[0](x)
        mixed, found = self.attention(normed, normed, own)
        x, weights = x + mixed, [found]
        if self.cross is not None:
            mixed, found = self.cross(self.norms[1](x), memory, real)
            x = x + mixed
            weights.append(found)
        return x + self.mlp(self.norms[2](x)), weights


class PoolingHead(nn.Module):
    """One learned query attends to the tokens; what it gathers is classified."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, 1, width))
        self.attention, self.classes = Attention(width, 1), nn.Linear(width, classes)

    def forward(self, x: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        pooled, weights = self.attention(self.query.expand(x.shape[0], -1, -1), x, real)
        return self.classes(pooled.squeeze(1)), weights


class DraftJudge(nn.Module):
    """A source is encoded, a draft decoded against it and judged as a whole (0 is padding)."""

    def __init__(self, width: int = 32, heads: int = 4, depth: int = 2) -> None:
        super().__init__()
        self.words, self.positions = nn.Embedding(VOCABULARY, width), nn.Embedding(32, width)
        self.encoder = nn.ModuleList(Layer(width, heads) for _ in range(depth))
        self.decoder = nn.ModuleList(Layer(width, heads, cross=True) for _ in range(depth))
        self.head = PoolingHead(width, VERDICTS)

    def embed(self, ids: Tensor) -> Tensor:
        return self.words(ids) + self.positions(torch.arange(ids.shape[1]))

    def forward(
        self, source: Tensor, draft: Tensor, need_weights: bool = False
    ) -> Tensor | tuple[Tensor, list[Tensor]]:
        in_source, in_draft = (ids.ne(0)[:, None, None] for ids in (source, draft))
        earlier = torch.ones(draft.shape[1], draft.shape[1], dtype=torch.bool).tril() & in_draft
        weights: list[Tensor] = []
        memory, x = self.embed(source), self.embed(draft)
        for layer in self.encoder:
            memory, found = layer(memory, in_source)
            weights += found
        for layer in self.decoder:
            x, found = layer(x, earlier, memory, in_source)
            weights += found
        verdict, found = self.head(x, in_draft)
        return (verdict, [*weights, found]) if need_weights else verdict


def build() -> tuple[nn.Module, dict[str, Tensor]]:
    """The model, two sources and two drafts; the second of each is shorter."""
    torch.manual_seed(0)
    model = DraftJudge().eval()
    source, draft = torch.randint(1, VOCABULARY, (2, 8)), torch.randint(1, VOCABULARY, (2, 5))
    source[1, 6:], draft[1, 4:] = 0, 0
    return model, {"source": source, "draft": draft}


def main() -> None:
    """Explain the verdicts and print what they draw on."""
    explanation = fxplain.explain(*build())
    print(explanation)
    print(explanation.graph)


if __name__ == "__main__":
    main()
