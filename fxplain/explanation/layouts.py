"""Layouts: where tokens lie that no shape tells of: of samples that were given different pictures.

One grid for all samples is found from shapes (`fxplain.explanation.pictures`). Where samples have
different numbers of pictures, or pictures have different sizes, each token's own place in the input
tells: the box of pixels, or the row of patches, that it was made of.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fxplain.explanation.pictures import (
    Picture,
    block_of,
    input_of,
    ordered,
    side_of,
    sizes_told,
)
from fxplain.program import Modality, Program

__all__ = ["layouts_of"]

Places = NDArray[np.int64]


def layouts_of(
    program: Program, modality: Modality, inputs: Mapping[str, Tensor], *, laid: bool = True
) -> tuple[tuple[Picture, ...], ...]:
    """The pictures of each sample, where no one layout serves all and it is known for each.

    Parameters
    ----------
    program
        Whose tokens they are.
    modality
        Which of them.
    inputs
        The model's inputs.
    laid
        Whether shapes tell of a layout, which serves all samples that are alike.

    Returns
    -------
    tuple
        By row of the modality's tokens; none where one layout serves all samples, or where a sample's
        tokens lie on no pictures.
    """
    value = inputs.get(input_of(modality.name))
    if value is None or not value.is_floating_point() or value.dim() < 2:
        return ()
    samples = _samples(program, modality, value)
    if not samples or (laid and _alike(samples)):
        return ()
    if value.dim() > 3:
        found = [_of_images(own, value.shape) for own in samples]
    else:
        found = list(_of_patches(samples, value, inputs, 0))
        merged = [program.merged_places(modality, i) for i in range(len(found))]
        sides = {block_of(*each) for each in zip(found, merged, strict=True)} - {0}
        if len(sides) == 1:
            found = list(_of_patches(samples, value, inputs, sides.pop()))
    known = [
        bool(own) or not len(sample.columns) for own, sample in zip(found, samples, strict=True)
    ]
    return tuple(found) if all(known) and any(found) else ()


@dataclass(frozen=True, eq=False)
class _Sample:
    """The tokens of one sample that are made of the input.

    Attributes
    ----------
    columns
        (n,) their places among the modality's tokens.
    low, high
        (n, axes of the input) the corners of the boxes that they are made of.
    """

    columns: Places
    low: Places
    high: Places


def _samples(program: Program, modality: Modality, value: Tensor) -> list[_Sample]:
    """By row, the tokens that lie in the input; none where that is not known of all."""
    book, tokens = program.flow.book, modality.tokens
    plain = (tokens >= 0) & ~book.learned(tokens)
    first, last = book.elements(tokens.clamp(min=0)), book.until(tokens.clamp(min=0))
    argument = next((a for a in program.flow.arguments if a.name == input_of(modality.name)), None)
    if argument is None or tuple(argument.shape) != tuple(value.shape):
        return []
    start, stop = argument.first, argument.first + value.numel()
    known = (first >= start) & (last >= first) & (last < stop)
    if not bool(known[plain].all()):
        return []
    made = []
    for row in range(len(tokens)):
        columns = plain[row].nonzero().flatten()
        ends = (np.asarray(each[row, columns]) - start for each in (first, last))
        corners = [np.stack(np.unravel_index(each, tuple(value.shape)), -1) for each in ends]
        low, high = np.minimum(*corners), np.maximum(*corners)
        made.append(_Sample(columns.numpy(), low, high))
    return made


def _alike(samples: Sequence[_Sample]) -> bool:
    """Whether all samples' tokens stand in the same columns and lie in the same way."""
    first = samples[0]
    return all(
        np.array_equal(own.columns, first.columns)
        and np.array_equal(own.low[:, 1:], first.low[:, 1:])
        and np.array_equal(own.low[:, 0] - own.low[:1, 0], first.low[:, 0] - first.low[:1, 0])
        for own in samples
    )


