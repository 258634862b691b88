"""The table of layer-wise relevance propagation: one rule per kind of operation, for any model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from fxplain.capture import module_path
from fxplain.errors import MethodError
from fxplain.rewriting.fused import allowed_scores, grouped, scaled_scores, softmax
from fxplain.rewriting.gates import gate_operand
from fxplain.rewriting.lrp_rules import (
    Call,
    Rule,
    added,
    added_plainly,
    by_share,
    contracted,
    contracted_apart,
    passed,
    product,
    propagated,
)
from fxplain.rewriting.rewriting import Replacement, Rewriting
from fxplain.tokens import moves, operation

__all__ = ["RULES", "RULE_SETS", "lrp_rewriting"]


def _rows(rule: Any, names: str) -> dict[str, Any]:
    return {f"aten.{name}": rule for name in names.split()}


AS_IT_IS = "as it is"
"""Autograd's own derivative is the rule: elements are moved, picked or copied."""

RULES: dict[str, Any] = {
    # -- relevance goes with the elements: scattered back, split, added up over copies -------------
    **_rows(
        AS_IT_IS,
        "index embedding gather index_select masked_fill where max amax min amin topk sort maximum "
        "minimum max_pool1d max_pool2d max_pool3d adaptive_max_pool2d max_pool2d_with_indices "
        "masked_scatter index_put scatter slice_scatter select_scatter tril triu detach "
        "upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d "
        "_upsample_nearest_exact2d _upsample_nearest_exact3d",
    ),
    # -- passed on unchanged ----------------------------------------------------------------------
    **_rows(
        passed,
        "softmax _softmax _safe_softmax log_softmax layer_norm rms_norm _fused_rms_norm batch_norm "
        "group_norm instance_norm dropout to _to_copy clone contiguous clamp clamp_min "
        "clamp_max hardtanh softplus prelu leaky_relu relu pow hardswish "
        "hardsigmoid gelu silu elu",
    ),
    # -- contractions -----------------------------------------------------------------------------
    **_rows(
        "contraction",
        "linear matmul mm bmm mv dot conv1d conv2d conv3d convolution conv_transpose1d "
        "conv_transpose2d conv_transpose3d _grouped_mm einsum",
    ),
    **_rows("cast", "type_as"),
    **_rows("gated_half", "glu"),
    **_rows("sampled", "grid_sampler grid_sampler_2d grid_sampler_3d"),
    "transformers.grouped_mm_fallback": "contraction",
    **_rows("biased", "addmm baddbmm"),
    # -- sums and products of elements ------------------------------------------------------------
    **_rows(added, "add sub rsub"),
    **_rows("multiplied", "mul div multiply divide"),
    **_rows(
        by_share,
        "mean sum avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d cumsum "
        "adaptive_avg_pool3d upsample_bilinear2d upsample_bicubic2d upsample_linear1d "
        "upsample_trilinear3d _upsample_bilinear2d_aa _upsample_bicubic2d_aa index_add scatter_add",
    ),
    **_rows("statistic", "rsqrt sqrt reciprocal var std linalg_vector_norm norm"),
}


RULE_SETS: dict[str, dict[Any, Rule]] = {
    "cvpr2021": {},
    "alpha-beta": {contracted: contracted_apart, added: added_plainly},
}
"""Rules that stand in for others: "alpha-beta" is the older rule set that CVPR 2021 improves on."""


def lrp_rewriting(samples: Mapping[fx.Node, Tensor], rules: str = "cvpr2021") -> Rewriting:
    """Let the backward pass carry relevance instead of gradients.

    Parameters
    ----------
    samples
        For each sum of activations the sample of each element, where the batch has several.
    rules
        One of `RULE_SETS`.
    """
    table = _Table(samples, RULE_SETS[rules])
    return Rewriting(f"lrp:{rules}", table.replacement, taken_apart=table.taken_apart)


