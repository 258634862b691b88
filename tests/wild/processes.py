"""Checking many entries, in processes of their own where that is asked for."""

from __future__ import annotations

import multiprocessing
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
        return [_one(task) for task in tasks]
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        return pool.map(_one, tasks, chunksize=1)


def _one(task: Task) -> Row:
    name, handwritten, limit = task
    torch.set_num_threads(1)
    by_name = {entry.name: entry for entry in (HANDWRITTEN if handwritten else entries())}
    return check(by_name[name], limit)
