"""The linear run: one forward in which what is added to residual streams, and biases, are leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from fxplain.capture import ELSEWHERE, fused_attention, module_path
from fxplain.explanation.kept import Kept
from fxplain.interventions.sites import sites_of
from fxplain.rewriting import corrected_rewriting
from fxplain.rewriting.biases import BIAS, LAYOUTS, PRODUCTS
from fxplain.tokens import operation

__all__ = ["Leaf", "LinearRun"]

_FUSED = torch.ops.aten.scaled_dot_product_attention.default

_ADDS = frozenset(
    f"aten.{name}"
    for name in [
        *("add", "add_", "sub", "rsub", "cat", "stack", "where", "masked_fill", "masked_scatter"),
        *("scatter", "scatter_add", "index_put", "index_add", "index_copy", "select_scatter"),
        *("slice_scatter", "diagonal_scatter"),
    ]
)
"""What is linear in all its operands together, so that one that depends on no leaf is a constant."""

_NUMBERS = frozenset(["aten.add", "aten.add_", "aten.sub"])
"""What a number may be added by."""


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
    stream
        The sum that it is added to.
    """

    name: str
    kind: str | int
    value: Tensor
    live: Tensor
    stream: fx.Node | None = None


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
        self.writes = {write.term: write for write in sites.writes}
        self.streams: dict[fx.Node, Tensor | None] = {w.stream: None for w in sites.writes}
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
        if n in self.writes:
            write = self.writes[n]
            return self._leaf(write.name, "write", value, write.stream)
        if n in self.streams:
            self.streams[n] = value
        return value

    def says_heads(self, leaf: Leaf) -> bool:
        """Whether an addition is what attention just gave, and so linear in its heads.

        A layer may depend on attention's outputs too, where they began the stream that it reads.
        """
        after = None if leaf.stream is None else self.streams[leaf.stream]
        heads = [each.value for each in self.leaves if isinstance(each.kind, int)]
        reached = zip(_reached(leaf.live, heads), _reached(after, heads), strict=True)
        return any(now and not before for now, before in reached)

    def _called(self, n: fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
        function: Callable[..., Any] | None = self.rewriting.replacement(n)
        if function is None:
            function = fused_attention if n.target is _FUSED else n.target  # type: ignore[assignment]
            function = ELSEWHERE.get(n.target, function)
        assert function is not None
        name = operation(n)
        if name not in _ADDS and name not in BIAS:
            return function(*args, **kwargs)
        if not any(isinstance(x, Tensor) and x.requires_grad for x in _tensors(args)):
            return function(*args, **kwargs)
        if name in _ADDS:
            args = _mapped(args, _nodes(n.args), lambda x, source: self._constant(x, source, n))
            return function(*args, **kwargs)
        place, keyword = BIAS[name]
        if name == "aten.batch_norm":
            return self._of_statistics(n, function, args)
        bias, source = self._taken(n, args, kwargs, place, keyword)
        if bias is None:
            return function(*args, **kwargs)
        if name in PRODUCTS:
            args[place] = self._constant(bias, source, n)
            return function(*args, **kwargs)
        made = function(*args, **kwargs)
        if "conv" in name or name == "aten.group_norm":
            axis = 1 if name == "aten.group_norm" else made.dim() - int(name[-2]) - 1
            bias = bias.reshape(-1, *[1] * (made.dim() - axis - 1))
        return made + self._constant(bias, source, n)

    def _of_statistics(self, n: fx.Node, function: Callable[..., Any], args: list[Any]) -> Any:
        """A norm by kept statistics: what it makes of nothing is a constant."""
        x, training = args[0], args[5]
        if training or args[3] is None:
            return function(*args)
        nothing = function(torch.zeros_like(x[:1]), *args[1:])
        made = function(x, *args[1:2], None, torch.zeros_like(args[3]), *args[4:])
        return made + self._constant(nothing, n.args[2], n)

    def _taken(
        self, n: fx.Node, args: list[Any], kwargs: dict[str, Any], place: int, keyword: str
    ) -> tuple[Tensor | None, Any]:
        """The bias, which is left out of the arguments, and where it comes from."""
        if len(args) > place and isinstance(args[place], Tensor):
            bias: Tensor = args[place]
            if operation(n) not in PRODUCTS:
                args[place] = None
            return bias, n.args[place]
        if isinstance(kwargs.get(keyword), Tensor):
            bias = kwargs.pop(keyword)
            return bias, n.kwargs[keyword]
        return None, None

    def _constant(self, value: Any, source: Any, n: fx.Node) -> Any:
        """A leaf for what is added at a node without depending on any."""
        if isinstance(value, (int, float)) and operation(n) in _NUMBERS:
            value = torch.tensor(float(value))
        if not isinstance(value, Tensor) or value.requires_grad or not value.is_floating_point():
            return value
        if not bool((value != 0).any()):
            return value
        source = source if isinstance(source, fx.Node) else n
        while operation(source) in LAYOUTS:
            source = source.args[0]
        named = self.names.get(source)
        kind = "constant" if named is None else "bias"
        return self._leaf(named or module_path(source) or source.name, kind, value)

    def _leaf(
        self, name: str, kind: str | int, value: Tensor, stream: fx.Node | None = None
    ) -> Tensor:
        leaf = value.detach().requires_grad_()
        self.leaves.append(Leaf(name, kind, leaf, value, stream))
        return leaf


def _reached(value: Tensor | None, leaves: list[Tensor]) -> list[bool]:
    """Which leaves a value depends on."""
    if value is None or not value.requires_grad:
        return [False] * len(leaves)
    ones = torch.ones_like(value)
    found = torch.autograd.grad(value, leaves, ones, allow_unused=True, retain_graph=True)
    return [gradient is not None for gradient in found]


def _tensors(x: Any) -> list[Any]:
    return [y for each in x for y in _tensors(each)] if isinstance(x, (list, tuple)) else [x]


def _nodes(x: Any) -> Any:
    return [_nodes(each) for each in x] if isinstance(x, (list, tuple)) else x


def _mapped(values: Any, sources: Any, change: Callable[[Any, Any], Any]) -> Any:
    """A structure of values with each changed, which knows where it comes from."""
    if isinstance(values, (list, tuple)):
        return [_mapped(v, s, change) for v, s in zip(values, sources, strict=True)]
    return change(values, sources)
