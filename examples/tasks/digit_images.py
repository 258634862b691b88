"""Real handwritten digits, split into images to train on and images held out.

scikit-learn's `load_digits`: 1,797 images of 8 x 8 pixels, from 0 (paper) to 16 (ink). All tasks with
digits draw from the same split, so that no model has seen a held-out image in training.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.nn import functional

from fxplain.demo.digits import DIGIT_SIZE, MAX_INK

SPLIT_SEED = 0


@dataclass(frozen=True)
class DigitImages:
    """Digit images and what they show.

    Attributes
    ----------
    images : Tensor
        (n, 8, 8) pixels from 0 to 16.
    labels : list of int
        The n digits.
    """

    images: Tensor
    labels: list[int]
    _enlarged: dict[int, Tensor] = field(default_factory=dict, init=False, repr=False)

    def enlarged(self, side: int) -> Tensor:
        """(n, side, side): the images drawn larger, their strokes smooth; made once per side."""
        if side not in self._enlarged:
            self._enlarged[side] = functional.interpolate(
                self.images[:, None], size=(side, side), mode="bilinear", align_corners=False
            )[:, 0]
        return self._enlarged[side]


def split_digits() -> tuple[DigitImages, DigitImages]:
    """Split scikit-learn's images, always alike: of each digit 75% to train on, 25% held out."""
    data = load_digits()
    train, held_out = train_test_split(
        range(len(data.target)), test_size=0.25, random_state=SPLIT_SEED, stratify=data.target
    )
    images = torch.tensor(data.images, dtype=torch.float32)
    return (
        DigitImages(images[train], data.target[train].tolist()),
        DigitImages(images[held_out], data.target[held_out].tolist()),
    )


def augment(source: DigitImages) -> DigitImages:
    """Turn, stretch, shift and blot digit images a little, each in its own way.

    Draws from torch's global generator: for training only.
    """
    number = len(source.images)
    angle = torch.empty(number).uniform_(-0.25, 0.25)
    stretch = torch.empty(number, 2).uniform_(0.9, 1.15)
    affine = torch.zeros(number, 2, 3)
    affine[:, 0, 0] = angle.cos() * stretch[:, 0]
    affine[:, 0, 1] = -angle.sin()
    affine[:, 1, 0] = angle.sin()
    affine[:, 1, 1] = angle.cos() * stretch[:, 1]
    affine[:, :, 2] = torch.empty(number, 2).uniform_(-0.2, 0.2)
    places = functional.affine_grid(
        affine, [number, 1, DIGIT_SIZE, DIGIT_SIZE], align_corners=False
    )
    moved = functional.grid_sample(source.images[:, None], places, align_corners=False)[:, 0]
    return DigitImages((moved + torch.randn_like(moved)).clamp(0, MAX_INK), source.labels)


class Augmented:
    """Digit images for training, augmented anew every ten steps.

    Augmenting all of them now and then costs less than each as it is drawn.
    """

    def __init__(self, source: DigitImages) -> None:
        self.source = source
        self.current = source

    def at(self, step: int) -> DigitImages:
        """The images of a step; steps are asked for in their order."""
        if step % 10 == 0:
            self.current = augment(self.source)
        return self.current
