"""LXMERT on VQA v2: image regions and words perturbed, as in the paper.

    python -m examples.paper.lxmert_vqa --features FOLDER --answers trainval_label2ans.json
    python -m examples.paper.lxmert_vqa --dry-run

Where the regions' features come from is said in examples/paper/vqa.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from transformers import LxmertConfig, LxmertForQuestionAnswering

import fxplain
from examples.paper import vqa

CHECKPOINT = "unc-nlp/lxmert-vqa-uncased"


def regions(features: Tensor, boxes: Tensor) -> dict[str, Tensor]:
    return {"visual_feats": features, "visual_pos": boxes}


def small_config(vocabulary: int) -> LxmertConfig:
    return LxmertConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=32,
        num_attention_heads=2,
        l_layers=1,
        r_layers=1,
        x_layers=1,
        visual_feat_dim=vqa.DRY_FEATURES,
        num_qa_labels=len(vqa.DRY_ANSWERS),
    )


LXMERT = vqa.Answerer(LxmertForQuestionAnswering, CHECKPOINT, CHECKPOINT, small_config, regions)


def main(arguments: Sequence[str] | None = None) -> fxplain.Evaluation:
    return vqa.run(__doc__, LXMERT, arguments)


if __name__ == "__main__":
    main()
