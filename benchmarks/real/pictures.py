"""Pictures: pieces of the two photographs that scikit-learn carries, and things drawn on noise."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["DRAWN", "digits", "drawn", "photographs"]

MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""By channel, what networks that were trained on ImageNet subtract and divide by."""


def photographs(name: str, count: int, side: int, seed: int = 0) -> Tensor:
    """(count, 3, side, side) square pieces, of half its height to all of it, of "china" or "flower"."""
    from sklearn.datasets import load_sample_image

    whole = torch.from_numpy(load_sample_image(f"{name}.jpg").copy()).permute(2, 0, 1) / 255
    drawing = torch.Generator().manual_seed(seed)
    height, width = whole.shape[1:]
    found = []
    for _ in range(count):
        size = int(torch.randint(height // 2, height, (), generator=drawing))
        top = int(torch.randint(height - size + 1, (), generator=drawing))
        left = int(torch.randint(width - size + 1, (), generator=drawing))
        found.append(_sized(whole[:, top : top + size, left : left + size], side))
    return _scaled(torch.stack(found))


def _disk(x: Tensor, y: Tensor) -> Tensor:
    return x**2 + y**2 < 1


def _square(x: Tensor, y: Tensor) -> Tensor:
    return (x.abs() < 0.85) & (y.abs() < 0.85)


def _ring(x: Tensor, y: Tensor) -> Tensor:
    return (x**2 + y**2 < 1) & (x**2 + y**2 > 0.3)


def _triangle(x: Tensor, y: Tensor) -> Tensor:
    return (y < 0.8) & (y > 2 * x.abs() - 1)


DRAWN = (_disk, _square, _ring, _triangle)
"""Shapes, each a function of coordinates about its middle, 1 at its rim."""


def drawn(count: int, side: int, seed: int = 0) -> Tensor:
    """(count, 3, side, side) a shape each, in one colour, somewhere on soft noise."""
    at = torch.linspace(-1, 1, 64)
    y, x = torch.meshgrid(at, at, indexing="ij")
    return _on_noise([DRAWN[i % len(DRAWN)](x, y).float() for i in range(count)], side, seed)


def digits(count: int, side: int, seed: int = 0) -> Tensor:
    """(count, 3, side, side) a written digit each (scikit-learn's), somewhere on soft noise."""
    from sklearn.datasets import load_digits

    images = torch.from_numpy(load_digits().images[:count]).float() / 16
    return _on_noise(list(images), side, seed)


def _on_noise(forms: list[Tensor], side: int, seed: int) -> Tensor:
    drawing = torch.Generator().manual_seed(seed)
    found = []
    for form in forms:
        ground = 0.3 + 0.4 * _sized(torch.rand(3, 7, 7, generator=drawing), side)
        size = int(side * (0.3 + 0.2 * torch.rand((), generator=drawing)))
        top, left = (int(torch.randint(side - size, (), generator=drawing)) for _ in range(2))
        ink = torch.rand(3, 1, 1, generator=drawing).round()
        over = _sized(form[None], size)
        there = ground[:, top : top + size, left : left + size]
        there += over * (ink - there)
        found.append(ground)
    return _scaled(torch.stack(found))


def _sized(picture: Tensor, side: int) -> Tensor:
    """(channels, side, side)."""
    small = F.interpolate(picture[None], (side, side), mode="bilinear", antialias=True)
    return small[0].clamp(0, 1)


def _scaled(pictures: Tensor) -> Tensor:
    mean, spread = (torch.tensor(each)[:, None, None] for each in (MEAN, SPREAD))
    return (pictures - mean) / spread
