"""The evaluator: takes batch after batch, explains each by every method, and measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fxplain.errors import EvaluationError, FxplainError
from fxplain.evaluation.case import JOINT, USUAL, Case, Relevance
from fxplain.evaluation.catalogue import SANITY_SAMPLES
from fxplain.evaluation.dataset import Batch
from fxplain.evaluation.explainers import RANDOM, ByMethod, Explainer
from fxplain.evaluation.metric import Measured
from fxplain.evaluation.registry import ChosenMetrics
from fxplain.evaluation.result import Evaluation, Key
from fxplain.evaluation.statistics import seeded
from fxplain.explanation import Explanation, explain
from fxplain.removal import (
    MASKING,
    ModalityTokens,
    Perturbation,
    Removal,
    Score,
    ScoreReader,
    Vocabulary,
    check_dropped,
    choose_removal,
    find_tokens,
    inside_argument,
    mask_moves_readout,
    score_name,
)

__all__ = ["OF_EXAMPLES", "Evaluator"]

OF_EXAMPLES = "of each example"
"""What is explained where examples ask for targets of their own."""


@dataclass
class Evaluator:
    """What `fxplain.evaluate` was asked for, and what was found so far.

    The attributes are those arguments of `fxplain.evaluate` that have the same name, resolved. `sanity`
    are the labels of checks that nobody asked for: they are taken of the first samples, and left out
    where they fail.
    """

    model: nn.Module
    explainers: dict[str, Explainer]
    metrics: ChosenMetrics
    may_skip: bool
    sanity: frozenset[str]
    target: Any
    score: Score | None
    steps: tuple[float, ...]
    modalities: Sequence[str] | None
    removal: str | Mapping[str, str] | None
    output: str | None
    vocabulary: Vocabulary
    max_tokens: int
    seed: int
    removals: dict[str, Removal] = field(default_factory=dict)
    unmaskable: frozenset[str] = frozenset()
    skipped: dict[str, str] = field(default_factory=dict)
    sizes: list[int] = field(default_factory=list)
    found: dict[Key, list[Measured | None]] = field(default_factory=dict)
    of_model: dict[Any, Any] = field(default_factory=dict)
    name: str = ""
    of_examples: bool = False
    labels: dict[str, list[Any]] = field(default_factory=lambda: {"class": [], "group": []})

    # -- one batch ----------------------------------------------------------------------------------

    def add(self, batch: Batch) -> None:
        """Explain a batch by every method and measure all that is asked for."""
        asked = self._target_of(batch)
        # The cheapest method tells targets, tokens and where the targets are read from.
        structure = explain(self.model, batch.inputs, asked, "raw_attention", output=self.output)
        tokens = find_tokens(self.model, batch.inputs, structure, self.vocabulary)
        if not self.sizes:
            self.name = structure.graph.model
            self.unmaskable = self._unmaskable(tokens, batch, structure)
            self._choose(self._maskable(tokens), batch)
        tokens = self._maskable(tokens)
        _check_own(tokens)
        self._check_positions(structure, batch, tokens)
        reader = ScoreReader(self.model, structure, asked, batch.targets, self.score)
        if self.score is None:
            self.score = "probability" if reader.has_classes else "logit"
        perturbation = Perturbation(
            self.model,
            batch.inputs,
            batch.size,
            tokens,
            self.removals,
            self.vocabulary,
            reader,
            self.max_tokens,
        )
        target = asked if callable(asked) else list(structure.target)
        of_batch: dict[Any, Any] = {}
        for label in list(self.explainers):
            try:
                self._measure(self._case(label, batch, target, perturbation, of_batch))
            except FxplainError as error:
                if not self.may_skip or isinstance(error, EvaluationError):
                    raise
                self._skip(label, str(error))
        self.sizes.append(batch.size)
        self.of_examples |= self.target is None and batch.asked
        self.labels["class"] += batch.targets or structure.target
        self.labels["group"] += batch.groups

    def _target_of(self, batch: Batch) -> Any:
        if self.target is None and batch.function is not None:
            return batch.function
        if self.target is None:
            return list(batch.targets) if batch.asked and batch.targets else None
        if isinstance(self.target, str) and self.target == "predicted":
            return None
        if isinstance(self.target, str) and self.target == "true":
            if batch.targets is None:
                raise EvaluationError(
                    'target="true" needs the true classes: give the data set as (inputs, class) pairs, '
                    "fxplain.Example(inputs, class) or mappings with integer labels."
                )
            return list(batch.targets)
        if isinstance(self.target, (list, Tensor)):
            return _of_samples(self.target, batch)
        return self.target

    def _case(
        self,
        label: str,
        batch: Batch,
        target: Any,
        perturbation: Perturbation,
        of_batch: dict[Any, Any],
    ) -> Case:
        tokens, reader = perturbation.tokens, perturbation.reader
        assert isinstance(reader, ScoreReader)
        assert self.score is not None

        def chance(call: int) -> Relevance:
            return {name: _chance(t, batch, self.seed, call) for name, t in tokens.items()}

        def again(
            model: nn.Module, inputs: Mapping[str, Any], call: int, target: Any = target
        ) -> Relevance:
            explainer = self.explainers[label]
            relevance = explainer(model, inputs, target, lambda part: chance(call + part))
            return _checked(label, relevance, tokens)

        return Case(
            method=label,
            relevance=again(self.model, batch.inputs, 0),
            batch=batch,
            perturbation=perturbation,
            again=lambda model, inputs, call: again(model, inputs, 1 + call),
            toward=lambda other: again(self.model, batch.inputs, 1, other),
            steps=self.steps,
            score=score_name(self.score),
            seed=self.seed,
            classes=reader.row_shape[-1] if reader.has_classes else 0,
            explained=reader.added.tolist() if reader.has_classes else (),
            of_model=self.of_model,
            of_batch=of_batch,
        )

    def _measure(self, case: Case) -> None:
        for name, (metric, options) in list(self.metrics.items()):
            for modality in self.modalities or ():
                if (modality == JOINT and not metric.joint) or name not in self.metrics:
                    continue
                measured = self._found(case, name, modality, options)
                key = Key(case.method, name, modality)
                if name in self.metrics:
                    self.found.setdefault(key, [None] * len(self.sizes)).append(measured)

    def _found(
        self, case: Case, name: str, modality: str, options: Mapping[str, Any]
    ) -> Measured | None:
        """What a metric finds; of a check that nobody asked for only where it can, and of few."""
        metric = self.metrics[name][0]
        if name not in self.sanity:
            measured = metric.of(case, modality, options)
            return measured and _of_counted(measured, case.counted(modality))
        first = torch.tensor([sample < SANITY_SAMPLES for sample in case.batch.samples])
        if not first.any():
            return None
        try:
            measured = metric.of(case, modality, options)
        except (FxplainError, RuntimeError, TypeError) as error:  # a model that cannot be copied
            self.skipped[name] = str(error).partition("\n")[0]
            del self.metrics[name]
            self.found = {key: own for key, own in self.found.items() if key.metric != name}
            return None
        return measured and _of_counted(measured, case.counted(modality) & first.unsqueeze(1))

    def _skip(self, label: str, reason: str) -> None:
        self.skipped[label] = reason
        del self.explainers[label]
        self.found = {key: value for key, value in self.found.items() if key.method != label}

    # -- what is decided on the first batch ---------------------------------------------------------

    def _choose(self, tokens: Mapping[str, ModalityTokens], batch: Batch) -> None:
        """The modalities, and how their tokens are removed."""
        by_modality = self.removal if isinstance(self.removal, Mapping) else ()
        for name in (*by_modality, *(self.modalities or ()), *batch.mask):
            if name not in tokens and name != JOINT:
                known = ", ".join(map(repr, tokens))
                raise EvaluationError(f"there is no modality {name!r}; there are: {known}.")
        possible = [name for name, t in tokens.items() if t.kind != "parameter" and t.counted.any()]
        if not possible:
            inside = [said for name in tokens if (said := inside_argument(name, batch.inputs))]
            raise EvaluationError(
                " ".join(inside)
                or "no modality has tokens that could be removed: each is special, padding, or what "
                "the target is read from."
            )
        for name in self.modalities or ():
            if name != JOINT and name not in possible:
                raise EvaluationError(f"modality {name!r} has no token that could be removed.")
        if self.modalities is not None and not self.modalities:
            raise EvaluationError("modalities=[] names none; leave it out for all.")
        self.modalities = tuple(self.modalities or possible)
        if any(metric.removes for metric, _ in self.metrics.values()):
            wanted = possible if JOINT in self.modalities else self.modalities
            self.removals = {
                name: choose_removal(tokens[name], self.vocabulary, self._asked_removal(name))
                for name in wanted
            }

    def _asked_removal(self, modality: str) -> str | None:
        if isinstance(self.removal, Mapping):
            return self.removal.get(modality)
        return self.removal

    def _unmaskable(
        self, tokens: Mapping[str, ModalityTokens], batch: Batch, structure: Explanation
    ) -> frozenset[str]:
        """The modalities whose mask says where the model reads its output."""
        asked = self._target_of(batch)
        target = asked if callable(asked) else list(structure.target)
        moves = partial(
            mask_moves_readout, self.model, batch.inputs, structure, target, self.output
        )
        return frozenset(
            name
            for name, t in tokens.items()
            if self._asked_removal(name) in (None, MASKING.name) and moves(t, self.vocabulary)
        )

    def _maskable(self, tokens: Mapping[str, ModalityTokens]) -> dict[str, ModalityTokens]:
        return {
            name: replace(t, mask=None) if name in self.unmaskable else t
            for name, t in tokens.items()
        }

    def _check_positions(
        self, structure: Explanation, batch: Batch, tokens: Mapping[str, ModalityTokens]
    ) -> None:
        """A position in a sequence does not stay where it is when tokens before it are cut out."""
        asked = self._target_of(batch)
        target = asked if callable(asked) else list(structure.target)
        for name, removal in self.removals.items():
            if not removal.keeps_length:
                how = (structure, target, self.output, tokens[name], self.vocabulary)
                check_dropped(self.model, batch.inputs, *how)

    # -- the result ---------------------------------------------------------------------------------

    def result(self, resamples: int, confidence: float) -> Evaluation:
        """All batches together.

        Raises
        ------
        EvaluationError
            When there was no sample, or a metric had nothing to measure.
        """
        if not self.sizes:
            raise EvaluationError("the data set is empty.")
        if set(self.explainers) == {RANDOM} and self.skipped:
            reasons = "; ".join(f"{label}: {reason}" for label, reason in self.skipped.items())
            raise EvaluationError(f"no method can explain this model: {reasons}")
        kept = {key: parts for key, parts in self.found.items() if any(parts)}
        for name in self.metrics:
            if not any(key.metric == name for key in kept):
                raise EvaluationError(
                    f"metric {name!r} had nothing to measure in {', '.join(self.modalities or ())}: it "
                    f"compares with fxplain.Example(..., mask={{modality: where the evidence is}})."
                )
        order = {label: place for place, label in enumerate(self.metrics)}
        keys = sorted(kept, key=lambda key: order[key.metric])
        return Evaluation(
            samples={key: self._joined(kept[key], curves=False) for key in keys},
            points={
                key: (tuple(x), self._joined(kept[key], curves=True))
                for key in keys
                if (x := next(part for part in kept[key] if part).x)
            },
            metrics={label: metric for label, (metric, _) in self.metrics.items()},
            labels={kind: tuple(of) for kind, of in self.labels.items()},
            settings=self._settings(resamples, confidence),
        )

    def _joined(self, parts: Sequence[Measured | None], *, curves: bool) -> Tensor:
        """(samples, k); NaN for batches that the metric says nothing of."""
        tables = [_table(part, curves) if part else None for part in parts]
        width = next(table.shape[1] for table in tables if table is not None)
        return torch.cat(
            [
                torch.full((size, width), torch.nan, dtype=torch.double) if table is None else table
                for size, table in zip(self.sizes, tables, strict=True)
            ]
        )

    def _settings(self, resamples: int, confidence: float) -> dict[str, Any]:
        target = self.target if isinstance(self.target, (str, int)) else repr(self.target)
        if self.target is None:
            target = OF_EXAMPLES if self.of_examples else "predicted"
        elif isinstance(self.target, (list, Tensor)):
            target = OF_EXAMPLES
        return {
            "model": self.name,
            "samples": sum(self.sizes),
            "target": getattr(self.target, "__name__", target),
            "score": score_name(self.score or USUAL),
            "steps": list(self.steps),
            "removal": {name: f"{r.name}: {r.about}" for name, r in self.removals.items()},
            "metrics": {
                label: {"metric": metric.name, **{k: _plain(v) for k, v in options.items()}}
                for label, (metric, options) in self.metrics.items()
            },
            "chosen": {
                label: explainer.chosen
                for label, explainer in self.explainers.items()
                if isinstance(explainer, ByMethod) and explainer.chosen
            },
            "skipped": dict(self.skipped),
            "seed": self.seed,
            "resamples": resamples,
            "confidence": confidence,
        }


def _check_own(tokens: Mapping[str, ModalityTokens]) -> None:
    """Where a model compares samples, what goes of one sample would go of another's input."""
    for name, own in tokens.items():
        if own.rows and own.counted.any():
            raise EvaluationError(
                f"what is explained of a sample reads {name!r} of another sample of its batch, of "
                f"which nothing can be removed for it alone: give batch_size=1, or a target that "
                f"compares each sample with itself."
            )


