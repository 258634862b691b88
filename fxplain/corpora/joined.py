"""Joined: the rows that two corpora both explain, by id, a part of the ids at a time."""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, zip_longest
from tempfile import SpooledTemporaryFile
from typing import IO, Any
from zlib import crc32

from fxplain.corpora.corpus import Corpus

__all__ = ["Half", "joined"]

PART_ROWS = 20_000
"""About how many rows of each corpus are held at once."""

MOST_PARTS = 200
"""How many parts there are at most: of each corpus as many files are open at once."""

IN_MEMORY = 1 << 20
"""Bytes of a part from which it is a temporary file."""


@dataclass(frozen=True)
class Half:
    """What is compared of one row."""

    id: str
    target_name: str | None
    shares: Mapping[str, float]
    text: int | None = None
    """A hash of its text; None where there is none."""


def joined(
    first: Corpus, second: Corpus, halves: Callable[[Corpus], Iterator[Half]]
) -> Iterator[tuple[Half | None, Half | None]]:
    """Each row, with that of its id in the other; None where only one explains it.

    A hash join in parts (Kitsuregawa et al., 1983): both corpora are read once, in any order, into
    temporary files by the hash of the id, and then one file of each is held at a time.

    Parameters
    ----------
    halves
        Reads the rows of a corpus. Several may have one id, as a row with several targets has: those of
        one target belong together, and of the rest the first and the first.
    """
    count = min(max(1, -(-max(len(first), len(second)) // PART_ROWS)), MOST_PARTS)
    with ExitStack() as opened:
        parts = [_parted(halves(corpus), count, opened) for corpus in (first, second)]
        for one, other in zip(*parts, strict=True):
            ours, others = _by_id(one), _by_id(other)
            for name in dict.fromkeys([*ours, *others]):
                yield from _paired(ours.get(name, []), others.get(name, []))


def _by_id(part: IO[bytes]) -> dict[str, list[Half]]:
    found: dict[str, list[Half]] = {}
    for half in _read(part):
        found.setdefault(half.id, []).append(half)
    return found


def _paired(ours: list[Half], others: list[Half]) -> Iterator[tuple[Half | None, Half | None]]:
    """Rows of one id: first those of one target, then the rest in order.

    Examples
    --------
    >>> a, b, c = (Half("x", target, {}) for target in "abc")
    >>> [tuple(h and h.target_name for h in pair) for pair in _paired([a, b], [b, c, a])]
    [('a', 'a'), ('b', 'b'), (None, 'c')]
    """
    left: dict[str | None, deque[Half]] = {}
    for half in others:
        left.setdefault(half.target_name, deque()).append(half)
    alone = []
    for half in ours:
        same = left.get(half.target_name)
        if same:
            yield half, same.popleft()
        else:
            alone.append(half)
    yield from zip_longest(alone, chain.from_iterable(left.values()))


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
