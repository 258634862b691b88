"""Duplicates: rows with one text, found with 16 bytes for each row."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np

from fxplain.corpora.corpus import Corpus

__all__ = ["Duplicates"]

NO_TEXT = 0
MOST_IDS = 1000


@dataclass
class Duplicates:
    """Hashes of texts and of labels, in the order of the rows."""

    texts: array[int] = field(default_factory=lambda: array("Q"))
    labels: array[int] = field(default_factory=lambda: array("Q"))

    _last: str | None = None

    def add(self, row: Mapping[str, Any]) -> None:
        """Note a row, whether it was explained or not; of several targets the first."""
        text = row["text"].strip().lower() if row["text"] and row["id"] != self._last else ""
        self._last = row["id"]
        self.texts.append(_hash(text) if text else NO_TEXT)
        self.labels.append(_hash(str(row["label"])))

    def found(self, corpus: Corpus, listed: int) -> list[tuple[tuple[str, ...], int]]:
        """Ids of rows with one text, and of how many labels: those with the most labels first.

        The corpus is the one whose rows were added.
        """
        texts = np.frombuffer(self.texts, np.uint64)
        labels = np.frombuffer(self.labels, np.uint64)
        several, rows = np.unique(texts[texts != NO_TEXT], return_counts=True)
        several, rows = several[rows > 1], rows[rows > 1]
        pairs = np.unique(np.stack([texts, labels], 1), axis=0)[:, 0]
        counts = np.searchsorted(pairs, several, "right") - np.searchsorted(pairs, several)
        first = np.lexsort([-rows, -counts])[:listed]
        names = self._ids(corpus, texts, several[first])
        told = zip(several[first].tolist(), counts[first].tolist(), strict=True)
        return [(tuple(names[text]), count) for text, count in told if len(names[text]) > 1]

    def _ids(self, corpus: Corpus, texts: Any, chosen: Any) -> dict[int, dict[str, None]]:
        """By text, the ids of its rows."""
        found: dict[int, dict[str, None]] = {int(text): {} for text in chosen}
        wanted, at = np.isin(texts, chosen), 0
        for batch in corpus.batches(["id"], size=10_000):
            names = batch["id"]
            for place in np.flatnonzero(wanted[at : at + len(names)]):
                ids = found[int(texts[at + place])]
                if len(ids) < MOST_IDS:
                    ids[names[place]] = None
            at += len(names)
        return found


def _hash(text: str) -> int:
    digest = blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "little") or 1
