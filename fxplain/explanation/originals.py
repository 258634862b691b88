"""Originals: the photos and recordings that a processor made the model's inputs of.

Where a picture of the model's input lies on its photo is found by what the processor makes of plain
pictures of the photo's size: a black and a white one tell its padding and its normalisation, one that
grows lighter from left to right the columns, one from top to bottom the rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from fxplain.errors import LoadError
from fxplain.explanation.beneath import pictures_beneath
from fxplain.explanation.pictures import Picture

__all__ = ["Originals", "Placement", "Probes", "probe_pictures"]

Box = tuple[float, float, float, float]
"""Left, top, right and bottom."""

STRAIGHT = 0.02
"""How far, as a part of the photo, a column may lie from where an even scaling puts it."""

LONGEST_SAVED = 512
"""Pixels of the longer side of a photo in a file, about as many numbers as a model is given of it."""

SIXTEEN_BITS = 32767

EDGE = 0.004
"""How far an edge may lie from the photo's own and be the same: a level of 255."""

ALIKE = 0.8
"""How well (as a correlation) the photo has to agree with what the model was given of it."""


@dataclass(frozen=True)
class Placement:
    """Where a picture of the model's input lies on the photo that it was made of.

    Attributes
    ----------
    photo
        Which of the photos.
    box
        Left, top, right, bottom as fractions of the photo; what lies beyond 0 and 1 is padding.
    """

    photo: int
    box: Box


@dataclass(frozen=True, eq=False)
class Probes:
    """The model's inputs by argument name, as its processor makes them of plain pictures.

    Attributes
    ----------
    black, white
        Of one colour.
    across, down
        From black at the left, at the top, to white.
    counted
        Of `n` photos the first as light as 1/n, the second as 2/n, ...
    """

    black: Mapping[str, Tensor]
    white: Mapping[str, Tensor]
    across: Mapping[str, Tensor]
    down: Mapping[str, Tensor]
    counted: Mapping[str, Tensor]


def probe_pictures(sizes: Sequence[tuple[int, int]]) -> dict[str, list[NDArray[np.uint8]]]:
    """For each field of `Probes` a picture, (height, width, 3), for each photo of such a size."""

    def plain(level: float, size: tuple[int, int]) -> NDArray[np.uint8]:
        return np.full((*size, 3), round(255 * level), np.uint8)

    def growing(height: int, width: int) -> NDArray[np.uint8]:
        levels = np.rint((np.arange(width) + 0.5) / width * 255).astype(np.uint8)
        return np.broadcast_to(levels[None, :, None], (height, width, 3)).copy()

    count = len(sizes)
    return {
        "black": [plain(0, size) for size in sizes],
        "white": [plain(1, size) for size in sizes],
        "across": [growing(*size) for size in sizes],
        "down": [growing(w, h).swapaxes(0, 1).copy() for h, w in sizes],
        "counted": [plain((i + 1) / count, size) for i, size in enumerate(sizes)],
    }


