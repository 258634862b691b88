"""Words: how tokens of a text are written."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from fxplain.explanation import UNITS, Explanation, Units
from fxplain.explanation.merging import words_within
from fxplain.explanation.shown import escaped, folded, visible
from fxplain.explanation.units import own_units, units_of
from fxplain.views import are_words

__all__ = ["Unit", "cuts_of", "written"]

Unit = tuple[str, str, list[int], bool]
"""What is written, what stands before it, its tokens, and whether it is special."""

WORD_STARTS = ("\u2581", "\u0120", " ")
"""What SentencePiece and byte-level BPE put before a piece that starts a word."""


def cuts_of(
    explanation: Explanation,
    name: str,
    sample: int,
    units: Units,
    places: Collection[int] | None = None,
) -> dict[str, list[Unit]]:
    """A text as words, and in each other way that makes something else of it.

    Parameters
    ----------
    units
        What was asked for: a name, or parts of the text, which are called "parts".
    places
        The tokens of the part of it that is shown; by default all.
    """
    words = explanation.words_in(name)[sample]
    labels = explanation.tokens(name)[sample]
    if places is not None:
        words = list(words_within(words, places, labels))
    own = own_units(explanation, name, units)
    names = ("word", *UNITS) if are_words(labels) else ("word", "token")
    asked: dict[str, Units] = {unit: unit for unit in names}
    named = isinstance(own, str)
    if not named:
        asked["parts"] = own
    made: dict[str, list[Unit]] = {}
    for key, unit in asked.items():
        cut = [
            (visible(word.text) if word.text.strip() else _spaced(word.text),
             word.gap, list(word.tokens), word.special)
            for word in folded(units_of(words, labels, unit))
        ]  # fmt: skip
        if (named and key == own) or cut not in made.values():
            made[key] = cut
    return made


def _spaced(text: str) -> str:
    """White space as it lies on a page, with signs where lines end."""
    return text.replace("\r\n", "\n").replace("\r", "␍").replace("\n", "↵\n")


def written(labels: Sequence[str]) -> list[tuple[str, bool]]:
    """Each token as it is written, and whether it goes on with the word before it.

    Examples
    --------
    >>> written(["un", "##break", "##able"])
    [('un', False), ('break', True), ('able', True)]
    >>> written(["\u2581two", "\u2581word", "s"])
    [('two', False), ('word', False), ('s', True)]
    >>> written(["101", "7"])
    [('101', False), ('7', False)]
    """
    marked = any(label.startswith(WORD_STARTS) for label in labels)
    return [_written(label, marked, first=i == 0) for i, label in enumerate(labels)]


def _written(label: str, marked: bool, *, first: bool) -> tuple[str, bool]:
    """One token; where word starts are marked, a piece without the mark goes on with its word."""
    if label.startswith("##") and len(label) > 2:
        return label[2:], not first
    if label.startswith(WORD_STARTS):
        return escaped(label[1:]) or " ", False
    special = label.startswith(("[", "<")) and label.endswith(("]", ">"))
    return escaped(label), marked and not first and not special
