"""What is measured for each model: a column is a call, prepared once and repeated."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

import torch
from torch import Tensor

import fxplain
from benchmarks.classic import classic
from benchmarks.workload import Workload

Call = Callable[[], object]

STEPS = 50


def forward(workload: Workload) -> Call:
    """The model, without gradients."""

    def call() -> Tensor:
        with torch.no_grad():
            return workload.run(workload.model, lambda _source, value: value)

    return call


def floor(workload: Workload) -> Call:
    """One forward and one backward: the gradient with respect to the embeddings or features.

    What any gradient method costs at least; parameters are frozen.
    """

    def call() -> tuple[Tensor, ...]:
        leaves = Leaves()
        value = workload.run(workload.model, leaves)
        return torch.autograd.grad(value.sum(), leaves.tensors)

    return call


def warm(workload: Workload) -> Call:
    """``fxplain.explain``, as anyone would call it; the first call captures and analyses."""

    def call() -> dict[str, Tensor]:
        explanation = fxplain.explain(
            workload.model, workload.inputs, target=workload.target, output=workload.output
        )
        return dict(explanation.relevance)

    return call


def recipe(workload: Workload, *, frozen: bool = False) -> Call:
    """The classic recipe, on the same weights with attention written out."""
    model = workload.written_out()
    score = lambda: workload.run(model, Leaves())  # noqa: E731
    return lambda: classic(workload.recipe, model, score, frozen=frozen)


def integrated_gradients(workload: Workload) -> Call:
    """Captum's integrated gradients from zero, one step at a time (the least memory)."""
    from captum.attr import IntegratedGradients

    leaves = Leaves()
    with torch.no_grad():
        workload.run(workload.model, leaves)
    sources = list(leaves.found)
    values = tuple(leaves.found[source].detach() for source in sources)

    def score(*given: Tensor) -> Tensor:
        steps = dict(zip(sources, given, strict=True))
        return workload.run(workload.model, lambda source, _value: steps[source])

    method = IntegratedGradients(score)
    return lambda: method.attribute(values, n_steps=STEPS, internal_batch_size=1)


class Leaves:
    """Puts a tensor that a gradient is asked for in the place of each source's value."""

    def __init__(self) -> None:
        self.found: dict[str, Tensor] = {}

    def __call__(self, source: str, value: Tensor) -> Tensor:
        self.found[source] = value.detach().requires_grad_()
        return self.found[source]

    @property
    def tensors(self) -> list[Tensor]:
        return list(self.found.values())


COLUMNS: dict[str, Callable[[Workload], Call]] = {
    "forward": forward,
    "floor": floor,
    "warm": warm,
    "classic": recipe,
    "classic, frozen": partial(recipe, frozen=True),
}
INTEGRATED = "integrated gradients"
ALL: dict[str, Callable[[Workload], Call]] = {**COLUMNS, INTEGRATED: integrated_gradients}


def has_captum() -> bool:
    """Whether the last column can be measured."""
    return find_spec("captum") is not None
