"""Recognise one handwritten digit among clutter: the data of the small ViT.

A *scene* is a canvas of 28 x 28 pixels, from 0 (paper) to 16 (ink), with one digit of 12 x 12 pixels
and some smaller fragments of other digits, turned, on noisy paper. The digit's square begins where a
patch does, which a small ViT learns much sooner than any place; fragments lie anywhere. The digit's
pixels are known, which is what makes the model worth explaining: a good explanation of its class finds
the relevance there.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import ViTForImageClassification

from examples.tasks.canvas import Square, draw_digit, draw_paper, draw_square, paste
from examples.tasks.digit_images import DigitImages

MODEL_FOLDER = Path(__file__).parents[1] / "models" / "vit_clutter"

CANVAS_SIZE = 28
PATCH_SIZE = 4
DIGIT_SIDE = 12
"""The side of the digit's image on the canvas, in pixels."""
FRAGMENT_SIDES = (4, 6)
"""The smallest and the largest side of a fragment; always one finds room beside the digit."""
FRAGMENTS = (3, 7)
"""The fewest and the most fragments."""
INK_MEAN, INK_DEVIATION = 2.2, 4.0
"""Of the pixels of scenes; what learns from patches wants them to be 0 and 1."""


@dataclass(frozen=True)
class Scene:
    """A canvas, and the digit on it.

    Attributes
    ----------
    image : Tensor
        (28, 28) pixels from 0 to 16.
    digit : int
        What the canvas shows.
    mask : Tensor
        (28, 28), true at the digit's own pixels, of which no fragment covers one.
    """

    image: Tensor
    digit: int
    mask: Tensor


def draw_scenes(source: DigitImages, number: int, generator: random.Random) -> list[Scene]:
    """Draw scenes of the given digit images.

    Parameters
    ----------
    source : DigitImages
        What to draw digits and fragments from.
    number : int
        How many scenes.
    generator : random.Random
        Where everything is drawn from: the same seed gives the same scenes.

    Returns
    -------
    list of Scene
    """
    paper = draw_paper(number, CANVAS_SIZE, generator)
    return [_draw_scene(source, canvas, generator) for canvas in paper]


def _draw_scene(source: DigitImages, canvas: Tensor, generator: random.Random) -> Scene:
    top, left = (generator.randrange(0, CANVAS_SIZE - DIGIT_SIDE + 1, PATCH_SIZE) for _ in "yx")
    square = Square(top, left, DIGIT_SIDE)
    digit, mask = draw_digit(canvas, source, square, generator)
    for _ in range(generator.randint(*FRAGMENTS)):
        beside = square
        while beside.overlaps(square):
            beside = draw_square(CANVAS_SIZE, FRAGMENT_SIDES, generator)
        paste(canvas, _draw_fragment(source, beside.side, generator), beside)
    return Scene(canvas, digit, mask)


def _draw_fragment(source: DigitImages, side: int, generator: random.Random) -> Tensor:
    """(side, side) pixels, a quarter cut from anywhere in a digit, turned by right angles."""
    image = source.enlarged(2 * side)[generator.randrange(len(source.labels))]
    top, left = generator.randint(0, side), generator.randint(0, side)
    fragment = image[top : top + side, left : left + side]
    return torch.rot90(fragment, generator.randrange(4))


def encode(scenes: Sequence[Scene]) -> dict[str, Tensor]:
    """The model's inputs: ``pixel_values`` (batch, 1, 28, 28), of mean 0 and standard deviation 1."""
    ink = torch.stack([scene.image for scene in scenes])[:, None]
    return {"pixel_values": (ink - INK_MEAN) / INK_DEVIATION}


def encode_targets(scenes: Sequence[Scene]) -> Tensor:
    """(batch,) the digits: a digit is its own class."""
    return torch.tensor([scene.digit for scene in scenes])


def load_model(folder: Path = MODEL_FOLDER) -> ViTForImageClassification:
    """Load the trained model, in evaluation mode; it reads a CLS and 7 x 7 patches."""
    model = ViTForImageClassification.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True
    )
    return model.eval()
