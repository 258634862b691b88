"""Staged runs: the model runs stage by stage, and each stage again when its gradients are asked for.

Kept are the values that cross from one stage to the next and the gradient of each attention node's
output; what a backward needs besides is there for one stage at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

from fxplain.capture import RandomState, chance_kept
from fxplain.errors import NoGradientError
from fxplain.program import ProgramNode
from fxplain.rewriting import Rewriting
from fxplain.run.execute import NOT_REACHED, Run, gradients_at, reported, with_gradients
from fxplain.run.node_run import NodeRun, Remade
from fxplain.run.stages import Stage

__all__ = ["StagedRun", "Staging"]

Gradients = tuple[Tensor | None, ...]


class _Made(NamedTuple):
    """What a stage gives, with the values that it took, in one autograd graph."""

    taken: dict[str, Tensor]
    given: dict[str, Any]
    runs: list[NodeRun]
    births: tuple[Tensor, ...]


class Staging:
    """The stages of one run, and the values that cross from one to the next.

    Parameters
    ----------
    stages
        In order.
    values
        What the model is given, by name: its weights and the inputs.
    nodes
        The attention nodes.
    rewriting
        What the backward pass carries instead of gradients.
    drawing
        The inputs, where stages draw random numbers, which they draw again when they run again.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        values: Mapping[str, Any],
        nodes: Sequence[ProgramNode],
        rewriting: Rewriting,
        drawing: Sequence[Tensor] | None,
    ) -> None:
        self.stages, self.nodes, self.rewriting = stages, nodes, rewriting
        self.at_weights = rewriting.taken_apart is not None
        self.values = dict(values)
        self.home = {i: number for number, stage in enumerate(stages) for i in stage.nodes}
        self._drawing, self._chances = drawing, dict[int, RandomState]()
        self._context = copy_context()  # what tokens are born with, where conservation is noted
        self._seen: tuple[int, dict[int, Sequence[Any]]] | None = None

    def first(self, number: int) -> _Made:
        """A stage, run for the first time, after those before it."""
        if self._drawing is not None:
            self._chances[number] = RandomState(self._drawing)
        made = self._run(number)
        self.values.update({name: _kept(value) for name, value in made.given.items()})
        return made

    def again(self, number: int) -> _Made:
        """A stage, run again; what its attention nodes saw is kept till another is."""
        self._seen = None
        with self._same_chance(number), torch.enable_grad():
            made = self._context.copy().run(self._run, number)
        pairs = zip(self.stages[number].nodes, made.runs, strict=True)
        self._seen = (number, {i: run.apart().operands for i, run in pairs})
        return made

    def operands(self, i: int) -> Sequence[Any]:
        """What an attention node saw."""
        number = self.home[i]
        if self._seen is None or self._seen[0] != number:
            self.again(number)
        assert self._seen is not None
        return self._seen[1][i]

    def remade(self, i: int, seen: NodeRun) -> NodeRun:
        """What an attention node saw, to be made again when it is looked at."""
        return replace(
            seen.apart(),
            operands=Remade(lambda: self.operands(i), seen.operands),
            scale=None if seen.scale is None else seen.scale.detach(),
        )

    def let_go(self) -> None:
        """Of what the nodes of the last stage saw."""
        self._seen = None

    @contextmanager
    def _same_chance(self, number: int) -> Iterator[None]:
        """The random numbers that the stage drew first."""
        if self._drawing is None:
            yield
            return
        with chance_kept(self._drawing):
            self._chances[number].restore()
            yield

    def _run(self, number: int) -> _Made:
        stage = self.stages[number]
        run: Callable[..., Any] = stage.run.forward
        taken = [_fresh(self.values[name]) for name in stage.takes]
        given, reports, births, beside = run(*taken)
        nodes = [self.nodes[i] for i in stage.nodes]
        return _Made(
            {
                name: value
                for name, value in zip(stage.takes, taken, strict=True)
                if isinstance(value, Tensor) and value.requires_grad
            },
            dict(zip(stage.gives, given, strict=True)),
            reported(nodes, reports, beside, self.rewriting),
            tuple(births),
        )


def _fresh(value: Any) -> Any:
    """A value that crosses, as a leaf of a stage's autograd graph."""
    if isinstance(value, Tensor) and value.requires_grad:
        return value.detach().requires_grad_()
    return value


def _kept(value: Any) -> Any:
    """A value without what it was made by; a small part of a large tensor does not keep that."""
    if not isinstance(value, Tensor):
        return value
    kept = value.detach()
    if kept.untyped_storage().nbytes() > 2 * kept.numel() * kept.element_size():
        kept = kept.clone()
    return kept.requires_grad_(value.requires_grad)


