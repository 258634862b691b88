"""Aligning: where the pieces of a tokenizer that does not say it stand in the text.

Pieces follow each other in the text as they are, or else lower-cased, composed or without accents, as
tokenizers normalise; what none of these brings into line is not aligned.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["Place", "aligned"]

Place = tuple[int, int, int]
"""Which text, and where a piece starts and ends in it."""


def aligned(
    pieces: Sequence[str | None], texts: Sequence[str], own: Sequence[bool]
) -> list[Place | None] | None:
    """Where each piece stands.

    Parameters
    ----------
    pieces
        Without the marks of a tokenizer; None of one that is unknown to the vocabulary.
    texts
        One, or two that the model is given as one.
    own
        Which are the tokenizer's own, and stand nowhere.

    Returns
    -------
    list or None
        None of a token of the tokenizer's own; and in place of the list, where some piece is nowhere.

    Examples
    --------
    >>> aligned(["[CLS]", "caf", "e", None, "[SEP]"], ["Café €"], [True, False, False, False, True])
    [None, (0, 0, 3), (0, 3, 4), (0, 5, 6), None]
    >>> aligned(["tea"], ["Café"], [False]) is None
    True
    """
    for fold in _FOLDS:
        places = _Walk(texts, fold).places(pieces, own)
        if places is not None:
            return places
    return None


# ---- how tokenizers normalise -------------------------------------------------------------------


def _composed_alike(letter: str) -> str:
    return unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", letter).casefold())


def _without_accents(letter: str) -> str:
    return "".join(c for c in _composed_alike(letter) if unicodedata.category(c) != "Mn")


_FOLDS: tuple[Callable[[str], str], ...] = (str, _composed_alike, _without_accents)


@dataclass(frozen=True)
class _Folded:
    """A text without spaces, in one writing, and of which character of the text each letter is."""

    letters: str
    of: Sequence[int]


def _folded(text: str, fold: Callable[[str], str]) -> _Folded:
    found = [
        (letter, place)
        for place, character in enumerate(text)
        for letter in fold(character)
        if not letter.isspace()
    ]
    return _Folded("".join(letter for letter, _ in found), [place for _, place in found])


# ---- along the text -----------------------------------------------------------------------------


class _Walk:
    """Along the texts, a piece at a time."""

    def __init__(self, texts: Sequence[str], fold: Callable[[str], str]) -> None:
        self.texts, self.fold = texts, fold
        self.folded = [_folded(text, fold) for text in texts]
        self.text, self.reached, self.end = 0, 0, 0
        self.unknown: list[int] = []
        self.made: list[Place | None] = []

    def places(
        self, pieces: Sequence[str | None], own: Sequence[bool]
    ) -> list[Place | None] | None:
        """Where each piece stands, or None."""
        by_letter = all(len(p) < 2 for p, o in zip(pieces, own, strict=True) if p and not o)
        for i, (piece, special) in enumerate(zip(pieces, own, strict=True)):
            self.made.append(None)
            if special and not self._is_written(piece):
                self._leave()
            elif piece is None:
                self.unknown.append(i)
            else:
                place = self._next(piece, by_letter=by_letter)
                if place is None:
                    return None
                self._give(place[1])
                self.made[i] = place
                self.end = max(self.end, place[2])
        self._leave()
        return self.made

    def _is_written(self, piece: str | None) -> bool:
        """Whether a token of the tokenizer's own is a word of the text here."""
        letters = self._letters(piece or "")
        start = self.folded[self.text].letters.find(letters, self.reached) if letters else -1
        return start == self.reached or (start > self.reached and bool(self.unknown))

    def _letters(self, piece: str) -> str:
        return "".join(c for letter in piece for c in self.fold(letter) if not c.isspace())

    def _next(self, piece: str, *, by_letter: bool) -> Place | None:
        """Where a piece stands: next, or behind what the vocabulary does not know or signs left out."""
        letters = self._letters(piece)
        if not letters:
            return self._white(piece)
        here = self.folded[self.text]
        start = here.letters.find(letters, self.reached + len(self.unknown))
        if start < 0:  # what is unknown may be white space
            start = here.letters.find(letters, self.reached)
        if self.unknown and not by_letter:  # a word that is unknown may hold these letters, too
            begun = start
            while begun > 0 and not self._begins(here, begun):
                begun = here.letters.find(letters, begun + 1)
            start = max(begun, start) if begun >= 0 else start
        if start < 0 or not (self.unknown or _are_signs(here.letters[self.reached : start])):
            return None
        self.reached = start + len(letters)
        return self.text, here.of[start], here.of[self.reached - 1] + 1

    def _begins(self, here: _Folded, start: int) -> bool:
        """Whether a word or a sign begins with a letter."""
        written, place = self.texts[self.text], here.of[start]
        return not (written[place - 1].isalnum() and written[place].isalnum())

    def _white(self, piece: str) -> Place:
        """A piece of white space alone, which may be the tokenizer's own."""
        stop = self.end + max(len(piece), 1)
        written = self.texts[self.text][self.end : stop]
        return self.text, self.end, self.end + (len(written) if written.isspace() else 0)

    def _give(self, stop: int) -> None:
        """Unknown pieces have what stands between their neighbours: a word each, of as many words."""
        stretches = _words(self.texts[self.text], self.end, stop)
        if len(stretches) != len(self.unknown):
            whole = (stretches[0][0], stretches[-1][1]) if stretches else (stop, stop)
            stretches = [whole] * len(self.unknown)
        for i, (start, end) in zip(self.unknown, stretches, strict=True):
            self.made[i] = self.text, start, end
        self.unknown.clear()

    def _leave(self) -> None:
        """A token of the tokenizer's own ends a text that is read to its end."""
        here = self.folded[self.text]
        if self.unknown:
            self._give(len(self.texts[self.text]))
            self.reached = len(here.letters)
        read = (self.reached or not here.letters) and _are_signs(here.letters[self.reached :])
        if read and self.text + 1 < len(self.texts):
            self.text, self.reached, self.end = self.text + 1, 0, 0


def _words(text: str, start: int, stop: int) -> list[tuple[int, int]]:
    """Where the words between two places stand."""
    made: list[tuple[int, int]] = []
    for place in range(start, stop):
        if text[place].isspace():
            continue
        if made and made[-1][1] == place:
            made[-1] = made[-1][0], place + 1
        else:
            made.append((place, place + 1))
    return made


def _are_signs(letters: str) -> bool:
    """Whether nothing is passed over but what a tokenizer may leave out: no letters and numbers."""
    return not any(character.isalnum() for character in letters)
