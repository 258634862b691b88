"""Prepared rows: what a model will be given of each, how long it is, and where its pieces lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from fxplain.corpora.cells import name_of, plain
from fxplain.corpora.layout import FOLDER, NUMBER, UNREADABLE, Layout
from fxplain.errors import InputError
from fxplain.pipelines import Loaded
from fxplain.pipelines.encoding import text_limit
from fxplain.pipelines.messages import conversations_in, written_messages

__all__ = ["Pieces", "Prepared", "prepared"]

OF_FILES = ("image", "audio")


@dataclass(frozen=True)
class Pieces:
    """What a tokenizer makes of one text, without padding.

    Attributes
    ----------
    ids
        The pieces.
    offsets
        Where each begins and ends in the text, in characters; None where the tokenizer does not tell.
    special
        Whether each is special.
    """

    ids: list[int]
    offsets: list[tuple[int, int]] | None
    special: list[bool]


@dataclass(frozen=True)
class Prepared:
    """One row of the data.

    Attributes
    ----------
    place
        Its place in the batch that was given.
    row
        By kind (text, pair, image, audio, id, label), what it is; texts, as the result shows them.
    raw
        By kind, what the model is given: of a conversation the text that the chat template makes of it.
    pieces
        Of its text; None without one.
    error
        Why it cannot be explained; None where it can be tried.
    """

    place: int
    row: Mapping[str, Any]
    raw: Mapping[str, Any]
    pieces: Pieces | None = None
    error: str | None = None

    @property
    def in_words(self) -> bool:
        """Whether its text is given as words, which stay as they are."""
        return isinstance(self.raw.get("text"), list)


def prepared(
    loaded: Loaded, layout: Layout, batch: Mapping[str, Sequence[Any]], count: int, truncation: Any
) -> list[Prepared]:
    """The rows of a batch, looked at but not explained."""
    rows = [_row(loaded, layout, batch, place) for place in range(count)]
    good = [i for i, row in enumerate(rows) if row.error is None and "text" in row.raw]
    for in_words in (False, True):
        own = [i for i in good if rows[i].in_words == in_words]
        pieces = _pieces(loaded, [rows[i].raw for i in own], truncation, in_words) if own else []
        for i, found in zip(own, pieces, strict=True):
            row, error = rows[i], _misfit(loaded, found, truncation)
            rows[i] = Prepared(row.place, row.row, row.raw, found, error)
    return rows


def _row(
    loaded: Loaded, layout: Layout, batch: Mapping[str, Sequence[Any]], place: int
) -> Prepared:
    raw = {kind: plain(batch[column][place]) for kind, column in layout.raw().items()}
    unfit = None
    if "text" in raw:
        raw["text"] = _listed(raw["text"])
        if conversations_in([raw["text"]]):
            raw["text"], unfit = _of_conversation(loaded, raw["text"])
    folder = batch[FOLDER][place] if FOLDER in batch else None
    raw |= {kind: _beside(folder, raw[kind]) for kind in OF_FILES if kind in raw}
    facts = {"text": _shown(raw)}
    own = name_of(batch[layout.id][place]) if layout.id else None
    facts["id"] = own or str(batch[NUMBER][place] if NUMBER in batch else place)
    facts["label"] = name_of(batch[layout.label][place]) if layout.label else None
    unreadable = batch[UNREADABLE][place] if UNREADABLE in batch else None
    return Prepared(place, facts, raw, error=unreadable or unfit or _fault(raw))


def _listed(value: Any) -> Any:
    """An array of words, as tables have it, as a list."""
    return list(value) if isinstance(value, (tuple, np.ndarray)) else value


def _of_conversation(loaded: Loaded, messages: Any) -> tuple[str | None, str | None]:
    """The text that the model is given of a conversation, or why there is none."""
    try:
        text, images, videos = written_messages(loaded, messages)
    except InputError as error:
        return None, f"InputError: {error}"
    if images or videos:
        return text, (
            "InputError: the conversation holds images or videos: give pictures a column of their own "
            "(image=), and leave their places in the conversation empty."
        )
    return text, None


def _beside(folder: str | None, value: Any) -> Any:
    """A path as it is, or from the folder of the table that names it, where only that is one."""
    if folder is None or not isinstance(value, str) or not value or Path(value).exists():
        return value
    beside = Path(folder, value)
    return str(beside) if beside.exists() else value


def _shown(raw: Mapping[str, Any]) -> str | None:
    """The text, and after a line break its pair; of images and sounds their names."""
    texts = [_joined(raw[kind]) for kind in ("text", "pair") if _is_text(raw.get(kind))]
    names = [_path_of(raw[kind]) for kind in OF_FILES if kind in raw]
    return "\n".join(texts or filter(None, names)) or None


def _is_text(value: Any) -> bool:
    """Whether it is a text, or the words of one."""
    return isinstance(value, str) or _are_words(value)


def _are_words(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(word, str) for word in value)


def _joined(text: str | list[str]) -> str:
    return text if isinstance(text, str) else " ".join(text)


def _path_of(value: Any) -> str | None:
    """The file of a picture or recording, which `datasets` tells beside the bytes."""
    named = value.get("path") if isinstance(value, Mapping) else value
    return named if isinstance(named, str) else None


def _fault(raw: Mapping[str, Any]) -> str | None:
    for kind, value in raw.items():
        if value is None or (kind in OF_FILES and isinstance(value, str) and not value.strip()):
            return f"InputError: the {kind} is missing."
        if kind in ("text", "pair") and (fault := _fault_of_text(kind, value)):
            return f"InputError: {fault}"
    if isinstance(raw.get("text"), list) and "pair" in raw:
        return (
            "InputError: a text that is given as words has no pair: give both as they are written."
        )
    return None


def _fault_of_text(kind: str, value: Any) -> str | None:
    words = kind == "text" and _are_words(value)
    if not words and not isinstance(value, str):
        return f"the {kind} is a {type(value).__name__}, not a string."
    if not _is_unicode(_joined(value)):
        return f"the {kind} has half a character of UTF-16, which is no text."
    if not all(word.strip() for word in (value if words else [value])):
        return "a word of the text is empty." if words else f"the {kind} is empty."
    return None


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _pieces(
    loaded: Loaded, rows: Sequence[Mapping[str, Any]], truncation: Any, in_words: bool
) -> list[Pieces]:
    tokenizer = loaded.tokenizer
    texts = [row["text"] for row in rows]
    given: dict[str, Any] = {"return_special_tokens_mask": True}
    given |= {"return_offsets_mapping": True} if tokenizer.is_fast else {}
    if "pair" in rows[0]:
        given["text_pair"] = [row["pair"] for row in rows]
    if truncation:
        given |= {"truncation": True, "max_length": text_limit(loaded)}
    if in_words:
        given |= {"is_split_into_words": True}
    made = tokenizer(texts, padding=False, verbose=False, **given)
    offsets = made.get("offset_mapping") or [None] * len(texts)
    found = []
    for i, ids in enumerate(made["input_ids"]):
        special = [bool(flag) for flag in made["special_tokens_mask"][i]]
        places = offsets[i]
        if places and (in_words or "text_pair" in given):
            begin = _begins(texts[i], made, i)
            places = [(a + begin[j], b + begin[j]) for j, (a, b) in enumerate(places)]
        found.append(Pieces(list(ids), places, special))
    return found


def _begins(text: str | list[str], made: Any, row: int) -> list[int]:
    """Where in the text what a piece's place counts from begins.

    It is the piece's word, of a text that is given as words, which a space parts, and of a pair the
    text, behind which a line break stands.
    """
    if isinstance(text, str):
        return [(len(text) + 1) * (part == 1) for part in made.sequence_ids(row)]
    starts = [0, *accumulate(len(word) + 1 for word in text)]
    return [0 if word is None else starts[word] for word in made.word_ids(row)]


def _misfit(loaded: Loaded, pieces: Pieces, truncation: Any) -> str | None:
    """Why the model cannot read these pieces: there are none, or too many."""
    if not pieces.ids:  # of letters that the tokenizer drops, where it adds no token of its own
        return "InputError: the tokenizer makes no token of the text."
    limit = text_limit(loaded)
    if truncation is not None or limit is None or len(pieces.ids) <= limit:
        return None
    return (
        f"InputError: the text has {len(pieces.ids)} tokens, and the model takes {limit} at most; "
        f"truncation=True (--truncation) cuts it."
    )
