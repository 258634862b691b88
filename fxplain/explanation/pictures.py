"""Pictures: where the tokens of a modality lie, one picture, tile or frame after the other.

Found from shapes: of the tokens' grid, of the input, and of whole numbers beside it that say how many
rows and columns of patches each picture has (``image_grid_thw``, ``spatial_shapes``).
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fxplain.explanation.rows_in_text import grids_in_text

__all__ = [
    "Picture", "block_of", "grid_of", "has_sizes", "input_of", "names_of", "ordered", "patch_rows",
    "patch_size", "pictures_of", "side_of", "sizes_told",
]  # fmt: skip

MOST_MERGED = 4
"""Blocks of more than 4 x 4 patches are not looked for."""


@dataclass(frozen=True)
class Picture:
    """A picture, a tile of one, or a frame of a video.

    Attributes
    ----------
    grid
        (rows, columns) of its tokens.
    tokens
        Their places among the tokens of the modality, row by row.
    source
        Which of the given pictures or videos it is of.
    part
        Which tile or frame of that it is.
    parts
        How many there are.
    is_frame
        Whether parts are frames, one after the other in time, rather than tiles.
    is_level
        Whether parts are grids of several strides, each over the whole picture.
    first
        Which row of the input the modality's first token is: pictures that nothing connects are
        modalities of one input.
    at
        Which of all images of the input, or which row of its patches, the picture begins at; -1 where
        pictures follow each other as their tokens do.
    within
        The first row and column of pixels of its image that its tokens are made of, and the ones behind
        the last: images of several sizes are padded to one. Empty where they are made of all.
    """

    grid: tuple[int, int]
    tokens: tuple[int, ...]
    source: int = 0
    part: int = 0
    parts: int = 1
    is_frame: bool = False
    is_level: bool = False
    first: int = 0
    at: int = -1
    within: tuple[int, ...] = ()


def pictures_of(
    name: str, count: int, special: Mapping[int, str], grid: tuple[int, ...],
    inputs: Mapping[str, Tensor],
    *,
    tiled: bool = False, block: int = 0,
) -> tuple[Picture, ...]:  # fmt: skip
    """The pictures that a modality's tokens lie on; none where they lie on no grid.

    Parameters
    ----------
    name
        The modality's.
    count
        How many tokens it has.
    special
        The places of those that lie beside the pictures.
    grid
        The shape that each picture's tokens lie on, as far as the analysis saw; of grids of several
        strides the rows and columns of each.
    inputs
        The model's inputs.
    tiled
        Whether the first of three axes of `grid` are tiles, and not frames.
    block
        The side of the blocks that patches are listed in, where the model tells (`block_of`); 0 where
        it does not.
    """
    plain = [place for place in range(count) if place not in special]
    told = _told(name, plain, inputs, block)
    if told:
        return told
    if len(grid) == 3 and math.prod(grid) == len(plain):
        return _stacked(plain, (grid[1], grid[2]), grid[0], is_frame=not tiled)
    if len(grid) == 2 and math.prod(grid) == len(plain):
        if 1 in grid and not _holds_more(inputs.get(name), (grid[0], grid[1])):
            return ()  # a row of points, say
        return _stacked(plain, (grid[0], grid[1]), 1)
    if len(grid) > 3:
        return _levels(plain, grid)
    value = inputs.get(name)
    if value is None or has_sizes(value, inputs):
        return ()
    return _tiles(plain, grid, value) or _crops(plain, value) or _in_rows(plain, value, inputs)


def grid_of(pictures: Sequence[Picture], grid: tuple[int, ...]) -> tuple[int, ...]:
    """(rows, columns) of one picture, (pictures, rows, columns) of several that are alike.

    Of grids of several strides the rows and columns of each, one after the other.

    Parameters
    ----------
    grid
        What it is where there are none.
    """
    if not pictures:
        return grid
    if pictures[0].is_level:
        return tuple(size for picture in pictures for size in picture.grid)
    sizes = {picture.grid for picture in pictures}
    if len(sizes) > 1:
        return ()
    return pictures[0].grid if len(pictures) == 1 else (len(pictures), *pictures[0].grid)


def _holds_more(value: Tensor | None, grid: tuple[int, int]) -> bool:
    """Whether an input could be an image under a grid: axes as long as its, and more in them."""
    if value is None or value.dim() < 4:
        return value is None
    pairs = (value.shape[-2:], value.shape[1:3], value.shape[-3:-1])
    return any(
        down >= grid[0] and across >= grid[1] and down * across > math.prod(grid)
        for down, across in pairs
    )


def _stacked(
    plain: Sequence[int], grid: tuple[int, int], parts: int, *, is_frame: bool = False
) -> tuple[Picture, ...]:
    size = math.prod(grid)
    return tuple(
        Picture(grid, tuple(plain[i * size : (i + 1) * size]), 0, i, parts, is_frame)
        for i in range(parts)
    )


def _levels(plain: Sequence[int], grid: tuple[int, ...]) -> tuple[Picture, ...]:
    """Grids of several strides over one picture, one behind the other."""
    sizes = list(zip(grid[::2], grid[1::2], strict=True))
    ends = list(itertools.accumulate(map(math.prod, sizes)))
    if ends[-1] != len(plain):
        return ()
    return tuple(
        Picture(size, tuple(plain[end - math.prod(size) : end]), 0, i, len(sizes), is_level=True)
        for i, (size, end) in enumerate(zip(sizes, ends, strict=True))
    )


# ---- sizes that an input tells ------------------------------------------------------------------


def _told(
    name: str, plain: Sequence[int], inputs: Mapping[str, Tensor], block: int
) -> tuple[Picture, ...]:
    """Pictures whose sizes in patches another input says: (times, rows, columns) or (rows, columns)."""
    given = inputs.get(input_of(name))
    if given is None or not given.is_floating_point():
        return ()
    for thw in sizes_told(inputs):
        small = _are_small(given) and len(given) == sum(map(math.prod, thw))
        value = given.flatten(1) if small else given
        if value.dim() not in (2, 3):
            continue
        own, first = _own_sizes(name, thw, value, len(plain))
        starts = _starts(own, value, len(plain))
        if starts is not None:
            side = _side(own, sum(map(math.prod, thw)), value, inputs, block)
            return tuple(replace(p, first=first) for p in _laid_out(own, starts, plain, side))
    return ()


def patch_rows(value: Tensor, pictures: Sequence[Picture]) -> Tensor:
    """Patches that are given as small images as rows of their colours; any other input as it is."""
    if not (pictures and pictures[0].is_frame and _are_small(value)):
        return value
    return value.flatten(1) if len(value) > pictures[-1].first + max(pictures[-1].tokens) else value


def _are_small(value: Tensor) -> bool:
    """Whether an input could be of patches, (patches, colours, height, width)."""
    return value.dim() == 4 and value.shape[1] == 3 and value.shape[2] == value.shape[3]


def sizes_told(inputs: Mapping[str, Tensor]) -> Iterator[list[tuple[int, int, int]]]:
    """What inputs could say of pictures: (times, rows, columns) of each, 1 time where none is said."""
    for sizes in inputs.values():
        if sizes.is_floating_point() or sizes.dim() < 2 or sizes.shape[-1] not in (2, 3):
            continue
        rows: list[list[int]] = sizes.reshape(-1, sizes.shape[-1]).tolist()
        if rows and min(map(min, rows)) > 0:
            yield [
                (1, row[0], row[1]) if len(row) == 2 else (row[0], row[1], row[2]) for row in rows
            ]


def side_of(
    thw: Sequence[tuple[int, ...]], value: Tensor, inputs: Mapping[str, Tensor], block: int
) -> int:
    """The side of the blocks that the patches of all pictures are listed in."""
    return _side(thw, sum(map(math.prod, thw)), value, inputs, block)


def _side(
    own: Sequence[tuple[int, ...]],
    count: int,
    value: Tensor,
    inputs: Mapping[str, Tensor],
    block: int,
) -> int:
    if block > 0 and _divides(block, own):
        return block
    return _merged(own, _totals(value, count, inputs), inputs)


def has_sizes(value: Tensor, inputs: Mapping[str, Tensor]) -> bool:
    """Whether another input says how many rows and columns each of padded lists of patches has."""
    return (
        value.is_floating_point()
        and value.dim() == 3
        and patch_size(value) is not None
        and any(
            not sizes.is_floating_point() and sizes.dim() == 2 and sizes.shape[-1] in (2, 3)
            and len(sizes) == len(value) and int(sizes.min()) > 0
            and int(sizes.prod(-1).max()) <= value.shape[1]
            for sizes in inputs.values()
        )
    )  # fmt: skip


def block_of(pictures: Sequence[Picture], groups: Iterable[Collection[int]]) -> int:
    """The side of the blocks that patches are listed in: 1 where they are listed row by row.

    A model makes one token of each k x k patches that lie beside each other. Which these are tells how
    the patches are listed: blocks that follow each other, or squares of a list of rows.

    Parameters
    ----------
    pictures
        Where the tokens lie, in whatever order.
    groups
        The places of those that the model makes one token of.

    Returns
    -------
    int
        0 where that cannot be told.
    """
    starts = {min(picture.tokens): picture for picture in pictures}
    found = set()
    for group in groups:
        side, places = math.isqrt(len(group)), sorted(group)
        before = [start for start in starts if start <= places[0]]
        if side < 2 or side**2 != len(group) or not before:
            continue
        columns, first = starts[max(before)].grid[1], places[0] - max(before)
        square = [first + row * columns + i for row in range(side) for i in range(side)]
        if columns == side:  # one block wide: both ways are one
            continue
        if [place - max(before) for place in places] == square:
            found.add(1)
        elif places == list(range(places[0], places[0] + len(group))):
            found.add(side)
    return found.pop() if len(found) == 1 else 0


def names_of(pictures: Sequence[Picture]) -> list[str]:
    """What each picture is called beside the others: which it is, and which of its tiles or frames.

    What may be a tile of one picture or a frame of a video is called a picture.
    """
    several = len({picture.source for picture in pictures}) > 1
    parts = "tile" if several else "picture"
    told = []
    for picture in pictures:
        kind = "frame" if picture.is_frame else "grid" if picture.is_level else parts
        names = [f"picture {picture.source}"] if several else []
        names += [f"{kind} {picture.part}"] if picture.parts > 1 else []
        told.append(", ".join(names))
    return told


def input_of(name: str) -> str:
    """The input that a modality's tokens come from, where its name says which layer they are of."""
    return name.partition("@")[0]


