"""Corrected gradients: a backward pass that conserves, one rule per kind of operation.

Ali et al., "XAI for Transformers: Better Explanations through Conservative Propagation", ICML 2022
(arXiv 2202.07304), and Mehri et al., "LibraGrad", CVPR 2025 (arXiv 2411.16760): normalisation
statistics and gates are held constant, and the product of two activations shares its gradient. The
forward pass is not changed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from fxplain.capture import fused_attention
from fxplain.rewriting.gates import gate_operand
from fxplain.rewriting.rewriting import Replacement, Rewriting
from fxplain.rewriting.shares import Through, shared
from fxplain.rewriting.softening import softened, softened_attention
from fxplain.tokens import operation

__all__ = ["RULES", "corrected_rewriting"]


def _held(x: Any) -> Any:
    return x.detach() if isinstance(x, Tensor) else x


# -- one rule per kind of operation ---------------------------------------------------------------


def _gated(node: fx.Node) -> Replacement:
    """An activation is x times a gate, f(x) = x g(x), and the gate is a constant."""
    target: Any = node.target
    near_0 = torch.tensor([_TINY], dtype=torch.float64, device="cpu")

    def replaced(x: Tensor, *args: Any, **kwargs: Any) -> Any:
        value = target(x.detach(), *args, **kwargs)
        if not x.requires_grad:
            return value
        at_0 = target(near_0, *args, **kwargs).item() / _TINY
        gate = value / x.detach()  # of 0 by 0; a `where` takes longer than all else
        gate.nan_to_num_(nan=at_0, posinf=torch.inf, neginf=-torch.inf)
        return Through.apply(value, x, gate)

    return replaced


_TINY = 1e-4


class _Normalised(torch.autograd.Function):
    """(x - mean) / std, backward with a constant std: torch's own without the term of the std.

    That term is a multiple of (x - mean), so that zeros in the place of both leave it out.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, sizes: list[int], weight: Any, bias: Any, eps: float) -> Any:
        value, mean, of_std = torch.native_layer_norm(x, sizes, weight, bias, eps)
        ctx.held = torch.zeros_like(mean), of_std, weight, bias
        ctx.sizes = sizes
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        made = torch.ops.aten.native_layer_norm_backward(
            gradient, torch.zeros_like(gradient), ctx.sizes, *ctx.held, [True, False, False]
        )
        return made[0], None, None, None, None


def _layer_norm(_node: fx.Node) -> Replacement:
    """(x - mean) / std, with a constant std."""

    def replaced(
        x: Tensor,
        normalized_shape: Any,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        eps: float = 1e-5,
        *_rest: Any,
    ) -> Tensor:
        sizes = list(normalized_shape)
        if not x.requires_grad:
            return torch.layer_norm(x, sizes, weight, bias, eps)
        made: Tensor = _Normalised.apply(x, sizes, weight, bias, eps)
        return made

    return replaced


def _rms_norm(node: fx.Node) -> Replacement:
    """X / rms, with a constant rms."""
    target: Any = node.target

    def replaced(
        x: Tensor,
        normalized_shape: Any,
        weight: Tensor | None = None,
        eps: float | None = None,
        *rest: Any,
    ) -> Any:
        value = target(x.detach(), normalized_shape, weight, eps, *rest)
        if not x.requires_grad:
            return value
        axes = list(range(-len(normalized_shape), 0))
        least = torch.finfo(x.dtype).eps if eps is None else eps
        rms = (x.detach().square().mean(axes, keepdim=True) + least).sqrt()
        scale = 1 / rms if weight is None else weight / rms
        if isinstance(value, tuple):
            return (Through.apply(value[0], x, scale), *value[1:])
        return Through.apply(value, x, scale)

    return replaced


def _group_norm(node: fx.Node) -> Replacement:
    """(x - mean) / std over groups of channels, with a constant std."""
    target: Any = node.target

    def replaced(x: Tensor, groups: int, weight: Any = None, *rest: Any) -> Tensor:
        eps = rest[1] if len(rest) > 1 else 1e-5
        value: Tensor = target(x.detach(), groups, weight, *rest)
        if not x.requires_grad:
            return value
        grouped = x.reshape(x.shape[0], groups, -1)
        centred = (grouped - grouped.mean(-1, keepdim=True)).reshape(x.shape)
        std = (grouped.detach().var(-1, correction=0, keepdim=True) + eps).sqrt()
        scale = (1 / std).expand(grouped.shape).reshape(x.shape)
        if weight is not None:
            scale = scale * weight.reshape(1, -1, *[1] * (x.dim() - 2))
        made: Tensor = Through.apply(value, centred, scale)
        return made

    return replaced


