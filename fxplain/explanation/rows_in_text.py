"""Rows in a text: grids of patches whose rows the text itself parts, as by a token for a new line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["grids_in_text"]


@dataclass(frozen=True)
class _Run:
    """The same id several times, and what stands behind it."""

    start: int
    length: int
    behind: tuple[int, ...]


def grids_in_text(inputs: Mapping[str, Tensor], count: int) -> list[tuple[int, int]]:
    """(rows, columns) of each picture, where a text has a place for each patch and parts the rows.

    Of so many patches there are as many places in the text, all of one id; those of a row follow each
    other, and each row of a picture ends in the same one token (``|NEWLINE|``). What ends in another
    way, or has rows of another length, is another picture.

    Parameters
    ----------
    inputs
        The model's.
    count
        How many patches there are, of one sample.

    Returns
    -------
    list
        Empty where no text says it, or the samples' texts say different things.
    """
    for ids in inputs.values():
        if ids.is_floating_point() or ids.dim() != 2:
            continue
        told = [_of_sample(row, count) for row in ids.tolist()]
        if told[0] and all(own == told[0] for own in told):
            return told[0]
    return []


def _of_sample(ids: Sequence[int], count: int) -> list[tuple[int, int]]:
    values, counts = torch.unique(torch.tensor(ids), return_counts=True)
    for value in values[counts == count].tolist():
        runs = list(_runs(ids, value))
        grids = list(_grids(runs))
        if any(rows > 1 for rows, _ in grids) and min(columns for _, columns in grids) > 1:
            return grids
    return []


def _runs(ids: Sequence[int], value: int) -> Iterator[_Run]:
    places = [place for place, own in enumerate(ids) if own == value]
    start = places[0]
    for place, following in zip(places, [*places[1:], len(ids)], strict=True):
        if following != place + 1 or place == places[-1]:
            yield _Run(start, place - start + 1, tuple(ids[place + 1 : following]))
            start = following


def _grids(runs: Sequence[_Run]) -> Iterator[tuple[int, int]]:
    """Runs of one length that one and the same token parts, each picture's."""
    rows = 1
    for run, following in zip(runs, [*runs[1:], None], strict=True):
        goes_on = following is not None and following.length == run.length
        if goes_on and len(run.behind) == 1 and run.behind == runs[0].behind:
            rows += 1
            continue
        yield rows, run.length
        rows = 1
