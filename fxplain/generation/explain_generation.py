"""The door: `explain_generation`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from fxplain.arguments import checked, one_of, optional, whole
from fxplain.capture import as_module, on_all_processes
from fxplain.errors import MethodError
from fxplain.explanation import Explanation, explain
from fxplain.explanation.explanation import ByModality
from fxplain.explanation.pieces import readable
from fxplain.explanation.target import Contrast, Sum
from fxplain.generation.generation import Generation
from fxplain.generation.outputs import SCORES, Output, choose_outputs
from fxplain.generation.sequence import (
    inputs_by_name,
    text_input,
    whole_sequence,
    with_padding_mask,
)
from fxplain.generation.writing import Writing, settings, take, write
from fxplain.methods import resolve_method, split_options

__all__ = ["explain_generation"]

MOST_TOKENS = 1_000_000
"""More than any model writes; one more zero would ask for memory that nobody has."""


@on_all_processes
@checked(
    max_new_tokens=whole(1, MOST_TOKENS),
    seed=optional(whole(0, (1 << 64) - 1)),
    score=one_of(SCORES).raising(MethodError),
)
def explain_generation(
    model: nn.Module,
    inputs: Any,
    max_new_tokens: int = 20,
    targets: Any = None,
    method: str = "generic",
    *,
    tokenizer: Any = None,
    generated: Any = None,
    score: str = "logit",
    seed: int | None = None,
    engine: str = "auto",
    verify: str = "light",
    strict: bool = False,
    recheck: bool = False,
    recompute: bool = False,
    **options: Any,
) -> Generation:
    """Generate a text, and explain which inputs and which earlier outputs each token draws on.

    One forward over the prompt and all that was generated, whatever the number of tokens. The model,
    its configs and the random state are left as they were.

    Parameters
    ----------
    model
        A decoder, or an encoder with a decoder, in eval mode: of text, speech, images, or several.
    inputs
        What ``model.generate`` is given: a mapping of argument names (a processor's output as it is),
        or a tuple of positional arguments. Prompts of unequal length are padded on the left.
    max_new_tokens
        How many tokens are generated at most.
    targets
        Which of the generated tokens are explained: None (all, the one that ends the text included),
        "words" (each word of one text, by the sum over its tokens), an index or a slice, or a sequence
        of indices (a negative one counts from each text's own end), of ``Span(2, 5)`` (the sum over
        several tokens) and of ``Contrast(4, other)`` (why the token at index 4 rather than another: an
        id, or a word where a tokenizer is given).
    method
        One of `fxplain.methods()`.
    tokenizer
        Labels tokens and decodes the text.
    generated
        Ids that were generated before, without the prompt, one row per sample: nothing is generated.
    score
        What is explained of a token: its "logit", or its "log_probability".
    seed
        Where ``generate`` samples (``do_sample=True``): its seed. Without one it draws from the random
        state as it is, and the same call of ``generate`` writes the same text again.
    engine, verify, strict, recheck, recompute
        As `fxplain.explain` takes them.
    **options
        Options of the method, and all that ``model.generate`` takes (``num_beams=4``: the text of the
        chosen beam is explained).

    Returns
    -------
    Generation
        ``.text``, ``.tokens``, ``.matrix(modality)``, ``.explanations``; print it.

    Raises
    ------
    FxplainError
        As `fxplain.explain` raises; an `InputError` too where ``generate`` fails.

    References
    ----------
    Chefer, Gur & Wolf, "Generic Attention-model Explainability for Interpreting Bi-Modal and
    Encoder-Decoder Transformers", ICCV 2021, arXiv 2103.15679.
    """
    model = as_module(model)
    own, for_generate = split_options(method, options)
    resolve_method(method, own)  # before anything is generated
    ends, pad = settings(model, for_generate)
    named = with_padding_mask(model, inputs_by_name(model, inputs), pad, ends)
    name = text_input(model)
    if generated is None:
        writing = write(model, named, max_new_tokens, seed, for_generate)
    else:
        writing = take(model, named, name, generated, (ends, pad))
    outputs = choose_outputs(targets, writing, tokenizer)
    explanations = explain(
        model,
        whole_sequence(model, named, writing),
        targets=[output.target(score) for output in outputs],
        method=method,
        output=None if score != "logit" else "logits",
        tokenizer=tokenizer,
        engine=engine,
        verify=verify,
        strict=strict,
        recheck=recheck,
        recompute=recompute,
        **own,
    )
    return _made(writing, outputs, explanations, tokenizer, score, name)


def _made(
    writing: Writing,
    outputs: Sequence[Output],
    explanations: Sequence[Explanation],
    tokenizer: Any,
    score: str,
    name: str,
) -> Generation:
    names = [tuple(_name(entry, tokenizer) for entry in output.entries) for output in outputs]
    real = writing.real.new_tensor(
        [[entry is not None for entry in output.entries] for output in outputs]
    ).T
    return Generation(
        text=tuple(
            _decoded(ids[mask].tolist(), tokenizer)
            for ids, mask in zip(writing.ids, writing.real, strict=True)
        ),
        ids=writing.ids,
        written=writing.real,
        targets=tuple(output.asked for output in outputs),
        names=tuple(names),
        real=real,
        explanations=tuple(
            _of_real_targets(explanation, mask, called if tokenizer is not None else ())
            for explanation, mask, called in zip(explanations, real.T, names, strict=True)
        ),
        score=score,
        text_input=name,
    )


def _of_real_targets(explanation: Explanation, real: Tensor, names: tuple[str, ...]) -> Explanation:
    """Without what stood in for texts that have no such token."""

    def kept(values: Tensor) -> Tensor:
        mask = real.to(values.device).reshape(-1, *[1] * (values.dim() - 1))
        return values.where(mask, values.new_zeros(()))

    def known(told: Sequence[Any], otherwise: Any) -> tuple[Any, ...]:
        pairs = zip(told, real.tolist(), strict=True)
        return tuple(each if is_real else otherwise for each, is_real in pairs)

    return replace(
        explanation,
        relevance=ByModality({k: kept(v) for k, v in explanation.relevance.items()}),
        scores=kept(explanation.scores),
        target=known(explanation.target, None),
        readout=known(explanation.readout, "no token"),
        matrix_of=lambda a, b: kept(explanation.matrix(a, b)),
        target_names=names,
    )


def _name(entry: Any, tokenizer: Any) -> str:
    """The token or tokens of an entry, as people read them."""
    if entry is None:
        return ""
    if isinstance(entry, Contrast):
        return f"{_name(entry.a, tokenizer)} rather than {_name(entry.b, tokenizer)}"
    if isinstance(entry, Sum):
        return _decoded([token for _, token in entry.parts], tokenizer)
    if tokenizer is None:
        return str(entry[1])
    piece = str(tokenizer.convert_ids_to_tokens([entry[1]])[0])
    return readable([piece], tokenizer)[0]


def _decoded(ids: list[int], tokenizer: Any) -> str:
    """A text, or its ids where nobody can read them."""
    if tokenizer is None:
        return " ".join(map(str, ids))
    if not hasattr(tokenizer, "decode"):
        return " ".join(map(str, tokenizer.convert_ids_to_tokens(ids)))
    return str(tokenizer.decode(ids, skip_special_tokens=True)).strip()
