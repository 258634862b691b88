"""Questions about mosaics of handwritten digits: the data of the small LXMERT and VisualBERT.

What a mosaic and a question are is said in `fxplain.demo.digits`, with which the LXMERT comes; here
they are drawn at random, and made the inputs of either model.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import (
    AutoTokenizer,
    LxmertForQuestionAnswering,
    PreTrainedTokenizerBase,
    VisualBertForQuestionAnswering,
)

from examples.tasks.digit_images import DigitImages
from fxplain.demo import digits
from fxplain.demo.digits import ANSWERS, GRID_SIZE, QUESTION_KINDS, Sample

LXMERT_FOLDER = digits.MODEL_FOLDER
VISUALBERT_FOLDER = Path(__file__).parents[1] / "models" / "visualbert_digits"


def draw_samples(
    source: DigitImages,
    number: int,
    generator: random.Random,
    kinds: Sequence[str] = QUESTION_KINDS,
) -> list[Sample]:
    """Draw mosaics and a question about each, the kinds taking turns.

    Parameters
    ----------
    source : DigitImages
        What to draw from.
    number : int
        How many samples.
    generator : random.Random
        Where everything is drawn from: the same seed gives the same samples.
    kinds : sequence of str
        Of `QUESTION_KINDS`.

    Returns
    -------
    list of Sample
    """
    samples = []
    for place in range(number):
        mosaic, shown = digits.draw_mosaic(source.images, source.labels, generator)
        samples.append(
            Sample(mosaic, shown, digits.ask(kinds[place % len(kinds)], shown, generator))
        )
    return samples


def encode_lxmert(
    tokenizer: PreTrainedTokenizerBase, samples: Sequence[Sample]
) -> dict[str, Tensor]:
    """The LXMERT's inputs: see `fxplain.demo.digits.encode`."""
    mosaics = torch.stack([sample.mosaic for sample in samples]).float()
    return digits.encode(tokenizer, [sample.question.text for sample in samples], mosaics)


def encode_visualbert(
    tokenizer: PreTrainedTokenizerBase, samples: Sequence[Sample]
) -> dict[str, Tensor]:
    """The VisualBERT's inputs.

    VisualBERT has no place for boxes, so that each patch brings its own as four more features.

    Returns
    -------
    dict of str to Tensor
        ``input_ids`` and ``attention_mask`` (batch, words), ``visual_embeds`` (batch, 16 patches, 16
        pixels + 4) and ``visual_attention_mask`` (batch, 16).
    """
    inputs = encode_lxmert(tokenizer, samples)
    visual_embeds = torch.cat([inputs.pop("visual_feats"), inputs.pop("visual_pos")], dim=-1)
    visual_attention_mask = torch.ones(visual_embeds.shape[:-1], dtype=torch.long)
    return {
        **inputs,
        "visual_embeds": visual_embeds,
        "visual_attention_mask": visual_attention_mask,
    }


def encode_targets(samples: Sequence[Sample]) -> Tensor:
    """(batch,) the true answers' classes."""
    return torch.tensor([ANSWERS.index(sample.question.answer) for sample in samples])


def asked_patches(samples: Sequence[Sample]) -> Tensor:
    """(batch, 16) true at the image tokens of the corners that the questions ask about."""
    asked = torch.zeros(len(samples), GRID_SIZE**2, dtype=torch.bool)
    for row, sample in zip(asked, samples, strict=True):
        for corner in sample.question.corners:
            row[digits.corner_patches(corner)] = True
    return asked


def load_lxmert(
    folder: Path = LXMERT_FOLDER,
) -> tuple[LxmertForQuestionAnswering, PreTrainedTokenizerBase]:
    """Load the trained LXMERT, in evaluation mode, and its tokenizer."""
    return digits.load_model(folder)


def load_visualbert(
    folder: Path = VISUALBERT_FOLDER,
) -> tuple[VisualBertForQuestionAnswering, PreTrainedTokenizerBase]:
    """Load the trained VisualBERT, in evaluation mode, and its tokenizer."""
    model = VisualBertForQuestionAnswering.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True
    )
    return model.eval(), AutoTokenizer.from_pretrained(folder, local_files_only=True)