@dataclass(frozen=True, eq=False)
class Originals:
    """What people gave, before a processor made the model's inputs of it.

    Attributes
    ----------
    photos
        (height, width, 3) colours from 0 to 255.
    sounds
        (samples,) of each recording.
    rate
        Their samples per second.
    probe
        What makes the probes; None where nothing is to be placed.
    placed
        By modality and sample, where each of its pictures lies, as far as it was found before.
    owners
        Which sample each photo was given for; empty where that is not said.
    films
        Which video each photo is a frame of, -1 of an image; empty where there are images alone.
    lengths
        How many seconds each video has; empty where that is not known of all.
    """

    photos: tuple[NDArray[np.uint8], ...] = ()
    sounds: tuple[NDArray[np.float32], ...] = ()
    rate: int = 0
    probe: Callable[[], Probes | None] | None = None
    placed: Mapping[str, list[tuple[Placement | None, ...]]] = field(default_factory=dict)
    owners: tuple[int, ...] = ()
    films: tuple[int, ...] = ()
    lengths: tuple[float, ...] = ()

    def frame_of(self, photo: int) -> tuple[int, int] | None:
        """Which video a photo is a frame of, and which of its frames; None of an image."""
        film = self.films[photo] if self.films else -1
        return None if film < 0 else (film, self.films[:photo].count(film))

    def is_of_another(self, placed: Placement | None, sample: int) -> bool:
        """Whether a picture lies on a photo that was given for another sample of the batch."""
        return placed is not None and bool(self.owners) and self.owners[placed.photo] != sample

    @cached_property
    def _probes(self) -> Probes | None:
        return None if self.probe is None else self.probe()

    def kept(self, placed: Mapping[str, list[tuple[Placement | None, ...]]]) -> Originals:
        """The same without what makes probes, which no file and no other process takes."""
        return replace(self, probe=None, placed=placed)

    # -- files ----------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """For a file: photos no longer than `LONGEST_SAVED`, recordings of 16 bits."""
        photos = {f"photo/{i}": _smaller(photo) for i, photo in enumerate(self.photos)}
        sounds = {f"sound/{i}": _sixteen_bits(sound) for i, sound in enumerate(self.sounds)}
        told = {"photo_owners": self.owners, "photo_films": self.films}
        lists = {name: torch.tensor(numbers) for name, numbers in told.items() if numbers}
        lengths = {"film_lengths": torch.tensor(self.lengths)} if self.lengths else {}
        return {**photos, **sounds, **lists, **lengths}

    def placed_as_lists(self) -> dict[str, list[list[list[float]]]]:
        """Where pictures lie as plain data: photo, left, top, right, bottom, or nothing."""
        return {
            name: [[[] if p is None else [p.photo, *p.box] for p in own] for own in samples]
            for name, samples in self.placed.items()
        }

    @classmethod
    def read(
        cls, tensors: Mapping[str, Tensor], rate: int, placed: Mapping[str, list[list[list[float]]]]
    ) -> Originals:
        """What a file holds.

        Raises
        ------
        LoadError
            When it holds something else.
        """
        photos = [tensors[name] for name in _numbered(tensors, "photo/")]
        sounds = [tensors[name] for name in _numbered(tensors, "sound/")]
        if any(p.dtype != torch.uint8 or p.dim() != 3 or p.shape[2] != 3 for p in photos):
            raise LoadError("its photos are no (height, width, 3) colours from 0 to 255.")
        if any(s.dtype != torch.int16 or s.dim() != 1 for s in sounds):
            raise LoadError("its recordings are no samples of 16 bits.")
        of_photos = {
            name: tensors.get(f"photo_{name}", torch.zeros(0, dtype=torch.long))
            for name in ("owners", "films")
        }
        for told in of_photos.values():
            if told.is_floating_point() or told.dim() != 1 or len(told) not in (0, len(photos)):
                raise LoadError("it does not say of each photo which sample or video it is of.")
        lengths = tensors.get("film_lengths", torch.zeros(0))
        if not lengths.is_floating_point() or lengths.dim() != 1:
            raise LoadError("it does not say of each video how long it is.")
        lists = [p for samples in placed.values() for own in samples for p in own]
        if any(p and (len(p) != 5 or not 0 <= p[0] < len(photos)) for p in lists):
            raise LoadError("its photos lie at no photo, left, top, right and bottom.")
        return cls(
            photos=tuple(p.numpy() for p in photos),
            sounds=tuple((s.float() / SIXTEEN_BITS).numpy() for s in sounds),
            rate=rate,
            owners=tuple(of_photos["owners"].tolist()),
            films=tuple(of_photos["films"].tolist()),
            lengths=tuple(lengths.tolist()),
            placed={
                name: [tuple(_placement(p) for p in own) for own in samples]
                for name, samples in placed.items()
            },
        )

    def placements(
        self, name: str, value: Tensor | None, pictures: Sequence[Picture], sample: int
    ) -> tuple[Placement | None, ...]:
        """Where each picture lies on a photo; None of one for which that is not known.

        Parameters
        ----------
        name
            The modality's.
        value
            The input that it was made of.
        pictures
            What its tokens lie on.
        sample
            Which of the batch.
        """
        if name in self.placed:
            return self.placed[name][sample]
        unknown = (None,) * len(pictures)
        probes = self._probes if value is not None and pictures else None
        if probes is None or value is None:
            return unknown
        argument = name.partition("@")[0]
        made = [value, *(getattr(probes, each).get(argument) for each in _FIELDS)]
        if any(each is None or each.shape != value.shape for each in made):
            return unknown
        slanting = made[3] + made[4]  # no patch of it is plain, as those of the photo may be
        frames = [pictures_beneath(each, pictures, sample, slanting) for each in made]
        if any(len(own) != len(pictures) for own in frames):
            return unknown
        return tuple(self._place(*own) for own in zip(*frames, strict=True))

    def _place(
        self, given: Tensor, black: Tensor, white: Tensor, across: Tensor, down: Tensor,
        counted: Tensor,
    ) -> Placement | None:  # fmt: skip
        """Where one picture lies, each (channels, height, width)."""
        span = (white.float() - black.float()).mean(0)
        inside = span.abs() > span.abs().max() / 2
        if not bool(inside.any()) or float(span.abs().max()) == 0:
            return None

        def level(frame: Tensor) -> Tensor:
            return (frame.float() - black.float()).mean(0) / torch.where(inside, span, 1.0)

        number = round(float(level(counted)[inside].mean()) * len(self.photos)) - 1
        if not 0 <= number < len(self.photos):
            return None
        height, width = self.photos[number].shape[:2]
        columns = _ends(level(across), inside, width)
        rows = _ends(level(down).T, inside.T, height)
        if columns is None or rows is None:
            return None
        found = Placement(number, (columns[0], rows[0], columns[1], rows[1]))
        return found if _agrees(self.photos[number], level(given), inside, found.box) else None


