"""The door to unit methods: an explanation by what the model says without parts of its inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from fxplain.errors import EvaluationError, MethodError
from fxplain.explanation import Explanation, explain
from fxplain.explanation.by_modality import ByModality
from fxplain.explanation.merging import Word
from fxplain.methods import Attribution, UnitMethod
from fxplain.removal.parts import NOTHING, Part, parts_of, removed_by
from fxplain.removal.perturbation import MAX_TOKENS, Perturbation, of_one
from fxplain.removal.readouts import check_dropped, mask_moves_readout
from fxplain.removal.rows import are_divisible, named_inputs
from fxplain.removal.scores import ScoreReader
from fxplain.removal.tokens import ModalityTokens, Vocabulary, find_tokens, inside_argument
from fxplain.removal.ways import Removal, choose_removal

__all__ = ["explain_units"]

STRUCTURE = "raw_attention"
"""The cheapest method: it tells targets, tokens, words, and where the targets are read from."""


def explain_units(
    model: nn.Module,
    inputs: Any,
    targets: Sequence[Any],
    method: UnitMethod,
    options: Mapping[str, Any],
    *,
    words: Mapping[str, list[list[Word]]] | None = None,
    output: str | None = None,
    tokenizer: Any = None,
    **how: Any,
) -> list[Explanation]:
    """Explanations of several targets, from the same runs of the model.

    A unit's worth is shared evenly by its tokens, so that their sum is the unit's.

    Parameters
    ----------
    model, inputs, targets, output, tokenizer, how
        As `fxplain.explain` takes them.
    method, options
        With all of its options.
    words
        By modality and sample, the words that tokens are pieces of, where they are known.

    Raises
    ------
    MethodError
        When no token can be removed, or a text has no such parts.
    FxplainError
        As `fxplain.explain` raises.
    """
    structures = explain(
        model, inputs, targets=targets, method=STRUCTURE, output=output, tokenizer=tokenizer, **how
    )
    fitting = {k: v for k, v in (words or {}).items() if k in structures[0].relevance}
    structures = [replace(s, word_pieces=fitting) for s in structures]
    runs = _Runs.of(
        model, named_inputs(model, inputs), targets, structures, options, output, tokenizer
    )
    found = [runs.judged(sample, method, options) for sample in range(structures[0].batch_size)]
    return [
        _made(structure, method, options, [(parts, own[i]) for parts, own in found])
        for i, structure in enumerate(runs.structures)
    ]


def _warned(structure: Explanation, unjudged: Sequence[str]) -> Explanation:
    """With a warning of each input that the model cannot be run without parts of."""
    told = tuple(
        f"{name} has no relevance here because it was not judged: its tokens cannot be removed one by "
        f"one. A method of gradients or attention tells what was drawn from it."
        for name in unjudged
    )
    warnings = (*structure.graph.warnings, *told)
    return replace(structure, graph=replace(structure.graph, warnings=warnings))


@dataclass
class _Runs:
    """A batch that can be run without some tokens of one sample.

    Attributes
    ----------
    structures
        One explanation for each target.
    readers
        One for each target.
    """

    model: nn.Module
    inputs: Mapping[str, Any]
    structures: Sequence[Explanation]
    readers: Sequence[ScoreReader]
    tokens: Mapping[str, ModalityTokens]
    removals: Mapping[str, Removal]
    vocabulary: Vocabulary
    score: str

    @classmethod
    def of(
        cls,
        model: nn.Module,
        inputs: Mapping[str, Any],
        targets: Sequence[Any],
        structures: Sequence[Explanation],
        options: Mapping[str, Any],
        output: str | None,
        tokenizer: Any,
    ) -> _Runs:
        """With how each modality's tokens are removed, as far as they can be."""
        vocabulary = Vocabulary.of(model, tokenizer, ())
        removals: dict[str, Removal] = {}
        tokens: dict[str, ModalityTokens] = {}
        obstacles: list[str] = []
        unjudged: list[str] = []
        for name, own in _of_all(model, inputs, structures, vocabulary).items():
            if own.kind == "parameter" or not own.counted.any():
                inside = inside_argument(name, inputs)
                if own.kind == "parameter" and (name in inputs or inside):
                    unjudged.append(name)
                    obstacles.extend([inside] if inside else [])
                continue
            first = _asked(targets[0], structures[0])
            moved = mask_moves_readout(model, inputs, structures[0], first, output, own, vocabulary)
            tokens[name] = replace(own, mask=None) if moved else own
            try:
                removals[name] = choose_removal(
                    tokens[name], vocabulary, options["removal"] or None
                )
                if not removals[name].keeps_length:
                    for target, structure in zip(targets, structures, strict=True):
                        how = (structure, _asked(target, structure), output, tokens[name])
                        check_dropped(model, inputs, *how, vocabulary)
            except EvaluationError as error:
                obstacles.append(str(error))
                unjudged.append(name)
                del tokens[name]
                removals.pop(name, None)
        if not tokens:
            raise MethodError(" ".join(obstacles) or NOTHING)
        structures = [_warned(structure, unjudged) for structure in structures]
        readers = [
            ScoreReader(model, s, _asked(t, s), None, "logit")
            for t, s in zip(targets, structures, strict=True)
        ]
        needed = "logit" if options["score"] == "logit" else "probability"
        for reader in readers:
            reader.check(needed)
        score = options["score"]
        return cls(model, inputs, structures, readers, tokens, removals, vocabulary, score)

    def judged(
        self, sample: int, method: UnitMethod, options: Mapping[str, Any]
    ) -> tuple[list[Part], list[_Judged]]:
        """A sample's parts, and what each target says of them."""
        structure = self.structures[0]
        parts = parts_of(structure, self.tokens, sample, options["units"], options["regions"])
        scores = _Scores(self, sample, parts)
        places = [part.place for part in parts]
        return parts, [
            self._judged(scores, method, options, places, i) for i in range(len(self.readers))
        ]

    def _judged(
        self,
        scores: _Scores,
        method: UnitMethod,
        options: Mapping[str, Any],
        places: Any,
        target: int,
    ) -> _Judged:
        found = method.attribute(lambda kept: scores(kept)[:, target], places, options)
        if not method.shares_out:
            return _Judged(found, None)
        ends = scores(torch.tensor([[True], [False]]).expand(2, len(places)))[:, target]
        return _Judged(found, float(ends[0] - ends[1]))