def _own_sizes(
    name: str, thw: Sequence[tuple[int, ...]], value: Tensor, count: int
) -> tuple[Sequence[tuple[int, ...]], int]:
    """The sizes of the pictures that make up so many tokens, and the input's row that they begin at."""
    frames = [(1, rows, columns) for times, rows, columns in thw for _ in range(times)]
    sizes = [math.prod(size) for size in frames]
    if value.dim() != 2 or not count < sum(sizes) == len(value):
        return thw, 0
    starts = range(len(sizes))
    for start in reversed(starts) if "@" in name else starts:  # the first keeps the input's name
        for stop in range(start + 1, len(sizes) + 1):
            if sum(sizes[start:stop]) == count:
                return frames[start:stop], sum(sizes[:start])
    return thw, 0


def _starts(thw: Sequence[tuple[int, ...]], value: Tensor, count: int) -> list[int] | None:
    """Where each picture's tokens begin: one after the other, or each in a row of its own."""
    sizes = [math.prod(size) for size in thw]
    if sum(sizes) == count and value.shape[:-1].numel() >= count:
        return [sum(sizes[:i]) for i in range(len(sizes))]
    padded = value.dim() == 3 and value.shape[0] == len(sizes) and value.shape[1] >= max(sizes)
    if padded and value.shape[0] * value.shape[1] == count:
        return [i * value.shape[1] for i in range(len(sizes))]
    return None


