"""Joined: the rows that two corpora both explain, by id, a part of the ids at a time."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from typing import IO, Any
from zlib import crc32

from fxplain.corpora.corpus import Corpus

__all__ = ["Half", "joined"]

PART_ROWS = 50_000
"""About how many rows of each corpus are held at once."""

IN_MEMORY = 1 << 20
"""Bytes of a part from which it is a temporary file."""


@dataclass(frozen=True)
class Half:
    """What is compared of one row."""

    id: str
    target_name: str | None
    shares: Mapping[str, float]


def joined(
    first: Corpus, second: Corpus, halves: Callable[[Corpus], Iterator[Half]]
) -> Iterator[tuple[Half | None, Half | None]]:
    """Each id once, with its row in both; None where only one explains it.

    A hash join in parts (Kitsuregawa et al., 1983): both corpora are read once, in any order, into
    temporary files by the hash of the id, and then one file of each is held at a time.

    Parameters
    ----------
    halves
        Reads the rows of a corpus; of several with one id the first is taken.
    """
    count = max(1, -(-max(len(first), len(second)) // PART_ROWS))
    with ExitStack() as opened:
        parts = [_parted(halves(corpus), count, opened) for corpus in (first, second)]
        for one, other in zip(*parts, strict=True):
            others: dict[str, Half] = {}
            for half in _read(other):
                others.setdefault(half.id, half)
            seen: set[str] = set()
            for half in _read(one):
                if half.id not in seen:
                    seen.add(half.id)
                    yield half, others.pop(half.id, None)
            yield from ((None, half) for half in others.values())


def _parted(halves: Iterator[Half], count: int, opened: ExitStack) -> list[IO[bytes]]:
    parts: list[Any] = [
        opened.enter_context(SpooledTemporaryFile(max_size=IN_MEMORY))  # noqa: SIM115 - the stack closes it
        for _ in range(count)
    ]
    for half in halves:
        part = parts[crc32(half.id.encode("utf-8", "replace")) % count]
        pickle.dump(half, part, pickle.HIGHEST_PROTOCOL)
    return parts


def _read(part: IO[bytes]) -> Iterator[Half]:
    part.seek(0)
    while True:
        try:
            yield pickle.load(part)
        except EOFError:
            return
