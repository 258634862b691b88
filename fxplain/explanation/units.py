"""Units: words of a text put together to what is asked for, or cut into their pieces."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

from fxplain.arguments import shown as described
from fxplain.errors import MethodError, ModalityError
from fxplain.explanation.merging import Word, plain

if TYPE_CHECKING:
    from fxplain.explanation.seen import AsSeen

__all__ = [
    "MARKED",
    "REST",
    "UNITS",
    "Units",
    "by_modality",
    "own_units",
    "units_of",
    "written_text",
]

Units = str | Sequence[Any] | Mapping[str, Any]
"""A name of `UNITS`, parts of the text, (start, stop) of its characters, or these by name.

Or by modality: these of a text, regions of a picture, stretches of a recording, groups of other tokens.
"""

UNITS = ("token", "word", "sentence", "line", "passage")
"""From pieces to what an empty line parts."""

MARKED = re.compile(r"<[^\s<>]{1,40}>|\[[^\s\[\]]{1,40}\]")
"""How tokenizers write tokens of their own."""

_ENDS = re.compile("[.!?\u2026]+[\"'\u201d\u2019)\\]]*$")
_ENDS_ANYWHERE = re.compile("[\u3002\uff01\uff1f\uff61]+[\u300d\u300f\u201d\uff09]*$")
"""Where a sentence ends before a space, and where Chinese and Japanese ones end without one."""

REST = "(the rest)"
"""What no part of a text that is asked for holds."""


def by_modality(seen: AsSeen, units: Units) -> bool:
    """Whether units are said by modality."""
    return isinstance(units, Mapping) and bool(units) and units.keys() <= seen.labels.keys()


def own_units(seen: AsSeen, modality: str, units: Units) -> Units:
    """A modality's own units: parts that are said of none are of texts, or of the only one.

    Raises
    ------
    ModalityError
        When units are said of a modality that is none, or it is not clear of which.
    """
    if by_modality(seen, units):
        return cast("Mapping[str, Units]", units).get(modality, "word")
    if isinstance(units, str):
        return units
    names = tuple(seen.labels)
    told = ", ".join(map(repr, names))
    others = [name for name in units if name not in names] if isinstance(units, Mapping) else []
    if others and len(others) < len(units):
        raise ModalityError(f"units: there is no modality {others[0]!r}; there are: {told}.")
    if seen.is_text(modality) or len(names) == 1:
        return units
    if not any(map(seen.is_text, names)):
        raise ModalityError(
            f"units={described(units)}: say of which modality, units={{{names[0]!r}: ...}}; there are: "
            f"{told}."
        )
    return "token"


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
    >>> [word.special for word in units_of([Word("<|im_end|>", (0,))], ["<|im_end|>"], "word")]
    [True]
    """
    if isinstance(units, str):
        if units not in UNITS:
            raise MethodError(f"units={units!r} is none of {', '.join(map(repr, UNITS))}.")
        told = list(map(_with_its_kind, words))
        if units == "token":
            return [piece for word in told for piece in _pieces(word, labels)]
        return told if units == "word" else _grown(told, units)
    return _by_spans(words, labels, _named_spans(written_text(words), units))


def _with_its_kind(word: Word) -> Word:
    """A token in brackets that stands in the text, as chat templates write them, is special, too."""
    own = not word.special and len(word.tokens) == 1 and MARKED.fullmatch(word.text)
    return replace(word, special=True) if own else word


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
        if not groups or _parted(groups[-1], word, units):
            groups.append([word])
        else:
            groups[-1].append(word)
    return list(map(_together, groups))


def _parted(unit: Sequence[Word], word: Word, units: str) -> bool:
    """Whether a unit ends before a word; white space that is a word of its own ends none."""
    if unit[-1].special or word.special:
        return True
    if not word.text.strip():
        return False
    last = next((i for i in range(len(unit) - 1, -1, -1) if unit[i].text.strip()), None)
    blank = unit if last is None else unit[last + 1 :]
    between = "".join(white.gap + white.text for white in blank) + word.gap
    if units == "line":
        return "\n" in between
    if units == "passage":
        return bool(re.search(r"\n\s*\n", between))
    before = "" if last is None else unit[last].text
    spaced = between and bool(_ENDS.search(before.strip()))
    ends = "\n" in between or bool(spaced) or bool(_ENDS_ANYWHERE.search(before))
    # a closing quote and a mark are of the sentence that they end
    return ends and any(character.isalnum() for character in word.text)


