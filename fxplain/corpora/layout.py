"""Layout: which column of the data is what, said or told by its name."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from fxplain.arguments import MAPPING, shown
from fxplain.errors import InputError

__all__ = [
    "FOLDER",
    "HIDDEN",
    "KINDS",
    "NUMBER",
    "UNREADABLE",
    "Layout",
    "check_columns",
    "rows_in",
]

UNREADABLE = "\0unreadable"
"""The column of what a row could not be read for."""

NUMBER = "\0number"
"""The column of a row's number in the data, where no other says what it is called."""

FOLDER = "\0folder"
"""The column of the folder that the table lies in, from which it may name files."""

HIDDEN = (UNREADABLE, NUMBER, FOLDER)

HEADINGS = {
    "text": ("text", "texts", "sentence", "question", "messages"),
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

    def found_in(
        self, columns: Iterable[str], takes: Collection[str] = RAW, needs: Collection[str] = ()
    ) -> Layout:
        """The layout of data with these columns: those that were named, or else by their headings.

        Parameters
        ----------
        takes, needs
            The kinds of input that the model reads, and those that it has to be given.

        Raises
        ------
        InputError
            When a named column is missing, or no column could be what the model needs.

        Examples
        --------
        >>> Layout(text="review").found_in(["ID", "review", "label"])
        Layout(text='review', pair=None, image=None, audio=None, id='ID', label='label')
        """
        there = [name for name in columns if name not in HIDDEN]
        for kind, name in asdict(self).items():
            if name not in (None, NUMBER) and name not in there:
                raise InputError(
                    f"{kind}={name!r} names no column of the data; there are: {_listed(there)}."
                )
        self._check_taken(takes)
        named = any(getattr(self, kind) for kind in RAW)
        lowered = {str(name).strip().lower(): name for name in reversed(there)}
        guessed = {
            kind: next((lowered[heading] for heading in headings if heading in lowered), None)
            for kind, headings in HEADINGS.items()
            if getattr(self, kind) is None
            and (kind not in RAW or (kind in takes and (not named or kind in needs)))
        }
        found = replace(self, **guessed)
        missing = [kind for kind in needs if getattr(found, kind, None) is None]
        if missing or not found.raw():
            wanted = missing or [kind for kind in RAW if kind in takes and kind != "pair"]
            raise InputError(
                f"no column of the data is called {' or '.join(wanted)}"
                f"{', which the model needs' if missing else ''}: say which is, such as "
                f"{wanted[0]}=NAME. There are: {_listed(there)}."
            )
        return found

    def _check_taken(self, takes: Collection[str]) -> None:
        for kind in self.raw():
            if kind not in takes:
                known = " and ".join(kind for kind in RAW if kind in takes)
                raise InputError(f"the model takes {known or 'no columns'}: leave {kind}= out.")

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


def check_columns(batch: Any) -> None:
    """Columns by name, each of as many entries.

    Raises
    ------
    InputError
        When they are none.
    """
    MAPPING.check("batch", batch)
    counts = {name: _count(column) for name, column in batch.items()}
    for name, count in counts.items():
        if count is None:
            raise InputError(
                f"the column {name!r} is {shown(batch[name])}, not a list or an array."
            )
    if len(set(counts.values())) > 1:
        said = ", ".join(f"{count} in {name!r}" for name, count in counts.items())
        raise InputError(f"the columns differ in how many entries they have: {said}.")


def _count(column: Any) -> int | None:
    if isinstance(column, (str, bytes, Mapping)) or not hasattr(column, "__getitem__"):
        return None
    try:
        return len(column)
    except Exception:  # noqa: BLE001 - the user's own, or an array of no axis
        return None
