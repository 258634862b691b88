"""Shares: how much of a row's relevance each word, piece or position carries."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fxplain.arguments import instance, one_of, whole
from fxplain.corpora.corpus import Corpus

__all__ = [
    "A_CORPUS",
    "BY",
    "COUNT",
    "KINDS",
    "NEEDED",
    "SharedRow",
    "shared_rows",
    "shares_of",
    "token_shares",
]

KINDS = ("word", "piece", "position", "region", "column")
A_CORPUS = instance(Corpus)
BY = one_of(KINDS)
COUNT = whole(1, 1 << 62)
NEEDED = ("id", "text", "label", "predicted", "target_name", "probability", "score", "error")
OF_TOKENS = ("tokens", "starts", "ends", "relevance", "special", "modality", "grids")
REGIONS = (
    ("top left", "top", "top right"),
    ("left", "middle", "right"),
    ("bottom left", "bottom", "bottom right"),
)
WORD = re.compile("\\w+(?:['\u2019]\\w+)*")


@dataclass(frozen=True)
class SharedRow:
    """A row with the share of each feature, and the columns of `NEEDED`."""

    row: Mapping[str, Any]
    shares: Mapping[str, float]


def shared_rows(corpus: Corpus, by: str = "word") -> Iterator[SharedRow]:
    """Every row; one with an error, or without relevance, has no shares.

    Raises
    ------
    InputError
        When there are no such features.
    """
    A_CORPUS.check("corpus", corpus)
    BY.check("by", by)
    columns = columns_of_data(corpus)
    for batch in corpus.batches((*NEEDED, *OF_TOKENS)):
        for i in range(len(batch["id"])):
            row = {name: column[i] for name, column in batch.items()}
            shares = shares_of(row, by, columns)
            yield SharedRow({name: row[name] for name in NEEDED}, shares)


def columns_of_data(corpus: Corpus) -> Mapping[str, str]:
    """By kind of input (text, pair, image, audio), the data's column."""
    return corpus.manifest.columns


def shares_of(
    row: Mapping[str, Any], by: str, columns: Mapping[str, str] | None = None
) -> dict[str, float]:
    """By feature, its share of the relevance of all tokens that are not special.

    Examples
    --------
    >>> row = {"text": "Good, good cat", "tokens": ["good", ",", "good", "cat"], "error": None}
    >>> row |= {"starts": [0, 4, 6, 11], "ends": [4, 5, 10, 14], "special": [False] * 4}
    >>> shares_of({**row, "relevance": [1.0, 2.0, 3.0, 4.0]}, "word")
    {'good': 0.4, 'cat': 0.4}
    """
    shares = token_shares(row)
    names = _columns(row, columns or {}) if by == "column" else _NAMES[by](row)
    found: dict[str, float] = {}
    for name, share in zip(names, shares, strict=True):
        if name is not None and share is not None:
            found[name] = found.get(name, 0.0) + share
    return found


def token_shares(row: Mapping[str, Any]) -> list[float | None]:
    """Of each token, None of special ones; those of a row without relevance are 0."""
    if row["error"] is not None:
        return []
    plain = [None if s else v for v, s in zip(row["relevance"], row["special"], strict=True)]
    total = sum(abs(v) for v in plain if v is not None)
    return [None if v is None else v / total if total else 0.0 for v in plain]


def _words(row: Mapping[str, Any]) -> list[str | None]:
    """Of each token the word of the text that it lies in; pieces where nothing tells."""
    if row["error"] is not None:
        return []
    if not any(start is not None for start in row["starts"]):
        return _pieces(row)
    words = list(WORD.finditer(row["text"] or ""))
    ends = [word.end() for word in words]
    found: list[str | None] = []
    for start, end in zip(row["starts"], row["ends"], strict=True):
        place = len(words) if start is None else bisect_right(ends, start)
        inside = place < len(words) and words[place].start() < end
        found.append(words[place][0].lower() if inside else None)
    return found


def _pieces(row: Mapping[str, Any]) -> list[str | None]:
    return [] if row["error"] is not None else list(row["tokens"])


def _positions(row: Mapping[str, Any]) -> list[str | None]:
    return [] if row["error"] is not None else [str(i) for i in range(len(row["tokens"]))]


def _regions(row: Mapping[str, Any]) -> list[str | None]:
    """Of each token that lies on a grid, in which ninth of it."""
    if row["error"] is not None:
        return []
    grids = json.loads(row["grids"] or "{}")
    places: dict[str, int] = {}
    found: list[str | None] = []
    for modality, special in zip(row["modality"], row["special"], strict=True):
        grid = grids.get(modality, ())
        if special or len(grid) < 2 or not all(isinstance(n, int) for n in grid):
            found.append(None)
            continue
        place = places.get(modality, 0)
        places[modality] = place + 1
        found.append(_region(grid, place))
    return found


def _region(grid: Sequence[int], place: int) -> str | None:
    """Which ninth a token is in: of one grid, of one of several frames, or of several levels."""
    count = len(grid) % 2
    levels = [grid[i : i + 2] for i in range(count, len(grid), 2)]
    for rows, columns in levels:
        if count or place < rows * columns:
            place %= rows * columns
            return REGIONS[3 * (place // columns) // rows][3 * (place % columns) // columns]
        place -= rows * columns
    return None


def _columns(row: Mapping[str, Any], columns: Mapping[str, str]) -> list[str | None]:
    """Of each token the data's column that it comes from; where that is not known, the modality."""
    if row["error"] is not None:
        return []
    text = row["text"] or ""
    after = text.find("\n") if "pair" in columns and text.count("\n") == 1 else len(text)
    others = [columns[kind] for kind in ("image", "audio") if kind in columns]
    texts = {
        m for m, start in zip(row["modality"], row["starts"], strict=True) if start is not None
    }
    found: list[str | None] = []
    for modality, start in zip(row["modality"], row["starts"], strict=True):
        if modality in texts:
            kind = "text" if start is None or start < after else "pair"
            found.append(columns.get(kind, modality))
        else:
            found.append(others[0] if len(others) == 1 and texts != {modality} else modality)
    return found


_NAMES: Mapping[str, Any] = {
    "word": _words,
    "piece": _pieces,
    "position": _positions,
    "region": _regions,
}


def largest(shares: Mapping[str, float], count: int) -> Sequence[str]:
    """The features with the largest shares."""
    return sorted(shares, key=lambda name: -abs(shares[name]))[:count]
