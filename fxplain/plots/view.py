"""One sample's relevance in one modality, with what it can be drawn on, as arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fxplain.arguments import AXES, instance, optional, whole
from fxplain.errors import PlotError
from fxplain.explanation import Explanation, Shown, Special, Units
from fxplain.explanation.on_photos import OnPhoto
from fxplain.explanation.shown import shown
from fxplain.generation import Generation
from fxplain.views import View, image_beneath, photo_beneath

__all__ = ["AN_EXPLANATION", "SOME_AXES", "ModalityView", "check_sample", "numbers"]

AN_EXPLANATION = instance(Explanation).raising(PlotError)
SOME_AXES = optional(AXES)

Array = NDArray[np.float64]

MOST_WORDS = 512


@dataclass(frozen=True)
class ModalityView:
    """What a plot draws.

    Attributes
    ----------
    explanation, name, sample
        Whose relevance it is.
    units, special
        How a text is put together, and whether special tokens are shown; see `Explanation.top`.
    """

    explanation: Explanation
    name: str
    sample: int
    units: Units = "word"
    special: Special = "show"

    @classmethod
    def of(
        cls,
        explanation: Explanation,
        modality: str | None,
        sample: int,
        kind: str,
        units: Units = "word",
        special: Special = "show",
    ) -> ModalityView:
        """The view of a modality, of the first that can be drawn as `kind` where none is named.

        Raises
        ------
        ModalityError
            When there is no such modality.
        PlotError
            When there is no such sample, or the modality cannot be drawn like this.
        """
        check_sample(explanation, sample)
        names = explanation.modalities if modality is None else (modality,)
        views = [cls(explanation, name, sample, units, special) for name in names]
        fitting = [view for view in views if kind in view.kinds]
        if fitting:
            return fitting[0]
        raise PlotError(
            f"{', '.join(map(repr, names))} cannot be drawn as {_NEEDS[kind]}. What fits: "
            + "; ".join(f"{view.name!r} as {' or '.join(view.kinds)}" for view in views)
            + ". explanation.plot() chooses."
        )

    @cached_property
    def values(self) -> Array:
        """(tokens,) relevance beside the identity that it starts from."""
        return numbers(self.explanation.beyond_identity()[self.name][self.sample])

    @cached_property
    def labels(self) -> list[str]:
        """One for each token."""
        return self.explanation.tokens(self.name)[self.sample]

    @cached_property
    def view(self) -> View:
        """What the modality can be drawn as."""
        return View(self.explanation, self.name, self.sample)

    @property
    def plain(self) -> list[int]:
        """The places of all tokens but the special ones (a CLS, registers)."""
        return self.view.plain

    @cached_property
    def read(self) -> int | None:
        """The place of the one token that the target is read from, where it is all of itself."""
        return next(iter(self.explanation.apart(self.name, self.sample)), None)

    @cached_property
    def others(self) -> Array:
        """(tokens,) relevance, NaN at the token that the target is read from.

        Its relevance to itself starts from 1, the identity, which would drown all others.
        """
        values = self.values.copy()
        if self.read is not None:
            values[self.read] = np.nan
        return values

    @cached_property
    def entries(self) -> list[Shown]:
        """Its words, or other units, or tokens, in order."""
        entries = shown(self.explanation, self.sample, self.units, self.special)
        own = [entry for entry in entries if entry.modality == self.name]
        return [e for e in own if not (e.special and self.special == "hide")]

    @cached_property
    def numbers_of_entries(self) -> Array:
        """(entries,) their relevance, NaN of those that cannot be compared."""
        return np.array([np.nan if e.apart else e.relevance for e in self.entries])

    @cached_property
    def grid(self) -> Array | None:
        """(rows, columns) relevance of the plain tokens on their grid, pictures side by side."""
        return self.laid_out(self.values)

    def laid_out(self, values: Array) -> Array | None:
        """(rows, columns) of one number for each token; None where they lie on no pictures."""
        if not self.view.pictures:
            return None
        return _side_by_side(
            values[list(picture.tokens)].reshape(picture.grid) for picture in self.view.pictures
        )

    @cached_property
    def picture(self) -> Array | None:
        """(height, width, 3) of the pixels that the grid lies on, from 0 to 1; frames side by side."""
        return _drawn(self.view.frames())

    @cached_property
    def on_photo(self) -> OnPhoto | None:
        """The tokens on the one photo that was given, if all of them lie on that."""
        found = self.explanation.on_photos(self.name, self.sample)
        return found[0] if len({on.photo for on in found}) == 1 else None

    @cached_property
    def beneath(self) -> Array | None:
        """(height, width, 3) of the image that the model was given, for boxes that lie on it."""
        photo = photo_beneath(self.explanation, self.sample)
        if photo is not None:
            return photo / 255
        image = image_beneath(self.explanation, self.sample)
        return None if image is None else _drawn([image])

    @cached_property
    def boxes(self) -> Array | None:
        """(tokens, 4) corners x1, y1, x2, y2 as fractions of the picture, where tokens have boxes."""
        boxes = self.view.boxes
        return None if boxes is None else numbers(boxes[min(self.sample, len(boxes) - 1)])

    @cached_property
    def signal(self) -> Array | None:
        """(features, time) of a waveform or a spectrogram that the tokens follow in time."""
        signal = self.view.signal()
        return None if signal is None else numbers(signal)

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """The pictures that fit, the best first."""
        long = len(self.labels) > MOST_WORDS
        return tuple(kind for kind in self.view.kinds if not (kind == "text" and long))


_NEEDS = {
    "image": "an image (their tokens lie on no grid)",
    "boxes": "boxes (nothing gives each of their tokens one, four numbers from 0 to 1)",
    "signal": "sound (their input has no time axis)",
    "text": f"text (their tokens are no words, or more than {MOST_WORDS})",
}


def check_sample(explanation: Explanation | Generation, sample: int) -> None:
    """Refuse a sample that the explanation does not have.

    Raises
    ------
    PlotError
        With the number of samples that there are.
    """
    whole().raising(PlotError).check("sample", sample)
    if not 0 <= sample < explanation.batch_size:
        raise PlotError(
            f"there is no sample {sample}: the explanation has {explanation.batch_size}, from 0."
        )


def numbers(values: Tensor) -> Array:
    """A tensor as numbers that matplotlib draws."""
    return np.asarray(values.detach().cpu().double().numpy())


def _drawn(frames: Sequence[Tensor]) -> Array | None:
    """Pictures side by side in colours from 0 to 1, none where there are none."""
    if not frames:
        return None
    shown = [np.moveaxis(numbers(frame.expand(3, -1, -1)), 0, -1) for frame in frames]
    return _stretched(_side_by_side(shown))


def _side_by_side(frames: Iterable[Array]) -> Array:
    """Pictures as one, (height, all widths, ...), smaller ones with nothing beneath them."""
    shown = list(frames)
    tallest = max(len(one) for one in shown)
    room = [(0, 0)] * (shown[0].ndim - 1)
    return np.concatenate([np.pad(one, [(0, tallest - len(one)), *room]) for one in shown], axis=1)


def _stretched(picture: Array) -> Array:
    """From the darkest to the brightest pixel as 0 to 1: undoes any normalisation, for the eye."""
    low, high = picture.min(), picture.max()
    return np.asarray((picture - low) / ((high - low) or 1.0))
