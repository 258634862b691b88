"""Scores: what is read from a model's output for each sample, whatever its inputs have lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fxplain.arguments import as_numbers, blaming
from fxplain.capture import config_of, leaves_of, with_leaves
from fxplain.errors import EvaluationError
from fxplain.explanation import Explanation
from fxplain.explanation.target import signed_parts

__all__ = ["SCORES", "Score", "ScoreReader", "score_name"]

SCORES = ("accuracy", "probability", "logit")
"""Whether the top class is the true one; the explained class's softmax; the explained number."""

Score = str | Callable[[Any, Sequence[Any]], Tensor]
"""One of `SCORES`, or a function from the model's output and a true class per row to (rows,)."""


class ScoreReader:
    """Reads the scores of a batch's targets from the output for any rows of its samples.

    Parameters
    ----------
    model
        For the names of its labels.
    explanation
        Of the whole batch: which numbers of the output are its targets.
    target
        The target as `fxplain.explain` was given it; a function is called again.
    truth
        The true classes, or None: then the explained classes count as right.
    score
        A score of the user's own, or the name of one, or None.

    Raises
    ------
    EvaluationError
        When the targets are not found in the output, or a true class is unknown.
    """

    def __init__(
        self,
        model: nn.Module,
        explanation: Explanation,
        target: Any,
        truth: Sequence[Any] | None,
        score: Score | None,
    ) -> None:
        self.truth = explanation.target if truth is None else truth
        self.function = target if callable(target) else None
        self.size = explanation.batch_size
        self.own_score = score if callable(score) else None
        self.has_classes = False
        self.right: Tensor | None = None
        self.foreign = ""
        if self.function is not None:
            return
        self.parts = _Parts.of(explanation.target)
        self.path, leaf = _explained_leaf(explanation, self.parts)
        self.row_shape = leaf.shape[1:]
        if leaf.dim() == 1 or leaf.shape[-1] == 1 or self.parts.several:
            return
        self.has_classes = True
        self.added = self.parts.at[:, 0]
        self.is_distribution = _are_shares(self._classes(leaf, torch.arange(len(leaf))))
        known = [t for t in self.truth if isinstance(t, (int, np.integer, str, tuple))]
        self.foreign = _foreign(model, known)
        if len(known) == len(self.truth) and not self.foreign:
            found = [_class_index(model, label, leaf.shape[-1]) for label in known]
            self.right = torch.tensor(found)

    @property
    def names(self) -> tuple[str, ...]:
        """The scores that this output has."""
        own = (score_name(self.own_score),) if self.own_score else ()
        lacking = {"accuracy"} if self.right is None else set()
        lacking |= set() if self.has_classes else {"probability"}
        return (*own, *(name for name in SCORES if name not in lacking))

    def check(self, score: str) -> None:
        """Refuse a score that this output does not have.

        Raises
        ------
        EvaluationError
            With the scores that it has.
        """
        if score == "accuracy" and self.foreign:
            raise EvaluationError(self.foreign)
        if score not in self.names:
            reason = "" if self.has_classes else "; what is explained is one number, not a class"
            raise EvaluationError(
                f"there is no score {score!r} here{reason}. There are: {', '.join(self.names)}."
            )

    def fits(self, output: Any) -> bool:
        """Whether a row means what it meant: not, where a model compares the rows of a batch."""
        return self.function is not None or self._leaf(output).shape[1:] == self.row_shape

    def read(self, output: Any, samples: Tensor) -> dict[str, Tensor]:
        """Every score.

        Parameters
        ----------
        output
            The model's output for some rows.
        samples
            (rows,) which sample of the batch each row is made of.

        Returns
        -------
        dict of str to torch.Tensor
            (rows,) by the score's name.
        """
        scores: dict[str, Tensor] = {}
        if self.function is not None:
            scores["logit"] = self._of_function(output, samples)
        else:
            leaf = self._leaf(output)
            scores["logit"] = self.parts.value(leaf, samples)
        if self.has_classes:
            rows = self._classes(leaf, samples)
            shares = rows if self.is_distribution else rows.softmax(1)
            explained = self.added[samples, -1:].to(rows.device)
            scores["probability"] = shares.gather(1, explained)[:, 0]
            if self.right is not None:
                scores["accuracy"] = rows.argmax(1) == self.right[samples].to(rows.device)
        if self.own_score is not None:
            targets = [self.truth[i] for i in samples.tolist()]
            scores[score_name(self.own_score)] = self._own(output, targets)
        return {name: value.detach().double().cpu() for name, value in scores.items()}

    def _of_function(self, output: Any, samples: Tensor) -> Tensor:
        """What a target function says of each copy of the batch, which it may know the samples of."""
        assert self.function is not None
        rows, size = len(samples), self.size
        copies = rows // size
        if rows % size or not torch.equal(samples, torch.arange(size).repeat(copies)):
            return _one_number_each(self.function(output))
        found = []
        for first in range(0, rows, size):
            own = output if copies == 1 else _some_rows(output, rows, slice(first, first + size))
            found.append(_one_number_each(self.function(own)))
        return torch.cat(found)

    def _own(self, output: Any, targets: list[Any]) -> Tensor:
        """What the user's own score says, one number for each row."""
        assert self.own_score is not None
        name = score_name(self.own_score)
        with blaming(f"the score {name!r}", EvaluationError):
            found = as_numbers(self.own_score(output, targets))
        if found.shape != (len(targets),) or found.is_complex():
            raise EvaluationError(
                f"the score {name!r} must return (rows,) numbers, here {len(targets)}; it returned "
                f"{tuple(found.shape)} of {found.dtype}."
            )
        if not bool(found.isfinite().all()):
            raise EvaluationError(f"the score {name!r} returned NaN or infinite numbers.")
        return found

    def _leaf(self, output: Any) -> Tensor:
        return dict(_tensors(output))[self.path]

    def _classes(self, leaf: Tensor, samples: Tensor) -> Tensor:
        """(rows, classes) at each row's object query, or position."""
        return _numbers(leaf, self.added[samples, :-1]).float()


