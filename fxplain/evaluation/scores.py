"""Scores: what is read from a model's output for each sample, whatever its inputs have lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from fxplain.capture import config_of
from fxplain.errors import EvaluationError
from fxplain.explanation import Contrast, Explanation

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
        A score of the user's own, or the name of one.

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
        score: Score,
    ) -> None:
        self.truth = explanation.target if truth is None else truth
        self.function = target if callable(target) else None
        self.own_score = score if callable(score) else None
        self.has_classes = False
        self.right: Tensor | None = None
        if self.function is not None:
            return
        self.path, leaf = _explained_leaf(explanation)
        self.row_shape = leaf.shape[1:]
        self.added, self.taken = _places(explanation.target)
        if leaf.dim() == 1 or leaf.shape[-1] == 1 or self.taken is not None:
            return
        self.has_classes = True
        self.is_distribution = _are_shares(self._classes(leaf, torch.arange(len(leaf))))
        known = [t for t in self.truth if isinstance(t, (int, np.integer, str, tuple))]
        found = [_class_index(model, label, leaf.shape[-1]) for label in known]
        if len(found) == len(self.truth):
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
            scores["logit"] = torch.as_tensor(self.function(output))
        else:
            leaf = self._leaf(output)
            scores["logit"] = _numbers(leaf, self.added[samples])
            if self.taken is not None:
                scores["logit"] = scores["logit"] - _numbers(leaf, self.taken[samples])
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

    def _own(self, output: Any, targets: list[Any]) -> Tensor:
        """What the user's own score says, one number for each row."""
        assert self.own_score is not None
        name = score_name(self.own_score)
        try:
            found = torch.as_tensor(self.own_score(output, targets))
        except Exception as error:
            raise EvaluationError(f"the score {name!r} fails: {error}") from error
        if found.shape != (len(targets),) or found.is_complex():
            raise EvaluationError(
                f"the score {name!r} must return (rows,) numbers, here {len(targets)}; it returned "
                f"{tuple(found.shape)} of {found.dtype}."
            )
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
    for path, leaf in pytree.tree_flatten_with_path(output)[0]:
        if isinstance(leaf, Tensor) and leaf.is_floating_point() and leaf.dim():
            yield pytree.keystr(path), leaf


def _explained_leaf(explanation: Explanation) -> tuple[str, Tensor]:
    """The output tensor that holds the explained numbers where the targets say."""
    added, taken = _places(explanation.target)
    for path, leaf in _tensors(explanation.output):
        if len(leaf) == explanation.batch_size and leaf.dim() == 1 + added.shape[1]:
            numbers = _numbers(leaf, added)
            if taken is not None:
                numbers = numbers - _numbers(leaf, taken)
            if torch.equal(numbers, explanation.scores):
                return path, leaf
    raise EvaluationError(
        "the explained numbers are not found in the model's output; give the target as a function "
        "of the output."
    )


def _places(targets: Sequence[Any]) -> tuple[Tensor, Tensor | None]:
    """(batch, axes) where the targets stand, and of contrasts what is taken away."""
    if all(isinstance(target, Contrast) for target in targets):
        return tuple(_places([getattr(t, side) for t in targets])[0] for side in ("a", "b"))  # type: ignore[return-value]
    return torch.tensor([_index(target) for target in targets], dtype=torch.long), None


def _index(target: Any) -> tuple[int, ...]:
    return target if isinstance(target, tuple) else (target,)


def _class_index(model: nn.Module, label: Any, classes: int) -> int:
    if not isinstance(label, str):
        index = int(_index(label)[-1])
        if not -classes <= index < classes:
            raise EvaluationError(f"a true class is {index}; the model has {classes}, from 0.")
        return index
    labels = getattr(config_of(model), "label2id", None) or {}
    if label not in labels:
        known = ", ".join(map(repr, list(labels)[:10])) or "none"
        raise EvaluationError(f"the model has no label {label!r}; its labels: {known}.")
    return int(labels[label])
