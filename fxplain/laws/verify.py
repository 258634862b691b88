"""`verify`: all laws, tried on a user's own model and input."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import nn

from fxplain.arguments import checked, one_of
from fxplain.capture import (
    Capture,
    ModelInputs,
    as_module,
    model_tried,
    on_all_processes,
    tables_as_tensors,
)
from fxplain.errors import FxplainError, MethodError
from fxplain.explanation import explain
from fxplain.explanation.detection import program_of
from fxplain.laws.cheap import (
    BATCH,
    ORDER,
    PADDING,
    READINGS,
    batch_independence,
    map_sums,
    padding_independence,
    same_output,
    token_order,
    two_readings,
)
from fxplain.laws.slopes import NULL_PLAYER, finite_differences, null_players
from fxplain.program import Program, build_program
from fxplain.tokens import follow_tokens
from fxplain.verification import LawResult, Verification, check_program

__all__ = ["verify"]


@on_all_processes
@checked(level=one_of(("light", "full")).raising(MethodError))
def verify(model: nn.Module, inputs: Any, *, level: str = "full") -> Verification:
    """Try on a model whether what fxplain detects in it, and says of it, is true.

    Nothing of it knows how the operations of a graph are analysed: it disturbs tokens where they are
    born, and what attention nodes say of them, and looks at what moves.

    Parameters
    ----------
    model, inputs
        As `fxplain.explain` takes them.
    level
        "light" (what `inspect` and `explain` check when they are asked to) or "full".

    Returns
    -------
    Verification
        Print it; ``.ok``, ``.laws``, ``.to_dict()``.

    Examples
    --------
    >>> import fxplain, torch
    >>> model = torch.nn.TransformerEncoderLayer(8, 2, batch_first=True).eval()
    >>> fxplain.verify(model, (torch.randn(2, 4, 8),)).ok
    True
    """
    model = as_module(model)
    inputs, _ = tables_as_tensors(model, inputs)
    start = time.perf_counter()
    with torch.inference_mode(False), model_tried(model, inputs):
        bound, captured, _ = program_of(model, inputs, verify="off")
        tagged = build_program(follow_tokens(captured, model, bound, keep_tags=True))
        results = check_program(captured, model, bound, tagged, level)
        if level == "full":
            results.append(same_output(captured, model, bound, inputs))
            results.append(map_sums(captured, model, bound, tagged))
            results.append(finite_differences(captured, model, bound, tagged))
            results += _of_explanation(captured, model, inputs, bound, tagged)
    return Verification(type(model).__name__, tuple(results), round(time.perf_counter() - start, 3))


def _of_explanation(
    captured: Capture, model: nn.Module, inputs: Any, bound: ModelInputs, program: Program
) -> list[LawResult]:
    """The laws of the explanation that one gets without asking for anything."""
    try:
        explained = explain(model, inputs, verify="off")
    except FxplainError as error:
        laws = (BATCH, PADDING, ORDER, READINGS, NULL_PLAYER)
        return [LawResult(name, "not checked", reason=str(error)) for name in laws]
    return [
        batch_independence(captured, model, inputs, bound, explained),
        padding_independence(model, inputs, explained),
        token_order(model, inputs, explained),
        two_readings(model, inputs, explained),
        null_players(captured, model, bound, program, explained),
    ]