@dataclass(frozen=True)
class _Judged:
    """What one target says of one sample's parts, and what they promise to add up to."""

    found: Attribution
    promised: float | None


class _Scores:
    """What the model says of one sample with some of its parts: (rows, targets), each set run once."""

    def __init__(self, runs: _Runs, sample: int, parts: Sequence[Part]) -> None:
        self.runs, self.sample, self.parts = runs, sample, parts
        self.known: dict[bytes, Tensor] = {}
        alone = self._of_sample()
        self.alone = self._may_be_alone() and self._says_the_same(alone)
        self.perturbation = alone if self.alone else self._of_batch()

    def __call__(self, kept: Tensor) -> Tensor:
        """Scores of (rows, parts) kept."""
        keys = [row.numpy().tobytes() for row in kept.contiguous()]
        fresh = {key: i for i, key in enumerate(keys) if key not in self.known}
        if fresh:
            found = self._run(kept[list(fresh.values())])
            self.known |= dict(zip(fresh, found, strict=True))
        return torch.stack([self.known[key] for key in keys])

    def _may_be_alone(self) -> bool:
        """Whether there is a batch, of which a sample can be taken out."""
        runs = self.runs
        size = runs.structures[0].batch_size
        functions = any(reader.function is not None for reader in runs.readers)
        own = all(tokens.row(self.sample) == self.sample for tokens in runs.tokens.values())
        return size > 1 and own and not functions and are_divisible(runs.inputs, size)

    def _says_the_same(self, perturbation: Perturbation) -> bool:
        """Whether a sample says the same without its batch, and is read where its target says."""
        runs = self.runs
        nothing = {n: torch.zeros(1, 1, t.counted.shape[1]).bool() for n, t in runs.tokens.items()}
        try:
            found = perturbation.scores(nothing)
        except (EvaluationError, IndexError, KeyError, RuntimeError):  # one sample, another shape
            return False
        return all(
            torch.allclose(
                found[f"{i} logit"][0, 0],
                structure.scores[self.sample].double().cpu(),
                rtol=1e-3,
                atol=1e-4,
            )
            for i, structure in enumerate(runs.structures)
        )

    def _of_sample(self) -> Perturbation:
        runs = self.runs
        size = runs.structures[0].batch_size
        inputs, tokens = of_one(runs.inputs, runs.tokens, size, self.sample)
        return Perturbation(
            runs.model,
            inputs,
            1,
            tokens,
            runs.removals,
            runs.vocabulary,
            _Readers(runs.readers, self.sample),
            MAX_TOKENS,
        )

    def _of_batch(self) -> Perturbation:
        runs = self.runs
        return Perturbation(
            runs.model,
            runs.inputs,
            runs.structures[0].batch_size,
            runs.tokens,
            runs.removals,
            runs.vocabulary,
            _Readers(runs.readers, None),
            MAX_TOKENS,
        )

    def _run(self, kept: Tensor) -> Tensor:
        size = 1 if self.alone else self.runs.structures[0].batch_size
        own = 0 if self.alone else self.sample
        removed = removed_by(self.parts, kept, self.perturbation.tokens, size, own)
        found = self.perturbation.scores(removed)
        name = "logit" if self.runs.score == "logit" else "probability"
        columns = [found[f"{i} {name}"][:, own] for i in range(len(self.runs.readers))]
        values = torch.stack(columns, 1)
        return values.logit(eps=1e-7) if self.runs.score == "log_odds" else values