def score_name(score: Score) -> str:
    """What a score is called; a function by its name."""
    return score if isinstance(score, str) else getattr(score, "__name__", type(score).__name__)


def _are_shares(rows: Tensor) -> bool:
    """Whether the model gives probabilities itself."""
    sums = rows.sum(1)
    return bool((rows >= 0).all()) and torch.allclose(sums, torch.ones_like(sums))


def _numbers(leaf: Tensor, places: Tensor) -> Tensor:
    """What stands at (rows, axes) places, one in each row."""
    return leaf[(torch.arange(len(leaf)), *places.T)]


def _tensors(output: Any) -> Iterator[tuple[str, Tensor]]:
    for path, leaf in leaves_of(output):
        if isinstance(leaf, Tensor) and leaf.is_floating_point() and leaf.dim():
            yield path, leaf


def _some_rows(output: Any, rows: int, chosen: slice) -> Any:
    """The same output of some of its rows."""

    def own(x: Any) -> Any:
        has_rows = isinstance(x, Tensor) and x.dim() and x.shape[0] == rows
        return x[chosen] if has_rows else x

    return with_leaves(output, own)


def _one_number_each(found: Any) -> Tensor:
    if isinstance(found, (list, tuple)):
        found = torch.stack([torch.as_tensor(each) for each in found])
    return torch.as_tensor(found).reshape(-1)


@dataclass(frozen=True)
class _Parts:
    """The outputs that each sample's target adds and takes away.

    Attributes
    ----------
    at
        (batch, parts, axes) where each stands.
    signs
        (batch, parts) 1, -1, or 0 of a sample with fewer parts than others.
    """

    at: Tensor
    signs: Tensor

    @classmethod
    def of(cls, targets: Sequence[Any]) -> _Parts:
        """Those of indices, `Contrast` and `Sum`."""
        each = [[(_index(part), sign) for part, sign in signed_parts(t)] for t in targets]
        most = max(map(len, each))
        padded = [[*parts, *[(parts[0][0], 0)] * (most - len(parts))] for parts in each]
        return cls(
            torch.tensor([[index for index, _ in parts] for parts in padded], dtype=torch.long),
            torch.tensor([[sign for _, sign in parts] for parts in padded]),
        )

    @property
    def several(self) -> bool:
        """Whether a target is more than one output."""
        return self.at.shape[1] > 1

    def value(self, leaf: Tensor, samples: Tensor) -> Tensor:
        """(rows,) the explained number in rows of these samples."""
        at, signs = self.at[samples], self.signs[samples]
        found = leaf[(torch.arange(len(leaf))[:, None], *at.unbind(-1))]
        return (found * signs.to(found)).sum(1)


def _explained_leaf(explanation: Explanation, parts: _Parts) -> tuple[str, Tensor]:
    """The output tensor that holds the explained numbers where the targets say."""
    for path, leaf in _tensors(explanation.output):
        if len(leaf) == explanation.batch_size and leaf.dim() == 1 + parts.at.shape[-1]:
            if not all(
                bool((parts.at[..., axis] < size).all()) for axis, size in enumerate(leaf.shape[1:])
            ):
                continue
            numbers = parts.value(leaf, torch.arange(len(leaf)))
            if torch.allclose(numbers, explanation.scores, rtol=1e-5, atol=1e-6):
                return path, leaf
    raise EvaluationError(
        "the explained numbers are not found in the model's output; give the target as a function "
        "of the output."
    )


def _index(target: Any) -> tuple[int, ...]:
    return target if isinstance(target, tuple) else (target,)


def _foreign(model: nn.Module, labels: Sequence[Any]) -> str:
    """What is to be said where a true class has a name that the model knows none by."""
    known = getattr(config_of(model), "label2id", None) or {}
    for label in labels:
        if isinstance(label, str) and label not in known:
            first = ", ".join(map(repr, list(known)[:10])) or "none"
            return f"the model has no label {label!r}; its labels: {first}."
    return ""


def _class_index(model: nn.Module, label: Any, classes: int) -> int:
    if not isinstance(label, str):
        index = int(_index(label)[-1])
        if not -classes <= index < classes:
            raise EvaluationError(f"a true class is {index}; the model has {classes}, from 0.")
        return index
    return int(config_of(model).label2id[label])
