"""Prepared rows: what a model will be given of each, how long it is, and where its pieces lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fxplain.corpora.cells import name_of, plain
from fxplain.corpora.layout import FOLDER, NUMBER, UNREADABLE, Layout
from fxplain.pipelines import Loaded
from fxplain.pipelines.encoding import text_limit

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
        By kind, what the model is given.
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


def prepared(
    loaded: Loaded, layout: Layout, batch: Mapping[str, Sequence[Any]], count: int, truncation: Any
) -> list[Prepared]:
    """The rows of a batch, looked at but not explained."""
    rows = [_row(layout, batch, place) for place in range(count)]
    good = [i for i, row in enumerate(rows) if row.error is None and "text" in row.raw]
    pieces = _pieces(loaded, [rows[i].raw for i in good], truncation) if good else []
    for i, found in zip(good, pieces, strict=True):
        row, error = rows[i], _too_long(loaded, found, truncation)
        rows[i] = Prepared(row.place, row.row, row.raw, found, error)
    return rows


def _row(layout: Layout, batch: Mapping[str, Sequence[Any]], place: int) -> Prepared:
    raw = {kind: plain(batch[column][place]) for kind, column in layout.raw().items()}
    folder = batch[FOLDER][place] if FOLDER in batch else None
    raw |= {kind: _beside(folder, raw[kind]) for kind in OF_FILES if kind in raw}
    facts = {"text": _shown(raw)}
    own = name_of(batch[layout.id][place]) if layout.id else None
    facts["id"] = own or str(batch[NUMBER][place] if NUMBER in batch else place)
    facts["label"] = name_of(batch[layout.label][place]) if layout.label else None
    unreadable = batch[UNREADABLE][place] if UNREADABLE in batch else None
    return Prepared(place, facts, raw, error=unreadable or _fault(raw))


def _beside(folder: str | None, value: Any) -> Any:
    """A path as it is, or from the folder of the table that names it, where only that is one."""
    if folder is None or not isinstance(value, str) or not value or Path(value).exists():
        return value
    beside = Path(folder, value)
    return str(beside) if beside.exists() else value


def _shown(raw: Mapping[str, Any]) -> str | None:
    """The text, and after a line break its pair; of images and sounds their names."""
    texts = [raw[kind] for kind in ("text", "pair") if isinstance(raw.get(kind), str)]
    names = [_path_of(raw[kind]) for kind in OF_FILES if kind in raw]
    return "\n".join(texts or filter(None, names)) or None


def _path_of(value: Any) -> str | None:
    """The file of a picture or recording, which `datasets` tells beside the bytes."""
    named = value.get("path") if isinstance(value, Mapping) else value
    return named if isinstance(named, str) else None


def _fault(raw: Mapping[str, Any]) -> str | None:
    for kind, value in raw.items():
        if value is None:
            return f"InputError: the {kind} is missing."
        if kind in ("text", "pair") and not isinstance(value, str):
            return f"InputError: the {kind} is a {type(value).__name__}, not a string."
        if kind in ("text", "pair") and not _is_unicode(value):
            return f"InputError: the {kind} has half a character of UTF-16, which is no text."
        if kind in ("text", "pair") and not value.strip():
            return f"InputError: the {kind} is empty."
    return None


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _pieces(loaded: Loaded, rows: Sequence[Mapping[str, Any]], truncation: Any) -> list[Pieces]:
    tokenizer = loaded.tokenizer
    texts = [row["text"] for row in rows]
    given: dict[str, Any] = {"return_special_tokens_mask": True}
    given |= {"return_offsets_mapping": True} if tokenizer.is_fast else {}
    if "pair" in rows[0]:
        given["text_pair"] = [row["pair"] for row in rows]
    if truncation:
        given |= {"truncation": True, "max_length": text_limit(loaded)}
    made = tokenizer(texts, padding=False, verbose=False, **given)
    offsets = made.get("offset_mapping") or [None] * len(texts)
    found = []
    for i, ids in enumerate(made["input_ids"]):
        special = [bool(flag) for flag in made["special_tokens_mask"][i]]
        after = len(texts[i]) + 1  # a pair's pieces count on after the text and a line break
        parts = made.sequence_ids(i) if tokenizer.is_fast else [0] * len(ids)
        places = offsets[i] and [
            (a + after, b + after) if part == 1 else (a, b)
            for (a, b), part in zip(offsets[i], parts, strict=True)
        ]
        found.append(Pieces(list(ids), places, special))
    return found


def _too_long(loaded: Loaded, pieces: Pieces, truncation: Any) -> str | None:
    limit = text_limit(loaded)
    if truncation is not None or limit is None or len(pieces.ids) <= limit:
        return None
    return (
        f"InputError: the text has {len(pieces.ids)} tokens, and the model takes {limit} at most; "
        f"truncation=True (--truncation) cuts it."
    )
