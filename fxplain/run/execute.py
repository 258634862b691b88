"""Run: one forward and one backward for a whole batch, and what each attention node saw in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fxplain.capture import Capture, ModelInputs, chance_kept
from fxplain.errors import NoGradientError
from fxplain.program import BirthSite, Program, ProgramNode
from fxplain.rewriting import PLAIN, Rewriting
from fxplain.rewriting.fused import allowed_scores, fused_arguments, grouped, scaled_scores, softmax
from fxplain.run.instrument import born_with, instrumented
from fxplain.tokens import framed

__all__ = ["NodeRun", "Run", "forward"]


@dataclass(eq=False)
class NodeRun:
    """What one attention node saw.

    Attributes
    ----------
    node
        The attention node.
    operands
        (query, key, value, mask) of a fused node, (weights, values) of the others.
    output
        The contraction's output.
    scale
        For a node whose weights are divided by their sum after they were contracted, what that does
        to each query's weights, (..., queries, 1).
    gradient
        dy/d(output) after `Run.backward`; None where the target does not depend on the node.
    share
        The part of it that the weights get.
    """

    node: ProgramNode
    operands: tuple[Any, ...]
    output: Tensor
    scale: Tensor | None = None
    gradient: Tensor | None = None
    share: float = 1.0

    def weights(self) -> Tensor:
        """A, the attention weights, (..., queries, keys)."""
        if self.node.site.form == "fused":
            return _fused_weights(self)
        weights = self._laid_out(self.operands[0].detach())
        return weights if self.scale is None else weights * self.scale

    def weights_gradient(self) -> Tensor:
        """dy/dA = dO V^T, (..., queries, keys)."""
        made = self._contracted_gradient()
        if self.scale is None:
            return made
        return torch.where(self.scale == 0, 0, made / self.scale)

    def relevance(self) -> Tensor:
        """The relevance that reached A, (..., queries, keys)."""
        assert self.gradient is not None
        return self._laid_out(self.gradient)

    def _laid_out(self, weights: Tensor) -> Tensor:
        """A tensor like the weights as (..., queries, keys)."""
        site = self.node.site
        if site.form == "fused":
            return weights
        if site.form == "product":
            weights = weights if site.weights_on_left else weights.transpose(-1, -2)
            return weights.expand(site.shape) if weights.shape != site.shape else weights
        rank = max(weights.dim(), self.operands[1].dim())
        return framed(_with_axes(weights, rank), site.axis, site.query_axis)

    def _contracted_gradient(self) -> Tensor:
        assert self.gradient is not None
        site = self.node.site
        gradient = self.gradient if self.share == 1 else self.gradient * self.share
        if site.form == "fused":
            values = grouped(self.operands[2].detach(), gradient.shape)
            return gradient @ values.transpose(-1, -2)
        values = self.operands[1].detach()
        if site.form == "product":
            return _product_gradient(self, gradient, values)
        rank = max(values.dim(), self.operands[0].dim())
        if gradient.dim() < rank:
            gradient = gradient.unsqueeze(site.axis)
        shape = _with_axes(self.operands[0], rank).shape
        return framed((gradient * values).sum_to_size(shape), site.axis, site.query_axis)

    def value_norms(self) -> Tensor:
        """The norm of each key's value vector, expanded to (..., queries, keys)."""
        site = self.node.site
        if site.form == "fused":
            query, _, values = (x.detach() for x in self.operands[:3])
            norms: Tensor = grouped(values, query.shape).norm(dim=-1).unsqueeze(-2)
            return norms.expand(*norms.shape[:-2], query.shape[-2], norms.shape[-1])
        values = self.operands[1].detach()
        if site.form == "product":
            if values.dim() > 1:
                values = values.norm(dim=-1 if site.weights_on_left else -2).unsqueeze(-2)
            of_keys: Tensor = values.abs()
            return of_keys.expand(site.shape)
        rank = max(values.dim(), self.operands[0].dim())
        shape = _with_axes(self.operands[0], rank).shape
        norms = (
            _with_axes(values, rank).square().expand(torch.broadcast_shapes(shape, values.shape))
        )
        norms = norms.sum_to_size(shape).sqrt()
        return framed(norms, site.axis, site.query_axis).expand(site.shape)


