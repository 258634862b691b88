"""A vision model of your own, explained: attention within (shifted) windows, and a class token.

    python examples/windows.py

Patches attend to the patches of their window; every second layer shifts the windows by half their size.
At the end a class token attends to itself and to all patches, and is classified. Weights are random: a
trained model goes through the same one call.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxplain

IMAGE, PATCH, WINDOW, CLASSES = 32, 4, 4, 6
SIDE = IMAGE // PATCH


def partition(x: Tensor) -> Tensor:
    """(batch, height, width, features) to (batch * windows, patches of a window, features)."""
    batch, height, width, features = x.shape
    x = x.view(batch, height // WINDOW, WINDOW, width // WINDOW, WINDOW, features)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, WINDOW * WINDOW, features)


def join(windows: Tensor, batch: int) -> Tensor:
    """The reverse of `partition`."""
    count = SIDE // WINDOW
    x = windows.view(batch, count, count, WINDOW, WINDOW, -1)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(batch, SIDE, SIDE, -1)


def shift_mask(shift: int) -> Tensor:
    """(windows, 1, queries, keys): which patches of a shifted window were neighbours before."""
    part = torch.zeros(SIDE)
    part[-WINDOW:-shift], part[-shift:] = 1, 2
    region = partition((3 * part[:, None] + part)[None, :, :, None]).squeeze(-1)
    return (region[:, :, None] == region[:, None, :]).unsqueeze(1)


class Attention(nn.Module):
    """Multi-head attention of `x` to `context`, with an optional bias for each pair."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.query = heads, nn.Linear(width, width)
        self.key_value, self.out = nn.Linear(width, 2 * width), nn.Linear(width, width)

    def forward(self, x: Tensor, context: Tensor, bias: Tensor | None = None) -> Tensor:
        query, key, value = (
            y.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for y in (self.query(x), *self.key_value(context).chunk(2, -1))
        )
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return self.out(mixed.transpose(1, 2).flatten(2))


class WindowLayer(nn.Module):
    """Attention within windows with a learned bias for each pair of places, and an MLP."""

    def __init__(self, width: int, heads: int, shift: int) -> None:
        super().__init__()
        self.shift, self.attention = shift, Attention(width, heads)
        self.bias = nn.Parameter(torch.randn(heads, WINDOW**2, WINDOW**2) / 4)
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        if shift:
            self.register_buffer("mask", shift_mask(shift))

    def forward(self, x: Tensor) -> Tensor:
        shifted = self.norm_attention(x).roll((-self.shift, -self.shift), (1, 2))
        windows, bias = partition(shifted), self.bias
        if self.shift:
            bias = torch.where(self.mask, bias, float("-inf")).repeat(x.shape[0], 1, 1, 1)
        mixed = join(self.attention(windows, windows, bias), x.shape[0])
        x = x + mixed.roll((self.shift, self.shift), (1, 2))
        return x + self.mlp(self.norm_mlp(x))


class WindowTransformer(nn.Module):
    """Classifies an image from a class token that looks at all patches."""

    def __init__(self, width: int = 32, heads: int = 4, depth: int = 2) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, PATCH, PATCH)
        self.layers = nn.ModuleList(
            WindowLayer(width, heads, shift=i % 2 * WINDOW // 2) for i in range(depth)
        )
        self.class_token = nn.Parameter(torch.randn(1, 1, width))
        self.class_attention, self.norm = Attention(width, heads), nn.LayerNorm(width)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image).permute(0, 2, 3, 1)
        for layer in self.layers:
            x = layer(x)
        token = self.class_token.expand(x.shape[0], -1, -1)
        everything = self.norm(torch.cat([token, x.flatten(1, 2)], 1))
        token = token + self.class_attention(everything[:, :1], everything)
        return self.head(token.squeeze(1))


def build() -> tuple[nn.Module, dict[str, Tensor]]:
    """The model and two images."""
    torch.manual_seed(0)
    return WindowTransformer().eval(), {"image": torch.rand(2, 3, IMAGE, IMAGE)}


def main() -> None:
    """Explain the predicted classes and print what they draw on."""
    explanation = fxplain.explain(*build())
    print(explanation)
    print(explanation.graph)


if __name__ == "__main__":
    main()
