"""Weights: the attention of the detected nodes, as the model computes it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

from fxplain.capture import Capture, ModelInputs
from fxplain.errors import ChangedModelError
from fxplain.program import Program
from fxplain.run import Run, forward

__all__ = ["AttentionOf", "attention_again", "weights_by_node"]

AttentionOf = Callable[[Collection[str]], Mapping[str, Tensor]]
"""From names of nodes to their weights."""


def weights_by_node(run: Run, names: Collection[str] | None = None) -> dict[str, Tensor]:
    """The weights that a forward left behind, of some nodes or of all, by node name."""
    return {
        seen.node.info.name: seen.weights()
        for seen in run.nodes
        if names is None or seen.node.info.name in names
    }


def attention_again(
    captured: Capture,
    model: nn.Module,
    inputs: ModelInputs,
    program: Program,
    outputs: Sequence[Tensor],
) -> AttentionOf:
    """The weights of nodes from another forward, when they are asked for.

    Parameters
    ----------
    captured, model, inputs, program
        What runs.
    outputs
        What the first forward gave: a model that says something else by then is refused.
    """
    before = [output.detach() for output in outputs]

    def attention_of(names: Collection[str]) -> dict[str, Tensor]:
        with torch.inference_mode(False):
            run = forward(captured, model, inputs, program)
            pairs = zip(before, run.outputs, strict=True)
            if not all(
                torch.allclose(a, b, rtol=1e-3, atol=1e-5, equal_nan=True) for a, b in pairs
            ):
                raise ChangedModelError(
                    "the model's output is not what it was when it was explained: the model or its "
                    "inputs changed, so that its attention cannot be made any more. Explain again."
                )
            return {name: value.detach() for name, value in weights_by_node(run, names).items()}

    return attention_of