def _smaller(photo: NDArray[np.uint8]) -> Tensor:
    pixels = torch.from_numpy(photo.copy())
    height, width = photo.shape[:2]
    scale = LONGEST_SAVED / max(height, width)
    if scale >= 1:
        return pixels
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    small = F.interpolate(pixels.permute(2, 0, 1)[None].float(), size, mode="area")[0]
    return small.permute(1, 2, 0).round().to(torch.uint8).contiguous()


def _sixteen_bits(sound: NDArray[np.float32]) -> Tensor:
    loudest = max(1.0, float(np.abs(sound).max(initial=0)))
    return torch.from_numpy(np.rint(sound / loudest * SIXTEEN_BITS).astype(np.int16))


def _numbered(tensors: Mapping[str, Tensor], prefix: str) -> list[str]:
    return [f"{prefix}{i}" for i in range(len(tensors)) if f"{prefix}{i}" in tensors]


def _placement(plain: Sequence[float]) -> Placement | None:
    if not plain:
        return None
    photo, left, top, right, bottom = plain
    return Placement(int(photo), (left, top, right, bottom))


_FIELDS = ("black", "white", "across", "down", "counted")


def _ends(levels: Tensor, inside: Tensor, length: int) -> tuple[float, float] | None:
    """Where the first column begins and the last one ends on a photo that grows lighter by columns.

    `length` is how many columns the photo has. Where its first and its last are seen as they are, it is
    seen whole: of a few columns that are made large nothing else is straight.
    """
    count = inside.sum(0)
    columns = count.nonzero().flatten()
    if len(columns):
        seen = (levels * inside).sum(0)[columns] / count[columns]
        first, last, size = int(columns[0]), int(columns[-1]) + 1, inside.shape[1]
        edge = 0.5 / length
        if float(seen[0]) < edge + EDGE and float(seen[-1]) > 1 - edge - EDGE:
            return -first / (last - first), 1 + (size - last) / (last - first)
    if len(columns) > 8:
        columns = columns[2:-2]  # what is beside the photo shines into its edge
    if len(columns) < 2:
        return None
    means = (levels * inside).sum(0)[columns] / count[columns]
    places = columns.float() + 0.5
    slope = torch.dot(places - places.mean(), means - means.mean()) / (
        (places - places.mean()).square().sum()
    )
    start = means.mean() - slope * places.mean()
    if float(slope) <= 0 or float((start + slope * places - means).abs().max()) > STRAIGHT:
        return None
    return _snapped(float(start)), _snapped(float(start + slope * inside.shape[1]))


def _snapped(place: float) -> float:
    """The photo's own edge, where it is that but for rounding."""
    return float(round(place)) if abs(place - round(place)) < EDGE else place


def _agrees(photo: NDArray[np.uint8], level: Tensor, inside: Tensor, box: Box) -> bool:
    """Whether the photo at a place is what the model was given, both seen coarsely."""
    height, width = level.shape
    grey, (left, top, right, bottom) = _around(photo, box)
    across = left + (torch.arange(width) + 0.5) / width * (right - left)
    down = top + (torch.arange(height) + 0.5) / height * (bottom - top)
    places = torch.stack(torch.meshgrid(across * 2 - 1, down * 2 - 1, indexing="xy"), -1)
    size = (min(grey.shape[0], 2 * height), min(grey.shape[1], 2 * width))
    small = F.interpolate(grey[None, None], size, mode="area")
    seen = F.grid_sample(small, places[None].float(), padding_mode="border", align_corners=False)[
        0, 0
    ]
    cells = (min(height, 12), min(width, 12))
    pair = torch.stack(
        [F.adaptive_avg_pool2d((each * inside)[None], cells).flatten() for each in (seen, level)]
    )
    if float((pair[0] - pair[1]).abs().max()) < 0.1:
        return True
    if float(pair.std(1).min()) < 1e-3:
        return False
    return float(torch.corrcoef(pair)[0, 1]) > ALIKE


def _around(photo: NDArray[np.uint8], box: Box) -> tuple[Tensor, Box]:
    """The part of a photo that a box lies on, in grey, and the box as fractions of that."""
    height, width = photo.shape[:2]
    left, top, right, bottom = box
    x, y = (min(max(0, math.floor(at * n)), n - 1) for at, n in ((left, width), (top, height)))
    w, h = (max(1, min(n, math.ceil(at * n)) - start)
            for at, n, start in ((right, width, x), (bottom, height, y)))  # fmt: skip
    part = torch.from_numpy(photo[y : y + h, x : x + w].mean(-1) / 255).float()
    own = ((left * width - x) / w, (top * height - y) / h)
    return part, (*own, (right * width - x) / w, (bottom * height - y) / h)
