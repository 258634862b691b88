"""Einsums taken apart, in place: permutes, matrix products and sums say more about tokens.

So are other products that are einsums by another name: of tensors over some axes, of several
matrices, of two values through a weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

__all__ = ["take_einsums_apart"]

aten: Any = torch.ops.aten

Labels = tuple[str, ...]


def take_einsums_apart(graph: fx.Graph) -> None:
    """Replace every einsum, or what is one by another name, by its parts, two at a time from the left.

    Requires a fake value in ``meta["val"]`` of every operand. The parts have the einsum's meta, and
    values of their own. A label that both operands keep (batch, heads) stays an axis of the product.
    """
    for node in list(graph.nodes):
        written = _written(node) if node.op == "call_function" else None
        if written is not None:
            with graph.inserting_before(node):
                made = _Parts(graph, node.meta, *written).result()
                if (
                    node.target is aten.bilinear.default
                    and node.args[3:]
                    and node.args[3] is not None
                ):
                    made = _called(graph, node.meta, aten.add.Tensor, made, node.args[3])
                node.replace_all_uses_with(made)
            graph.erase_node(node)


def _written(node: fx.Node) -> tuple[str, Sequence[Any]] | None:
    """The equation and the operands of an einsum, by whatever name it is called; None for others."""
    args: Any = node.args
    if node.target is aten.einsum.default:
        return str(args[0]), args[1]
    if node.target not in _EINSUMS:
        return None
    ranks = [n.meta["val"].dim() for n in (args[0] if isinstance(args[0], list) else args[:2])]
    if node.target in (aten.outer.default, aten.ger.default):
        return "a,b->ab", args[:2]
    if node.target is aten.inner.default and min(ranks) > 0:
        rows, columns = _letters(ranks[0], 0), _letters(ranks[1], ranks[0])
        return f"{rows},{columns[:-1]}{rows[-1]}->{rows[:-1]}{columns[:-1]}", args[:2]
    if node.target is aten.tensordot.default:
        return _contracted(ranks, *args[2:4]), args[:2]
    if isinstance(args[0], list) and set(ranks) == {2}:
        pairs = [_letters(2, i) for i in range(len(args[0]))]
        return f"{','.join(pairs)}->{pairs[0][0]}{pairs[-1][1]}", args[0]
    if node.target is aten.bilinear.default:
        return "...i,oij,...j->...o", (args[0], args[2], args[1])
    return None


_EINSUMS = (
    aten.bilinear.default, aten.chain_matmul.default, aten.ger.default, aten.inner.default,
    aten.linalg_multi_dot.default, aten.outer.default, aten.tensordot.default,
)  # fmt: skip


def _letters(count: int, first: int) -> str:
    return "".join(chr(ord("a") + first + i) for i in range(count))


def _contracted(ranks: Sequence[int], left: Sequence[int], right: Sequence[int]) -> str:
    """The equation of a product that contracts some axes of each side with some of the other's."""
    rows, columns = _letters(ranks[0], 0), list(_letters(ranks[1], ranks[0]))
    for i, j in zip(left, right, strict=True):
        columns[j] = rows[i]
    kept = [label for label in rows if label not in columns]
    kept += [label for label in columns if label not in rows]
    return f"{rows},{''.join(columns)}->{''.join(kept)}"


def _called(graph: fx.Graph, meta: dict[str, Any], target: Any, *args: Any) -> fx.Node:
    node = graph.call_function(target, args)
    value = target(*fx.map_arg(args, lambda n: n.meta["val"]))
    node.meta = {**meta, "val": value}
    return node


@dataclass(frozen=True)
class _Operand:
    """A value, and a label for each of its axes."""

    node: fx.Node
    labels: Labels

    def size(self, label: str) -> int | torch.SymInt:
        size: int | torch.SymInt = self.node.meta["val"].shape[self.labels.index(label)]
        return size


