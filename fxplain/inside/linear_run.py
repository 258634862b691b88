"""The linear run: one forward in which what is added to residual streams, and biases, are leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from fxplain.capture import module_path
from fxplain.explanation.kept import Kept
from fxplain.interventions.sites import sites_of
from fxplain.rewriting import corrected_rewriting
from fxplain.rewriting.fused import fused_attention
from fxplain.tokens import operation

__all__ = ["Leaf", "LinearRun"]

_FUSED = torch.ops.aten.scaled_dot_product_attention.default
_VIEW = torch.ops.aten.view.default

_BIAS = {
    "aten.linear": (2, "bias"),
    "aten.addmm": (0, "self"),
    "aten.baddbmm": (0, "self"),
    "aten.conv1d": (2, "bias"),
    "aten.conv2d": (2, "bias"),
    "aten.conv3d": (2, "bias"),
    "aten.layer_norm": (3, "bias"),
    "aten.group_norm": (3, "bias"),
}
"""Where an operation has its bias."""

_ADDS = frozenset(["aten.add", "aten.sub", "aten.cat", "aten.where", "aten.stack", "aten.add_"])


@dataclass(eq=False)
class Leaf:
    """A value at which gradients stop.

    Attributes
    ----------
    name
        The path of the module or parameter that it is.
    kind
        "write" (added to a residual stream), "bias", "constant" (no attention reaches it), or the
        number of an attention node whose output it is.
    value
        The leaf.
    live
        The same as it was computed, from leaves below.
    """

    name: str
    kind: str | int
    value: Tensor
    live: Tensor


class LinearRun(fx.Interpreter):
    """The captured model with constant attention, statistics of norms and gates.

    What is added to a residual stream, what attention gives, biases, and what is there before any
    attention are leaves, and everything between them and the output is linear: the output is the sum of
    its leaves times their gradients.
    """

    def __init__(self, kept: Kept) -> None:
        super().__init__(kept.captured.graph_module, garbage_collect_values=True)
        self.kept = kept
        sites = sites_of(kept.captured, kept.model, kept.inputs, kept.program)
        self.geometry = sites.geometry
        self.writes = {write.term: write.name for write in sites.writes}
        self.attention = {node.site.node: index for index, node in kept.program.nodes.items()}
        weights = frozenset(
            n.site.weights for n in kept.program.nodes.values() if n.site.weights is not None
        )
        self.rewriting = corrected_rewriting("constant", weights)
        self.names = {
            node: kept.captured.state[node.name].path
            for node in kept.captured.placeholders
            if node.name in kept.captured.state
        }
        self.leaves: list[Leaf] = []

    def outputs(self) -> tuple[Tensor, ...]:
        """The model's outputs, from the leaves."""
        kept = self.kept
        with kept.captured.own_chance(kept.inputs.leaves), torch.enable_grad():
            made = self.run(*kept.captured.bind(kept.model, kept.inputs))
        return tuple(made)

    def run_node(self, n: fx.Node) -> Any:
        """A node's value; a leaf in its place where gradients stop."""
        if n.op != "call_function":
            return super().run_node(n)
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        value = self._called(n, list(args), dict(kwargs))
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return value
        if n in self.attention:
            node = self.kept.program.nodes[self.attention[n]]
            value = self._leaf(node.info.name, self.attention[n], value)
        return self._leaf(self.writes[n], "write", value) if n in self.writes else value

    def _called(self, n: fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
        function: Callable[..., Any] | None = self.rewriting.replacement(n)
        if function is None:
            function = fused_attention if n.target is _FUSED else n.target  # type: ignore[assignment]
            function = torch.ops.aten.reshape.default if n.target is _VIEW else function
        assert function is not None
        name = operation(n)
        if name not in _ADDS and name not in _BIAS:
            return function(*args, **kwargs)
        if not any(isinstance(x, Tensor) and x.requires_grad for x in _tensors(args)):
            return function(*args, **kwargs)
        if name in _ADDS:
            sources = _nodes(n.args)
            args = _mapped(args, sources, self._constant)
            return function(*args, **kwargs)
        place, keyword = _BIAS[name]
        bias, source = self._taken(n, args, kwargs, place, keyword)
        if bias is None:
            return function(*args, **kwargs)
        if name in ("aten.addmm", "aten.baddbmm"):
            args[place] = self._constant(bias, source)
            return function(*args, **kwargs)
        made = function(*args, **kwargs)
        if "conv" in name or name == "aten.group_norm":
            axis = 1 if name == "aten.group_norm" else made.dim() - int(name[-2]) - 1
            bias = bias.reshape(-1, *[1] * (made.dim() - axis - 1))
        return made + self._constant(bias, source)

    def _taken(
        self, n: fx.Node, args: list[Any], kwargs: dict[str, Any], place: int, keyword: str
    ) -> tuple[Tensor | None, Any]:
        """The bias, which is left out of the arguments, and where it comes from."""
        if len(args) > place and isinstance(args[place], Tensor):
            bias: Tensor = args[place]
            if operation(n) not in ("aten.addmm", "aten.baddbmm"):
                args[place] = None
            return bias, n.args[place]
        if isinstance(kwargs.get(keyword), Tensor):
            bias = kwargs.pop(keyword)
            return bias, n.kwargs[keyword]
        return None, None

    def _constant(self, value: Any, source: Any) -> Any:
        """A leaf for what is added without depending on any."""
        if not isinstance(value, Tensor) or value.requires_grad or not value.is_floating_point():
            return value
        if not bool((value != 0).any()) or not isinstance(source, fx.Node):
            return value
        named = self.names.get(source)
        kind = "constant" if named is None else "bias"
        return self._leaf(named or module_path(source) or source.name, kind, value)

    def _leaf(self, name: str, kind: str | int, value: Tensor) -> Tensor:
        leaf = value.detach().requires_grad_()
        self.leaves.append(Leaf(name, kind, leaf, value))
        return leaf


def _tensors(x: Any) -> list[Any]:
    return [y for each in x for y in _tensors(each)] if isinstance(x, (list, tuple)) else [x]


def _nodes(x: Any) -> Any:
    return [_nodes(each) for each in x] if isinstance(x, (list, tuple)) else x


def _mapped(values: Any, sources: Any, change: Callable[[Any, Any], Any]) -> Any:
    """A structure of values with each changed, which knows where it comes from."""
    if isinstance(values, (list, tuple)):
        return [_mapped(v, s, change) for v, s in zip(values, sources, strict=True)]
    return change(values, sources)
