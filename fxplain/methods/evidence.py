"""Evidence: what the passes over a model leave behind for a method to weigh."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fxplain.program import MapLayout, Program, ProgramNode
from fxplain.run import NodeRun

__all__ = ["BornTokens", "Evidence", "Needs", "NodeEvidence"]


@dataclass(frozen=True)
class Needs:
    """Which passes a method asks for.

    Attributes
    ----------
    gradient
        A backward pass to the attention nodes.
    relevance
        The rule set of a backward pass that carries layer-wise relevance (LRP) instead of
        gradients; None for no such pass.
    births
        Whether the backward pass goes down to where tokens are born.
    rewriting
        The rewriting of the gradient pass: "plain", "corrected:half" or "corrected:constant".
    steps
        How many points between the baseline and the input the gradient is averaged over (0: the
        input alone).
    """

    gradient: bool = False
    relevance: str | None = None
    births: bool = False
    rewriting: str = "plain"
    steps: int = 0


@dataclass(frozen=True, eq=False)
class NodeEvidence:
    """What one attention node shows: A, dy/dA and LRP(A), each (groups, heads, queries, keys).

    In float32 at least.
    """

    node: ProgramNode
    seen: NodeRun
    propagated: NodeRun | None = None

    @property
    def layout(self) -> MapLayout:
        """How the node's weights split into token groups and heads."""
        return self.node.layout

    def attention(self) -> Tensor:
        """A, as the model computed it."""
        return self._split(self.seen.weights())

    def gradient(self) -> Tensor | None:
        """dy/dA; None where the target does not depend on the node."""
        return None if self.seen.gradient is None else self._split(self.seen.weights_gradient())

    def relevance(self) -> Tensor | None:
        """The layer-wise relevance of A; None where none reaches the node."""
        if self.propagated is None or self.propagated.gradient is None:
            return None
        return self._split(self.propagated.relevance())

    def value_norms(self) -> Tensor:
        """The norm of each head's value vectors, broadcastable to A."""
        return self._split(self.seen.value_norms())

    def _split(self, weights: Tensor) -> Tensor:
        wide = weights if weights.dtype is torch.float64 else weights.float()
        return self.layout.split(wide)


@dataclass(frozen=True, eq=False)
class BornTokens:
    """Tokens as they were born at one place: an embedding lookup, a first projection.

    Attributes
    ----------
    tokens
        The token of each element (size 1 where it does not vary); -1 for others.
    value
        The value.
    gradient
        The gradient, or the relevance, that reached it; None where none did.
    """

    tokens: Tensor
    value: Tensor
    gradient: Tensor | None

    def summed(self, x: Tensor, count: int) -> Tensor:
        """Sums over the elements of each of `count` tokens."""
        for axis, size in enumerate(self.tokens.shape):
            if size == 1 and x.shape[axis] > 1:
                x = x.sum(axis, keepdim=True)
        tokens = self.tokens.to(x.device).flatten()
        real = tokens >= 0
        wide = x if x.dtype is torch.float64 else x.float()
        result: Tensor = wide.new_zeros(count).index_add_(0, tokens[real], wide.flatten()[real])
        return result


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that was seen in one explanation.

    Attributes
    ----------
    program
        The attention nodes and routes.
    nodes
        By index.
    births
        Where tokens were born, if the method asked.
    """

    program: Program
    nodes: dict[int, NodeEvidence]
    births: Sequence[BornTokens] = ()

    def maps(
        self,
        weigh: Callable[[NodeEvidence], Tensor | None],
        finish: Callable[[Tensor], Tensor] | None = None,
    ) -> Mapping[int, Tensor | None]:
        """Each node's map: weighed per head, averaged over the heads, then finished."""
        maps: dict[int, Tensor | None] = {}
        for index, node in self.nodes.items():
            weighed = weigh(node)
            made = None if weighed is None else node.layout.mean_over_heads(weighed)
            maps[index] = made if made is None or finish is None else finish(made)
        return maps
