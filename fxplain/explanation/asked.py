"""Asked: what an explanation was asked of, to ask the model something else about the same."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fxplain.arguments import only_known
from fxplain.errors import ChangedModelError
from fxplain.explanation.weights import weights_by_node

if TYPE_CHECKING:
    from fxplain.explanation.kept import Kept
    from fxplain.explanation.matrices import Matrices
    from fxplain.explanation.question import Question

__all__ = ["Asked"]

_INTERVENTIONS = "fxplain.interventions"


@dataclass(frozen=True, eq=False)
class Asked:
    """One target of a question, with what the model said: whatever is made later is made of the same.

    Attributes
    ----------
    question
        The model, the inputs and the method.
    target
        As `fxplain.explain` took it.
    scores
        What was explained, (batch,).
    outputs
        All that the model put out.
    """

    question: Question
    target: Any
    scores: Tensor
    outputs: tuple[Tensor, ...]

    @property
    def model(self) -> nn.Module:
        """The model itself, not a copy."""
        return self.question.model

    def matrix(self, a: str, b: str) -> Tensor:
        """A matrix of R, from a run for this target alone that keeps what the attention nodes saw.

        Raises
        ------
        ChangedModelError
            When the model says something else than it did.
        """
        return self._matrices(a, b)

    @cached_property
    def _matrices(self) -> Matrices:
        with torch.inference_mode(False):
            scores, made = self.question.matrices(self.target)
        self.check_unchanged(scores)
        return made

    def kept(self) -> Kept:
        """What the passes leave behind, heads included, from a run of its own.

        Raises
        ------
        ChangedModelError
            When the model says something else than it did.
        """
        with torch.inference_mode(False):
            made = self.question.kept(self.target)
        self.check_unchanged(made.resolved.scores)
        return made

    def attention(self, names: Collection[str]) -> dict[str, Tensor]:
        """The attention weights of the nodes that are named, from another forward.

        Raises
        ------
        ChangedModelError
            When the model says something else than it did.
        """
        with torch.inference_mode(False):
            run = self.question.attention()
            self._compare(self.outputs, run.outputs)
            return {name: value.detach() for name, value in weights_by_node(run, names).items()}

    def intervene(self, cuts: Any, **options: Any) -> Any:
        """The `fxplain.Effects` of cuts on the explained scores.

        Raises
        ------
        ChangedModelError
            When the model says something else than it did.
        """
        question, intervene = self.question, import_module(_INTERVENTIONS).intervene
        own = {
            "target": self.target,
            "output": question.output,
            "tokenizer": question.tokenizer,
            "batch_axis": question.batch_axis,
        }
        only_known(intervene, options, "Explanation.intervene", own)
        with question.autocast.again():
            found = intervene(question.model, question.inputs, cuts, **own, **options)
        self.check_unchanged(found.baseline)
        return found

    def check_unchanged(self, scores: Tensor) -> None:
        """What was explained is what is looked at again.

        Raises
        ------
        ChangedModelError
            When the scores are others.
        """
        self._compare([self.scores], [scores])

    def _compare(self, before: Sequence[Tensor], now: Sequence[Tensor]) -> None:
        for a, b in zip(before, now, strict=True):
            if a.shape != b.shape or not torch.allclose(
                a, b.to(a), rtol=1e-3, atol=1e-5, equal_nan=True
            ):
                raise ChangedModelError(
                    f"the explained output was {self.scores.tolist()}, and the model says something "
                    f"else now: it or its inputs changed since the explanation was made, so nothing "
                    f"more can be said of it. Explain again."
                )
