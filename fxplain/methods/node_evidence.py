"""Node evidence: A, dy/dA and LRP(A) of one attention node, of all of its queries or of some."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fxplain.program import MapLayout, ProgramNode
from fxplain.run import NodeRun, Scratch

__all__ = ["NodeEvidence"]


@dataclass(frozen=True, eq=False)
class NodeEvidence:
    """What one attention node shows: A, dy/dA and LRP(A), each (groups, heads, queries, keys).

    In float32 at least. The gradient is the caller's to change.
    """

    node: ProgramNode
    seen: NodeRun
    propagated: NodeRun | None = None

    @property
    def layout(self) -> MapLayout:
        """How the node's weights split into token groups and heads."""
        return self.node.layout

    @property
    def divisible(self) -> bool:
        """Whether some queries can be looked at without the others."""
        runs = [run for run in (self.seen, self.propagated) if run is not None]
        return not self.layout.per_query and all(run.divisible for run in runs)

    @property
    def awaited(self) -> bool:
        """Whether the node's gradient is still to come."""
        return self.seen.awaited

    @property
    def is_reached(self) -> bool:
        """Whether the target is known to depend on the node, or will be once its gradient comes."""
        runs = [run for run in (self.seen, self.propagated) if run is not None]
        return self.awaited or all(run.gradient is not None for run in runs)

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        runs = [run for run in (self.seen, self.propagated) if run is not None]
        held = [x for run in runs for x in (*run.alike, run.gradient)]
        return sum(x.numel() for x in held if isinstance(x, Tensor))

    @property
    def pattern(self) -> Hashable | None:
        """See `NodeRun.pattern`."""
        alone = self.propagated is not None or self.layout.fold is not None
        return None if alone else self.seen.pattern

    def with_numbers(self, numbers: Sequence[Tensor]) -> NodeEvidence:
        """The same node for other numbers."""
        return replace(self, seen=self.seen.with_numbers(numbers))

    def repeated(self, numbers: Sequence[Tensor]) -> NodeEvidence:
        """See `NodeRun.repeated`; token groups of one follow those of the other."""
        seen = self.seen.repeated(numbers)
        return replace(self, node=seen.node, seen=seen)

    def part(self, queries: slice | Tensor) -> NodeEvidence:
        """The evidence of some queries, with all of their keys."""
        return self._of(lambda run: run.part(queries))

    @property
    def is_causal(self) -> bool:
        """Whether the node is known to hide later keys, and no others."""
        return self.propagated is None and self.seen.is_causal

    def without_later_keys(self) -> NodeEvidence:
        """A part, of queries next to each other, without the keys that come after all of them."""
        return self._of(NodeRun.without_later_keys)

    def prepared(self, scratch: Scratch) -> NodeEvidence:
        """The same with what all parts would repeat done once.

        What a part shows is made in `scratch`: it lasts until that is asked for again.
        """
        return self._of(lambda run: run.prepared(scratch))

    def _of(self, change: Callable[[NodeRun], NodeRun]) -> NodeEvidence:
        propagated = None if self.propagated is None else change(self.propagated)
        return replace(self, seen=change(self.seen), propagated=propagated)

    def attention(self) -> Tensor:
        """A, as the model computed it."""
        return self._split(self.seen.weights())

    def gradient(self) -> Tensor | None:
        """dy/dA; None where the target does not depend on the node.

        Of copies the sum: their maps are the one that the tokens have, and the mean is taken after.
        """
        if self.seen.gradient is None:
            return None
        return self._of_all_copies(self._split(self.seen.weights_gradient()))

    def relevance(self) -> Tensor | None:
        """The layer-wise relevance of A; None where none reaches the node."""
        if self.propagated is None or self.propagated.gradient is None:
            return None
        return self._of_all_copies(self._split(self.propagated.relevance()))

    def value_norms(self) -> Tensor:
        """The norm of each head's value vectors, broadcastable to A."""
        return self._split(self.seen.value_norms())

    def _of_all_copies(self, of_each: Tensor) -> Tensor:
        copies = self.node.site.copies
        return of_each if copies == 1 else of_each * copies

    def cosines(self) -> Tensor | None:
        """The cosine of each query and key, all heads side by side, (groups, 1, queries, keys).

        None where queries and keys are not told, or heads are not told from tokens or copies.
        """
        told = self.seen.queries_and_keys()
        apart = self.layout.parts > 1 or self.layout.per_query or self.node.site.copies > 1
        if told is None or apart:
            return None
        q, k = (x if x.dtype is torch.float64 else x.float() for x in told)
        shape = self.seen.shape
        squares_q = q.square().sum(-1).unsqueeze(-1).expand(shape)
        squares_k = k.square().sum(-2).unsqueeze(-2).expand(shape)
        dots, of_q, of_k = (self._over_heads(x) for x in (q @ k, squares_q, squares_k))
        return dots / (of_q * of_k).sqrt().clamp(min=torch.finfo(dots.dtype).tiny)

    def _over_heads(self, x: Tensor) -> Tensor:
        """The sum over heads, for each of the groups."""
        fold = self.layout.fold
        summed = self.layout.summed_over_fold(self._split(x).sum(1, keepdim=True))
        return summed if fold is None else summed[fold.to(summed.device)]

    def _split(self, weights: Tensor) -> Tensor:
        wide = weights if weights.dtype is torch.float64 else weights.float()
        return self.layout.split(wide)
