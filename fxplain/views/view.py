"""View: what one modality can be drawn as. The HTML report and the plots both ask it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from torch import Tensor

from fxplain.explanation import Explanation
from fxplain.explanation.beneath import of_sample, pictures_beneath
from fxplain.explanation.pictures import Picture, grid_of, input_of
from fxplain.views.boxes import boxes_of
from fxplain.views.labels import are_words
from fxplain.views.pixels import signal_of

__all__ = ["Kind", "View"]

Kind = Literal["boxes", "text", "image", "signal", "tokens"]
"""Tokens somewhere on a picture, words, tokens on a grid, tokens in time, or just tokens."""


@dataclass(frozen=True, eq=False)
class View:
    """A modality of an explanation.

    Attributes
    ----------
    explanation, name
        Whose it is.
    sample
        Which of the batch; samples that were given different pictures are laid out by themselves.
    """

    explanation: Explanation
    name: str
    sample: int = 0

    @cached_property
    def value(self) -> Tensor | None:
        """The input that the modality is named after; a parameter's tokens have none."""
        return self.explanation.inputs.get(self.name)

    @cached_property
    def pictures(self) -> tuple[Picture, ...]:
        """The pictures, tiles or frames that its tokens lie on."""
        return self.explanation.pictures(self.name, self.sample)

    @cached_property
    def plain(self) -> list[int]:
        """The places of all tokens but the special ones, on pictures row by row and one by one."""
        if self.pictures:
            return [place for picture in self.pictures for place in picture.tokens]
        special = self.explanation.special_in(self.name, self.sample)
        count = self.explanation.relevance[self.name].shape[1]
        return [place for place in range(count) if place not in special]

    @cached_property
    def grid(self) -> tuple[int, ...]:
        """(rows, columns) or (pictures, rows, columns) of the plain tokens; () where there is none."""
        return grid_of(self.pictures, ())

    @cached_property
    def boxes(self) -> Tensor | None:
        """(batch, tokens, 4) corners of each token's box as fractions of the picture."""
        return boxes_of(self.explanation, self.name)

    @cached_property
    def is_text(self) -> bool:
        """Whether tokens are words: ids, or labels that say more than a place."""
        if self.name in self.explanation.named:
            return False
        if self.value is not None:
            return not self.value.is_floating_point()
        labels = self.explanation.tokens(self.name)[0]
        return not self.pictures and are_words([labels[place] for place in self.plain])

    def frames(self) -> list[Tensor]:
        """The pictures under the grid: (1 or 3 channels, height, width), one for each."""
        given = self.explanation.inputs.get(input_of(self.name))
        if given is None or not self.pictures:
            return []
        return pictures_beneath(given, self.pictures, self.sample)

    def signal(self) -> Tensor | None:
        """(features, time) of a waveform or a spectrogram that the tokens follow in time."""
        own = of_sample(self.value, self.sample)
        return None if own is None or self.pictures else signal_of(own, len(self.plain))

    @cached_property
    def kinds(self) -> tuple[Kind, ...]:
        """What fits, the best first."""
        fits: dict[Kind, bool] = {
            "boxes": self.boxes is not None,
            "text": self.is_text,
            "image": bool(self.pictures),
            "signal": self.name not in self.explanation.named and self.signal() is not None,
            "tokens": True,
        }
        return tuple(kind for kind, fit in fits.items() if fit)
