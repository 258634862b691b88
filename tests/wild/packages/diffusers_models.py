"""Denoisers and an autoencoder of diffusers."""

from __future__ import annotations

from typing import Any

import diffusers
import torch
from torch import Tensor

from tests.wild.case import ByHand, Draw, Entry, Inputs, joint, made, plain

HEADS = {"num_attention_heads": 2, "attention_head_dim": 8}
PATCHED = {**HEADS, "in_channels": 4, "num_layers": 2, "sample_size": 8, "patch_size": 2}
JOINT = {
    "joint_attention_dim": 16,
    "caption_projection_dim": 16,
    "out_channels": 4,
    "pos_embed_max_size": 16,
}
STEPS = torch.tensor([5, 7])


def pixel(output: Any) -> Tensor:
    """A pixel of the patch in row 2 and column 2 of four by four."""
    return output.sample[:, 0, 4, 4]


def mean(output: Any) -> Tensor:
    return output.sample.flatten(1).mean(1)


def entry(
    name: str,
    cls: str,
    options: dict[str, Any],
    inputs: Any,
    kinds: Any,
    modalities: Any,
    readout: str = "",
    target: Any = pixel,
    **more: Any,
) -> Entry:
    build = made(lambda: getattr(diffusers, cls)(**options), inputs)
    return Entry(
        f"diffusers-{name}", "diffusers", build, kinds, modalities, readout, target, **more
    )


def sd3(draw: Draw) -> Inputs:
    return {
        "hidden_states": draw.images(8, channels=4),
        "encoder_hidden_states": draw.floats(2, 6, 16),
        "pooled_projections": draw.floats(2, 12),
        "timestep": STEPS,
    }


def flux(draw: Draw) -> Inputs:
    return {
        "hidden_states": draw.floats(2, 9, 4),
        "encoder_hidden_states": draw.floats(2, 5, 16),
        "pooled_projections": draw.floats(2, 12),
        "timestep": torch.tensor([0.5, 0.7]),
        "img_ids": draw.floats(9, 3),
        "txt_ids": torch.zeros(5, 3),
    }


def guided(width: int, size: int = 8, channels: int = 4) -> Any:
    def inputs(draw: Draw) -> Inputs:
        return {
            "hidden_states": draw.images(size, channels=channels),
            "encoder_hidden_states": draw.floats(2, 6, width),
            "timestep": STEPS,
        }

    return inputs


def labelled(draw: Draw) -> Inputs:
    return {
        "hidden_states": draw.images(8, channels=4),
        "timestep": STEPS,
        "class_labels": torch.tensor([1, 2]),
    }


def unet(draw: Draw) -> Inputs:
    return {
        "sample": draw.images(8, channels=4),
        "timestep": STEPS,
        "encoder_hidden_states": draw.floats(2, 6, 12),
    }


def without_time(draw: Draw) -> Inputs:
    return {
        "hidden_states": draw.images(4, channels=16),
        "encoder_hidden_states": draw.floats(2, 6, 12),
    }


def prior(draw: Draw) -> Inputs:
    return {
        "hidden_states": draw.floats(2, 8),
        "timestep": STEPS,
        "proj_embedding": draw.floats(2, 8),
        "encoder_hidden_states": draw.floats(2, 5, 8),
    }


UNET = {
    "sample_size": 8, "in_channels": 4, "out_channels": 4, "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "block_out_channels": (8, 16),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"), "cross_attention_dim": 12,
    "attention_head_dim": 4, "norm_num_groups": 4,
}  # fmt: skip
BLOCKS = {
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
}
TOKENS = {"hidden_states": 16, "encoder_hidden_states": 6}
ALTERNATING = ByHand(
    {"h": ("hidden_states",), "c": ("encoder_hidden_states",)},
    (("h", "h"), ("h", "c"), ("h", "h"), ("h", "c")),
    {"h": 10},
)

CASES = [
    entry(
        "dit",
        "DiTTransformer2DModel",
        {**PATCHED, "num_embeds_ada_norm": 10, "norm_num_groups": 4},
        labelled,
        {"self": 2},
        {"hidden_states": 16},
        "hidden_states[10]",
        by_hand=plain("hidden_states", 2, 10),
    ),
    entry(
        "sd3",
        "SD3Transformer2DModel",
        {**PATCHED, **JOINT, "pooled_projection_dim": 12},
        sd3,
        {"self": 2},
        TOKENS,
        "hidden_states[10]",
        by_hand=joint(tuple(TOKENS), 2, 10),
    ),
    entry(
        "flux",
        "FluxTransformer2DModel",
        {
            **HEADS,
            "patch_size": 1,
            "in_channels": 4,
            "num_layers": 1,
            "num_single_layers": 1,
            "joint_attention_dim": 16,
            "pooled_projection_dim": 12,
            "axes_dims_rope": (2, 2, 4),
        },
        flux,
        {"self": 2},
        {"encoder_hidden_states": 5, "hidden_states": 9},
        "hidden_states[3]",
        lambda out: out.sample[:, 3, 1],
        by_hand=joint(("encoder_hidden_states", "hidden_states"), 2, 8),
    ),
    entry(
        "unet",
        "UNet2DConditionModel",
        UNET,
        unet,
        {"self": 4, "encoder-decoder": 4},
        {"sample": 64, "encoder_hidden_states": 6},
        "",
        mean,
    ),
    entry(
        "pixart",
        "PixArtTransformer2DModel",
        {
            **PATCHED,
            "out_channels": 8,
            "cross_attention_dim": 16,
            "caption_channels": 12,
            "norm_num_groups": 4,
            "use_additional_conditions": False,
        },
        guided(12),
        {"self": 2, "encoder-decoder": 2},
        TOKENS,
        "hidden_states[10]",
        by_hand=ALTERNATING,
    ),
    entry(
        "prior",
        "PriorTransformer",
        {
            **HEADS,
            "num_layers": 2,
            "embedding_dim": 8,
            "num_embeddings": 5,
            "additional_embeddings": 4,
        },
        prior,
        {"self": 2},
        (),
        "",
        lambda out: out.predicted_image_embedding[:, 1],
    ),
    entry(
        "autoencoder",
        "AutoencoderKL",
        {
            **BLOCKS,
            "block_out_channels": (8, 8),
            "latent_channels": 4,
            "norm_num_groups": 4,
            "layers_per_block": 1,
        },
        lambda d: {"sample": d.images(16)},
        {"self": 2},
        {"sample": 64},
        "",
        mean,
    ),
    entry(
        "transformer-2d",
        "Transformer2DModel",
        {
            **HEADS,
            "in_channels": 16,
            "num_layers": 1,
            "cross_attention_dim": 12,
            "norm_num_groups": 4,
        },
        without_time,
        {"self": 1, "encoder-decoder": 1},
        TOKENS,
        "hidden_states[11]",
        lambda out: out.sample[:, 1, 2, 3],
    ),
    entry(
        "auraflow",
        "AuraFlowTransformer2DModel",
        {
            **HEADS,
            **JOINT,
            "sample_size": 8,
            "patch_size": 2,
            "in_channels": 4,
            "num_mmdit_layers": 1,
            "num_single_dit_layers": 1,
        },
        lambda d: {**guided(16)(d), "timestep": torch.tensor([0.5, 0.7])},
        {"self": 2},
        {"hidden_states": 16, "encoder_hidden_states": 14},
        "hidden_states[10]",
    ),
]
