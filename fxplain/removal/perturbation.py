"""Perturbation: one batch of samples, run again without some of their tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from fxplain.capture import failure
from fxplain.errors import EvaluationError, InputError, NonFiniteError
from fxplain.removal.rows import tiled, with_rows
from fxplain.removal.tokens import ModalityTokens, Vocabulary
from fxplain.removal.ways import REMOVALS, Removal

__all__ = ["MAX_TOKENS", "Perturbation", "Reader", "Removed", "of_one"]

MAX_TOKENS = 16384
"""How many are run at once, where nobody says."""

Removed = dict[str, Tensor]
"""By modality, (copies, batch, tokens) bool."""


class Reader(Protocol):
    """Reads numbers by name from the model's output for rows of the batch's samples."""

    def check(self, score: str) -> None:
        """Refuse a name by which nothing is read."""

    def fits(self, output: Any) -> bool:
        """Whether a row means what it meant."""

    def read(self, output: Any, samples: Tensor) -> dict[str, Tensor]:
        """(rows,) by name, of rows that are made of these samples."""


class Perturbation:
    """A batch, and the model's scores for it without some of its tokens.

    Parameters
    ----------
    model
        What is run.
    inputs, size
        By argument name, for how many samples.
    tokens, removals
        By modality: its tokens and how they are removed.
    vocabulary
        Its special ids.
    reader
        Reads the scores.
    max_tokens
        How many tokens are run at once, over all copies of the batch.
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: Mapping[str, Any],
        size: int,
        tokens: Mapping[str, ModalityTokens],
        removals: Mapping[str, Removal],
        vocabulary: Vocabulary,
        reader: Reader,
        max_tokens: int,
    ) -> None:
        self.model = model
        self.inputs, self.size = inputs, size
        self.tokens = tokens
        self.removals = removals
        self.vocabulary = vocabulary
        self.reader = reader
        self.copies = max(1, max_tokens // sum(t.counted.numel() for t in tokens.values()))

    def scores(self, removed: Removed) -> dict[str, Tensor]:
        """Every score, (copies, batch), without the removed tokens.

        Copies are run one by one where the model fails on several: an input may have no row for each
        sample (the patches of all images in one).

        Raises
        ------
        InputError, EvaluationError
            When the model fails on one copy, too.
        NonFiniteError
            When it says NaN without these tokens, as a mean of none.
        """
        try:
            found = self._scores(removed)
        except (InputError, EvaluationError):
            if self.copies == 1:
                raise
            self.copies = 1
            found = self._scores(removed)
        if any(bool(values.isnan().any()) for values in found.values()):
            raise NonFiniteError(self._of_nothing())
        return found

    def _of_nothing(self) -> str:
        """What is to be said where the model says NaN."""
        done = ", ".join(f"{name} are {way.about}" for name, way in self.removals.items())
        return (
            f"{type(self.model).__name__} says NaN where tokens of {done}. Remove them otherwise "
            f"({self._other_ways()}); words by a mask word or padding that a tokenizer tells."
        )

    def _other_ways(self) -> str:
        """Those of the same kinds of tokens that leave a sequence as long as it is."""
        kinds = {self.tokens[name].kind for name in self.removals}
        done = self.removals.values()
        return ", ".join(
            name
            for name, way in REMOVALS.items()
            if kinds & {*way.suits} and way.keeps_length and way not in done
        )

    def _scores(self, removed: Removed) -> dict[str, Tensor]:
        copies = len(next(iter(removed.values())))
        keeps_length = all(self.removals[name].keeps_length for name in removed)
        parts = []
        for piece in torch.arange(copies).split(self.copies):
            chosen = {name: mask[piece] for name, mask in removed.items()}
            parts.append(self._together(chosen) if keeps_length else self._by_length(chosen))
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _together(self, removed: Removed) -> dict[str, Tensor]:
        """All copies in one forward."""
        copies = len(next(iter(removed.values())))
        output = self._run(self.inputs, self.size, removed)
        if copies > 1 and not self.reader.fits(output):
            self.copies = 1
            return self.scores(removed)
        scores = self.reader.read(output, torch.arange(self.size).repeat(copies))
        return {name: value.reshape(copies, -1) for name, value in scores.items()}

    def _by_length(self, removed: Removed) -> dict[str, Tensor]:
        """One forward for all rows that lose equally many tokens of each modality."""
        counts = torch.stack([mask.sum(-1).flatten() for mask in removed.values()], 1)
        _, group = counts.unique(dim=0, return_inverse=True)
        copies, size = next(iter(removed.values())).shape[:2]
        result: dict[str, Tensor] = {}
        for rows in (torch.nonzero(group == g).flatten() for g in group.unique()):
            samples = rows % size
            inputs = {k: with_rows(v, size, samples) for k, v in self.inputs.items()}
            chosen = {name: mask.flatten(0, 1)[rows][None] for name, mask in removed.items()}
            output = self._run(inputs, len(rows), chosen)
            for name, value in self.reader.read(output, samples).items():
                result.setdefault(name, value.new_empty(copies * size))[rows] = value
        return {name: value.reshape(copies, size) for name, value in result.items()}

    def _run(self, inputs: Mapping[str, Any], size: int, removed: Removed) -> Any:
        copies = len(next(iter(removed.values())))
        changed: dict[str, Any] = {}
        for name, mask in removed.items():
            tokens, removal = self.tokens[name], self.removals[name]
            changed |= removal.apply(inputs, tokens, mask[..., tokens.plain], self.vocabulary)
        arguments = {k: tiled(v, size, copies) for k, v in inputs.items()} | changed
        try:
            with torch.no_grad():
                return self.model(**arguments)
        except Exception as error:  # whatever a model raises
            if all(self.removals[name].keeps_length for name in removed):
                raise failure(self.model, error) from error
            raise EvaluationError(self._of_fixed_length(removed, error)) from error

    def _of_fixed_length(self, removed: Removed, error: Exception) -> str:
        """What is to be said where the model fails without tokens that were cut out."""
        dropped = [name for name in removed if not self.removals[name].keeps_length]
        return (
            f"{type(self.model).__name__} does not run without some tokens of {', '.join(dropped)} "
            f"({str(error).partition(chr(10))[0]}): they cannot be dropped. Give another removal, of "
            f"{self._other_ways()}."
        )


def of_one(
    inputs: Mapping[str, Any], tokens: Mapping[str, ModalityTokens], size: int, sample: int
) -> tuple[dict[str, Any], dict[str, ModalityTokens]]:
    """The inputs and tokens of one sample of a batch."""
    row = torch.tensor([sample])
    return (
        {name: with_rows(value, size, row) for name, value in inputs.items()},
        {name: replace(t, counted=t.counted[row], rows=()) for name, t in tokens.items()},
    )
