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

OfPoint = Mapping[str, Tensor]
"""Masks by what takes the place of a value."""

Change = Callable[[OfPoint], Tensor]
"""From the masks of a point to its value."""

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
        The values there.
    changes
        What the values there are under other masks, all before them being as it is.
    differentiable
        Whether gradients start at what is noted, where nothing before needs them.
    """

    masks: Mapping[Point, OfPoint] = field(default_factory=dict)
    values: Mapping[Point, Mapping[str, Tensor]] = field(default_factory=dict)
    wanted: Collection[Point] = ()
    notes: dict[Point, Tensor] = field(default_factory=dict)
    changes: dict[Point, Change] = field(default_factory=dict)
    differentiable: bool = False

    def at(self, point: Point, change: Change) -> Tensor:
        """The value at a point, with its masks, and noted where that is wanted."""
        value = change(self.masks.get(point, {}))
        if point not in self.wanted:
            return value
        value = tap(value) if self.differentiable else value
        self.notes[point], self.changes[point] = value, change
        return value


def edited(value: Tensor, point: Point, edits: Edits) -> Tensor:
    """A value of the graph, changed where a mask says so."""

    def change(masks: OfPoint) -> Tensor:
        changed = value
        for source, mask in masks.items():
            mask = mask.to(value.device)
            if source == ZERO:
                changed = changed.masked_fill(mask, 0)
            else:
                changed = torch.where(mask, edits.values[point][source].to(value), changed)
        return changed

    return edits.at(point, change)


def edited_softmax(
    softmax: Callable[..., Tensor],
    scores: Tensor,
    axis: int,
    *rest: Any,
    point: Point,
    edits: Edits,
) -> Tensor:
    """A softmax without what is hidden; a query with nothing left attends to nothing."""

    def change(masks: OfPoint) -> Tensor:
        hidden = masks.get(HIDE)
        if hidden is None:
            return softmax(scores, axis, *rest)
        hidden = hidden.to(scores.device)
        dead = (hidden | _masked(scores)).all(axis, keepdim=True)
        kept = scores.masked_fill(hidden & ~dead, float("-inf"))
        return softmax(kept, axis, *rest).masked_fill(dead & _touched(hidden, axis), 0)

    return edits.at(point, change)


def edited_attention(arguments: Mapping[str, Any], point: Point, edits: Edits) -> Tensor:
    """Fused attention without what is hidden or zeroed."""
    return edits.at(point, lambda masks: _attention(masks, **arguments))


def _attention(
    masks: OfPoint,
    *,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
    **options: Any,
) -> Tensor:
    """Where weights are zeroed and the others stay what they were, they are made as a tensor."""
    hidden, zeroed = masks.get(HIDE), masks.get(ZERO)
    if hidden is None and zeroed is None:
        return attended(query, key, value, attn_mask, {**options, "is_causal": is_causal})
    mask, dead = attn_mask, None
    if is_causal:
        mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool).tril().to(query.device)
    if hidden is not None:
        hidden = hidden.to(query.device)
        before = ~_masked(mask) if mask is not None else torch.ones_like(hidden)
        dead = ~(before & ~hidden).any(-1, keepdim=True) & _touched(hidden, -1)
        mask = _hiding(mask, hidden & ~dead)
    if zeroed is None:
        out = attended(query, key, value, mask, options)
    else:
        weights = _weights(query, key, mask, options.get("scale"))
        weights = weights.masked_fill(zeroed.to(query.device), 0)
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
