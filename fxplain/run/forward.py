"""Forward: the captured model runs, whole or in stages, and attention nodes report what they see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from fxplain.capture import Capture, ModelInputs
from fxplain.program import BirthSite, Program
from fxplain.rewriting import PLAIN, Rewriting
from fxplain.run.disturbance import UNDISTURBED, Disturbance, disturbed
from fxplain.run.execute import Run, reported
from fxplain.run.instrument import born_with, instrumented
from fxplain.run.recording import noted
from fxplain.run.staged import StagedRun, Staging
from fxplain.run.stages import Stage, stages_of

__all__ = ["forward"]


def forward(
    capture: Capture,
    model: nn.Module,
    inputs: ModelInputs,
    program: Program,
    rewriting: Rewriting = PLAIN,
    births: Sequence[BirthSite] = (),
    share: float | Tensor = 1.0,
    *,
    recompute: bool = False,
    disturbance: Disturbance = UNDISTURBED,
    disturbed_births: Sequence[BirthSite] = (),
    queries: bool = False,
) -> Run:
    """Run the captured model once, keeping what each attention node sees.

    Parameters
    ----------
    capture, model, inputs, program
        What runs.
    rewriting
        What the backward pass carries instead of gradients.
    births
        Where the backward pass goes down to.
    share
        A factor for the tokens as they are born, one for all or (tokens,): 0 for no tokens, 1 for the
        model's own.
    recompute
        Keep what crosses from one stage of the model to the next alone, and make the rest again for
        the backward.
    disturbance, disturbed_births
        Noise in tokens where they are born, and heads that are silent.
    queries
        Keep queries and keys also where attention is written out.
    """
    nodes = list(program.nodes.values())
    disturbs = disturbance is not UNDISTURBED
    plain = rewriting is PLAIN and not births and not disturbs
    memo = capture.memo if plain else program.memo
    key = (rewriting, tuple(node.site.node for node in nodes), bool(births), disturbs, queries)
    sites = disturbed_births if disturbs else None
    whole: fx.GraphModule = memo.made(
        ("instrumented", *key),
        lambda: instrumented(capture, nodes, rewriting, births, sites, queries=queries),
    )
    values = capture.bind(model, inputs)
    with (
        noted(values),
        capture.own_chance(inputs.leaves),
        torch.enable_grad(),
        born_with(share),
        disturbed(disturbance),
    ):
        if recompute:
            stages: list[Stage] = memo.made(
                ("stages", *key),
                lambda: stages_of(
                    whole,
                    _elements(capture, inputs),
                    at_weights=rewriting.taken_apart is not None,
                ),
            )
            names = [node.name for node in capture.placeholders]
            return StagedRun.of(
                Staging(
                    stages,
                    dict(zip(names, values, strict=True)),
                    nodes,
                    rewriting,
                    inputs.leaves if capture.draws else None,
                ),
                whole,
            )
        run: Callable[..., Any] = whole.forward  # which prints nothing of its own where it fails
        outputs, reports, born, beside = run(*values)
        del values
        runs = reported(nodes, reports, beside, rewriting)
    return Run(tuple(outputs), runs, tuple(born), rewriting.taken_apart is not None)


def _elements(capture: Capture, inputs: ModelInputs) -> Callable[[Tensor], int]:
    """How many elements a captured value has for these inputs; a size that is not known counts 1."""
    import sympy  # here, since it takes a while to import

    sizes = capture.sizes(inputs.leaves) or {}
    known: dict[Any, int] = {}

    def size_of(size: Any) -> int:
        if isinstance(size, int):
            return size
        expression = size.node.expr
        if expression not in known:
            value = sympy.sympify(expression.xreplace(sizes))
            known[expression] = 1 if value.free_symbols else int(value)
        return known[expression]

    def elements(value: Tensor) -> int:
        count = 1
        for size in value.shape:
            count *= size_of(size)
        return count

    return elements
