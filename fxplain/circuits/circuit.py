"""The door: `circuit`, the smallest set of heads and edges that keeps a behaviour."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from fxplain.arguments import FUNCTION, checked, number, optional, whole
from fxplain.capture import as_module, model_tried, on_all_processes
from fxplain.circuits.network import Edge, Network
from fxplain.circuits.result import Circuit
from fxplain.errors import InputError
from fxplain.explanation.detection import BatchAxis
from fxplain.explanation.resolving import resolve_target
from fxplain.interventions.edits import Edits
from fxplain.interventions.intervene import given_of
from fxplain.interventions.replacements import check_sizes

__all__ = ["circuit"]

Progress = Callable[[int, int], None]


@on_all_processes
@checked(
    faithfulness=number(0, 1, inside=True),
    steps=whole(1, 1000),
    progress=optional(FUNCTION),
)
def circuit(
    model: nn.Module,
    clean: Any,
    corrupted: Any,
    metric: Any = None,
    *,
    output: str | None = None,
    faithfulness: float = 0.95,
    steps: int = 5,
    batch_axis: BatchAxis = None,
    progress: Progress | None = None,
) -> Circuit:
    """The smallest set of heads, layers and edges found that keeps what a model does.

    An edge is what a head, a feed-forward layer or the input says, as a later one reads it: as queries,
    keys or values of one head, as a layer's input, or in the output. Edges are ordered by edge
    attribution patching; those that are not needed are left out from the weakest on, many at a time
    and then one by one, each time with a run in which they bring what the corrupted inputs say.

    Parameters
    ----------
    model
        Any module, in eval mode.
    clean, corrupted
        Inputs of one size, as `fxplain.explain` takes them: in the one the model shows the behaviour,
        in the other what matters is replaced.
    metric
        The number that tells the behaviour, one for each sample: a target as `fxplain.explain` takes
        it, such as a `Contrast` of two words, or a function of the output; its mean over samples.
    output
        The output field of a target that is no function.
    faithfulness
        How much of the behaviour is kept: 1 is the metric of the clean inputs, 0 that of the corrupted.
    steps
        At how many points between corrupted and clean inputs edges are attributed.
    batch_axis
        As `fxplain.explain` takes it.
    progress
        Called with how many edges are settled, and how many there are.

    Returns
    -------
    Circuit
        ``.edges``, ``.heads``, ``.faithfulness``, ``.curve``; print it, or use ``.to_networkx()``.

    Raises
    ------
    InputError
        When corrupting makes no difference to the metric.
    MethodError
        When the model's heads cannot be told apart.
    FxplainError
        As `fxplain.explain` raises.

    References
    ----------
    Syed, Rager & Conmy, "Attribution Patching Outperforms Automated Circuit Discovery", 2023;
    Hanna, Pezzelle & Belinkov, "Have Faith in Faithfulness", 2024;
    Conmy et al., "Towards Automated Circuit Discovery for Mechanistic Interpretability", 2023.
    """
    model = as_module(model)
    with torch.inference_mode(False), model_tried(model, clean):
        given = given_of(model, clean, batch_axis)
        with torch.no_grad(), given.capture.own_chance(given.inputs.leaves):
            outputs = given.run(Edits())
        target = resolve_target(
            metric, output, model, given.inputs, given.capture, given.sites.program, outputs
        )
    with torch.inference_mode(False), model_tried(model, corrupted):
        other = given_of(model, corrupted, batch_axis)
    check_sizes(given.inputs, other.inputs, ("corrupted=", "clean="), otherwise="")
    with torch.inference_mode(False):
        network = Network(given, other, target)
        return _Search(type(model).__name__, network, faithfulness, steps, progress).run()


@dataclass(eq=False)
class _Search:
    """Leaves edges out, the weakest first."""

    model: str
    network: Network
    wanted: float
    steps: int
    progress: Progress | None
    seen: dict[frozenset[Edge], float] = field(default_factory=dict)

    def run(self) -> Circuit:
        network = self.network
        self.clean = float(network.target.scores.mean())
        self.corrupted = float(network.score(frozenset()).mean())
        if abs(self.clean - self.corrupted) <= 1e-6 * max(abs(self.clean), 1.0):
            raise InputError(
                f"the metric is {self.clean:.4g} for the clean inputs and for the corrupted: there is "
                f"no behaviour to find. Corrupt what it depends on."
            )
        strengths = network.attributed(self.steps)
        weakest_first = sorted(network.edges, key=lambda edge: abs(strengths[edge]))
        curve = self._curve(weakest_first)
        kept = self._pruned(weakest_first)
        return Circuit(
            model=self.model,
            metric=tuple(dict.fromkeys(map(str, network.target.description))),
            clean=self.clean,
            corrupted=self.corrupted,
            edges=tuple(edge for edge in network.edges if edge in kept),
            strengths={edge: strengths[edge] for edge in network.edges if edge in kept},
            faithfulness=self._faith(kept),
            wanted=self.wanted,
            of_edges=len(network.edges),
            curve=curve,
            runs=len(self.seen),
        )

    def _faith(self, kept: frozenset[Edge]) -> float:
        if kept not in self.seen:
            score = float(self.network.score(kept).mean())
            self.seen[kept] = (score - self.corrupted) / (self.clean - self.corrupted)
        return self.seen[kept]

    def _keeps(self, kept: frozenset[Edge]) -> bool:
        """Whether the behaviour is kept: neither less of it nor more than all."""
        return abs(1 - self._faith(kept)) <= 1 - self.wanted

    def _curve(self, weakest_first: Sequence[Edge]) -> tuple[tuple[int, float], ...]:
        """Faithfulness of the strongest edges, by their number."""
        count = len(weakest_first)
        sizes = sorted({0, count, *(round(count * (i / 12) ** 2) for i in range(13))})
        return tuple((n, self._faith(frozenset(weakest_first[count - n :]))) for n in sizes)

    def _pruned(self, weakest_first: Sequence[Edge]) -> frozenset[Edge]:
        """Edges of which none can be left out: blocks are tried, then their halves."""
        kept = frozenset(weakest_first)
        todo, block = list(weakest_first), max(1, len(weakest_first) // 2)
        total = len(todo)
        while True:
            left: list[Edge] = []
            for start in range(0, len(todo), block):
                part = todo[start : start + block]
                without = kept - frozenset(part)
                if self._keeps(without):
                    kept = without
                else:
                    left += part
                if self.progress is not None and block == 1:
                    self.progress(total - len(todo) + start + len(part), total)
            if block == 1:
                return kept if len(left) == len(todo) else self._pruned_again(left, kept)
            todo, block = left, max(1, block // 2)

    def _pruned_again(self, left: Sequence[Edge], kept: frozenset[Edge]) -> frozenset[Edge]:
        """Once more one by one: what was needed for an edge that went later may go, too."""
        changed = True
        while changed:
            changed = False
            for edge in left:
                if edge in kept and self._keeps(kept - {edge}):
                    kept, changed = kept - {edge}, True
        return kept
