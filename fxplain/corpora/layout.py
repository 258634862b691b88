"""Layout: which column of the data is what, said or told by its name."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from fxplain.errors import InputError

__all__ = ["KINDS", "NUMBER", "UNREADABLE", "Layout", "rows_in"]

UNREADABLE = "\0unreadable"
"""The column of what a row could not be read for."""

NUMBER = "\0number"
"""The column of a row's number in the data, where no other says what it is called."""

HEADINGS = {
    "text": ("text", "texts", "sentence", "question"),
    "pair": ("pair", "text_pair"),
    "image": ("image", "images", "image_path"),
    "audio": ("audio", "recording", "audio_path"),
    "id": ("id",),
    "label": ("label", "labels"),
}
"""What a column is taken for where nobody says."""

KINDS = tuple(HEADINGS)
RAW = ("text", "pair", "image", "audio")


@dataclass(frozen=True)
class Layout:
    """Names of columns; None for what the data does not have."""

    text: str | None = None
    pair: str | None = None
    image: str | None = None
    audio: str | None = None
    id: str | None = None
    label: str | None = None

    def found_in(self, columns: Iterable[str]) -> Layout:
        """The layout of data with these columns: those that were named, or else by their headings.

        Raises
        ------
        InputError
            When a named column is missing, or no column could be a model's input.

        Examples
        --------
        >>> Layout(text="review").found_in(["ID", "review", "label"])
        Layout(text='review', pair=None, image=None, audio=None, id='ID', label='label')
        """
        there = [name for name in columns if name not in (UNREADABLE, NUMBER)]
        for kind, name in asdict(self).items():
            if name not in (None, NUMBER) and name not in there:
                raise InputError(
                    f"{kind}={name!r} names no column of the data; there are: {_listed(there)}."
                )
        named = any(getattr(self, kind) for kind in RAW)
        lowered = {str(name).strip().lower(): name for name in reversed(there)}
        guessed = {
            kind: next((lowered[heading] for heading in headings if heading in lowered), None)
            for kind, headings in HEADINGS.items()
            if getattr(self, kind) is None and not (named and kind in RAW)
        }
        found = replace(self, **guessed)
        if not any(getattr(found, kind) for kind in RAW):
            raise InputError(
                f"no column of the data is called text, image or audio: say which is, such as "
                f"text=NAME. There are: {_listed(there)}."
            )
        return found

    def raw(self) -> dict[str, str]:
        """By kind of input, its column."""
        return {kind: getattr(self, kind) for kind in RAW if getattr(self, kind) is not None}

    def as_text(self) -> str:
        """The layout as JSON."""
        return json.dumps({k: v for k, v in asdict(self).items() if v is not None})


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names)) or "none"


def rows_in(batch: Mapping[str, Sequence[Any]]) -> int:
    """How many rows a batch has."""
    return max((len(column) for column in batch.values()), default=0)
