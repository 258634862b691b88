"""Weights: the attention of the detected nodes, as the model computes it."""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor

from fxplain.run import Run

__all__ = ["weights_by_node"]


def weights_by_node(run: Run, names: Collection[str] | None = None) -> dict[str, Tensor]:
    """The weights that a forward left behind, of some nodes or of all, by node name."""
    return {
        seen.node.info.name: seen.weights()
        for seen in run.nodes
        if names is None or seen.node.info.name in names
    }
