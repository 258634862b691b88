"""A stack of nothing but attention, where the cost of attention is not hidden by anything else."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head self-attention, fused or written out; returns its weights where they are made."""

    def __init__(self, heads: int, width: int, written_out: bool) -> None:
        super().__init__()
        self.heads = heads
        self.written_out = written_out
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        batch, tokens, width = x.shape
        qkv = self.qkv(x).view(batch, tokens, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        weights = None
        if self.written_out:
            weights = (query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5).softmax(dim=-1)
            mixed = weights @ value
        else:
            mixed = F.scaled_dot_product_attention(query, key, value)
        return self.out(mixed.transpose(1, 2).reshape(batch, tokens, width)), weights


class Layer(nn.Module):
    def __init__(self, heads: int, width: int, written_out: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = Attention(heads, width, written_out)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.attention(self.norm(x))[0]


class AttentionStack(nn.Module):
    """Features (batch, tokens, width) to classes, read from the first token."""

    def __init__(
        self, layers: int, heads: int, width: int, classes: int, written_out: bool
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(heads, width, written_out) for _ in range(layers))
        self.head = nn.Linear(width, classes)

    def forward(self, features: Tensor) -> Tensor:
        for layer in self.layers:
            features = layer(features)
        return self.head(features[:, 0])
