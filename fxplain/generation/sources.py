"""Sources: which parts of its prompt a generated text rests on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from fxplain.arguments import TEXT, optional, place_in, whole
from fxplain.errors import EvaluationError, MethodError
from fxplain.explanation import Explanation, Units, explain
from fxplain.explanation.units import written_text
from fxplain.generation.generation import Generation
from fxplain.generation.outputs import places_of
from fxplain.methods import UnitMethod, resolve_method
from fxplain.presentation import Presentable
from fxplain.removal import (
    MAX_TOKENS,
    ModalityTokens,
    Part,
    Perturbation,
    Removal,
    Vocabulary,
    choose_removal,
    find_tokens,
    named_inputs,
    of_one,
    parts_of,
    removed_by,
)

__all__ = ["Source", "Sources", "logits_of", "sources_of"]

REGIONS = 64
CONTEXT_CITE = "sparse_linear"


@dataclass(frozen=True)
class Source:
    """A part of the inputs.

    Attributes
    ----------
    text, modality, tokens
        As people read it, whose it is, and the places of its tokens.
    relevance
        How much the text rests on it, in the unit of log p - log(1 - p) of the whole text.
    error
        Its standard error; None where nothing was drawn.
    """

    text: str
    modality: str
    tokens: tuple[int, ...]
    relevance: float
    error: float | None = None


@dataclass(frozen=True, eq=False)
class Sources(Presentable):
    """What a generated text rests on.

    Attributes
    ----------
    text
        What was written, or the part of it that was asked about.
    sources
        In reading order.
    method
        By which they were judged.
    log_probability
        Of the text, given all sources.
    calls
        How often the model ran with some of them.
    """

    text: str
    sources: tuple[Source, ...]
    method: str
    log_probability: float
    calls: int
    log_probability_of: Callable[[Tensor], Tensor] = field(repr=False)

    def top(self, k: int = 5) -> list[Source]:
        """The sources that speak for the text most, the first first."""
        whole(0).check("k", k)
        return sorted(self.sources, key=lambda source: -source.relevance)[:k]

    def fall(self, k: int = 1) -> float:
        """How much the text's log probability falls without the top `k` sources: the claim tried."""
        top = self.top(k)
        kept = torch.tensor([[source not in top for source in self.sources]])
        return self.log_probability - float(self.log_probability_of(kept)[0])

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain data, for JSON."""
        return {
            "text": self.text,
            "method": self.method,
            "log_probability": self.log_probability,
            "calls": self.calls,
            "sources": [vars(source) for source in self.sources],
        }

    def __repr__(self) -> str:
        return f"<Sources of {self.text!r}: {len(self.sources)} by {self.method!r}>"


def sources_of(
    generation: Generation,
    units: Units = "sentence",
    *,
    sample: int = 0,
    within: str | None = None,
    about: Any = None,
    method: str = CONTEXT_CITE,
    removal: str | None = None,
    **options: Any,
) -> Sources:
    """What `Generation.sources` finds."""
    optional(TEXT.raising(MethodError)).check("within", within)
    sample = place_in("sample", sample, generation.batch_size)
    chosen, all_options = resolve_method(method, options)
    first = generation.explanations[0]
    if first.asked is None:
        raise MethodError("this generation was loaded, and has no model: generate again.")
    answer = _Answer.of(generation, sample, about)
    inputs = named_inputs(first.asked.model, first.asked.question.inputs)
    tokens, removals, vocabulary = _removable(generation, inputs, sample, within, removal)
    parts = parts_of(first, tokens, sample, units, REGIONS, rest=False)
    own, alone = of_one(inputs, tokens, generation.batch_size, sample)
    runs = Perturbation(
        first.asked.model, own, 1, alone, removals, vocabulary, answer, MAX_TOKENS
    )  # fmt: skip

    def scores(kept: Tensor, name: str) -> Tensor:
        return runs.scores(removed_by(parts, kept, alone, 1, 0))[name][:, 0]

    everything = torch.ones(1, len(parts)).bool()
    if isinstance(chosen, UnitMethod):
        found = chosen.attribute(
            lambda kept: scores(kept, "log_odds"), [part.place for part in parts], all_options
        )
        values, calls = found.values.tolist(), found.calls
        errors = found.error.tolist() if bool(found.error.any()) else [None] * len(parts)
    else:
        explained = explain(
            first.asked.model,
            own,
            answer.log_odds,
            method,
            tokenizer=first.asked.question.tokenizer,
            **options,
        )
        values, errors, calls = _summed(explained, parts), [None] * len(parts), 1
    judged = zip(parts, values, errors, strict=True)
    return Sources(
        text=answer.text,
        sources=tuple(Source(p.text, p.modality, p.tokens, v, e) for p, v, e in judged),
        method=method,
        log_probability=float(scores(everything, "log_probability")[0]),
        calls=calls,
        log_probability_of=lambda kept: scores(kept, "log_probability"),
    )


def _summed(explanation: Explanation, parts: list[Part]) -> list[float]:
    beyond = explanation.beyond_identity()
    return [float(beyond[part.modality][0, list(part.tokens)].sum()) for part in parts]


def _removable(
    generation: Generation,
    inputs: Mapping[str, Any],
    sample: int,
    within: str | None,
    removal: str | None,
) -> tuple[dict[str, ModalityTokens], dict[str, Removal], Vocabulary]:
    """The tokens of the prompt that can be removed, and how; ids are cut out unless it is said."""
    first = generation.explanations[0]
    asked = first.asked
    assert asked is not None
    vocabulary = Vocabulary.of(asked.model, asked.question.tokenizer, ())
    tokens: dict[str, ModalityTokens] = {}
    removals: dict[str, Removal] = {}
    for name, own in find_tokens(asked.model, inputs, first, vocabulary).items():
        source, places = generation.columns(name)
        inside = torch.zeros_like(own.counted)
        inside[:, places] = True
        if source == generation.text_input and name == source:
            inside[:, places[-1:]] = False  # what the first word is read from
        if within is not None and first.is_text(name):
            inside &= _within(first, name, sample, within)
        counted = own.counted & inside
        if own.kind == "parameter" or not counted[sample].any():
            continue
        by_default = "drop" if own.kind == "ids" else None
        try:
            removals[name] = choose_removal(
                own, vocabulary, by_default if removal is None else removal
            )
        except EvaluationError:
            if removal is not None:
                raise
            continue
        tokens[name] = replace(own, counted=counted)
    if not tokens:
        raise MethodError("nothing of the prompt can be removed, so nothing is a source.")
    return tokens, removals, vocabulary


def _within(explanation: Explanation, name: str, sample: int, part: str) -> Tensor:
    """(batch, tokens) the tokens of the words in a part of the prompt."""
    words = explanation.words_in(name)[sample]
    text = written_text(words)
    start = text.find(part)
    found = torch.zeros_like(explanation.relevance[name], dtype=torch.bool).cpu()
    if start < 0 or not part:
        return found
    reached = 0
    for word in words:
        if word.special:
            continue
        begin, reached = reached + len(word.gap), reached + len(word.gap) + len(word.text)
        if start < reached and begin < start + len(part):
            found[sample, list(word.tokens)] = True
    return found


@dataclass(frozen=True)
class _Answer:
    """A written text as a number: read from the end of the output, however much the prompt has lost.

    Attributes
    ----------
    ids, back
        The tokens, and how far from the output's end each is predicted.
    text
        As people read them.
    """

    ids: Tensor
    back: Tensor
    text: str

    @classmethod
    def of(cls, generation: Generation, sample: int, about: Any) -> _Answer:
        """The text of a sample, or a span of it."""
        count = int(generation.written[sample].sum())
        places = list(range(count)) if about is None else places_of(about, count)
        if not places:
            raise MethodError(f"about={about!r} names no token of the text: it has {count}.")
        width = generation.ids.shape[1]
        back = torch.tensor([width + 1 - place for place in places])
        labels = [token.label for token in generation.tokens[sample]]
        text = generation.text[sample] if about is None else " ".join(labels[i] for i in places)
        return cls(generation.ids[sample, places].cpu(), back, text)

    def log_probability(self, output: Any) -> Tensor:
        """(rows,) of all of its tokens together."""
        logits = logits_of(output)
        at = logits[:, (logits.shape[1] - self.back).to(logits.device)].float().log_softmax(-1)
        ids = self.ids.to(at.device).expand(len(at), -1)
        return at.gather(-1, ids[..., None])[..., 0].sum(1)

    def log_odds(self, output: Any) -> Tensor:
        """(rows,) log p - log(1 - p)."""
        p = self.log_probability(output)
        return p - torch.log(-torch.expm1(p.clamp(max=-1e-6)))

    def check(self, score: str) -> None:
        """There are two."""
        if score not in ("log_odds", "log_probability"):
            raise MethodError(f"there is no score {score!r} of a text.")

    def fits(self, _output: Any) -> bool:
        """Always: it is read from the end."""
        return True

    def read(self, output: Any, _samples: Tensor) -> dict[str, Tensor]:
        """Both scores of each row."""
        scores: Mapping[str, Tensor] = {
            "log_odds": self.log_odds(output),
            "log_probability": self.log_probability(output),
        }
        return {name: value.detach().double().cpu() for name, value in scores.items()}


def logits_of(output: Any) -> Tensor:
    """The logits of a model's output.

    Raises
    ------
    MethodError
        When it has none.
    """
    found = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if isinstance(found, Tensor):
        return found
    if isinstance(output, Tensor):
        return output
    raise MethodError("the model's output has no logits, so no text has a probability.")
