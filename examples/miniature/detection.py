"""Experiment 4: masks of the digits that the DETR finds, from the relevance of their object queries."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import fxplain
from examples.miniature.experiment import Claim, Column, Experiment, Run
from examples.miniature.methods import BASELINES, IDEAL
from examples.miniature.segmentation import MaskScores, hits, mask_iou
from examples.tasks import detection
from examples.tasks.detection import Detection, Scene
from examples.tasks.digit_images import split_digits
from fxplain.evaluation import RANDOM
from fxplain.evaluation.localisation import otsu_threshold
from fxplain.evaluation.statistics import seeded

IMAGE = "pixel_values"
GRID = 10
"""The image's tokens are 10 x 10."""
BATCH_SIZE = 50
RESAMPLES = 1000


def evaluate(run: Run) -> MaskScores:
    """All methods' masks of what is detected on held-out scenes."""
    model = detection.load_model()
    scenes = detection.draw_scenes(split_digits()[1], run.samples, random.Random(run.seed))
    found: list[list[Detection]] = []
    maps: dict[str, list[Tensor]] = {}
    for part in _parts(scenes):
        detected, relevance = _explained(model, part, run.methods)
        found += detected
        for method, of_scenes in relevance.items():
            maps.setdefault(method, []).extend(of_scenes)
        if run.progress:
            run.progress(len(found), len(scenes))
    maps[IDEAL] = [_ideal(*both) for both in zip(found, scenes, strict=True)]
    maps[RANDOM] = [
        torch.rand(len(of_scene), GRID, GRID, generator=seeded(run.seed, "chance", i))
        for i, of_scene in enumerate(found)
    ]
    return _scored(found, scenes, maps, run.seed)


def _parts(scenes: Sequence[Scene]) -> Iterator[Sequence[Scene]]:
    for first in range(0, len(scenes), BATCH_SIZE):
        yield scenes[first : first + BATCH_SIZE]


def _explained(
    model: nn.Module, scenes: Sequence[Scene], methods: Mapping[str, Any]
) -> tuple[list[list[Detection]], dict[str, list[Tensor]]]:
    """What is detected, and by method per scene the relevance (detections, rows, columns) of each.

    The first detections of all scenes are one target, the second another, and so on; a scene that has
    fewer repeats one that nobody reads.
    """
    inputs = detection.encode(scenes)
    with torch.no_grad():
        detected = detection.detections(model(**inputs))
    most = max(map(len, detected), default=0)
    targets = [
        [(d[i].query, d[i].digit) if i < len(d) else (0, 0) for d in detected] for i in range(most)
    ]
    relevance = {}
    for label, asked in methods.items():
        name, options = (asked, {}) if isinstance(asked, str) else asked
        explained = fxplain.explain(model, inputs, targets=targets, method=name, **options)
        stacked = torch.stack([e.relevance[IMAGE].float() for e in explained], dim=1)
        relevance[label] = [
            rows[: len(d)].unflatten(-1, (GRID, GRID))
            for rows, d in zip(stacked, detected, strict=True)
        ]
    return detected, relevance


def _ideal(found: Sequence[Detection], scene: Scene) -> Tensor:
    """(detections, rows, columns): the share of each token that is the matched digit; 0 without."""
    shares = functional.adaptive_avg_pool2d(scene.masks.float(), GRID)
    nothing = torch.zeros(GRID, GRID)
    matched = detection.match(found, scene)
    rows = [nothing if digit is None else shares[digit] for digit in matched]
    return torch.stack(rows) if rows else torch.zeros(0, GRID, GRID)


def masks_of(relevance: Tensor) -> Tensor:
    """Masks (n, 40, 40) of relevance (n, rows, columns): brought to pixels, above Otsu's threshold."""
    size = (detection.CANVAS_SIZE, detection.CANVAS_SIZE)
    pixels = functional.interpolate(relevance[:, None], size, mode="bilinear")[:, 0]
    limits = torch.tensor([otsu_threshold(each) for each in pixels])
    return pixels > limits[:, None, None]


def _scored(
    found: Sequence[Sequence[Detection]],
    scenes: Sequence[Scene],
    maps: dict[str, list[Tensor]],
    seed: int,
) -> MaskScores:
    every = [(i, d) for i, of_scene in enumerate(found) for d in of_scene]
    objects = torch.zeros(len(scenes), 10, dtype=torch.long)
    for row, scene in zip(objects, scenes, strict=True):
        row.scatter_add_(0, torch.tensor(scene.digits), torch.ones(len(scene.digits), dtype=int))
    hit: dict[str, Tensor] = {}
    overlap: dict[str, Tensor] = {}
    for method, relevance in maps.items():
        parts = [_of_scene(*each) for each in zip(found, scenes, relevance, strict=True)]
        hit[method] = torch.cat([part[0] for part in parts], dim=1)
        overlap[method] = torch.cat([part[1] for part in parts])
    return MaskScores(
        images=torch.tensor([i for i, _ in every]),
        labels=torch.tensor([d.digit for _, d in every]),
        confidences=torch.tensor([d.confidence for _, d in every]),
        objects=objects,
        hit=hit,
        overlap=overlap,
        settings={
            "model": "DetrForObjectDetection",
            "samples": len(scenes),
            "seed": seed,
            "resamples": RESAMPLES,
            "confidence": 0.95,
        },
    )


def _of_scene(found: Sequence[Detection], scene: Scene, relevance: Tensor) -> tuple[Tensor, Tensor]:
    """Hits (thresholds, detections), and overlaps (detections,) with the objects that boxes find."""
    overlaps = mask_iou(masks_of(relevance), scene.masks)
    matched = detection.match(found, scene)
    own = [
        torch.nan if digit is None else float(overlaps[d, digit]) for d, digit in enumerate(matched)
    ]
    return (
        hits(overlaps, [d.digit for d in found], scene.digits),
        torch.tensor(own, dtype=torch.double),
    )


COLUMNS = [
    Column((heading,), "masks", metric, IMAGE)
    for heading, metric in (("AP", "AP"), ("AP50", "AP50"), ("AR", "AR"), ("mean IoU", "IoU"))
]

DETECTION = Experiment(
    name="detr",
    title="DETR: masks of detected digits, encoder-decoder",
    model="encoder-decoder (DETR)",
    weights=detection.MODEL_FOLDER,
    about="""\
Held-out canvases with one to three digits. Each digit that the model finds with a confidence above
50% is explained from its object query; the relevance of the 10 x 10 image tokens is brought to
pixels and cut by Otsu's threshold, and the mask compared with the digit's own pixels: COCO's
average precision over overlaps of 50, 55, ..., 95% (AP) and at 50% (AP50), and average recall (AR),
mean over the ten digits. *Mean IoU* is the overlap with the digit that the box finds. Tokens are
coarse beside a digit's strokes: *ideal relevance*, each token's true share of the digit, shows what
a mask can reach.""",
    paper="`generic` has the highest AP and AR of all methods, by a wide margin.",
    parts={"masks": evaluate},
    columns=COLUMNS,
    claims=[Claim("masks", COLUMNS, (*BASELINES, "transformer_attribution"))],
)
