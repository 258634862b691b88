"""Declares what the plain torchvision wheel lacks beside a torch for processors."""

from __future__ import annotations

import torch

__all__ = ["declare"]

_SCHEMAS = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


def declare() -> None:
    """Two operators by name: the wheel's own are built for CUDA, and its import asks for them."""
    for name, schema in _SCHEMAS.items():
        if not hasattr(torch.ops.torchvision, name):
            torch.library.define(f"torchvision::{name}", schema)
