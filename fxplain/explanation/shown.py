"""Shown: what displays say of one sample's tokens, put together to words or more, with their shares."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from torch import Tensor

from fxplain.arguments import one_of, place_in
from fxplain.errors import MethodError
from fxplain.explanation.merging import Word
from fxplain.explanation.units import MARKED, Units, own_units

if TYPE_CHECKING:
    from fxplain.explanation.explanation import Explanation

__all__ = ["SPECIAL", "Shown", "Special", "cut_out", "escaped", "folded", "shown", "visible"]

Special = Literal["show", "hide"]
SPECIAL: tuple[Special, ...] = ("show", "hide")

FOLDED = 4
"""So many of the same special token in a row, or more, are one entry: "24 × <image>"."""

_TIMES = " × "
"""Between how many and what, where many of the same are one entry."""

SINK = 0.5
"""A text's first token that has more than this share of the relevance is where attention is parked."""


@dataclass(frozen=True)
class Shown:
    """A word, a token, or what else displays show one number of.

    Attributes
    ----------
    modality
        Whose it is.
    text
        As people read it.
    tokens
        The places of its tokens.
    relevance
        The sum over its tokens, beside the identity.
    share
        Its size as a part of all sizes in its sample; 0 of what is left out.
    gap
        What was written between the one before it and this one.
    special
        Whether it is a special token or a sink, which ``special="hide"`` leaves out.
    error
        The standard error of `relevance`; None where nothing was drawn.
    apart
        Whether it alone is read, and so has no number that can be compared with the others'.
    """

    modality: str
    text: str
    tokens: tuple[int, ...]
    relevance: float
    share: float = 0.0
    gap: str = ""
    special: bool = False
    apart: bool = False
    error: float | None = None

    @property
    def own(self) -> tuple[str, tuple[int, ...]]:
        """What no other entry of its sample has: its tokens and whose they are."""
        return self.modality, self.tokens


def shown(
    explanation: Explanation, sample: int = 0, units: Units = "word", special: Special = "show"
) -> list[Shown]:
    """What is shown of one sample, in the order of its modalities and tokens.

    Parameters
    ----------
    units
        How a text's tokens are put together, or by modality how each one's are, as
        `Explanation.units` takes them; other tokens stay by themselves.
    special
        "hide" gives special tokens and sinks no share.

    Raises
    ------
    MethodError
        When `special` is neither, or there is no such unit.
    """
    one_of(SPECIAL).raising(MethodError).check("special", special)
    sample = place_in("sample", sample, explanation.batch_size)
    entries = [
        entry
        for name in explanation.modalities
        for entry in _of_modality(explanation, name, sample, units)
    ]
    entries = _with_sinks(entries, explanation) if special == "hide" else entries
    counted = [e for e in entries if not e.apart and not (e.special and special == "hide")]
    total = sum(abs(entry.relevance) for entry in counted) or 1.0
    kept = set(map(id, counted))
    return [
        replace(entry, share=abs(entry.relevance) / total) if id(entry) in kept else entry
        for entry in entries
    ]


def _of_modality(explanation: Explanation, name: str, sample: int, units: Units) -> Iterator[Shown]:
    values = explanation.beyond_identity()[name][sample]
    errors = None if explanation.error is None else explanation.error[name][sample]
    labels = explanation.tokens(name)[sample]
    parameters = explanation.special_in(name, sample)
    apart = explanation.apart(name, sample)
    own = own_units(explanation, name, units)
    words = explanation.cut(name, sample, own)
    for word in cut_out(folded(words), apart, labels):
        yield Shown(
            name,
            visible(word.text if own in ("word", "token") else _on_one_line(word.text)),
            word.tokens,
            _sum(values, word.tokens),
            gap=word.gap,
            special=word.special or word.tokens[0] in parameters,
            apart=set(word.tokens) <= set(apart),
            error=None if errors is None else _sum(errors, word.tokens),
        )


def without_padding(entries: Sequence[Shown]) -> int:
    """How many of a text's entries are left without the padding at its end.

    Padding are two or more of the same token in a row without relevance; a word of several is none.
    """
    end = len(entries)
    while end and _pads(entries[end - 1], entries[-1]):
        end -= 1
    return end if sum(len(e.tokens) for e in entries[end:]) > 1 else len(entries)


def _pads(entry: Shown, last: Shown) -> bool:
    one = len(entry.tokens) == 1 or _TIMES in entry.text
    return one and entry.relevance == 0 and not entry.apart and entry.text == last.text


def _on_one_line(text: str) -> str:
    return " ".join(text.split()) or text


