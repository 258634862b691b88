"""DETR on COCO's validation pictures: whether a detection's relevance lies on the object's pixels.

    python -m examples.paper.detr_coco --annotations instances_val2017.json
    python -m examples.paper.detr_coco --dry-run

Pictures come from the hub; it has their boxes but no masks, which COCO's own annotations have
(https://cocodataset.org/#download). The masks are cut by Otsu's threshold, as in the paper; AP and AR
of masks are computed for the small DETR in examples/miniature.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from transformers import (
    AutoImageProcessor,
    DetrConfig,
    DetrForObjectDetection,
    DetrImageProcessor,
    ResNetConfig,
)

import fxplain
from examples.paper.pictures import invented_pictures
from examples.paper.running import Record, Subject, from_hub, run, stream
from examples.tasks.detection import box_iou

CHECKPOINT = "facebook/detr-resnet-50"
REVISION = "no_timm"
"""The same weights, with a backbone that transformers has."""
DATASET = "detection-datasets/coco"
CONFIDENCE = 0.5
METRICS = {
    "pixel accuracy": ("pixel_accuracy", {"threshold": "otsu"}),
    "mean IoU": ("mean_iou", {"threshold": "otsu"}),
    "mass": "relevance_mass",
    "pointing game": "pointing_game",
}

Object = Mapping[str, Any]
"""A COCO annotation: ``category_id``, ``bbox`` (x, y, width, height) and ``segmentation`` polygons."""


def encode(
    model: DetrForObjectDetection,
    processor: Any,
    objects_of: Callable[[Record], Sequence[Object]],
    confidence: float,
    record: Record,
) -> Iterator[fxplain.Example]:
    """An example for each detection that finds an object: its query, its class, the object's mask."""
    image = record["image"].convert("RGB")
    inputs = processor(image, return_tensors="pt")
    pixels = {"pixel_values": inputs["pixel_values"]}
    with torch.no_grad():
        output = model(**pixels)
    scores, classes = output.logits[0].softmax(-1)[:, :-1].max(-1)
    centre, size = output.pred_boxes[0].split(2, dim=-1)
    boxes = torch.cat([centre - size / 2, centre + size / 2], dim=-1)
    objects = objects_of(record)
    for query in (scores >= confidence).nonzero().flatten().tolist():
        label = int(classes[query])
        found = _found(boxes[query], label, objects, image.size)
        if found is not None:
            mask = polygon_mask(found["segmentation"], image.size)
            yield fxplain.Example(pixels, [(query, label)], {"pixel_values": mask[None]})


def _found(
    box: Tensor, label: int, objects: Sequence[Object], size: tuple[int, int]
) -> Object | None:
    """The object of the class that the box overlaps most, by half at least."""
    alike = [each for each in objects if each["category_id"] == label]
    if not alike:
        return None
    scale = torch.tensor([*size, *size])
    corners = [(x, y, x + w, y + h) for x, y, w, h in (each["bbox"] for each in alike)]
    overlaps = box_iou(box, torch.tensor(corners) / scale)
    return alike[int(overlaps.argmax())] if overlaps.max() >= 0.5 else None


def polygon_mask(polygons: Sequence[Sequence[float]], size: tuple[int, int]) -> Tensor:
    """(height, width) true inside of any polygon (x, y, x, y, ...) of a picture of (width, height).

    Examples
    --------
    >>> polygon_mask([[0, 0, 1, 0, 1, 1, 0, 1]], (3, 2)).int().tolist()
    [[1, 1, 0], [1, 1, 0]]
    """
    canvas = Image.new("1", size)
    for polygon in polygons:
        ImageDraw.Draw(canvas).polygon(list(polygon), fill=1)
    return torch.from_numpy(np.array(canvas))


def real(options: argparse.Namespace) -> Subject:
    if options.annotations is None or not options.annotations.is_file():
        raise SystemExit(
            f"--annotations must name COCO's instances_val2017.json, not {options.annotations}: "
            f"https://cocodataset.org/#download. --dry-run makes its own."
        )
    by_image: dict[int, list[Object]] = defaultdict(list)
    for each in json.loads(options.annotations.read_text(encoding="utf-8"))["annotations"]:
        if not each["iscrowd"]:  # crowds have no polygons
            by_image[each["image_id"]].append(each)
    model = from_hub(DetrForObjectDetection.from_pretrained, CHECKPOINT, revision=REVISION)
    processor = from_hub(AutoImageProcessor.from_pretrained, CHECKPOINT, revision=REVISION)
    records = stream(DATASET, "val", ("image", "image_id"))
    return _subject(
        model, processor, records, lambda record: by_image[record["image_id"]], CONFIDENCE
    )


def dry(options: argparse.Namespace) -> Subject:
    """Random weights detect nothing in earnest: each query finds an object of its class in its box."""
    config = DetrConfig(
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        backbone=None,
        backbone_config=ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], out_features=["stage2"]
        ),
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        num_queries=4,
        num_labels=3,
    )
    model = DetrForObjectDetection(config).eval()
    processor = DetrImageProcessor(size={"height": 40, "width": 40})
    records = invented_pictures(options.seed, config.num_labels)
    return _subject(model, processor, records, partial(_invented_objects, model, processor), 0)


def _invented_objects(
    model: DetrForObjectDetection, processor: Any, record: Record
) -> list[Object]:
    """An object wherever the model sees one."""
    width, height = record["image"].size
    pixels = processor(record["image"], return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        output = model(pixel_values=pixels)
    objects = []
    for logits, (x, y, w, h) in zip(output.logits[0], output.pred_boxes[0].tolist(), strict=True):
        left, top = (x - w / 2) * width, (y - h / 2) * height
        right, bottom = left + w * width, top + h * height
        objects.append(
            {
                "category_id": int(logits[:-1].argmax()),
                "bbox": (left, top, w * width, h * height),
                "segmentation": [[left, top, right, top, right, bottom, left, bottom]],
            }
        )
    return objects


def _subject(
    model: DetrForObjectDetection,
    processor: Any,
    records: Iterable[Record],
    objects_of: Callable[[Record], Sequence[Object]],
    confidence: float,
) -> Subject:
    encoded = partial(encode, model.eval(), processor, objects_of, confidence)
    settings = {"metrics": METRICS, "target": "true", "modalities": ["pixel_values"]}
    return Subject(model, records, encoded, settings)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--annotations", type=Path, metavar="FILE", help="COCO's instances_val2017.json"
    )


def main(arguments: Sequence[str] | None = None) -> fxplain.Evaluation:
    return run(__doc__, real, dry, arguments, add_options)


if __name__ == "__main__":
    main()
