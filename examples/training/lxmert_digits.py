"""Train the small LXMERT that ``fxplain demo`` explains.

The model answers questions such as "is the bottom right digit even ?" about a 2x2 mosaic of real
handwritten digits (scikit-learn's `load_digits`). A quarter of the digit images is held out:
training never sees them, and the reported accuracy and the demo's samples are about nothing else.

    python examples/training/lxmert_digits.py            # train, write the demo's files, check them
    python examples/training/lxmert_digits.py --check    # only check what is already there

Training takes about five minutes on two CPU cores.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from torch.nn import functional
from transformers import (
    LxmertConfig,
    LxmertForQuestionAnswering,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from fxplain.demo import digits
from fxplain.demo.digits import ANSWERS, QUESTION_KINDS, Sample

STEPS = 4000
DIGIT_STEPS = 500
WARMUP_STEPS = 100
BATCH_SIZE = 96
PEAK_RATE = 1e-3

SPLIT_SEED = 0
SPECIAL_WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


@dataclass(frozen=True)
class DigitImages:
    """Digit images and what they show.

    Attributes
    ----------
    images : Tensor
        (n, 8, 8) pixels from 0 to 16.
    labels : list of int
        The n digits.
    """

    images: Tensor
    labels: list[int]


def split_digits() -> tuple[DigitImages, DigitImages]:
    """Split scikit-learn's images, always alike: of each digit 75% to train on, 25% held out."""
    data = load_digits()
    train, held_out = train_test_split(
        range(len(data.target)), test_size=0.25, random_state=SPLIT_SEED, stratify=data.target
    )
    images = torch.tensor(data.images, dtype=torch.float32)
    return (
        DigitImages(images[train], data.target[train].tolist()),
        DigitImages(images[held_out], data.target[held_out].tolist()),
    )


