"""Spelling: which word pieces make up which word of a text, and what stands between the words."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from fxplain.explanation import Word
from fxplain.explanation.merging import plain, words_of
from fxplain.explanation.pieces import (
    are_written_together,
    is_within_a_word,
    joined,
    readable,
    without_spaces,
)
from fxplain.pipelines.aligning import Place, aligned

__all__ = ["spell"]


def spell(
    tokenizer: Any, ids: Sequence[int], encoding: Any, row: int, texts: Sequence[str],
    given_words: Sequence[str] | None = None,
) -> list[Word]:  # fmt: skip
    """The words of one encoded text, as they were written.

    A fast tokenizer knows where each piece stands in the text. Of a slow one they are found in the text
    one after the other, or else the marks in the pieces say what is a word.

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
        own = _own_tokens(tokenizer, ids)
        marked = words_of(labels, together=are_written_together(tokenizer), alone=own)
        found = _found(tokenizer, ids, labels, texts, own)
        if found is None:
            return [replace(w, special=w.special or w.tokens[0] in own) for w in marked]
        numbers = {place: i for i, word in enumerate(marked) for place in word.tokens}
        spans = _aligned_spans(found, numbers, labels, _starts(given_words or ()))
        labels = _names(tokenizer, labels)
    else:
        spans = _spans(encoding, row, pieces, _starts(given_words or ()))
    words = _put_together(spans, texts, given_words, tokenizer)
    return _written(words, spans, labels, texts, given_words)


LONGEST = 64
"""What has more letters than this without a space is no word, but a sequence (of DNA, say), or code."""


def _put_together(
    spans: Sequence[_Span], texts: Sequence[str], given_words: Sequence[str] | None, tokenizer: Any
) -> list[list[int]]:
    """The places of each word's pieces; of what is too long for a word each piece by itself."""
    together = are_written_together(tokenizer)
    words: list[list[int]] = []
    for place, span in enumerate(spans):
        before = spans[place - 1] if place else None
        if before is not None and _is_one(before, span, texts, given_words, together=together):
            words[-1].append(place)
        else:
            words.append([place])
    if given_words is not None:
        return words
    return [part for word in words for part in _parted(word, spans, texts)]


def _parted(word: list[int], spans: Sequence[_Span], texts: Sequence[str]) -> list[list[int]]:
    """A word, or the pieces of what is too long for one; parts of one letter stay together."""
    if spans[word[-1]].end - spans[word[0]].start <= LONGEST:
        return [word]
    parts: list[list[int]] = []
    for place in word:
        if parts and _is_one_letter(spans[parts[-1][-1]], spans[place], texts):
            parts[-1].append(place)
        else:
            parts.append([place])
    return parts


@dataclass(frozen=True)
class _Span:
    """A piece's place: which text (None of a special token), start, end, and the tokenizer's word."""

    text: int | None
    start: int
    end: int
    number: int | None
    continues: bool


# ---- of a tokenizer that does not say where its pieces stand ------------------------------------


def _own_tokens(tokenizer: Any, ids: Sequence[int]) -> set[int]:
    """The places of the tokenizer's own tokens; what its vocabulary does not know is the text's."""
    own = set(getattr(tokenizer, "all_special_ids", None) or ())
    own.discard(getattr(tokenizer, "unk_token_id", None))
    return {place for place, number in enumerate(ids) if number in own}


def _found(
    tokenizer: Any, ids: Sequence[int], labels: Sequence[str], texts: Sequence[str], own: set[int]
) -> list[Place | None] | None:
    """Where the pieces stand; those that are parts of one letter stand where it does."""
    unknown = getattr(tokenizer, "unk_token_id", None)
    groups = _letters_whole(labels, own)
    pieces: list[str | None] = []
    for group in groups:
        text = joined([plain(labels[place]) for place in group])
        known = ids[group[0]] != unknown and not _BYTE.search(text)
        pieces.append(text if known else None)
    places = aligned(pieces, texts, [group[0] in own for group in groups])
    if places is None:
        return None
    return [place for group, place in zip(groups, places, strict=True) for _ in group]


_BYTE = re.compile("<0x[0-9A-F]{2}>")


def _letters_whole(labels: Sequence[str], own: set[int]) -> list[list[int]]:
    """Places of pieces, those that are bytes of one letter put together."""
    groups: list[list[int]] = []
    for place, label in enumerate(labels):
        before = groups[-1] if groups else []
        broken = _BYTE.search(joined([labels[i] for i in before]))
        if broken and _BYTE.match(label) and place not in own:
            before.append(place)
        else:
            groups.append([place])
    return groups


