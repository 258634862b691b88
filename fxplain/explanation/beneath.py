"""Beneath: what the model was given under each of the pictures that tokens lie on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

from torch import Tensor

from fxplain.explanation.pictures import Picture, grid_of, patch_rows, patch_size

__all__ = ["frames_of", "of_sample", "pictures_beneath"]


def of_sample(value: Tensor | None, sample: int) -> Tensor | None:
    """One sample's part of an input that has a part for each, or one for all."""
    if value is None or value.dim() < 2 or not len(value):
        return None
    return value[min(sample, len(value) - 1)].detach().cpu()


def pictures_beneath(
    value: Tensor, pictures: Sequence[Picture], sample: int, like: Tensor | None = None
) -> list[Tensor]:
    """What a model was given under each picture's tokens; none where the input has no such shape.

    Parameters
    ----------
    value
        The batch's input: images, tiles of them, a video, or patches as rows of their colours.
    pictures
        Where its tokens lie.
    sample
        Which sample of the batch.
    like
        An input that is laid out in the same way, by which it is told how; by default this one.
    """
    if not value.is_floating_point():
        return []
    value, like = (patch_rows(own, pictures) for own in (value, value if like is None else like))
    patch = patch_size(value)
    if pictures[0].at >= 0:
        return _beneath_own(value, pictures, like)
    if (
        value.dim() in (2, 3)
        and patch
        and value.shape[:-1].numel() > pictures[-1].first + pictures[-1].tokens[-1]
    ):
        rows = value.detach().float().cpu().flatten(0, -2)
        count = sum(len(picture.tokens) for picture in pictures)
        crops = value.dim() == 3 and not pictures[0].is_frame and len(rows) % count == 0
        start = sample * count if crops and len(rows) > count else 0
        shares = [rows[[start + p.first + token for token in p.tokens]] for p in pictures]
        given = like.detach().float().cpu().flatten(0, -2)
        first = given[[start + pictures[0].first + token for token in pictures[0].tokens]]
        behind = _are_behind(first, pictures[0].grid, patch)
        return [
            _of_patches(patches, p.grid, patch, behind=behind)
            for patches, p in zip(shares, pictures, strict=True)
        ]
    own = of_sample(value, sample)
    if own is None:
        return []
    if pictures[0].is_level:
        return [found for p in pictures for found in frames_of(own, p.grid)]
    if len(pictures) > 1 and not pictures[0].is_frame:
        shown = _channels_second(_tiles(value, own, len(pictures), sample))
        return [] if shown is None or len(shown) < len(pictures) else list(shown[: len(pictures)])
    alone = own[0] if own.dim() == 4 and len(own) == 1 else own  # the one tile of a picture
    return frames_of(own, grid_of(pictures, ())) or frames_of(alone, grid_of(pictures, ()))


def _beneath_own(value: Tensor, pictures: Sequence[Picture], like: Tensor) -> list[Tensor]:
    """The same where each picture says where in the input it begins."""
    if value.dim() > 3:
        every = _channels_second(value.detach().cpu().flatten(0, -4))
        return [] if every is None else [_within(every[p.at], p.within) for p in pictures]
    patch = patch_size(value)
    if patch is None:
        return []

    def rows(given: Tensor, picture: Picture) -> Tensor:
        places = [picture.at + token - min(picture.tokens) for token in picture.tokens]
        return given.detach().float().cpu().flatten(0, -2)[places]

    behind = _are_behind(rows(like, pictures[0]), pictures[0].grid, patch)
    return [_of_patches(rows(value, p), p.grid, patch, behind=behind) for p in pictures]


def _within(image: Tensor, within: Sequence[int]) -> Tensor:
    """The part of an image, (channels, height, width), that tokens are made of."""
    if not within:
        return image
    top, left, bottom, right = within
    return image[:, top:bottom, left:right]


def _tiles(value: Tensor, own: Tensor, count: int, sample: int) -> Tensor:
    """A sample's tiles: its part of the input, or its share of those of all samples in a row."""
    tiles = own.flatten(0, -4) if own.dim() > 3 else own[None]
    if len(tiles) >= count:
        return tiles
    every = value.detach().cpu().flatten(0, -4)
    if len(every) == count:  # of all samples
        return every
    return every[sample * count :] if len(every) % count == 0 else every[:0]


def _of_patches(
    rows: Tensor, grid: tuple[int, int], patch: tuple[int, int], *, behind: bool
) -> Tensor:
    """(3, height, width) of patches, the first moment of those that two are taken together of.

    A patch's colours stand before its pixels, or behind them.
    """
    (down, across), (height, width) = grid, patch
    if behind:
        colours = rows.reshape(down, across, height, width, 3).movedim(-1, 2)
    else:
        colours = rows.reshape(down, across, 3, -1, height, width)[:, :, :, 0]
    return colours.permute(2, 0, 3, 1, 4).reshape(3, down * height, across * width)


def _are_behind(rows: Tensor, grid: tuple[int, int], patch: tuple[int, int]) -> bool:
    """Whether a picture is the smoother one with its patches' colours behind their pixels."""
    if rows.shape[-1] != 3 * math.prod(patch):
        return False
    before, behind = (
        sum(float(picture.diff(dim=axis).abs().mean()) for axis in (1, 2))
        for picture in (_of_patches(rows, grid, patch, behind=order) for order in (False, True))
    )
    return behind < before


def frames_of(own: Tensor, grid: Sequence[int]) -> list[Tensor]:
    """The picture under a grid of tokens: one, or one for each step in time.

    Parameters
    ----------
    own
        One sample's input: an image or a video whose channels stand first, second or last, or a plane
        (a spectrogram) as rows or as columns.
    grid
        The tokens' (rows, columns) or (times, rows, columns).

    Returns
    -------
    list
        (1 or 3 channels, height, width) each; none where the input has none of these shapes.
    """
    if not own.is_floating_point() or len(grid) not in (2, 3):
        return []
    if len(grid) == 2 and own.dim() == 2:
        return [min(own, own.T, key=lambda plane: _lengthening(plane.shape, grid))[None]]
    if own.dim() != len(grid) + 1:
        return []
    frames = _channels_second(own if len(grid) == 3 else own[None])
    times = grid[0] if len(grid) == 3 else 1
    if frames is None or len(frames) < times:
        return []
    return [frames[i * len(frames) // times] for i in range(times)]


def _channels_second(frames: Tensor) -> Tensor | None:
    """(frames, 1 or 3 channels, height, width), wherever the channels stand; no transparency."""
    for channels, axis in product((3, 1, 4), (1, 3, 0)):
        if frames.shape[axis] == channels:
            return frames.movedim(axis, 1)[:, : 3 if channels == 4 else channels]
    return None


def _lengthening(plane: Sequence[int], grid: Sequence[int]) -> float:
    """How far patches are from being square."""
    return abs(math.log(plane[0] / plane[1]) - math.log(grid[0] / grid[1]))
