"""Elements: which element of the user's inputs each entry of a value computed from them is.

Inputs are cut, folded and padded before they are looked up: a long text becomes several rows of
chunks. The sample of a token is that of the input element that it was made of, wherever it went.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from fxplain.capture import Capture, ModelInputs, operation_name
from fxplain.tokens.arguments import arguments
from fxplain.tokens.kinds import Kind
from fxplain.tokens.values import Values

__all__ = ["Argument", "Elements", "completed", "in_order"]

UNKNOWN = -1

_SORTED = ("sort", "topk", "_unique2", "_unique")

_INDICES = frozenset(["index", "indices", "mask"])
"""What operations that move elements call the operands that say where to."""


@dataclass(frozen=True)
class Argument:
    """One of the user's tensors, whose elements are numbered from `first` on.

    `words` says whether it is of integers, of which each is looked up by itself; `batch_axis` is where
    its samples lie.
    """

    name: str
    first: int
    shape: tuple[int, ...]
    words: bool
    batch_axis: int | None


_FILLERS = ("value", "padding_value")
"""What they call the number that is written where nothing is moved to."""


class Elements:
    """Runs what happens to integer inputs on the places of their elements.

    Parameters
    ----------
    capture, values, inputs
        The graph, its concrete values and the user's tensors.
    origins
        The user's tensors that a node depends on.
    kind_of
        What an operation does to elements.
    """

    def __init__(
        self,
        capture: Capture,
        values: Values,
        inputs: ModelInputs,
        origins: Callable[[fx.Node], frozenset[str]],
        kind_of: Callable[[fx.Node], Kind],
    ) -> None:
        self._values, self._origins, self._kind_of = values, origins, kind_of
        self._found: dict[fx.Node, Tensor | None] = {}
        self._first: dict[str, int] = {}
        self._leaves = dict(zip(capture.inputs, inputs.leaves, strict=True))
        samples: list[Tensor] = []
        mixed: list[Tensor] = []  # as many as there are samples, but not one of each
        made: list[Argument] = []
        for i, (name, leaf) in enumerate(self._leaves.items()):
            self._first[name] = sum(len(before) for before in samples)
            axis, words = inputs.batch_axis_of(i), not leaf.is_floating_point()
            slot = capture.inputs[name]
            made.append(Argument(slot.name, self._first[name], tuple(leaf.shape), words, axis))
            samples.append(_samples(leaf, axis, inputs.batch_size))
            by_size = axis is None and leaf.shape[:1] == (inputs.batch_size,)
            mixed.append(torch.full((leaf.numel(),), by_size))
        self._samples, self._mixed = torch.cat(samples), torch.cat(mixed)
        self.arguments = tuple(made)

    def of(self, node: fx.Node) -> Tensor | None:
        """The input element of each entry of a node's value (-1 unknown), or None if all are unknown.

        An element's number counts through all inputs, in their order.
        """
        if node not in self._found:
            self._found[node] = None  # what is asked for in a circle is unknown
            self._found[node] = self._follow(node)
        return self._found[node]

    def samples(self, elements: Tensor | None) -> Tensor | None:
        """The sample of each element (-1 unknown), or None if all are unknown and a place may tell.

        What came from no element (a start token, padding) has the sample of its row, where the others
        of its row have one.
        """
        if elements is None:
            return None
        found = torch.where(elements >= 0, self._samples[elements.clamp(min=0)], UNKNOWN)
        for axis in range(found.dim()):
            if not bool((found < 0).any()):
                break
            found = completed(found, axis)
        told = bool((found >= 0).any()) or bool(self._mixed[elements.clamp(min=0)].any())
        return found if told else None

    def of_input(self, node: fx.Node) -> Tensor:
        """The elements of one of the user's tensors, in its shape."""
        leaf, first = self._leaves[node.name], self._first[node.name]
        return torch.arange(first, first + leaf.numel()).reshape(leaf.shape)

    # -- the walk ---------------------------------------------------------------------------------

    def _follow(self, node: fx.Node) -> Tensor | None:
        if node.op == "placeholder":
            return self.of_input(node) if node.name in self._leaves else None
        value = node.meta.get("val")
        if node.op != "call_function" or not isinstance(value, (Tensor, list, tuple)):
            return None
        kind = self._kind_of(node)
        if kind is Kind.ITEM or (kind is Kind.MOVES and isinstance(value, Tensor)):
            return self._moved(node)
        if kind in (Kind.MOVES, Kind.FRESH) or not isinstance(value, Tensor):
            return None
        if operation_name(node) == "one_hot":
            words = self.of(node.args[0])  # type: ignore[arg-type]
            return None if words is None else words[..., None].expand(self._values.shape(node))
        return self._reduced(node) if kind is Kind.REDUCES else self._beside(node)

    def _moved(self, node: fx.Node) -> Tensor | None:
        """The very same operation, run on the elements of what it moves."""
        source = node.args[0] if node.args else None
        if isinstance(source, fx.Node) and not isinstance(source.meta.get("val"), Tensor):
            return self._piece(source, node.args[1])
        named = self._operands(node)
        if named is None:
            return None
        target: Any = node.target
        args, kwargs = named
        moved = target(*args, **kwargs)
        fits = isinstance(moved, Tensor) and tuple(moved.shape) == self._values.shape(node)
        return moved if fits else None  # of numbers that say how often, elements say nothing

    def _piece(self, source: fx.Node, place: Any) -> Tensor | None:
        """One of the pieces that a value was split into, or what was sorted out of it."""
        if operation_name(source) in _SORTED and place == 0:
            return self._sorted(source)
        named = self._operands(source) if self._kind_of(source) is Kind.MOVES else None
        if named is None:
            return None
        target: Any = source.target
        args, kwargs = named
        return target(*args, **kwargs)[place]  # type: ignore[no-any-return]

    def _sorted(self, node: fx.Node) -> Tensor | None:
        """The elements of what was sorted, or of the first of each kind."""
        named = arguments(node)
        found = self.of(named["input"])
        if found is None:
            return None
        made = self._values.value(node)
        if "unique" not in operation_name(node):
            dim = -1 if named.get("dim") is None else named["dim"]
            return found.gather(dim, made[1].cpu())
        kind = made[1].cpu().flatten()
        if len(kind) != found.numel():
            return None  # without the inverse, what stands where is not known
        first = torch.full((len(made[0]),), torch.iinfo(torch.int64).max)
        return first.scatter_reduce(0, kind, found.flatten(), "amin")

    def _operands(self, node: fx.Node) -> tuple[list[Any], dict[str, Any]] | None:
        """The arguments of a moving operation with elements in the place of what is moved."""
        schema = getattr(node.target, "_schema", None)
        if schema is None:
            return None
        known = False

        def elements(operand: fx.Node) -> Any:
            nonlocal known
            if not isinstance(operand.meta.get("val"), Tensor):
                return self._values.value(operand)
            found = self.of(operand)
            shape = self._values.shape(operand)
            known |= found is not None
            return torch.full(shape, UNKNOWN) if found is None else found

        def given(name: str, value: Any) -> Any:
            if name in _INDICES:
                return _on_cpu(self._values.concrete(value))
            return fx.map_arg(value, elements)

        names = [argument.name for argument in schema.arguments]
        given_by_name = [*zip(names, node.args, strict=False), *node.kwargs.items()]
        moved = [value for name, value in given_by_name if name not in _INDICES]
        fx.map_arg(moved, elements)
        if not known:
            return None  # reading the places would make the analysis hold for these inputs only
        args = [given(name, value) for name, value in zip(names, node.args, strict=False)]
        kwargs = {name: given(name, value) for name, value in node.kwargs.items()}
        filled = next((name for name in _FILLERS if name in names), None)
        if filled is not None and _is_number(arguments(node), filled):
            place = names.index(filled)
            if place < len(args):
                args[place] = UNKNOWN
            else:
                kwargs[filled] = UNKNOWN
        return args, kwargs

    def _reduced(self, node: fx.Node) -> Tensor | None:
        """Several elements at once: one of them, for all of one sample are alike."""
        named = arguments(node)
        source = named.get("input")
        found = self.of(source) if isinstance(source, fx.Node) else None
        if found is None:
            return None
        dims = self._values.concrete(named.get("dim"))
        axes = [dims] if isinstance(dims, int) else list(dims or range(found.dim()))
        reduced = found.amax(axes, keepdim=bool(named.get("keepdim")))
        return reduced if tuple(reduced.shape) == self._values.shape(node) else None

    def _beside(self, node: fx.Node) -> Tensor | None:
        """Entry by entry: of what stands at a place, the element that comes first in the call.

        What lies in the call's order goes before what was moved beside it (a word, and the one before
        it, as one number). What only chooses (a condition), or is compared with bounds (a place in the
        unit square), is not what stands there.
        """
        if operation_name(node) in ("bucketize", "searchsorted"):
            return None
        shape = self._values.shape(node)
        result: Tensor | None = None
        chosen = operation_name(node) == "where"
        for operand in node.all_input_nodes[1 if chosen else 0 :]:
            if not isinstance(operand.meta.get("val"), Tensor):
                continue
            if not _broadcasts(self._values.shape(operand), shape):
                return None
            found = self.of(operand)
            if found is None:
                continue
            found = found.expand(shape)
            if result is None or in_order(found) > in_order(result):
                result = found
            elif in_order(found) == in_order(result):
                earlier = (result >= 0) & ((found < 0) | (result <= found))
                result = torch.where(earlier, result, found)
        return result


