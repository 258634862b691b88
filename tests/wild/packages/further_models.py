"""One model each of further packages: memories, latents, hierarchies, halos, keypoints, proteins."""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor, nn

from tests.wild.case import Draw, Entry, Inputs, made
from tests.wild.packages.diverse_models import floats, last, the, words


class Added(nn.Module):
    """Patches of an image, what a layer makes of them, or adds to them, and their mean."""

    def __init__(self, layer: nn.Module, width: int, *, residual: bool) -> None:
        super().__init__()
        self.patches, self.layer = nn.Conv2d(3, 16, 2, 2), layer
        self.head, self.residual = nn.Linear(width, 5), residual

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image)
        x = x + self.layer(x) if self.residual else self.layer(x)
        return self.head(x.mean((2, 3)))


def halo() -> nn.Module:
    layer = the("halonet_pytorch:HaloAttention")(
        dim=16, block_size=4, halo_size=2, dim_head=8, heads=2
    )
    return Added(layer, 16, residual=True)


def bottleneck() -> nn.Module:
    layer = the("bottleneck_transformer_pytorch:BottleStack")(
        dim=16, fmap_size=8, dim_out=32, num_layers=2, proj_factor=2, heads=2, dim_head=8,
        downsample=False,
    )  # fmt: skip
    return Added(layer, 32, residual=False)


class Induced(nn.Module):
    """A set, with what it hears by way of a few latents."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = the("isab_pytorch:ISAB")(dim=16, heads=2, num_latents=3)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((x + self.layer(x)[0]).mean(1))


def protein() -> nn.Module:
    return the("protein_bert_pytorch:ProteinBERT")(
        num_tokens=21, num_annotation=10, dim=16, dim_global=16, depth=2, narrow_conv_kernel=3,
        wide_conv_kernel=3, wide_conv_dilation=2, attn_heads=2, attn_dim_head=8,
    )  # fmt: skip


def annotated(draw: Draw) -> Inputs:
    return (draw.ids(2, 7, high=21), (draw.floats(2, 10) > 0).float())


def recurrent_memory() -> nn.Module:
    return the("recurrent_memory_transformer_pytorch:RecurrentMemoryTransformer")(
        num_tokens=30, num_memory_tokens=3, dim=16, depth=2, causal=True, dim_head=8, heads=2,
        seq_len=8, use_flash_attn=False, emb_gradient_frac=1.0,
    )  # fmt: skip


def block_recurrent() -> nn.Module:
    return the("block_recurrent_transformer_pytorch:BlockRecurrentTransformer")(
        num_tokens=30, dim=16, depth=2, dim_head=8, heads=2, max_seq_len=8, block_width=4,
        num_state_vectors=3, recurrent_layers=(2,), use_flash_attn=False,
    )  # fmt: skip


class Points(nn.Module):
    """Features of points that attend to each other, each feature by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = the("point_transformer_pytorch:PointTransformerLayer")(
            dim=16, pos_mlp_hidden_dim=8, attn_mlp_hidden_mult=2
        )
        self.head = nn.Linear(16, 5)

    def forward(self, features: Tensor, places: Tensor) -> Tensor:
        return self.head((features + self.layer(features, places)).mean(1))


def loftr() -> nn.Module:
    return the("kornia.feature.loftr.loftr_module.transformer:LocalFeatureTransformer")(
        {"d_model": 16, "nhead": 2, "layer_names": ["self", "cross"], "attention": "full"}
    )


def tiny_vit() -> nn.Module:
    return the("kornia.models.tiny_vit:TinyViT")(
        img_size=64, num_classes=5, embed_dims=[16] * 4, depths=[1] * 4, num_heads=[2] * 4,
        window_sizes=[2] * 4,
    )  # fmt: skip


