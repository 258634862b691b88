"""What fxplain detects in ten well-known architectures, as a Markdown table.

    python examples/architectures.py

The models are tiny and random, built from their configurations: nothing is downloaded, and what is
detected is the same at any size. It takes about half a minute.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
import transformers
from torch import nn

import fxplain
from fxplain import AttentionGraph, AttentionNode

Inputs = dict[str, torch.Tensor]
Build = Callable[[], tuple[nn.Module, Inputs]]

TEXT: dict[str, Any] = {
    "vocab_size": 99,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
IMAGE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
}
SEQ2SEQ: dict[str, Any] = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
}


def make(name: str, **config: Any) -> nn.Module:
    """A random model of the class `name`."""
    torch.manual_seed(0)
    model_class = getattr(transformers, name)
    model: nn.Module = model_class(model_class.config_class(**config))
    return model.eval()


def words(length: int) -> torch.Tensor:
    return torch.arange(3, 3 + length).unsqueeze(0)


def pixels(height: int, width: int) -> torch.Tensor:
    return torch.rand(1, 3, height, width)


def bert() -> tuple[nn.Module, Inputs]:
    return make("BertForSequenceClassification", **TEXT), {"input_ids": words(8)}


def llama() -> tuple[nn.Module, Inputs]:
    return make("LlamaForCausalLM", num_key_value_heads=2, **TEXT), {"input_ids": words(8)}


def t5() -> tuple[nn.Module, Inputs]:
    model = make(
        "T5ForConditionalGeneration", vocab_size=99, d_model=32, d_kv=8, d_ff=48, num_layers=2,
        num_heads=4, decoder_start_token_id=0,
    )  # fmt: skip
    return model, {"input_ids": words(8), "decoder_input_ids": words(5)}


def whisper() -> tuple[nn.Module, Inputs]:
    model = make(
        "WhisperForConditionalGeneration", vocab_size=99, num_mel_bins=8, max_source_positions=20,
        max_target_positions=16, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        decoder_start_token_id=1, **SEQ2SEQ,
    )  # fmt: skip
    return model, {"input_features": torch.rand(1, 8, 40), "decoder_input_ids": words(5)}


def vit() -> tuple[nn.Module, Inputs]:
    return make("ViTForImageClassification", **IMAGE), {"pixel_values": pixels(32, 32)}


def swin() -> tuple[nn.Module, Inputs]:
    model = make(
        "SwinForImageClassification", image_size=32, patch_size=4, embed_dim=16, depths=[2, 2],
        num_heads=[2, 4], window_size=4,
    )  # fmt: skip
    return model, {"pixel_values": pixels(32, 32)}


def detr() -> tuple[nn.Module, Inputs]:
    backbone = {
        "model_type": "resnet",
        "embedding_size": 8,
        "hidden_sizes": [8, 16],
        "depths": [1, 1],
        "layer_type": "basic",
        "out_features": ["stage2"],
    }
    model = make(
        "DetrForObjectDetection", use_timm_backbone=False, backbone_config=backbone,
        num_queries=6, num_labels=7, **SEQ2SEQ,
    )  # fmt: skip
    return model, {"pixel_values": pixels(24, 32)}


def clip() -> tuple[nn.Module, Inputs]:
    text = {**TEXT, "bos_token_id": 1, "eos_token_id": 10, "pad_token_id": 0}
    model = make("CLIPModel", text_config=text, vision_config=IMAGE, projection_dim=16)
    return model, {"input_ids": words(8), "pixel_values": pixels(32, 32)}


def lxmert() -> tuple[nn.Module, Inputs]:
    config = {key: value for key, value in TEXT.items() if key != "num_hidden_layers"}
    model = make(
        "LxmertForQuestionAnswering", l_layers=2, r_layers=2, x_layers=2, visual_feat_dim=12,
        num_qa_labels=9, **config,
    )  # fmt: skip
    boxes = {"visual_feats": torch.rand(1, 6, 12), "visual_pos": torch.rand(1, 6, 4)}
    return model, {"input_ids": words(8), **boxes}


def llava() -> tuple[nn.Module, Inputs]:
    image_token, patches = 98, 16
    model = make(
        "LlavaForConditionalGeneration",
        vision_config={**IMAGE, "model_type": "clip_vision_model"},
        text_config={**TEXT, "model_type": "llama"},
        image_token_id=image_token,
    )
    image = torch.full((1, patches), image_token)
    ids = torch.cat([words(2), image, words(5)], 1)
    return model, {"input_ids": ids, "pixel_values": pixels(32, 32)}


ARCHITECTURES: dict[str, Build] = {
    "BERT": bert,
    "Llama": llama,
    "T5": t5,
    "Whisper": whisper,
    "ViT": vit,
    "Swin": swin,
    "DETR": detr,
    "CLIP": clip,
    "LXMERT": lxmert,
    "LLaVA": llava,
}


def described(node: AttentionNode) -> str:
    """Kind and sides of a node: "self `input_ids`", "co `input_ids` to `visual_feats`"."""
    query, key = (" + ".join(f"`{name}`" for name in names) for names in (node.query, node.key))
    return f"{node.kind} {query}" if query == key else f"{node.kind} {query} to {key}"


def row(name: str, graph: AttentionGraph) -> str:
    """One line of the table."""
    nodes = Counter(described(node) for node in graph.nodes)
    cells = (
        name,
        ", ".join(f"`{modality}` ({tokens})" for modality, tokens in graph.modalities.items()),
        "<br>".join(f"{count} {what}" for what, count in nodes.items()),
        f"`{graph.readout}`",
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table."""
    print("| architecture | modalities (tokens) | attention nodes | readout |")
    print("|---|---|---|---|")
    for name, build in ARCHITECTURES.items():
        model, inputs = build()
        print(row(name, fxplain.inspect(model, inputs)), flush=True)


if __name__ == "__main__":
    main()
