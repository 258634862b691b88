"""One sample's relevance in one modality, with what it can be drawn on: data only."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fxplain.errors import PlotError
from fxplain.explanation import Explanation, readout_place
from fxplain.generation import Generation
from fxplain.reports.explanation_report import is_number

__all__ = ["ModalityView", "are_boxes", "check_sample", "corners", "numbers", "sample_of"]

Array = NDArray[np.float64]

MOST_WORDS = 512


@dataclass(frozen=True)
class ModalityView:
    """What a plot draws.

    Attributes
    ----------
    explanation, name, sample
        Whose relevance it is.
    """

    explanation: Explanation
    name: str
    sample: int

    @classmethod
    def of(
        cls, explanation: Explanation, modality: str | None, sample: int, kind: str
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
        views = [cls(explanation, name, sample) for name in names]
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
        """(tokens,) relevance."""
        return numbers(self.explanation.relevance[self.name][self.sample])

    @cached_property
    def labels(self) -> list[str]:
        """One for each token."""
        return self.explanation.tokens(self.name)[self.sample]

    @cached_property
    def special(self) -> list[int]:
        """The places of special tokens (a CLS, registers)."""
        return sorted(self.explanation.special.get(self.name, {}))

    @cached_property
    def plain(self) -> list[int]:
        """The places of all other tokens."""
        return [i for i in range(len(self.values)) if i not in set(self.special)]

    @cached_property
    def read(self) -> int | None:
        """The place of the one token that the target is read from."""
        return readout_place(self.explanation.readout[self.sample], self.name)

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
    def given(self) -> Array | None:
        """The sample's part of the input that the modality is named after: pixels, sound."""
        return sample_of(self.explanation, self.name, self.sample)

    @cached_property
    def grid(self) -> Array | None:
        """(rows, columns) relevance of the plain tokens on their grid, frames side by side."""
        shape = self.explanation.grids.get(self.name, ())
        if len(shape) not in (2, 3) or int(np.prod(shape)) != len(self.plain):
            return None
        return _side_by_side(self.values[self.plain].reshape(-1, *shape[-2:]))

    @cached_property
    def picture(self) -> Array | None:
        """(height, width, 3) of the pixels that the grid lies on, from 0 to 1; frames side by side."""
        shape = self.explanation.grids.get(self.name, ())
        if self.grid is None or self.given is None:
            return None
        if len(shape) == 2 and self.given.ndim == 2:  # a spectrogram, as rows or as columns of time
            return _stretched(np.stack([_turned(self.given, shape)] * 3, -1))
        frames = _frames(self.given) if self.given.ndim == len(shape) + 1 else None
        if frames is None or len(frames) < (shape[0] if len(shape) == 3 else 1):
            return None
        chosen = frames[:: len(frames) // shape[0]][: shape[0]] if len(shape) == 3 else frames
        return _stretched(_side_by_side(chosen))

    @cached_property
    def boxes(self) -> Array | None:
        """(plain tokens, 4) corners x1, y1, x2, y2 in [0, 1], where an input gives each token a box."""
        for name, value in self.explanation.inputs.items():
            own = sample_of(self.explanation, name, self.sample)
            if value.is_floating_point() and own is not None and are_boxes(own, len(self.plain)):
                return corners(own)
        return None

    @cached_property
    def signal(self) -> Array | None:
        """(features, time) of a waveform or a spectrogram that the tokens follow in time."""
        count, given = len(self.plain), self.given
        if given is None or self.grid is not None or given.shape[0] == count or self._is_text:
            return None
        if given.ndim == 1 and len(given) > count:
            return given[None]
        if given.ndim != 2 or max(given.shape) < count:
            return None
        exact = [size >= count and size % count == 0 for size in given.shape]
        time = exact.index(True) if sum(exact) == 1 else int(np.argmax(given.shape))
        return given if time == 1 else given.T

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """The pictures that fit, the best first."""
        fits = {
            "image": self.grid is not None,
            "boxes": self.grid is None and self.boxes is not None and not self._is_text,
            "signal": self.signal is not None,
            "text": self._is_text and len(self.labels) <= MOST_WORDS,
        }
        return (*(kind for kind, fit in fits.items() if fit), "tokens")

    @property
    def _is_text(self) -> bool:
        given = self.explanation.inputs.get(self.name)
        if given is not None and not given.is_floating_point():
            return True
        return self.grid is None and any(not is_number(self.labels[i]) for i in self.plain)


_NEEDS = {
    "image": "an image (their tokens lie on no grid)",
    "boxes": "boxes (no input gives each of their tokens one, four numbers from 0 to 1)",
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
    if not 0 <= sample < explanation.batch_size:
        raise PlotError(
            f"there is no sample {sample}: the explanation has {explanation.batch_size}, from 0."
        )


def sample_of(explanation: Explanation, name: str, sample: int) -> Array | None:
    """One sample's part of an input, where it has a part for each, or one for all."""
    value = explanation.inputs.get(name)
    if value is None or value.dim() < 2 or len(value) not in (1, explanation.batch_size):
        return None
    return numbers(value[sample % len(value)])


def numbers(values: Tensor) -> Array:
    """A tensor as numbers that matplotlib draws."""
    return np.asarray(values.detach().cpu().double().numpy())


# ---- pixels -------------------------------------------------------------------------------------


def _frames(pixels: Array) -> Array | None:
    """(frames, height, width, 3) of pixels whose channels stand first, second or last."""
    if pixels.ndim == 3:
        pixels = pixels[None]
    for channels, axis in product((3, 1, 4), (1, -1, 0)):
        if pixels.shape[axis] == channels:
            frames = np.moveaxis(pixels, axis, -1)
            return frames[..., :3] if channels > 1 else np.repeat(frames, 3, -1)
    return None


def _side_by_side(frames: Array) -> Array:
    """(frames, height, width, ...) as one picture, (height, frames x width, ...)."""
    return np.concatenate(list(frames), axis=1)


def _turned(spectrogram: Array, grid: tuple[int, ...]) -> Array:
    """The spectrogram with the axes in the order of its grid: the one in which patches are squarer."""

    def lengthening(picture: Array) -> float:
        height, width = (n / patches for n, patches in zip(picture.shape, grid, strict=True))
        return float(max(height, width) / min(height, width))

    return min(spectrogram, spectrogram.T, key=lengthening)


def _stretched(picture: Array) -> Array:
    """From the darkest to the brightest pixel as 0 to 1: undoes any normalisation, for the eye."""
    low, high = picture.min(), picture.max()
    return np.asarray((picture - low) / ((high - low) or 1.0))


# ---- boxes --------------------------------------------------------------------------------------


def are_boxes(values: Array, count: int) -> bool:
    """Whether they are as many boxes: four numbers from 0 to 1 each."""
    return values.shape == (count, 4) and bool(((values >= 0) & (values <= 1)).all())


def corners(boxes: Array) -> Array:
    """Boxes (n, 4) as corners x1, y1, x2, y2; they are given so, or as centre and size."""
    if (boxes[:, 2:] >= boxes[:, :2]).all():
        return boxes
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    return np.concatenate([centre - half, centre + half], 1)