def _aligned_spans(
    found: Sequence[Place | None], numbers: Mapping[int, int], labels: Sequence[str],
    starts: Sequence[int],
) -> list[_Span]:  # fmt: skip
    """The pieces' places, each with its word: one that was given, or one that the marks make up."""
    spans = []
    for i, place in enumerate(found):
        if place is None:
            spans.append(_Span(None, 0, 0, None, continues=False))
            continue
        text, start, end = place
        number = bisect_right(starts, start) if starts[1:] else numbers[i]
        spans.append(_Span(text, start, end, number, labels[i].startswith("##")))
    return spans


def _names(tokenizer: Any, labels: Sequence[str]) -> list[str]:
    """Labels in which a token of the tokenizer's own that cannot be seen is called by its role."""
    roles = getattr(tokenizer, "special_tokens_map", None) or {}
    unseen = {
        token: f"[{role.removesuffix('_token').upper()}]"
        for role, token in roles.items()
        if isinstance(token, str) and not token.isprintable()
    }
    return [unseen.get(label, label) for label in labels]


# ---- of words that were given -------------------------------------------------------------------


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
    before: _Span, span: _Span, texts: Sequence[str], given_words: Sequence[str] | None,
    *, together: bool,
) -> bool:  # fmt: skip
    """Whether two pieces are of one word: of those that were given, or else as it is written."""
    if span.text is None or span.text != before.text:
        return False
    if given_words is not None:
        return span.number == before.number
    return _is_one_letter(before, span, texts) or _goes_on(before, span, texts, together=together)


def _is_one_letter(before: _Span, span: _Span, texts: Sequence[str]) -> bool:
    """Whether two pieces of a text are parts of what people read as one letter."""
    within = span.text is not None and is_within_a_word(texts[span.text], span.start)
    return (before.end == span.start and within) or (
        before.start < span.end and span.start < before.end
    )


def _goes_on(before: _Span, span: _Span, texts: Sequence[str], *, together: bool) -> bool:
    """Whether a piece is of the word of the one before it.

    Letters and numbers that nothing parts are one word, also where the tokenizer takes each by itself.
    """
    written = texts[span.text or 0]
    if span.number != before.number:
        ends = written[before.end - 1 : before.end] + written[span.start : span.start + 1]
        adjacent = together and before.start < before.end == span.start < span.end
        return adjacent and ends.isalnum() and not any(map(without_spaces, ends))
    if any(character.isspace() for character in written[max(before.end - 1, 0) : span.start + 1]):
        return False  # also where the tokenizer takes the whole text for one word
    if span.continues:
        return True
    # nothing but their script joins the words of a Chinese text
    around = written[before.end - 1 : before.end] + written[span.start : span.start + 1]
    return not any(map(without_spaces, around))


def _written(
    words: Sequence[Sequence[int]], spans: Sequence[_Span], labels: Sequence[str],
    texts: Sequence[str], given_words: Sequence[str] | None,
) -> list[Word]:  # fmt: skip
    made: list[Word] = []
    reached = [0] * len(texts)
    begun: list[int] = []
    following = _following(words, spans)
    for word, ahead in zip(words, following, strict=True):
        text, start, end = spans[word[0]].text, spans[word[0]].start, spans[word[-1]].end
        if text is None:
            made.append(Word(labels[word[0]], tuple(word), special=True))
            continue
        end = _with_its_marks(texts[text], end, ahead)
        written = texts[text][start:end]
        if not written:  # white space that the tokenizer cuts off, or writes before a word
            label = labels[word[0]]
            here = label if texts[text].startswith(label, reached[text]) else ""
            if (
                not plain(label).strip()
                and here in ("", " ")
                and reached[text] + len(here) == ahead
            ):
                begun += word
                continue
            made.append(Word(label, (*begun, *word)))
            reached[text] += len(here)
        else:
            if written == " " and ahead == end and given_words is None:
                begun += word  # as where a piece bears its space itself
                continue
            shown = written.strip() or written
            begin = max(start + written.index(shown), reached[text])
            made.append(Word(shown, (*begun, *word), texts[text][reached[text] : begin]))
            reached[text] = max(reached[text], begin + len(shown))
        begun = []
    return made


def _following(words: Sequence[Sequence[int]], spans: Sequence[_Span]) -> list[int | None]:
    """Where the next word that has letters begins, of each word; None behind the last of a text."""
    made: list[int | None] = []
    ahead: tuple[int | None, int | None] = (None, None)
    for word in reversed(words):
        span = spans[word[0]]
        made.append(ahead[1] if span.text == ahead[0] else None)
        if span.text != ahead[0]:
            ahead = (span.text, None)
        if span.text is not None and span.start < spans[word[-1]].end:
            ahead = (span.text, span.start)
    return made[::-1]


def _with_its_marks(written: str, end: int, following: int | None) -> int:
    """Where a word ends with the accents and vowel signs that the tokenizer leaves out."""
    last = len(written) if following is None else following
    while end < last and is_within_a_word(written, end) and _is_mark(written[end]):
        end += 1
    return end


def _is_mark(letter: str) -> bool:
    return unicodedata.category(letter).startswith("M")
