"""LXMERT on VQA v2: image regions and words perturbed, as in the paper.

    python -m examples.paper.lxmert_vqa --features FOLDER --answers trainval_label2ans.json
    python -m examples.paper.lxmert_vqa --dry-run

Where the regions' features come from is said in examples/paper/vqa.py.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from torch import Tensor
from transformers import AutoTokenizer, LxmertConfig, LxmertForQuestionAnswering

import fxplain
from examples.paper import vqa
from examples.paper.running import Subject, from_hub, run

CHECKPOINT = "unc-nlp/lxmert-vqa-uncased"


def regions(features: Tensor, boxes: Tensor) -> dict[str, Tensor]:
    return {"visual_feats": features, "visual_pos": boxes}


def real(options: argparse.Namespace) -> Subject:
    vqa.check_features(options)
    model = from_hub(LxmertForQuestionAnswering.from_pretrained, CHECKPOINT)
    tokenizer = from_hub(AutoTokenizer.from_pretrained, CHECKPOINT)
    return vqa.real(options, model, tokenizer, regions)


def dry(options: argparse.Namespace) -> Subject:
    tokenizer = vqa.make_tokenizer()
    config = LxmertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=32,
        num_attention_heads=2,
        l_layers=1,
        r_layers=1,
        x_layers=1,
        visual_feat_dim=16,
        num_qa_labels=len(vqa.DRY_ANSWERS),
    )
    model = LxmertForQuestionAnswering(config)
    return vqa.dry(options, model, tokenizer, config.visual_feat_dim, regions)


def main(arguments: Sequence[str] | None = None) -> fxplain.Evaluation:
    return run(__doc__, real, dry, arguments, vqa.add_options)


if __name__ == "__main__":
    main()
