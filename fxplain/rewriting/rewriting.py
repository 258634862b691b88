"""Rewriting: a copy of the captured graph in which chosen operations are replaced."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx

__all__ = ["PLAIN", "Rewriting"]

Replacement = Callable[..., Any]


@dataclass(frozen=True, eq=False)
class Rewriting:
    """Which operation of a graph is replaced by what.

    Attributes
    ----------
    name
        Names it among the rewritings of one capture.
    replacement
        From a call node of the captured graph to a function of the same arguments; None leaves the
        operation as it is.
    weights_share
        The part of an attention output's gradient that its weights get.
    taken_apart
        From a fused attention call to a function of its arguments that makes the weights and one of
        (weights, values) that contracts them, so that the weights are a value of the graph; None
        where fused attention stays fused.
    begun
        From an attention node's output and the node to the same, where what comes before needs no
        gradient and something is to be done about it.
    """

    name: str
    replacement: Callable[[fx.Node], Replacement | None]
    weights_share: float = 1.0
    taken_apart: Callable[[fx.Node], tuple[Replacement, Replacement]] | None = None
    begun: Callable[[Tensor, fx.Node], Tensor] | None = None


PLAIN = Rewriting("plain", lambda _node: None)
