"""Patches as rows of colours: how they are listed is told by what the model makes one token of."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import fxplain
from fxplain.explanation.beneath import pictures_beneath
from fxplain.explanation.explanation import ByModality
from fxplain.explanation.pictures import block_of, pictures_of
from fxplain.reports.headline import notes
from tests.made_explanations import made_explanation

ROWS, COLUMNS = 4, 6


class Sees(nn.Module):
    """Words beside a picture of 4 x 6 patches, each square of 2 x 2 of which is one token."""

    def __init__(self, *, in_blocks: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.in_blocks = in_blocks
        self.words, self.patches = nn.Embedding(10, 8), nn.Linear(12, 8)
        self.near = nn.MultiheadAttention(8, 2, batch_first=True)
        self.merge = nn.Linear(32, 8)
        self.far = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 10)

    def forward(self, input_ids: Tensor, pixel_values: Tensor, grid: Tensor) -> Tensor:
        x = self.patches(pixel_values.flatten(1))[None]
        x = x + self.near(x, x, x)[0]
        if not self.in_blocks:
            x = x.reshape(1, ROWS // 2, 2, COLUMNS // 2, 2, 8).transpose(2, 3)
        x = self.merge(x.reshape(1, -1, 32))
        x = torch.cat([self.words(input_ids[:, :1]), x, self.words(input_ids[:, -2:])], 1)
        return self.head(x + self.far(x, x, x)[0])[:, -1]


def asked(*, in_blocks: bool, as_images: bool = False) -> fxplain.Explanation:
    ids = torch.tensor([[1, *[9] * (ROWS * COLUMNS // 4), 2, 3]])
    pixels = torch.rand(ROWS * COLUMNS, 12, generator=torch.Generator().manual_seed(1))
    pixels = pixels.reshape(-1, 3, 2, 2) if as_images else pixels
    inputs = {"input_ids": ids, "pixel_values": pixels, "grid": torch.tensor([[1, ROWS, COLUMNS]])}
    return fxplain.explain(Sees(in_blocks=in_blocks).eval(), inputs)


@pytest.mark.parametrize(("in_blocks", "as_images"), [(True, False), (False, False), (False, True)])
def test_patches_of_one_token_are_a_square_of_the_picture(in_blocks, as_images, tmp_path):
    e = asked(in_blocks=in_blocks, as_images=as_images)
    assert e.blocks == {"pixel_values": 2 if in_blocks else 1}
    e.save(tmp_path / "e.safetensors")
    for each in (e, fxplain.load(tmp_path / "e.safetensors")):
        heat = each.pixels("pixel_values", "nearest", (ROWS, COLUMNS))[0]
        assert sorted(heat.flatten().tolist()) == sorted(e.relevance["pixel_values"][0].tolist())
        places = each.pictures("pixel_values")[0].tokens
        for row in range(ROWS):
            for column in range(COLUMNS):
                token = row * COLUMNS + column
                if (
                    in_blocks
                ):  # blocks from left to right, from top to bottom, and within each the same
                    block = row // 2 * (COLUMNS // 2) + column // 2
                    token = 4 * block + row % 2 * 2 + column % 2
                assert places[row * COLUMNS + column] == token


def test_patches_that_are_given_as_small_images_are_seen_as_their_picture():
    image = torch.rand(3, 8, 12)
    patches = image.reshape(3, 4, 2, 6, 2).permute(1, 3, 0, 2, 4).reshape(24, 3, 2, 2)
    inputs = {"pixel_values": patches, "grid": torch.tensor([[1, 4, 6]])}
    pictures = pictures_of("pixel_values", 24, {}, (24, 1, 1), inputs)
    (seen,) = pictures_beneath(patches, pictures, 0)
    assert torch.equal(seen, image)


def test_what_the_model_makes_one_token_of_tells_the_order():
    inputs = {"pixel_values": torch.zeros(40, 12), "grid": torch.tensor([[1, 4, 6], [1, 8, 2]])}
    pictures = pictures_of("pixel_values", 40, {}, (), inputs)
    assert block_of(pictures, [(0, 1, 6, 7), (24, 25, 26, 27)]) == 1  # the other is one block wide
    assert block_of(pictures, [(0, 1, 2, 3), (24, 25, 26, 27)]) == 2
    assert block_of(pictures, [(24, 25, 26, 27)]) == 0
    assert block_of(pictures, [(0, 1, 2, 3), (2, 3, 8, 9)]) == 0  # both at once
    assert block_of(pictures, [(0, 5, 9, 13), (0, 1), (7,)]) == 0


def test_padded_lists_of_patches_of_several_samples_have_no_one_layout():
    inputs = {
        "pixel_values": torch.zeros(4, 16, 12),
        "sizes": torch.tensor([[2, 3], [2, 2], [3, 2], [2, 2]]),
    }
    assert pictures_of("pixel_values", 32, {}, (), inputs) == ()  # no crops of 4 x 4
    assert [p.grid for p in pictures_of("pixel_values", 64, {}, (), inputs)][:2] == [(2, 3), (2, 2)]


def test_a_batch_without_a_heat_map_says_why():
    e = made_explanation(
        ["a", "b", "c"], relevance=ByModality({"input_ids": torch.rand(2, 3)}), target=(1, 1),
        readout=("the output",) * 2, scores=torch.zeros(2), labels={"input_ids": [["", "", ""]] * 2},
        inputs={"input_ids": torch.rand(3, 3, 8, 8)}, grids={"input_ids": (2, 2)}, output=None,
    )  # fmt: skip
    assert e.lacks_heat_map("input_ids")
    assert any("no heat map of input_ids" in note for note in notes(e, 1))
    assert "no heat map of input_ids" in e.to_text(200)
    assert not replace(e, inputs={}).lacks_heat_map("input_ids")
