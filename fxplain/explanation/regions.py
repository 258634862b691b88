"""Regions: tokens of pictures, recordings and tables put together to what a caller asks for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fxplain.arguments import number, place_in, whole
from fxplain.arguments import shown as described
from fxplain.errors import MethodError
from fxplain.explanation.merging import Word
from fxplain.explanation.units import REST

if TYPE_CHECKING:
    from fxplain.explanation.seen import AsSeen

__all__ = ["groups_of", "regions_of"]

HALF = 0.5 - 1e-6
"""A patch is of a region that holds this much of it, and of none that holds less."""

_AXIS, _NUMBER, _PLACE = whole(1, 10_000), number(), whole(0)

Bounds = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""


@dataclass(frozen=True)
class _Sheet:
    """A grid of tokens on an image.

    Attributes
    ----------
    image
        Which of the images that were given.
    grid, tokens
        (rows, columns), and the tokens' places, row by row.
    bounds
        Where the grid lies on the image, in its pixels.
    size
        (height, width) of the image in pixels.
    """

    image: int
    grid: tuple[int, int]
    tokens: tuple[int, ...]
    bounds: Bounds
    size: tuple[int, int]

    @property
    def patch(self) -> tuple[float, float]:
        """(height, width) of a token in pixels."""
        left, top, right, bottom = self.bounds
        return (bottom - top) / self.grid[0], (right - left) / self.grid[1]

    def edges(self) -> tuple[Tensor, Tensor]:
        """Where rows and where columns begin and end, in pixels."""
        left, top, right, bottom = self.bounds
        down = torch.linspace(top, bottom, self.grid[0] + 1, dtype=torch.double)
        return down, torch.linspace(left, right, self.grid[1] + 1, dtype=torch.double)


@dataclass(frozen=True)
class _Region:
    """A part of an image, or of every one: a box in pixels, or a mask of the image's size."""

    name: str
    shape: Bounds | Tensor
    image: int | None = None

    @property
    def area(self) -> float:
        """In pixels."""
        if isinstance(self.shape, Tensor):
            return float(self.shape.sum())
        left, top, right, bottom = self.shape
        return (right - left) * (bottom - top)

    def held(self, sheet: _Sheet) -> Tensor:
        """(rows, columns) the part of each token's patch that lies within."""
        if self.image not in (None, sheet.image):
            return torch.zeros(sheet.grid, dtype=torch.double)
        down, across = sheet.edges()
        if isinstance(self.shape, Tensor):
            return _share_of_mask(self.shape, down, across, self._fitting(sheet))
        left, top, right, bottom = self.shape
        return _overlap(down, top, bottom)[:, None] * _overlap(across, left, right)[None]

    def _fitting(self, sheet: _Sheet) -> tuple[int, int]:
        size = sheet.size
        if isinstance(self.shape, Tensor) and tuple(self.shape.shape) != size:
            raise MethodError(
                f"units: the mask of {self.name!r} is {tuple(self.shape.shape)}, but the image has "
                f"(height, width) {size} in pixels."
            )
        return size


def _overlap(edges: Tensor, start: float, stop: float) -> Tensor:
    """The part of each stretch between edges that lies between start and stop."""
    within = edges.clamp(start, stop).diff()
    return within / edges.diff()


def _share_of_mask(mask: Tensor, down: Tensor, across: Tensor, size: tuple[int, int]) -> Tensor:
    """The mean of a mask under each cell, 0 beyond the image."""
    sums = torch.zeros(size[0] + 1, size[1] + 1, dtype=torch.double)
    sums[1:, 1:] = mask.double().cumsum(0).cumsum(1)

    def at(places: Tensor, length: int) -> tuple[Tensor, Tensor]:
        inside = places.clamp(0, length)
        low = inside.floor().long().clamp(max=length - 1)
        return low, inside - low

    (row, down_part), (column, across_part) = at(down, size[0]), at(across, size[1])
    # the sum up to a place between pixels grows evenly between those up to both
    rows = sums[row] + (sums[row + 1] - sums[row]) * down_part[:, None]
    table = rows[:, column] + (rows[:, column + 1] - rows[:, column]) * across_part
    areas = down.diff()[:, None] * across.diff()[None]
    return table.diff(dim=0).diff(dim=1) / areas


# ---- pictures -----------------------------------------------------------------------------------