# ---- model and tokenizer ------------------------------------------------------------------------


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer with one token per word: ``[CLS] what digit is top left ? [SEP]``."""
    vocabulary = {word: place for place, word in enumerate((*SPECIAL_WORDS, *digits.vocabulary()))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(word, vocabulary[word]) for word in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=16,
        model_input_names=["input_ids", "attention_mask"],
    )


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


# ---- training -----------------------------------------------------------------------------------


def augment(images: Tensor) -> Tensor:
    """Turn, stretch, shift and blot digit images a little, each in its own way.

    Parameters
    ----------
    images : Tensor
        (n, 8, 8) pixels from 0 to 16.

    Returns
    -------
    Tensor
        (n, 8, 8) pixels from 0 to 16.
    """
    number = len(images)
    angle = torch.empty(number).uniform_(-0.25, 0.25)
    stretch = torch.empty(number, 2).uniform_(0.9, 1.15)
    affine = torch.zeros(number, 2, 3)
    affine[:, 0, 0] = angle.cos() * stretch[:, 0]
    affine[:, 0, 1] = -angle.sin()
    affine[:, 1, 0] = angle.sin()
    affine[:, 1, 1] = angle.cos() * stretch[:, 1]
    affine[:, :, 2] = torch.empty(number, 2).uniform_(-0.2, 0.2)
    places = functional.affine_grid(affine, [number, 1, 8, 8], align_corners=False)
    moved = functional.grid_sample(images[:, None], places, align_corners=False)[:, 0]
    return (moved + torch.randn_like(moved)).clamp(0, digits.MAX_INK)


def draw_samples(
    source: DigitImages,
    number: int,
    generator: random.Random,
    kinds: Sequence[str] = QUESTION_KINDS,
) -> list[Sample]:
    """Draw mosaics and a question about each, the kinds taking turns."""
    samples = []
    for place in range(number):
        mosaic, shown = digits.draw_mosaic(source.images, source.labels, generator)
        samples.append(
            Sample(mosaic, shown, digits.ask(kinds[place % len(kinds)], shown, generator))
        )
    return samples


def make_batch(
    tokenizer: PreTrainedTokenizerBase, samples: Sequence[Sample]
) -> tuple[dict[str, Tensor], Tensor]:
    """The model's inputs for some samples, and their answers' classes (batch,)."""
    mosaics = torch.stack([sample.mosaic for sample in samples]).float()
    inputs = digits.encode(tokenizer, [sample.question.text for sample in samples], mosaics)
    return inputs, torch.tensor([ANSWERS.index(sample.question.answer) for sample in samples])


def lesson(step: int) -> Sequence[str]:
    """The question kinds of a training step.

    Nothing else gives a hold on the image until single digits can be read, and comparing two of
    them, the hardest, stays at chance for long unless it is asked more often than the rest.
    """
    return ("digit",) if step < DIGIT_STEPS else (*QUESTION_KINDS, "comparison", "comparison")


def learning_rate(step: int) -> float:
    """A linear rise to the peak, then half a cosine down to zero."""
    if step < WARMUP_STEPS:
        return PEAK_RATE * (step + 1) / WARMUP_STEPS
    return (
        PEAK_RATE * 0.5 * (1 + math.cos(math.pi * (step - WARMUP_STEPS) / (STEPS - WARMUP_STEPS)))
    )


def train(
    model: LxmertForQuestionAnswering,
    tokenizer: PreTrainedTokenizerBase,
    source: DigitImages,
    seed: int,
) -> None:
    """Train the model in place; every step draws fresh mosaics and asks fresh questions."""
    generator = random.Random(seed)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.05
    )
    start, losses = time.perf_counter(), []
    model.train()
    for step in range(STEPS):
        if (
            step % 10 == 0
        ):  # augmenting all images now and then costs far less than four per mosaic and step
            augmented = DigitImages(augment(source.images), source.labels)
        inputs, targets = make_batch(
            tokenizer, draw_samples(augmented, BATCH_SIZE, generator, lesson(step))
        )
        loss = functional.cross_entropy(model(**inputs).question_answering_score, targets)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        optimizer.step()
        losses.append(loss.item())
        if len(losses) == 100:
            seconds = time.perf_counter() - start
            print(
                f"step {step + 1:5d}  loss {sum(losses) / len(losses):.3f}  {seconds:4.0f} s",
                flush=True,
            )
            losses.clear()
    model.eval()


# ---- checks -------------------------------------------------------------------------------------


@torch.no_grad()
def accuracy_by_kind(
    model: LxmertForQuestionAnswering, tokenizer: PreTrainedTokenizerBase, samples: Sequence[Sample]
) -> dict[str, float]:
    """The share of right answers per question kind, and in total under ``"total"``."""
    inputs, targets = make_batch(tokenizer, samples)
    right = model(**inputs).question_answering_score.argmax(dim=-1) == targets
    kinds = [sample.question.kind for sample in samples]
    result = {
        kind: right[[other == kind for other in kinds]].float().mean().item()
        for kind in QUESTION_KINDS
    }
    return {**result, "total": right.float().mean().item()}


def asked_corner_share(
    model: LxmertForQuestionAnswering, tokenizer: PreTrainedTokenizerBase, samples: Sequence[Sample]
) -> float:
    """How much of gradient x attention lies on the asked corners, worked out without fxplain.

    Takes the positive part of attention times its gradient in every text-to-image cross-attention,
    summed over layers, heads and words; returns the mean over the samples.
    """
    inputs, targets = make_batch(tokenizer, samples)
    output = model(**inputs, output_attentions=True)
    maps = output.cross_encoder_attentions
    score = output.question_answering_score.gather(1, targets[:, None]).sum()
    gradients = torch.autograd.grad(score, maps)
    relevance = sum(
        (gradient * map_).clamp(min=0).sum(dim=(1, 2))
        for gradient, map_ in zip(gradients, maps, strict=True)
    )
    asked = torch.zeros_like(relevance)
    for row, sample in zip(asked, samples, strict=True):
        row[
            [patch for corner in sample.question.corners for patch in digits.corner_patches(corner)]
        ] = 1
    return ((relevance * asked).sum(dim=1) / relevance.sum(dim=1)).mean().item()


def check(folder: Path, held_out: DigitImages) -> None:
    """Print what a saved model does with held-out digits, and how large it is."""
    model, tokenizer = digits.load_model(folder)
    samples = draw_samples(held_out, 4000, random.Random(1))
    print(f"held-out accuracy on {len(samples)} questions:")
    for kind, accuracy in accuracy_by_kind(model, tokenizer, samples).items():
        print(f"  {kind:10s} {accuracy:6.1%}")
    print("gradient x attention on the asked corners (chance: 25%, comparison 50%):")
    for kind in QUESTION_KINDS:
        asked = [sample for sample in samples if sample.question.kind == kind][:400]
        print(f"  {kind:10s} {asked_corner_share(model, tokenizer, asked):6.1%}")
    text = samples[0].question.text
    print(text, "->", tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"]))
    print(f"weights: {(folder / 'model.safetensors').stat().st_size / 1e6:.2f} MB")


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
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--check", action="store_true", help="only check the model that is already there"
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="of the initial weights and of all that is drawn in training",
    )
    parser.add_argument(
        "--folder", type=Path, default=digits.MODEL_FOLDER, help="the model's folder"
    )
    parser.add_argument(
        "--samples", type=Path, default=digits.SAMPLES_FILE, help="the samples' file"
    )
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    training, held_out = split_digits()
    if not arguments.check:
        tokenizer = make_tokenizer()
        model = make_model(len(tokenizer))
        train(model, tokenizer, training, arguments.seed)
        model.save_pretrained(arguments.folder)
        tokenizer.save_pretrained(arguments.folder)
        digits.save_samples(choose_samples(held_out, arguments.seed), arguments.samples)
    check(arguments.folder, held_out)


if __name__ == "__main__":
    main()
