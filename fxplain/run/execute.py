"""Run: one forward and one backward for a whole batch, and what each attention node saw in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fxplain.capture import Capture, ModelInputs, chance_kept
from fxplain.errors import NoGradientError
from fxplain.program import ProgramNode
from fxplain.run.instrument import fused_flags, instrumented
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
    """

    node: ProgramNode
    operands: tuple[Any, ...]
    output: Tensor
    scale: Tensor | None = None
    gradient: Tensor | None = None

    def weights(self) -> Tensor:
        """A, the attention weights, (..., queries, keys)."""
        weights = self._contracted_weights()
        return weights if self.scale is None else weights * self.scale

    def weights_gradient(self) -> Tensor:
        """dy/dA = dO V^T, (..., queries, keys)."""
        made = self._contracted_gradient()
        if self.scale is None:
            return made
        return torch.where(self.scale == 0, 0, made / self.scale)

    def _contracted_weights(self) -> Tensor:
        site = self.node.site
        if site.form == "fused":
            return _fused_weights(self)
        weights: Tensor = self.operands[0].detach()
        if site.form == "product":
            weights = weights if site.weights_on_left else weights.transpose(-1, -2)
            return weights.expand(site.shape) if weights.shape != site.shape else weights
        rank = max(weights.dim(), self.operands[1].dim())
        return framed(_with_axes(weights, rank), site.axis, site.query_axis)

    def _contracted_gradient(self) -> Tensor:
        assert self.gradient is not None
        site, gradient = self.node.site, self.gradient
        if site.form == "fused":
            values = _grouped(self.operands[2].detach(), gradient.shape)
            return gradient @ values.transpose(-1, -2)
        values = self.operands[1].detach()
        if site.form == "product":
            return _product_gradient(self, gradient, values)
        rank = max(values.dim(), self.operands[0].dim())
        if gradient.dim() < rank:
            gradient = gradient.unsqueeze(site.axis)
        shape = _with_axes(self.operands[0], rank).shape
        return framed((gradient * values).sum_to_size(shape), site.axis, site.query_axis)


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


def _grouped(x: Tensor, like: Sequence[int]) -> Tensor:
    """Keys or values repeated for the query heads that share them."""
    if x.dim() >= 3 and x.shape[-3] not in (1, like[-3]):
        return x.repeat_interleave(like[-3] // x.shape[-3], -3)
    return x


def _fused_weights(run: NodeRun) -> Tensor:
    query, key, _, mask = (x.detach() if isinstance(x, Tensor) else x for x in run.operands)
    causal, scale = fused_flags(run.node)
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    wide = torch.float32 if query.dtype in (torch.float16, torch.bfloat16) else query.dtype
    key = _grouped(key, query.shape)
    scores = (query.to(wide) * scale) @ key.to(wide).transpose(-1, -2)
    if causal:
        allowed = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        scores = scores.masked_fill(~allowed, float("-inf"))
    if mask is not None:
        if mask.dtype is torch.bool:
            scores = scores.masked_fill(~mask, float("-inf"))
        else:
            scores = scores + mask.to(wide)
    # a query that may attend to nothing has no weights (and no NaN)
    return scores.softmax(-1).nan_to_num(0.0)


@dataclass(eq=False)
class Run:
    """One forward of an instrumented model.

    Attributes
    ----------
    outputs
        The tensor leaves of the model's output, in the autograd graph of the attention nodes.
    nodes
        What each attention node saw.
    """

    outputs: tuple[Tensor, ...]
    nodes: list[NodeRun]

    def backward(
        self,
        leaves: Sequence[Tensor],
        gradients: Sequence[Tensor],
        *,
        keep_graph: bool = False,
    ) -> None:
        """Fill in every node's gradient for dy/d(leaves) = `gradients`.

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
        found = torch.autograd.grad(
            [leaf for leaf, _ in pairs],
            [run.output for run in self.nodes],
            [g for _, g in pairs],
            allow_unused=True,
            retain_graph=keep_graph,
        )
        if all(g is None for g in found):
            raise NoGradientError(
                "the target does not depend on any attention node: it is computed before attention, "
                "or from a part of the output that attention does not reach."
            )
        for run, gradient in zip(self.nodes, found, strict=True):
            run.gradient = gradient


def forward(
    capture: Capture,
    model: nn.Module,
    inputs: ModelInputs,
    nodes: Sequence[ProgramNode],
) -> Run:
    """Run the captured model once, keeping what each attention node sees."""
    key = ("instrumented", tuple(node.site.node for node in nodes))
    if key not in capture.memo:
        capture.memo[key] = instrumented(capture, nodes)
    run: Callable[..., Any] = capture.memo[key]
    with chance_kept(inputs.leaves), torch.enable_grad():
        outputs, reports = run(*capture.bind(model, inputs))
        runs = [
            NodeRun(node, tuple(report[:-1]), report[-1], _late_scale(node, report))
            for node, report in zip(nodes, reports, strict=True)
        ]
    return Run(tuple(outputs), runs)


def _late_scale(node: ProgramNode, report: Sequence[Any]) -> Tensor | None:
    """d(what was divided in the end)/d(output): the same for all features of a query."""
    if node.site.division is None:
        return None
    divided, output = report[-2], report[-1]
    scale: Tensor = torch.autograd.grad(divided.sum(), output, retain_graph=True)[0]
    return scale[..., :1] if node.site.weights_on_left else scale[..., :1, :].transpose(-1, -2)
