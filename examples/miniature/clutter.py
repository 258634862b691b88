"""Experiment 3: the ViT that recognises a digit among clutter, perturbed and segmented."""

from __future__ import annotations

import random
from functools import cache, partial

import torch

import fxplain
from examples.miniature.experiment import (
    Claim,
    Column,
    Experiment,
    Results,
    Run,
    perturbation_columns,
)
from examples.miniature.methods import BASELINES
from examples.tasks import clutter
from examples.tasks.digit_images import split_digits

load_model = cache(clutter.load_model)  # so that the model is traced once
METRICS = ("positive", "negative", "pixel_accuracy", "mean_iou", "mean_ap")
EXPLAINED = ("predicted", "true")
IMAGE = "pixel_values"


def evaluate(explained: str, run: Run) -> Results:
    """All methods on held-out scenes."""
    scenes = clutter.draw_scenes(split_digits()[1], run.samples, random.Random(run.seed))
    masks = torch.stack([scene.mask for scene in scenes])
    example = fxplain.Example(
        clutter.encode(scenes), clutter.encode_targets(scenes), {IMAGE: masks}
    )
    return fxplain.evaluate(
        load_model(),
        [example],
        run.methods,
        METRICS,
        target=explained,
        score="accuracy",
        batch_size=100,
        seed=run.seed,
        progress=run.progress,
    )


PERTURBATION = perturbation_columns(IMAGE, "image", EXPLAINED)
SEGMENTATION = [
    Column(("segmentation", heading), "true", metric, IMAGE)
    for heading, metric in (
        ("pixel accuracy", "pixel_accuracy"),
        ("mIoU", "mean_iou"),
        ("mAP", "mean_ap"),
    )
]

CLUTTER = Experiment(
    name="vit",
    title="ViT: a digit among clutter, self-attention",
    model="self-attention (ViT)",
    weights=clutter.MODEL_FOLDER,
    about="""\
Held-out digits among fragments of others on noisy paper. Perturbation by steps of 0, 10, ..., 90%
of the patches, each replaced by the mean colour, measured by accuracy; segmentation of the digit's
pixels by relevance above its mean, as on ImageNet-Segmentation, with the true class explained.""",
    paper=(
        "`generic` is better than the baselines in perturbation and in segmentation, and about as good "
        "as `transformer_attribution`; the true class gives better numbers than the predicted one."
    ),
    parts={explained: partial(evaluate, explained) for explained in EXPLAINED},
    columns=[*PERTURBATION, *SEGMENTATION],
    claims=[
        Claim("perturbation", PERTURBATION, BASELINES),
        Claim("segmentation", SEGMENTATION, BASELINES),
    ],
    plots={"vit-image": ("true", IMAGE)},
)
