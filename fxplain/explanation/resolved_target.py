"""A target as numbers: one score per sample, its gradient at the outputs, and where it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fxplain.errors import NonFiniteError, TargetError
from fxplain.explanation.outputs import TokenRef, describe
from fxplain.methods import RowShare
from fxplain.program import Program

__all__ = ["Readout", "ResolvedTarget", "Seeds", "check_finite", "readout_of"]

Seeds = tuple[list[Tensor], list[Tensor]]
"""Output tensors and the gradients that a backward pass starts with."""


@dataclass(frozen=True)
class Readout:
    """The tokens that one sample's target is read from: one group per readout (CLIP has two).

    Attributes
    ----------
    groups
        The tokens.
    text
        What they are called.
    rows
        Their rows of R: averaged within a readout, summed over several.
    """

    groups: tuple[tuple[TokenRef, ...], ...]
    text: str
    rows: tuple[RowShare, ...] = field(default=(), compare=False, repr=False)


@dataclass(frozen=True)
class ResolvedTarget:
    """What is explained.

    Attributes
    ----------
    description
        Per sample: the class index, the index tuple, or the callable's name.
    scores
        The explained number per sample, (batch,).
    seeds
        From the outputs of any run and a sample (None: the sum over all) to the output tensors that
        the score depends on and d(score)/d(tensor).
    outputs
        Which of the model's output tensors the scores are read from.
    readouts
        Per sample, where it is read.
    value
        From the outputs of any run to the explained number per sample, (batch,).
    """

    description: tuple[Any, ...]
    scores: Tensor
    readouts: tuple[Readout, ...]
    seeds: Callable[[Sequence[Tensor], int | None], Seeds]
    outputs: tuple[int, ...]
    value: Callable[[Sequence[Tensor]], Tensor]


def check_finite(scores: Tensor) -> None:
    """Refuse scores that are no numbers."""
    if not bool(torch.isfinite(scores).all()):
        raise NonFiniteError(
            f"the explained output is {scores.tolist()}; only finite numbers can be explained."
        )


def readout_of(program: Program, groups: Sequence[Sequence[TokenRef]], sample: int) -> Readout:
    """The readout of a sample whose target is read from these groups of tokens."""
    distinct = tuple(dict.fromkeys(tuple(group) for group in groups))
    if not distinct:
        raise TargetError(
            "the target is read from a part of the output that belongs to no token, so there is "
            "nothing to attribute it to."
        )
    _check_samples(program, distinct, sample)
    return Readout(distinct, describe(program, distinct), tuple(_rows(program, distinct)))


def _rows(program: Program, groups: Sequence[Sequence[TokenRef]]) -> Iterator[RowShare]:
    for group in groups:
        for ref in group:
            yield RowShare(
                stream=int(program.token_stream[ref.token]),
                sample=int(program.token_sample[ref.token]),
                position=int(program.token_index[ref.token]),
                version=ref.version,
                share=1 / len(group),
            )


def _check_samples(program: Program, groups: Sequence[Sequence[TokenRef]], sample: int) -> None:
    """One row of relevance is one sample's: two samples of one sequence have no place in it."""
    samples: dict[int, set[int]] = {}
    for ref in (ref for group in groups for ref in group):
        stream = program.streams[int(program.token_stream[ref.token])]
        samples.setdefault(stream.root, set()).add(int(program.token_sample[ref.token]))
    for own in samples.values():
        if len(own) > 1:
            raise TargetError(
                f"the target of sample {sample} is read from samples "
                f"{' and '.join(map(str, sorted(own)))} of the batch at once, as a comparison of "
                f"the batch with itself is, and relevance has one row per sample. Compare two "
                f"arguments in place of two samples: wrap the model in a module with "
                f"forward(a, b), and call it in there for each of them."
            )
