"""Noisy linear imputation: pixels from those around them, so that what is removed is not seen."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["imputed"]

_BESIDE, _ACROSS = 1 / 6, 1 / 12
"""What a neighbour along a side and one across a corner weigh."""

NOISE = 0.01
"""The deviation of the noise, relative to that of the picture's pixels."""

_STEPS = 2000
_CLOSE = 1e-4


def imputed(pictures: Tensor, missing: Tensor) -> Tensor:
    """Pictures whose missing pixels are the weighted means of their neighbours, with some noise.

    Each missing pixel is x = sum_n w_n x_n / sum_n w_n over its neighbours in the picture, 1/6 along a
    side and 1/12 across a corner; all of them at once are a linear system, solved by conjugate
    gradients. Where nothing is left, the picture's mean is.

    Parameters
    ----------
    pictures
        (n, channels, rows, columns).
    missing
        (n, rows, columns), which pixels go.

    References
    ----------
    Rong et al., "A Consistent and Efficient Evaluation Strategy for Attribution Methods" (ROAD), ICML
    2022, arXiv 2202.00449: equations 3 and 4.
    """
    exact = pictures.double()
    gone = missing.unsqueeze(1).to(pictures.device)
    mean = exact.mean((2, 3), keepdim=True)
    degree = _around(torch.ones_like(gone, dtype=torch.double))
    known = torch.where(gone, 0.0, exact)
    right = torch.where(gone, _around(known), 0.0)

    def system(x: Tensor) -> Tensor:
        return torch.where(gone, degree * x - _around(x), 0.0)

    x = torch.where(gone, mean, 0.0)
    rest = right - system(x)
    way, size = rest, _dot(rest, rest)
    enough = _CLOSE**2 * _dot(right, right).clamp(min=1e-30)
    for _ in range(_STEPS):
        if bool((size <= enough).all()):
            break
        ahead = system(way)
        pace = _over(size, _dot(way, ahead))
        x, rest = x + pace * way, rest - pace * ahead
        now = _dot(rest, rest)
        way, size = rest + _over(now, size) * way, now
    noise = torch.randn(
        pictures.shape[1:], generator=torch.Generator().manual_seed(0), dtype=torch.double
    )
    spread = NOISE * exact.std((2, 3), keepdim=True)
    nothing_left = gone.all((-2, -1), keepdim=True)
    filled = torch.where(nothing_left, mean, x) + spread * noise.to(x.device)
    return torch.where(gone, filled.to(pictures.dtype), pictures)


def _around(x: Tensor) -> Tensor:
    """The weighted sum of each pixel's neighbours in the picture."""
    kernel = torch.full((3, 3), _ACROSS, dtype=x.dtype, device=x.device)
    kernel[1, :], kernel[:, 1], kernel[1, 1] = _BESIDE, _BESIDE, 0.0
    each = x.reshape(-1, 1, *x.shape[-2:])
    return F.conv2d(each, kernel[None, None], padding=1).reshape(x.shape)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum((2, 3), keepdim=True)


def _over(a: Tensor, b: Tensor) -> Tensor:
    """A / b, and 0 of pictures that are done."""
    return torch.where(b > 0, a / b.where(b > 0, b.new_ones(())), 0.0)