class _Parts:
    def __init__(
        self, graph: fx.Graph, meta: dict[str, Any], equation: str, nodes: Sequence[Any]
    ) -> None:
        self.graph = graph
        self.meta = meta
        ranks = [node.meta["val"].dim() for node in nodes]
        terms, self.output = _parsed(equation, ranks)
        self.operands = [
            self._one_axis_per_label(node, labels)
            for node, labels in zip(nodes, terms, strict=True)
        ]

    def result(self) -> fx.Node:
        first, *rest = self.operands
        for i, second in enumerate(rest):
            needed = {*self.output, *(label for later in rest[i + 1 :] for label in later.labels)}
            first = self._product(first, second, needed)
        first = self._summed(first, set(self.output))
        return self._ordered(first, self.output).node

    def _call(self, target: Any, *args: Any) -> fx.Node:
        return _called(self.graph, self.meta, target, *args)

    # -- one operand ------------------------------------------------------------------------------

    def _one_axis_per_label(self, node: fx.Node, labels: Labels) -> _Operand:
        """Diagonals of axes with the same label, which come last."""
        for label in dict.fromkeys(labels):
            while labels.count(label) > 1:
                i = labels.index(label)
                j = labels.index(label, i + 1)
                node = self._call(aten.diagonal.default, node, 0, i, j)
                labels = (*labels[:i], *labels[i + 1 : j], *labels[j + 1 :], label)
        return _Operand(node, labels)

    def _summed(self, operand: _Operand, kept: set[str]) -> _Operand:
        """The operand without the labels that nothing keeps."""
        axes = [i for i, label in enumerate(operand.labels) if label not in kept]
        if not axes:
            return operand
        rest = tuple(label for label in operand.labels if label in kept)
        return _Operand(self._call(aten.sum.dim_IntList, operand.node, axes), rest)

    def _ordered(self, operand: _Operand, labels: Sequence[str]) -> _Operand:
        """The operand's axes in another order; labels that it lacks become axes of size 1."""
        order = [operand.labels.index(label) for label in labels if label in operand.labels]
        node = operand.node
        if order != list(range(len(order))):
            node = self._call(aten.permute.default, node, order)
        for axis, label in enumerate(labels):
            if label not in operand.labels:
                node = self._call(aten.unsqueeze.default, node, axis)
        return _Operand(node, tuple(labels))

    def _without_expansion(self, operand: _Operand, other: _Operand) -> _Operand:
        """The operand as it was before it was expanded to the other's size (weights, to features).

        Along the first axis it stays expanded: samples have their own copies of what is learned.
        """
        node, labels = operand.node, operand.labels
        if node.target not in (aten.expand.default, aten.expand_as.default):
            return operand
        source = node.args[0]
        assert isinstance(source, fx.Node)
        sizes = source.meta["val"].shape
        if len(sizes) != len(labels):
            return operand
        expanded = [
            (axis, label)
            for axis, label in enumerate(labels)
            if _is_one(sizes[axis]) and not _is_one(operand.size(label))
        ]
        if all(
            axis and label in other.labels and not _is_one(other.size(label))
            for axis, label in expanded
        ):
            return _Operand(source, labels)
        return operand

    def _without_broadcast(self, operand: _Operand, other: _Operand) -> _Operand:
        """The operand without axes of size 1 that stand for all of the other's."""
        node, labels = operand.node, list(operand.labels)
        for label in operand.labels:
            one = isinstance(operand.size(label), int) and operand.size(label) == 1
            if one and label in other.labels and not _is_one(other.size(label)):
                node = self._call(aten.squeeze.dim, node, labels.index(label))
                labels.remove(label)
        return _Operand(node, tuple(labels))

    # -- two operands -----------------------------------------------------------------------------

    def _product(self, left: _Operand, right: _Operand, needed: set[str]) -> _Operand:
        left, right = self._without_expansion(left, right), self._without_expansion(right, left)
        left, right = self._without_broadcast(left, right), self._without_broadcast(right, left)
        left = self._summed(left, needed | set(right.labels))
        right = self._summed(right, needed | set(left.labels))
        shared = [label for label in left.labels if label in right.labels]
        batch = [label for label in shared if label in needed]
        contracted = [label for label in shared if label not in needed]
        of_left = [label for label in left.labels if label not in shared]
        of_right = [label for label in right.labels if label not in shared]
        if not contracted:
            labels = (*batch, *of_left, *of_right)
            ours, theirs = self._ordered(left, labels), self._ordered(right, labels)
            return _Operand(self._call(aten.mul.Tensor, ours.node, theirs.node), labels)
        if not batch and len(of_left) < len(
            of_right
        ):  # a weight comes second, as in a linear layer
            left, right, of_left, of_right = right, left, of_right, of_left
        ours = self._ordered(left, (*batch, *of_left, *contracted))
        theirs = self._ordered(right, (*batch, *contracted, *of_right))
        start = len(batch)
        rows = (
            None if not batch and of_left else of_left
        )  # a product broadcasts leading axes itself
        x = self._joined(ours.node, start, rows, len(of_left), len(contracted))
        y = self._joined(theirs.node, start, contracted, len(contracted), len(of_right))
        made = self._call(aten.matmul.default, x, y)
        made = self._parted(made, made.meta["val"].dim() - 1, right, of_right)
        if rows is not None:
            made = self._parted(made, start, left, of_left)
        return _Operand(made, (*batch, *of_left, *of_right))

    def _joined(
        self, node: fx.Node, start: int, first: Sequence[str] | None, count: int, last: int
    ) -> fx.Node:
        """Two runs of axes, of `count` and `last`, made one axis each (the first kept if None)."""
        node = self._as_one(node, start + count, last)
        return node if first is None else self._as_one(node, start, count)

    def _as_one(self, node: fx.Node, start: int, count: int) -> fx.Node:
        if count == 0:
            return self._call(aten.unsqueeze.default, node, start)
        if count == 1:
            return node
        return self._call(aten.flatten.using_ints, node, start, start + count - 1)

    def _parted(self, node: fx.Node, axis: int, of: _Operand, labels: Sequence[str]) -> fx.Node:
        """One axis split into those of `labels`."""
        if not labels:
            return self._call(aten.squeeze.dim, node, axis)
        if len(labels) == 1:
            return node
        sizes = [self._size(of, label) for label in labels]
        return self._call(aten.unflatten.int, node, axis, sizes)

    def _size(self, operand: _Operand, label: str) -> Any:
        size = operand.size(label)
        if isinstance(size, int):
            return size
        return self._call(aten.sym_size.int, operand.node, operand.labels.index(label))


def _is_one(size: int | torch.SymInt) -> bool:
    return isinstance(size, int) and size == 1


def _parsed(equation: str, ranks: Sequence[int]) -> tuple[list[Labels], Labels]:
    """The labels of each operand and of the output; an ellipsis becomes labels of its own."""
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    terms = inputs.split(",")
    hidden = [
        rank - len(term.replace("...", "")) if "..." in term else 0
        for term, rank in zip(terms, ranks, strict=True)
    ]
    everything = tuple(f".{i}" for i in range(max(hidden)))

    def labels(term: str, count: int) -> Labels:
        before, dots, after = term.partition("...")
        return (*before, *(everything[len(everything) - count :] if dots else ()), *after)

    found = [labels(term, count) for term, count in zip(terms, hidden, strict=True)]
    if arrow:
        return found, labels(output, len(everything))
    letters = inputs.replace(",", "").replace(".", "")
    once = sorted(letter for letter in set(letters) if letters.count(letter) == 1)
    return found, (*everything, *once)
