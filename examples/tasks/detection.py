"""Find handwritten digits on a larger canvas: the data of the small DETR.

A *scene* is a canvas of 40 x 40 pixels, from 0 (paper) to 16 (ink), with one to three digits of
different sizes that do not touch, on noisy paper. The pixels of each digit are known, which is what
makes the model worth explaining: a good explanation of a detected digit finds the relevance there.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from sklearn.metrics import average_precision_score
from torch import Tensor
from transformers import DetrForObjectDetection

from examples.tasks.canvas import Square, draw_digit, draw_paper, draw_square
from examples.tasks.digit_images import DigitImages
from fxplain.demo.digits import MAX_INK

MODEL_FOLDER = Path(__file__).parents[1] / "models" / "detr_digits"

CANVAS_SIZE = 40
MOST_DIGITS = 3
SIDES = (11, 17)
"""The smallest and the largest side of a digit's image on the canvas, in pixels."""


@dataclass(frozen=True)
class Scene:
    """A canvas, and the digits on it.

    Attributes
    ----------
    image : Tensor
        (40, 40) pixels from 0 to 16.
    digits : tuple of int
        One to three digits, in the order in which they were drawn.
    masks : Tensor
        (digits, 40, 40), true at each digit's own pixels; no pixel belongs to two.
    boxes : Tensor
        (digits, 4): (x1, y1, x2, y2) around each mask, in fractions of the canvas' side.
    """

    image: Tensor
    digits: tuple[int, ...]
    masks: Tensor
    boxes: Tensor


@dataclass(frozen=True)
class Detection:
    """A digit that the model finds.

    Attributes
    ----------
    query : int
        The object query that finds it.
    digit : int
        What the model takes it for.
    confidence : float
        The digit's probability.
    box : Tensor
        (4,): (x1, y1, x2, y2) in fractions of the canvas' side.
    """

    query: int
    digit: int
    confidence: float
    box: Tensor


# ---- scenes -------------------------------------------------------------------------------------


def draw_scenes(source: DigitImages, number: int, generator: random.Random) -> list[Scene]:
    """Draw scenes of the given digit images.

    Parameters
    ----------
    source : DigitImages
        What to draw from.
    number : int
        How many scenes.
    generator : random.Random
        Where everything is drawn from: the same seed gives the same scenes.

    Returns
    -------
    list of Scene
    """
    paper = draw_paper(number, CANVAS_SIZE, generator)
    return [_draw_scene(source, canvas, generator) for canvas in paper]


def _draw_scene(source: DigitImages, canvas: Tensor, generator: random.Random) -> Scene:
    digits, masks = [], []
    for square in _draw_squares(generator.randint(1, MOST_DIGITS), generator):
        digit, mask = draw_digit(canvas, source, square, generator)
        digits.append(digit)
        masks.append(mask)
    stacked = torch.stack(masks)
    return Scene(canvas, tuple(digits), stacked, mask_boxes(stacked))


def _draw_squares(number: int, generator: random.Random) -> list[Square]:
    """Places for digits that do not overlap.

    All start anew when two overlap, so that no place is favoured.
    """
    while True:
        squares = [draw_square(CANVAS_SIZE, SIDES, generator) for _ in range(number)]
        if not any(a.overlaps(b) for a, b in combinations(squares, 2)):
            return squares


def mask_boxes(masks: Tensor) -> Tensor:
    """The smallest boxes around masks.

    Parameters
    ----------
    masks : Tensor
        (n, height, width), each true somewhere.

    Returns
    -------
    Tensor
        (n, 4): (x1, y1, x2, y2) in fractions of the sides.
    """
    height, width = masks.shape[1:]
    ends = []
    for along, size in ((masks.any(dim=1), width), (masks.any(dim=2), height)):
        first = along.int().argmax(dim=1)
        last = size - along.flip(1).int().argmax(dim=1)
        ends.append((first / size, last / size))
    (x1, x2), (y1, y2) = ends
    return torch.stack([x1, y1, x2, y2], dim=1)


# ---- the model's inputs and outputs -------------------------------------------------------------


def encode(scenes: Sequence[Scene]) -> dict[str, Tensor]:
    """The model's inputs: ``pixel_values`` (batch, 1, 40, 40) in [0, 1]."""
    return {"pixel_values": torch.stack([scene.image for scene in scenes])[:, None] / MAX_INK}


