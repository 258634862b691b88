"""The door: `evaluate`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from fxplain.arguments import (
    FUNCTION,
    NAMES,
    TOKENIZER,
    Form,
    checked,
    number,
    one_of,
    optional,
    whole,
)
from fxplain.capture import as_module, on_all_processes
from fxplain.errors import EvaluationError
from fxplain.evaluation.catalogue import SANITY_CHECKS
from fxplain.evaluation.dataset import batches, count_samples
from fxplain.evaluation.evaluator import Evaluator
from fxplain.evaluation.explainers import AskedMethods, choose_explainers
from fxplain.evaluation.faithfulness import steps_of
from fxplain.evaluation.registry import AskedMetrics, choose_metrics
from fxplain.evaluation.result import Evaluation
from fxplain.removal import SCORES, Score, Vocabulary

__all__ = ["evaluate"]

Progress = Callable[[int, int | None], None]


_COUNT = whole(1, 1 << 31).raising(EvaluationError)
_IDS = Form(
    "a list of ids",
    lambda value: (
        isinstance(value, (list, tuple, set, frozenset)) and all(map(whole(0).fits, value))
    ),
    EvaluationError,
)


_REMOVAL = Form(
    "the name of a removal, or names by modality",
    lambda value: (
        isinstance(value, str) or (isinstance(value, Mapping) and NAMES.fits([*value.values()]))
    ),
    EvaluationError,
)


@on_all_processes
@checked(
    modalities=optional(NAMES.raising(EvaluationError)),
    tokenizer=optional(TOKENIZER),
    special_ids=_IDS,
    batch_size=_COUNT,
    max_tokens=_COUNT,
    seed=whole(0, (1 << 63) - 1).raising(EvaluationError),
    resamples=_COUNT,
    confidence=number(0, 1, inside=True).raising(EvaluationError),
    progress=optional(FUNCTION),
    removal=optional(_REMOVAL),
    filler=optional(FUNCTION.raising(EvaluationError)),
)
def evaluate(
    model: nn.Module,
    dataset: Iterable[Any],
    methods: AskedMethods = None,
    metrics: AskedMetrics = None,
    *,
    target: Any = None,
    score: Score | None = None,
    steps: str | Sequence[float] | None = None,
    modalities: Sequence[str] | None = None,
    removal: str | Mapping[str, str] | None = None,
    output: str | None = None,
    tokenizer: Any = None,
    special_ids: Collection[int] = (),
    filler: Any = None,
    batch_size: int = 32,
    max_tokens: int = 16384,
    seed: int = 0,
    resamples: int = 1000,
    confidence: float = 0.95,
    progress: Progress | None = None,
) -> Evaluation:
    """Ask which explanations to believe, on this model and these data, and get numbers.

    Every sample is explained once by each method, in batches, and all metrics use that. Special
    tokens (CLS, SEP, any parameter's), padding and the token that the target is read from are never
    removed and never counted. A row of random relevance is always among the results.

    Parameters
    ----------
    model
        Any module, in eval mode. It is not changed.
    dataset
        An iterable of inputs with a batch axis (a mapping as processors and data loaders make it,
        whose integer "labels" are the true classes), of pairs (inputs, true class), or of
        `fxplain.Example`, which may say where the evidence lies.
    methods
        Names from `fxplain.methods()`; or by label a name, a pair (name, options), or a function of
        model, inputs and target that returns (batch, tokens) relevance by modality. By default all
        methods, without those that this model does not allow.
    metrics
        Names from `fxplain.metrics()`, or by label a name or a pair (name, options). By default the
        perturbation tests, and of the first 32 samples two sanity checks: whether explanations depend
        on the model's weights ("randomisation") and on the class ("random_target").
    target
        What is explained: None for what each `fxplain.Example` asks for, and the predicted class of
        all other samples; the "predicted" class, the "true" one, or anything that `fxplain.explain`
        takes, for all; a list has one for each sample of the data set.
    score
        Of perturbation tests: "accuracy" (is the top class the true one; where the data set has no
        classes, the one that was explained), "probability" or "logit" of the explained class, or a
        function of the model's output and a list of true classes (or explained ones, where the data
        set has none), one per row, that returns (rows,). By default the probability; where what is
        explained is one number and no class (a regression, a contrast, a function), that number.
    steps
        Of perturbation tests: the fractions of tokens that go, or "default" (0, 10, ..., 90%) or
        "lxmert" (0, .25, .5, .75, .8, .85, .9, .95, 1).
    modalities
        Which to evaluate, "joint" for all together. By default each that tokens can be removed from.
    removal
        How tokens are removed, for all modalities or by modality: "attention_mask", "mask_token",
        "filled", "mean", "zero", "blur", "patch_mean", "road" or "drop". By default the first of
        these that suits.
    output
        The name of the explained output field, where it is not obvious.
    tokenizer
        Whose special tokens are never removed, and whose mask token can stand for a word.
    special_ids
        More ids that are never removed.
    filler
        For removal="filled", a masked language model of the same vocabulary in eval mode: called with
        ``input_ids=`` and ``attention_mask=``, it returns (rows, tokens, words), or has that as
        ``logits``.
    batch_size
        How many samples are explained at once.
    max_tokens
        How many tokens, over samples and steps, are run at once in perturbation tests.
    seed
        Of everything drawn: random relevance, ties, noise, weights, resamples.
    resamples, confidence
        Of the bootstrap intervals.
    progress
        Called after each batch with the number of samples done and of all (None if unknown).

    Returns
    -------
    Evaluation
        Print it; ``.rows``, ``.curves``, ``.compare(a, b, metric)``, ``.to_pandas()``, ``.plot()``.

    Raises
    ------
    FxplainError
        Every error that is the caller's to solve, each with its own subclass and message.
    """
    model = as_module(model)
    by_name = [*removal.values()] if isinstance(removal, Mapping) else [removal]
    if filler is not None and "filled" not in by_name:
        raise EvaluationError(
            "filler= draws words for removal='filled' alone: give that, too, or leave filler= out."
        )
    evaluator = Evaluator(
        model=model,
        explainers=choose_explainers(methods, output),
        metrics=choose_metrics(metrics),
        may_skip=methods is None,
        sanity=frozenset(SANITY_CHECKS) if metrics is None else frozenset(),
        target=target,
        score=_checked_score(score),
        steps=steps_of(steps),
        modalities=modalities,
        removal=removal,
        output=output,
        vocabulary=Vocabulary.of(model, tokenizer, special_ids, filler),
        max_tokens=max_tokens,
        seed=seed,
    )
    total = count_samples(model, dataset) if progress else None
    for batch in batches(model, dataset, batch_size):
        evaluator.add(batch)
        if progress:
            progress(batch.first + batch.size, total)
    return evaluator.result(resamples, confidence)


def _checked_score(score: Score | None) -> Score | None:
    if score is not None and not callable(score):
        one_of(SCORES).raising(EvaluationError).check("score", score)
    return score
