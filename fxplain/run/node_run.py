"""What one attention node saw in a run: its weights A and dy/dA, whole or for some of its queries."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fxplain.capture import CAUSAL, fused_arguments
from fxplain.program import ProgramNode
from fxplain.rewriting.fused import (
    allowed_scores,
    grouped,
    scaled_scores,
    softmax,
    wide,
)
from fxplain.run.scratch import Scratch
from fxplain.tokens import framed

__all__ = ["NodeRun", "Remade"]


class Remade(Sequence[Any]):
    """Operands that are made again whenever they are looked at.

    Parameters
    ----------
    make
        Makes them.
    first
        What it makes; of its tensors no more is kept than shape, type and device.
    """

    def __init__(self, make: Callable[[], Sequence[Any]], first: Sequence[Any]) -> None:
        self._make = make
        self.alike = tuple(
            x.new_empty(1).expand(x.shape) if isinstance(x, Tensor) else x for x in first
        )

    def __getitem__(self, i: Any) -> Any:
        return self._make()[i]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._make())

    def __len__(self) -> int:
        return len(self.alike)


@dataclass(eq=False)
class NodeRun:
    """What one attention node saw.

    Attributes
    ----------
    node
        The attention node.
    operands
        (query, key, value, mask) of a fused node, with the mask that `needed_mask` found, (weights,
        values) of the others, with queries and transposed keys behind them where they were asked for
        and are told.
    output
        The contraction's output.
    scale
        For a node whose weights are divided by their sum after they were contracted, what that does
        to each query's weights, (..., queries, 1).
    gradient
        dy/d(output) after `Run.backward`; None where the target does not depend on the node.
    share
        The part of it that the weights get.
    beside
        What else reads the weights: a value, and the places of the weights' elements in it.
    of_others
        What dy/dA gets from there, (..., queries, keys), after `Run.backward`.
    queries
        The queries that this is about, where it is a part of what the node saw.
    keys
        How many of the first keys this is about, where it is not about all.
    awaited
        Whether the gradient is still to come: a backward is about to bring it, or to pass by.
    scratch
        Where weights and their gradient are made, if anywhere: then they last until they are asked for
        again, of this part or another.
    """

    node: ProgramNode
    operands: Sequence[Any]
    output: Tensor
    scale: Tensor | None = None
    gradient: Tensor | None = None
    share: float = 1.0
    beside: tuple[tuple[Tensor, Tensor], ...] = ()
    of_others: Tensor | None = None
    queries: slice | Tensor | None = None
    keys: int | None = None
    awaited: bool = False
    scratch: Scratch | None = None

    @property
    def alike(self) -> Sequence[Any]:
        """The operands, to be asked for their shapes, types and devices alone."""
        return self.operands.alike if isinstance(self.operands, Remade) else self.operands

    # -- parts --------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the weights, (..., queries, keys)."""
        *lead, queries, keys = self.node.site.shape
        if self.queries is not None:
            queries = len(_numbers(self.queries, queries))
        return (*lead, queries, keys if self.keys is None else self.keys)

    @property
    def divisible(self) -> bool:
        """Whether some queries can be looked at without the others."""
        site = self.node.site
        if site.form == "fused":
            return True
        if self.of_others is not None:
            return False
        return (
            site.form == "product"
            and all(x.dim() > 1 for x in self.alike if x is not None)
            and self.alike[0].shape[self._query_axis] == site.shape[-2]
        )

    @property
    def _query_axis(self) -> int:
        site = self.node.site
        return -2 if site.form == "fused" or site.weights_on_left else -1

    @property
    def _weights_only(self) -> bool:
        """Whether the backward pass was asked for what reaches the weights."""
        return self.alike[1] is None

    def apart(self, *, awaited: bool = False) -> NodeRun:
        """The same without ties to the run: no autograd graph, and no output.

        `awaited` where a backward is about to bring the gradient.
        """
        operands = self.operands
        if not isinstance(operands, Remade):
            operands = tuple(_freed(x) for x in operands)
        nothing = self.output.new_empty(0)
        return replace(self, operands=operands, output=nothing, beside=(), awaited=awaited)

    @property
    def pattern(self) -> Hashable | None:
        """By what A and dy/dA are made: the same for nodes that differ in `numbers` alone.

        None where nothing is made for several nodes at once.
        """
        parts = (self.gradient, self.scale, self.of_others, self.queries, self.keys)
        if parts[0] is None or any(part is not None for part in parts[1:]):
            return None
        if isinstance(self.operands, Remade) or self._weights_only:
            return None
        mask = self.operands[3] if self.node.site.form == "fused" else None
        kinds = tuple((x.shape, x.dtype, x.device) for x in self.numbers)
        return (
            self.node.pattern,
            self.share,
            kinds,
            id(mask) if isinstance(mask, Tensor) else mask,
        )

    @property
    def numbers(self) -> tuple[Tensor, ...]:
        """The operands, without a mask, and the gradient."""
        assert self.gradient is not None
        fused = self.node.site.form == "fused"
        return (*self.operands[: 3 if fused else 2], self.gradient)

    @property
    def stacks(self) -> bool:
        """Whether many of a pattern are one with a further first axis, by stacks of their `numbers`."""
        return self.node.site.form == "fused" and len({x.dim() for x in self.numbers}) == 1

    def repeated(self, numbers: Sequence[Tensor]) -> NodeRun:
        """As many of the node as the first axis of each of its stacked `numbers` is long."""
        node = self.node.repeated(len(numbers[0]))
        return replace(self.with_numbers(numbers), node=node)

    def with_numbers(self, numbers: Sequence[Tensor]) -> NodeRun:
        """The same node for other `numbers`."""
        *operands, gradient = numbers
        mask = self.operands[len(operands) :]
        return replace(self, operands=(*operands, *mask), gradient=gradient)

    def add_beside(self, gradients: Sequence[Tensor | None]) -> None:
        """Note what other uses of the weights say to them."""
        self.of_others = None
        for (_, places), gradient in zip(self.beside, gradients, strict=True):
            if gradient is None:
                continue
            moved = self._laid_out(gradient.flatten()[places])
            self.of_others = moved if self.of_others is None else self.of_others + moved
        if self.of_others is not None and self.gradient is None:  # they alone are read
            self.gradient = torch.zeros_like(self.output)

    def prepared(self, scratch: Scratch) -> NodeRun:
        """The same with what all parts would repeat done once: keys and values for every head."""
        if self.node.site.form != "fused" or self._weights_only:
            return self
        query, key, values, mask = self.operands
        keys = grouped(_freed(key).to(wide(query)), query.shape)
        operands = (query, keys, grouped(values, query.shape), mask)
        return replace(self, operands=operands, scratch=scratch)

    @property
    def is_causal(self) -> bool:
        """Whether the node is known to hide later keys, and no others."""
        if self.node.site.form != "fused":
            return False
        mask = self.operands[3]
        return mask is CAUSAL or (mask is None and _says_causal(self))

    def without_later_keys(self) -> NodeRun:
        """A part, of queries next to each other, without the keys that come after all of them."""
        assert self.is_causal
        assert isinstance(self.queries, slice)
        query, key, values, mask = self.operands
        keys = min(self.queries.stop, key.shape[-2])
        return replace(
            self, operands=(query, key[..., :keys, :], values[..., :keys, :], mask), keys=keys
        )

    def part(self, queries: slice | Tensor) -> NodeRun:
        """What the node saw for some of its queries, with all of their keys."""
        assert self.divisible, "the node shows its queries together only"
        gradient, scale = self.gradient, self.scale
        return replace(
            self,
            operands=self._operands_of(queries),
            gradient=None if gradient is None else _picked(gradient, queries, self._query_axis),
            scale=None if scale is None else _picked(scale, queries, -2),
            queries=queries,
        )

    def _operands_of(self, queries: slice | Tensor) -> Sequence[Any]:
        if self._weights_only:
            return self.operands
        first, *rest = self.operands
        first = _picked(first, queries, self._query_axis)
        if len(rest) == 3 and self.node.site.form != "fused":
            rest[1] = _picked(rest[1], queries, -2)
        if self.node.site.form == "fused":
            key, values, mask = rest
            if isinstance(mask, Tensor) and mask.dim() > 1 and mask.shape[-2] > 1:
                mask = _picked(mask, queries, -2)
            return (first, key, values, mask)
        return (first, *rest)

    # -- what methods weigh -------------------------------------------------------------------------

    def weights(self) -> Tensor:
        """A, the attention weights, (..., queries, keys)."""
        if self.node.site.form == "fused":
            return _fused_weights(self)
        weights = _real(self._laid_out(self.operands[0].detach()))
        return weights if self.scale is None else weights * self.scale

    def weights_gradient(self) -> Tensor:
        """dy/dA = dO V^T, (..., queries, keys)."""
        made = self._contracted_gradient()
        if self.of_others is not None:
            made = made + self.of_others.expand(made.shape)
        if self.scale is None:
            return made
        return torch.where(self.scale == 0, 0, made / self.scale)

    def queries_and_keys(self) -> tuple[Tensor, Tensor] | None:
        """Queries (..., queries, d) and transposed keys (..., d, keys); None where none are told."""
        if self.node.site.form == "fused":
            query, key = (_freed(x) for x in self.operands[:2])
            return query, grouped(key, query.shape).transpose(-1, -2)
        if len(self.operands) < 4:
            return None
        query, keys = (_freed(x) for x in self.operands[2:4])
        shape = (*torch.broadcast_shapes(query.shape[:-2], keys.shape[:-2]), query.shape[-2])
        return (query, keys) if (*shape, keys.shape[-1]) == self.shape else None

    def relevance(self) -> Tensor:
        """The relevance that reached A, (..., queries, keys)."""
        assert self.gradient is not None
        return self._laid_out(self.gradient)

    def _laid_out(self, weights: Tensor) -> Tensor:
        """A tensor like the weights as (..., queries, keys)."""
        site = self.node.site
        if site.form == "fused":
            return weights
        if site.form == "product":
            weights = weights if site.weights_on_left else weights.transpose(-1, -2)
            return weights.expand(self.shape) if weights.shape != self.shape else weights
        rank = max(weights.dim(), self.operands[1].dim())
        return framed(_with_axes(weights, rank), site.axis, site.query_axis)

    def _contracted_gradient(self) -> Tensor:
        assert self.gradient is not None
        site = self.node.site
        gradient = self.gradient if self.share == 1 else self.gradient * self.share
        if site.form == "fused":
            values = grouped(_freed(self.operands[2]), gradient.shape)
            out = self._memory("gradient", gradient)
            return torch.matmul(gradient, values.transpose(-1, -2), out=out)
        values = self.operands[1].detach().conj()
        if site.form == "product":
            return _real(_product_gradient(self, gradient, values))
        rank = max(values.dim(), self.operands[0].dim())
        if gradient.dim() < rank:
            gradient = gradient.unsqueeze(site.axis)
        shape = _with_axes(self.operands[0], rank).shape
        return _real(framed((gradient * values).sum_to_size(shape), site.axis, site.query_axis))

    def _memory(self, name: str, like: Tensor) -> Tensor | None:
        """Where a tensor of the weights' shape is to be made; None for memory of its own."""
        if self.scratch is None:
            return None
        *rows, _ = self.shape
        room = math.prod(rows) * self.node.site.shape[-1]  # later queries may see more keys
        return self.scratch.take(name, self.shape, like, room)

    def value_norms(self) -> Tensor:
        """The norm of each key's value vector, expanded to (..., queries, keys)."""
        site = self.node.site
        if site.form == "fused":
            query, _, values = (x.detach() for x in self.operands[:3])
            norms: Tensor = grouped(values, query.shape).norm(dim=-1).unsqueeze(-2)
            return norms.expand(*norms.shape[:-2], query.shape[-2], norms.shape[-1])
        values = self.operands[1].detach()
        if site.form == "product":
            if values.dim() > 1:
                values = values.norm(dim=-1 if site.weights_on_left else -2).unsqueeze(-2)
            of_keys: Tensor = values.abs()
            return of_keys.expand(self.shape)
        rank = max(values.dim(), self.operands[0].dim())
        shape = _with_axes(self.operands[0], rank).shape
        norms = (
            _with_axes(values, rank).square().expand(torch.broadcast_shapes(shape, values.shape))
        )
        norms = norms.sum_to_size(shape).sqrt()
        return framed(norms, site.axis, site.query_axis).expand(self.shape)


