"""Concrete shapes and values of graph nodes, computed only where the analysis asks for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx

from fxplain.capture import Capture, attribute_of, chance_kept, draws, operation_name

if TYPE_CHECKING:
    import sympy

__all__ = ["Values", "content_inputs", "is_size", "reached"]

_OF_ITS_SHAPE = ("new_zeros", "new_ones", "new_full", "new_empty", "zeros_like", "ones_like",
                 "full_like", "empty_like", "rand_like", "randn_like")  # fmt: skip
_AS_ANOTHER = ("expand_as", "reshape_as", "view_as", "type_as")


def content_inputs(node: fx.Node) -> list[fx.Node]:
    """The nodes whose content a node depends on: of ``zeros_like(x)`` only x's shape is read."""
    operation = operation_name(node)
    if operation in _OF_ITS_SHAPE:
        return [n for n in node.all_input_nodes if n is not node.args[0]]
    if operation in _AS_ANOTHER:
        return [n for n in node.all_input_nodes if n is node.args[0]]
    return node.all_input_nodes


def is_size(node: fx.Node) -> bool:
    """Whether a node is a number that is read from a shape, or another that is no tensor."""
    return isinstance(node.meta.get("val"), (int, float, torch.SymInt, torch.SymFloat))


def reached(node: fx.Node, further: Callable[[fx.Node], Iterable[fx.Node]]) -> set[fx.Node]:
    """A node, and all that is reached from it step by step."""
    found, todo = {node}, [node]
    while todo:
        fresh = [n for n in further(todo.pop()) if n not in found]
        found.update(fresh)
        todo += fresh
    return found


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, (tuple, list)) and value else value


class Values:
    """Lazy evaluation of a captured graph on concrete inputs.

    Shapes follow from the capture's free sizes. Values (index tensors, masks) are computed on
    demand, with whatever they depend on; most models are analysed without running any layer.
    """

    def __init__(self, capture: Capture, bound: Sequence[Tensor], leaves: Sequence[Tensor]) -> None:
        sizes = capture.sizes(leaves)
        assert sizes is not None, "the capture does not hold for these inputs"
        self._module = capture.graph_module
        self._sizes = sizes
        self._known: dict[fx.Node, Any] = dict(zip(capture.placeholders, bound, strict=True))
        self._order = {node: i for i, node in enumerate(capture.graph.nodes)}
        self._ints: dict[sympy.Expr, int | None] = {}
        names = {*capture.inputs, *(k for k, s in capture.state.items() if s.kind == "parameter")}
        self._drawn = {node for node in capture.graph.nodes if draws(node)}
        self._changing = {node for node in capture.placeholders if node.name in names} | self._drawn
        self._leaves = leaves
        self.read: set[str] = set()
        """The nodes whose values were read, of those that another call may change: inputs, weights,
        random draws."""

    def shape(self, node: fx.Node) -> tuple[int, ...]:
        """The concrete shape of a tensor node; of several outputs, the first one's."""
        if node in self._known:
            return tuple(_first(self._known[node]).shape)
        value = _first(node.meta.get("val"))
        if not isinstance(value, Tensor):
            return tuple(_first(self.value(node)).shape)
        sizes = [self._int(s) for s in value.shape]
        if any(s is None for s in sizes):
            return tuple(_first(self.value(node)).shape)
        return tuple(s for s in sizes if s is not None)

    def strides(self, node: fx.Node) -> tuple[int, ...]:
        """The concrete strides of a tensor node."""
        found = [self._int(s) for s in node.meta["val"].stride()]
        if any(s is None for s in found):
            return tuple(self.value(node).stride())
        return tuple(s for s in found if s is not None)

    def _int(self, size: int | torch.SymInt) -> int | None:
        """The concrete value of a size; None when it depends on data."""
        if isinstance(size, int):
            return size
        expr = size.node.expr
        if expr not in self._ints:
            import sympy

            concrete = sympy.sympify(sympy.sympify(expr).xreplace(self._sizes))
            self._ints[expr] = int(concrete) if concrete.is_number else None
        return self._ints[expr]

    def value(self, node: fx.Node) -> Any:
        """The concrete value of a node, computing what it needs first."""
        if node in self._known:
            self._note_read([node])
            return self._known[node]
        needed = self._missing([node])
        drawing = not self._drawn.isdisjoint(needed)
        if drawing:  # the same numbers in the same order as in a run
            needed = self._missing([node, *self._drawn])
            self._note_read(self._drawn)
        with chance_kept(self._leaves) if drawing else nullcontext(), torch.no_grad():
            for each in needed:
                self._known[each] = self._compute(each)
        return self._known[node]

    def _note_read(self, nodes: Iterable[fx.Node]) -> None:
        self.read.update(node.name for node in nodes if node in self._changing)

    def concrete(self, argument: Any) -> Any:
        """An argument structure with every node in it replaced by its value."""
        return fx.map_arg(argument, self.value)

    def _missing(self, nodes: Sequence[fx.Node]) -> list[fx.Node]:
        missing = {node for node in nodes if node not in self._known}
        stack = list(missing)
        while stack:
            current = stack.pop()
            if self._symbolic(current) is not None:
                continue
            for needed in content_inputs(current):
                if needed not in self._known and needed not in missing:
                    missing.add(needed)
                    stack.append(needed)
        return sorted(missing, key=self._order.__getitem__)

    def _symbolic(self, node: fx.Node) -> int | None:
        value = node.meta.get("val")
        return self._int(value) if isinstance(value, torch.SymInt) else None

    def _compute(self, node: fx.Node) -> Any:
        size = self._symbolic(node)
        if size is not None:
            return size
        if node.op == "get_attr":
            return attribute_of(self._module, node)
        needed = content_inputs(node)
        self._note_read(needed)

        def known(n: fx.Node) -> Any:
            return self._known[n] if n in needed else self._hollow(n)

        assert callable(node.target)
        return node.target(*fx.map_arg(node.args, known), **fx.map_arg(node.kwargs, known))

    def _hollow(self, node: fx.Node) -> Any:
        """A tensor of a node's shape, type and device, and of no content (a size as it is)."""
        if node in self._known:
            return self._known[node]
        value = node.meta.get("val")
        if not isinstance(value, Tensor):
            return self.value(node)
        return torch.empty((), dtype=value.dtype, device=value.device).expand(self.shape(node))
