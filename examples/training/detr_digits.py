"""Train the small DETR that finds handwritten digits.

One to three digits of different sizes on a canvas of 40 x 40 pixels (`examples/tasks/detection.py`).
A quarter of the digit images is held out: training never sees them, and what is reported is about
nothing else. As in the original, the convolutional backbone learns to classify first, and its batch
norms are frozen from then on; here it says of each cell of its grid in which digit's box it lies. No
part of the model ever learns from a digit's pixels, so that masks made of relevance are weakly
supervised.

    python -m examples.training.detr_digits            # train, write the model, check it
    python -m examples.training.detr_digits --check    # only check what is already there

Training takes about ten minutes on one CPU core.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import DetrConfig, DetrForObjectDetection, ResNetBackbone, ResNetConfig

from examples.tasks import detection
from examples.tasks.detection import Scene
from examples.tasks.digit_images import Augmented, DigitImages
from examples.training.loop import fit, print_size, train_on_digits

BACKBONE_STEPS = 600
STEPS = 5000
BATCH_SIZE = 32
PEAK_RATE = 1e-3

GRID_SIZE = detection.CANVAS_SIZE // 4
"""The backbone's stride is 4 pixels: the canvas becomes 10 x 10 image tokens."""
NO_DIGIT = 10

Draw = Callable[[int], list[Scene]]
"""Draws the training scenes of a step."""


def make_backbone() -> ResNetBackbone:
    """An untrained ResNet of one stage, its batch norms not frozen yet."""
    return ResNetBackbone(
        ResNetConfig(
            num_channels=1,
            embedding_size=24,
            hidden_sizes=[48],
            depths=[2],
            layer_type="basic",
            out_features=["stage1"],
        )
    )


def make_model(backbone: ResNetBackbone) -> DetrForObjectDetection:
    """A DETR small enough to come with the library, only its backbone trained."""
    model = DetrForObjectDetection(
        DetrConfig(
            backbone_config=backbone.config,
            num_channels=1,
            num_queries=10,
            d_model=64,
            encoder_layers=2,
            decoder_layers=3,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=128,
            decoder_ffn_dim=128,
            dropout=0.0,
            auxiliary_loss=True,
            init_std=0.1,  # the usual 0.02 suits hidden sizes near 256, not 64
            id2label={digit: str(digit) for digit in range(10)},
            label2id={str(digit): digit for digit in range(10)},
        )
    )
    counted = "num_batches_tracked"  # a frozen batch norm counts nothing
    weights = {k: v for k, v in backbone.state_dict().items() if not k.endswith(counted)}
    model.model.backbone.model.load_state_dict(weights)
    model.model.unfreeze_backbone()
    return model


# ---- training -----------------------------------------------------------------------------------


def cell_classes(scenes: Sequence[Scene]) -> Tensor:
    """(batch, 10, 10) the digit in whose box the centre of each cell lies, 10 where in none."""
    centres = (torch.arange(GRID_SIZE) + 0.5) / GRID_SIZE
    result = torch.full((len(scenes), GRID_SIZE, GRID_SIZE), NO_DIGIT)
    for classes, scene in zip(result, scenes, strict=True):
        for digit, (x1, y1, x2, y2) in zip(scene.digits, scene.boxes, strict=True):
            rows, columns = (y1 < centres) & (centres < y2), (x1 < centres) & (centres < x2)
            classes[rows[:, None] & columns] = digit
    return result


def train_backbone(draw: Draw) -> ResNetBackbone:
    """A backbone that has learned to tell in which digit's box each cell of its grid lies."""
    backbone = make_backbone()
    head = nn.Conv2d(backbone.channels[-1], NO_DIGIT + 1, kernel_size=1)

    def loss_at(step: int) -> Tensor:
        scenes = draw(step)
        (features,) = backbone(**detection.encode(scenes)).feature_maps
        return functional.cross_entropy(head(features), cell_classes(scenes))

    fit(nn.ModuleList([backbone, head]), loss_at, BACKBONE_STEPS, PEAK_RATE)
    return backbone


def train(training: DigitImages, seed: int) -> DetrForObjectDetection:
    """A trained model; every step draws fresh scenes."""
    generator = random.Random(seed)
    augmented = Augmented(training)

    def draw(step: int) -> list[Scene]:
        return detection.draw_scenes(augmented.at(step), BATCH_SIZE, generator)

    model = make_model(train_backbone(draw))

    def loss_at(step: int) -> Tensor:
        scenes = draw(step)
        return model(**detection.encode(scenes), labels=detection.encode_targets(scenes)).loss

    fit(model, loss_at, STEPS, PEAK_RATE)
    return model


# ---- checks -------------------------------------------------------------------------------------


@torch.no_grad()
def check(folder: Path, held_out: DigitImages) -> None:
    """Print what a saved model finds among held-out digits, and how large it is."""
    model = detection.load_model(folder)
    scenes = detection.draw_scenes(held_out, 1000, random.Random(1))
    output = model(**detection.encode(scenes))
    ranked = detection.detections(output, threshold=0)
    sure = detection.detections(output)
    matches = [detection.match(f, s) for f, s in zip(sure, scenes, strict=True)]
    present = sum(len(scene.digits) for scene in scenes)
    found = sum(len(of_scene) for of_scene in sure)
    right = sum(digit is not None for of_scene in matches for digit in of_scene)
    print(f"{present} held-out digits in {len(scenes)} scenes:")
    for least_iou in (0.5, 0.75):
        area = detection.average_precision(ranked, scenes, least_iou)
        print(f"  average precision at overlap {least_iou}: {area:.1%}")
    print(f"  found at confidence 0.5 and overlap 0.5: {right / present:.1%}")
    print(f"  of what is found, right: {right / found:.1%}")
    print_size(folder)


def main() -> None:
    """Train, save and check the model, or only check it."""
    train_on_digits(__doc__, detection.MODEL_FOLDER, train, check)


if __name__ == "__main__":
    main()
