"""Outputs: which of the generated tokens are explained, and where the model's output says them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fxplain.arguments import optional, shown, whole
from fxplain.errors import TargetError
from fxplain.explanation.merging import words_of
from fxplain.explanation.pieces import are_written_together, readable
from fxplain.explanation.target import Contrast, Sum, signed_parts
from fxplain.explanation.vocabulary import word_id
from fxplain.generation.writing import Writing

__all__ = ["SCORES", "Output", "Span", "choose_outputs", "places_of"]

SCORES = ("logit", "log_probability")


@dataclass(frozen=True)
class Span:
    """Several generated tokens together: their sum is explained, in one pass.

    Attributes
    ----------
    start, stop
        As in a slice of each sample's own text; without them, all of it.

    Examples
    --------
    >>> Span(2, 5), Span()
    (Span(2, 5), Span(None, None))
    """

    start: int | None = None
    stop: int | None = None

    def __repr__(self) -> str:
        return f"Span({self.start}, {self.stop})"


@dataclass(frozen=True)
class Output:
    """One thing to explain in every sample's text.

    Attributes
    ----------
    asked
        An index of a generated token, a `Span`, or a `Contrast` of an index and another token.
    entries
        Per sample its index into the logits, from their end, or a sum or contrast of such; None
        where the text has no such token.
    """

    asked: Any
    entries: tuple[Any, ...]

    def target(self, score: str) -> Any:
        """What `fxplain.explain` is given; a text that has ended is stood in for."""
        entries = [(-1, 0) if entry is None else entry for entry in self.entries]
        return entries if score == "logit" else _log_probabilities(entries)


def choose_outputs(targets: Any, writing: Writing, tokenizer: Any = None) -> list[Output]:
    """The outputs that a caller asked for; by default every generated token.

    Raises
    ------
    TargetError
        When something is no target, or no sample has such a token.
    """
    count = writing.ids.shape[1]
    if isinstance(targets, str):
        targets = _words(targets, writing, tokenizer)
    if targets is None:
        targets = range(count)
    elif isinstance(targets, slice):
        targets = range(count)[targets]
    elif isinstance(targets, (int, Span, Contrast)):
        targets = [targets]
    elif not isinstance(targets, (list, tuple, range)):
        raise TargetError(
            f'targets={shown(targets)}: give "words", indices of generated tokens in a list, or a '
            f"slice."
        )
    chosen = [_output(asked, writing, tokenizer) for asked in targets]
    if not chosen:
        raise TargetError(f"targets={targets!r} names none of the {count} generated tokens.")
    return chosen


def _words(asked: str, writing: Writing, tokenizer: Any) -> list[int | Span]:
    """Each word of the one text, special tokens left out: a `Span` of its pieces, or its one token."""
    if asked != "words":
        raise TargetError(
            f'targets={asked!r}: give "words", or indices of generated tokens in a list, or a slice.'
        )
    if tokenizer is None or len(writing.ids) != 1:
        raise TargetError('targets="words" is of one text, and needs a tokenizer.')
    ids = writing.ids[0, : int(writing.real.sum())].tolist()
    pieces = [str(piece) for piece in tokenizer.convert_ids_to_tokens(ids)]
    known = set(map(str, getattr(tokenizer, "all_special_tokens", None) or ()))
    return [
        word.tokens[0] if len(word.tokens) == 1 else Span(word.tokens[0], word.tokens[-1] + 1)
        for word in words_of(readable(pieces, tokenizer), together=are_written_together(tokenizer))
        if pieces[word.tokens[0]] not in known and word.text.strip()
    ]


def _output(asked: Any, writing: Writing, tokenizer: Any) -> Output:
    entries = tuple(
        _entry(asked, _Text(ids, int(real.sum())), tokenizer)
        for ids, real in zip(writing.ids.tolist(), writing.real, strict=True)
    )
    if all(entry is None for entry in entries):
        raise TargetError(
            f"target {shown(asked)} is out of range: the longest text has "
            f"{int(writing.real.sum(1).max())} generated tokens."
        )
    return Output(asked, entries)


@dataclass(frozen=True)
class _Text:
    """One sample's generated ids, of which the first `length` are real."""

    ids: list[int]
    length: int

    def at(self, place: int, token: int | None = None) -> tuple[int, int]:
        """Where the logits say a token: at the position before it."""
        return place - len(self.ids) - 1, self.ids[place] if token is None else token


def _entry(asked: Any, text: _Text, tokenizer: Any) -> Any:
    places = places_of(asked, text.length)
    if isinstance(asked, Span):
        return Sum(*map(text.at, places)) if places else None
    place = next(iter(places), None)
    if isinstance(asked, Contrast):
        other = word_id(tokenizer, asked.b) if tokenizer is not None else asked.b
        if not isinstance(other, int):
            raise TargetError(f"{asked.b!r} in {asked!r} is no token: give an id, or a tokenizer.")
        if place is not None and text.ids[place] == other:
            raise TargetError(
                f"{asked!r} is no target: {asked.b!r} is what was generated at index {place}."
            )
        return None if place is None else Contrast(text.at(place), text.at(place, other))
    return None if place is None else text.at(place)


def places_of(asked: Any, length: int) -> list[int]:
    """The generated tokens that a target is about, none where a text of some length has no such.

    Examples
    --------
    >>> places_of(-1, 4), places_of(7, 4), places_of(Span(2), 4), places_of(Contrast(1, 99), 4)
    ([3], [], [2, 3], [1])
    """
    if isinstance(asked, Span):
        end = optional(whole()).raising(TargetError)
        for name, value in (("start", asked.start), ("stop", asked.stop)):
            end.check(f"{name} of a Span", value)
        return [*range(length)[asked.start : asked.stop]]
    index = asked.a if isinstance(asked, Contrast) else asked
    if not whole().fits(index):
        raise TargetError(
            f"{shown(asked)} is no target: give the index of a generated token, a Span, or a Contrast "
            f"of an index and another token."
        )
    index = operator.index(index)
    place = index + length if index < 0 else index
    return [place] if 0 <= place < length else []


def _log_probabilities(entries: Sequence[Any]) -> Callable[[Any], Tensor]:
    def log_probability(output: Any) -> Tensor:
        return torch.stack([
            torch.stack(list(_terms(output.logits[sample], entry))).sum()
            for sample, entry in enumerate(entries)
        ])  # fmt: skip

    return log_probability


def _terms(logits: Tensor, entry: Any) -> Iterator[Tensor]:
    for (place, token), sign in signed_parts(entry):
        yield sign * logits[place].log_softmax(-1)[token]