def encode_targets(scenes: Sequence[Scene]) -> list[dict[str, Tensor]]:
    """The model's ``labels``: per scene ``class_labels`` (digits,) and ``boxes`` (digits, 4).

    Boxes are (centre x, centre y, width, height) here, as DETR's loss wants them.
    """
    return [
        {
            "class_labels": torch.tensor(scene.digits),
            "boxes": torch.cat(
                [
                    (scene.boxes[:, :2] + scene.boxes[:, 2:]) / 2,
                    scene.boxes[:, 2:] - scene.boxes[:, :2],
                ],
                dim=1,
            ),
        }
        for scene in scenes
    ]


def load_model(folder: Path = MODEL_FOLDER) -> DetrForObjectDetection:
    """Load the trained model, in evaluation mode; its object queries are ten, its tokens 10 x 10."""
    return DetrForObjectDetection.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True
    ).eval()


def detections(output: Any, threshold: float = 0.5) -> list[list[Detection]]:
    """What the model finds in each scene.

    Parameters
    ----------
    output : DetrObjectDetectionOutput
        With ``logits`` (batch, queries, 11) and ``pred_boxes`` (batch, queries, 4).
    threshold : float
        The least confidence.

    Returns
    -------
    list of list of Detection
        Per scene, the most confident first.
    """
    confidences, classes = output.logits.softmax(dim=-1)[..., :-1].max(dim=-1)
    centre, size = output.pred_boxes.split(2, dim=-1)
    boxes = torch.cat([centre - size / 2, centre + size / 2], dim=-1)
    return [
        sorted(
            (
                Detection(query, int(classes[scene, query]), confidence, boxes[scene, query])
                for query, confidence in enumerate(confidences[scene].tolist())
                if confidence >= threshold
            ),
            key=lambda detection: -detection.confidence,
        )
        for scene in range(len(confidences))
    ]


# ---- how well digits are found ------------------------------------------------------------------


def box_iou(box: Tensor, boxes: Tensor) -> Tensor:
    """The overlap (intersection over union) of a box (4,) with boxes (n, 4), (n,)."""
    inner = torch.minimum(box[2:], boxes[:, 2:]) - torch.maximum(box[:2], boxes[:, :2])
    intersection = inner.clamp(min=0).prod(dim=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    return intersection / ((box[2:] - box[:2]).prod() + areas - intersection)


def match(found: Sequence[Detection], scene: Scene, least_iou: float = 0.5) -> list[int | None]:
    """Which digit of the scene each detection finds.

    The most confident detection chooses first, among the digits of its class that no other has
    found, the one that it overlaps most (as in PASCAL VOC).

    Returns
    -------
    list of int or None
        Per detection the place of its digit in the scene; None where it finds none.
    """
    matches: list[int | None] = [None] * len(found)
    for place in sorted(range(len(found)), key=lambda place: -found[place].confidence):
        overlaps = box_iou(found[place].box, scene.boxes)
        free = [
            digit
            for digit in range(len(scene.digits))
            if scene.digits[digit] == found[place].digit
            and digit not in matches
            and overlaps[digit] >= least_iou
        ]
        if free:
            matches[place] = max(free, key=lambda digit: float(overlaps[digit]))
    return matches


def average_precision(
    found: Sequence[Sequence[Detection]], scenes: Sequence[Scene], least_iou: float = 0.5
) -> float:
    """Mean over the ten digits of the area under precision against recall.

    Parameters
    ----------
    found : sequence of sequence of Detection
        Per scene, of any confidence: `detections` with threshold 0.
    scenes : sequence of Scene
        In which every digit occurs.
    least_iou : float
        The overlap of boxes from which on a digit counts as found.
    """
    hits: dict[int, list[bool]] = {digit: [] for digit in range(10)}
    confidences: dict[int, list[float]] = {digit: [] for digit in range(10)}
    for of_scene, scene in zip(found, scenes, strict=True):
        matches = match(of_scene, scene, least_iou)
        for detection, digit in zip(of_scene, matches, strict=True):
            hits[detection.digit].append(digit is not None)
            confidences[detection.digit].append(detection.confidence)
    precisions = []
    for digit in range(10):
        present = sum(scene.digits.count(digit) for scene in scenes)
        # scikit-learn's recall is among what was detected, not among what is there
        area = average_precision_score(hits[digit], confidences[digit]) if any(hits[digit]) else 0
        precisions.append(area * sum(hits[digit]) / present)
    return sum(precisions) / len(precisions)
