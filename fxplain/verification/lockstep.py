"""Lockstep: the captured graph run twice side by side, once as it is and once disturbed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from fxplain.capture import LeanCalls, attribute_of, operation_name
from fxplain.tokens.arguments import arguments

__all__ = ["Compare", "lockstep"]

Compare = Callable[[fx.Node, Any, Any], None]
"""Takes a node, its value as it is and its value in the disturbed run."""


def lockstep(
    module: fx.GraphModule,
    values: Sequence[Any],
    *,
    frozen: Collection[fx.Node],
    anew: Mapping[fx.Node, Tensor],
    noise: Mapping[fx.Node, Callable[[Tensor], Tensor]],
    compare: Compare,
    picks: Collection[fx.Node] = (),
) -> int:
    """Run a graph as it is and disturbed, node by node, and compare the two.

    In the disturbed run `frozen` nodes, and everything that is no float, keep the value that the other
    run has: what is left is what one value depends on directly, and the way it was chosen (an argmax,
    the order of a sort) stays as it was. What no disturbance has reached is computed once.

    Parameters
    ----------
    module, values
        The graph and the values of its placeholders.
    frozen
        Nodes that keep their value.
    anew
        Elements of nodes (masks that broadcast) that keep their value, whatever comes to them.
    noise
        For each disturbed node, what its value is replaced by.
    compare
        Called for each node that a disturbance may have reached, before its value is dropped.
    picks
        Reductions that pick one of several (a maximum): it is the one that the other run picked.

    Returns
    -------
    int
        How many calls the disturbed run took for itself.
    """
    plain: dict[fx.Node, Any] = {}
    other: dict[fx.Node, Any] = {}  # where it may differ
    lean = LeanCalls(module.graph, _may_differ(module.graph, noise, frozen))
    uses = lean.uses(module.graph)
    given = iter(values)
    calls = 0
    for node in module.graph.nodes:
        if node.op == "output":
            break
        if node in lean.left_out:
            continue
        if node.op == "placeholder":
            plain[node] = next(given)
        elif node.op == "get_attr":
            plain[node] = attribute_of(module, node)
        else:
            plain[node] = lean.value(node, plain.__getitem__)
            reached = any(n in other for n in node.all_input_nodes)
            if reached and node not in frozen and _is_content(plain[node]):
                alike = _picked_alike(node, plain, other, picks)
                other[node] = (
                    lean.value(node, lambda n: other[n] if n in other else plain[n])
                    if alike is None
                    else alike
                )
                other[node] = _cancelled(node, plain, other)
                calls += 1
        if node in anew and node in other:
            mask = anew[node].to(other[node].device)
            other[node] = _laid_out(torch.where(mask, plain[node], other[node]), plain[node])
        if node in noise:
            other[node] = _laid_out(noise[node](other.get(node, plain[node])), plain[node])
        if node in other:
            compare(node, plain[node], other[node])
        for used in lean.reads(node):
            uses[used] -= 1
            if not uses[used]:
                plain.pop(used, None)
                other.pop(used, None)
    return calls


def _may_differ(
    graph: fx.Graph, noise: Collection[fx.Node], frozen: Collection[fx.Node]
) -> set[fx.Node]:
    """The nodes that a disturbance may reach."""
    found = set(noise)
    for node in graph.nodes:
        reached = node not in frozen and any(n in found for n in node.all_input_nodes)
        if reached and _is_content(node.meta.get("val", _UNKNOWN)):
            found.add(node)
    return found


_UNKNOWN = torch.empty(0)


def _picked_alike(
    node: fx.Node,
    plain: Mapping[fx.Node, Any],
    other: Mapping[fx.Node, Any],
    picks: Collection[fx.Node],
) -> Tensor | tuple[Tensor, Tensor] | None:
    """What is picked by rank, from the places where it is as it is; None for other operations."""
    ranks = operation_name(node) in ("topk", "sort")
    source = node.args[0] if ranks or node in picks else None
    if not isinstance(source, fx.Node) or source not in other:
        return None
    named = arguments(node)
    dim = named.get("dim", -1)
    axis = int(dim[0] if isinstance(dim, (list, tuple)) else dim)
    if isinstance(plain[node], Tensor):
        lowest = operation_name(node) in ("min", "amin")
        places = (plain[source].argmin if lowest else plain[source].argmax)(axis, keepdim=True)
        picked: Tensor = other[source].gather(axis, places)
        return picked if named.get("keepdim") else picked.squeeze(axis)
    _, places = plain[node]
    if ranks or named.get("keepdim"):
        return other[source].gather(axis, places), places
    return other[source].gather(axis, places.unsqueeze(axis)).squeeze(axis), places


_ADD = ("add", "sub", "subtract", "rsub")
_BACK = ("fft_irfft", "fft_ifft", "fft_irfft2", "fft_ifft2", "fft_irfftn", "fft_ifftn")
_ROUNDED = 256
"""Units in the last place of the largest number: what rounding leaves where equals are taken off."""


def _cancelled(node: fx.Node, plain: Mapping[fx.Node, Any], other: Mapping[fx.Node, Any]) -> Any:
    """A difference of two values that moved alike: what is left of that is rounding.

    So it is where frequencies cancel out, as a transform back from them has it.
    """
    parts = node.all_input_nodes
    if operation_name(node) in _BACK:
        unit = _ROUNDED * torch.finfo(plain[node].dtype).eps
        unit *= float(plain[node].abs().nan_to_num(0, 0, 0).amax())
        still = (other[node] - plain[node]).abs() <= unit
        return _laid_out(torch.where(still, plain[node], other[node]), plain[node])
    if operation_name(node) not in _ADD or len(parts) != 2 or not all(n in other for n in parts):
        return other[node]
    unit = max(float(plain[n].abs().nan_to_num(0, 0, 0).amax()) for n in parts)
    unit *= _ROUNDED * torch.finfo(plain[node].dtype).eps
    moved = [(other[n] - plain[n]).abs() > unit for n in parts]
    still = (other[node] - plain[node]).abs() <= unit
    rounded = torch.where(moved[0] & moved[1] & still, plain[node], other[node])
    return _laid_out(rounded, plain[node])


def _laid_out(value: Any, like: Any) -> Any:
    """A tensor in the memory layout of another one: kernels round by layout, and bits are compared."""
    if not isinstance(value, Tensor) or value.stride() == like.stride() or 0 in like.stride():
        return value
    result = torch.empty_strided(like.shape, like.stride(), dtype=like.dtype, device=like.device)
    return result.copy_(value)


def _is_content(value: Any) -> bool:
    """Whether a value may carry tokens: floats, or several tensors with floats among them."""
    if isinstance(value, Tensor):
        return value.dtype.is_floating_point or value.dtype.is_complex
    if isinstance(value, (tuple, list)):
        return any(_is_content(part) for part in value)
    return False
