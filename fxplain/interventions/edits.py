"""Edits: what is changed at the points of a graph, as masks, and the operations that change it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fxplain.interventions.lanes import attended
from fxplain.rewriting.fused import scaled_scores
from fxplain.run import tap

__all__ = ["HIDE", "ZERO", "Edits", "Point", "edited", "edited_attention", "edited_softmax"]

Point = tuple[str, str]
"""A kind ("output", "weights", "scores", "birth", "write", "stream") and a name."""

ZERO = "zero"
HIDE = "hide"
"""Masked before the softmax, so that the other keys get the weight."""


@dataclass(eq=False)
class Edits:
    """What one run changes, and what it notes.

    Attributes
    ----------
    masks
        By point and by what takes the place of a value (`HIDE`, `ZERO` or a key of `values`), which of
        its elements are replaced; under vmap each lane has its own.
    values
        What takes their place, by point and name.
    wanted
        The points whose values are noted.
    notes
        The values there, as they were before they were changed.
    differentiable
        Whether gradients start at what is noted, where nothing before needs them.
    """

    masks: Mapping[Point, Mapping[str, Tensor]] = field(default_factory=dict)
    values: Mapping[Point, Mapping[str, Tensor]] = field(default_factory=dict)
    wanted: Collection[Point] = ()
    notes: dict[Point, Tensor] = field(default_factory=dict)
    differentiable: bool = False

    def noted(self, point: Point, value: Tensor) -> Tensor:
        """The value, noted where that is wanted."""
        if point in self.wanted:
            value = tap(value) if self.differentiable else value
            self.notes[point] = value
        return value


def edited(value: Tensor, point: Point, edits: Edits) -> Tensor:
    """A value of the graph, changed where a mask says so."""
    value = edits.noted(point, value)
    for source, mask in edits.masks.get(point, {}).items():
        mask = mask.to(value.device)
        if source == ZERO:
            value = value.masked_fill(mask, 0)
        else:
            value = torch.where(mask, edits.values[point][source].to(value), value)
    return value


def edited_softmax(
    softmax: Callable[..., Tensor],
    scores: Tensor,
    axis: int,
    *rest: Any,
    point: Point,
    edits: Edits,
) -> Tensor:
    """A softmax without what is hidden; a query with nothing left attends to nothing."""
    hidden = edits.masks.get(point, {}).get(HIDE)
    if hidden is None:
        return softmax(scores, axis, *rest)
    hidden = hidden.to(scores.device)
    dead = (hidden | _masked(scores)).all(axis, keepdim=True)
    kept = scores.masked_fill(hidden & ~dead, float("-inf"))
    return softmax(kept, axis, *rest).masked_fill(dead & _touched(hidden, axis), 0)


def edited_attention(arguments: Mapping[str, Any], point: Point, edits: Edits) -> Tensor:
    """Fused attention without what is hidden or zeroed.

    Where weights are zeroed and the others stay what they were, they are made as a tensor.
    """
    given = dict(arguments)
    query, key, value = (given.pop(name) for name in ("query", "key", "value"))
    mask, causal = given.pop("attn_mask", None), given.pop("is_causal", False)
    masks = edits.masks.get(point, {})
    hidden, zeroed = masks.get(HIDE), masks.get(ZERO)
    if hidden is None and zeroed is None:
        return attended(query, key, value, mask, {**given, "is_causal": causal})
    if causal:
        mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool).tril().to(query.device)
    dead = None
    if hidden is not None:
        hidden = hidden.to(query.device)
        before = ~_masked(mask) if mask is not None else torch.ones_like(hidden)
        dead = ~(before & ~hidden).any(-1, keepdim=True) & _touched(hidden, -1)
        mask = _hiding(mask, hidden & ~dead)
    if zeroed is None:
        out = attended(query, key, value, mask, given)
    else:
        weights = _weights(query, key, mask, given.get("scale")).masked_fill(
            zeroed.to(query.device), 0
        )
        out = weights.to(value.dtype) @ _repeated(value, query)
    return out if dead is None else out.masked_fill(dead, 0)


def _masked(scores: Tensor) -> Tensor:
    """What a mask says that is hidden: False, or a number so low that nothing is left of it."""
    if scores.dtype is torch.bool:
        return ~scores
    return scores <= torch.finfo(scores.dtype).min / 2


def _touched(hidden: Tensor, axis: int) -> Tensor:
    """The queries of which something is hidden: the others stay as the model has them."""
    return hidden.any(axis, keepdim=True)


def _hiding(mask: Tensor | None, hidden: Tensor) -> Tensor:
    if mask is None:
        return ~hidden
    if mask.dtype is torch.bool:
        return mask & ~hidden
    return mask.masked_fill(hidden, float("-inf"))


def _weights(query: Tensor, key: Tensor, mask: Tensor | None, scale: Any) -> Tensor:
    scores = scaled_scores(query, key, scale)
    if mask is not None:
        scores = (
            scores.masked_fill(~mask, float("-inf")) if mask.dtype is torch.bool else scores + mask
        )
    return scores.softmax(-1).nan_to_num(0.0)


def _repeated(value: Tensor, query: Tensor) -> Tensor:
    """Values for every head of the queries."""
    if value.dim() < 3 or value.shape[-3] in (1, query.shape[-3]):
        return value
    return value.repeat_interleave(query.shape[-3] // value.shape[-3], -3)
