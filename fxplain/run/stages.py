"""Stages: an instrumented graph cut where little crosses, about one attention node to a stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

from torch import Tensor, fx

from fxplain.capture import source_goes_with

__all__ = ["Stage", "stages_of"]

Elements = Callable[[Tensor], int]
"""How many elements a captured value has, for the sizes at hand."""


@dataclass(frozen=True, eq=False)
class Stage:
    """One part of an instrumented graph.

    Attributes
    ----------
    run
        A function of what it takes: (what it gives, reports, births, other uses), the last three as
        `instrumented` returns them, of its own nodes and births alone.
    takes, gives
        The names of values that come from before, and of those that are needed later.
    nodes, births
        Which of the graph's attention nodes and births are in it.
    """

    run: fx.GraphModule
    takes: tuple[str, ...]
    gives: tuple[str, ...]
    nodes: tuple[int, ...]
    births: tuple[int, ...]


def stages_of(module: fx.GraphModule, elements: Elements, *, at_weights: bool) -> list[Stage]:
    """The stages of an instrumented graph, in order.

    Between each two attention nodes the graph is cut where the values that are needed on the other
    side are smallest, unless these are more than half of what the stage before it makes.

    Parameters
    ----------
    module
        As `instrumented` makes it.
    elements
        See `Elements`.
    at_weights
        Whether gradients are asked for at the weights, not at the nodes' outputs.
    """
    return _Cutter(module, elements, at_weights).stages()


class _Cutter:
    def __init__(self, module: fx.GraphModule, elements: Elements, at_weights: bool) -> None:
        self.module, self.elements = module, elements
        nodes = list(module.graph.nodes)
        self.steps = [n for n in nodes if n.op not in ("placeholder", "get_attr", "output")]
        self.at = {node: i for i, node in enumerate(self.steps)}
        self.outputs, self.reports, self.births, self.beside = nodes[-1].args[0]
        self.returned = set[fx.Node]()
        fx.map_arg(self.outputs, self.returned.add)
        self.spans = [self._span(i, at_weights) for i in range(len(self.reports))]
        self.sizes = self._sizes()
        self.last = [self._last_use(node) for node in self.steps]

    # -- where to cut -----------------------------------------------------------------------------

    def _span(self, i: int, at_weights: bool) -> tuple[int, int]:
        """From where gradients of an attention node are asked for to the last that it reports."""
        *operands, output = self.reports[i]
        begin = [operands[0] if at_weights else output, *(branch for branch, _ in self.beside[i])]
        end = [output, *operands, *(places for _, places in self.beside[i])]
        return (
            min(self.at[node] for node in (output, *begin) if node in self.at),
            max(self.at[node] for node in end if node in self.at),
        )

    def _sizes(self) -> list[int]:
        """Bytes of every step's value; of one that nothing is known of, those of what it reads."""
        found: dict[fx.Node, int] = {}
        for node in self.steps:
            value = node.meta.get("val")
            if value is None:
                read = [found.get(n, 0) for n in node.all_input_nodes]
                found[node] = max(read, default=0)
            else:
                found[node] = self._bytes(value)
        return [found[node] for node in self.steps]

    def _bytes(self, value: Any) -> int:
        if isinstance(
            value, (tuple, list)
        ):  # no gradient is handed on for one: not to be cut behind
            return _NEVER * bool(value)
        if not isinstance(value, Tensor):
            return 0
        return self.elements(value) * value.element_size()

    def _last_use(self, node: fx.Node) -> int:
        """The last step that needs a value; behind all for the model's output."""
        users = [self.at[user] for user in node.users if user in self.at]
        own = self.at[node]
        reported = [
            hi for (_, hi), said in zip(self.spans, self.reports, strict=True) if node in said
        ]
        if node in self.returned:
            return len(self.steps)
        return max([own, *users, *reported])

    def _alive(self) -> list[int]:
        """How many bytes are needed behind each step."""
        change = [0] * (len(self.steps) + 1)
        for i, (size, last) in enumerate(zip(self.sizes, self.last, strict=True)):
            if last > i:
                change[i] += size
                change[last] -= size
        return list(accumulate(change))

    def _cuts(self) -> list[int]:
        """The steps behind which the graph is cut."""
        alive, cuts = self._alive(), list[int]()
        spans = _joined(self.spans)
        for (_, before), (after, _) in pairwise(spans):
            narrowest = min(range(before, after), key=alive.__getitem__)
            begin = cuts[-1] + 1 if cuts else 0
            made = range(begin, narrowest + 1)
            fresh = sum(self.sizes[i] for i in made if self.last[i] > narrowest)
            if 2 * fresh < sum(self.sizes[i] for i in made):
                cuts.append(narrowest)
        return cuts

    # -- the parts --------------------------------------------------------------------------------

    def stages(self) -> list[Stage]:
        """All parts."""
        cuts = [-1, *self._cuts(), len(self.steps) - 1]
        return [self._stage(a + 1, b + 1) for a, b in pairwise(cuts)]

    def _stage(self, begin: int, end: int) -> Stage:
        own = self.steps[begin:end]
        inside = set(own)
        nodes = tuple(i for i, said in enumerate(self.reports) if said[-1] in inside)
        births = tuple(i for i, node in enumerate(self.births) if node in inside)
        gives = [node for i, node in enumerate(own, begin) if self.last[i] >= end]
        reports = tuple(self.reports[i] for i in nodes)
        rest = (
            reports,
            tuple(self.births[i] for i in births),
            tuple(self.beside[i] for i in nodes),
        )
        graph = fx.Graph()
        copies: dict[fx.Node, fx.Node] = {}
        takes = list(dict.fromkeys(n for n in _read(own, reports) if n not in inside))
        attributes = [node for node in takes if node.op == "get_attr"]
        takes = [node for node in takes if node.op != "get_attr"]
        for node in takes:
            copies[node] = graph.placeholder(node.name)
        for node in (*attributes, *own):
            copies[node] = graph.node_copy(node, copies.__getitem__)
        graph.output(fx.map_arg((tuple(gives), *rest), copies.__getitem__))
        return Stage(
            source_goes_with(fx.GraphModule(self.module, graph)),
            tuple(node.name for node in takes),
            tuple(node.name for node in gives),
            nodes,
            births,
        )


_NEVER = 1 << 60


def _read(steps: Sequence[fx.Node], reports: Sequence[Any]) -> Iterator[fx.Node]:
    """What steps and reports read, in order."""
    for step in steps:
        yield from step.all_input_nodes
    found: list[fx.Node] = []
    fx.map_arg(tuple(reports), found.append)
    yield from found


def _joined(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans in order, those that overlap as one."""
    found: list[tuple[int, int]] = []
    for lo, hi in sorted(spans):
        if found and lo <= found[-1][1]:
            found[-1] = (found[-1][0], max(hi, found[-1][1]))
        else:
            found.append((lo, hi))
    return found