def _product_gradient(run: NodeRun, gradient: Tensor, values: Tensor) -> Tensor:
    site = run.node.site
    weights = run.operands[0]
    if site.weights_on_left:
        if values.dim() == 1:
            return gradient.unsqueeze(-1) * values
        if weights.dim() == 1:
            return (gradient.unsqueeze(-2) @ values.transpose(-1, -2)).reshape(site.shape)
        made = gradient @ values.transpose(-1, -2)
    else:
        if values.dim() == 1:
            return (values.unsqueeze(-1) * gradient).transpose(-1, -2).reshape(site.shape)
        made = gradient.transpose(-1, -2) @ values
    return made.reshape(site.shape)


def _with_axes(weights: Tensor, rank: int) -> Tensor:
    return weights.reshape((1,) * (rank - weights.dim()) + tuple(weights.shape))


def _fused_weights(run: NodeRun) -> Tensor:
    query, key, _, mask = (x.detach() if isinstance(x, Tensor) else x for x in run.operands)
    named = fused_arguments(run.node.site.node)
    scores = scaled_scores(query, key, named.get("scale"))
    return softmax(allowed_scores(scores, mask, bool(named.get("is_causal", False))))


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
        if not any(leaf.requires_grad for leaf in leaves):
            raise NoGradientError(
                "the explained output does not depend on any attention node through differentiable "
                "operations. Explain an output that comes after attention (see `output=`), and check "
                "that no argmax, round or detach stands between them."
            )
        pairs = [(leaf, g) for leaf, g in zip(leaves, gradients, strict=True) if leaf.requires_grad]
        points = [run.operands[0] if self.at_weights else run.output for run in self.nodes]
        found = torch.autograd.grad(
            [leaf for leaf, _ in pairs],
            [*points, *self.births],
            [g for _, g in pairs],
            allow_unused=True,
            retain_graph=keep_graph,
        )
        if all(g is None for g in found):
            raise NoGradientError(
                "the target does not depend on any attention node: it is computed before attention, "
                "or from a part of the output that attention does not reach."
            )
        for run, gradient in zip(self.nodes, found, strict=False):
            run.gradient = gradient
        return found[len(self.nodes) :]


def forward(
    capture: Capture,
    model: nn.Module,
    inputs: ModelInputs,
    program: Program,
    rewriting: Rewriting = PLAIN,
    births: Sequence[BirthSite] = (),
    share: float = 1.0,
) -> Run:
    """Run the captured model once, keeping what each attention node sees.

    Parameters
    ----------
    capture, model, inputs, program
        What runs.
    rewriting
        What the backward pass carries instead of gradients.
    births
        Where the backward pass goes down to.
    share
        A factor for the tokens as they are born: 0 for no tokens, 1 for the model's own.
    """
    nodes = list(program.nodes.values())
    plain = rewriting is PLAIN and not births
    memo = capture.memo if plain else program.memo
    key = ("instrumented", rewriting, tuple(node.site.node for node in nodes), bool(births))
    if key not in memo:
        memo[key] = instrumented(capture, nodes, rewriting, births)
    run: Callable[..., Any] = memo[key]
    with chance_kept(inputs.leaves), torch.enable_grad(), born_with(share):
        outputs, reports, born = run(*capture.bind(model, inputs))
        at_weights = rewriting.taken_apart is not None
        runs = [
            NodeRun(
                node,
                tuple(report[:-1]),
                report[-1],
                None if at_weights else _late_scale(node, report),
                share=rewriting.weights_share,
            )
            for node, report in zip(nodes, reports, strict=True)
        ]
    return Run(tuple(outputs), runs, tuple(born), at_weights)


def _late_scale(node: ProgramNode, report: Sequence[Any]) -> Tensor | None:
    """d(what was divided in the end)/d(output): the same for all features of a query."""
    if node.site.division is None:
        return None
    divided, output = report[-2], report[-1]
    scale: Tensor = torch.autograd.grad(divided.sum(), output, retain_graph=True)[0]
    return scale[..., :1] if node.site.weights_on_left else scale[..., :1, :].transpose(-1, -2)
