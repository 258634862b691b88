"""Spelling: which word pieces make up which word of a text, and what stands between the words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from fxplain.explanation import Word
from fxplain.explanation.merging import words_of
from fxplain.explanation.pieces import (
    are_written_together,
    is_within_a_word,
    readable,
    without_spaces,
)

__all__ = ["spell"]


def spell(
    tokenizer: Any, ids: Sequence[int], encoding: Any, row: int, texts: Sequence[str],
    given_words: Sequence[str] | None = None,
) -> list[Word]:  # fmt: skip
    """The words of one encoded text, as they were written.

    A fast tokenizer knows where each piece stands in the text. A slow one leaves marks in the pieces.

    Parameters
    ----------
    tokenizer
        The model's.
    ids
        The pieces' ids.
    encoding
        What a fast tokenizer made of the texts, or None.
    row
        Which text of the batch it is.
    texts
        The text, and the second one where there is one.
    given_words
        The words of the text, where they were given one by one: they stay as they are.
    """
    pieces = [str(piece) for piece in tokenizer.convert_ids_to_tokens(list(ids))]
    labels = readable(pieces, tokenizer)
    if encoding is None:
        return words_of(labels, together=are_written_together(tokenizer))
    spans = _spans(encoding, row, pieces, _starts(given_words or ()))
    words: list[list[int]] = []
    for place, span in enumerate(spans):
        before = spans[place - 1] if place else None
        if before is not None and _is_one(before, span, texts, given_words):
            words[-1].append(place)
        else:
            words.append([place])
    return list(_written(words, spans, labels, texts))


@dataclass(frozen=True)
class _Span:
    """A piece's place: which text (None of a special token), start, end, and the tokenizer's word."""

    text: int | None
    start: int
    end: int
    number: int | None
    continues: bool


def _starts(words: Sequence[str]) -> list[int]:
    """Where each word begins in the text that spaces join them to."""
    return [0, *accumulate(len(word) + 1 for word in words)]


def _spans(
    encoding: Any, row: int, pieces: Sequence[str], starts: Sequence[int]
) -> list[_Span]:  # fmt: skip
    """The pieces' places; of words that were given one by one, which each begin at 0, in the text."""
    texts, numbers = encoding.sequence_ids(row), encoding.word_ids(row)
    offsets = encoding["offset_mapping"][row]
    begin = [starts[n] if n is not None and starts[1:] else 0 for n in numbers]
    return [
        _Span(texts[i] if numbers[i] is not None else None, begin[i] + int(start),
              begin[i] + int(end), numbers[i], pieces[i].startswith("##"))
        for i, (start, end) in enumerate(offsets)
    ]  # fmt: skip


def _is_one(
    before: _Span, span: _Span, texts: Sequence[str], given_words: Sequence[str] | None
) -> bool:
    """Whether two pieces are of one word: of those that were given, or else as it is written."""
    if given_words is None or span.text is None or span.text != before.text:
        return _goes_on(before, span, texts)
    return span.number == before.number


def _goes_on(before: _Span, span: _Span, texts: Sequence[str]) -> bool:
    """Whether a piece is of the word of the one before it."""
    if span.text is None or span.text != before.text:
        return False
    written = texts[span.text]
    if before.end == span.start and is_within_a_word(written, span.start):
        return True
    if span.number != before.number:
        return False
    if any(character.isspace() for character in written[before.end : span.start + 1]):
        return False  # also where the tokenizer takes the whole text for one word
    if span.continues or span.start < before.end:
        return True  # a part of a letter is no word
    # nothing but their script joins the words of a Chinese text
    around = written[before.end - 1 : before.end] + written[span.start : span.start + 1]
    return not any(map(without_spaces, around))


def _written(
    words: Sequence[Sequence[int]], spans: Sequence[_Span], labels: Sequence[str],
    texts: Sequence[str],
) -> list[Word]:  # fmt: skip
    made: list[Word] = []
    reached = [0] * len(texts)
    for word in words:
        text, start, end = spans[word[0]].text, spans[word[0]].start, spans[word[-1]].end
        written = "" if text is None else texts[text][start:end]
        if text is None or not written:
            made.append(Word(labels[word[0]], tuple(word), special=text is None))
            continue
        shown = written.strip() or written
        begin = start + written.index(shown)
        made.append(Word(shown, tuple(word), texts[text][reached[text] : begin]))
        reached[text] = max(reached[text], begin + len(shown))
    return made
