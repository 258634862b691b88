"""Pictured: the pictures, tiles and frames that an explanation's tokens lie on, and their heat maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from torch import Tensor

from fxplain.arguments import YES_NO, Form, checked, one_of, optional, place_in, whole
from fxplain.arguments import shown as in_words
from fxplain.errors import ModalityError
from fxplain.explanation.beside import BesideIdentity, of_sample
from fxplain.explanation.merging import upsample
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

__all__ = ["SIZE", "AsPictured"]

_MODE = one_of(("bilinear", "nearest"))
_PIXELS = whole(1, 1 << 15)

SIZE = Form(
    "(height, width) in pixels",
    lambda value: (
        isinstance(value, (tuple, list)) and len(value) == 2 and all(map(_PIXELS.fits, value))
    ),
)


class AsPictured(BesideIdentity):
    """The part of an `Explanation` that puts relevance on pictures."""

    labels: Mapping[str, list[list[str]]]
    named: tuple[str, ...]
    special: Mapping[str, Mapping[int, str]]
    grids: Mapping[str, tuple[int, ...]]
    inputs: Mapping[str, Tensor]
    tiled: tuple[str, ...]
    blocks: Mapping[str, int]
    layouts: Mapping[str, tuple[tuple[Picture, ...], ...]]
    target: tuple[Any, ...]
    originals: Originals

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

    def _values(self, modality: str, beyond_identity: bool) -> Tensor:
        return (self.beyond_identity() if beyond_identity else self.relevance)[modality]

    def _plain(self, modality: str, values: Tensor) -> Tensor:
        """(batch, tokens) of numbers without those of special tokens."""
        special = self.special.get(modality, {})
        return values[:, [i for i in range(values.shape[1]) if i not in special]]
