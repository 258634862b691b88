"""CLIP on ImageNet's validation pictures: what of the picture and of its caption makes them alike.

    python -m examples.paper.clip_imagenet            # the data set's page asks for your agreement
    python -m examples.paper.clip_imagenet --dry-run

A picture is paired with "a photo of a ..." of its true class; what is explained is how
alike the two are.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from transformers import (
    AutoProcessor,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    PreTrainedTokenizerBase,
)

import fxplain
from examples.paper.pictures import invented_pictures
from examples.paper.running import Record, Subject, from_hub, run, stream
from examples.training.words import word_tokenizer

CHECKPOINT = "openai/clip-vit-base-patch32"
DATASET = "ILSVRC/imagenet-1k"
CAPTION = "a photo of a {}"
DRY_NAMES = ("dog", "cat", "red ball")


def encode(
    tokenizer: PreTrainedTokenizerBase, pictures: Any, names: Sequence[str], record: Record
) -> Iterator[fxplain.Example]:
    """A picture and its caption; the model's only class is the one pair."""
    name = names[record["label"]].partition(",")[0]
    words = tokenizer([CAPTION.format(name)], truncation=True, return_tensors="pt")
    pixels = pictures(record["image"].convert("RGB"), return_tensors="pt")["pixel_values"]
    inputs = {"input_ids": words["input_ids"], "attention_mask": words["attention_mask"]}
    yield fxplain.Example({**inputs, "pixel_values": pixels}, 0)


def real(_options: argparse.Namespace) -> Subject:
    model = from_hub(CLIPModel.from_pretrained, CHECKPOINT)
    processor = from_hub(AutoProcessor.from_pretrained, CHECKPOINT)
    records = stream(DATASET, "validation", ("image", "label"))
    names = records.features["label"].names  # type: ignore[attr-defined]
    return _subject(model, processor.tokenizer, processor.image_processor, names, records)


def dry(options: argparse.Namespace) -> Subject:
    words = (*CAPTION.split()[:-1], *" ".join(DRY_NAMES).split())
    vocabulary = ("[PAD]", "[UNK]", "[START]", *dict.fromkeys(words), "[END]")
    tokenizer = word_tokenizer(
        vocabulary,
        template="[START] $A [END]",
        max_length=16,
        pad_token="[PAD]",
        unk_token="[UNK]",
        bos_token="[START]",
        eos_token="[END]",
    )
    small = {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_attention_heads": 2,
        "num_hidden_layers": 2,
    }
    ends = {"bos_token_id": 2, "eos_token_id": len(vocabulary) - 1, "pad_token_id": 0}
    config = CLIPConfig(
        text_config={**small, **ends, "vocab_size": len(vocabulary), "max_position_embeddings": 16},
        vision_config={**small, "image_size": 32, "patch_size": 8},
        projection_dim=16,
    )
    pictures = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    records = invented_pictures(options.seed, len(DRY_NAMES))
    return _subject(CLIPModel(config), tokenizer, pictures, DRY_NAMES, records)


def _subject(
    model: CLIPModel,
    tokenizer: PreTrainedTokenizerBase,
    pictures: Any,
    names: Sequence[str],
    records: Iterable[Record],
) -> Subject:
    settings = {
        "tokenizer": tokenizer,
        "output": "logits_per_image",
        "target": "true",
        "score": "logit",
    }
    return Subject(model, records, partial(encode, tokenizer, pictures, names), settings)


def main(arguments: Sequence[str] | None = None) -> fxplain.Evaluation:
    return run(__doc__, real, dry, arguments)


if __name__ == "__main__":
    main()
