"""Pieces: what a tokenizer's pieces are as people wrote them."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

import regex

__all__ = [
    "are_written_together", "is_within_a_word", "joined", "readable", "whole_letters",
    "without_spaces",
]  # fmt: skip


def _byte_letters() -> dict[str, int]:
    """The letters that byte-level BPE writes bytes with: printable ones stand for themselves."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), 256)]
    others = [byte for byte in range(256) if byte not in plain]
    letters = {chr(byte): byte for byte in plain}
    return letters | {chr(256 + i): byte for i, byte in enumerate(others)}


_BYTES = _byte_letters()
_OWN_BYTES = {chr(byte): byte for byte in range(256)}
"""Where each byte is a piece, and is written as the letter of its number."""

_BYTE_RUN = re.compile(r"(?:<0x[0-9A-F]{2}>)+")
"""How a piece is written that is a part of a letter: by its bytes."""


def readable(pieces: Sequence[str], tokenizer: Any = None) -> list[str]:
    r"""Pieces of a vocabulary as people wrote them: byte-level BPE's letters as the text they are.

    A space before a word stays, and a piece that is a part of a letter is written by its bytes.

    Parameters
    ----------
    pieces
        As the vocabulary has them.
    tokenizer
        What made them; without one that tells, the marks in the pieces do.

    Examples
    --------
    >>> readable(["the", "ĠcafÃ©", "Ċ", "ð", "<|end|>"])
    ['the', ' café', '\n', '<0xF0>', '<|end|>']
    >>> readable(["Ã©", "##t", "<0x0A>"])
    ['Ã©', '##t', '\n']
    """
    letters = _alphabet(pieces, tokenizer)
    added = getattr(tokenizer, "added_tokens_decoder", None) or {}
    whole = {str(token) for token in added.values()}
    return [
        piece if piece in whole
        else _text(piece, letters) if letters and set(piece) <= letters.keys()
        else _BYTE_RUN.sub(_letters, piece)
        for piece in pieces
    ]  # fmt: skip


def _alphabet(pieces: Sequence[str], tokenizer: Any) -> Mapping[str, int]:
    """What a tokenizer writes bytes with; empty where its pieces are letters.

    Two letters of such an alphabet are read as the bytes of one: of byte-level BPE's, or of the one in
    which each byte stands for itself (ByT5).
    """
    if not callable(getattr(tokenizer, "convert_tokens_to_string", None)):
        marked = any(piece.startswith(("Ġ", "Ċ")) for piece in pieces)
        return _BYTES if marked and all(set(piece) <= _BYTES.keys() for piece in pieces) else {}
    if _decoded(tokenizer, ["Ã©"]) == "é":
        return _BYTES
    return _OWN_BYTES if _decoded(tokenizer, ["Ã", "©"]) == "é" else {}


def are_written_together(tokenizer: Any) -> bool:
    """Whether a tokenizer puts no space between two pieces that bear no mark.

    Those of byte-level BPE and SentencePiece do not: a piece that begins a word bears the space itself.
    """
    return _decoded(tokenizer, ["a", "b"]) == "ab"


def _decoded(tokenizer: Any, pieces: Sequence[str]) -> str | None:
    """What a tokenizer reads pieces as; None where it reads none, or fails on what it never makes."""
    decode = getattr(tokenizer, "convert_tokens_to_string", None)
    if not callable(decode):
        return None
    try:
        return str(decode(list(pieces))).strip()
    except Exception:  # noqa: BLE001 - whatever the tokenizer raises: these are no pieces of its own
        return None


def _text(piece: str, letters: Mapping[str, int]) -> str:
    """The text of a byte-level piece; bytes that are no whole letter one by one."""
    return _as_text(bytes(letters[letter] for letter in piece))


def _as_text(left: bytes) -> str:
    text = ""
    while left:
        try:
            return text + left.decode("utf-8")
        except UnicodeDecodeError as error:
            broken = left[error.start : error.end]
            text += left[: error.start].decode("utf-8")
            text += "".join(f"<0x{byte:02X}>" for byte in broken)
            left = left[error.end :]
    return text


def joined(pieces: Sequence[str]) -> str:
    """Readable pieces as one text: bytes that make up letters are those letters.

    Examples
    --------
    >>> joined(["so ", "<0xF0>", "<0x9F><0x98>", "<0x80>"]), joined(["<0xF0>"])
    ('so 😀', '<0xF0>')
    """
    return _BYTE_RUN.sub(_letters, "".join(pieces))


