"""Asked: what an explanation was asked of, to ask the model something else about the same."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from fxplain.errors import ChangedModelError

__all__ = ["Asked"]

_INTERVENTIONS = "fxplain.interventions"


@dataclass(frozen=True, eq=False)
class Asked:
    """The model, inputs and target of an explanation, as they were given.

    Attributes
    ----------
    model, inputs, target, output, tokenizer, batch_axis
        As `fxplain.explain` took them.
    scores
        What was explained, (batch,).
    """

    model: nn.Module
    inputs: Any
    target: Any
    output: str | None
    tokenizer: Any
    batch_axis: Any
    scores: Tensor

    def intervene(self, cuts: Any, **options: Any) -> Any:
        """The `fxplain.Effects` of cuts on the explained scores.

        Raises
        ------
        ChangedModelError
            When the model says something else than it did.
        """
        found = import_module(_INTERVENTIONS).intervene(
            self.model,
            self.inputs,
            cuts,
            self.target,
            output=self.output,
            tokenizer=self.tokenizer,
            batch_axis=self.batch_axis,
            **options,
        )
        if not torch.allclose(found.baseline, self.scores, rtol=1e-3, atol=1e-5):
            raise ChangedModelError(
                f"the explained output was {self.scores.tolist()} and is now "
                f"{found.baseline.tolist()}: the model or its inputs changed since the explanation "
                f"was made. Explain again."
            )
        return found
