"""Laws of a model's own slopes: gradients that were cut, and tokens that nothing depends on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from fxplain.capture import Capture, ModelInputs, chance_kept, draws, module_path
from fxplain.explanation import Explanation
from fxplain.program import Modality, Program
from fxplain.tokens import IDENTITY
from fxplain.verification import Fault, Law, LawResult
from fxplain.verification.claims import canonical_tokens
from fxplain.verification.shares import attention_sites, one_number, reached, rooted_outputs

__all__ = ["finite_differences", "null_players"]

SLOPES = "the output moves as gradients say"
NULL_PLAYER = "tokens without influence have no relevance"

_STEPS = (1e-2, 5e-3)
"""How far attention outputs are moved, in units of their mean magnitude."""

_RTOL = 0.1
"""How far a slope may be from the finite difference, relative to the larger one."""

_NOTHING = 1e-3
"""Relevance, relative to the largest number, that a token without influence may have by rounding."""


class _Slope:
    """One number of all that a model puts out, along directions in its attention outputs.

    What it puts out without any gradient (memories for a next call, detached) is left out: a target in
    it is refused.
    """

    def __init__(self, captured: Capture, values: Sequence[Any], sites: Sequence[fx.Node]) -> None:
        self._module, self._values = captured.graph_module, values
        self._place = {site: i for i, site in enumerate(sites)}
        self._counted: Sequence[int] = ()
        steps = torch.zeros(len(sites), dtype=torch.float64, requires_grad=True)
        with torch.enable_grad():
            number = self._number(steps)
            found = (
                torch.autograd.grad(number, steps, allow_unused=True)[0]
                if number.requires_grad
                else None
            )
        self.said = torch.zeros_like(steps) if found is None else found.detach()
        self.runs = 3.0

    def _number(self, steps: Tensor) -> Tensor:
        """The number where each attention output is moved by a step, in units of its mean magnitude."""

        def moved(node: fx.Node, value: Any) -> Any:
            place = self._place[node]
            noise = torch.randn(value.shape, generator=torch.Generator().manual_seed(place))
            direction = noise.to(value.device, value.dtype) * value.detach().abs().mean()
            return value + steps[place].to(value.device, value.dtype) * direction

        outputs = rooted_outputs(self._module, self._values, self._place, moved)
        if not self._counted:
            tracked = [i for i, o in enumerate(outputs) if getattr(o, "requires_grad", False)]
            self._counted = tracked or range(len(outputs))
        return one_number([outputs[i] for i in self._counted])

    @torch.no_grad()
    def _difference(self, chosen: Tensor, step: float) -> float:
        self.runs += 2
        try:
            ends = [float(self._number(chosen * sign * step)) for sign in (1, -1)]
        except RuntimeError:  # sizes hang on what is moved: frames, chosen tokens
            return math.nan
        return (ends[0] - ends[1]) / (2 * step)

    def agrees(self, chosen: Tensor) -> bool | None:
        """Whether gradient and difference agree; None where the difference itself is not settled."""
        said = float((self.said * chosen).sum())
        coarse, fine = (self._difference(chosen, step) for step in _STEPS)
        if not math.isfinite(coarse + fine):
            return None
        largest = max(abs(fine), abs(said))
        if abs(coarse - fine) > _RTOL * largest:
            return None
        return abs(said - fine) <= _RTOL * largest + 3 * abs(coarse - fine)


def finite_differences(
    captured: Capture, model: nn.Module, bound: ModelInputs, program: Program
) -> LawResult:
    """The output moves along a direction in attention outputs as their gradients say.

    What cuts a gradient without a word (a detach, rounding, an integer kernel, a backward of one's
    own) breaks it at the last attention before the cut.
    """
    sites = attention_sites(program)
    if not sites:
        return LawResult(SLOPES, "not checked", reason="no attention over tokens")
    if any(map(draws, captured.graph.nodes)):
        reason = "the model draws numbers, by what attention puts out for all that is known"
        return LawResult(SLOPES, "not checked", reason=reason)
    values = captured.bind(model, bound)  # first: it may wait for a capture, which waits for chance
    with chance_kept(bound.leaves):
        slope = _Slope(captured, values, sites)
        agrees = slope.agrees(torch.ones(len(sites), dtype=torch.float64))
        alone = torch.eye(len(sites), dtype=torch.float64)
        for site, chosen in reversed([*zip(sites, alone, strict=True)]) if not agrees else ():
            if slope.agrees(chosen) is False:
                detail = "behind it the output moves by more or less than gradients say"
                fault = Fault(str(site.target), module_path(site), detail=detail)
                return LawResult.of(SLOPES, (fault,), slope.runs)
    if agrees is None:
        reason = "the output is not smooth in what attention puts out"
        return LawResult(SLOPES, "not checked", reason=reason, forwards=slope.runs)
    return LawResult.of(SLOPES, (), slope.runs)


def null_players(
    captured: Capture,
    model: nn.Module,
    bound: ModelInputs,
    program: Program,
    explained: Explanation,
) -> LawResult:
    """A token that no output depends on has no relevance.

    Whether one depends on it is asked of the model alone: no gradient reaches it from any number that
    the model puts out, and none moves when it is disturbed strongly wherever it was born.
    """
    law = Law(captured, model, bound, program)
    canonical = canonical_tokens(program)
    born = [source for source in law.sources if source.update == IDENTITY]
    held = torch.zeros(len(canonical), dtype=torch.bool)
    for source in born:
        held[source.tokens[source.tokens >= 0]] = True
    with chance_kept(bound.leaves), torch.enable_grad():
        found = reached(law.module, law.values, born, (), one_number, len(canonical))
    for felt in found.values():
        held &= ~felt
    names = tuple(m.name for m in program.modalities if _credited(m, explained, held, canonical))
    outputs = captured.graph.find_nodes(op="output")[0].all_input_nodes
    if names and not law.moves(outputs, held, through_attention=True):
        detail = "tokens that no output depends on have relevance"
        return LawResult.of(NULL_PLAYER, (Fault("", "", names, detail=detail),), 5)
    return LawResult.of(NULL_PLAYER, (), 3)


def _credited(modality: Modality, explained: Explanation, idle: Tensor, canonical: Tensor) -> bool:
    """Whether a position has relevance, all of whose tokens are idle."""
    relevance = explained.relevance.get(modality.name)
    if relevance is None or relevance.shape != modality.tokens.shape:
        return False
    tables = modality.every
    busy = (tables >= 0) & ~idle[canonical[tables.clamp(min=0)]]
    null = (tables >= 0).any(0) & ~busy.any(0)
    size = relevance.detach().abs().cpu()
    return bool((null & (size > _NOTHING * size.amax())).any())
