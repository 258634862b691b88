"""VisualBERT on VQA v2: image regions and words perturbed, as in the paper.

    python -m examples.paper.visualbert_vqa --features FOLDER --answers answers_vqa.txt
    python -m examples.paper.visualbert_vqa --dry-run

Where the regions' features come from is said in examples/paper/vqa.py.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import AutoTokenizer, VisualBertConfig, VisualBertForQuestionAnswering

import fxplain
from examples.paper import vqa
from examples.paper.running import Subject, from_hub, run

CHECKPOINT = "uclanlp/visualbert-vqa"
TOKENIZER = "google-bert/bert-base-uncased"
"""The checkpoint has none of its own."""


def regions(features: Tensor, _boxes: Tensor) -> dict[str, Tensor]:
    mask = torch.ones(features.shape[:2], dtype=torch.long)
    return {"visual_embeds": features, "visual_attention_mask": mask}


def real(options: argparse.Namespace) -> Subject:
    vqa.check_features(options)
    model = from_hub(VisualBertForQuestionAnswering.from_pretrained, CHECKPOINT)
    tokenizer = from_hub(AutoTokenizer.from_pretrained, TOKENIZER)
    return vqa.real(options, model, tokenizer, regions)


def dry(options: argparse.Namespace) -> Subject:
    tokenizer = vqa.make_tokenizer()
    config = VisualBertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=32,
        num_attention_heads=2,
        num_hidden_layers=2,
        visual_embedding_dim=16,
        num_labels=len(vqa.DRY_ANSWERS),
    )
    model = VisualBertForQuestionAnswering(config)
    return vqa.dry(options, model, tokenizer, config.visual_embedding_dim, regions)


def main(arguments: Sequence[str] | None = None) -> fxplain.Evaluation:
    return run(__doc__, real, dry, arguments, vqa.add_options)


if __name__ == "__main__":
    main()