def _statistic(node: fx.Node) -> Replacement:
    """The root of a mean of squares, a norm, a variance: constants."""
    target: Any = node.target

    def replaced(*args: Any, **kwargs: Any) -> Any:
        return target(*map(_held, args), **kwargs)

    return replaced


def _multiplied(node: fx.Node) -> Replacement | None:
    """A gate is a constant; two values share the gradient."""
    target: Any = node.target
    gate = gate_operand(node)
    if gate is None and operation(node) == "aten.div":
        gate = 1

    def replaced(a: Any, b: Any, **kwargs: Any) -> Any:
        both = all(isinstance(x, Tensor) and x.requires_grad for x in (a, b))
        if not both:
            return target(a, b, **kwargs)
        if gate is not None:
            a, b = (_held(a), b) if gate == 0 else (a, _held(b))
            return target(a, b, **kwargs)
        return target(shared(a), shared(b), **kwargs)

    return replaced


def _gated_half(_node: fx.Node) -> Replacement:
    """One half of the features is a gate, and constant."""

    def replaced(x: Tensor, dim: int = -1) -> Tensor:
        value, gate = x.chunk(2, dim)
        return value * gate.detach().sigmoid()

    return replaced


def _product(node: fx.Node) -> Replacement:
    """A matrix product of two activations shares the gradient between them."""
    target: Any = node.target

    def replaced(*args: Any, **kwargs: Any) -> Any:
        factors = args[-2:]
        if all(isinstance(x, Tensor) and x.requires_grad for x in factors):
            args = (*args[:-2], *map(shared, factors))
        return target(*args, **kwargs)

    return replaced


def _fused(_node: fx.Node) -> Replacement:
    """A V shares its gradient between A and V, and so does q k^T."""

    def replaced(query: Tensor, key: Tensor, value: Tensor, *rest: Any, **kwargs: Any) -> Any:
        return shared(fused_attention(shared(query), shared(key), value, *rest, **kwargs))

    return replaced


def _fused_constant() -> Replacement:
    def replaced(query: Tensor, key: Tensor, value: Tensor, *rest: Any, **kwargs: Any) -> Any:
        rest = tuple(map(_held, rest))
        kwargs = {name: _held(x) for name, x in kwargs.items()}
        return fused_attention(_held(query), _held(key), value, *rest, **kwargs)

    return replaced


def _rows(rule: Any, names: str) -> dict[str, Callable[[fx.Node], Replacement | None]]:
    return {f"aten.{name}": rule for name in names.split()}


RULES: dict[str, Callable[[fx.Node], Replacement | None]] = {
    **_rows(_gated, "gelu silu mish hardswish tanh elu selu celu relu leaky_relu relu6"),
    **_rows(_layer_norm, "layer_norm"),
    **_rows(_rms_norm, "rms_norm _fused_rms_norm"),
    **_rows(_group_norm, "group_norm"),
    **_rows(_statistic, "rsqrt var std linalg_vector_norm norm"),
    **_rows(_multiplied, "mul div multiply divide"),
    **_rows(_gated_half, "glu"),
    **_rows(_product, "matmul bmm mm baddbmm addmm"),
    **_rows(_fused, "scaled_dot_product_attention"),
}


def corrected_rewriting(
    attention: str, weights: frozenset[fx.Node], softmaxes: frozenset[fx.Node] = frozenset()
) -> Rewriting:
    """Gradients with constant statistics and gates.

    Parameters
    ----------
    attention
        "half": the product of attention weights and values shares its gradient between them;
        "constant": the weights are constants and the values get all of it; "gim": shared, and the
        softmax of scores goes backward at another temperature (`softened`).
    weights
        The nodes that hold attention weights at the moment of their contraction.
    softmaxes
        The nodes that make attention weights of scores.
    """

    def replacement(node: fx.Node) -> Replacement | None:
        name = operation(node)
        if attention == "constant":
            if name == "aten.scaled_dot_product_attention":
                return _fused_constant()
            held = [i for i, x in enumerate(node.args) if x in weights]
            if held and name in _CONTRACTS:
                return _with_constant(node, held[0])
        if attention == "gim":
            if name == "aten.scaled_dot_product_attention":
                return softened_attention
            if node in softmaxes and name in ("aten.softmax", "aten._softmax"):
                return softened
        rule = RULES.get(name)
        return None if rule is None else rule(node)

    share = 1.0 if attention == "constant" else 0.5
    return Rewriting(f"corrected:{attention}", replacement, share)


_CONTRACTS = frozenset(("aten.matmul", "aten.bmm", "aten.mm", "aten.mul", "aten.baddbmm"))


def _with_constant(node: fx.Node, index: int) -> Replacement:
    target: Any = node.target

    def replaced(*args: Any, **kwargs: Any) -> Any:
        return target(*(_held(x) if i == index else x for i, x in enumerate(args)), **kwargs)

    return replaced
