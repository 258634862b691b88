"""Spelling: which word pieces make up which word of a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fxplain.explanation import Word
from fxplain.explanation.merging import words_of

__all__ = ["spell"]


def spell(
    tokenizer: Any, ids: Sequence[int], encoding: Any, row: int, texts: Sequence[str]
) -> list[Word]:
    """The words of one encoded text.

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
    """
    labels = [str(label) for label in tokenizer.convert_ids_to_tokens(list(ids))]
    if encoding is None:
        return words_of(labels)
    spans: list[tuple[int | None, int, int]] = []  # which text, start and end in it
    words: list[list[int]] = []
    numbers = encoding.word_ids(row)
    for place, number in enumerate(numbers):
        text = encoding.sequence_ids(row)[place] if number is not None else None
        start, end = encoding["offset_mapping"][row][place]
        goes_on = (
            place > 0
            and text is not None
            and text == spans[-1][0]
            and number == numbers[place - 1]
            and not _has_space(texts[text][spans[-1][2] : start + 1])
        )
        spans.append((text, int(start), int(end)))
        if goes_on:
            words[-1].append(place)
        else:
            words.append([place])
    return [Word(_read(word, spans, texts) or labels[word[0]], tuple(word)) for word in words]


def _has_space(text: str) -> bool:
    """Whether a word ends here, also where the tokenizer takes the whole text for one."""
    return any(character.isspace() for character in text)


def _read(
    word: Sequence[int], spans: Sequence[tuple[int | None, int, int]], texts: Sequence[str]
) -> str:
    text, start, _ = spans[word[0]]
    return "" if text is None else texts[text][start : spans[word[-1]][2]].strip()
