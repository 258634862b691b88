"""Train the small VisualBERT that answers the demo's questions.

The questions are those of `examples/training/lxmert_digits.py`, about a 2x2 mosaic of real handwritten
digits, but words and patches are one sequence here. A quarter of the digit images is held out: training
never sees them, and the reported accuracy is about nothing else.

    python -m examples.training.visualbert_digits            # train, write the model, check it
    python -m examples.training.visualbert_digits --check    # only check what is already there

Training takes about eight minutes on one CPU core.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor
from transformers import (
    PreTrainedTokenizerBase,
    VisualBertConfig,
    VisualBertForQuestionAnswering,
)

from examples.tasks import questions
from examples.tasks.digit_images import DigitImages, split_digits
from examples.training.answering import Scores, print_accuracies, train_and_save
from examples.training.loop import begin, command_line, print_size
from fxplain.demo import digits
from fxplain.demo.digits import ANSWERS, Sample

STEPS = 5000


def make_model(vocabulary_size: int) -> VisualBertForQuestionAnswering:
    """An untrained VisualBERT, small enough to come with the library."""
    return VisualBertForQuestionAnswering(
        VisualBertConfig(
            vocab_size=vocabulary_size,
            hidden_size=64,
            intermediate_size=128,
            num_attention_heads=4,
            num_hidden_layers=6,
            visual_embedding_dim=digits.PATCH_SIZE**2 + 4,
            max_position_embeddings=16,
            id2label=dict(enumerate(ANSWERS)),
            label2id={answer: place for place, answer in enumerate(ANSWERS)},
            pad_token_id=0,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            initializer_range=0.1,  # the usual 0.02 suits hidden sizes near 768, not 64
        )
    )


def scores_of(model: VisualBertForQuestionAnswering, tokenizer: PreTrainedTokenizerBase) -> Scores:
    """The model as a function from samples to scores (batch, answers)."""

    def scores(samples: Sequence[Sample]) -> Tensor:
        logits: Tensor = model(**questions.encode_visualbert(tokenizer, samples)).logits
        return logits

    return scores


def check(folder: Path, held_out: DigitImages) -> None:
    """Print what a saved model does with held-out digits, and how large it is."""
    model, tokenizer = questions.load_visualbert(folder)
    samples = questions.draw_samples(held_out, 4000, random.Random(1))
    print_accuracies(scores_of(model, tokenizer), samples)
    print_size(folder)


def main() -> None:
    """Train, save and check the model, or only check it."""
    arguments = begin(command_line(__doc__, questions.VISUALBERT_FOLDER))
    training, held_out = split_digits()
    if not arguments.check:
        train_and_save(make_model, scores_of, training, STEPS, arguments)
    check(arguments.folder, held_out)


if __name__ == "__main__":
    main()
