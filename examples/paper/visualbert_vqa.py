"""VisualBERT on VQA v2: image regions and words perturbed, as in the paper.

    python -m examples.paper.visualbert_vqa --features FOLDER --answers answers_vqa.txt
    python -m examples.paper.visualbert_vqa --dry-run

Where the regions' features come from is said in examples/paper/vqa.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import VisualBertConfig, VisualBertForQuestionAnswering

import fxplain
from examples.paper import vqa

CHECKPOINT = "uclanlp/visualbert-vqa"
TOKENIZER = "google-bert/bert-base-uncased"
"""The checkpoint has none of its own."""


def regions(features: Tensor, _boxes: Tensor) -> dict[str, Tensor]:
    mask = torch.ones(features.shape[:2], dtype=torch.long)
    return {"visual_embeds": features, "visual_attention_mask": mask}


def small_config(vocabulary: int) -> VisualBertConfig:
    return VisualBertConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=32,
        num_attention_heads=2,
        num_hidden_layers=2,
        visual_embedding_dim=vqa.DRY_FEATURES,
        num_labels=len(vqa.DRY_ANSWERS),
    )


VISUALBERT = vqa.Answerer(
    VisualBertForQuestionAnswering, CHECKPOINT, TOKENIZER, small_config, regions
)


def main(arguments: Sequence[str] | None = None) -> fxplain.Evaluation:
    return vqa.run(__doc__, VISUALBERT, arguments)


if __name__ == "__main__":
    main()
