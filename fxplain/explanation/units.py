"""Units: words of a text put together to what is asked for, or cut into their pieces."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from fxplain.arguments import shown as described
from fxplain.errors import MethodError
from fxplain.explanation.merging import Word

__all__ = ["UNITS", "Units", "units_of", "written_text"]

Units = str | Sequence[str] | Sequence[tuple[int, int]] | Mapping[str, tuple[int, int]]
"""A name of `UNITS`, parts of the text, (start, stop) of its characters, or these by name."""

UNITS = ("token", "word", "sentence", "line", "passage")
"""From pieces to what an empty line parts."""

_ENDS = re.compile("[.!?\u2026]+[\"'\u201d\u2019)\\]]*$")
_ENDS_ANYWHERE = re.compile("[\u3002\uff01\uff1f\uff61]+[\u300d\u300f\u201d\uff09]*$")
"""Where a sentence ends before a space, and where Chinese and Japanese ones end without one."""

REST = "(the rest)"


def written_text(words: Sequence[Word]) -> str:
    """The text that words are of, as it was written, without special tokens."""
    return "".join(word.gap + word.text for word in words if not word.special)


def units_of(words: Sequence[Word], labels: Sequence[str], units: Units = "word") -> list[Word]:
    """Words put together; each special token stays by itself, and every token is in one unit.

    Parameters
    ----------
    words
        In reading order.
    labels
        One for each token.
    units
        See `Units`. What no given part of the text holds is one unit more.

    Raises
    ------
    MethodError
        When there is no such unit, the text has no such part, or parts overlap.

    Examples
    --------
    >>> words = [Word("Good", (0,)), Word(".", (1,)), Word("Bad", (2,), " "), Word("!", (3,))]
    >>> [unit.text for unit in units_of(words, ["Good", ".", "Bad", "!"], "sentence")]
    ['Good.', 'Bad!']
    """
    if isinstance(units, str):
        if units not in UNITS:
            raise MethodError(f"units={units!r} is none of {', '.join(map(repr, UNITS))}.")
        if units == "token":
            return [piece for word in words for piece in _pieces(word, labels)]
        return list(words) if units == "word" else _grown(words, units)
    return _by_spans(words, _named_spans(written_text(words), units))


def _pieces(word: Word, labels: Sequence[str]) -> list[Word]:
    if len(word.tokens) == 1:
        return [word]
    return [
        Word(labels[place], (place,), word.gap if i == 0 else "", word.special)
        for i, place in enumerate(word.tokens)
    ]


def _grown(words: Sequence[Word], units: str) -> list[Word]:
    groups: list[list[Word]] = []
    for word in words:
        if not groups or _parted(groups[-1][-1], word, units):
            groups.append([word])
        else:
            groups[-1].append(word)
    return list(map(_together, groups))


def _parted(before: Word, word: Word, units: str) -> bool:
    """Whether a unit ends between two words."""
    if before.special or word.special:
        return True
    between = word.gap + ("" if word.text.strip() else word.text)
    between = (before.text if not before.text.strip() else "") + between
    if units == "line":
        return "\n" in between and bool(word.text.strip())
    if units == "passage":
        return bool(re.search(r"\n\s*\n", between)) and bool(word.text.strip())
    spaced = between and bool(_ENDS.search(before.text.strip() or "."))
    ends = "\n" in between or bool(spaced) or bool(_ENDS_ANYWHERE.search(before.text))
    # a closing quote and a mark are of the sentence that they end
    return ends and any(character.isalnum() for character in word.text)


def _together(words: Sequence[Word]) -> Word:
    if len(words) == 1:
        return words[0]
    text = words[0].text + "".join(word.gap + word.text for word in words[1:])
    places = tuple(place for word in words for place in word.tokens)
    return Word(text, places, words[0].gap)


def _named_spans(text: str, units: Units) -> list[tuple[str, int, int]]:
    """(name, start, stop) of each part."""
    if isinstance(units, Mapping):
        return _apart([(str(name), *_span(span)) for name, span in units.items()])
    if not isinstance(units, (list, tuple)):
        names = ", ".join(map(repr, UNITS))
        raise MethodError(
            f"units={described(units)} must be one of {names}, a list of parts of the text, or of "
            f"(start, stop) of its characters."
        )
    found: list[tuple[str, int, int]] = []
    for part in units:
        if isinstance(part, str):
            start = text.find(part, found[-1][2] if found else 0)
            start = text.find(part) if start < 0 else start
            if start < 0 or not part:
                raise MethodError(f"units: {part!r} is no part of the text {text!r}.")
            found.append((part, start, start + len(part)))
        else:
            start, stop = _span(part)
            found.append((text[start:stop], start, stop))
    return _apart(found)


def _apart(spans: list[tuple[str, int, int]]) -> list[tuple[str, int, int]]:
    """The same spans, none of which has a part of another: a word's relevance is counted once."""
    for (name, _, stop), (other, start, _) in pairwise(sorted(spans, key=lambda span: span[1:])):
        if start < stop:
            raise MethodError(
                f"units: {name!r} and {other!r} overlap, and each word is of one unit."
            )
    return spans


def _span(part: Any) -> tuple[int, int]:
    """(start, stop), or an error that names what is given in its place."""
    pair = isinstance(part, (list, tuple)) and len(part) == 2 and all(map(_is_place, part))
    if not pair or not 0 <= part[0] < part[1]:
        raise MethodError(
            f"units: {described(part)} is no part of a text, and no (start, stop) of its characters."
        )
    return part[0], part[1]


def _is_place(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _by_spans(words: Sequence[Word], spans: Sequence[tuple[str, int, int]]) -> list[Word]:
    """A unit for each span that holds words, of these, and one for what is left."""
    places: list[list[int]] = [[] for _ in spans]
    rest: list[int] = []
    special: list[Word] = []
    reached = 0
    for word in words:
        if word.special:
            special.append(word)
            continue
        begin, reached = reached + len(word.gap), reached + len(word.gap) + len(word.text)
        own = next((i for i, (_, a, b) in enumerate(spans) if a < reached and begin < b), None)
        (rest if own is None else places[own]).extend(word.tokens)
    named = [
        Word(name, tuple(own), " " if i else "")
        for i, ((name, *_), own) in enumerate(zip(spans, places, strict=True))
        if own
    ]
    return [*named, *([Word(REST, tuple(rest), " ")] if rest else []), *special]
