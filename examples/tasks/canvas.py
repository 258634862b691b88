"""Canvases on which digits are drawn: noisy paper, squares, and what is pasted into them."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor

from examples.tasks.digit_images import DigitImages
from fxplain.demo.digits import MAX_INK

INK = 6
"""A pixel belongs to what is drawn where that has more ink than this, of 16."""
PAPER_NOISE = 1.0
"""The standard deviation of the paper's noise, before what is below 0 is cut off."""


@dataclass(frozen=True)
class Square:
    """A place on a canvas, in pixels."""

    top: int
    left: int
    side: int

    @property
    def rows(self) -> slice:
        """Its rows of pixels."""
        return slice(self.top, self.top + self.side)

    @property
    def columns(self) -> slice:
        """Its columns of pixels."""
        return slice(self.left, self.left + self.side)

    def overlaps(self, other: Square) -> bool:
        """Whether the two have a pixel in common."""
        return (
            self.top < other.top + other.side
            and other.top < self.top + self.side
            and self.left < other.left + other.side
            and other.left < self.left + self.side
        )


def draw_square(canvas_size: int, sides: tuple[int, int], generator: random.Random) -> Square:
    """A square anywhere on a canvas, its side between the two given ones."""
    side = generator.randint(*sides)
    return Square(
        generator.randint(0, canvas_size - side), generator.randint(0, canvas_size - side), side
    )


def draw_paper(number: int, size: int, generator: random.Random) -> Tensor:
    """(number, size, size) pixels of empty, noisy paper."""
    noise = torch.Generator().manual_seed(generator.getrandbits(63))
    return (torch.randn(number, size, size, generator=noise) * PAPER_NOISE).clamp(0, MAX_INK)


def paste(canvas: Tensor, image: Tensor, square: Square) -> None:
    """Draw an image (side, side) into a square of the canvas, in place; ink covers fainter ink."""
    pixels = canvas[square.rows, square.columns]
    torch.maximum(pixels, image, out=pixels)


def draw_digit(
    canvas: Tensor, source: DigitImages, square: Square, generator: random.Random
) -> tuple[int, Tensor]:
    """Draw any digit of the source into a square of the canvas, in place.

    Returns
    -------
    tuple of int and Tensor
        Which digit it is, and (canvas' side, canvas' side) true at its own pixels.
    """
    place = generator.randrange(len(source.labels))
    image = source.enlarged(square.side)[place]
    paste(canvas, image, square)
    return source.labels[place], inked(len(canvas), image, square)


def inked(canvas_size: int, image: Tensor, square: Square) -> Tensor:
    """(canvas_size, canvas_size) true at the pixels that an image (side, side) inks in a square."""
    mask = torch.zeros(canvas_size, canvas_size, dtype=torch.bool)
    mask[square.rows, square.columns] = image > INK
    return mask