@dataclass(eq=False)
class StagedRun(Run):
    """One forward in stages.

    Attributes
    ----------
    staging
        The stages.
    names
        The name of each output.
    twice
        Whether weights have other uses than to be contracted with their values.
    """

    staging: Staging = field(kw_only=True)
    names: dict[int, str] = field(kw_only=True)
    twice: bool = False

    @classmethod
    def of(cls, staging: Staging, whole: fx.GraphModule) -> StagedRun:
        """Run all stages of a graph."""
        runs: dict[int, NodeRun] = {}
        births: dict[int, Tensor] = {}
        twice = False
        for number, stage in enumerate(staging.stages):
            made = staging.first(number)
            twice = twice or any(run.beside for run in made.runs)
            runs.update(zip(stage.nodes, map(staging.remade, stage.nodes, made.runs), strict=True))
            births.update(zip(stage.births, map(_kept, made.births), strict=True))
            del made  # before the next is there
        output = next(node for node in whole.graph.nodes if node.op == "output")
        returned = [node.name for node in output.args[0][0]]
        outputs = tuple(staging.values[name] for name in returned)
        names = {id(value): name for value, name in zip(outputs, returned, strict=True)}
        return cls(
            outputs,
            [runs[i] for i in sorted(runs)],
            tuple(births[i] for i in sorted(births)),
            staging.at_weights,
            staging=staging,
            names=names,
            twice=twice,
        )

    @property
    def reads_weights_twice(self) -> bool:
        """Whether weights have other uses than to be contracted with their values."""
        return self.twice

    def backward(
        self,
        leaves: Sequence[Tensor],
        gradients: Sequence[Tensor],
        *,
        keep_graph: bool = False,  # noqa: ARG002 - stages can always be run again
    ) -> Gradients:
        """Fill in every node's gradient for dy/d(leaves) = `gradients`; return that of the births."""
        births: list[Tensor | None] = [None] * len(self.births)

        def came(stage: Stage, runs: Sequence[NodeRun], of_births: Gradients) -> None:
            for i, run in zip(stage.nodes, runs, strict=True):
                self.nodes[i].gradient, self.nodes[i].of_others = run.gradient, run.of_others
            for i, gradient in zip(stage.births, of_births, strict=True):
                births[i] = gradient

        for run in self.nodes:
            run.gradient = run.of_others = None
        self._through(leaves, gradients, came)
        return tuple(births)

    def ridden_backward(
        self,
        leaves: Sequence[Tensor],
        gradients: list[Tensor],
        arrived: Callable[[int, Tensor | None], None],
    ) -> None:
        """The backward, with each node's gradient handed over as it comes, the last node first."""
        waiting = set(range(len(self.nodes)))
        self.nodes = []

        def came(stage: Stage, runs: Sequence[NodeRun], _births: Gradients) -> None:
            for i, run in reversed(list(zip(stage.nodes, runs, strict=True))):
                waiting.discard(i)
                arrived(i, run.gradient)

        self._through(leaves, gradients, came)
        for i in sorted(waiting, reverse=True):
            arrived(i, None)

    def _through(
        self,
        leaves: Sequence[Tensor],
        gradients: Sequence[Tensor],
        came: Callable[[Stage, Sequence[NodeRun], Gradients], None],
    ) -> None:
        """Go back stage by stage, telling of each what came to its nodes and births.

        Raises
        ------
        NoGradientError
            When no leaf depends on an attention node.
        """
        waiting: dict[str, Tensor] = {}
        for leaf, gradient in with_gradients(leaves, gradients):
            _add(waiting, self.names[id(leaf)], gradient)
        reached = False
        for number in reversed(range(len(self.staging.stages))):
            stage = self.staging.stages[number]
            wanted = {name: waiting.pop(name) for name in stage.gives if name in waiting}
            if not wanted:
                continue
            made = self.staging.again(number)
            runs, births, before = self._back(made, wanted)
            del made
            for name, gradient in before.items():
                _add(waiting, name, gradient)
            reached |= any(g is not None for g in (*(run.gradient for run in runs), *births))
            came(stage, runs, births)
        self.staging.let_go()
        if not reached:
            raise NoGradientError(NOT_REACHED)

    def _back(
        self, made: _Made, wanted: Mapping[str, Tensor]
    ) -> tuple[list[NodeRun], Gradients, dict[str, Tensor]]:
        """The nodes of a stage and gradients: of its births, and of what it took."""
        pairs = [(made.given[name], g) for name, g in wanted.items()]
        pairs = [(value, g) for value, g in pairs if value.requires_grad]
        points = [run.operands[0] if self.at_weights else run.output for run in made.runs]
        branches = [branch for run in made.runs for branch, _ in run.beside]
        places = [*points, *branches, *made.births, *made.taken.values()]
        found: Gradients = (None,) * len(places)
        if pairs and places:
            values, seeds = zip(*pairs, strict=True)
            found = gradients_at(values, places, seeds)
        come = iter(found)
        for run, gradient in zip(made.runs, come, strict=False):
            run.gradient = gradient
        for run in made.runs:
            run.add_beside([next(come) for _ in run.beside])
        births = tuple(next(come) for _ in made.births)
        before = {name: g for name, g in zip(made.taken, come, strict=True) if g is not None}
        return [run.apart() for run in made.runs], births, before


def _add(gradients: dict[str, Tensor], name: str, gradient: Tensor) -> None:
    before = gradients.get(name)
    gradients[name] = gradient if before is None else before + gradient
