"""Running cuts: many in one run where the operations allow it, else one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from fxplain.interventions.edits import Edits, Point
from fxplain.interventions.masks import Masks, by_point
from fxplain.interventions.replacements import Given
from fxplain.run import slow_batches_unsaid

__all__ = ["Progress", "outputs_of_cuts"]

Progress = Callable[[int, int], None]

_NO_LANES = "cuts run one by one"
"""What a program remembers of a model that does not run several cuts at once."""

_MOST_LANES = 64
_MOST_ELEMENTS = 1 << 25
"""How many elements the largest value may have in one run of several cuts, where nobody says more."""


def outputs_of_cuts(
    given: Given,
    cuts: Sequence[Masks],
    values: Mapping[Point, Mapping[str, Tensor]],
    batch: int | None = None,
    progress: Progress | None = None,
) -> Iterator[tuple[Tensor, ...]]:
    """The model's outputs under each cut, in order.

    Parameters
    ----------
    given
        What runs.
    cuts
        The masks of each.
    values
        What takes the place of values that are not set to 0.
    batch
        How many cuts run at once; as many as memory is likely to hold, where it is None.
    progress
        Called with how many cuts are done, and how many there are.
    """
    lanes = batch or _lanes(given)
    done = 0
    while done < len(cuts):
        chunk = cuts[done : done + lanes]
        outputs = _together(given, chunk, values) if len(chunk) > 1 else None
        if outputs is None and len(chunk) > 1:
            lanes = 1 if _NO_LANES in given.sites.program.memo else len(chunk) // 2
            continue
        if outputs is None:
            yield _alone(given, chunk[0], values)
        else:
            yield from (tuple(out[i] for out in outputs) for i in range(len(chunk)))
        done += len(chunk)
        if progress is not None:
            progress(done, len(cuts))


def _lanes(given: Given) -> int:
    program = given.sites.program
    shapes = [*program.flow.shapes, *(n.site.shape for n in program.nodes.values())]
    largest = max(torch.Size(shape).numel() for shape in shapes)
    return max(1, min(_MOST_LANES, _MOST_ELEMENTS // max(largest, 1)))


def _alone(
    given: Given, masks: Masks, values: Mapping[Point, Mapping[str, Tensor]]
) -> tuple[Tensor, ...]:
    with torch.no_grad(), given.capture.own_chance(given.inputs.leaves):
        return given.run(Edits(by_point(masks), values))


def _together(
    given: Given, cuts: Sequence[Masks], values: Mapping[Point, Mapping[str, Tensor]]
) -> tuple[Tensor, ...] | None:
    """The outputs of several cuts, each with the cuts along a new first axis.

    None where an operation of the model cannot be done for several at once, or memory does not do.
    """
    memo = given.sites.program.memo
    if _NO_LANES in memo:
        return None
    stacked = _stacked(cuts)

    def lane(masks: Masks) -> tuple[Tensor, ...]:
        return given.run(Edits(by_point(masks), values))

    with torch.no_grad(), given.capture.own_chance(given.inputs.leaves), slow_batches_unsaid():
        try:
            return torch.func.vmap(lane, randomness="same")(stacked)
        except (MemoryError, torch.OutOfMemoryError):
            return None
        except Exception:  # noqa: BLE001 - an operation without a rule for lanes raises what it likes
            memo.made(_NO_LANES, lambda: True)
            return None


def _stacked(cuts: Sequence[Masks]) -> dict[tuple[Point, str], Tensor]:
    """The masks of several cuts, with the cuts along the first axis; False where a cut has none."""
    result = {}
    for key in dict.fromkeys(key for masks in cuts for key in masks):
        own = [masks.get(key, torch.tensor(False)) for masks in cuts]
        shape = torch.broadcast_shapes(*(mask.shape for mask in own))
        result[key] = torch.stack([mask.expand(shape) for mask in own])
    return result
