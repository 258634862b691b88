"""Instrument: a copy of the captured graph whose attention nodes report their ingredients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx
from torch._ops import OpOverload

from fxplain.capture import (
    ELSEWHERE,
    FUSED,
    Capture,
    MaskRows,
    fused_arguments,
    fused_attention,
    needed_mask,
    operation_name,
    source_goes_with,
)
from fxplain.program import BirthSite, ProgramNode
from fxplain.rewriting import PLAIN, Rewriting
from fxplain.run.disturbance import loudness, noisy
from fxplain.run.other_uses import OtherUse, consumer, other_uses
from fxplain.run.queries import queries_and_keys

__all__ = ["born_with", "instrumented", "tap"]


def tap(output: Tensor) -> Tensor:
    """Let gradients start here where nothing before needs them.

    The model's weights are frozen, so the first attention outputs are the leaves of the backward
    pass, and it stops there.
    """
    return output if output.requires_grad else output.detach().requires_grad_()


def _branch(value: Tensor) -> Tensor:
    """The same value under a gradient of its own."""
    return value.view_as(value) if value.requires_grad else tap(value)


def _numbered(value: Tensor) -> Tensor:
    """The place of every element, to be moved as the elements are."""
    return torch.arange(value.numel(), device=value.device).reshape(value.shape)


_SHARE: ContextVar[float | Tensor] = ContextVar("share", default=1.0)


@contextmanager
def born_with(share: float | Tensor) -> Iterator[None]:
    """Let tokens of runs in this context be born with a share of their value: one, or by token."""
    token = _SHARE.set(share)
    try:
        yield
    finally:
        _SHARE.reset(token)


def _born(site: BirthSite) -> Callable[[Tensor], Tensor]:
    new = site.tokens >= 0

    def born(x: Tensor) -> Tensor:
        share = _SHARE.get()
        if isinstance(share, Tensor):
            x = x * torch.where(new, share[site.tokens.clamp(min=0)], 1.0).to(x)
        elif share != 1:
            x = torch.where(new.to(x.device), x * share, x)
        return tap(x)

    return born


def instrumented(
    capture: Capture,
    nodes: Sequence[ProgramNode],
    rewriting: Rewriting = PLAIN,
    births: Sequence[BirthSite] = (),
    disturbed: Sequence[BirthSite] | None = None,
    *,
    queries: bool = False,
) -> fx.GraphModule:
    """A graph that returns (model outputs, one tuple of ingredients per node, births, other uses).

    The last ingredient of a node is its output; those before are its operands as `site.form` says:
    (query, key, value, mask) of a fused node, (weights, values) of the others, with what their scores
    are products of behind them where `queries` asks for it and it is told, and what was divided by the
    sum of its weights afterwards, if it was. Where the rewriting takes fused attention apart,
    that node's are (weights, None). The other uses are a list for each node of what its weights are
    read as beside, with the places of the weights' elements in that. Does not change `capture`.

    Where `disturbed` says at which values tokens are born, the graph asks there for noise, and behind
    each node how loud its heads are (`fxplain.run.disturbance`).
    """
    return _Instrumenting(capture, nodes, rewriting, births, disturbed, queries).run()


class _Instrumenting:
    def __init__(
        self,
        capture: Capture,
        nodes: Sequence[ProgramNode],
        rewriting: Rewriting,
        births: Sequence[BirthSite],
        disturbed: Sequence[BirthSite] | None,
        queries: bool,
    ) -> None:
        self.queries = queries
        self.capture, self.nodes, self.rewriting = capture, nodes, rewriting
        self.births = {site.node: site for site in births}
        self.silences = disturbed is not None
        self.noisy = {site.node: (site, i) for i, site in enumerate(disturbed or ())}
        self.sites = {node.site.node: node for node in nodes}
        self.graph = fx.Graph()
        self.copies: dict[fx.Node, fx.Node] = {}
        self.masks: dict[fx.Node, fx.Node] = {}
        self.reports: dict[str, tuple[Any, ...]] = {}
        self.tapped = self._weights_to_tap() if rewriting.taken_apart else {}
        sites = [node.site for node in nodes]
        self.uses = {
            node.index: () if rewriting.taken_apart else other_uses(node.site, sites)
            for node in nodes
        }
        self.branched = {use.node for uses in self.uses.values() for use in uses}
        self.branches: dict[fx.Node, fx.Node] = {}
        self.beside: dict[int, tuple[tuple[fx.Node, fx.Node], ...]] = {}

    def run(self) -> fx.GraphModule:
        for original in self.capture.graph.nodes:
            if original.op == "output":
                outputs = fx.map_arg(original.args[0], self.copies.__getitem__)
                reports = tuple(map(self._report, self.nodes))
                births = tuple(self.copies[node] for node in self.births)
                beside = tuple(self.beside[node.index] for node in self.nodes)
                self.graph.output((outputs, reports, births, beside))
                break
            self.copies[original] = self._copy(original)
            if original in self.branched:
                copy = self.copies[original]
                self.branches[original] = self.graph.call_function(_branch, (copy,))
        self.graph.eliminate_dead_code()
        _call_at_once(self.graph)
        return source_goes_with(fx.GraphModule(self.capture.graph_module, self.graph))

    def _copy(self, original: fx.Node) -> fx.Node:
        node = self.sites.get(original)
        if node is not None and node.site.form == "fused" and self.rewriting.taken_apart:
            return self._taken_apart(original, node)
        copy = self._replaced(original)
        if original in self.noisy:
            site, place = self.noisy[original]
            function = _named(partial(noisy, site=site, place=place), f"{original.name}_noisy")
            copy = self.graph.call_function(function, (copy,))
        if original in self.births:
            copy = self.graph.call_function(_born(self.births[original]), (copy,))
        if node is not None:
            if self.rewriting.begun is not None:
                begun = partial(_begun, self.rewriting.begun, original)
                copy = self.graph.call_function(_named(begun, f"{original.name}_begun"), (copy,))
            copy = self.graph.call_function(tap, (copy,))
            operands = fx.map_arg(self._operands(node), self._place(original))
            tapped = self._tapped_weights(original)
            self.reports[node.info.name] = (*(tapped or operands), copy)
            self.beside[node.index] = self._beside(self.uses[node.index])
            copy = self._as_loud(copy, node)
        return copy

    def _operands(self, node: ProgramNode) -> tuple[Any, ...]:
        site = node.site
        if site.form != "fused":
            asked = queries_and_keys(site) if self.queries else None
            return (site.weights, site.values, *(asked or ()))
        named = fused_arguments(site.node)
        return (named["query"], named["key"], named["value"], named.get("attn_mask"))

    def _as_loud(self, output: fx.Node, node: ProgramNode) -> fx.Node:
        """What the model hears of a node, beside what the node itself gave."""
        if not self.silences:
            return output
        function = _named(partial(loudness, name=node.info.name), f"{node.site.node.name}_as_loud")
        return self.graph.call_function(function, (output,))

    def _replaced(self, original: fx.Node) -> fx.Node:
        """A copy of a node, its operation replaced where the rewriting says so."""
        function = None
        if original.op == "call_function":
            function = self.rewriting.replacement(original)
        swaps = self.tapped.get(original, {})
        for weights in swaps:
            if swaps[weights] is None:
                swaps[weights] = self.graph.call_function(tap, (self.copies[weights],))
        place = self._place(original)
        if function is None and (given := _given_on(original)) is not None:
            return place(given)
        if function is None and original.target is FUSED:
            function = fused_attention
        if function is not None:
            args, kwargs = fx.map_arg((original.args, original.kwargs), place)
            copy = self.graph.call_function(_named(function, original.name), args, kwargs)
            copy.meta = dict(original.meta)
            return copy
        copy = self.graph.node_copy(original, place)
        copy.target = ELSEWHERE.get(copy.target, copy.target)
        return copy

    def _place(self, original: fx.Node) -> Callable[[fx.Node], fx.Node]:
        """From an operand of a node to what stands for it in the copy."""
        swaps = {**self.tapped.get(original, {}), **self._branches_for(original)}
        mask = query = None
        if original.target is FUSED and not self.rewriting.taken_apart:
            named = fused_arguments(original)
            mask, query = named.get("attn_mask"), named["query"]

        def place(operand: fx.Node) -> fx.Node:
            if operand is mask:
                return self._needed(operand, query)
            return swaps.get(operand) or self.copies[operand]

        return place

    def _needed(self, mask: fx.Node, query: Any) -> fx.Node:
        """What is needed of a mask: found once for all the nodes that it is for."""
        if mask not in self.masks:
            by_rows = MaskRows.of(mask)
            if by_rows is None:
                found = self.graph.call_function(needed_mask, (self.copies[mask],))
            else:
                values = (self.copies[node] for node in (query, *by_rows.given))
                found = self.graph.call_function(by_rows, tuple(values))
            self.masks[mask] = found
        return self.masks[mask]

    def _report(self, node: ProgramNode) -> tuple[Any, ...]:
        """A node's operands, what was divided by the sum of its weights afterwards, its output."""
        *operands, output = self.reports[node.info.name]
        late = () if node.site.division is None else (self.copies[node.site.division],)
        return (*operands, *late, output)

    # -- weights that are read beside -------------------------------------------------------------

    def _branches_for(self, original: fx.Node) -> dict[fx.Node, fx.Node]:
        """What a node reads under a gradient of its own."""
        uses = (use for of_node in self.uses.values() for use in of_node)
        return {use.node: self.branches[use.node] for use in uses if original in use.users}

    def _beside(self, uses: Sequence[OtherUse]) -> tuple[tuple[fx.Node, fx.Node], ...]:
        """For each other use, its branch, and where the weights' elements are in it."""
        found = []
        for use in uses:
            places = self.graph.call_function(_numbered, (self.copies[use.node],))
            for step in use.moved:
                places = self.graph.node_copy(step, lambda _, places=places: places)  # type: ignore[misc]
            found.append((self.branches[use.node], places))
        return tuple(found)

    # -- attention whose weights are tapped -------------------------------------------------------

    def _weights_to_tap(self) -> dict[fx.Node, dict[fx.Node, fx.Node | None]]:
        """For each call that contracts weights, these weights."""
        found: dict[fx.Node, dict[fx.Node, fx.Node | None]] = {}
        for node in self.nodes:
            site = node.site
            if site.form != "fused":
                assert site.weights is not None
                found.setdefault(consumer(site.node, site.weights), {})[site.weights] = None
        return found

    def _tapped_weights(self, original: fx.Node) -> tuple[Any, ...] | None:
        site = self.sites[original].site
        if not self.rewriting.taken_apart:
            return None
        assert site.weights is not None
        return (self.tapped[consumer(original, site.weights)][site.weights], None)

    def _taken_apart(self, original: fx.Node, node: ProgramNode) -> fx.Node:
        named = fx.map_arg(fused_arguments(original), self.copies.__getitem__)
        assert self.rewriting.taken_apart is not None
        weigh, contract = self.rewriting.taken_apart(original)
        wanted = {k: v for k, v in named.items() if k not in ("value", "dropout_p", "enable_gqa")}
        weights = self.graph.call_function(_named(weigh, f"{original.name}_weights"), (), wanted)
        weights = self.graph.call_function(tap, (weights,))
        contract = _named(contract, original.name)
        output = self.graph.call_function(contract, (weights, named["value"]))
        self.reports[node.info.name] = (weights, None, output)
        self.beside[node.index] = ()
        return self._as_loud(output, node)


def _begun(begun: Callable[[Tensor, fx.Node], Tensor], node: fx.Node, output: Tensor) -> Tensor:
    return begun(output, node)


def _given_on(node: fx.Node) -> fx.Node | None:
    """What a dropout that is off gives on as it is; None of other calls."""
    if node.target is not torch.ops.aten.dropout.default or node.args[2] is not False:
        return None
    given = node.args[0]
    return given if isinstance(given, fx.Node) else None


def _call_at_once(graph: fx.Graph) -> None:
    """Let a graph's code call operations without a look-up and a function of Python for each."""
    found: dict[OpOverload, Callable[..., Any]] = {}
    for node in graph.nodes:
        operation = node.target
        if isinstance(operation, OpOverload):
            if operation not in found:
                found[operation] = _named(partial(operation._op), operation_name(node))
            node.target = found[operation]


def _named(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    function.__name__ = name  # the generated code reads like the captured graph
    return function