def _sum(values: Tensor, tokens: Sequence[int]) -> float:
    return float(values[list(tokens)].double().sum())


def cut_out(words: Iterable[Word], apart: Collection[int], labels: Sequence[str]) -> Iterator[Word]:
    """The same words, with a token whose number cannot be compared taken out of what it is part of."""
    for word in words:
        cut = [place for place in word.tokens if place in apart]
        rest = tuple(place for place in word.tokens if place not in apart)
        if cut and rest:
            ending = labels[word.tokens[-1]].strip() if word.tokens[-1] in cut else ""
            text = word.text.removesuffix(ending).rstrip() or word.text
            yield replace(word, text=text, tokens=rest)
            yield from (Word(labels[place], (place,), "", word.special) for place in cut)
        else:
            yield word


def folded(words: Sequence[Word]) -> Iterator[Word]:
    """Many of the same special token in a row as one, also where single others part them."""
    runs = list(_runs(words))
    i = 0
    while i < len(runs):
        run, first = list(runs[i]), runs[i][0]
        while len(runs[i]) > 1 and i + 2 < len(runs) and _goes_on(first, *runs[i + 1 : i + 3]):
            run += [*runs[i + 1], *runs[i + 2]]
            i += 2
        yield from _as_one(run)
        i += 1


def _runs(words: Sequence[Word]) -> Iterator[list[Word]]:
    """The same special token in a row together, each other word by itself."""
    run: list[Word] = []
    for word in words:
        if run and not (word.text == run[-1].text and _folds(word)):
            yield run
            run = []
        run.append(word)
    if run:
        yield run


def _goes_on(first: Word, between: Sequence[Word], behind: Sequence[Word]) -> bool:
    """Whether a run goes on behind a single other special token; ids are no such tokens."""
    parts = len(between) == 1 and bool(MARKED.fullmatch(between[0].text))
    return parts and behind[0].text == first.text and bool(MARKED.fullmatch(first.text))


def _as_one(run: Sequence[Word]) -> Sequence[Word]:
    if len(run) < FOLDED:
        return run
    places = tuple(place for word in run for place in word.tokens)
    told = " + ".join(
        f"{n}{_TIMES}{text}" for text, n in Counter(word.text for word in run).items()
    )
    return [Word(told, places, run[0].gap, special=run[0].special)]


def _folds(word: Word) -> bool:
    """Whether a word is one of the tokenizer's own, in brackets, or a bare id."""
    return word.text.isdigit() or bool(MARKED.fullmatch(word.text))


def _with_sinks(entries: Sequence[Shown], explanation: Explanation) -> list[Shown]:
    """A text's first token with most of the relevance counts as special, too."""
    made = []
    seen: set[str] = set()
    plain = [e for e in entries if not e.apart and not e.special]
    total = sum(abs(entry.relevance) for entry in plain)
    for entry in entries:
        first = entry.modality not in seen and explanation.is_text(entry.modality)
        seen.add(entry.modality)
        parked = first and 0 in entry.tokens and abs(entry.relevance) > SINK * total
        enough = len([e for e in plain if e.modality == entry.modality]) > 2
        made.append(replace(entry, special=True) if parked and enough else entry)
    return made


_SPACES = {"\n": "↵", "\r": "␍", "\t": "⇥", "\u00a0": "⍽"}

_DIRECTS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""What turns the direction of what is written after it, so that a page would not read as it is."""


def visible(text: str) -> str:
    r"""A word with its control characters as they can be seen; white space that is all of it by signs.

    Examples
    --------
    >>> visible("a"), visible("\r\n\n"), visible(" "), visible("\x07")
    ('a', '↵↵', '␣', '\\x07')
    """
    if not text.strip():
        return "".join(_SPACES.get(c, "␣") for c in text.replace("\r\n", "\n"))
    return "\t".join(map(escaped, text.split("\t")))


def escaped(text: str) -> str:
    r"""A text on one line, without what prints nothing and joins or varies nothing that does.

    Examples
    --------
    >>> escaped("a\nb"), escaped("\u200b"), escaped("\u202eabc")
    ('a\\nb', '\\u200b', '\\u202eabc')
    """
    if text.isprintable():
        return text
    seen = any(character.isprintable() for character in text)
    return "".join(c if _prints(c, among_others=seen) else repr(c)[1:-1] for c in text)


def _prints(character: str, *, among_others: bool) -> bool:
    if character.isprintable() or character in "\u00a0\u3000":
        return True
    joins = unicodedata.category(character) == "Cf" and character not in _DIRECTS
    return joins and among_others
