"""Several architectures at a time, each in a process that was not forked from this one."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor

from tests.zoo import CASES
from tests.zoo.case import ZooCase
from tests.zoo.table import Row, check, quiet

__all__ = ["checked"]


def checked(cases: Sequence[ZooCase], limit: int, jobs: int) -> Iterator[Row]:
    """The rows in order, as many at a time as there are processes."""
    if min(jobs, len(cases)) < 2:
        quiet()
        yield from (check(case, limit) for case in cases)
        return
    fresh = multiprocessing.get_context("spawn")  # a forked process would share torch's threads
    with ProcessPoolExecutor(jobs, mp_context=fresh, initializer=quiet) as pool:
        names = [case.name for case in cases]
        yield from pool.map(_check_named, names, [limit] * len(names))


def _check_named(name: str, limit: int) -> Row:
    return check(next(case for case in CASES if case.name == name), limit)