class Keypoints(nn.Module):
    """Keypoints of two images, matched as LightGlue does."""

    def __init__(self) -> None:
        super().__init__()
        layer = the("kornia.feature.lightglue:TransformerLayer")
        self.layers = nn.ModuleList(layer(16, 2, True) for _ in range(2))
        self.places = nn.Linear(2, 4)

    def turned(self, places: Tensor) -> Tensor:
        angles = self.places(places)
        both = torch.stack([angles.cos(), angles.sin()]).unsqueeze(-3)
        return both.repeat_interleave(2, dim=-1)

    def forward(self, a: Tensor, b: Tensor, places_a: Tensor, places_b: Tensor) -> Tensor:
        for layer in self.layers:
            a, b = layer(a, b, self.turned(places_a), self.turned(places_b))
        return torch.einsum("bmd,bnd->bmn", a, b)


def keypoints(draw: Draw) -> Inputs:
    return (
        draw.floats(2, 6, 16),
        draw.floats(2, 5, 16),
        draw.floats(2, 6, 2),
        draw.floats(2, 5, 2),
    )


def last_of_first(outputs: tuple[Tensor, ...]) -> Tensor:
    return last(outputs[0])


IMAGE = floats(3, 16, 16)
STATES = "layers.1.0.state_container.state_pos_ids"

ALL = {
    "halonet_pytorch": [
        Entry(
            "halonet", "halonet_pytorch", made(halo, IMAGE), {"self": 1}, {"image": 64},
            "image[0..63]",
        ),
    ],
    "bottleneck_transformer_pytorch": [
        Entry(
            "bottleneck-stack", "bottleneck_transformer_pytorch", made(bottleneck, IMAGE),
            {"self": 2}, {"image": 64}, "image[0..63]",
        ),
    ],
    "isab_pytorch": [
        Entry(
            "isab", "isab_pytorch", made(Induced, floats(7, 16)), {"co": 2},
            {"x": 7, "layer.latents": 3}, "x[0..6]",
        ),
    ],
    "protein_bert_pytorch": [  # a learned null key in each layer, before the amino acids
        Entry(
            "protein-bert", "protein_bert_pytorch", made(protein, annotated), {"encoder-decoder": 2},
            {"seq": 9, "annotation": 1}, "annotation[0]", lambda outputs: outputs[1][:, 1],
        ),
    ],
    "recurrent_memory_transformer_pytorch": [  # null keys, memories to read, words, memories to write
        Entry(
            "recurrent-memory", "recurrent_memory_transformer_pytorch",
            made(recurrent_memory, words(8)), {"self": 2}, {"x": 16}, "x[12]", last_of_first,
        ),
    ],
    "block_recurrent_transformer_pytorch": [  # two blocks: words, and states that hear and are heard
        Entry(
            "block-recurrent", "block_recurrent_transformer_pytorch",
            made(block_recurrent, words(8)), {"self": 6, "co": 4}, {"x": 8, STATES: 3}, "x[7]",
            last_of_first,
        ),
    ],
    "point_transformer_pytorch": [
        Entry(
            "point-transformer", "point_transformer_pytorch",
            made(Points, lambda d: (d.floats(2, 6, 16), d.floats(2, 6, 3))), {"self": 1},
            {"features": 6}, "features[0..5]",
        ),
    ],
    "kornia": [
        Entry(
            "loftr", "kornia", made(loftr, lambda d: (d.floats(2, 6, 16), d.floats(2, 5, 16))),
            {"self": 2, "co": 2}, {"feat0": 6, "feat1": 5}, "feat0[1]",
            lambda outputs: outputs[0][:, 1, 1],
        ),
        Entry(
            "lightglue", "kornia", made(Keypoints, keypoints), {"self": 4, "co": 4}, {"a": 6, "b": 5},
            "a[1] and b[2]", (1, 2),
        ),
        Entry(
            "tiny-vit", "kornia", made(tiny_vit, floats(3, 64, 64)), {"self": 3}, {"x": 64}, "x[made]",
        ),
    ],
}  # fmt: skip

CASES = [entry for package, cases in ALL.items() if find_spec(package) for entry in cases]
