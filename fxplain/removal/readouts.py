"""Readouts: whether masking a token would change which token the output is read from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from fxplain.errors import FxplainError
from fxplain.explanation import Explanation, explain, readout_place
from fxplain.removal.tokens import ModalityTokens, Vocabulary
from fxplain.removal.ways import MASKING

__all__ = ["mask_moves_readout"]


def mask_moves_readout(
    model: nn.Module,
    inputs: Mapping[str, Any],
    structure: Explanation,
    target: Any,
    output: str | None,
    tokens: ModalityTokens,
    vocabulary: Vocabulary,
) -> bool:
    """Whether the model reads its output where the attention mask says, as at its last 1.

    Masking a token would then change which token is read, and not only what it knows.

    Parameters
    ----------
    model, inputs, target, output
        As `fxplain.explain` takes them.
    structure
        Their explanation by a cheap method.
    tokens
        The modality's, in these inputs.
    vocabulary
        Its special ids.
    """
    is_read = any(readout_place(text, tokens.name) is not None for text in structure.readout)
    if tokens.mask is None or not is_read:
        return False
    counted = tokens.counted[:, tokens.plain]
    first = (counted & (counted.cumsum(1) == 1))[None]
    changed = MASKING.apply(inputs, tokens, first, vocabulary)
    try:
        masked = explain(model, {**inputs, **changed}, target, "raw_attention", output=output)
    except FxplainError:
        return True
    return masked.readout != structure.readout
