"""Functional form: every in-place write becomes a new value, followed through views."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx

from fxplain.capture.captured import operation_name

__all__ = ["UnknownWriteError", "has_writes", "without_writes"]

aten: Any = torch.ops.aten

_SAME_CONTENT = {"aten.detach_", "aten.requires_grad_", "aten.alias"}
_RESHAPED_BACK = {
    "view", "reshape", "_unsafe_view", "flatten", "unflatten", "unsqueeze", "squeeze", "view_as",
    "reshape_as", "_reshape_alias",
}  # fmt: skip
_VIEWS_WHERE_THEY_CAN = {
    "reshape",
    "flatten",
    "contiguous",
    "reshape_as",
    "ravel",
    "to",
    "unflatten",
}
_IN_PARTS = {"split", "split_with_sizes", "chunk", "unbind", "tensor_split"}
_UNCHANGED = {"alias", "detach", "contiguous", "to", "view_of", "lift_fresh"}


class UnknownWriteError(RuntimeError):
    """An in-place operation whose functional form is not known."""


def has_writes(graph: fx.Graph) -> bool:
    """Whether any node writes into one of its operands."""
    return any(_written_argument(node) is not None for node in graph.nodes)


def without_writes(module: fx.GraphModule) -> fx.GraphModule:
    """A copy of a graph with in-place operations replaced by functional ones.

    Requires ATen calls with fake or real values in ``meta["val"]``. Composite operations stay whole.

    Raises
    ------
    UnknownWriteError
        When an operation or a view has no functional counterpart here.
    """
    return fx.GraphModule(module, _Rewriter(module.graph).run())


def _written_argument(node: fx.Node) -> int | None:
    schema = getattr(node.target, "_schema", None)
    if node.op != "call_function" or schema is None:
        return None
    for i, argument in enumerate(schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            return i
    return None


def _is_view(node: fx.Node) -> bool:
    """Whether the node's result shares memory with its first operand."""
    schema = getattr(node.target, "_schema", None)
    if schema is None or not node.args or not isinstance(node.args[0], fx.Node):
        return False
    returns = schema.returns
    aliased = len(returns) == 1 and returns[0].alias_info is not None
    if not aliased or returns[0].alias_info.is_write:
        return operation_name(node) in _VIEWS_WHERE_THEY_CAN and _shares_memory(node)
    return operation_name(node) not in _VIEWS_WHERE_THEY_CAN or _shares_memory(node)


def _shares_memory(node: fx.Node) -> bool:
    ours, theirs = node.meta.get("val"), node.args[0].meta.get("val")  # type: ignore[union-attr]
    if not isinstance(ours, torch.Tensor) or not isinstance(theirs, torch.Tensor):
        return False
    return bool(ours.untyped_storage()._cdata == theirs.untyped_storage()._cdata)


def _parts(node: fx.Node) -> fx.Node | None:
    """What a node takes one of several views from (``split``, ``unbind``), if it does."""
    parts = node.args[0] if node.target is operator.getitem else None
    return parts if isinstance(parts, fx.Node) and operation_name(parts) in _IN_PARTS else None


def _place_of_part(node: fx.Node) -> tuple[str, tuple[int, ...]]:
    """The view of the whole that one of several is: ``select`` or ``slice``, with its arguments."""
    parts, number = node.args
    assert isinstance(parts, fx.Node)
    assert isinstance(number, int)
    position = 1 if operation_name(parts) == "unbind" else 2
    given = parts.args[position] if len(parts.args) > position else 0
    axis, whole = parts.kwargs.get("dim", given), parts.meta.get("val")
    if not isinstance(axis, int) or not isinstance(whole, (list, tuple)):
        raise UnknownWriteError(f"a write through a part by {parts.target}")
    if operation_name(parts) == "unbind":
        return "select", (axis, number % len(whole))
    sizes = [part.shape[axis] for part in whole[: number % len(whole) + 1]]
    if not all(isinstance(size, int) for size in sizes):
        raise UnknownWriteError("a write through a part of a size that is not known")
    return "slice", (axis, sum(sizes[:-1]), sum(sizes))


