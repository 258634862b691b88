"""The doors: `inspect` and `explain`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fxplain.capture import Capture, ModelInputs, bind_inputs, capture
from fxplain.errors import NoAttentionError, NoGradientError
from fxplain.explanation import reading
from fxplain.explanation.explanation import ByModality, Explanation
from fxplain.explanation.labels import token_labels
from fxplain.explanation.outputs import TokenRef, choose_output, describe, positions_at
from fxplain.explanation.passes import Passes
from fxplain.explanation.target import ResolvedTarget, resolve_target
from fxplain.methods import Method, resolve_method
from fxplain.program import AttentionGraph, Program, build_program
from fxplain.run import forward
from fxplain.tokens import follow_tokens

__all__ = ["attention_weights", "explain", "inspect"]

Inputs = Mapping[str, Any] | Sequence[Any] | Tensor


def inspect(model: nn.Module, inputs: Inputs) -> AttentionGraph:
    """Detect every attention of a model, without running a layer of it where that can be avoided.

    Parameters
    ----------
    model
        Any module, in eval mode.
    inputs
        A mapping of argument names (a processor's output as it is) or a tuple of positional
        arguments.

    Returns
    -------
    AttentionGraph
        Print it, or use ``.nodes``, ``.streams``, ``.rejected``, ``.to_networkx()``.

    Raises
    ------
    FxplainError
        When inputs do not fit the model, or the model cannot be captured.
    """
    _, captured, program = _program(model, inputs)
    return _graph(model, captured, program)


def explain(
    model: nn.Module,
    inputs: Inputs,
    target: Any = None,
    method: str = "generic",
    *,
    output: str | None = None,
    tokenizer: Any = None,
    engine: str = "auto",
    **options: Any,
) -> Explanation:
    """Explain one number per sample of a model's output: which tokens of each input it draws on.

    One forward and one backward for the whole batch. The model is not changed.

    Parameters
    ----------
    model
        Any module, in eval mode; device and dtype are the model's own.
    inputs
        A mapping of argument names (a processor's output as it is) or a tuple of positional
        arguments.
    target
        None (the predicted class; of a sequence, the prediction at the last real position; of a set
        of object queries, the most confident one), a class index or label, a list or tensor with one
        entry per sample, an index tuple into one sample's output such as ``(object query, class)``,
        or a function from the model's output to one number per sample.
    method
        One of `fxplain.methods()`.
    output
        The name of the explained output field, where it is not obvious.
    tokenizer
        Anything with ``convert_ids_to_tokens``, to label word pieces.
    engine
        "rows" finds the readout's rows of the relevancy matrices by products with vectors, "matrices"
        builds the matrices, and "auto" takes the rows where the method can.
    **options
        Options of the method, for example ``normalize=False``.

    Returns
    -------
    Explanation
        ``.relevance[modality]`` (batch, tokens), ``.matrix(a, b)``, ``.graph``; print it.

    Raises
    ------
    FxplainError
        Every error that is the caller's to solve, each with its own subclass and message.

    References
    ----------
    Chefer, Gur & Wolf, "Generic Attention-model Explainability for Interpreting Bi-Modal and
    Encoder-Decoder Transformers", ICCV 2021, arXiv 2103.15679.
    """
    chosen, all_options = resolve_method(method, options)
    with torch.inference_mode(False):  # gradients are needed whatever mode the caller is in
        return _explained(model, inputs, target, chosen, output, tokenizer, all_options, engine)


def _explained(
    model: nn.Module,
    inputs: Inputs,
    target: Any,
    method: Method,
    output: str | None,
    tokenizer: Any,
    options: Mapping[str, Any],
    engine: str,
) -> Explanation:
    bound, captured, program = _program(model, inputs)
    if not program.nodes:
        raise NoAttentionError(_no_attention(model, program))
    passes = Passes(captured, model, bound, program, method.needs(options))
    outputs = passes.outputs
    resolved = resolve_target(target, output, model, bound, captured, program, outputs)
    views = _views(program, passes, resolved, method, options)
    engine = reading.choose_engine(engine, views[0].scores, method.name)
    modalities = {m.name: m for m in program.modalities}
    return Explanation(
        relevance=ByModality(reading.relevance(program, views, engine)),
        graph=_graph(model, captured, program),
        method=method.name,
        target=resolved.description,
        readout=tuple(readout.text for readout in resolved.readouts),
        scores=resolved.scores,
        output=captured.output.rebuild([o.detach() for o in outputs]),
        labels={
            name: reading.by_view(program, views, m, token_labels(m, bound, tokenizer))
            for name, m in modalities.items()
        },
        special={name: m.special for name, m in modalities.items()},
        grids={name: m.grid for name, m in modalities.items()},
        options=options,
        engine=engine,
        conservation=passes.conservation,
        matrix_of=lambda a, b: reading.matrix(program, views, modalities[a], modalities[b]),
        inputs=dict(zip(bound.names, (leaf.detach() for leaf in bound.leaves), strict=True)),
    )


def attention_weights(model: nn.Module, inputs: Inputs) -> dict[str, Tensor]:
    """The attention weights A of every detected node, as the model computes them.

    Returns
    -------
    dict
        Node name to tensor (..., queries, keys), with the leading axes that the model uses (batch
        and heads, windows folded into the batch).
    """
    bound, captured, program = _program(model, inputs)
    run = forward(captured, model, bound, program)
    return {seen.node.info.name: seen.weights() for seen in run.nodes}


def _program(model: nn.Module, inputs: Inputs) -> tuple[ModelInputs, Capture, Program]:
    """The call, its capture and its program; one that depends on sizes only is used again."""
    bound = bind_inputs(model, inputs)
    captured = capture(model, bound)
    bound = captured.sized(bound)
    sizes = captured.sizes(bound.leaves)
    assert sizes is not None
    key = ("program", tuple(sizes.items()))
    program: Program | None = captured.memo.get(key)
    if program is None:
        program = build_program(follow_tokens(captured, model, bound))
        if not program.flow.data_dependent:
            captured.memo[key] = program
    return bound, captured, program


def _views(
    program: Program,
    passes: Passes,
    resolved: ResolvedTarget,
    method: Method,
    options: Mapping[str, Any],
) -> list[reading.View]:
    """One view per sample; one backward for all, unless samples share tokens.

    Two targets may be read from the same tokens, and the images of all samples may be one sequence:
    relevancy matrices tell that apart by rows, scores of tokens do not.
    """
    readouts = resolved.readouts
    scores_tokens = passes.needs.births
    shared = scores_tokens and any(len(m.tokens) < len(readouts) for m in program.modalities)
    if not shared and not _share_tokens(program, resolved):
        scores = method.score(passes.evidence(resolved, None, False), options)
        return [reading.View.of(program, scores, readout, i) for i, readout in enumerate(readouts)]
    views = []
    for i, readout in enumerate(readouts):
        evidence = passes.evidence(resolved, i, i + 1 < len(readouts))
        views.append(reading.View.of(program, method.score(evidence, options), readout, i))
    return views


def _share_tokens(program: Program, resolved: ResolvedTarget) -> bool:
    """Whether two samples' targets are read from one sequence (two images against one text)."""
    seen: set[tuple[int, int]] = set()
    for readout in resolved.readouts:
        own = {
            (
                program.streams[int(program.token_stream[ref.token])].root,
                int(program.token_sample[ref.token]),
            )
            for group in readout.groups
            for ref in group
        }
        if seen & own:
            return True
        seen |= own
    return False


def _graph(model: nn.Module, captured: Capture, program: Program) -> AttentionGraph:
    try:
        readout = _usual_readout(captured, program)
    except NoGradientError:
        readout = "none"
    return AttentionGraph.of(type(model).__name__, captured, program, readout)


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


def _no_attention(model: nn.Module, program: Program) -> str:
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
