"""Run: what one forward leaves behind, and its backward for a whole batch."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fxplain.errors import NoGradientError
from fxplain.program import ProgramNode
from fxplain.rewriting import Rewriting
from fxplain.run.node_run import NodeRun

__all__ = [
    "NOT_REACHED",
    "Run",
    "gradients_at",
    "reported",
    "slow_batches_unsaid",
    "with_gradients",
]


@dataclass(eq=False)
class Run:
    """One forward of an instrumented model.

    Attributes
    ----------
    outputs
        The tensor leaves of the model's output, in the autograd graph of the attention nodes.
    nodes
        What each attention node saw.
    births
        The values at which tokens were born, where they were asked for.
    at_weights
        Whether the backward pass is asked for what reaches the weights, not the nodes' outputs.
    """

    outputs: tuple[Tensor, ...]
    nodes: list[NodeRun]
    births: tuple[Tensor, ...] = ()
    at_weights: bool = False

    @property
    def reads_weights_twice(self) -> bool:
        """Whether weights have other uses than to be contracted with their values."""
        return any(run.beside for run in self.nodes)

    def without_nodes(self) -> Run:
        """The same without what the nodes saw."""
        return replace(self, nodes=[])

    def backward(
        self,
        leaves: Sequence[Tensor],
        gradients: Sequence[Tensor],
        *,
        keep_graph: bool = False,
    ) -> tuple[Tensor | None, ...]:
        """Fill in every node's gradient for dy/d(leaves) = `gradients`; return that of the births.

        Raises
        ------
        NoGradientError
            When no leaf depends on an attention node.
        """
        points = [run.operands[0] if self.at_weights else run.output for run in self.nodes]
        branches = [branch for run in self.nodes for branch, _ in run.beside]
        found = _reaching(
            leaves, gradients, [*points, *branches, *self.births], keep_graph=keep_graph
        )
        for run, gradient in zip(self.nodes, found, strict=False):
            run.gradient = gradient
        of_branches = iter(found[len(points) : len(points) + len(branches)])
        for run in self.nodes:
            run.add_beside([next(of_branches) for _ in run.beside])
        return found[len(points) + len(branches) :]

    def gradients(
        self, leaves: Sequence[Tensor], gradients: Sequence[Tensor], *, several: bool = False
    ) -> tuple[Tensor | None, ...]:
        """Each node's gradient for dy/d(leaves) = `gradients`.

        With `several`, they are n along a first axis, and so is what is found; the graph stays.

        Raises
        ------
        NoGradientError
            When no leaf depends on an attention node.
        """
        points = [run.output for run in self.nodes]
        return _reaching(leaves, gradients, points, keep_graph=several, batched=several)

    def ridden_backward(
        self,
        leaves: Sequence[Tensor],
        gradients: list[Tensor],
        arrived: Callable[[int, Tensor | None], None],
    ) -> None:
        """The backward, for the last time, with each node's gradient handed over as it comes.

        `gradients`, which may be as large as a text's words times a vocabulary, are used up.

        ``arrived(i, gradient)`` is called for the i-th node while the backward is under way, the last
        node first, and nothing here keeps the node's tensors. Where nodes are the first on their way
        from the inputs, or none is reached, it is called when all others have come.

        Raises
        ------
        NoGradientError
            When no leaf depends on an attention node.
        """
        start = _begun(with_gradients(leaves, gradients))
        gradients.clear()
        points = dict(enumerate(run.output for run in self.nodes))
        self.nodes = []
        waiting, count = set(points), len(points)

        def handed(i: int, gradient: Tensor | None) -> None:
            waiting.discard(i)
            arrived(i, gradient)

        first = {i: point for i, point in points.items() if point.is_leaf}
        for i in points.keys() - first.keys():
            points[i].register_hook(lambda gradient, i=i: handed(i, gradient))
        points.clear()
        found = gradients_at([start], list(first.values()), [torch.ones_like(start)])
        if len(waiting) == count and all(g is None for g in found):
            raise NoGradientError(NOT_REACHED)
        for i, gradient in zip(first, found, strict=True):
            handed(i, gradient)
        for i in sorted(waiting):
            handed(i, None)


class _Begun(torch.autograd.Function):
    """A number whose backward hands gradients over, and lets go of them."""

    @staticmethod
    def forward(ctx: Any, waiting: list[Tensor], *leaves: Tensor) -> Tensor:
        ctx.waiting = waiting
        return leaves[0].new_zeros(())

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        given = (None, *ctx.waiting)
        ctx.waiting.clear()
        return given


def _begun(pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """What a backward starts from, instead of leaves with their gradients."""
    with torch.enable_grad():
        begun: Tensor = _Begun.apply([g for _, g in pairs], *(leaf for leaf, _ in pairs))
    return begun


NOT_REACHED = (
    "the target does not depend on any attention node: it is computed before attention, or from a "
    "part of the output that attention does not reach."
)


def gradients_at(
    outputs: Sequence[Tensor],
    points: Sequence[Tensor],
    given: Sequence[Tensor],
    *,
    keep_graph: bool = False,
    batched: bool = False,
) -> tuple[Tensor | None, ...]:
    """What comes down to `points`; an operation that has no backward says so by its name.

    `batched` says that each of `given` is several, along a first axis, and so is what is found.
    """
    try:
        found: tuple[Tensor | None, ...] = torch.autograd.grad(
            outputs,
            points,
            given,
            allow_unused=True,
            retain_graph=keep_graph,
            is_grads_batched=batched,
        )
    except RuntimeError as error:
        if not _NO_BACKWARD.search(str(error)):
            raise
        raise NoGradientError(
            f"no gradient comes through an operation of the model: {error} Explain by a method that "
            f"needs no gradient (raw_attention, rollout), or give the operation a backward."
        ) from error
    return found


def _reaching(
    leaves: Sequence[Tensor], gradients: Sequence[Tensor], points: Sequence[Tensor], **how: bool
) -> tuple[Tensor | None, ...]:
    """What comes down to `points` from dy/d(leaves); an error where nothing does."""
    pairs = with_gradients(leaves, gradients)
    found = gradients_at([leaf for leaf, _ in pairs], points, [g for _, g in pairs], **how)
    if all(g is None for g in found):
        raise NoGradientError(NOT_REACHED)
    return found


@contextmanager
def slow_batches_unsaid() -> Iterator[None]:
    """Operations that a batch of gradients passes through one by one are no news to the user."""
    say: Callable[[bool], None] = getattr(torch._C._functorch, _SAY_SLOW, lambda _: None)
    say(False)
    try:
        yield
    finally:
        say(True)  # as torch sets it, who cannot be asked


_SAY_SLOW = "_set_vmap_fallback_warning_enabled"
"""A private name, which a release of torch may lack."""


_NO_BACKWARD = re.compile("no autograd formula|derivative for .* is not implemented")


def with_gradients(
    leaves: Sequence[Tensor], gradients: Sequence[Tensor]
) -> list[tuple[Tensor, Tensor]]:
    """The leaves that depend on an attention node, each with its gradient."""
    if not any(leaf.requires_grad for leaf in leaves):
        raise NoGradientError(
            "the explained output does not depend on any attention node through differentiable "
            "operations. Explain an output that comes after attention (see `output=`), and check "
            "that no argmax, round or detach stands between them."
        )
    return [(leaf, g) for leaf, g in zip(leaves, gradients, strict=True) if leaf.requires_grad]


def reported(
    nodes: Sequence[ProgramNode],
    reports: Sequence[Sequence[Any]],
    beside: Sequence[Any],
    rewriting: Rewriting,
) -> list[NodeRun]:
    """What attention nodes saw, from what an instrumented graph reports of them."""
    at_weights = rewriting.taken_apart is not None
    return [
        NodeRun(
            node,
            tuple(report[:-1]),
            report[-1],
            None if at_weights else _late_scale(node, report),
            share=rewriting.weights_share,
            beside=others,
        )
        for node, report, others in zip(nodes, reports, beside, strict=True)
    ]


def _late_scale(node: ProgramNode, report: Sequence[Any]) -> Tensor | None:
    """d(what was divided in the end)/d(output): the same for all features of a query."""
    if node.site.division is None:
        return None
    divided, output = report[-2], report[-1]
    scale: Tensor = torch.autograd.grad(divided.sum(), output, retain_graph=True)[0]
    return scale[..., :1] if node.site.weights_on_left else scale[..., :1, :].transpose(-1, -2)
