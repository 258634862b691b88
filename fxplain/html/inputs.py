"""Inputs: how each modality is shown on the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from fxplain.explanation import Explanation, Units
from fxplain.explanation.mosaic import Mosaic, put_together
from fxplain.explanation.on_photos import OnPhoto, which
from fxplain.explanation.pictures import Picture, names_of
from fxplain.explanation.units import own_units
from fxplain.html.numbers import png_url
from fxplain.html.photos import photo_views, photos_beneath
from fxplain.html.pictures import Pixels, given_pictures, image_of, images_of, strip_of
from fxplain.html.sounds import sounds_of
from fxplain.html.words import Unit, cuts_of, written
from fxplain.views import View, image_beneath, is_right_to_left

__all__ = ["InputView", "input_views"]

Kind = Literal["words", "grid", "boxes", "strip", "tokens"]

MANY_TOKENS = 64
"""Unnamed tokens beyond this many are a strip, fewer a row of buttons."""

PICTURE_PIXELS = 110_000
"""Pixels of all pictures of a page together: about 250 KB as PNG, 330 KB in the page."""


@dataclass(frozen=True, eq=False)
class InputView:
    """How one modality is shown.

    Attributes
    ----------
    name
        The modality's.
    kind
        "words" (a text), "grid" (tokens on a picture or a plain grid), "boxes" (tokens somewhere on a
        picture), "strip" (tokens in time) or "tokens" (buttons with numbers).
    grid
        (rows, columns), (times, rows, columns), or () where tokens lie on no grid.
    pictures
        By sample, the pictures beneath.
    boxes
        (batch, tokens, 4) corners as fractions of the picture.
    padding
        By sample, the places that an attention mask leaves out.
    units
        By sample and name ("word", "token", "sentence"), how a text is cut.
    asked
        Which of `units` is shown at first, where each modality has its own.
    regions
        By sample, what tokens that are no words are put together to, where that is asked for.
    places
        Of tokens on pictures, their order in them, row by row and picture by picture.
    tiles
        The pictures: each one's name, rows, columns, and where its part of `places` begins.
    photos
        By sample, the photos that were given, and where on them the tokens of each of `tiles` lie.
    layouts
        By sample, `places` and `tiles` of its own, where samples are not alike.
    sounds
        By sample, the recording that was given, to be played.
    """

    name: str
    kind: Kind
    grid: tuple[int, ...] = ()
    pictures: list[list[Pixels]] = field(default_factory=list)
    boxes: Tensor | None = None
    padding: list[list[int]] = field(default_factory=list)
    units: list[dict[str, list[Unit]]] = field(default_factory=list)
    asked: str = ""
    regions: list[list[Unit]] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    tiles: list[dict[str, Any]] = field(default_factory=list)
    photos: list[dict[str, Any]] = field(default_factory=list)
    layouts: list[dict[str, Any]] = field(default_factory=list)
    sounds: list[dict[str, Any]] = field(default_factory=list)

    def of_sample(
        self, labels: list[str], sample: int, special: Mapping[int, str] | None = None
    ) -> dict[str, Any]:
        """What the page needs to draw one sample.

        Parameters
        ----------
        labels
            Its tokens'.
        sample
            Which of the batch.
        special
            Its special tokens, where those of other samples lie elsewhere.
        """
        view: dict[str, Any] = {"labels": labels}
        if self.kind == "words":
            view["words"] = written(labels)
            view["units"] = self.units[sample]
            if self.asked:
                view["asked"] = self.asked
            texts = (text for text, *_ in self.units[sample]["word"])
            view["direction"] = "rtl" if is_right_to_left(texts) else "ltr"
        if self.regions:
            view["regions"] = self.regions[sample]
        if self.pictures:
            view["pictures"] = [png_url(pixels) for pixels in self.pictures[sample]]
            view["sizes"] = [[p.shape[1], p.shape[0]] for p in self.pictures[sample]]
        if self.sounds:
            view["sound"] = self.sounds[sample]
        if self.photos:
            view["photos"] = self.photos[sample]
        if self.layouts:
            view |= self.layouts[sample]
        if special is not None:
            view["special"] = {str(place): name for place, name in special.items()}
        if self.boxes is not None:
            boxes = self.boxes[min(sample, len(self.boxes) - 1)]
            view["boxes"] = [[round(x, 4) for x in box] for box in boxes.clamp(0, 1).tolist()]
        if self.padding:
            view["padding"] = self.padding[sample]
        return view


def input_views(
    explanation: Explanation, pictures: Mapping[str, Any], units: Units = "word"
) -> list[InputView]:
    """How each modality of an explanation is shown.

    Parameters
    ----------
    explanation
        What is shown.
    pictures
        The caller's own pictures by modality, one per sample, for features that were cut from them.
    units
        How texts are cut at first; parts that the caller says are one choice more. Or by modality.
    """
    batch = explanation.batch_size
    own = {name: given_pictures(p, name, batch) for name, p in pictures.items()}
    shown = batch * max(1, sum(_has_picture(explanation, m) for m in explanation.modalities))
    views = [
        _view(explanation, name, own.get(name), max(1, PICTURE_PIXELS // shown), units)
        for name in explanation.modalities
    ]
    return [
        view if view.kind == "words" else replace(view, regions=_regions(explanation, view, units))
        for view in views
    ]


def _regions(explanation: Explanation, view: InputView, units: Units) -> list[list[Unit]]:
    own = own_units(explanation, view.name, units)
    if isinstance(own, str):
        return []
    return [
        [
            (word.text, word.gap, list(word.tokens), word.special)
            for word in explanation.cut(view.name, sample, own)
        ]
        for sample in range(explanation.batch_size)
    ]


def _view(
    explanation: Explanation, name: str, own: list[Pixels] | None, most_pixels: int, units: Units
) -> InputView:
    given = [[pixels] for pixels in own] if own else []
    samples = range(explanation.batch_size)
    views = [View(explanation, name, sample) for sample in samples]
    view = next((each for each in views if each.pictures), views[0])
    kind = view.kinds[0]
    if kind == "boxes":
        photos = [] if given else photos_beneath(explanation, most_pixels)
        if photos:
            return InputView(name, "boxes", boxes=view.boxes, photos=photos)
        found = given or [_beneath(explanation, sample, most_pixels) for sample in samples]
        return InputView(name, "boxes", pictures=found if any(found) else [], boxes=view.boxes)
    if kind == "text":
        count = explanation.relevance[name].shape[1]
        cut = [cuts_of(explanation, name, sample, units) for sample in samples]
        padding = _padding(explanation, name, count)
        own_name = own_units(explanation, name, units)
        asked = own_name if isinstance(own_name, str) else "parts"
        return InputView(name, "words", padding=padding, units=cut, asked=asked)
    if kind == "image":
        found = given or [images_of(each.frames(), most_pixels) for each in views]
        tiled = list(map(_tiled, views, found))
        on_photos = photo_views(explanation, name, most_pixels) if not given else None
        if on_photos is not None:
            return _on_photos(tiled, explanation, *on_photos)
        mosaics = [explanation.mosaic(name, sample) for sample in samples]
        shown = _of_samples(list(map(_together, tiled, mosaics)))
        heard = [] if explanation.originals.photos else sounds_of(explanation, name)
        return replace(shown, sounds=heard)
    named = name in explanation.named  # columns of a table are no moments
    signals = [] if named else [each.signal() for each in views]
    pictures = given or [[strip_of(signal)] for signal in signals if signal is not None]
    many = not named and len(explanation.tokens(name)[0]) > MANY_TOKENS
    sounds = sounds_of(explanation, name)
    strip = bool(pictures or many or sounds)
    return InputView(name, "strip" if strip else "tokens", pictures=pictures, sounds=sounds)


def _tiled(view: View, pictures: list[Pixels]) -> InputView:
    """One sample's pictures."""
    tiles = _tiles(view.pictures)
    return InputView(view.name, "grid", view.grid, [pictures], places=view.plain, tiles=tiles)


