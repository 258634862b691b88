"""Boxes: where in a picture tokens lie that are no grid (regions, object queries)."""

from __future__ import annotations

import torch
from torch import Tensor

from fxplain.explanation import Explanation
from fxplain.explanation.output_fields import are_boxes, named_outputs

__all__ = ["boxes_of", "predicted_boxes"]


def boxes_of(explanation: Explanation, modality: str) -> Tensor | None:
    """The box of each token as fractions of the picture: (batch, tokens, x1 y1 x2 y2).

    An input with four numbers per token between 0 and 1 beside the token's features (regions), or an
    output with as many for tokens that are no input (object queries).
    """
    own = explanation.inputs.get(modality)
    count = explanation.relevance[modality].shape[1]
    if own is None:
        return predicted_boxes(explanation, count)
    if own.dim() != 3 or own.shape[1] != count or not own.is_floating_point():
        return None
    beside = (v for name, v in explanation.inputs.items() if name != modality)
    return next((_by_corners(boxes) for boxes in beside if are_boxes(boxes, count)), None)


def predicted_boxes(explanation: Explanation, count: int | None = None) -> Tensor | None:
    """Boxes that the model puts around what it finds, (batch, boxes, 4), if it does.

    Parameters
    ----------
    count
        How many there must be.
    """
    for name, boxes in named_outputs(explanation.output):
        if are_boxes(boxes, count):
            # Detection heads give centre and size.
            found = _corners(boxes) if name.endswith("boxes") else _by_corners(boxes)
            real = _real_share(explanation)
            return found if real is None else found * real
    return None


def _by_corners(boxes: Tensor) -> Tensor:
    """Boxes by two corners, whichever way they were given."""
    boxes = boxes.detach().float().cpu()
    x1, y1, x2, y2 = boxes.unbind(-1)
    return boxes if bool(((x1 <= x2) & (y1 <= y2)).all()) else _corners(boxes)


def _corners(boxes: Tensor) -> Tensor:
    """From centre and size to two corners."""
    centre, size = boxes.detach().float().cpu().split(2, -1)
    return torch.cat([centre - size / 2, centre + size / 2], -1)


def _real_share(explanation: Explanation) -> Tensor | None:
    """How much of each padded picture is picture, (batch, 1, 4): predicted boxes leave padding out."""
    for mask in explanation.inputs.values():
        if mask.dim() == 3 and not mask.is_floating_point():
            real = mask.cpu() > 0
            down = real.any(2).float().mean(1)
            across = real.any(1).float().mean(1)
            return torch.stack([across, down, across, down], -1)[:, None]
    return None