def _real(weights: Tensor) -> Tensor:
    """Weights are real numbers, also where they were made complex to weigh complex values."""
    return weights.real if weights.is_complex() else weights


def _product_gradient(run: NodeRun, gradient: Tensor, values: Tensor) -> Tensor:
    site = run.node.site
    weights = run.operands[0]
    if site.weights_on_left:
        if values.dim() == 1:
            return gradient.unsqueeze(-1) * values
        if weights.dim() == 1:
            return (gradient.unsqueeze(-2) @ values.transpose(-1, -2)).reshape(run.shape)
        made = gradient @ values.transpose(-1, -2)
    else:
        if values.dim() == 1:
            return (values.unsqueeze(-1) * gradient).transpose(-1, -2).reshape(run.shape)
        made = gradient.transpose(-1, -2) @ values
    if made.numel() > math.prod(run.shape):  # heads of values share their weights
        return made.sum_to_size(run.shape)
    return made.reshape(run.shape)


def _with_axes(weights: Tensor, rank: int) -> Tensor:
    return weights.reshape((1,) * (rank - weights.dim()) + tuple(weights.shape))


def _fused_weights(run: NodeRun) -> Tensor:
    query, key, _, mask = map(_freed, run.operands)
    named = fused_arguments(run.node.site.node)
    out = run._memory("weights", key)
    scores = scaled_scores(query, key, named.get("scale"), out=out)
    causal = mask is CAUSAL or _says_causal(run)
    mask = None if mask is CAUSAL else mask
    scores = allowed_scores(scores, mask, causal, run.queries, in_place=True)
    if mask is not None:
        return softmax(scores, out=out)
    return torch.softmax(scores, -1, out=out)


def _says_causal(run: NodeRun) -> bool:
    return bool(fused_arguments(run.node.site.node).get("is_causal", False))


def _freed(x: Any) -> Any:
    """An operand without its autograd graph."""
    return x.detach() if isinstance(x, Tensor) and x.requires_grad else x


def _picked(x: Tensor, queries: slice | Tensor, axis: int) -> Tensor:
    if isinstance(queries, Tensor):
        return x.index_select(axis, queries.to(x.device))
    return x.narrow(axis, queries.start, queries.stop - queries.start)


def _numbers(queries: slice | Tensor, count: int) -> range | Tensor:
    return queries if isinstance(queries, Tensor) else range(count)[queries]