def _of_samples(own: Sequence[InputView]) -> InputView:
    """One view of all samples' pictures."""
    layouts = [{"places": view.places, "tiles": view.tiles} for view in own]
    pictures = [of_sample for view in own for of_sample in view.pictures]
    alike = all(layout == layouts[0] for layout in layouts)
    shown = pictures if any(pictures) else []
    return replace(own[0], pictures=shown, layouts=[] if alike else layouts)


def _on_photos(
    views: Sequence[InputView],
    explanation: Explanation,
    named: Sequence[Sequence[tuple[str, OnPhoto]]],
    photos: list[dict[str, Any]],
) -> InputView:
    """With the photos that were given before the tiles, and in the place of pictures of their own."""
    left = [
        _tiles_left(view, explanation, *own)
        for view, own in zip(views, enumerate(named), strict=True)
    ]
    made = []
    for view, own, rest in zip(views, named, left, strict=True):
        (tiles,) = view.pictures
        blank = [np.zeros((1, 1), np.uint8)] * len(own)
        shown = [*blank, *(tiles[i] for i in rest)] if rest else []
        made.append(replace(view, **_laid_out(view, own, rest), pictures=[shown]))
    return replace(_of_samples(made), photos=photos)


def _tiles_left(
    view: InputView, explanation: Explanation, sample: int, own: Sequence[tuple[str, OnPhoto]]
) -> list[int]:
    """The tiles that are shown beside the photos: neither in their place nor another sample's."""
    alone = {i for _, on in own for i in on.pictures if len(on.pictures) == 1}
    placed = explanation.placements(view.name, sample)
    others = {i for i, p in enumerate(placed) if explanation.originals.is_of_another(p, sample)}
    return [i for i in range(len(view.tiles)) if i not in alone | others]


