"""A two-tower network of your own, explained: a question and an image attend to each other.

    python examples/co_attention.py

Plain PyTorch with attention written in einsum; the model knows nothing of fxplain, and fxplain nothing
of the model. Weights are random: a trained model goes through the same one call.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import fxplain

VOCABULARY, REGION_FEATURES, ANSWERS = 40, 12, 5


class Attention(nn.Module):
    """Tokens `x` (batch, s, width) attend to tokens `y` (batch, q, width)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(width, heads, width // heads) / width**0.5)
        self.key = nn.Parameter(torch.randn(width, heads, width // heads) / width**0.5)
        self.value = nn.Parameter(torch.randn(width, heads, width // heads) / width**0.5)
        self.out = nn.Parameter(torch.randn(heads, width // heads, width) / width**0.5)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        query = torch.einsum("bsw,whd->bshd", x, self.query)
        key = torch.einsum("bqw,whd->bqhd", y, self.key)
        value = torch.einsum("bqw,whd->bqhd", y, self.value)
        scores = torch.einsum("bshd,bqhd->bhsq", query, key) / query.shape[-1] ** 0.5
        weights = scores.softmax(-1)
        return torch.einsum("bhsq,bqhd,hdw->bsw", weights, value, self.out), weights


class Update(nn.Module):
    """Attention and a feed-forward layer, each added to the stream that it updates."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        mixed, weights = self.attention(x, y)
        x = self.norm_attention(x + mixed)
        return self.norm_mlp(x + self.mlp(x)), weights


class Layer(nn.Module):
    """Each tower attends to the other, both as they were before, and then to itself."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.text_to_image, self.image_to_text = Update(width, heads), Update(width, heads)
        self.text, self.image = Update(width, heads), Update(width, heads)

    def forward(self, words: Tensor, regions: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        heard, first = self.text_to_image(words, regions)
        seen, second = self.image_to_text(regions, words)
        words, third = self.text(heard, heard)
        regions, fourth = self.image(seen, seen)
        return words, regions, [first, second, third, fourth]


class CoAttentionNetwork(nn.Module):
    """Answers a question about the regions of an image."""

    def __init__(self, width: int = 32, heads: int = 4, depth: int = 2) -> None:
        super().__init__()
        self.words, self.positions = nn.Embedding(VOCABULARY, width), nn.Embedding(32, width)
        self.regions, self.boxes = nn.Linear(REGION_FEATURES, width), nn.Linear(4, width)
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(depth))
        self.answer = nn.Linear(width, ANSWERS)

    def forward(
        self, question: Tensor, regions: Tensor, boxes: Tensor, need_weights: bool = False
    ) -> Tensor | tuple[Tensor, list[Tensor]]:
        words = self.words(question) + self.positions(torch.arange(question.shape[1]))
        image = self.regions(regions) + self.boxes(boxes)
        weights: list[Tensor] = []
        for layer in self.layers:
            words, image, found = layer(words, image)
            weights += found
        scores = self.answer(words[:, 0])
        return (scores, weights) if need_weights else scores


def build() -> tuple[nn.Module, dict[str, Tensor]]:
    """The model and two questions about two images of six regions."""
    torch.manual_seed(0)
    model = CoAttentionNetwork().eval()
    inputs = {
        "question": torch.randint(1, VOCABULARY, (2, 7)),
        "regions": torch.randn(2, 6, REGION_FEATURES),
        "boxes": torch.rand(2, 6, 4),
    }
    return model, inputs


def main() -> None:
    """Explain the answers and print what they draw on."""
    explanation = fxplain.explain(*build())
    print(explanation)
    print(explanation.graph)


if __name__ == "__main__":
    main()