@dataclass(frozen=True)
class _Readers:
    """Reads all targets, of the batch or of one sample alone."""

    readers: Sequence[ScoreReader]
    sample: int | None

    def check(self, score: str) -> None:
        """What is read is told by number and name."""
        number, _, name = score.partition(" ")
        self.readers[int(number)].check(name)

    def fits(self, output: Any) -> bool:
        """Whether a row means what it meant, to all."""
        return all(reader.fits(output) for reader in self.readers)

    def read(self, output: Any, samples: Tensor) -> dict[str, Tensor]:
        """Every score of every target."""
        own = samples if self.sample is None else torch.full_like(samples, self.sample)
        return {
            f"{i} {name}": value
            for i, reader in enumerate(self.readers)
            for name, value in reader.read(output, own).items()
        }


def _asked(target: Any, structure: Explanation) -> Any:
    """A function as it was given, all else as it was resolved."""
    return target if callable(target) else list(structure.target)


def _of_all(
    model: nn.Module,
    inputs: Mapping[str, Any],
    structures: Sequence[Explanation],
    vocabulary: Vocabulary,
) -> dict[str, ModalityTokens]:
    """The tokens of every modality; one that some target is read from counts for none."""
    found = [find_tokens(model, inputs, s, vocabulary) for s in structures]
    for name, own in found[0].items():
        if own.counted.any() and any(other[name].rows != own.rows for other in found):
            raise MethodError(
                f"the targets read {name!r} of different samples of the batch: ask for them one by one."
            )
    counted = {n: torch.stack([own[n].counted for own in found]).all(0) for n in found[0]}
    return {name: replace(t, counted=counted[name]) for name, t in found[0].items()}


# -- the result -----------------------------------------------------------------------------------


def _made(
    structure: Explanation,
    method: UnitMethod,
    options: Mapping[str, Any],
    found: Sequence[tuple[list[Part], _Judged]],
) -> Explanation:
    relevance = {name: torch.zeros_like(r) for name, r in structure.relevance.items()}
    error = {name: torch.zeros_like(r) for name, r in structure.relevance.items()}
    for sample, (parts, judged) in enumerate(found):
        values, errors = judged.found.values.tolist(), judged.found.error.tolist()
        for part, value, of_value in zip(parts, values, errors, strict=True):
            places = list(part.tokens)
            relevance[part.modality][sample, places] = value / len(places)
            error[part.modality][sample, places] = of_value / len(places)
    promises = [judged.promised for _, judged in found]
    drawn = any(bool(judged.found.error.any()) for _, judged in found)

    def no_matrix(_a: str, _b: str) -> Tensor:
        raise MethodError(
            f"{method.name} judges units of the inputs, and has no relevancy matrices."
        )

    return replace(
        structure,
        relevance=ByModality(relevance),
        error=ByModality(error) if drawn else None,
        method=method.name,
        options=dict(options),
        engine="tokens",
        identity={name: torch.zeros_like(r) for name, r in relevance.items()},
        promised=None if None in promises else structure.scores.new_tensor(promises),
        matrix_of=no_matrix,
    )
