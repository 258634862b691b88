"""What training the LXMERT and the VisualBERT has in common: words, lessons and accuracies."""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from examples.tasks.digit_images import Augmented, DigitImages
from examples.tasks.questions import draw_samples, encode_targets
from examples.training.loop import fit
from examples.training.words import word_tokenizer
from fxplain.demo import digits
from fxplain.demo.digits import QUESTION_KINDS, Sample

DIGIT_STEPS = 500
BATCH_SIZE = 96
PEAK_RATE = 1e-3

Scores = Callable[[Sequence[Sample]], Tensor]
"""A model's scores (batch, answers) of every answer to some samples."""


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer with one token per word: ``[CLS] what digit is top left ? [SEP]``."""
    return word_tokenizer(
        ("[PAD]", "[UNK]", "[CLS]", "[SEP]", *digits.vocabulary()),
        template="[CLS] $A [SEP]",
        max_length=16,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    )


def lesson(step: int) -> Sequence[str]:
    """The question kinds of a training step.

    Nothing else gives a hold on the image until single digits can be read, and comparing two of
    them, the hardest, stays at chance for long unless it is asked more often than the rest.
    """
    return ("digit",) if step < DIGIT_STEPS else (*QUESTION_KINDS, "comparison", "comparison")


def train(model: nn.Module, scores: Scores, source: DigitImages, steps: int, seed: int) -> None:
    """Train the model in place; every step draws fresh mosaics and asks fresh questions."""
    generator = random.Random(seed)
    augmented = Augmented(source)

    def loss_at(step: int) -> Tensor:
        samples = draw_samples(augmented.at(step), BATCH_SIZE, generator, lesson(step))
        return functional.cross_entropy(scores(samples), encode_targets(samples))

    fit(model, loss_at, steps, PEAK_RATE)


def train_and_save(
    make_model: Callable[[int], PreTrainedModel],
    scores_of: Callable[[Any, PreTrainedTokenizerFast], Scores],
    source: DigitImages,
    steps: int,
    arguments: argparse.Namespace,
) -> None:
    """Train a new model from a script's options, and save it with its tokenizer.

    Parameters
    ----------
    make_model : callable
        From the vocabulary's size to an untrained model.
    scores_of : callable
        From model and tokenizer to what scores samples.
    source : DigitImages
        What to draw mosaics of.
    steps : int
        How many.
    arguments : Namespace
        The seed, and the folder to save into.
    """
    tokenizer = make_tokenizer()
    model = make_model(len(tokenizer))
    train(model, scores_of(model, tokenizer), source, steps, arguments.seed)
    model.save_pretrained(arguments.folder)
    tokenizer.save_pretrained(arguments.folder)


@torch.no_grad()
def print_accuracies(scores: Scores, samples: Sequence[Sample]) -> None:
    """Print the share of right answers per question kind and in total."""
    right = (scores(samples).argmax(dim=-1) == encode_targets(samples)).float()
    print(f"held-out accuracy on {len(samples)} questions:")
    for kind in QUESTION_KINDS:
        of_kind = right[[sample.question.kind == kind for sample in samples]]
        print(f"  {kind:10s} {of_kind.mean():6.1%}")
    print(f"  {'total':10s} {right.mean():6.1%}")