def _is_number(named: dict[str, Any], filler: str) -> bool:
    """Whether an operation writes a number, given or by default, where nothing was moved to."""
    return named.get("mode", "constant") == "constant" and not isinstance(named[filler], fx.Node)


def _samples(leaf: Tensor, axis: int | None, batch: int) -> Tensor:
    """The sample of each element of an input, flat; -1 where it has no axis for samples."""
    if axis is None:
        return torch.full((leaf.numel(),), 0 if batch == 1 else UNKNOWN)
    sizes = [1] * leaf.dim()
    sizes[axis] = leaf.shape[axis]
    return torch.arange(leaf.shape[axis]).reshape(sizes).expand(leaf.shape).flatten()


def in_order(elements: Tensor) -> bool:
    """Whether all elements are known and lie as in the call."""
    each = elements.flatten()
    return bool((each >= 0).all()) and bool((each[1:] > each[:-1]).all())


def completed(samples: Tensor, axis: int) -> Tensor:
    """Unknown samples filled in where all known ones of the same index along `axis` agree."""
    others = [a for a in range(samples.dim()) if a != axis]
    high = samples.amax(others, keepdim=True) if others else samples
    known = torch.where(samples < 0, torch.iinfo(torch.int64).max, samples)
    low = known.amin(others, keepdim=True) if others else known
    if not bool((high == low).all()):
        return samples
    return torch.where(samples < 0, high, samples)


def _broadcasts(shape: Sequence[int], to: Sequence[int]) -> bool:
    if len(shape) > len(to):
        return False
    tail = to[len(to) - len(shape) :]
    return all(own in (1, wanted) for own, wanted in zip(shape, tail, strict=True))


def _on_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.cpu()
    return [_on_cpu(each) for each in value] if isinstance(value, (list, tuple)) else value
