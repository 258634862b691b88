"""Checking many entries, in processes of their own where that is asked for."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Sequence

import torch

from tests.wild import HANDWRITTEN, entries
from tests.wild.table import Row, check

__all__ = ["check_all"]

Task = tuple[str, bool, int]


def check_all(names: Sequence[str], jobs: int, *, handwritten: bool, limit: int) -> list[Row]:
    """The rows of the entries that are named, in their order."""
    tasks = [(name, handwritten, limit) for name in names]
    if jobs < 2:
        return [_told(_one(task)) for task in tasks]
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        return [_told(row) for row in pool.imap(_one, tasks)]


def _told(row: Row) -> Row:
    """The row; a line says that it is done."""
    print(f"{row.name}: {row.outcome} ({row.seconds:.0f} s)", file=sys.stderr, flush=True)
    return row


def _one(task: Task) -> Row:
    name, handwritten, limit = task
    torch.set_num_threads(1)
    by_name = {entry.name: entry for entry in (HANDWRITTEN if handwritten else entries())}
    return check(by_name[name], limit)
