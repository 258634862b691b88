"""From the target that a user asked for to numbers, gradients and readouts."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from fxplain.capture import Capture, ModelInputs
from fxplain.explanation.resolved_target import ResolvedTarget, check_finite
from fxplain.explanation.target import Target
from fxplain.explanation.target_functions import of_function
from fxplain.explanation.target_indices import IndexResolver
from fxplain.program import Program

__all__ = ["resolve_target"]


def resolve_target(
    target: Target,
    output: str | None,
    model: nn.Module,
    inputs: ModelInputs,
    capture: Capture,
    program: Program,
    outputs: Sequence[Tensor],
) -> ResolvedTarget:
    """Turn what the user asked for into numbers, gradients and readouts.

    Raises
    ------
    TargetError
        When the target does not name one number per sample.
    NonFiniteError
        When an explained number is NaN or infinite.
    """
    if callable(target):
        resolved = of_function(target, inputs, capture, program, outputs)
    else:
        resolver = IndexResolver(output, model, inputs, capture, program, outputs)
        resolved = resolver.resolved(target)
    check_finite(resolved.scores)
    return resolved
