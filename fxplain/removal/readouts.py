"""Readouts: whether removing tokens would change which token the output is read from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from fxplain.errors import EvaluationError, FxplainError
from fxplain.explanation import Explanation, explain, readout_place
from fxplain.explanation.target import signed_parts
from fxplain.removal.tokens import ModalityTokens, Vocabulary
from fxplain.removal.ways import MASKING, REMOVALS

__all__ = ["check_dropped", "mask_moves_readout"]


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
    changed = MASKING.apply(inputs, tokens, _first(tokens)[None], vocabulary)
    try:
        masked = explain(model, {**inputs, **changed}, target, "raw_attention", output=output)
    except FxplainError:
        return True
    return masked.readout != structure.readout


def check_dropped(
    model: nn.Module,
    inputs: Mapping[str, Any],
    structure: Explanation,
    target: Any,
    output: str | None,
    tokens: ModalityTokens,
    vocabulary: Vocabulary,
) -> None:
    """Refuse to cut tokens out of a sequence where another token than before would then be read.

    Parameters
    ----------
    model, inputs, structure, target, output, tokens, vocabulary
        As of `mask_moves_readout`.

    Raises
    ------
    EvaluationError
        With the position that does not go along.
    """
    places = [readout_place(text, tokens.name) for text in structure.readout]
    moving = {
        i: place
        for i, place in enumerate(places)
        if place is not None and bool(tokens.counted[tokens.row(i), :place].any())
    }
    if moving and not _goes_along(
        model, inputs, structure, target, output, tokens, vocabulary, moving
    ):
        knows = tokens.kind != "ids" or vocabulary.blank is not None
        raise EvaluationError(
            f"tokens of {tokens.name!r} cannot be dropped: the target is read at position "
            f"{next(iter(moving.values()))} of it, which would move. Give another removal"
            f"{'' if knows else ', or a tokenizer that has a mask word'}."
        )


def _goes_along(
    model: nn.Module,
    inputs: Mapping[str, Any],
    structure: Explanation,
    target: Any,
    output: str | None,
    tokens: ModalityTokens,
    vocabulary: Vocabulary,
    places: Mapping[int, int],
) -> bool:
    """Whether the places that are read move with what is cut out before them, as the last one does."""
    is_named = not callable(target) and any(
        isinstance(part, tuple) for each in structure.target for part, _ in signed_parts(each)
    )
    first = _first(tokens)
    if is_named or not bool(first.any(1).all()):
        return False
    changed = REMOVALS["drop"].apply(inputs, tokens, first[None], vocabulary)
    try:
        shorter = explain(model, {**inputs, **changed}, target, "raw_attention", output=output)
    except FxplainError:
        return False
    return all(
        readout_place(shorter.readout[i], tokens.name) == place - 1 for i, place in places.items()
    )


def _first(tokens: ModalityTokens) -> Tensor:
    """(batch, plain tokens) the first that may be removed."""
    counted = tokens.counted[:, tokens.plain]
    return counted & (counted.cumsum(1) == 1)
