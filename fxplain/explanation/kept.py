"""Kept: what the passes of one explanation leave behind, for those who look inside it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from fxplain.capture import Capture, ModelInputs
from fxplain.explanation.reading import View
from fxplain.explanation.resolved_target import ResolvedTarget
from fxplain.program import Program

__all__ = ["Kept"]


@dataclass(frozen=True, eq=False)
class Kept:
    """One model, one batch, one target, with every node's map by head still to be made.

    Attributes
    ----------
    model, inputs, captured, program
        What ran.
    resolved
        The target, as it was found in the output.
    views
        One for each sample: the scores, and what of them is read.
    """

    model: nn.Module
    inputs: ModelInputs
    captured: Capture
    program: Program
    resolved: ResolvedTarget
    views: tuple[View, ...]
