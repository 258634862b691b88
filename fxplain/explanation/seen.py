"""As seen: an explanation by what people see, words, pixels and moments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from fxplain.arguments import (
    YES_NO,
    Form,
    checked,
    number,
    one_of,
    optional,
    place_in,
    whole,
)
from fxplain.arguments import shown as in_words
from fxplain.errors import ModalityError
from fxplain.explanation.beside import BesideIdentity, of_sample
from fxplain.explanation.by_modality import ByModality
from fxplain.explanation.films import film_of
from fxplain.explanation.merging import (
    Timeline,
    Word,
    WordRelevance,
    merge,
    timeline,
    upsample,
    words_of,
)
from fxplain.explanation.mosaic import Mosaic, mosaic_of, put_together
from fxplain.explanation.on_photos import OnPhoto, on_photos
from fxplain.explanation.originals import Originals, Placement
from fxplain.explanation.pictures import (
    Picture,
    grid_of,
    has_sizes,
    input_of,
    patch_rows,
    patch_size,
    pictures_of,
)
from fxplain.explanation.places import place_names
from fxplain.explanation.regions import groups_of, regions_of
from fxplain.explanation.shown import Shown, Special, shown
from fxplain.explanation.units import REST, Units, by_modality, own_units, units_of
from fxplain.extras import data_frame

if TYPE_CHECKING:
    from fxplain.explanation.explanation import Explanation

__all__ = ["AsSeen"]

_MODE = one_of(("bilinear", "nearest"))
_PIXELS = whole(1, 1 << 15)

SIZE = Form(
    "(height, width) in pixels",
    lambda value: (
        isinstance(value, (tuple, list)) and len(value) == 2 and all(map(_PIXELS.fits, value))
    ),
)


class AsSeen(BesideIdentity):
    """The part of an `Explanation` that puts tokens together to what people see."""

    labels: Mapping[str, list[list[str]]]
    special: Mapping[str, Mapping[int, str]]
    grids: Mapping[str, tuple[int, ...]]
    inputs: Mapping[str, Tensor]
    seconds: Mapping[str, float]
    tiled: tuple[str, ...]
    named: tuple[str, ...]
    blocks: Mapping[str, int]
    layouts: Mapping[str, tuple[tuple[Picture, ...], ...]]
    target: tuple[Any, ...]
    target_names: tuple[str, ...]
    word_pieces: Mapping[str, list[list[Word]]]
    originals: Originals
    error: ByModality | None

    def words(self, modality: str) -> list[WordRelevance]:
        """Relevance by word, one result per sample: the sum over each word's pieces.

        What the words are is known from the tokenizer where an explainer made the inputs, and read
        from the marks in the pieces ("##ing", "▁it") elsewhere.
        """
        return self.units(modality, "word")

    @checked(beyond_identity=YES_NO)
    def units(
        self, modality: str, units: Units = "word", *, beyond_identity: bool = False
    ) -> list[WordRelevance]:
        """Relevance by word, sentence, line, passage, region, column or what is given, added up.

        Parameters
        ----------
        modality
            A text's, or any other.
        units
            Of a text "token", "word", "sentence", "line", "passage", or parts of it: as strings, as
            (start, stop) of its characters, or these by name. Of images (rows, columns), or boxes
            (left, top, right, bottom) or masks in pixels of the photo that was given, by name or in a
            list; of a recording (start, stop) in seconds by name; of a table or what else has tokens,
            their places or names by name. What no part holds is one unit more. Units of several
            modalities are given by their names: ``{"input_ids": "sentence", "pixel_values": (3, 3)}``.
        beyond_identity
            Of `beyond_identity()` rather than of `relevance`.

        Returns
        -------
        list of WordRelevance
            One for each sample. Every token is in one unit, so that sums stay.

        Raises
        ------
        MethodError
            When there is no such unit, or the text has no such part.
        """
        values = self._values(modality, beyond_identity)
        own = own_units(self, modality, units) if by_modality(self, units) else units
        made = []
        for sample in range(len(self.target)):
            parts = self.cut(modality, sample, own)
            made.append(WordRelevance(tuple(parts), merge(values[sample], parts)))
        return made

    def cut(self, modality: str, sample: int, units: Units) -> list[Word]:
        """One sample's tokens put together to a modality's own units, each token in one.

        Raises
        ------
        MethodError
            When there is no such unit.
        """
        if self.is_text(modality) or modality in self.word_pieces:
            return units_of(self.words_in(modality)[sample], self.labels[modality][sample], units)
        if isinstance(units, str):
            units_of((), (), units)  # an unknown one is answered with the known
            named = self.named_tokens(modality, sample)
            return [Word(label or str(i), (i,)) for i, label in enumerate(named)]
        if self.pictures(modality, sample):
            return regions_of(self, modality, sample, units)
        if any(self.pictures(modality, other) for other in range(len(self.target))):
            return [Word(REST, tuple(range(len(self.labels[modality][sample]))), " ")]
        labels, special = self.labels[modality][sample], self.special_in(modality, sample)
        return groups_of(labels, special, units, self.seconds.get(modality))

    def words_in(self, modality: str) -> list[list[Word]]:
        """By sample, the words that the tokens are pieces of."""
        self.relevance[modality]  # an unknown one is answered with the known
        labels, known = self.labels[modality], self.word_pieces.get(modality)
        return [
            known[i] if known else words_of(labels[i], alone=self.special_in(modality, i))
            for i in range(len(self.target))
        ]

    def is_text(self, modality: str) -> bool:
        """Whether a modality's tokens are words: ids, or labels that say more than a place."""
        self.relevance[modality]  # an unknown one is answered with the known
        given = self.inputs.get(modality)
        if modality in self.named:
            return False
        if given is not None:
            return not given.is_floating_point()
        special = self.special_in(modality)
        labels = [x for i, x in enumerate(self.labels[modality][0]) if i not in special]
        named = any(label and not label.replace(",", "").isdigit() for label in labels)
        return named and not self.pictures(modality)

    @of_sample
    def named_tokens(self, modality: str, sample: int = 0) -> list[str]:
        """One sample's labels; of a recording's tokens their time, such as ``0.66-0.68 s``.

        Of bare numbers of tokens on pictures the row and column, and which picture: ``photo 1: 2,3``.
        """
        labels, seconds = self.labels[modality][sample], self.seconds.get(modality)
        if seconds is None or self.grids.get(modality) or self.pictures(modality, sample):
            names = place_names(self, modality, sample)
            return [names.get(i, label) for i, label in enumerate(labels)]
        special = self.special_in(modality, sample)
        plain = [i for i in range(len(labels)) if i not in special]
        step, named = seconds / max(1, len(plain)), list(labels)
        for place, i in enumerate(plain):
            named[i] = f"{place * step:.2f}-{(place + 1) * step:.2f} s"
        return named

    @checked(most=whole(0))
    def top(
        self,
        most: int = 10,
        *,
        sample: int = 0,
        units: Units = "word",
        special: Special = "show",
    ) -> list[Shown]:
        """What one sample's target draws on most, over all modalities, the largest first.

        Parameters
        ----------
        most
            How many.
        sample
            Which of the batch.
        units
            As `units` takes them, for texts.
        special
            "hide" leaves special tokens and sinks out.

        Returns
        -------
        list of Shown
            Each with ``.text``, ``.relevance`` (beside the identity), ``.share``, ``.modality``.
        """
        entries = [
            e for e in shown(cast("Explanation", self), sample, units, special) if not e.apart
        ]
        kept = [e for e in entries if e.relevance and not (e.special and special == "hide")]
        return sorted(kept, key=lambda entry: -abs(entry.relevance))[:most]

    def to_frame(self, *, units: Units = "word", special: Special = "show") -> Any:
        """All that `top` ranks as a pandas data frame: a row for each word or token of each sample.

        Returns
        -------
        pandas.DataFrame
            Columns sample, target, modality, text, tokens, relevance, share, special, read; and error
            where a standard error, or a deviation, of the relevance is known.

        Raises
        ------
        MissingExtraError
            When pandas is not installed.
        """
        rows = [
            {
                "sample": sample,
                "target": self.target_names[sample] if self.target_names else self.target[sample],
                "modality": e.modality,
                "text": e.text,
                "tokens": e.tokens,
                "relevance": e.relevance,
                "share": e.share,
                "special": e.special,
                "read": e.apart,
                **({} if self.error is None else {"error": e.error}),
            }
            for sample in range(len(self.target))
            for e in shown(cast("Explanation", self), sample, units, special)
            if not (e.special and special == "hide")
        ]
        return data_frame(rows)

    @of_sample
    def pictures(self, modality: str, sample: int = 0) -> tuple[Picture, ...]:
        """The pictures, tiles or frames that a sample's tokens lie on, and where in each; or none.

        The same for all samples, unless these were given different ones (`layouts`), or all of them
        are known to be another sample's, as in a batch of chats of which one has no image.
        """
        if modality in self.layouts:
            return self.layouts[modality][sample]
        shared = self._shared_pictures(modality)
        return () if self._are_of_others(modality, sample, shared) else shared

    def _are_of_others(self, modality: str, sample: int, shared: Sequence[Picture]) -> bool:
        """Whether a sample was given none of the photos that pictures of the whole batch are of."""
        if not self.originals.owners or not shared:
            return False
        given = self.inputs.get(input_of(modality))
        placed = self.originals.placements(modality, given, shared, sample)
        if any(p is None for p in placed):
            return sample not in self.originals.owners
        return all(self.originals.is_of_another(p, sample) for p in placed)

    def _shared_pictures(self, modality: str) -> tuple[Picture, ...]:
        """What shapes tell, which is of all samples."""
        if modality not in self._pictures:
            count = self.relevance[modality].shape[1]
            special, grid = self.special.get(modality, {}), self.grids.get(modality, ())
            self._pictures[modality] = pictures_of(
                modality, count, special, grid, self.inputs,
                tiled=modality in self.tiled, block=self.blocks.get(modality, 0),
            )  # fmt: skip
        return self._pictures[modality]

    @of_sample
    def special_in(self, modality: str, sample: int = 0) -> Mapping[int, str]:
        """The special tokens of one sample: those of `special` that it has, and has on no picture."""
        special = self.special.get(modality, {})
        if modality not in self.layouts:
            return special
        plain = {token for picture in self.layouts[modality][sample] for token in picture.tokens}
        own = self.labels[modality][sample]
        return {i: name for i, name in special.items() if i not in plain and own[i]}

    def lacks_heat_map(self, modality: str) -> bool:
        """Whether the samples of a batch were given images that have no one layout for all of them."""
        given = self.inputs.get(input_of(modality))
        if given is None or len(self.target) < 2 or not given.is_floating_point():
            return False
        images = given.dim() >= 4 and bool(self.grids.get(modality))
        if modality in self.layouts:
            return False
        return (images or has_sizes(given, self.inputs)) and not self.pictures(modality)

    @cached_property
    def _pictures(self) -> dict[str, tuple[Picture, ...]]:
        return {}

    @checked(mode=_MODE, size=optional(SIZE), beyond_identity=YES_NO)
    def pixels(
        self,
        modality: str,
        mode: str = "bilinear",
        size: tuple[int, int] | None = None,
        image: int | str | None = None,
        *,
        sample: int | None = None,
        beyond_identity: bool = False,
    ) -> Tensor:
        """Relevance as a heat map over the image that the model was given.

        Parameters
        ----------
        modality
            An image's or a video's.
        mode
            "bilinear", or "nearest" for the bare patches.
        size
            (height, width) in pixels; by default those of the model's input. Another size is the
            whole image's only where the processor cuts nothing off.
        image
            Which of several pictures of different sizes, of grids of several strides over one picture,
            or of `pictures(modality)` altogether;
            "together" for tiles as the one picture that they were cut from.
        sample
            Which of the batch alone, as samples that were given different pictures have to be asked
            for; by default all.
        beyond_identity
            Of `beyond_identity()` rather than of `relevance`.

        Returns
        -------
        torch.Tensor
            (batch, height, width), or (batch, frames or tiles, height, width) of several; special
            tokens (a CLS) have no place in it. The batch is 1 with `sample`.

        Raises
        ------
        ModalityError
            When the modality is unknown, its tokens lie on no grid, or there is no such image.
        """
        values = self._values(modality, beyond_identity)
        if self.is_text(modality) and not self.pictures(modality, sample or 0):
            raise ModalityError(f"{modality!r} is a text and no image: words() tells of its words.")
        if sample is None and len({tuple(own) for own in self.layouts.get(modality, ())}) > 1:
            raise ModalityError(
                f"the samples of this batch were given different pictures as {modality!r}, which have "
                f"no one heat map: say which of them, sample=."
            )
        which = place_in("sample", sample or 0, len(values))
        pictures = self.pictures(modality, which)
        values = values if sample is None else values[which : which + 1]
        if isinstance(image, str) and image == "together":
            mosaic = self.mosaic(modality, which)
            if mosaic is None:
                raise ModalityError(
                    f"{modality!r} is not of tiles of which it is known how they lie: pixels() without "
                    f"image= has a heat map for each."
                )
            tiles = self.pixels(
                modality, mode, size, sample=sample, beyond_identity=beyond_identity
            )
            return put_together(tiles.transpose(0, 1), mosaic)
        if image is not None:
            pictures = self._one_picture(pictures, modality, image)
        sizes = {picture.grid for picture in pictures}
        if len(sizes) > 1:
            told = ", ".join(f"{i}: {picture.grid}" for i, picture in enumerate(pictures))
            raise ModalityError(
                f"{modality!r} lies on {len(pictures)} grids of different sizes in patches ({told}): "
                f"say which, image=."
            )
        if not pictures and any(self.pictures(modality, i) for i in range(len(self.target))):
            raise ModalityError(f"sample {which} was given no picture as {modality!r}.")
        if not pictures:  # of no grid there is no map, whatever the size
            grid, own = self.grids.get(modality, ()), self._plain(modality, values)
            upsample(own, grid, (1, 1), mode)
            return upsample(own, grid, size or self.size_in_pixels(modality), mode)
        size = size or self.size_in_pixels(modality, pictures[0].grid, pictures[0].within)
        places = [place for picture in pictures for place in picture.tokens]
        return upsample(values[:, places], grid_of(pictures, ()), size, mode)

    @of_sample
    def mosaic(self, modality: str, sample: int = 0) -> Mosaic | None:
        """How the tiles of a sample's picture lie, where that can be seen in them."""
        pictures, value = self.pictures(modality, sample), self.inputs.get(modality)
        if len(pictures) < 3 or value is None or value.dim() not in (4, 5):
            return None
        if pictures[0].is_frame or pictures[0].is_level or len({p.grid for p in pictures}) > 1:
            return None
        if pictures[0].at >= 0:
            tiles = value.flatten(0, -4)[[picture.at for picture in pictures]]
        else:
            tiles = value if value.dim() == 4 else value[sample]
        return mosaic_of(tiles.detach().cpu()) if len(tiles) == len(pictures) else None

    @of_sample
    def placements(self, modality: str, sample: int = 0) -> tuple[Placement | None, ...]:
        """Where each of `pictures(modality)` lies on a photo that an explainer was given, or None."""
        given = self.inputs.get(input_of(modality))
        return self.originals.placements(modality, given, self.pictures(modality, sample), sample)

    @of_sample
    def on_photos(self, modality: str, sample: int = 0) -> list[OnPhoto]:
        """One sample's tokens on the photos that an explainer was given; none where it is not known.

        Parameters
        ----------
        modality
            An image's.
        sample
            Which of the batch.

        Returns
        -------
        list of OnPhoto
            Tiles of a photo are put together; the small picture beside them is one more.
        """
        key = (modality, sample)
        if key not in self._on_photos:
            placed = self.placements(modality, sample)
            own = [None if self.originals.is_of_another(p, sample) else p for p in placed]
            pictures = self.pictures(modality, sample)
            self._on_photos[key] = on_photos(pictures, own, self.originals)
        return self._on_photos[key]

    @cached_property
    def _on_photos(self) -> dict[tuple[str, int], list[OnPhoto]]:
        return {}

    @checked(image=whole(0), mode=_MODE, beyond_identity=YES_NO)
    @of_sample
    def photo_heat(
        self,
        modality: str,
        sample: int = 0,
        image: int = 0,
        mode: str = "bilinear",
        *,
        beyond_identity: bool = False,
    ) -> Tensor:
        """Relevance over a photo that an explainer was given, at the photo's own size.

        Parameters
        ----------
        modality
            An image's.
        sample
            Which of the batch.
        image
            Which of `on_photos(modality, sample)`.
        mode
            "bilinear", or "nearest" for the bare patches.
        beyond_identity
            Of `beyond_identity()` rather than of `relevance`.

        Returns
        -------
        torch.Tensor
            (height, width) of the photo as it is seen: turned as its EXIF tag says; 0 where the
            processor cut it off.

        Raises
        ------
        ModalityError
            When the modality is unknown, there is no such image, or it is not known where the tokens
            lie on it.
        """
        found = self.on_photos(modality, sample)
        if not 0 <= image < len(found):
            raise ModalityError(
                f"there is no photo {image} under {modality!r}: {len(found)} are known, from 0. An "
                f"explainer (fxplain.from_pretrained) knows those that it was given; pixels() has the "
                f"heat map of what the model itself was given."
            )
        size = self.originals.photos[found[image].photo].shape[:2]
        values = self._values(modality, beyond_identity)[sample]
        return found[image].heat(values, (size[0], size[1]), mode)

    def _one_picture(
        self, pictures: Sequence[Picture], modality: str, image: int | str
    ) -> tuple[Picture, ...]:
        if not isinstance(image, int) or isinstance(image, bool) or not 0 <= image < len(pictures):
            raise ModalityError(
                f"there is no image {in_words(image)}: {modality!r} has {len(pictures)}, from 0."
            )
        return (pictures[image],)

    def size_in_pixels(
        self, modality: str, grid: Sequence[int] = (), within: Sequence[int] = ()
    ) -> tuple[int, int]:
        """(height, width) of the image that the model was given, whose tokens lie on a grid."""
        if within:
            return within[2] - within[0], within[3] - within[1]
        given = self.inputs.get(input_of(modality))
        given = None if given is None else patch_rows(given, self.pictures(modality))
        if given is not None and given.dim() >= 4:
            return given.shape[-2], given.shape[-1]
        patch = patch_size(given) if given is not None and given.is_floating_point() else None
        if patch is None or not grid:
            raise ModalityError(
                f"{modality!r} is given as no image of rows and columns: say size=(height, width)."
            )
        return grid[0] * patch[0], grid[1] * patch[1]

    @checked(
        seconds=optional(number(0, 1e9, inside=True)),
        axis=optional(whole()),
        sample=optional(whole(0)),
        video=optional(whole(0)),
        beyond_identity=YES_NO,
    )
    def timeline(
        self,
        modality: str,
        seconds: float | None = None,
        axis: int | None = None,
        *,
        sample: int | None = None,
        video: int | None = None,
        beyond_identity: bool = False,
    ) -> Timeline:
        """Relevance of a recording or a video over time.

        Parameters
        ----------
        modality
            A recording's or a video's.
        seconds
            How long it is; an explainer that was given the recording knows it.
        axis
            The axis of the tokens' grid that is time, where that is not obvious.
        sample
            Which of the batch alone, as samples whose videos are of different lengths have to be asked
            for; by default all.
        video
            Which of several videos of a sample, from 0.
        beyond_identity
            Of `beyond_identity()` rather than of `relevance`.

        Raises
        ------
        ModalityError
            When the modality is unknown, has no such axis or video, its length is not known, or there
            are several videos and it is not said which.
        """
        values = self._values(modality, beyond_identity)
        asked = range(len(values)) if sample is None else [place_in("sample", sample, len(values))]
        films = [None if axis is not None else film_of(self, modality, i, video) for i in asked]
        told = {film.seconds for film in films if film is not None} - {None}
        if len({None if film is None else (film.seconds, len(film.steps)) for film in films}) > 1:
            raise ModalityError(
                f"the samples of this batch were given videos of different lengths as {modality!r}, "
                f"which have no time in common: say which of them, sample=."
            )
        if seconds is None:
            seconds = told.pop() if told else self.seconds.get(modality)
        if seconds is None:
            raise ModalityError(f"it is not known how long {modality!r} is: say seconds=.")
        known = [film for film in films if film is not None]
        if not known:
            plain = self._plain(modality, values[list(asked)])
            return timeline(plain, self.grids.get(modality, ()), seconds, axis)
        steps = [
            torch.stack([values[i, list(places)].sum() for places in film.steps])
            for i, film in zip(asked, known, strict=True)
        ]
        return timeline(torch.stack(steps), (), seconds)

    def _values(self, modality: str, beyond_identity: bool) -> Tensor:
        return (self.beyond_identity() if beyond_identity else self.relevance)[modality]

    def _plain(self, modality: str, values: Tensor) -> Tensor:
        """(batch, tokens) of numbers without those of special tokens."""
        special = self.special.get(modality, {})
        return values[:, [i for i in range(values.shape[1]) if i not in special]]
