"""VQA v2 for both models: questions from the hub, features of image regions from a folder.

LXMERT and VisualBERT read no pixels but features of image regions, 2,048 numbers each, that a
detector found; the hub has none. Make them once with the detector that the checkpoint was trained
with (LXMERT: the Faster R-CNN of "bottom-up attention", 36 regions and their boxes; VisualBERT: a
Detectron ResNet-101), and save one file per image as ``FOLDER/<image id>.safetensors`` with
``features`` (regions, 2048) and ``boxes`` (regions, 4), (x1, y1, x2, y2) in fractions of the
image's sides. Questions about images without a file are left out.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase

import fxplain
from examples.paper import running
from examples.paper.running import Record, Subject, from_hub, stream
from examples.training.words import word_tokenizer

DATASET = "lmms-lab/VQAv2"
COLUMNS = ("question", "image_id", "answers")
REGIONS = 36

QUESTION = "what is the colour of how many are there a dog ball on left ?"
WORDS = QUESTION.split()
DRY_ANSWERS = ("yes", "no", "red", "two")
DRY_FEATURES = 16

Regions = Callable[[Tensor, Tensor], dict[str, Tensor]]
"""From features (1, regions, numbers) and boxes (1, regions, 4) to a model's own inputs."""


def _add_options(parser: argparse.ArgumentParser) -> None:
    """What both scripts ask for."""
    parser.add_argument("--features", type=Path, metavar="FOLDER", help="of the regions' features")
    parser.add_argument(
        "--answers",
        type=Path,
        metavar="FILE",
        help="the checkpoint's answers in the order of its classes, a JSON list or one a line; "
        "without it accuracy is that of the unperturbed prediction",
    )


@dataclass(frozen=True)
class Answerer:
    """A model that answers questions about image regions.

    Attributes
    ----------
    model_class : type
        Of transformers.
    checkpoint, tokenizer : str
        The hub ids of its weights and of its tokenizer.
    small_config : callable
        From the size of the vocabulary to the config of a dry run's model, which reads regions of
        `DRY_FEATURES` numbers and knows `DRY_ANSWERS`.
    regions : callable
        Its inputs, of features and boxes.
    """

    model_class: Any
    checkpoint: str
    tokenizer: str
    small_config: Callable[[int], Any]
    regions: Regions


def run(
    about: str | None, answerer: Answerer, arguments: Sequence[str] | None
) -> fxplain.Evaluation:
    """Evaluate a model from the command line, as `examples.paper.running.run` does."""
    return running.run(
        about, partial(_real, answerer), partial(_dry, answerer), arguments, _add_options
    )


def _real(answerer: Answerer, options: argparse.Namespace) -> Subject:
    """A checkpoint on the validation questions."""
    check_features(options)
    model = from_hub(answerer.model_class.from_pretrained, answerer.checkpoint)
    tokenizer = from_hub(AutoTokenizer.from_pretrained, answerer.tokenizer)
    records = stream(DATASET, "validation", COLUMNS)
    return _subject(model, tokenizer, records, options.features, options.answers, answerer.regions)


def check_features(options: argparse.Namespace) -> None:
    """See that there are features, before anything is loaded.

    Raises
    ------
    SystemExit
        When there is no such folder, with what to do.
    """
    if options.features is None or not options.features.is_dir():
        raise SystemExit(
            f"--features must name a folder of region features, not {options.features}: see "
            f"examples/paper/vqa.py for what is in it. --dry-run makes its own."
        )


def _subject(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    records: Iterable[Record],
    features: Path,
    answers: Path | None,
    regions: Regions,
) -> Subject:
    encoded = partial(encode, tokenizer, features, answer_classes(answers), regions)
    settings = {"tokenizer": tokenizer, "steps": "lxmert", "score": "accuracy"}
    return Subject(model, records, encoded, settings)


def encode(
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    classes: Mapping[str, int],
    regions: Regions,
    record: Record,
) -> Iterator[fxplain.Example]:
    """A question with its image's regions; nothing without a file or without a known answer."""
    path = folder / f"{record['image_id']}.safetensors"
    true = true_class(record, classes)
    if not path.exists() or (classes and true is None):
        return
    found = load_file(path)
    words = tokenizer([record["question"].lower()], truncation=True, return_tensors="pt")
    inputs = {name: words[name] for name in ("input_ids", "attention_mask")}
    yield fxplain.Example(
        {**inputs, **regions(found["features"][None], found["boxes"][None])}, true
    )


def answer_classes(path: Path | None) -> dict[str, int]:
    """The class of each answer; none where the file is not given."""
    if path is None:
        return {}
    text = path.read_text(encoding="utf-8")
    answers = json.loads(text) if path.suffix == ".json" else text.splitlines()
    return {answer: place for place, answer in enumerate(answers)}


def true_class(record: Record, classes: Mapping[str, int]) -> int | None:
    """The class of the answer that most people gave; None where it is not among the classes."""
    given = Counter(answer["answer"] for answer in record["answers"])
    return classes.get(given.most_common(1)[0][0])


# ---- a dry run ----------------------------------------------------------------------------------


def _dry(answerer: Answerer, options: argparse.Namespace) -> Subject:
    """Random weights on invented questions."""
    tokenizer = make_tokenizer()
    model = answerer.model_class(answerer.small_config(len(tokenizer)))
    folder = tempfile.TemporaryDirectory()
    answers = Path(folder.name) / "answers.json"
    answers.write_text(json.dumps(DRY_ANSWERS), encoding="utf-8")
    records = invented_questions(folder, options.seed)
    return _subject(model, tokenizer, records, Path(folder.name), answers, answerer.regions)


def make_tokenizer() -> PreTrainedTokenizerBase:
    """A tokenizer of a few words, with BERT's special tokens."""
    return word_tokenizer(
        ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS),
        template="[CLS] $A [SEP]",
        max_length=20,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def invented_questions(folder: tempfile.TemporaryDirectory[str], seed: int) -> Iterator[Record]:
    """Questions as the hub has them, with files of random features; without end."""
    generator = random.Random(seed)
    noise = torch.Generator().manual_seed(seed)
    for place in count():
        save_file(
            {
                "features": torch.randn(REGIONS, DRY_FEATURES, generator=noise),
                "boxes": torch.rand(REGIONS, 4, generator=noise),
            },
            Path(folder.name) / f"{place}.safetensors",
        )
        yield {
            "question": " ".join(generator.sample(WORDS, 6)),
            "image_id": place,
            "answers": [{"answer": generator.choice(DRY_ANSWERS)}] * 10,
        }
