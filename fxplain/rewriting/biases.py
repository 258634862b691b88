"""Biases: where a graph adds what no token says, and what of the score each addition gets.

Srinivas & Fleuret, "Full-Gradient Representation for Neural Network Visualization", NeurIPS 2019 (arXiv
1905.00780): ``f(x) = x . df/dx + sum_b b . df/db``. The gradient of a bias is the gradient of the
value that it is added to, so that each addition notes it there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx

from fxplain.capture import ELSEWHERE
from fxplain.rewriting.rewriting import Replacement, Rewriting
from fxplain.tokens import operation

__all__ = ["BIAS", "LAYOUTS", "PRODUCTS", "biases_noted", "with_biases"]

PRODUCTS = frozenset(["aten.addmm", "aten.baddbmm", "aten.addbmm", "aten.addmv"])
"""What adds a product to its first operand."""

_CONVOLUTIONS = ("conv1d", "conv2d", "conv3d")
_TRANSPOSED = ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")

BIAS: Mapping[str, tuple[int, str]] = {
    **dict.fromkeys(PRODUCTS, (0, "self")),
    **{f"aten.{name}": (2, "bias") for name in ("linear", *_CONVOLUTIONS, *_TRANSPOSED)},
    "aten.layer_norm": (3, "bias"),
    "aten.group_norm": (3, "bias"),
    "aten.batch_norm": (2, "bias"),
}
"""Where an operation has its bias."""

LAYOUTS = frozenset(
    f"aten.{name}"
    for name in ["expand", "expand_as", "repeat", "view", "reshape", "unsqueeze", "to", "clone"]
)
"""What a parameter is still itself after."""

_SUMS = {"aten.add": (1, 1), "aten.add_": (1, 1), "aten.sub": (1, -1), "aten.rsub": (-1, 1)}
"""The signs of both operands."""

Note = Callable[[fx.Node, Any, Tensor], None]
"""Called with a node, what was added there, and that times its gradient, element by element."""

_NOTE: ContextVar[Note | None] = ContextVar("note of biases", default=None)


@contextmanager
def biases_noted(note: Note) -> Iterator[None]:
    """Let the backward passes of runs that start in this context note what biases get."""
    token = _NOTE.set(note)
    try:
        yield
    finally:
        _NOTE.reset(token)


def with_biases(rewriting: Rewriting) -> Rewriting:
    """The same rewriting, whose additions note what they get."""

    def replacement(node: fx.Node) -> Replacement | None:
        made = rewriting.replacement(node)
        name = operation(node)
        if name not in BIAS and name not in _SUMS:
            return made
        return _noting(node, name, made or ELSEWHERE.get(node.target, node.target))  # type: ignore[arg-type]

    name = f"{rewriting.name} with biases"
    return replace(rewriting, name=name, replacement=replacement, begun=noted_constant)


def noted_constant(output: Tensor, node: fx.Node) -> Tensor:
    """What attention gave of what no token says: a constant, at which gradients begin."""
    note = _NOTE.get()
    if output.requires_grad or note is None:
        return output
    constant = output.detach()
    leaf = constant.clone().requires_grad_()
    leaf.register_hook(lambda gradient: note(node, None, constant * gradient))
    return leaf


def _noting(node: fx.Node, name: str, function: Callable[..., Any]) -> Replacement:
    constant_of = _summand if name in _SUMS else _bias

    def replaced(*args: Any, **kwargs: Any) -> Any:
        made = function(*args, **kwargs)
        note = _NOTE.get()
        if note is None or not isinstance(made, Tensor) or not made.requires_grad:
            return made
        found = constant_of(node, name, args, kwargs, made)
        if found is not None:
            source, constant = found

            def arrived(gradient: Tensor) -> None:
                note(node, source, constant.detach() * gradient)

            made.register_hook(arrived)
        return made

    return replaced


Constant = tuple[Any, Tensor] | None


def _summand(_node: fx.Node, name: str, args: Any, kwargs: Any, made: Tensor) -> Constant:
    """The operand of a sum that depends on no token, with its sign."""
    for i, (x, sign) in enumerate(zip(args[:2], _SUMS[name], strict=False)):
        if isinstance(x, Tensor) and x.requires_grad:
            continue
        scale = kwargs.get("alpha", args[2] if len(args) > 2 else 1)
        scaled = i == (0 if name == "aten.rsub" else 1)
        value = torch.as_tensor(x, dtype=made.dtype, device=made.device)
        return _node.args[i], sign * (scale if scaled else 1) * value
    return None


def _bias(node: fx.Node, name: str, args: Any, kwargs: Any, made: Tensor) -> Constant:
    """The bias of an operation, in the shape of what it is added to."""
    place, keyword = BIAS[name]
    if name == "aten.batch_norm":
        return _of_statistics(node, args)
    named = keyword in kwargs
    bias = kwargs.get(keyword) if named else (args[place] if len(args) > place else None)
    if not isinstance(bias, Tensor) or bias.requires_grad:
        return None
    source = node.kwargs[keyword] if named else node.args[place]
    if name in PRODUCTS:
        return source, kwargs.get("beta", 1) * bias
    if "conv" in name or name == "aten.group_norm":
        axis = 1 if name == "aten.group_norm" else made.dim() - int(name[-2]) - 1
        bias = bias.reshape(-1, *[1] * (made.dim() - axis - 1))
    return source, bias


def _of_statistics(node: fx.Node, args: Any) -> Constant:
    """Of a norm by kept statistics, what it makes of nothing."""
    x, training = args[0], args[5]
    if training or args[3] is None:
        return None
    target: Any = node.target
    with torch.no_grad():
        return node.args[2], target(torch.zeros_like(x[:1]), *args[1:])
