"""Passes: the forwards and backwards that a method asks for, and the evidence that they leave."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, fx, nn

from fxplain.capture import Capture, ModelInputs
from fxplain.explanation.bias_notes import BiasNotes, Rows, rows_of
from fxplain.explanation.resolved_target import ResolvedTarget
from fxplain.explanation.undifferentiable import causes_named
from fxplain.explanation.words_read import born_of_word
from fxplain.methods import BornTokens, Evidence, Needs, NodeEvidence
from fxplain.program import BirthSite, Program, birth_sites, sample_axes
from fxplain.rewriting import (
    PLAIN,
    Rewriting,
    biases_noted,
    corrected_rewriting,
    lrp_rewriting,
    noting,
    with_biases,
)
from fxplain.rewriting.lrp_rules import Ledger
from fxplain.run import UNDISTURBED, Disturbance, Run, forward, slow_batches_unsaid
from fxplain.tokens import follow_tokens

__all__ = ["Passes"]

T = TypeVar("T")
U = TypeVar("U")

SMALL = 2**19
"""How many weights, of all nodes, are made at once: more keep a processor busy by themselves."""


@dataclass(frozen=True, eq=False)
class _Details:
    """What only some methods need to know of a program."""

    births: list[BirthSite]
    samples: dict[fx.Node, Tensor]


class Passes:
    """One model, one batch, one method: what has to run, run no more often than necessary.

    Attributes
    ----------
    outputs
        What the first forward gave; the target is chosen from it.
    """

    def __init__(
        self,
        captured: Capture,
        model: nn.Module,
        inputs: ModelInputs,
        program: Program,
        needs: Needs,
        *,
        recompute: bool = False,
        disturbance: Disturbance = UNDISTURBED,
    ) -> None:
        self.captured, self.model, self.inputs = captured, model, inputs
        self.disturbance = disturbance
        self.program, self.needs, self.recompute = program, needs, recompute
        self._noted: Ledger = {}
        self._lrp: Run | None = None
        self._notes = self._bias_notes() if needs.biases else None
        self._compared: list[Tensor] | None = None
        if needs.compared is not None:
            self._compared = born_of_word(
                needs.compared, captured, model, inputs, program, self._more().births
            )
        if needs.relevance and needs.births and not needs.gradient:  # one forward serves for both
            self._run = self._lrp = self._propagating()
        else:
            with biases_noted(self._notes) if self._notes else nullcontext():
                self._run = self._forward(self._rewriting(), births=needs.gradient and needs.births)
        self.outputs = self._run.outputs

    def evidence(self, target: ResolvedTarget, sample: int | None, keep_graph: bool) -> Evidence:
        """What the backward passes show for the targets of all samples, or of one alone."""
        births: list[BornTokens] = []
        if self.needs.gradient and self.needs.steps:
            births = self._integrated(target, sample)
        elif self.needs.gradient:
            gradients = self._backward(self._run, target, sample, keep_graph)
            births = self._born(self._run, gradients)
        if self.needs.relevance:
            if self._lrp is None:
                self._lrp = self._propagating()
            relevance = self._backward(self._lrp, target, sample, keep_graph)
            if self.needs.births:
                births = self._born(self._lrp, relevance)
        nodes = {
            seen.node.index: NodeEvidence(
                seen.node, seen.apart(), None if propagated is None else propagated.apart()
            )
            for seen, propagated in zip(
                self._run.nodes,
                self._lrp.nodes if self._lrp else [None] * len(self._run.nodes),
                strict=True,
            )
        }
        if not keep_graph:  # what the nodes saw is now the evidence's, and goes when it is used
            self._run, self._lrp = self._run.without_nodes(), None
        return Evidence(
            self.program, nodes, births, biases=self._notes.read() if self._notes else None
        )

    @property
    def conservation(self) -> dict[str, tuple[float, float]]:
        """For layer-wise relevance, per graph node what came in and what went out."""
        if not self._noted:
            return {}
        both = [torch.stack([sums[side] for sums in self._noted.values()]) for side in (0, 1)]
        return dict(zip(self._noted, zip(*(x.tolist() for x in both), strict=True), strict=True))

    @property
    def reads_weights_twice(self) -> bool:
        """Whether some weights' gradient is more than what comes from their values."""
        return self._run.reads_weights_twice

    def promised(self) -> Evidence:
        """Evidence whose gradients are still to come: `ridden` brings them."""
        runs = [run.apart(awaited=True) for run in self._run.nodes]
        return Evidence(self.program, {r.node.index: NodeEvidence(r.node, r) for r in runs})

    @property
    def sizes(self) -> tuple[int, int]:
        """How many numbers all nodes' outputs are, and the weights of the node that has most."""
        runs = self._run.nodes
        return sum(r.output.numel() for r in runs), max(math.prod(r.shape) for r in runs)

    def of_several(
        self, targets: Sequence[ResolvedTarget], read: Callable[[Evidence, T], U], own: T
    ) -> U | None:
        """What `read` finds in the evidence of each target, with a first axis of targets.

        One backward for all of them, as one batch: an operation costs Python once. None where they
        are read from different outputs. The graph is kept.

        Parameters
        ----------
        read
            From a target's evidence, and what else is its own, to tensors.
        own
            What else is each target's own: tensors with a first axis of targets.
        """
        seeds = [target.seeds(self._run.outputs, None) for target in targets]
        leaves = seeds[0][0]
        if any(list(map(id, other)) != list(map(id, leaves)) for other, _ in seeds):
            return None
        together = [torch.stack(of_leaf) for of_leaf in zip(*(g for _, g in seeds), strict=True)]
        runs = [run.apart() for run in self._run.nodes]

        def of_one(gradients: dict[int, Tensor], own: T) -> U:
            seen = [replace(run, gradient=gradients.get(i)) for i, run in enumerate(runs)]
            nodes = {run.node.index: NodeEvidence(run.node, run) for run in seen}
            return read(Evidence(self.program, nodes, batched=True), own)

        with causes_named(self.captured), slow_batches_unsaid():
            found = self._run.gradients(leaves, together, several=True)
            gradients = {i: g for i, g in enumerate(found) if g is not None}
            with torch.no_grad():
                made: U = torch.vmap(of_one)(gradients, own)
        return made

    @property
    def are_small(self) -> bool:
        """Whether the weights of all nodes are less to make at once than one node at a time."""
        runs = self._run.nodes
        return not self.recompute and sum(math.prod(run.shape) for run in runs) <= SMALL

    def fulfilled(self, target: ResolvedTarget, promised: Evidence) -> None:
        """Run the backward for the targets of all samples, and fill in `promised`."""
        leaves, gradients = target.seeds(self._run.outputs, None)
        run, self._run = self._run, self._run.without_nodes()
        with causes_named(self.captured):
            found = run.gradients(leaves, gradients)
        for of_run, gradient in zip(run.nodes, found, strict=True):
            seen = promised.nodes[of_run.node.index].seen
            seen.gradient, seen.awaited = gradient, False

    def ridden(
        self, target: ResolvedTarget, promised: Evidence, arrived: Callable[[], None]
    ) -> None:
        """Run the backward for the targets of all samples, filling in `promised` as it goes.

        `arrived` is called with each attention node's gradient; what the node saw goes when whoever
        made use of it lets go.
        """
        runs = [promised.nodes.pop(run.node.index).seen for run in self._run.nodes]
        arriving = dict(enumerate(runs))
        runs.clear()

        def handed(i: int, gradient: Tensor | None) -> None:
            run = arriving.pop(i)
            run.gradient, run.awaited = gradient, False
            del run, gradient
            arrived()

        leaves, gradients = target.seeds(self._run.outputs, None)
        gradients = [*gradients]  # which the backward uses up
        run, self._run = self._run, self._run.without_nodes()
        with causes_named(self.captured):
            run.ridden_backward(leaves, gradients, handed)

    def promised_sum(self, target: ResolvedTarget) -> Tensor | None:
        """(batch,) what relevance of tokens promises to add up to, None where it promises nothing."""
        if self.needs.steps and self.needs.rewriting == "plain":
            with torch.no_grad():
                nothing = self._forward(PLAIN, births=True, share=0.0)
                return target.scores - target.value(nothing.outputs).nan_to_num()
        if self.needs.relevance and self.needs.births:
            return torch.ones_like(target.scores)
        return None

    # -- the pieces -------------------------------------------------------------------------------

    def _propagating(self) -> Run:
        """A forward whose backward pass carries relevance."""
        with noting(self._noted):
            return self._forward(self._lrp_rewriting(), births=True)

    def _forward(self, rewriting: Rewriting, *, births: bool, share: float = 1.0) -> Run:
        sites = self._more().births if births else []
        return forward(
            self.captured,
            self.model,
            self.inputs,
            self.program,
            rewriting,
            sites,
            share,
            recompute=self.recompute,
            disturbance=self.disturbance,
            disturbed_births=() if self.disturbance is UNDISTURBED else self._more().births,
            queries=self.needs.queries,
        )

    def _backward(
        self, run: Run, target: ResolvedTarget, sample: int | None, keep_graph: bool
    ) -> tuple[Tensor | None, ...]:
        leaves, gradients = target.seeds(run.outputs, sample)
        with causes_named(self.captured):
            return run.backward(leaves, gradients, keep_graph=keep_graph)

    def _born(self, run: Run, gradients: Sequence[Tensor | None]) -> list[BornTokens]:
        if not run.births:
            return []
        values = [value.detach() for value in run.births]
        if self._compared is not None:
            values = [x - other for x, other in zip(values, self._compared, strict=True)]
        return [
            BornTokens(site.tokens, value, gradient)
            for site, value, gradient in zip(self._more().births, values, gradients, strict=True)
        ]

    def _integrated(self, target: ResolvedTarget, sample: int | None) -> list[BornTokens]:
        """Births with their gradient averaged between no tokens and all of them."""
        at, weights = np.polynomial.legendre.leggauss(self.needs.steps)
        total: list[Tensor | None] = [None] * len(self._more().births)
        for point, weight in zip((at + 1) / 2, weights / 2, strict=True):
            run = self._forward(self._rewriting(), births=True, share=float(point))
            for i, gradient in enumerate(self._backward(run, target, sample, False)):
                if gradient is not None:
                    part = gradient * float(weight)
                    before = total[i]
                    total[i] = part if before is None else before + part
        return self._born(self._run, total)

    # -- what is remembered with the capture ------------------------------------------------------

    def _bias_notes(self) -> BiasNotes:
        rows = self._kept("rows of values", self._all_rows)
        return BiasNotes(self.captured, self.program, rows, self.program.flow.book.batch_size)

    def _all_rows(self) -> tuple[Rows, Rows]:
        flow = follow_tokens(self.captured, self.model, self.inputs, keep_tags=True)
        return rows_of(self.program, flow)

    def _rewriting(self) -> Rewriting:
        made = self._of_gradients()
        if not self.needs.biases:
            return made
        return self._kept(f"{made.name} with biases", lambda: with_biases(made))

    def _of_gradients(self) -> Rewriting:
        if self.needs.rewriting == "plain":
            return PLAIN
        attention = self.needs.rewriting.removeprefix("corrected:")
        weights = frozenset(
            n.site.weights for n in self.program.nodes.values() if n.site.weights is not None
        )
        softmaxes = frozenset(n.site.softmax for n in self.program.nodes.values())
        return self._kept(
            self.needs.rewriting, lambda: corrected_rewriting(attention, weights, softmaxes)
        )

    def _lrp_rewriting(self) -> Rewriting:
        rules = self.needs.relevance
        assert rules is not None
        return self._kept(f"lrp:{rules}", lambda: lrp_rewriting(self._more().samples, rules))

    def _more(self) -> _Details:
        return self._kept("details", self._look_closer)

    def _look_closer(self) -> _Details:
        flow = follow_tokens(self.captured, self.model, self.inputs, keep_tags=True)
        return _Details(birth_sites(self.program, flow), sample_axes(flow))

    def _kept(self, key: str, make: Callable[[], T]) -> T:
        made: T = self.program.memo.made(key, make)
        return made
