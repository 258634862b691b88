"""Lean: a captured graph's calls with no more memory than they need.

A mask that attention's kernels know by themselves is never there whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any

from torch import Tensor, fx

from fxplain.capture.captured import attribute_of, called
from fxplain.capture.mask_rows import MaskRows
from fxplain.capture.masks import FUSED, fused_arguments, fused_attention, needed_mask

__all__ = ["LeanCalls", "run_leanly"]


class LeanCalls:
    """How the nodes of a graph are called where masks of fused attention are made by rows.

    Parameters
    ----------
    graph
        Whose nodes they are.
    whole
        Nodes whose value is asked for, also where they are parts of a mask.

    Attributes
    ----------
    left_out
        Nodes that need no value.
    """

    def __init__(self, graph: fx.Graph, whole: Collection[fx.Node] = ()) -> None:
        self._masks: dict[fx.Node, MaskRows] = {}
        for node in graph.find_nodes(op="call_function", target=FUSED):
            mask = fused_arguments(node).get("attn_mask")
            if isinstance(mask, fx.Node) and _serves_attention_alone(mask):
                rows = MaskRows.of(mask)
                if rows is not None and not any(step in whole for step in rows.steps):
                    self._masks[mask] = rows
        self.left_out: set[fx.Node] = set()
        parts = {step for rows in self._masks.values() for step in rows.steps} - {*self._masks}
        for node in reversed(graph.nodes):
            if node in parts and all(n in self._masks or n in self.left_out for n in node.users):
                self.left_out.add(node)

    def reads(self, node: fx.Node) -> Sequence[fx.Node]:
        """The nodes whose values a call asks for."""
        if node in self.left_out:
            return ()
        return self._masks[node].given if node in self._masks else node.all_input_nodes

    def uses(self, graph: fx.Graph) -> Counter[fx.Node]:
        """How often each value is asked for."""
        return Counter(used for node in graph.nodes for used in self.reads(node))

    def value(self, node: fx.Node, value_of: Callable[[fx.Node], Any]) -> Any:
        """The value of a call; fused attention is given no more of a mask than it needs.

        Its kernels turn a mask of yes and no to numbers, four times as much memory.
        """
        if node in self._masks:
            return _MaskToCome(self._masks[node], [*map(value_of, self._masks[node].given)])
        named = fused_arguments(node) if node.target is FUSED else {}
        mask = named.get("attn_mask")
        if not isinstance(mask, fx.Node):
            return called(node, value_of)

        def place(operand: fx.Node) -> Any:
            value = value_of(operand)
            if operand is not mask:
                return value
            if isinstance(value, _MaskToCome):
                return value.needed(value_of(named["query"]))
            return needed_mask(value)

        given: Any = fx.map_arg((node.args, node.kwargs), place)
        return fused_attention(*given[0], **given[1])


def _serves_attention_alone(mask: fx.Node) -> bool:
    """Whether nothing but fused attention reads a value, as its mask."""
    return all(
        user.target is FUSED
        and fused_arguments(user).get("attn_mask") is mask
        and [*_operands(user)].count(mask) == 1
        for user in mask.users
    )


def _operands(node: fx.Node) -> list[fx.Node]:
    """The operands of a call, each as often as it stands there."""
    found: list[fx.Node] = []
    fx.map_arg((node.args, node.kwargs), found.append)
    return found


class _MaskToCome:
    """A mask that is made when it is known how many queries it is for."""

    def __init__(self, rows: MaskRows, values: Sequence[Any]) -> None:
        self._rows, self._values = rows, values
        self._made: tuple[Tensor | str | None] | None = None

    def needed(self, query: Tensor) -> Tensor | str | None:
        """What is needed of it: the same for all that read it."""
        if self._made is None:
            self._made = (self._rows(query, *self._values),)
        return self._made[0]


def run_leanly(module: fx.GraphModule, values: Sequence[Any]) -> Any:
    """The outputs of a graph for the values of its placeholders; what was read is dropped."""
    calls, known, given = LeanCalls(module.graph), dict[fx.Node, Any](), iter(values)
    uses = calls.uses(module.graph)
    for node in module.graph.nodes:
        if node.op == "output":
            break
        if node in calls.left_out:
            continue
        if node.op == "placeholder":
            known[node] = next(given)
        elif node.op == "get_attr":
            known[node] = attribute_of(module, node)
        else:
            known[node] = calls.value(node, known.__getitem__)
        for used in calls.reads(node):
            uses[used] -= 1
            if not uses[used]:
                del known[used]
    return fx.map_arg(node.args[0], known.__getitem__)