def _of_samples(target: list[Any] | Tensor, batch: Batch) -> Any:
    """A batch's part of targets that are given for each sample of the data set."""
    if isinstance(target, Tensor) and not target.dim():
        return target
    own = target[batch.first : batch.first + batch.size]
    if len(own) < batch.size:
        raise EvaluationError(
            f"target= names {len(target)} targets, and the data set has more samples: give one for "
            f"each sample, a single one for all, or fxplain.Example(inputs, target)."
        )
    return own


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _table(part: Measured, curves: bool) -> Tensor:
    table = part.curve if curves else part.samples
    assert table is not None
    return table.double().reshape(len(part.samples), -1)


def _of_counted(measured: Measured, counted: Tensor) -> Measured:
    """NaN for samples that have no token that counts."""
    nothing = ~counted.any(1)
    if not nothing.any():
        return measured

    def without(x: Tensor) -> Tensor:
        return x.double().masked_fill(nothing.reshape(-1, *(1,) * (x.dim() - 1)), torch.nan)

    curve = None if measured.curve is None else without(measured.curve)
    return Measured(without(measured.samples), measured.x, curve)


def _chance(tokens: ModalityTokens, batch: Batch, seed: int, call: int) -> Tensor:
    """(batch, tokens) relevance drawn evenly, the same whatever batch a sample is in."""
    drawn = torch.zeros(tokens.counted.shape, dtype=torch.double)
    for row, counted, sample in zip(drawn, tokens.counted, batch.samples, strict=True):
        generator = seeded(seed, "chance", tokens.name, sample, call)
        row[counted] = torch.rand(int(counted.sum()), generator=generator, dtype=torch.double)
    return drawn


def _checked(label: str, relevance: Relevance, tokens: Mapping[str, ModalityTokens]) -> Relevance:
    """Relevance of every modality that an input is made of, finite and in the right shape."""
    for name, t in tokens.items():
        shape = tuple(t.counted.shape)
        if t.kind != "parameter" and (name not in relevance or relevance[name].shape != shape):
            given = tuple(relevance[name].shape) if name in relevance else "none"
            raise EvaluationError(
                f"method {label!r} must return relevance of {name!r} of shape {shape}; it is {given}."
            )
        if t.kind != "parameter" and not bool(relevance[name].isfinite().all()):
            raise EvaluationError(
                f"method {label!r} returned relevance of {name!r} that is NaN or infinite; ranked and "
                f"summed are finite numbers."
            )
    return relevance
