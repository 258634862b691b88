"""Evidence: what the passes over a model leave behind for a method to weigh."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fxplain.methods.node_evidence import NodeEvidence
from fxplain.methods.node_maps import Finish, NodeMap, NodeMaps, Weighing
from fxplain.program import Program
from fxplain.run import Scratch

__all__ = ["Biases", "BornTokens", "Evidence", "Needs"]


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
        The rewriting of the gradient pass: "plain", or "corrected:" with half, constant or gim.
    steps
        How many points between the baseline and the input the gradient is averaged over (0: the
        input alone).
    ahead
        Whether its scores can be made before the gradients come, since they ask for a node's map no
        earlier than they use it.
    biases
        Whether the gradient pass notes what biases get of the score.
    queries
        Whether nodes show their queries and keys.
    compared
        The number of the word that each word is compared with; None for no word, which is 0.
    """

    gradient: bool = False
    relevance: str | None = None
    births: bool = False
    rewriting: str = "plain"
    steps: int = 0
    ahead: bool = False
    biases: bool = False
    queries: bool = False
    compared: int | None = None


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


@dataclass(eq=False)
class Biases:
    """What biases get of the score: each times its gradient.

    Attributes
    ----------
    at
        (tokens,) by the token at which it acts.
    beside
        (batch,) what acts on no token of an input: behind a pooling.
    named
        (batch,) by the path of the parameter, or of the module that adds something else.
    """

    at: Tensor
    beside: Tensor
    named: dict[str, Tensor] = field(default_factory=dict)


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
    kept
        Whether heads are asked for after the maps: then nothing is let go of.
    batched
        Whether gradients are those of several targets, as `torch.vmap` carries them.
    biases
        What biases get, if the method asked.
    """

    program: Program
    nodes: dict[int, NodeEvidence]
    births: Sequence[BornTokens] = ()
    kept: bool = False
    batched: bool = False
    biases: Biases | None = None

    def maps(
        self,
        weigh: Weighing,
        finish: Finish | None = None,
        *,
        by_query: bool = False,
        of_attended: bool = False,
    ) -> NodeMaps:
        """Each node's map: weighed per head, averaged over the heads, then finished.

        Maps are made when they are asked for. `by_query` says that both functions treat each query
        by itself, whatever the others are: then maps are made some queries at a time. `of_attended`
        says that they give 0 where A is 0, and look at no other key for one: then keys that a causal
        node hides can be left out.
        """
        scratch = Scratch(lends=not self.batched)
        return NodeMaps(
            {
                index: NodeMap(
                    node,
                    weigh,
                    finish,
                    by_query=by_query,
                    of_attended=of_attended,
                    scratch=scratch,
                    keep=self.kept,
                )
                for index, node in self.nodes.items()
            }
        )
