"""Detection: a model's program, found once per kind of input, and its attention graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from fxplain.arguments import one_of
from fxplain.capture import (
    AsItWas,
    Capture,
    ModelInputs,
    bind_inputs,
    capture,
    on_axis,
)
from fxplain.capture.models import packed_hint
from fxplain.errors import MethodError, NoGradientError, VerificationError
from fxplain.explanation.outputs import TokenRef, choose_output, describe, positions_at
from fxplain.program import AttentionGraph, Program, build_program
from fxplain.tokens import (
    TokenFlow,
    contradicted,
    counted_apart,
    follow_tokens,
    rebatched,
    unsettled,
)
from fxplain.verification import LEVELS, check_program

__all__ = ["BatchAxis", "graph_of", "no_attention", "program_of"]


BatchAxis = int | Mapping[str, int] | None

_UNKNOWN_OPERATION = (
    "Where it belongs to quantised layers, explain the model as it was before it was quantised; "
    "otherwise give it a row (docs/how-to/add-an-op.md)."
)


def program_of(
    model: nn.Module,
    inputs: Any,
    batch_axis: BatchAxis = None,
    verify: str = "light",
    *,
    strict: bool = False,
    recheck: bool = False,
) -> tuple[ModelInputs, Capture, Program]:
    """The call, its capture and its program; one that holds for these inputs too is used again.

    A program is checked against the model once for each size, as `verify` says.
    """
    one_of(LEVELS).raising(MethodError).check("verify", verify)
    bound = bind_inputs(model, inputs)
    captured = capture(model, bound, recheck=recheck)
    bound = captured.sized(bound) if batch_axis is None else on_axis(bound, batch_axis)
    sizes = captured.sizes(bound.leaves)
    assert sizes is not None
    key = ("programs", tuple(sizes.items()), bound.batch_axes)
    known: list[_Known] = captured.memo.made(key, list)
    for each in tuple(known):
        if each.holds(captured, model, bound):
            batched, program = each.batched(bound), each.program
            break
    else:
        tags = verify != "off"
        given = batch_axis is not None
        batched, flow = _followed(captured, model, bound, given=given, keep_tags=tags)
        program = build_program(flow)
        if flow.read <= {*captured.inputs, *captured.state}:  # else it follows random draws
            known[:] = [_Known.of(program, captured, model, batched), *known][:_MOST_PROGRAMS]
    if verify != "off":
        _checked(captured, model, batched, program, (verify, *key), strict)
    return batched, captured, program


def _followed(
    captured: Capture, model: nn.Module, bound: ModelInputs, *, given: bool, keep_tags: bool
) -> tuple[ModelInputs, TokenFlow]:
    """The tokens' flow, with the samples along the axes that attention itself shows."""
    flow = follow_tokens(captured, model, bound, keep_tags=keep_tags)
    if given or not unsettled(flow):
        return bound, flow
    turned = rebatched(flow, bound)
    # what all samples share (one picture, many texts) connects them, and makes them no one sample
    shared = turned is not None and turned.batch_size < bound.batch_size and not contradicted(flow)
    # a whole batch that attends to itself is no one sample either: a bare sequence is
    bare = all(leaf.dim() - leaf.is_floating_point() <= 1 for leaf in bound.leaves)
    placed = turned is not None and any(axis is not None for axis in turned.batch_axes)
    if turned is not None and (placed or bare) and not shared:
        other = follow_tokens(captured, model, turned, keep_tags=keep_tags)
        if not unsettled(other) or (contradicted(flow) and not contradicted(other)):
            return turned, other
    apart = counted_apart(flow, bound)
    if apart is not None:
        return apart, follow_tokens(captured, model, apart, keep_tags=keep_tags)
    return bound, flow


_MOST_PROGRAMS = 4
"""How many programs of a size are kept where they depend on values (masks, weights)."""


@dataclass(frozen=True, eq=False)
class _Known:
    """A program, and the values that the analysis read for it: copied inputs, weights as they were."""

    program: Program
    batch_size: int
    batch_axes: tuple[int | None, ...]
    inputs: dict[str, Tensor]
    weights: dict[str, AsItWas]

    @classmethod
    def of(
        cls, program: Program, captured: Capture, model: nn.Module, inputs: ModelInputs
    ) -> _Known:
        """What has to be the same for `program` to hold."""
        read = program.flow.read
        leaves = dict(zip(captured.inputs, inputs.leaves, strict=True))
        weights = {name: captured.state[name] for name in read if name in captured.state}
        parameters = captured.live(model)["parameter"] if weights else {}
        return cls(
            program,
            inputs.batch_size,
            inputs.batch_axes,
            {name: leaf.detach().clone() for name, leaf in leaves.items() if name in read},
            {name: AsItWas.of(parameters[slot.path]) for name, slot in weights.items()},
        )

    def batched(self, inputs: ModelInputs) -> ModelInputs:
        """Inputs with the samples where they were found."""
        return replace(inputs, batch_size=self.batch_size, batch_axes=self.batch_axes)

    def holds(self, captured: Capture, model: nn.Module, inputs: ModelInputs) -> bool:
        """Whether these inputs and the model's weights are what the analysis read."""
        leaves = dict(zip(captured.inputs, inputs.leaves, strict=True))
        if not all(torch.equal(leaves[name], value) for name, value in self.inputs.items()):
            return False
        parameters = captured.live(model)["parameter"] if self.weights else {}
        paths = {name: captured.state[name].path for name in self.weights}
        return all(held.still(parameters.get(paths[name])) for name, held in self.weights.items())