def _laid_out(
    view: InputView, own: Sequence[tuple[str, OnPhoto]], left: Sequence[int]
) -> dict[str, Any]:
    """Tokens' places and tiles, of photos first."""
    tiles: list[dict[str, Any]] = []
    places: list[int] = []
    for name, on in own:
        rows, columns = on.grid
        tiles.append({"name": name, "rows": rows, "columns": columns, "offset": len(places)})
        places += on.tokens
    tile_names = _tile_names([on for _, on in own])
    for i in left:
        tile = view.tiles[i]
        tiles.append({**tile, "name": tile_names.get(i, tile["name"]), "offset": len(places)})
        end = tile["offset"] + tile["rows"] * tile["columns"]
        places += view.places[tile["offset"] : end]
    return {"places": places, "tiles": tiles}


def _tile_names(on_photos: Sequence[OnPhoto]) -> dict[int, str]:
    """By picture that is put together with others, which tile of which photo it is."""
    return {
        picture: ", ".join(filter(None, (which(on, on_photos), f"tile {number}")))
        for on in on_photos
        if len(on.pictures) > 1
        for number, picture in enumerate(on.pictures)
    }


def _together(view: InputView, mosaic: Mosaic | None) -> InputView:
    """With the tiles as the one picture that they were cut from before them, if that is known."""
    if mosaic is None:
        return view
    rows, columns = view.tiles[0]["rows"], view.tiles[0]["columns"]
    tokens = torch.tensor(view.places).reshape(len(view.tiles), rows, columns)
    places = put_together(tokens, mosaic).flatten().tolist()
    whole = {
        "name": "put together", "rows": rows * mosaic.rows, "columns": columns * mosaic.columns,
        "offset": 0,
    }  # fmt: skip
    later = [
        {**tile, "name": f"tile {i}", "offset": tile["offset"] + len(places)}
        for i, tile in enumerate(view.tiles)
    ]
    pictures = [
        [_whole_picture(of_sample, mosaic), *of_sample] if of_sample else []
        for of_sample in view.pictures
    ]
    return replace(view, places=[*places, *view.places], tiles=[whole, *later], pictures=pictures)


def _whole_picture(tiles: list[Pixels], mosaic: Mosaic) -> Pixels:
    rows = [
        np.concatenate(
            [tiles[i] for i in mosaic.tiles[r * mosaic.columns : (r + 1) * mosaic.columns]], 1
        )
        for r in range(mosaic.rows)
    ]
    return np.concatenate(rows, 0)


def _tiles(pictures: Sequence[Picture]) -> list[dict[str, Any]]:
    """What each picture is called, its size in tokens, and where its tokens begin."""
    told, offset = [], 0
    for picture, name in zip(pictures, names_of(pictures), strict=True):
        rows, columns = picture.grid
        told.append({"name": name, "rows": rows, "columns": columns, "offset": offset})
        offset += rows * columns
    return told


def _has_picture(explanation: Explanation, name: str) -> bool:
    value = explanation.inputs.get(name)
    return value is None or value.is_floating_point()


def _beneath(explanation: Explanation, sample: int, most_pixels: int) -> list[Pixels]:
    """The image that boxes lie on, if the model was given one."""
    image = image_beneath(explanation, sample)
    return [] if image is None else [image_of(image.float(), most_pixels)]


def _padding(explanation: Explanation, name: str, count: int) -> list[list[int]]:
    """Places that the text's own attention mask leaves out ("decoder_attention_mask" and so on)."""
    mask = explanation.inputs.get(name.removesuffix("input_ids") + "attention_mask")
    batch = explanation.batch_size
    if not name.endswith("input_ids") or mask is None or tuple(mask.shape) != (batch, count):
        return []
    return [(row <= 0).nonzero().flatten().tolist() for row in mask]
