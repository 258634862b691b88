"""Grids of several strides that a backbone makes of one image: one sequence, one modality."""

import pytest
import torch
from torch import Tensor, nn

import fxplain
from tests.small_models import Block, pixels, seeded

WIDTH = 8


class Pyramid(nn.Module):
    """A residual stage halves the grid; the tokens of both grids attend in one sequence."""

    def __init__(self, *, coarse_first: bool) -> None:
        super().__init__()
        self.stem, self.down = nn.Conv2d(3, WIDTH, 4, 4), nn.Conv2d(WIDTH, WIDTH, 3, 2, 1)
        self.shortcut, self.head = nn.Conv2d(WIDTH, WIDTH, 1, 2), nn.Linear(WIDTH, 3)
        self.coarse_first = coarse_first

    def sequence(self, image: Tensor) -> Tensor:
        fine = self.stem(image)
        coarse = self.down(fine).relu() + self.shortcut(fine)
        grids = [grid.flatten(2).mT for grid in (fine, coarse)]
        return torch.cat(grids[::-1] if self.coarse_first else grids, 1)

    def attend(self, x: Tensor) -> tuple[Tensor, Tensor]:
        weights = (x @ x.mT / WIDTH**0.5).softmax(-1)
        return self.head((x + weights @ x)[:, 0]), weights

    def forward(self, image: Tensor) -> Tensor:
        return self.attend(self.sequence(image))[0]


@pytest.mark.parametrize("coarse_first", [False, True])
def test_grids_in_one_sequence_are_one_modality(coarse_first: bool) -> None:
    model, image = seeded(Pyramid, coarse_first=coarse_first), pixels(1, 3, 16, 16)
    output, weights = model.attend(model.sequence(image))
    weights.retain_grad()
    output[0, 1].backward()
    expected = (weights.grad * weights.detach())[0, 0].clamp(min=0)
    expected[0] += 1
    model.zero_grad(set_to_none=True)
    e = fxplain.explain(model, (image,), target=1)
    assert e.graph.modalities == {"image": 16 + 4}
    assert e.graph.warnings == ()
    torch.testing.assert_close(e.relevance["image"][0], expected)
    assert e.grids["image"] == ((2, 2, 4, 4) if coarse_first else (4, 4, 2, 2))


def test_each_grid_is_drawn_over_the_whole_picture() -> None:
    e = fxplain.explain(seeded(Pyramid, coarse_first=False), (pixels(2, 3, 16, 16),), target=1)
    fine, coarse = e.pictures("image")
    assert (fine.grid, coarse.grid) == ((4, 4), (2, 2))
    assert (fine.tokens, coarse.tokens) == (tuple(range(16)), (16, 17, 18, 19))
    heat = e.pixels("image", "nearest", image=1)
    torch.testing.assert_close(heat[:, ::8, ::8].flatten(1), e.relevance["image"][:, 16:])
    with pytest.raises(fxplain.ModalityError, match="2 grids of different sizes"):
        e.pixels("image")
    assert '"grid 1"' in e.to_html()


class SkippedOver(Pyramid):
    """The coarse grid alone attends; what it made is laid over the fine one."""

    def __init__(self) -> None:
        super().__init__(coarse_first=False)
        self.block = Block(WIDTH)

    def forward(self, image: Tensor) -> Tensor:
        x = self.sequence(image)
        made = self.block(x[:, 16:]).mT.unflatten(2, (2, 2))
        laid = nn.functional.interpolate(made, scale_factor=2).flatten(2).mT
        return self.head(x[:, :16] + laid)


def test_a_grid_that_attention_passes_by_is_of_the_modality_too() -> None:
    model, image = seeded(SkippedOver), pixels(2, 3, 16, 16)
    e = fxplain.explain(model, (image,), target=(5, 1))
    assert e.graph.modalities == {"image": 16 + 4}
    assert not fxplain.verify(model, (image,)).broken
    fine = e.relevance["image"][:, :16]
    torch.testing.assert_close(fine, torch.eye(16)[5].expand(2, -1))
