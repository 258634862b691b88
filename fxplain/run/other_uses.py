"""Other uses: what reads attention weights beside the contraction with their values.

Relative values from a learned table, the words that a pointer copies, a penalty on the weights: what
such a use says to the weights is a part of dy/dA, too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from fxplain.capture import operation_name
from fxplain.tokens import AttentionSite

__all__ = ["OtherUse", "consumer", "other_uses"]

_MOVES = frozenset(
    [
        "view", "reshape", "_unsafe_view", "flatten", "unflatten", "permute", "transpose", "t", "mT",
        "unsqueeze", "squeeze", "contiguous", "clone", "alias", "dropout", "to", "_to_copy",
    ]
)  # fmt: skip
"""Operations that keep every element, wherever they lay it."""


@dataclass(frozen=True, eq=False)
class OtherUse:
    """A value that becomes attention weights by movement alone, and is read by others before.

    Attributes
    ----------
    node
        The value.
    users
        The others.
    moved
        The steps from the value to the weights, in order.
    """

    node: fx.Node
    users: tuple[fx.Node, ...]
    moved: tuple[fx.Node, ...]


def other_uses(site: AttentionSite, sites: Iterable[AttentionSite]) -> tuple[OtherUse, ...]:
    """The other uses of a site's weights, back to where they were normalised.

    Weights that are returned as they are, that other sites contract, or that are divided by what is
    computed of them, have no other use.
    """
    if site.form == "fused" or site.division is not None:
        return ()
    assert site.weights is not None
    contracted = {consumer(s.node, s.weights) for s in sites if s.weights is not None}
    before = _before(site.weights)
    node, following = site.weights, contracted
    moved: list[fx.Node] = []
    found = []
    while True:
        users = tuple(
            user
            for user in node.users
            if user not in following and user not in before and _matters(user, contracted)
        )
        if users:
            found.append(OtherUse(node, users, tuple(reversed(moved))))
        if operation_name(node) not in _MOVES or len(node.all_input_nodes) != 1:
            return tuple(found)
        following = {*contracted, node}
        moved.append(node)
        node = node.all_input_nodes[0]


def consumer(contraction: fx.Node, weights: fx.Node) -> fx.Node:
    """The call that first uses `weights` on the way to `contraction`."""
    todo, seen = [contraction], set[fx.Node]()
    while todo:
        node = todo.pop(0)
        if weights in node.all_input_nodes:
            return node
        todo += [n for n in node.all_input_nodes if n not in seen]
        seen.update(node.all_input_nodes)
    raise AssertionError(f"{contraction} does not use {weights}")


def _before(weights: fx.Node) -> set[fx.Node]:
    """What weights are computed from."""
    found, todo = set[fx.Node](), [weights]
    while todo:
        fresh = [n for n in todo.pop().all_input_nodes if n not in found]
        found.update(fresh)
        todo += fresh
    return found


def _matters(node: fx.Node, contracted: set[fx.Node]) -> bool:
    """Whether a gradient may come back from a use: it computes something of what it reads."""
    value = node.meta.get("val")
    if node.op == "output" or node in contracted:
        return False
    if isinstance(value, Tensor) and not (value.dtype.is_floating_point or value.dtype.is_complex):
        return False
    if operation_name(node) in (*_MOVES, "expand", "slice", "select", "detach"):
        return any(_matters(user, contracted) for user in node.users)
    return torch.Tag.nondeterministic_seeded not in getattr(node.target, "tags", ())
