"""Mosaic: how the tiles of a picture lie, found from what is in them.

Processors that cut a picture into tiles also give the whole of it, small, before or after them. Tiles
lie right where they make up that small picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Mosaic", "mosaic_of", "put_together"]

ALIKE = 0.9
"""How well (as a correlation) tiles have to make up the small picture."""


@dataclass(frozen=True)
class Mosaic:
    """Tiles that make up a picture.

    Attributes
    ----------
    rows, columns
        How many tiles lie below and beside each other.
    tiles
        Which, row by row; the small picture is none of them.
    """

    rows: int
    columns: int
    tiles: tuple[int, ...]


def mosaic_of(tiles: Tensor) -> Mosaic | None:
    """How tiles lie, or None where they do not make up one of them.

    Parameters
    ----------
    tiles
        (tiles, channels, height, width).
    """
    if len(tiles) < 3:
        return None
    tiles = tiles.float()
    found = [(_likeness(tiles, whole, mosaic), mosaic) for whole, mosaic in _possible(len(tiles))]
    best, mosaic = max(found, key=lambda pair: pair[0])
    return mosaic if best >= ALIKE else None


def _possible(count: int) -> Iterator[tuple[int, Mosaic]]:
    """The place of the small picture, and each way that the others could lie."""
    for whole in (count - 1, 0):
        others = tuple(i for i in range(count) if i != whole)
        for rows in range(1, count):
            if len(others) % rows == 0:
                yield whole, Mosaic(rows, len(others) // rows, others)


def _likeness(tiles: Tensor, whole: int, mosaic: Mosaic) -> float:
    """The correlation of the tiles together with the small picture."""
    together = put_together(tiles, mosaic)
    small = F.interpolate(together[None], tiles.shape[-2:], mode="area")[0]
    pair = torch.stack([small.flatten(), tiles[whole].flatten()])
    if bool((pair.std(1) < 1e-6).any()):
        return 0.0
    return float(torch.corrcoef(pair)[0, 1])


def put_together(tiles: Tensor, mosaic: Mosaic) -> Tensor:
    """(..., height, width) of the tiles as one, such as (channels, rows x height, columns x width)."""
    rows = [
        torch.cat(
            [tiles[i] for i in mosaic.tiles[r * mosaic.columns : (r + 1) * mosaic.columns]], -1
        )
        for r in range(mosaic.rows)
    ]
    return torch.cat(rows, -2)