def _letters(run: re.Match[str]) -> str:
    return _as_text(_bytes_of(run))


def _bytes_of(run: re.Match[str]) -> bytes:
    return bytes.fromhex(run[0].replace("<0x", "").replace(">", ""))


def whole_letters(pieces: Sequence[str]) -> tuple[list[str], set[int]]:
    """Readable pieces with the letters that they are parts of, and which begin within a letter.

    Examples
    --------
    >>> whole_letters(["so ", "<0xE6>", "<0x88><0x91>", "it"])
    (['so ', '我', '我', 'it'], {2})
    """
    if not any(map(_BYTE_RUN.search, pieces)):
        return list(pieces), set()
    parts = [_as_bytes(piece) for piece in pieces]
    every = b"".join(parts)
    starts = [i for i, byte in enumerate(every) if not 0x80 <= byte < 0xC0]  # none goes on there
    ends = [*starts[1:], len(every)]
    whole, goes_on, reached = [], set(), 0
    for place, (piece, part) in enumerate(zip(pieces, parts, strict=True)):
        first = max(0, bisect_right(starts, reached) - 1)
        last = max(0, bisect_right(starts, reached + len(part) - 1) - 1)
        if not part or not starts:
            whole.append(piece)
            continue
        if reached > starts[first] and every[starts[first]] >= 0xC0:
            goes_on.add(place)
        whole.append(every[starts[first] : ends[last]].decode("utf-8", "replace"))
        reached += len(part)
    return whole, goes_on


def _as_bytes(piece: str) -> bytes:
    """A readable piece as the bytes of its text."""
    made, reached = b"", 0
    for run in _BYTE_RUN.finditer(piece):
        made += piece[reached : run.start()].encode("utf-8", "replace")
        made += _bytes_of(run)
        reached = run.end()
    return made + piece[reached:].encode("utf-8", "replace")


def without_spaces(letter: str) -> bool:
    """Whether a letter is of a script that puts no spaces between words.

    Examples
    --------
    >>> [without_spaces(letter) for letter in "电まไa한"]
    [True, True, True, False, False]
    """
    return any(first <= letter <= last for first, last in _SPACELESS)


_SPACELESS = (
    ("\u0e00", "\u0eff"),  # Thai, Lao
    ("\u1000", "\u109f"),  # Burmese
    ("\u1780", "\u17ff"),  # Khmer
    ("\u1950", "\u1aaf"),  # Tai Le, Tai Lue, Tai Tham
    ("\u3000", "\u30ff"),  # Chinese and Japanese punctuation, kana
    ("\u3400", "\u9fff"),  # Chinese characters
    ("\ua980", "\uaadf"),  # Javanese, Cham, Tai Viet
    ("\uf900", "\ufaff"),
    ("\uff01", "\uff0f"),  # wide punctuation, but not the wide letters between
    ("\uff1a", "\uff20"),
    ("\uff3b", "\uff40"),
    ("\uff5b", "\uff9f"),
    ("\U00020000", "\U0003ffff"),
)

_NEAR = 32
"""Characters before a place that decide what it is in: flags are pairs, and families are long."""

_JOINERS = "\u200c\u200d\u2060\u00ad"
"""What stands within a word and is none of its letters: the joiners of Persian, a soft hyphen."""


def is_within_a_word(text: str, place: int) -> bool:
    r"""Whether a text is not to be parted at a place: within what people read as one letter.

    Vowel signs and accents belong to their letter, and what marks or joiners part goes on.

    Examples
    --------
    >>> text = "\u179a\u17bf\u1784"  # Khmer: a letter with its vowel, and another letter
    >>> [is_within_a_word(text, place) for place in (0, 1, 2)]
    [False, True, False]
    >>> is_within_a_word("\r\n", 1), is_within_a_word("ab", 1)
    (True, False)
    """
    if not 0 < place < len(text):
        return False
    start = max(0, place - _NEAR)
    letters = regex.findall(r"\X", text[start : place + 8])
    reached = 0
    for letter in letters:
        reached += len(letter)
        if reached >= place - start:
            break
    if reached != place - start:
        return True
    before, after = text[place - 1], text[place]
    goes_on = before in _JOINERS or unicodedata.category(before).startswith("M")
    spaceless = without_spaces(before) or without_spaces(after)
    return goes_on and not spaceless and unicodedata.category(after).startswith("L")