def _of_images(own: _Sample, shape: Sequence[int]) -> tuple[Picture, ...]:
    """Tokens made of boxes of images whose rows and columns are the input's last axes."""
    lead = len(shape) - 3
    if not np.array_equal(own.low[:, :lead], own.high[:, :lead]):
        return ()  # made of several images at once
    tiles, of_tile = np.unique(own.low[:, :lead], axis=0, return_inverse=True)
    made = []
    for i, tile in enumerate(tiles):
        here = np.flatnonzero(of_tile.ravel() == i)
        middle = own.low[here, -2:] + own.high[here, -2:]
        grid = len(np.unique(middle[:, 0])), len(np.unique(middle[:, 1]))
        if len(np.unique(middle, axis=0)) != len(here) or grid[0] * grid[1] != len(here):
            return ()
        order = here[np.lexsort((middle[:, 1], middle[:, 0]))]
        source = int(tile[1]) if lead == 3 else 0  # (batch, pictures, tiles, ...)
        at = int(np.ravel_multi_index(tuple(tile), tuple(shape[:lead])))
        first, last = own.low[here, -2:].min(0), own.high[here, -2:].max(0) + 1
        whole = not first.any() and tuple(last) == tuple(shape[-2:])
        within = () if whole else (*first.tolist(), *last.tolist())
        tokens = tuple(own.columns[order].tolist())
        made.append(Picture(grid, tokens, source, i, len(tiles), at=at, within=within))
    return _numbered(made)


def _numbered(pictures: Sequence[Picture]) -> tuple[Picture, ...]:
    """With the parts of each source counted by themselves."""
    sources = [picture.source for picture in pictures]
    return tuple(
        replace(p, part=sources[:i].count(p.source), parts=sources.count(p.source))
        for i, p in enumerate(pictures)
    )


def _of_patches(
    samples: Sequence[_Sample], value: Tensor, inputs: Mapping[str, Tensor], block: int
) -> Iterator[tuple[Picture, ...]]:
    """Tokens made of rows of patches, where another input says how many each picture has.

    `block` is the side of the blocks that they are listed in, 0 where the model does not tell.
    """
    rows = [_rows(own, value) for own in samples]
    for sizes in sizes_told(inputs):
        frames = [(r, c) for times, r, c in sizes for _ in range(times)]
        counts = [r * c for r, c in frames]
        padded = value.dim() == 3 and len(value) == len(frames)
        length = value.shape[1] if padded else 0
        starts = [i * length if padded else sum(counts[:i]) for i in range(len(frames))]
        if (padded and max(counts) > length) or (
            not padded and sum(counts) != value.shape[:-1].numel()
        ):
            continue
        side = side_of(sizes, value, inputs, block)
        of_frame = [k for k, size in enumerate(sizes) for _ in range(size[0])]
        found = [
            _on_frames(own, at, frames, starts, side, of_frame)
            for own, at in zip(samples, rows, strict=True)
        ]
        if any(found):
            yield from found
            return
    yield from ((),) * len(samples)


def _rows(own: _Sample, value: Tensor) -> Places:
    """Which of all rows of patches each token is made of."""
    shape = tuple(value.shape[:-1])
    return np.asarray(np.ravel_multi_index(tuple(own.low[:, :-1].T), shape), np.int64)


def _on_frames(
    own: _Sample, rows: Places, frames: Sequence[tuple[int, int]], starts: Sequence[int], side: int,
    of_frame: Sequence[int],
) -> tuple[Picture, ...]:  # fmt: skip
    """The frames that one sample has all the patches of."""
    column = dict(zip(rows.tolist(), own.columns.tolist(), strict=True))
    used = [i for i, start in enumerate(starts) if start in column]
    sources = list(dict.fromkeys(of_frame[i] for i in used))
    made = []
    for i in used:
        order = ordered(frames[i], side)
        if any(starts[i] + place not in column for place in order):
            return ()
        tokens = tuple(column[starts[i] + place] for place in order)
        parts = [k for k in used if of_frame[k] == of_frame[i]]
        made.append(
            Picture(
                frames[i], tokens, sources.index(of_frame[i]), parts.index(i), len(parts),
                is_frame=True, at=starts[i],
            )
        )  # fmt: skip
    return tuple(made)