def _totals(value: Tensor, count: int, inputs: Mapping[str, Tensor]) -> list[int]:
    """How many patches there are: of one input, and of each other one that is given as patches."""
    others = [v for v in inputs.values() if v.is_floating_point() and v.dim() in (2, 3)]
    rows = [v.shape[:-1].numel() for v in others if v is not value]
    told = [
        int(sizes.prod(-1).sum())
        for sizes in inputs.values()
        if not sizes.is_floating_point() and sizes.dim() == 2 and sizes.shape[-1] in (2, 3)
    ]
    return [count, *(total for total in told if total != count and total in rows)]


def _merged(
    thw: Sequence[tuple[int, ...]], totals: Sequence[int], inputs: Mapping[str, Tensor]
) -> int:
    """The side of the blocks that patches come in: as many patches as one place of the text stands for.

    Where a text has one place for each block of k x k patches, a model makes each of k x k that follow
    each other, so the processor puts them in this order. Images and videos beside each other have
    blocks of one size, and places of their own.
    """
    blocks = [k for k in range(2, MOST_MERGED + 1) if _divides(k, thw)]
    for ids in inputs.values():
        if ids.is_floating_point() or ids.dim() != 2:
            continue
        repeated = torch.unique(ids, return_counts=True)[1].tolist()
        found = [k for k in blocks if _stand_for(totals, k, repeated)]
        if found and not _stand_for(totals, 1, repeated):
            return found[0]
    return 1


