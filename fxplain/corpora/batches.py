"""Batches: rows sorted by length, in few lengths and few sizes, so that little is worked out anew."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

__all__ = ["Batch", "alone", "halves", "in_order", "planned", "unpadded"]

LENGTHS = 16
"""Lengths between one power of two and the next. Of 5,000 texts in files of 1,000, 4 in 100 tokens are
padding then, in 83 forms of batches; with 8 it would be 6 in 100, in 52."""

CALLS = 32
"""So many calls cost beside their tokens what a full batch costs: measured with 6 layers of 384
features, a call is worth some 35 tokens of 1,024."""

WITHOUT_LENGTH = 8
"""Pictures or recordings in a batch."""


@dataclass(frozen=True)
class Batch:
    """Rows that are explained in one call.

    Attributes
    ----------
    rows
        Their places among all; one that stands alone is there twice, for a model is captured for
        one sample and for several apart.
    length
        How many tokens each is padded to; None where rows have no length (images).
    """

    rows: tuple[int, ...]
    length: int | None = None

    @property
    def size(self) -> int:
        """How many tokens it holds, padding included; where rows have no length, how many rows."""
        return len(self.rows) * (self.length or 1)


def planned(lengths: Sequence[int], tokens: int, limit: int | None = None) -> Iterator[Batch]:
    """Batches of a power of two, the longest rows first, of rows that are about as long.

    Parameters
    ----------
    lengths
        How many tokens each row has.
    tokens
        How many a batch holds at most, padding included; two rows are a batch anyway.
    limit
        The longest that the model takes.

    Examples
    --------
    >>> [(b.rows, b.length) for b in planned([3, 20, 5, 4, 6], tokens=64)]
    [((1, 4), 20), ((2, 3), 5), ((0, 0), 3)]
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    while order:
        length = _padded(lengths[order[0]])
        if limit is not None and length > limit:
            length = max(limit, lengths[order[0]])
        most = _power_of_two(min(max(2, tokens // length), len(order)))
        size = _cheapest([lengths[i] for i in order[:most]], length, tokens / CALLS)
        rows, order = order[:size], order[size:]
        yield Batch(twice(rows), length)


def _cheapest(lengths: Sequence[int], padded: int, call: float) -> int:
    """How many of these rows, a power of two, cost least for each token that is no padding.

    Examples
    --------
    >>> _cheapest([40, 40, 40, 40], 40, 32), _cheapest([40, 39, 9, 8], 40, 32)
    (4, 2)
    """
    sums = list(accumulate(lengths))
    sizes = [1 << power for power in range(1, len(lengths).bit_length())] or [1]
    return min(sizes, key=lambda size: (call + size * padded) / max(1, sums[size - 1]))


def unpadded(lengths: Sequence[int], tokens: int) -> Iterator[Batch]:
    """Batches of a power of two of rows of one length, for a model that would read their padding.

    Examples
    --------
    >>> [(b.rows, b.length) for b in unpadded([3, 20, 5, 20, 3, 20], tokens=64)]
    [((1, 3), 20), ((5, 5), 20), ((2, 2), 5), ((0, 4), 3)]
    """
    for length in sorted(set(lengths), reverse=True):
        places = [i for i, own in enumerate(lengths) if own == length]
        for batch in in_order(places, max(2, tokens // length)):
            yield Batch(batch.rows, length)


def in_order(places: Sequence[int], most: int = WITHOUT_LENGTH) -> Iterator[Batch]:
    """Batches of rows that have no length, each a power of two.

    Examples
    --------
    >>> [b.rows for b in in_order([4, 5, 6, 7, 8, 9], most=4)], [b.rows for b in in_order([1])]
    ([(4, 5, 6, 7), (8, 9)], [(1, 1)])
    """
    while places:
        size = _power_of_two(min(most, len(places)))
        yield Batch(twice(places[:size]))
        places = places[size:]


def _padded(length: int) -> int:
    step = 1 << max(0, (length - 1).bit_length() - LENGTHS.bit_length())
    return -(-length // step) * step


def _power_of_two(number: int) -> int:
    return 1 << (number.bit_length() - 1)


def twice(rows: Sequence[int]) -> tuple[int, ...]:
    """Rows as a batch, which is never one sample."""
    return (rows[0], rows[0]) if len(rows) == 1 else tuple(rows)


def halves(batch: Batch) -> tuple[Batch, ...]:
    """A batch in two, for what fails in whole; nothing where one row is left.

    Examples
    --------
    >>> [b.rows for b in halves(Batch((4, 7, 2, 3), 16))], halves(Batch((5, 5), 16))
    ([(4, 7), (2, 3)], ())
    """
    rows = tuple(dict.fromkeys(batch.rows))
    if len(rows) == 1:
        return ()
    middle = _power_of_two(len(rows) - 1)
    return tuple(Batch(twice(part), batch.length) for part in (rows[:middle], rows[middle:]))


def alone(batch: Batch) -> tuple[Batch, ...]:
    """Each row of a batch by itself, for a model that takes one sample at a time.

    Examples
    --------
    >>> [b.rows for b in alone(Batch((4, 7), 16))], [b.rows for b in alone(Batch((5, 5), 16))]
    ([(4,), (7,)], [(5,)])
    """
    return tuple(Batch((row,), batch.length) for row in dict.fromkeys(batch.rows))
