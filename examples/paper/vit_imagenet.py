"""ViT on ImageNet's validation pictures: positive and negative perturbation of the patches.

python -m examples.paper.vit_imagenet            # the data set's page asks for your agreement
python -m examples.paper.vit_imagenet --dry-run
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from transformers import (
    AutoImageProcessor,
    BaseImageProcessor,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
)

import fxplain
from examples.paper.pictures import invented_pictures
from examples.paper.running import Record, Subject, from_hub, run, stream

CHECKPOINT = "google/vit-base-patch16-224"
DATASET = "ILSVRC/imagenet-1k"


def encode(processor: BaseImageProcessor, record: Record) -> Iterator[fxplain.Example]:
    inputs = processor(record["image"].convert("RGB"), return_tensors="pt")
    yield fxplain.Example({"pixel_values": inputs["pixel_values"]}, record["label"])


def real(_options: argparse.Namespace) -> Subject:
    model = from_hub(ViTForImageClassification.from_pretrained, CHECKPOINT)
    processor = from_hub(AutoImageProcessor.from_pretrained, CHECKPOINT)
    return _subject(model, processor, stream(DATASET, "validation", ("image", "label")))


def dry(options: argparse.Namespace) -> Subject:
    config = ViTConfig(
        hidden_size=32,
        intermediate_size=32,
        num_attention_heads=2,
        num_hidden_layers=2,
        image_size=32,
        patch_size=8,
        num_labels=5,
    )
    processor = ViTImageProcessor(size={"height": config.image_size, "width": config.image_size})
    records = invented_pictures(options.seed, config.num_labels)
    return _subject(ViTForImageClassification(config), processor, records)


def _subject(
    model: ViTForImageClassification, processor: BaseImageProcessor, records: Iterable[Record]
) -> Subject:
    return Subject(model, records, partial(encode, processor), {"score": "accuracy"})


def main(arguments: Sequence[str] | None = None) -> fxplain.Evaluation:
    return run(__doc__, real, dry, arguments)


if __name__ == "__main__":
    main()
