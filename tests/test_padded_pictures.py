"""Pictures of several sizes, padded to one input: each has a grid of its own, on its own part of it."""

import pytest
import torch
from torch import Tensor, nn

import fxplain
from fxplain.explanation.beneath import pictures_beneath


class Cropping(nn.Module):
    """Looks at the patches of each picture, one picture after the other, without its padding."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.layer = nn.TransformerEncoderLayer(8, 2, 8, batch_first=True)
        self.head = nn.Linear(8, 2)

    def forward(self, pixel_values: Tensor, image_sizes: Tensor) -> Tensor:
        made = self.patches(pixel_values)
        seen = [
            own[:, : height // 4, : width // 4].flatten(1)
            for own, (height, width) in zip(made, image_sizes.tolist(), strict=True)
        ]
        return self.head(self.layer(torch.cat(seen, 1).T[None])).mean(1)


@pytest.fixture(scope="module")
def explained():
    torch.manual_seed(0)
    sizes = torch.tensor([[8, 16], [16, 12]])
    pixels = torch.zeros(2, 3, 16, 16)
    for own, (height, width) in zip(pixels, sizes.tolist(), strict=True):
        own[:, :height, :width] = torch.randn(3, height, width)
    return fxplain.explain(Cropping().eval(), {"pixel_values": pixels, "image_sizes": sizes}, 0)


def test_each_has_its_own_grid(explained):
    first, second = explained.pictures("pixel_values")
    assert (first.grid, first.tokens) == ((2, 4), tuple(range(8)))
    assert (second.grid, second.tokens) == ((4, 3), tuple(range(8, 20)))
    assert explained.grids["pixel_values"] == ()


def test_a_heat_map_has_no_padding(explained):
    heat = explained.pixels("pixel_values", "nearest", image=1)
    assert heat.shape == (1, 16, 12)
    relevance = explained.relevance["pixel_values"][0, 8:]
    assert torch.equal(heat[0, ::4, ::4].flatten(), relevance)
    region = explained.units("pixel_values", {"corner": (1, (8, 12, 12, 16))})[0]
    assert region.words[0].tokens == (19,)


def test_what_is_beneath_has_no_padding(explained):
    given = explained.inputs["pixel_values"]
    beneath = pictures_beneath(given, explained.pictures("pixel_values"), 0)
    assert torch.equal(beneath[0], given[0, :, :8])
    assert torch.equal(beneath[1], given[1, :, :, :12])
