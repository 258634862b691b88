"""OnPhoto: tokens on the photo that was given, tiles put together, with its crop and padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from fxplain.explanation.originals import Box, Originals, Placement
from fxplain.explanation.pictures import Picture

__all__ = ["OnPhoto", "on_photos", "part", "which"]

NEAR = 0.01
"""Parts of a photo that are told apart: less than a hundredth of it is neither cut off nor padded."""

OVERLAP = 0.1
"""How far tiles that are put together may reach over each other, as a part of one."""


@dataclass(frozen=True)
class OnPhoto:
    """A grid of tokens on a photo.

    Attributes
    ----------
    photo
        Which of the explanation's ``originals.photos``.
    box
        Where on it the grid lies: left, top, right, bottom as fractions, beyond 0 and 1 where the
        processor padded it.
    grid
        (rows, columns).
    tokens
        Their places among the modality's, row by row.
    pictures
        Which of the modality's pictures these are.
    frame_number
        Of a video, which frame this is of those that the model tells apart.
    is_part
        Whether the model was given other parts of the photo besides.
    film
        Of a frame, which of the videos it is of, where that is known.
    second
        Of a frame, when in its video the middle of what it stands for is, where that is known.
    """

    photo: int
    box: Box
    grid: tuple[int, int]
    tokens: tuple[int, ...]
    pictures: tuple[int, ...]
    frame_number: int | None = None
    is_part: bool = False
    film: int | None = None
    second: float | None = None

    @property
    def frame(self) -> Box:
        """The photo and its padding, as fractions of the photo."""
        left, top, right, bottom = self.box
        return min(0.0, left), min(0.0, top), max(1.0, right), max(1.0, bottom)

    @property
    def cut(self) -> float:
        """The part of the photo that the model was not given."""
        left, top, right, bottom = (min(1.0, max(0.0, x)) for x in self.box)
        seen = (right - left) * (bottom - top)
        return 1 - seen if 1 - seen > NEAR else 0.0

    @property
    def padded(self) -> float:
        """The part of what the model was given that is padding."""
        left, top, right, bottom = self.box
        whole = (right - left) * (bottom - top)
        inside = (min(1.0, right) - max(0.0, left)) * (min(1.0, bottom) - max(0.0, top))
        return 1 - inside / whole if whole and 1 - inside / whole > NEAR else 0.0

    def said(self) -> str:
        """What the processor did, in words; empty where the model was given the photo as a whole."""
        told = []
        kind = "photo" if self.frame_number is None else "frame"
        if self.cut and self.is_part:
            told.append(f"gave the model {1 - self.cut:.0%} of the {kind} here")
        elif self.cut:
            told.append(f"cut {self.cut:.0%} of the {kind} off")
        if self.padded:
            told.append(f"put a margin around it ({self.padded:.0%} of what the model was given)")
        return f"The processor {' and '.join(told)}." if told else ""

    def heat(self, values: Tensor, size: tuple[int, int], mode: str = "bilinear") -> Tensor:
        """(height, width) of the photo: each pixel has the number of the token on it, 0 beside all.

        Parameters
        ----------
        values
            (tokens of the modality,).
        size
            (height, width) of the photo in pixels.
        mode
            "bilinear" or "nearest".
        """
        left, top, right, bottom = self.box
        height, width = size
        across = ((torch.arange(width) + 0.5) / width - left) / (right - left)
        down = ((torch.arange(height) + 0.5) / height - top) / (bottom - top)
        places = torch.stack(torch.meshgrid(across * 2 - 1, down * 2 - 1, indexing="xy"), -1)
        on_grid = values[list(self.tokens)].detach().float().cpu().reshape(1, 1, *self.grid)
        heat = F.grid_sample(
            on_grid, places[None], mode=mode, padding_mode="border", align_corners=False
        )[0, 0]
        seen = (places.abs() <= 1).all(-1)
        return heat * seen


def which(on: OnPhoto, beside: Sequence[OnPhoto]) -> str:
    """What tells a photo from the others: ``photo 1``, ``frame 3 (1.75 s)``; empty of an only one."""
    if on.frame_number is not None:
        several = len({other.film for other in beside}) > 1
        video = f"video {on.film}, " if several else ""
        when = "" if on.second is None else f" ({on.second:.2f} s)"
        return f"{video}frame {on.frame_number}{when}"
    return f"photo {on.photo}" if len({other.photo for other in beside}) > 1 else ""


def part(on: OnPhoto, beside: Sequence[OnPhoto]) -> str:
    """What tells a grid on a photo from the others on it: tiles together, or the photo as a whole."""
    if len(on.pictures) > 1:
        return "put together"
    tiled = any(other.photo == on.photo and len(other.pictures) > 1 for other in beside)
    return "as a whole" if tiled else ""


def on_photos(
    pictures: Sequence[Picture],
    placements: Sequence[Placement | None],
    originals: Originals | None = None,
) -> list[OnPhoto]:
    """Each photo with the tokens on it: tiles that lie in rows and columns as one, or each by itself.

    The small picture of all, which processors give beside the tiles, comes after them.
    """
    made: list[OnPhoto] = []
    photos = dict.fromkeys(placed.photo for placed in placements if placed is not None)
    for photo in photos:
        own = [
            (i, placed.box)
            for i, placed in enumerate(placements)
            if placed is not None and placed.photo == photo
        ]
        together = _put_together(pictures, own, photo)
        rest = [pair for pair in own if together is None or pair[0] not in together.pictures]
        made += [together] if together is not None else []
        for i, box in rest:
            film, frame, second = _frame(pictures[i], photo, originals or Originals())
            made.append(
                OnPhoto(
                    photo, box, pictures[i].grid, pictures[i].tokens, (i,), frame,
                    is_part=len(own) > 1, film=film, second=second,
                )
            )  # fmt: skip
    return made


def _frame(
    picture: Picture, photo: int, originals: Originals
) -> tuple[int | None, int | None, float | None]:
    """Which video a picture is a frame of, which of the frames that the model tells apart, and when."""
    film, number = originals.frame_of(photo) or (None, None)
    count = originals.films.count(film) if film is not None else 0
    if picture.is_frame and picture.parts > 1:
        number, count = picture.part, picture.parts
    if film is None or number is None or film >= len(originals.lengths):
        return film, number, None
    return film, number, (number + 0.5) * originals.lengths[film] / count


def _put_together(
    pictures: Sequence[Picture], own: Sequence[tuple[int, Box]], photo: int
) -> OnPhoto | None:
    """Tiles of one size that fill rows and columns."""
    if any(
        (pictures[i].is_frame and pictures[i].parts > 1) or pictures[i].is_level for i, _ in own
    ):
        return None
    for smallest in sorted({_area(box) for _, box in own}):
        tiles = [(i, box) for i, box in own if smallest <= _area(box) < 1.5 * smallest]
        found = _in_rows(pictures, tiles, photo)
        if found is not None:
            return found
    return None


def _in_rows(
    pictures: Sequence[Picture], tiles: Sequence[tuple[int, Box]], photo: int
) -> OnPhoto | None:
    """Tiles of a size as one, where they fill rows and columns."""
    if len(tiles) < 2 or len({pictures[i].grid for i, _ in tiles}) > 1:
        return None
    around = _around([box for _, box in tiles])
    height, width = (sum(box[k + 2] - box[k] for _, box in tiles) / len(tiles) for k in (1, 0))
    rows, columns = round((around[3] - around[1]) / height), round((around[2] - around[0]) / width)
    if abs(rows * height - (around[3] - around[1])) > OVERLAP * height:
        return None
    if abs(columns * width - (around[2] - around[0])) > OVERLAP * width:
        return None
    lying = {
        (round((box[1] - around[1]) / height), round((box[0] - around[0]) / width)): i
        for i, box in tiles
    }
    if len(tiles) != rows * columns or len(lying) != len(tiles):
        return None
    order = [lying.get((row, column)) for row in range(rows) for column in range(columns)]
    known = [i for i in order if i is not None]
    if len(known) != len(order):
        return None
    down, across = pictures[known[0]].grid
    tokens = torch.tensor([pictures[i].tokens for i in known])
    laid = tokens.reshape(rows, columns, down, across).transpose(1, 2)
    return OnPhoto(
        photo, around, (rows * down, columns * across), tuple(laid.flatten().tolist()), tuple(known)
    )


def _around(boxes: Sequence[Box]) -> Box:
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