def _together(words: Sequence[Word]) -> Word:
    if len(words) == 1:
        return words[0]
    text = words[0].text + "".join(word.gap + word.text for word in words[1:])
    places = tuple(place for word in words for place in word.tokens)
    return Word(text, places, words[0].gap)


@dataclass(frozen=True)
class _Span:
    """A part of a text that is asked for; without a name it is called by what it holds."""

    name: str
    start: int
    stop: int


def _named_spans(text: str, units: Units) -> list[_Span]:
    """The parts that are asked for, in the order given."""
    if isinstance(units, Mapping):
        return _apart([_Span(str(name), *_span(span)) for name, span in units.items()], text)
    if not isinstance(units, (list, tuple)):
        names = ", ".join(map(repr, UNITS))
        raise MethodError(
            f"units={described(units)} must be one of {names}, a list of parts of the text, or of "
            f"(start, stop) of its characters."
        )
    found: list[_Span] = []
    for part in units:
        if isinstance(part, str):
            start = text.find(part, found[-1].stop if found else 0)
            start = text.find(part) if start < 0 else start
            if start < 0 or not part:
                raise MethodError(f"units: {part!r} is no part of the text {text!r}.")
            found.append(_Span("", start, start + len(part)))
        else:
            found.append(_Span("", *_span(part)))
    return _apart(found, text)


def _apart(spans: list[_Span], text: str) -> list[_Span]:
    """The same spans, none of which has a part of another: a word's relevance is counted once."""
    for own, other in pairwise(sorted(spans, key=lambda span: (span.start, span.stop))):
        if other.start < own.stop:
            raise MethodError(
                f"units: {_called(own, text)!r} and {_called(other, text)!r} overlap, and each word "
                f"is of one unit."
            )
    return spans


def _called(span: _Span, text: str) -> str:
    return span.name or text[span.start : span.stop]


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


def _by_spans(words: Sequence[Word], labels: Sequence[str], spans: Sequence[_Span]) -> list[Word]:
    """A unit for each span, of the words that it has a part of, and one for what is left.

    A word that a span ends within is parted between its pieces, where these tell their letters.
    """
    text = written_text(words)
    places: list[list[int]] = [[] for _ in spans]
    held: list[list[int]] = [[] for _ in spans]
    rest: list[int] = []
    edges = {edge for span in spans for edge in (span.start, span.stop)}
    for start, stop, tokens in _stretches(words, labels, edges):
        own = next((i for i, s in enumerate(spans) if s.start < stop and start < s.stop), None)
        (rest if own is None else places[own]).extend(tokens)
        if own is not None:
            held[own] += [start, stop]
    if not any(places):
        raise MethodError(
            f"units: no part that is given holds a word of the text, which has {len(text)} "
            f"characters: {text!r}."
        )
    made = [
        Word(span.name or text[min(ends) : max(ends)], tuple(own), " " if i else "")
        for i, (span, own, ends) in enumerate(zip(spans, places, held, strict=True))
        if own  # a shorter text of a batch may lack a part that another has
    ]
    special = [word for word in words if word.special]
    return [*made, *([Word(REST, tuple(rest), " ")] if rest else []), *special]


def _stretches(
    words: Sequence[Word], labels: Sequence[str], edges: Collection[int]
) -> Iterator[tuple[int, int, tuple[int, ...]]]:
    """(start, stop, tokens) of each word, or of its pieces where there is an edge within."""
    reached = 0
    for word in words:
        if word.special:
            continue
        start = reached + len(word.gap)
        reached = start + len(word.text)
        letters = [
            len(plain(labels[place]).strip()) for place in word.tokens if place < len(labels)
        ]
        whole = len(letters) == len(word.tokens) and sum(letters) == len(word.text)
        if whole and any(start < edge < reached for edge in edges):
            for place, length in zip(word.tokens, letters, strict=True):
                yield start, start + length, (place,)
                start += length
        else:
            yield start, reached, word.tokens