def regions_of(explanation: AsSeen, modality: str, sample: int, regions: Any) -> list[Word]:
    """The tokens of a sample's pictures by region; special tokens stay by themselves.

    Parameters
    ----------
    explanation
        It knows where the tokens lie.
    modality, sample
        Whose pictures.
    regions
        (rows, columns) that each picture is parted in, or parts of it by name, or in a list: boxes
        (left, top, right, bottom) or masks (height, width) of yes and no, in pixels of the photo that
        an explainer was given, or else of the image that the model was given; (image, part) of one of
        several images, from 0. A patch is of the region that holds most of it, of the smaller one of
        two that hold as much, and of none that holds less than half.

    Raises
    ------
    MethodError
        When they are none of these, or one holds half of no patch.
    """
    sheets = _sheets(explanation, modality, sample)
    special = explanation.special_in(modality, sample)
    apart = [Word(name.rsplit(".", 1)[-1], (i,), special=True) for i, name in special.items()]
    if _is_grid(regions):
        made = list(_by_grid(sheets, (int(regions[0]), int(regions[1]))))
    else:
        made = _by_shape(sheets, list(_named(regions, sheets, modality)))
    used = {place for word in made for place in word.tokens} | special.keys()
    rest = tuple(i for i in range(len(explanation.labels[modality][sample])) if i not in used)
    return [*made, *([Word(REST, rest, " ")] if rest else []), *apart]


def _sheets(explanation: AsSeen, modality: str, sample: int) -> list[_Sheet]:
    """Where the tokens lie: on the photos that were given, or on what the model was given."""
    photos = explanation.on_photos(modality, sample)
    found = []
    for on in photos:
        height, width = explanation.originals.photos[on.photo].shape[:2]
        left, top, right, bottom = on.box
        bounds = left * width, top * height, right * width, bottom * height
        image = on.photo if on.film is None else on.film
        found.append(_Sheet(image, on.grid, on.tokens, bounds, (height, width)))
    if photos:
        numbers = {image: i for i, image in enumerate(dict.fromkeys(s.image for s in found))}
        return [_Sheet(numbers[s.image], s.grid, s.tokens, s.bounds, s.size) for s in found]
    pictures = explanation.pictures(modality, sample)
    for i, picture in enumerate(pictures):
        height, width = explanation.size_in_pixels(modality, picture.grid, picture.within)
        image = picture.source if picture.is_frame or picture.is_level else i
        bounds = 0.0, 0.0, float(width), float(height)
        found.append(_Sheet(image, picture.grid, picture.tokens, bounds, (height, width)))
    return found


def _is_grid(regions: Any) -> bool:
    pair = isinstance(regions, (tuple, list)) and len(regions) == 2
    return pair and all(map(_AXIS.fits, regions))


def _by_grid(sheets: Sequence[_Sheet], parts: tuple[int, int]) -> Iterator[Word]:
    """Blocks of each image, all as large; a token is of the block that its middle lies in."""
    places: dict[tuple[int, int, int], list[int]] = {}
    for sheet in sheets:
        down, across = (
            ((edges[1:] + edges[:-1]) / 2 / length * count).long().clamp(0, count - 1)
            for edges, length, count in zip(sheet.edges(), sheet.size, parts, strict=True)
        )
        cells = ((row, column) for row in down.tolist() for column in across.tolist())
        for token, cell in zip(sheet.tokens, cells, strict=True):
            own = places.setdefault((sheet.image, *cell), [])
            if token not in own:
                own.append(token)
    several = len({sheet.image for sheet in sheets}) > 1
    for image, row, column in sorted(places):
        name = f"region {row},{column}"
        called = f"{name} of image {image}" if several else name
        yield Word(called, tuple(places[image, row, column]), " ")


def _by_shape(sheets: Sequence[_Sheet], regions: Sequence[_Region]) -> list[Word]:
    order = sorted(range(len(regions)), key=lambda i: regions[i].area)
    places: list[list[int]] = [[] for _ in regions]
    for sheet in sheets:
        held = torch.stack([regions[i].held(sheet) for i in order]).flatten(1)
        most, which = held.max(0)  # of equals the first, which is the smallest
        which = torch.where(most >= HALF, which, -1)
        for token, i in zip(sheet.tokens, which.tolist(), strict=True):
            if i >= 0:
                places[order[i]].append(token)
    for region, own in zip(regions, places, strict=True):
        if not own:
            raise MethodError(_empty(region, sheets))
    return [
        Word(region.name, tuple(dict.fromkeys(own)), " ")
        for region, own in zip(regions, places, strict=True)
    ]


def _empty(region: _Region, sheets: Sequence[_Sheet]) -> str:
    own = next((s for s in sheets if region.image in (None, s.image)), sheets[0])
    (height, width), (down, across) = own.patch, own.size
    return (
        f"units: {region.name!r} holds half of no patch that is not another region's. Make it larger: "
        f"patches are about {height:.0f} x {width:.0f} pixels here (height x width), of an image of "
        f"{down} x {across}."
    )


