"""Train the small LXMERT that ``fxplain demo`` explains.

The model answers questions such as "is the bottom right digit even ?" about a 2x2 mosaic of real
handwritten digits (scikit-learn's `load_digits`). A quarter of the digit images is held out:
training never sees them, and the reported accuracy and the demo's samples are about nothing else.

    python -m examples.training.lxmert_digits            # train, write the demo's files, check them
    python -m examples.training.lxmert_digits --check    # only check what is already there

Training takes about five minutes on two CPU cores.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import LxmertConfig, LxmertForQuestionAnswering, PreTrainedTokenizerBase

from examples.tasks import questions
from examples.tasks.digit_images import DigitImages, split_digits
from examples.training.answering import Scores, print_accuracies, train_and_save
from examples.training.loop import begin, command_line, print_size
from fxplain.demo import digits
from fxplain.demo.digits import ANSWERS, QUESTION_KINDS, Sample

STEPS = 4000


def make_model(vocabulary_size: int) -> LxmertForQuestionAnswering:
    """An untrained LXMERT, small enough to come with the library."""
    config = LxmertConfig(
        vocab_size=vocabulary_size,
        hidden_size=64,
        intermediate_size=128,
        num_attention_heads=4,
        l_layers=2,
        r_layers=2,
        x_layers=2,
        visual_feat_dim=digits.PATCH_SIZE**2,
        visual_pos_dim=4,
        max_position_embeddings=16,
        num_qa_labels=len(ANSWERS),
        id2label=dict(enumerate(ANSWERS)),
        label2id={answer: place for place, answer in enumerate(ANSWERS)},
        pad_token_id=0,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.1,  # the usual 0.02 suits hidden sizes near 768, not 64
    )
    return LxmertForQuestionAnswering(config)


def scores_of(model: LxmertForQuestionAnswering, tokenizer: PreTrainedTokenizerBase) -> Scores:
    """The model as a function from samples to scores (batch, answers)."""

    def scores(samples: Sequence[Sample]) -> Tensor:
        output = model(**questions.encode_lxmert(tokenizer, samples))
        answers: Tensor = output.question_answering_score
        return answers

    return scores


# ---- checks -------------------------------------------------------------------------------------


def asked_corner_share(
    model: LxmertForQuestionAnswering, tokenizer: PreTrainedTokenizerBase, samples: Sequence[Sample]
) -> float:
    """How much of gradient x attention lies on the asked corners, worked out without fxplain.

    Takes the positive part of attention times its gradient in every text-to-image cross-attention,
    summed over layers, heads and words; returns the mean over the samples.
    """
    output = model(**questions.encode_lxmert(tokenizer, samples), output_attentions=True)
    maps = output.cross_encoder_attentions
    targets = questions.encode_targets(samples)
    score = output.question_answering_score.gather(1, targets[:, None]).sum()
    gradients = torch.autograd.grad(score, maps)
    relevance = sum(
        (gradient * map_).clamp(min=0).sum(dim=(1, 2))
        for gradient, map_ in zip(gradients, maps, strict=True)
    )
    asked = questions.asked_patches(samples)
    return ((relevance * asked).sum(dim=1) / relevance.sum(dim=1)).mean().item()


def check(folder: Path, held_out: DigitImages) -> None:
    """Print what a saved model does with held-out digits, and how large it is."""
    model, tokenizer = questions.load_lxmert(folder)
    samples = questions.draw_samples(held_out, 4000, random.Random(1))
    print_accuracies(scores_of(model, tokenizer), samples)
    print("gradient x attention on the asked corners (chance: 25%, comparison 50%):")
    for kind in QUESTION_KINDS:
        asked = [sample for sample in samples if sample.question.kind == kind][:400]
        print(f"  {kind:10s} {asked_corner_share(model, tokenizer, asked):6.1%}")
    text = samples[0].question.text
    print(text, "->", tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"]))
    print_size(folder)


# ---- the files that come with fxplain -----------------------------------------------------------


def choose_samples(held_out: DigitImages, seed: int) -> list[Sample]:
    """Three held-out mosaics with a question of every kind, as drawn: not chosen by the answer."""
    generator = random.Random(seed)
    samples = []
    for _ in range(3):
        mosaic, shown = digits.draw_mosaic(held_out.images, held_out.labels, generator)
        samples += [
            Sample(mosaic, shown, digits.ask(kind, shown, generator)) for kind in QUESTION_KINDS
        ]
    return samples


def main() -> None:
    """Train, save and check the model, or only check it."""
    parser = command_line(__doc__, questions.LXMERT_FOLDER)
    parser.add_argument(
        "--samples", type=Path, default=digits.SAMPLES_FILE, help="the samples' file"
    )
    arguments = begin(parser)
    training, held_out = split_digits()
    if not arguments.check:
        train_and_save(make_model, scores_of, training, STEPS, arguments)
        digits.save_samples(choose_samples(held_out, arguments.seed), arguments.samples)
    check(arguments.folder, held_out)


if __name__ == "__main__":
    main()
