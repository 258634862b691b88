"""As seen: an explanation by what people see, words, pixels and moments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import torch

from fxplain.arguments import (
    YES_NO,
    checked,
    number,
    optional,
    place_in,
    whole,
)
from fxplain.errors import ModalityError
from fxplain.explanation.beside import of_sample
from fxplain.explanation.by_modality import ByModality
from fxplain.explanation.films import film_of
from fxplain.explanation.merging import (
    Timeline,
    Word,
    WordRelevance,
    merge,
    timeline,
    words_of,
)
from fxplain.explanation.pictured import AsPictured
from fxplain.explanation.places import place_names
from fxplain.explanation.regions import groups_of, regions_of
from fxplain.explanation.shown import Shown, Special, shown
from fxplain.explanation.units import REST, Units, by_modality, own_units, units_of
from fxplain.extras import data_frame

if TYPE_CHECKING:
    from fxplain.explanation.explanation import Explanation

__all__ = ["AsSeen"]


class AsSeen(AsPictured):
    """The part of an `Explanation` that puts tokens together to what people see."""

    seconds: Mapping[str, float]
    target_names: tuple[str, ...]
    word_pieces: Mapping[str, list[list[Word]]]
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
