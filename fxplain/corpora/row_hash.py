"""Row hash: what tells rows from other rows, where no file does."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fxplain.corpora.layout import NUMBER
from fxplain.corpora.reading import Row

__all__ = ["rows_hash"]


def rows_hash(rows: Iterable[Row]) -> str:
    """A hash of what rows hold, in their order; their numbers are no part of it.

    Of what holds neither text, numbers nor bytes only the type is told.

    Examples
    --------
    >>> rows_hash([{"text": "a", "id": 1}]) == rows_hash([{"id": 1, "text": "a"}])
    True
    >>> rows_hash([{"text": "a"}, {"text": "b"}]) == rows_hash([{"text": "b"}, {"text": "a"}])
    False
    """
    digest = hashlib.sha256()
    for row in rows:
        own = {name: value for name, value in row.items() if name != NUMBER}
        for part in _parts(own):
            digest.update(part)
            digest.update(b"\0")
    return digest.hexdigest()[:32]


def _parts(value: Any) -> Iterator[bytes]:
    yield type(value).__name__.encode()
    if isinstance(value, Mapping):
        for name in sorted(value, key=str):
            yield str(name).encode("utf-8", "surrogatepass")
            yield from _parts(value[name])
        yield b"}"
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _parts(one)
        yield b"]"
    elif isinstance(value, str):
        yield value.encode("utf-8", "surrogatepass")
    elif isinstance(value, bytes):
        yield value
    elif value is None or isinstance(value, (bool, int, float)):
        yield repr(value).encode()
    else:
        yield from _content(value)


def _content(value: Any) -> Iterator[bytes]:
    """Of arrays, tensors and pictures their form and their bytes; of dates and the like their text."""
    made = value.detach().cpu().numpy() if hasattr(value, "detach") else value
    if hasattr(made, "tobytes"):
        form = getattr(made, "shape", None) or getattr(made, "size", None)
        yield f"{form} {getattr(made, 'dtype', None) or getattr(made, 'mode', None)}".encode()
        yield made.tobytes()
    elif " at 0x" not in (said := repr(value)):  # the next process has it at another place
        yield said.encode("utf-8", "surrogatepass")
