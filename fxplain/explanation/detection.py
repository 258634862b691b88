"""Detection: a model's program, found once per kind of input, and its attention graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from fxplain.capture import Capture, ModelInputs, bind_inputs, capture
from fxplain.errors import MethodError, NoGradientError, VerificationError
from fxplain.explanation.outputs import TokenRef, choose_output, describe, positions_at
from fxplain.program import AttentionGraph, Program, build_program
from fxplain.tokens import follow_tokens
from fxplain.verification import LEVELS, check_program

__all__ = ["graph_of", "no_attention", "program_of"]


def program_of(
    model: nn.Module, inputs: Any, verify: str = "off", *, strict: bool = False
) -> tuple[ModelInputs, Capture, Program]:
    """The call, its capture and its program; one that depends on sizes only is used again.

    A program is checked against the model once for each size, as `verify` says.
    """
    if verify not in LEVELS:
        raise MethodError(f"verify={verify!r} is none of {', '.join(map(repr, LEVELS))}.")
    bound = bind_inputs(model, inputs)
    captured = capture(model, bound)
    bound = captured.sized(bound)
    sizes = captured.sizes(bound.leaves)
    assert sizes is not None
    key = ("program", tuple(sizes.items()))
    program: Program | None = captured.memo.get(key)
    if program is None:
        flow = follow_tokens(captured, model, bound, keep_tags=verify != "off")
        program = build_program(flow)
        if not flow.data_dependent:
            captured.memo[key] = program
    if verify != "off":
        _checked(captured, model, bound, program, (verify, *key), strict)
    return bound, captured, program


def _checked(
    captured: Capture,
    model: nn.Module,
    bound: ModelInputs,
    program: Program,
    key: tuple[Any, ...],
    strict: bool,
) -> None:
    """Check a program, and warn of what is broken in it."""
    flow = program.flow
    if key not in captured.memo:
        if not flow.tags:  # it was made for a call that asked for no check
            tagged = build_program(follow_tokens(captured, model, bound, keep_tags=True))
        else:
            tagged = program
        results = check_program(captured, model, bound, tagged, key[0])
        captured.memo[key] = [
            f"{fault}: what the model computes contradicts the explanation there"
            for result in results
            for fault in result.faults
        ]
    flow.tags = {}  # they are large, and serve the check alone
    for message in captured.memo[key]:
        if message not in flow.warnings:
            flow.warnings.append(message)
            program.memo.pop("graph", None)
    if strict and captured.memo[key]:
        raise VerificationError(
            f"{captured.memo[key][0]}. Without strict=True it is a warning; fxplain.verify tells more."
        )


def graph_of(model: nn.Module, captured: Capture, program: Program) -> AttentionGraph:
    """The program as plain data, made once."""
    if "graph" not in program.memo:
        try:
            readout = _usual_readout(captured, program)
        except NoGradientError:
            readout = "none"
        name = type(model).__name__
        program.memo["graph"] = AttentionGraph.of(name, captured, program, readout)
    graph: AttentionGraph = program.memo["graph"]
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
    return (
        f"{type(model).__name__} has no attention over tokens, so there is nothing that relevancy "
        f"rules could follow.{found}{mixed}"
    )
