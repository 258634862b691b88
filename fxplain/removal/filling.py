"""Filling: words that a masked language model finds likely, so that what is removed is not seen."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from fxplain.arguments import shown
from fxplain.errors import EvaluationError

__all__ = ["filled"]

_AT_ONCE = 2**26
"""How many scores of words are looked at at once."""


def filled(
    ids: Tensor,
    removed: Tensor,
    attended: Tensor | None,
    model: Any,
    never: Collection[int],
    mask: int,
) -> Tensor:
    """Texts with a word drawn at each removed place, as likely as the model says of the others.

    All removed places of a row are masked at once, and drawn by themselves. What is drawn of a row does
    not depend on the rows beside it, and is the same each time.

    Parameters
    ----------
    ids
        (rows, tokens).
    removed
        (rows, tokens), which places go.
    attended
        (rows, tokens), the attention mask, if there is one.
    model
        A masked language model of the same vocabulary: ``model(input_ids=, attention_mask=)`` returns
        (rows, tokens, words), or something that has it as ``logits``.
    never
        Ids that are never drawn.
    mask
        The mask token.

    Raises
    ------
    EvaluationError
        When what the model returns is no scores of words.
    """
    masked = torch.where(removed, mask, ids)
    result, start, words = ids.clone(), 0, _AT_ONCE
    noise: Tensor | None = None
    while start < len(ids):
        rows = slice(start, start + max(1, _AT_ONCE // (ids.shape[1] * words)))
        own = {} if attended is None else {"attention_mask": attended[rows]}
        with torch.no_grad():
            returned = model(input_ids=masked[rows], **own)
        scores = _scores(returned, masked[rows])
        words, start = scores.shape[-1], rows.stop
        scores[..., [i for i in never if i < words]] = -torch.inf
        if noise is None:
            generator = torch.Generator().manual_seed(0)
            uniform = torch.rand(scores.shape[1:], generator=generator, dtype=torch.double)
            noise = -(-uniform.clamp(1e-300, 1 - 1e-16).log()).log()
        drawn = (scores + noise.to(scores)).argmax(-1)
        result[rows] = torch.where(removed[rows], drawn.to(ids), ids[rows])
    return result


def _scores(returned: Any, ids: Tensor) -> Tensor:
    scores = getattr(returned, "logits", returned)
    if not isinstance(scores, Tensor) or scores.dim() != 3 or scores.shape[:2] != ids.shape:
        raise EvaluationError(
            f"filler= is a masked language model, that returns a score of every word at every place, "
            f"{(*ids.shape, 'words')}; it returned {shown(returned)}."
        )
    return scores.float().clone()
