"""The doors: `inspect`, `explain` and `attention_weights`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor, nn

from fxplain.arguments import YES_NO, checked, shown
from fxplain.capture import as_module, model_tried, on_all_processes
from fxplain.errors import TargetError
from fxplain.explanation.detection import BatchAxis, graph_of, program_of
from fxplain.explanation.explanation import Explanation
from fxplain.explanation.question import Question
from fxplain.explanation.weights import weights_by_node
from fxplain.methods import UnitMethod, resolve_method
from fxplain.program import AttentionGraph
from fxplain.run import forward

__all__ = ["attention_weights", "explain", "inspect", "several"]

_REMOVAL = "fxplain.removal"  # imported when it is asked for: it stands above

Inputs = Mapping[str, Any] | Sequence[Any] | Tensor


@on_all_processes
@checked(strict=YES_NO, recheck=YES_NO)
def inspect(
    model: nn.Module,
    inputs: Inputs,
    *,
    batch_axis: BatchAxis = None,
    verify: str = "light",
    strict: bool = False,
    recheck: bool = False,
) -> AttentionGraph:
    """Detect every attention of a model, and check once what was detected against the model.

    Parameters
    ----------
    model
        Any module, in eval mode.
    inputs
        A mapping of argument names (a processor's output as it is) or a tuple of positional
        arguments.
    batch_axis
        The axis of the inputs that holds the samples, one for all or one by name, where attention
        itself does not show it.
    verify
        How what is detected is checked, once for each size of input: "light" (about two forwards),
        "full" (more disturbances) or "off" (no layer is run where that can be avoided). What is broken
        is a warning of the graph.
    strict
        Raise `VerificationError` instead.
    recheck
        Run the model itself too, and capture it anew where it says something else. A change of the
        model is noticed without (see ``docs/how-to/serve.md`` for what cannot be seen), and once in
        64 calls this is done anyway.

    Returns
    -------
    AttentionGraph
        Print it, or use ``.nodes``, ``.streams``, ``.rejected``, ``.to_networkx()``.

    Raises
    ------
    FxplainError
        When inputs do not fit the model, or the model cannot be captured.
    """
    model = as_module(model)
    with model_tried(model, inputs):
        _, captured, program = program_of(
            model, inputs, batch_axis, verify, strict=strict, recheck=recheck
        )
    return graph_of(model, captured, program)


@overload
def explain(
    model: nn.Module,
    inputs: Inputs,
    target: Any = None,
    method: str = "generic",
    *,
    targets: None = None,
    output: str | None = None,
    tokenizer: Any = None,
    names: Mapping[str, Sequence[str]] | None = None,
    engine: str = "auto",
    batch_axis: BatchAxis = None,
    verify: str = "light",
    strict: bool = False,
    recheck: bool = False,
    recompute: bool = False,
    **options: Any,
) -> Explanation: ...


@overload
def explain(
    model: nn.Module,
    inputs: Inputs,
    *,
    targets: Sequence[Any],
    method: str = "generic",
    output: str | None = None,
    tokenizer: Any = None,
    names: Mapping[str, Sequence[str]] | None = None,
    engine: str = "auto",
    batch_axis: BatchAxis = None,
    verify: str = "light",
    strict: bool = False,
    recheck: bool = False,
    recompute: bool = False,
    **options: Any,
) -> list[Explanation]: ...


@on_all_processes
def explain(
    model: nn.Module,
    inputs: Inputs,
    target: Any = None,
    method: str = "generic",
    *,
    targets: Sequence[Any] | None = None,
    output: str | None = None,
    tokenizer: Any = None,
    names: Mapping[str, Sequence[str]] | None = None,
    engine: str = "auto",
    batch_axis: BatchAxis = None,
    verify: str = "light",
    strict: bool = False,
    recheck: bool = False,
    recompute: bool = False,
    **options: Any,
) -> Explanation | list[Explanation]:
    """Explain one number per sample of a model's output: which tokens of each input it draws on.

    One forward and one backward for the whole batch. The model is not changed.

    Parameters
    ----------
    model
        Any module, in eval mode; device and dtype are the model's own.
    inputs
        A mapping of argument names (a processor's output as it is) or a tuple of positional
        arguments. A table of pandas or Polars, or a row of one, may be one of them, or be all of the
        inputs: its columns are the arguments of their names, or the tokens of the first argument.
    target
        None (the predicted class; of a sequence, the prediction at the last real position; of a set
        of object queries, the most confident one), a class index or label, a list or tensor with one
        entry per sample, an index tuple into one sample's output such as ``(object query, class)``, a
        `Contrast` or a `Sum` of these, or a function from the model's output to one number per sample.
    method
        One of `fxplain.methods()`, of `fxplain.unit_methods()` (which run the model without parts of
        its inputs), of `fxplain.smoothing_methods()` (which ask another with noise), or "auto" for the
        one that measured best on the kind of model: ``.method`` is then what it chose, and ``.chosen``
        why.
    targets
        In the place of `target`, several of what it may be (classes, object queries, generated
        tokens): they share one forward, and those of a small model share backwards; memory does not
        grow with their number.
    output
        The name of the explained output field, where it is not obvious.
    tokenizer
        Anything with ``convert_ids_to_tokens``, to label word pieces.
    names
        By modality, what to call its tokens, in their order: sensors, say, or the columns of a table,
        whose names are known where it is given as one.
    engine
        "rows" finds the readout's rows of the relevancy matrices by products with vectors, "matrices"
        builds the matrices, and "auto" takes the rows where the method can.
    batch_axis
        The axis of the inputs that holds the samples: one for all, or one by name. Left out, it is
        found: the first, unless attention shows that tokens along it are one sample's and that those
        along another are not, as in PyTorch's own (sequence, batch, features).
    verify, strict, recheck
        As `inspect` takes them.
    recompute
        For a backward that does not fit: keep no more of each layer than what the next one reads,
        and make the rest again, layer by layer, when the gradients come. The numbers are the same;
        one more forward is the price.
    **options
        Options of the method, for example ``normalize=False``.

    Returns
    -------
    Explanation or list of Explanation
        ``.relevance[modality]`` (batch, tokens), ``.matrix(a, b)``, ``.graph``; print it. A list, in
        the order of `targets`, where these are given; a matrix of one of them runs the model again.

    Raises
    ------
    FxplainError
        Every error that is the caller's to solve, each with its own subclass and message.

    References
    ----------
    Chefer, Gur & Wolf, "Generic Attention-model Explainability for Interpreting Bi-Modal and
    Encoder-Decoder Transformers", ICCV 2021, arXiv 2103.15679.
    """
    how: dict[str, Any] = {"output": output, "tokenizer": tokenizer, "batch_axis": batch_axis}
    how["names"] = names
    how |= {"engine": engine, "verify": verify, "strict": strict, "recheck": recheck}
    how["recompute"] = recompute
    asked = [target] if targets is None else several(target, targets)
    chosen, all_options = resolve_method(method, options)
    if isinstance(chosen, UnitMethod):
        explain_units = import_module(_REMOVAL).explain_units
        judged: list[Explanation] = explain_units(
            as_module(model), inputs, asked, chosen, all_options, **how
        )
        return judged[0] if targets is None else judged
    question = Question(as_module(model), inputs, chosen, all_options, options, **how).checked()
    # gradients are needed whatever mode the caller is in
    with torch.inference_mode(False), model_tried(question.model, inputs):
        made = question.settled().answers(asked)
    return made[0] if targets is None else made


def several(target: Any, targets: Any) -> list[Any]:
    """The targets, where there is no other and they are several.

    Raises
    ------
    TargetError
        When they are one, or a target is given, too.
    """
    if target is not None:
        raise TargetError("both target= and targets= are given: leave one of them out.")
    if not isinstance(targets, (list, tuple, range, Tensor, np.ndarray, Iterator)):
        raise TargetError(
            f"targets={shown(targets)} must be a sequence of targets; for one target use target=."
        )
    return list(targets)


@on_all_processes
@checked(recheck=YES_NO)
def attention_weights(
    model: nn.Module, inputs: Inputs, *, batch_axis: BatchAxis = None, recheck: bool = False
) -> dict[str, Tensor]:
    """The attention weights A of every detected node, as the model computes them.

    Returns
    -------
    dict
        Node name to tensor (..., queries, keys), with the leading axes that the model uses (batch
        and heads, windows folded into the batch).
    """
    model = as_module(model)
    with model_tried(model, inputs):
        bound, captured, program = program_of(
            model, inputs, batch_axis, verify="off", recheck=recheck
        )
        return weights_by_node(forward(captured, model, bound, program))