class _Table:
    """The rules, applied to nodes."""

    def __init__(self, samples: Mapping[fx.Node, Tensor], stand_ins: Mapping[Any, Rule]) -> None:
        self.samples, self.stand_ins = samples, stand_ins

    def replacement(self, node: fx.Node) -> Replacement | None:
        row = RULES.get(operation(node))
        if row == AS_IT_IS or (row is None and moves(node)):
            return None
        if row is None and torch.Tag.pointwise in getattr(node.target, "tags", ()):
            row = passed if len(_tensor_operands(node)) <= 1 else None
        if row is None:
            return self.refusing(node)
        if isinstance(row, str):
            made: Replacement = getattr(self, row)(node)
            return made
        return self.by(row, node)

    def by(self, rule: Rule, node: fx.Node, *, by_rows: bool = False) -> Replacement:
        """The node's operation with relevance shared by `rule`."""
        target: Any = node.target
        name, samples = node.name, self.samples.get(node)
        rule = self.stand_ins.get(rule, rule)

        def replaced(*args: Any, **kwargs: Any) -> Any:
            return propagated(rule, target, args, kwargs, samples, name, by_rows=by_rows)

        return replaced

    # -- rows that look at the node ---------------------------------------------------------------

    def contraction(self, node: fx.Node) -> Replacement:
        """With weights by their signs, of two activations as a product."""
        rule: Rule = contracted if _has_weight(node.all_input_nodes) else product
        return self.by(rule, node, by_rows=_by_rows(node, node.args))

    def biased(self, node: fx.Node) -> Replacement:
        """A product with a bias added: the bias gets nothing."""
        plain: Rule = contracted if _has_weight(node.all_input_nodes[1:]) else product
        rule = self.stand_ins.get(plain, plain)
        product_of = torch.matmul if operation(node) == "aten.addmm" else torch.bmm
        by_rows = _by_rows(node, node.args[1:])

        def replaced(bias: Tensor, a: Tensor, b: Tensor, **kwargs: Any) -> Tensor:
            made: Tensor = propagated(
                rule, product_of, (a, b), {}, None, node.name, by_rows=by_rows
            )
            scaled: Tensor = kwargs.get("beta", 1) * bias.detach() + kwargs.get("alpha", 1) * made
            return scaled

        return replaced

    def multiplied(self, node: fx.Node) -> Replacement:
        """A gate and a constant get nothing; two values share."""
        gate = gate_operand(node)
        if gate is None and operation(node) in ("aten.div", "aten.divide"):
            gate = 1
        inner = self.by(_shared, node)
        if gate is None:
            return inner

        def gated(*args: Any, **kwargs: Any) -> Any:
            held = [
                x.detach() if i == gate and isinstance(x, Tensor) else x for i, x in enumerate(args)
            ]
            return inner(*held, **kwargs)

        return gated

    def gated_half(self, node: fx.Node) -> Replacement:
        """One half of the features gates the other and gets nothing."""

        def replaced(x: Tensor, dim: int = -1) -> Any:
            value, gate = x.chunk(2, dim)
            return propagated(
                passed, torch.mul, (value, gate.detach().sigmoid()), {}, None, node.name
            )

        return replaced

    def sampled(self, node: fx.Node) -> Replacement:
        """Interpolation at points: by share, and the points get nothing."""
        target: Any = node.target

        def replaced(x: Tensor, grid: Tensor, *rest: Any) -> Any:
            return propagated(by_share, target, (x, grid.detach(), *rest), {}, None, node.name)

        return replaced

    def cast(self, node: fx.Node) -> Replacement:
        """x.type_as(other): only x has relevance."""

        def replaced(x: Tensor, other: Tensor) -> Any:
            return propagated(passed, torch.Tensor.to, (x, other.dtype), {}, None, node.name)

        return replaced

    def statistic(self, node: fx.Node) -> Replacement:
        """Normalisation statistics are constants."""
        target: Any = node.target

        def replaced(*args: Any, **kwargs: Any) -> Any:
            held = [x.detach() if isinstance(x, Tensor) else x for x in args]
            return target(*held, **kwargs)

        return replaced

    def refusing(self, node: fx.Node) -> Replacement:
        """An operation without a rule: an error as soon as relevance reaches it, and not before."""
        target: Any = node.target
        where = f"{operation(node)} in {module_path(node) or 'the model'}"

        def refused(_call: Call, _R: Tensor) -> Sequence[Tensor]:
            raise MethodError(
                f"layer-wise relevance propagation has no rule for {where}; explain with a method "
                "that needs none, for example 'generic', or add a row to fxplain.rewriting.lrp.RULES."
            )

        def replaced(*args: Any, **kwargs: Any) -> Any:
            return propagated(refused, target, args, kwargs)

        return replaced

    def taken_apart(self, _node: fx.Node) -> tuple[Replacement, Replacement]:
        """Fused attention as two products with a softmax between them."""

        def weigh(
            query: Tensor,
            key: Tensor,
            attn_mask: Tensor | None = None,
            is_causal: bool = False,
            scale: float | None = None,
        ) -> Tensor:
            scores = propagated(product, scaled_scores, (query, key, scale), {})
            scores = propagated(passed, allowed_scores, (scores, attn_mask, is_causal), {})
            weights: Tensor = propagated(passed, softmax, (scores,), {})
            return weights

        def contract(weights: Tensor, value: Tensor) -> Tensor:
            dtype = value.dtype
            value = grouped(value, weights.shape).to(weights.dtype)
            made: Tensor = propagated(product, torch.matmul, (weights, value), {})
            return made.to(dtype)

        return weigh, contract


def _shared(call: Call, R: Tensor) -> Sequence[Tensor]:
    return passed(call, R) if len(call.active) == 1 else product(call, R)


def _tensor_operands(node: fx.Node) -> list[fx.Node]:
    return [n for n in node.all_input_nodes if isinstance(n.meta.get("val"), Tensor)]


def _has_weight(operands: Sequence[fx.Node]) -> bool:
    """Whether an operand of a contraction is a weight, possibly laid out or cast anew."""
    return any(_is_weight(operand) for operand in operands)


def _by_rows(node: fx.Node, operands: Sequence[Any]) -> bool:
    """Whether a contraction is that of rows, on the left, with a matrix of weights."""
    if operation(node) not in _OF_ROWS or len(operands) < 2:
        return False
    rows, weight = operands[:2]
    if not (isinstance(rows, fx.Node) and isinstance(weight, fx.Node)):
        return False
    value = weight.meta.get("val")
    return (
        not _is_weight(rows)
        and _is_weight(weight)
        and isinstance(value, Tensor)
        and value.dim() == 2
    )


_OF_ROWS = frozenset({"aten.linear", "aten.matmul", "aten.mm", "aten.addmm"})


def _is_weight(node: fx.Node) -> bool:
    while node.op == "call_function" and len(node.all_input_nodes) == 1:
        node = node.all_input_nodes[0]
    return node.op in ("placeholder", "get_attr")
