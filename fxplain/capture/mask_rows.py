"""Masks made some queries at a time, so that one that a kernel knows by itself is never there whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from fxplain.capture.captured import operation_name
from fxplain.capture.masks import needed_rows

__all__ = ["MaskRows"]

_ELEMENTWISE = frozenset({
    "__and__", "__or__", "__xor__", "where", "to", "_to_copy",
    "clone", "contiguous", "alias", "detach", "lift_fresh_copy",
})  # fmt: skip
"""Operations element by element that ATen does not tag as such."""

_FILLED = frozenset({"ones", "zeros", "full"})
"""Operations that make one value of a size, their first argument."""


class MaskRows:
    """A mask (..., queries, keys) as a function, element by element, of values that are small.

    Most models compare the numbers of queries (n, 1) with those of keys (n,). Called with what attends,
    (..., queries, features), and these values, it gives what `needed_mask` gives for the mask.

    Attributes
    ----------
    given
        The small values, and sizes.
    steps
        The nodes that make it of these, itself the last.
    """

    def __init__(self, mask: fx.Node, steps: Sequence[fx.Node], given: Sequence[fx.Node]) -> None:
        self._mask, self.steps = mask, tuple(steps)
        self.given = tuple(given)
        self.__name__ = f"{mask.name}_by_rows"

    @classmethod
    def of(cls, mask: fx.Node) -> MaskRows | None:
        """How to make a mask by rows; None where it is not made of small values."""
        steps: dict[fx.Node, None] = {}
        given: dict[fx.Node, None] = {}

        def small(node: fx.Node) -> bool:
            """Follow a value back, its operands first; whether it comes of small ones."""
            if node in steps or node in given:
                return True
            if _is_small(node):
                given[node] = None
                return True
            if not _by_rows(node) or not all(map(small, node.all_input_nodes)):
                return False
            steps[node] = None
            return True

        if not small(mask) or mask in given:
            return None
        return cls(mask, [*steps], [*given])

    def __call__(self, query: Tensor, *values: Any) -> Tensor | str | None:
        """What is needed of the mask."""
        known = dict(zip(self.given, values, strict=True))

        def rows(start: int, stop: int) -> Tensor:
            made = {node: _narrowed(value, start, stop) for node, value in known.items()}
            for step in self.steps:
                made[step] = _of_rows(step, made, start, stop)
            found: Tensor = made[self._mask]
            return found

        return needed_rows(rows, query.shape[-2])


def _is_small(node: fx.Node) -> bool:
    """Whether a value is a number, or a tensor that does not vary along queries and keys both."""
    value = node.meta.get("val")
    if not isinstance(value, Tensor):
        return isinstance(value, (int, float, bool, torch.SymInt))
    sizes: list[Any] = [size for size in value.shape[-2:] if type(size) is int]
    return value.dim() < 2 or 1 in sizes


def _by_rows(node: fx.Node) -> bool:
    """Whether some rows of a value are the same operation on these rows of the operands."""
    if node.op != "call_function":
        return False
    name, tags = operation_name(node), getattr(node.target, "tags", ())
    if torch.Tag.nondeterministic_seeded in tags:
        return False
    if name == "unsqueeze":
        place, rank = node.args[1], node.meta["val"].dim()
        return isinstance(place, int) and place % rank < rank - 2
    known = name in _ELEMENTWISE or name in _FILLED or torch.Tag.pointwise in tags
    return known or name in ("expand", "tril", "triu")


def _narrowed(value: Any, start: int, stop: int) -> Any:
    """The rows of an operand; one that is the same for all queries stays as it is."""
    if isinstance(value, Tensor) and value.dim() > 1 and value.shape[-2] > 1:
        return value.narrow(-2, start, stop - start)
    return value


def _of_rows(step: fx.Node, made: Mapping[fx.Node, Any], start: int, stop: int) -> Any:
    name = operation_name(step)
    if name not in ("expand", "tril", "triu", *_FILLED):
        return _called(step, made)
    args, kwargs = _given(step, made)
    if name in ("tril", "triu"):
        x, diagonal = args[0], args[1] if len(args) > 1 else kwargs.get("diagonal", 0)
        return step.target(x, diagonal + start)  # type: ignore[operator]
    place = 1 if name == "expand" else 0
    sizes = list(args[place])
    if sizes[-2] != 1:
        sizes[-2] = stop - start
    return step.target(*args[:place], sizes, *args[place + 1 :], **kwargs)  # type: ignore[operator]


def _called(step: fx.Node, made: Mapping[fx.Node, Any]) -> Any:
    args, kwargs = _given(step, made)
    return step.target(*args, **kwargs)  # type: ignore[operator]


def _given(step: fx.Node, made: Mapping[fx.Node, Any]) -> tuple[list[Any], dict[str, Any]]:
    args, kwargs = fx.map_arg((step.args, step.kwargs), made.__getitem__)
    return list(args), kwargs
