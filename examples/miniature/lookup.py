"""Experiment 5: the T5 that looks keys up, whose evidence is known word by word."""

from __future__ import annotations

import random

import torch

import fxplain
from examples.miniature.experiment import Claim, Column, Experiment, Results, Run
from examples.miniature.methods import BASELINES
from examples.tasks import lookup

METRICS = ("positive", "negative", "relevance_mass", "pointing_game")
SOURCE = "input_ids"


def evaluate(run: Run) -> Results:
    """All methods on one word of each held-out answer: keys and what they stand for take turns."""
    model, tokenizer = lookup.load_model()
    lookups = lookup.draw_lookups(run.samples, random.Random(run.seed))
    inputs = lookup.encode(tokenizer, lookups)
    answers = lookup.encode_targets(tokenizer, lookups)
    evidence = torch.zeros_like(inputs[SOURCE], dtype=torch.bool)
    targets = []
    for i, sample in enumerate(lookups):
        place = i // len(lookup.COMMANDS) % len(sample.answer)
        evidence[i, [sample.evidence[place], sample.found_keys[place]]] = True
        targets.append((place, int(answers[i, place])))
    return fxplain.evaluate(
        model,
        [fxplain.Example(inputs, targets, {SOURCE: evidence})],
        run.methods,
        METRICS,
        target="true",
        modalities=[SOURCE],
        tokenizer=tokenizer,
        batch_size=100,
        seed=run.seed,
        progress=run.progress,
    )


EVIDENCE = [
    Column(("known evidence", "mass"), "true", "relevance_mass", SOURCE),
    Column(("known evidence", "point"), "true", "pointing_game", SOURCE),
]
PERTURBATION = [
    Column(("source", metric), "true", metric, SOURCE) for metric in ("negative", "positive")
]

LOOKUP = Experiment(
    name="t5",
    title="T5: looking keys up, encoder-decoder",
    model="encoder-decoder, text (T5)",
    weights=lookup.MODEL_FOLDER,
    about="""\
A source asks for three of its keys, and the answer names each and its digit. One word of each
held-out answer is explained, every place of an answer in turn. The evidence is known: where the
source has the word, and the key that it is found by, in its pair. *Mass* is the share of the
source's positive relevance there, *point* how often the most relevant token is one of these;
*negative* and *positive* are areas under the word's probability as 0, 10, ..., 90% of the source's
tokens go.""",
    paper="it has no such experiment, but its rules for encoder-decoders are at work here.",
    parts={"true": evaluate},
    columns=[*EVIDENCE, *PERTURBATION],
    claims=[
        Claim("the known evidence", EVIDENCE, BASELINES),
        Claim("the source's perturbation", PERTURBATION, BASELINES),
    ],
    plots={"t5-source": ("true", SOURCE)},
)
