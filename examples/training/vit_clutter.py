"""Train the small ViT that recognises one handwritten digit among clutter.

The digit lies anywhere on a canvas of 28 x 28 pixels, among fragments of other digits
(`examples/tasks/clutter.py`). A quarter of the digit images is held out: training never sees them,
neither whole nor in fragments, and what is reported is about nothing else.

    python -m examples.training.vit_clutter            # train, write the model, check it
    python -m examples.training.vit_clutter --check    # only check what is already there

Training takes about five minutes on one CPU core.
"""

from __future__ import annotations

import random
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from transformers import ViTConfig, ViTForImageClassification

from examples.tasks import clutter
from examples.tasks.digit_images import Augmented, DigitImages
from examples.training.loop import fit, print_size, train_on_digits

STEPS = 4000
BATCH_SIZE = 48
PEAK_RATE = 1e-3


def make_model() -> ViTForImageClassification:
    """An untrained ViT, small enough to come with the library."""
    return ViTForImageClassification(
        ViTConfig(
            image_size=clutter.CANVAS_SIZE,
            patch_size=clutter.PATCH_SIZE,
            num_channels=1,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=4,
            num_attention_heads=4,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            initializer_range=0.1,  # the usual 0.02 suits hidden sizes near 768, not 64
            id2label={digit: str(digit) for digit in range(10)},
            label2id={str(digit): digit for digit in range(10)},
        )
    )


def train(training: DigitImages, seed: int) -> ViTForImageClassification:
    """A trained model; every step draws fresh scenes."""
    model = make_model()
    generator = random.Random(seed)
    augmented = Augmented(training)

    def loss_at(step: int) -> Tensor:
        scenes = clutter.draw_scenes(augmented.at(step), BATCH_SIZE, generator)
        scores = model(**clutter.encode(scenes)).logits
        return functional.cross_entropy(scores, clutter.encode_targets(scenes))

    fit(model, loss_at, STEPS, PEAK_RATE)
    return model


@torch.no_grad()
def check(folder: Path, held_out: DigitImages) -> None:
    """Print how well a saved model recognises held-out digits, and how large it is."""
    model = clutter.load_model(folder)
    scenes = clutter.draw_scenes(held_out, 2000, random.Random(1))
    right = model(**clutter.encode(scenes)).logits.argmax(dim=-1) == clutter.encode_targets(scenes)
    print(f"held-out accuracy on {len(scenes)} scenes: {right.float().mean():.1%}")
    print_size(folder)


def main() -> None:
    """Train, save and check the model, or only check it."""
    train_on_digits(__doc__, clutter.MODEL_FOLDER, train, check)


if __name__ == "__main__":
    main()