def _stand_for(totals: Sequence[int], k: int, repeated: Sequence[int]) -> bool:
    """Whether there are as many places of a kind of their own as each of several has blocks."""
    wanted = Counter(total / k**2 for total in totals)
    return wanted <= Counter(map(float, repeated))


def _divides(k: int, thw: Sequence[tuple[int, ...]]) -> bool:
    return all(rows % k == 0 and columns % k == 0 for _, rows, columns in thw)


def _laid_out(
    thw: Sequence[tuple[int, ...]], starts: Sequence[int], plain: Sequence[int], k: int
) -> Iterator[Picture]:
    for source, ((times, rows, columns), start) in enumerate(zip(thw, starts, strict=True)):
        order = ordered((rows, columns), k)
        for time in range(times):
            first = start + time * rows * columns
            tokens = tuple(plain[first + place] for place in order)
            yield Picture((rows, columns), tokens, source, time, times, is_frame=True)


def ordered(grid: tuple[int, int], side: int) -> list[int]:
    """Row by row, the numbers of a picture's patches that are listed in blocks of a side."""
    rows, columns = grid
    blocks = torch.arange(rows * columns).reshape(rows // side, columns // side, side, side)
    return blocks.transpose(1, 2).flatten().tolist()


# ---- tiles --------------------------------------------------------------------------------------


def _tiles(plain: Sequence[int], grid: tuple[int, ...], value: Tensor) -> tuple[Picture, ...]:
    """Tiles of equal size, by the axes of the input before its channels."""
    if not value.is_floating_point() or value.dim() not in (4, 5, 6):
        return ()
    height, width = value.shape[-2:]
    of_pictures = value.dim() == 6  # (batch, pictures, tiles, ...)
    of_sample = value.shape[1:-3].numel() if of_pictures else value.shape[-4]
    total = value.shape[:-3].numel()
    of_grid = len(plain) // math.prod(grid) if len(grid) == 2 else 0  # a share of all tiles
    shares = [of_grid] if of_grid > 1 and total % of_grid == 0 else []
    for parts in dict.fromkeys((of_sample, value.shape[-4], total, *shares, 1)):
        of_tile = len(plain) // parts
        if of_tile * parts != len(plain) or of_tile < 2:
            continue
        rows = round(math.sqrt(of_tile * height / width))
        own = grid if len(grid) == 2 else (rows, of_tile // max(rows, 1))
        square = own[0] * own[1] == of_tile and height * own[1] == width * own[0]
        if square or (len(grid) == 2 and math.prod(grid) == of_tile):
            found = _stacked(plain, (own[0], own[1]), parts)
            of_several = (of_pictures and parts == of_sample) or (
                value.dim() == 5 and parts == total
            )
            each = value.shape[-4] if of_several else parts
            return tuple(
                replace(p, source=p.part // each, part=p.part % each, parts=each) for p in found
            )
    return ()


def _crops(plain: Sequence[int], value: Tensor) -> tuple[Picture, ...]:
    """Square crops that are given as rows of patches, several for each sample."""
    if not value.is_floating_point() or value.dim() != 3 or patch_size(value) is None:
        return ()
    of_crop, parts = value.shape[1], len(plain) // value.shape[1]
    side = math.isqrt(of_crop)
    known = side**2 == of_crop and parts > 1 and parts * of_crop == len(plain)
    if not known or value.shape[0] % parts:
        return ()
    return _stacked(plain, (side, side), parts)


def _in_rows(
    plain: Sequence[int], value: Tensor, inputs: Mapping[str, Tensor]
) -> tuple[Picture, ...]:
    """Pictures that are given as rows of patches, of which the text says where the rows end."""
    if not value.is_floating_point() or patch_size(value) is None:
        return ()
    grids = grids_in_text(inputs, len(plain))
    ends = list(itertools.accumulate(map(math.prod, grids)))
    return tuple(
        Picture(grid, tuple(plain[end - math.prod(grid) : end]), source)
        for source, (grid, end) in enumerate(zip(grids, ends, strict=True))
    )


def patch_size(value: Tensor) -> tuple[int, int] | None:
    """(height, width) in pixels of a patch that is given as a row of its colours, if rows are that."""
    features = value.shape[-1]
    for times in (1, 2):  # colours of one moment, or of two that are taken together
        side = math.isqrt(features // (3 * times))
        if value.dim() in (2, 3) and side > 1 and 3 * times * side**2 == features:
            return side, side
    return None