class _Rewriter:
    """Rebuilds a graph value by value.

    Each original node has a current value; a view is computed anew where the memory that it shows
    was written after it was taken.
    """

    def __init__(self, graph: fx.Graph) -> None:
        self.old = graph
        self.new = fx.Graph()
        self.value: dict[fx.Node, fx.Node] = {}
        self.parent: dict[fx.Node, fx.Node] = {}
        self.written: dict[fx.Node, int] = {}  # base -> number of writes so far
        self.seen: dict[fx.Node, int] = {}  # view -> the base's writes when it was computed

    def run(self) -> fx.Graph:
        for node in self.old.nodes:
            target = _written_argument(node)
            if target is not None:
                self._write(node, target)
            else:
                self.value[node] = self.new.node_copy(node, self._current)
                whole = (_parts(node) or node).args[:1]
                viewed = node.op == "call_function" and (_parts(node) or _is_view(node))
                if viewed and isinstance(whole[0], fx.Node):
                    self.parent[node] = whole[0]
                    self.seen[node] = self.written.get(self._base(node), 0)
        return self.new

    def _base(self, node: fx.Node) -> fx.Node:
        while node in self.parent:
            node = self.parent[node]
        return node

    def _current(self, node: fx.Node) -> fx.Node:
        """The value that reading `node` gives now."""
        if _written_argument(node) is not None:  # it returns what it wrote into
            return self._current(self.parent[node])
        base = self._base(node)
        if node in self.parent and self.seen[node] != self.written.get(base, 0):
            self.value[node] = self._viewed(node)
            self.seen[node] = self.written.get(base, 0)
        return self.value[node]

    def _viewed(self, node: fx.Node) -> fx.Node:
        """A view of what its source holds now."""
        if _parts(node) is None:
            return self.new.node_copy(node, self._current)
        name, place = _place_of_part(node)
        operation = getattr(aten, name)
        operation = operation.Tensor if name == "slice" else operation.int
        made = self.new.call_function(operation, (self._current(self.parent[node]), *place))
        made.meta = dict(node.meta)
        return made

    def _write(self, node: fx.Node, index: int) -> None:
        name = operation_name(node)
        argument = node.args[index] if index < len(node.args) else None
        if not isinstance(argument, fx.Node):
            raise UnknownWriteError(f"{node.target} writes into something that is no value")
        if f"aten.{name}" in _SAME_CONTENT:
            self.value[node] = self._current(argument)
            self.parent[node] = argument
            self.seen[node] = self.written.get(self._base(argument), 0)
            return
        if name == "copy_":
            result = self._copied(node, argument)
        else:
            result = self.new.call_function(
                self._functional(node, name),
                fx.map_arg(node.args, self._current),
                fx.map_arg(node.kwargs, self._current),
            )
        result.meta = {**argument.meta, **node.meta}  # `unsqueeze_` has another shape than before
        self._assign(argument, result)
        # the operation returns the tensor it wrote into
        self.parent[node] = argument
        self.value[node] = result
        self.seen[node] = self.written.get(self._base(argument), 0)

    def _copied(self, node: fx.Node, destination: fx.Node) -> fx.Node:
        """The source in the destination's type and shape (``aten.copy`` has no derivative)."""
        source = node.args[1]
        ours, theirs = destination.meta.get("val"), getattr(source, "meta", {}).get("val")
        if not isinstance(source, fx.Node) or not isinstance(theirs, torch.Tensor):
            raise UnknownWriteError(f"{node.target} copies something that is no tensor")
        assert isinstance(ours, torch.Tensor)
        value = self._current(source)
        if theirs.dtype != ours.dtype or theirs.device != ours.device:
            kwargs: dict[str, Any] = {"dtype": ours.dtype, "device": ours.device}
            cast = self.new.call_function(aten._to_copy.default, (value,), kwargs)
            cast.meta = {**source.meta, "val": theirs.to(ours.dtype)}
            value = cast
        return self.new.call_function(aten.expand_as.default, (value, self._current(destination)))

    def _functional(self, node: fx.Node, name: str) -> Any:
        overload = str(node.target).split(".")[-1]
        packet = getattr(aten, name.removesuffix("_"), None)
        if not name.endswith("_") or packet is None:
            raise UnknownWriteError(f"{node.target} has no functional form")
        functional = getattr(packet, overload, None)
        if functional is None:
            raise UnknownWriteError(f"{node.target} has no functional form")
        return functional

    def _assign(self, node: fx.Node, value: fx.Node) -> None:
        """Make `value` the content of `node`, and of everything that it is a view of."""
        base = self._base(node)
        writes = self.written.get(base, 0) + 1
        fresh = {node}
        while node in self.parent:
            parent = self.parent[node]
            self.value[node] = value
            value = self._scattered(node, parent, value)
            node = parent
            fresh.add(node)
        self.value[node] = value
        self.written[base] = writes
        self.seen.update(dict.fromkeys(fresh, writes))

    def _scattered(self, view: fx.Node, parent: fx.Node, value: fx.Node) -> fx.Node:
        """The parent's content after its view was assigned `value`."""
        old = self._current(parent)
        if _written_argument(view) is not None:
            return value
        name = operation_name(view)
        rest: Any = fx.map_arg(view.args[1:], self._current)
        if _parts(view) is not None:
            name, rest = _place_of_part(view)
        kwargs = fx.map_arg(view.kwargs, self._current)
        if name in _UNCHANGED:
            return value
        if name in ("slice", "select", "diagonal"):
            scatter = getattr(aten, f"{name}_scatter")
            made = self.new.call_function(scatter.default, (old, value, *rest), kwargs)
        elif name in ("transpose", "t", "swapaxes", "swapdims"):
            assert callable(view.target)
            made = self.new.call_function(view.target, (value, *rest), kwargs)
        elif name == "permute":
            order = list(rest[0])
            inverse = [order.index(i) for i in range(len(order))]
            made = self.new.call_function(aten.permute.default, (value, inverse))
        elif name in _RESHAPED_BACK:
            made = self.new.call_function(aten.reshape_as.default, (value, old))
        elif name == "expand":
            raise UnknownWriteError("a write into an expanded tensor")
        else:
            raise UnknownWriteError(f"a write through a view by {view.target}")
        made.meta = dict(view.meta)
        if "val" in parent.meta:
            made.meta["val"] = parent.meta["val"]
        return made