def _checked(
    captured: Capture,
    model: nn.Module,
    bound: ModelInputs,
    program: Program,
    key: tuple[Any, ...],
    strict: bool,
) -> None:
    """Check a program, and warn of what is broken in it.

    Raises
    ------
    VerificationError
        If something is, and `strict`.
    """
    flow = program.flow

    def found() -> tuple[list[str], bool]:
        tags = flow.tags  # as long as it is held here, another thread may let go of it
        if tags:
            tagged = replace(program, flow=replace(flow, tags=tags))
        else:  # it was made for a call that asked for no check
            tagged = build_program(follow_tokens(captured, model, bound, keep_tags=True))
        try:
            results = check_program(captured, model, bound, tagged, key[0])
        except (RuntimeError, NotImplementedError) as error:  # memory, a kernel that is not there
            said = f"what is detected could not be checked: {type(error).__name__}: {error}"
            return [said], False
        faults = [fault for result in results for fault in result.faults]
        told = "what the model computes contradicts the explanation there"
        return [f"{fault}: {told}" for fault in faults], bool(faults)

    messages, broken = captured.memo.made(key, found)
    flow.tags = {}  # they are large, and serve the check alone
    for message in messages:
        if message not in flow.warnings:
            flow.warnings.append(message)
            program.memo.drop("graph")
    if strict and broken:
        raise VerificationError(
            f"{messages[0]}. Without strict=True it is a warning; fxplain.verify tells more."
        )


def graph_of(model: nn.Module, captured: Capture, program: Program) -> AttentionGraph:
    """The program as plain data, made once."""

    def made() -> AttentionGraph:
        try:
            readout = _usual_readout(captured, program)
        except NoGradientError:
            readout = "none"
        return AttentionGraph.of(type(model).__name__, captured, program, readout)

    graph: AttentionGraph = program.memo.made("graph", made)
    return graph


def _usual_readout(captured: Capture, program: Program) -> str:
    """Where the main output of the first sample is read."""
    chosen = choose_output(captured, program, None)
    shape = program.flow.shapes[chosen]
    if not shape:
        return "none"
    of_sample = torch.zeros(shape, dtype=torch.bool)
    of_sample[0] = True
    groups = positions_at(program, chosen, of_sample)
    if any(_apart(program, chosen, group) for group in groups):
        return "each of " + describe(program, groups).replace("mean of ", "")
    return describe(program, groups)


def _apart(program: Program, output: int, group: Sequence[TokenRef]) -> bool:
    """Whether the tokens are read by different numbers of the output, and not by one together."""
    shape = program.flow.shapes[output]
    first = positions_at(program, output, (0,) * len(shape))
    return len(group) > 1 and all(len(own) < len(group) or set(own) != set(group) for own in first)


def no_attention(model: nn.Module, program: Program) -> str:
    """What to tell somebody whose model has no attention over tokens."""
    rejected = "; ".join(
        f"{r.name} in {r.module or 'the model'}: {r.reason}" for r in program.flow.rejected
    )
    found = f" Softmaxes that are not attention: {rejected}." if rejected else ""
    mixing = [w for w in program.flow.warnings if "without attention" in w]
    mixed = f" {mixing[0]}." if mixing else ""
    unknown = [w for w in program.flow.warnings if "carry no token" in w]
    advice = packed_hint(model).strip() or _UNKNOWN_OPERATION
    lost = f" But {unknown[0]}: attention behind it cannot be found. {advice}" if unknown else ""
    scripts = [n for n, m in model.named_modules() if n and isinstance(m, torch.jit.ScriptModule)]
    where = " outside of TorchScript" if scripts else ""
    hidden = (
        f" Explain the Python module that its part {scripts[0]!r} was made of." if scripts else ""
    )
    return (
        f"{type(model).__name__} has no attention over tokens{where}, so there is nothing that "
        f"relevancy rules could follow.{found}{mixed}{lost}{hidden}"
    )
