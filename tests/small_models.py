"""Hand-written small transformers, for tests that need to know every line of the model."""

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.architectures import CASES
from tests.architectures.case import Inputs

BY_NAME = {case.name: case for case in CASES}
VOCABULARY = 30


class Attention(nn.Module):
    """Multi-head attention of queries (batch, s, width) to keys (batch, q, width)."""

    def __init__(self, width: int = 16, heads: int = 2, *, fused: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.fused = fused
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        q, k, v = (
            project(y).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for project, y in ((self.query, x), (self.key, context), (self.value, context))
        )
        if mask is not None:
            mask = mask[:, None, None].bool()
        if self.fused:
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        else:
            scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
            if mask is not None:
                scores = scores.masked_fill(~mask, float("-inf"))
            mixed = scores.softmax(-1) @ v
        return self.out(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Pre-norm: attention and a feed-forward layer, each added to the residual stream."""

    def __init__(self, width: int = 16, heads: int = 2, *, fused: bool = True) -> None:
        super().__init__()
        self.attention = Attention(width, heads, fused=fused)
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(0.1), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        normed = self.norm_1(x)
        x = x + self.attention(normed, normed, mask)
        return x + self.feed_forward(self.norm_2(x))


class TextEncoder(nn.Module):
    """Words plus positions, then blocks."""

    def __init__(
        self, width: int = 16, heads: int = 2, depth: int = 1, *, fused: bool = True
    ) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, width)
        self.positions = nn.Embedding(64, width)
        self.blocks = nn.ModuleList(Block(width, heads, fused=fused) for _ in range(depth))

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        x = self.words(input_ids)
        x = x + self.positions(torch.arange(input_ids.shape[1], device=input_ids.device))
        for block in self.blocks:
            x = block(x, attention_mask)
        return x


class TextClassifier(nn.Module):
    """Five classes, read from the first token."""

    def __init__(
        self, width: int = 16, heads: int = 2, depth: int = 1, *, fused: bool = True
    ) -> None:
        super().__init__()
        self.encoder = TextEncoder(width, heads, depth, fused=fused)
        self.head = nn.Linear(width, 5)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        return self.head(self.encoder(input_ids, attention_mask)[:, 0])


class ImageClassifier(nn.Module):
    """Patches of 4 by 4 pixels, a CLS before them and registers behind; read from the CLS."""

    def __init__(self, width: int = 16, depth: int = 1, registers: int = 0) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.cls_token = nn.Parameter(torch.randn(1, 1, width))
        self.registers = nn.Parameter(torch.randn(1, registers, width))
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.head = nn.Linear(width, 5)

    def forward(self, pixel_values: Tensor) -> Tensor:
        x = self.patches(pixel_values).flatten(2).transpose(1, 2)
        cls, registers = (p.expand(x.shape[0], -1, -1) for p in (self.cls_token, self.registers))
        x = torch.cat([cls, x, registers], 1)
        for block in self.blocks:
            x = block(x)
        return self.head(x[:, 0])


def seeded(make: type[nn.Module], *args: object, seed: int = 0, **kwargs: object) -> nn.Module:
    """A model in eval mode with seeded weights, attention sharper than at a usual start."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = make(*args, **kwargs)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(2.0)
    return model.eval()


def words(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(1, VOCABULARY, shape, generator=torch.Generator().manual_seed(seed))


def pixels(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*(shape or (2, 3, 8, 8)), generator=torch.Generator().manual_seed(seed))


@cache
def architecture(
    name: str, implementation: str | None = None, dtype: torch.dtype = torch.float32
) -> tuple[nn.Module, Inputs]:
    """A tiny model of a well-known architecture and inputs for two samples, made once."""
    case = BY_NAME[name]
    return case.make(implementation or case.implementations[-1], dtype)
