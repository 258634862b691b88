"""Shapes: which pictures and recordings a processor makes equally large, so that none is padded."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from fxplain.corpora.prepared import Prepared
from fxplain.pipelines import Explainer
from fxplain.pipelines.media import open_image, open_recording

__all__ = ["Shapes"]

MOST_KNOWN = 100_000


class Shapes:
    """What a processor makes of pictures and recordings, by their size; each size is tried once.

    A model may read the silence behind a recording, or the margin of a picture, that it is padded with
    to lie in one batch with a larger one. Those of one shape are explained together only.
    """

    def __init__(self, explainer: Explainer) -> None:
        self.explainer = explainer
        self._known: dict[Hashable, Hashable] = {}

    def of(self, row: Prepared) -> Hashable:
        """What rows of one batch have in common; of texts, whether they are given as words."""
        if not {"image", "audio"} & row.raw.keys():
            return row.in_words
        try:
            sizes = (self._size(kind, value) for kind, value in row.raw.items())
            size = (row.in_words, *sizes)
        except Exception:  # noqa: BLE001 - what cannot be opened is explained alone, and says why
            return ("alone", row.place)
        if size not in self._known:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[size] = self._made(row, size)
        return self._known[size]

    def _size(self, kind: str, value: Any) -> Hashable:
        if kind == "image":
            size: tuple[int, int] = open_image(value).size
            return size
        if kind == "audio":
            return len(open_recording(value, self.explainer.loaded.feature_extractor.sampling_rate))
        return None

    def _made(self, row: Prepared, size: Hashable) -> Hashable:
        try:
            raw = {**row.raw, **({"text": [row.raw["text"]]} if row.in_words else {})}
            made = self.explainer.inputs(**raw, truncation=True if "text" in raw else None)
        except Exception:  # noqa: BLE001 - the explanation says why
            return size
        shapes = [
            (name, tuple(value.shape))
            for name, value in made.items()
            if getattr(value, "is_floating_point", bool)()
        ]
        return (row.in_words, *shapes)