def _named(regions: Any, sheets: Sequence[_Sheet], modality: str) -> Iterator[_Region]:
    if isinstance(regions, Mapping):
        given = [(str(name), value) for name, value in regions.items()]
    elif isinstance(regions, (list, tuple)):
        given = [(f"region {i}", value) for i, value in enumerate(regions)]
    else:
        given = []
    if not given:
        raise MethodError(
            f"units={described(regions)} must be, for the picture {modality!r}, (rows, columns), or "
            f"boxes (left, top, right, bottom) or masks in pixels, by name or in a list."
        )
    images = {sheet.image for sheet in sheets}
    for name, value in given:
        which = None
        if _is_pair(value):
            if len(images) == 1 and value[0] not in (0, -1):
                raise MethodError(
                    f"units: there is no image {value[0]} for {name!r}: each sample has one in "
                    f"{modality!r}. Leave the image's number out."
                )
            which = place_in("image", value[0], max(images) + 1)
            value = value[1]
        shape = _shape(name, value)
        if which is None and len(images) > 1:
            raise MethodError(
                f"units: there are {len(images)} images in {modality!r}; say of which {name!r} is a "
                f"part: (image, part), from 0."
            )
        yield _Region(name, shape, which)


def _is_pair(value: Any) -> bool:
    pair = isinstance(value, (tuple, list)) and len(value) == 2
    return pair and _PLACE.fits(value[0]) and not _NUMBER.fits(value[1])


def _shape(name: str, value: Any) -> Bounds | Tensor:
    if isinstance(value, (tuple, list)) and len(value) == 4 and all(map(_NUMBER.fits, value)):
        left, top, right, bottom = map(float, value)
        if left < right and top < bottom:
            return left, top, right, bottom
        raise MethodError(
            f"units: the box of {name!r} is (left, top, right, bottom) with left < right and "
            f"top < bottom, in pixels; got {described(value)}."
        )
    try:
        mask = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        mask = torch.empty(0)
    if mask.dim() != 2 or mask.is_complex() or not mask.numel():
        raise MethodError(
            f"units: {name!r} is {described(value)}, and neither a box (left, top, right, bottom) nor "
            f"a mask (height, width)."
        )
    return mask.cpu() != 0


# ---- what lies on no picture --------------------------------------------------------------------


def groups_of(
    labels: Sequence[str], special: Mapping[int, str], groups: Any, seconds: float | None = None
) -> list[Word]:
    """Tokens by name: columns of a table, moments, channels; special tokens stay by themselves.

    Parameters
    ----------
    labels
        The tokens' names.
    special
        Places of special tokens.
    groups
        By name, places or names of tokens: one, a list of several, a range; of a recording, (start,
        stop) in seconds, which holds the tokens whose middle lies within.
    seconds
        How long the recording is.

    Raises
    ------
    MethodError
        When they are something else, or two have a token in common.
    """
    if not isinstance(groups, Mapping) or not groups:
        raise MethodError(
            f"units={described(groups)} must say by name which tokens are together, as places or as "
            f"names of tokens: {{'address': [2, 3]}}."
        )
    taken: dict[int, str] = {}
    made = []
    for name, value in groups.items():
        own = _stretch(str(name), value, labels, special, seconds) or _tokens(value, labels)
        if not own:
            raise MethodError(f"units: {str(name)!r} has no token: {described(value)}.")
        for place in own:
            if place in taken:
                raise MethodError(
                    f"units: token {place} is of {taken[place]!r} and of {str(name)!r}, and each is "
                    f"of one unit."
                )
            taken[place] = str(name)
        made.append(Word(str(name), own, " "))
    rest = tuple(i for i in range(len(labels)) if i not in taken and i not in special)
    apart = [Word(labels[i], (i,), special=True) for i in special if i not in taken]
    return [*made, *([Word(REST, rest, " ")] if rest else []), *apart]


def _stretch(
    name: str, value: Any, labels: Sequence[str], special: Mapping[int, str], seconds: float | None
) -> tuple[int, ...]:
    """The tokens of a part of a recording, (start, stop) in seconds; none where it is no such part."""
    pair = isinstance(value, tuple) and len(value) == 2 and all(map(_NUMBER.fits, value))
    if seconds is None or not pair:
        return ()
    plain = [i for i in range(len(labels)) if i not in special]
    step = seconds / max(1, len(plain))
    own = tuple(t for i, t in enumerate(plain) if value[0] <= (i + 0.5) * step < value[1])
    if not own:
        raise MethodError(
            f"units: {name!r} is (start, stop) in seconds of a recording of {seconds:.3g} s, whose "
            f"tokens are {step:.3g} s long; the middle of none lies in {described(value)}."
        )
    return own


def _tokens(value: Any, labels: Sequence[str]) -> tuple[int, ...]:
    several = isinstance(value, (list, tuple, range, set, frozenset))
    return tuple(dict.fromkeys(_token(each, labels) for each in (value if several else [value])))


def _token(value: Any, labels: Sequence[str]) -> int:
    if isinstance(value, str):
        if value not in labels:
            some = ", ".join(map(repr, list(labels)[:8]))
            raise MethodError(f"units: no token is called {value!r}; the first are {some}.")
        return list(labels).index(value)
    if not _PLACE.fits(value) or int(value) >= len(labels):
        raise MethodError(
            f"units: {described(value)} is no token's place; there are {len(labels)}, from 0."
        )
    return int(value)
