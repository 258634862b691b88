"""Image, video and series models of vit-pytorch."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import torch

from tests.wild.case import Draw, Entry, Inputs, made, plain

SMALL = {
    "image_size": 32, "patch_size": 8, "num_classes": 5,
    "dim": 16, "depth": 2, "heads": 2, "mlp_dim": 32,
}  # fmt: skip
FRAMES = {
    "image_size": 16, "image_patch_size": 8, "frames": 4, "frame_patch_size": 2, "num_classes": 5,
    "dim": 16, "heads": 2, "mlp_dim": 32,
}  # fmt: skip
SERIES = {
    "seq_len": 32, "patch_size": 8, "num_classes": 5, "dim": 16, "depth": 2, "heads": 2, "mlp_dim": 32,
}  # fmt: skip


def entry(
    module: str,
    cls: str,
    options: Mapping[str, Any],
    shape: tuple[int, ...],
    kinds: Mapping[str, int],
    modalities: Any,
    readout: str = "",
    name: str = "",
    **more: Any,
) -> Entry:
    def make() -> Any:
        return getattr(import_module(f"vit_pytorch.{module}"), cls)(**options)

    def inputs(draw: Draw) -> Inputs:
        return (draw.floats(2, *shape),)

    label = f"vitp-{(name or module).replace('_', '-')}"
    return Entry(label, "vit-pytorch", made(make, inputs), kinds, modalities, readout, **more)


def small(module: str, cls: str, tokens: int, readout: str, name: str = "", **more: Any) -> Entry:
    more.setdefault("kinds", {"self": 2})
    options = {**SMALL, **more.pop("options", {})}
    kinds = more.pop("kinds")
    return entry(module, cls, options, (3, 32, 32), kinds, {"img": tokens}, readout, name, **more)


def stages(count: int, **each: tuple[int, ...]) -> dict[str, int]:
    return {f"s{i + 1}_{name}": values[i] for name, values in each.items() for i in range(count)}


CLS, MEAN = plain("img", 2, 0), plain("img", 2, torch.full((16,), 1 / 16))
REGISTERS = torch.cat([torch.full((16,), 1 / 16), torch.zeros(4)])
NO_SOFTMAX = {"not_attention": "."}

TWINS = {
    "num_classes": 5,
    **stages(
        4, emb_dim=(8, 8, 8, 8), patch_size=(4, 2, 2, 2), local_patch_size=(4, 4, 2, 2),
        global_k=(4, 4, 2, 2), depth=(1, 1, 1, 1),
    ),
}  # fmt: skip
CVT = {"num_classes": 5, **stages(3, emb_dim=(8, 8, 8), heads=(1, 1, 1), depth=(1, 1, 1))}
CROSS = {
    "image_size": 48, "num_classes": 5, "depth": 1, "cross_attn_depth": 1, "cross_attn_heads": 2,
    "cross_attn_dim_head": 8, "sm_patch_size": 12, "lg_patch_size": 16,
    **{
        f"{size}_{part}": value
        for size in ("sm", "lg")
        for part, value in {
            "dim": 16, "enc_depth": 1, "enc_heads": 2, "enc_mlp_dim": 16, "enc_dim_head": 8,
        }.items()
    },
}  # fmt: skip

CASES = [
    small("vit", "ViT", 17, "img[0]", by_hand=CLS),
    small("vit", "ViT", 16, "img[0..15]", "vit-mean", options={"pool": "mean"}, by_hand=MEAN),
    small("simple_vit", "SimpleViT", 16, "img[0..15]", by_hand=MEAN),
    small("simple_vit_with_patch_dropout", "SimpleViT", 16, "img[0..15]", by_hand=MEAN),
    small(
        "simple_vit_with_register_tokens",
        "SimpleViT",
        20,
        "img[0..15]",
        by_hand=plain("img", 2, REGISTERS),
    ),
    small("simple_vit_with_qk_norm", "SimpleViT", 16, "img[0..15]", by_hand=MEAN),
    small("simple_vit_with_value_residual", "SimpleViT", 16, "img[0..15]"),
    small(
        "simple_vit_with_hyper_connections",
        "SimpleViT",
        20,
        "img[0..15]",
        options={"num_residual_streams": 2},
    ),
    small("simple_flash_attn_vit", "SimpleViT", 16, "img[0..15]", unseen=2, **NO_SOFTMAX),
    small("deepvit", "DeepViT", 17, "img[0]", unseen=2, **NO_SOFTMAX),
    small("parallel_vit", "ViT", 17, "img[0]", kinds={"self": 4}),
    small("learnable_memory_vit", "ViT", 17, "img[0]", by_hand=CLS),
    small("vit_with_patch_dropout", "ViT", 17, "img[0]"),
    small("rvt", "RvT", 17, "img[0]"),
    small(
        "ats_vit",
        "ViT",
        17,
        "img[0]",
        options={"max_tokens_per_depth": (8, 6)},
        unseen=2,
        **NO_SOFTMAX,
    ),
    small("vit_for_small_dataset", "ViT", 17, "img[0]", by_hand=CLS),
    small(
        "cait",
        "CaiT",
        17,
        "img[0]",
        kinds={"self": 2, "self|pooling": 1},
        options={"cls_depth": 1},
        unseen=3,
        **NO_SOFTMAX,
    ),
    small(
        "xcit",
        "XCiT",
        17,
        "img[0]",
        kinds={"self|pooling": 1},
        options={"cls_depth": 1},
        not_attention=r"\(2, 2, 64, 64\)",
    ),
    entry(
        "normalized_vit", "nViT", SMALL, (3, 32, 32), {"self": 2}, {"images": 16}, "images[0..15]"
    ),
    entry(
        "vit_with_patch_merger",
        "ViT",
        {**SMALL, "patch_merge_layer": 1, "patch_merge_num_tokens": 4},
        (3, 32, 32),
        {"self": 2, "encoder-decoder|pooling": 1},
        ({"img": 16}, {"img": 16, "transformer.patch_merger.queries": 4}),
    ),
    entry(
        "t2t",
        "T2TViT",
        {
            "image_size": 32,
            "num_classes": 5,
            "dim": 16,
            "depth": 1,
            "heads": 2,
            "mlp_dim": 32,
            "t2t_layers": ((7, 4), (3, 2)),
        },
        (3, 32, 32),
        {"self": 2},
        {"img": 65},
        "img[*]",
    ),
    entry(
        "cct",
        "CCT",
        {
            "img_size": 32,
            "embedding_dim": 16,
            "n_conv_layers": 2,
            "kernel_size": 7,
            "stride": 2,
            "padding": 3,
            "pooling_kernel_size": 3,
            "pooling_stride": 2,
            "pooling_padding": 1,
            "num_layers": 2,
            "num_heads": 2,
            "mlp_ratio": 2.0,
            "num_classes": 5,
        },
        (3, 32, 32),
        {"self": 2, "pooling": 1},
        {"x": 4},
    ),
    entry(
        "pit", "PiT", {**SMALL, "depth": (1, 1)}, (3, 32, 32), {"self": 2}, {"img": 50}, "img[0]"
    ),
    entry(
        "levit",
        "LeViT",
        {
            "image_size": 64,
            "num_classes": 5,
            "stages": 2,
            "dim": (16, 16),
            "depth": 1,
            "heads": (2, 2),
            "mlp_mult": 2,
        },
        (3, 64, 64),
        {"self": 3},
        {"img": 16},
        "img[0, 2, 8, 10]",
    ),
    entry("cvt", "CvT", CVT, (3, 64, 64), {"self": 3}, {"x": 256}, "x[made]"),
    entry("twins_svt", "TwinsSVT", TWINS, (3, 64, 64), {"self": 14}, {"x": 256}, "x[made]"),
    entry(
        "regionvit",
        "RegionViT",
        {"dim": (8, 8, 8, 8), "depth": (1, 1, 1, 1), "window_size": 2, "num_classes": 5},
        (3, 64, 64),
        {"self": 8},
        (),
    ),
    entry(
        "scalable_vit",
        "ScalableViT",
        {
            "num_classes": 5,
            "dim": 8,
            "heads": (1, 1, 1, 1),
            "depth": (1, 1, 1, 1),
            "ssa_dim_key": (8, 8, 8, 8),
            "reduction_factor": (4, 2, 1, 1),
            "window_size": (4, 4, 2, 2),
        },
        (3, 64, 64),
        {"self": 8},
        {"img": 256},
        "img[made]",
    ),
    entry(
        "max_vit",
        "MaxViT",
        {
            "num_classes": 5,
            "dim_conv_stem": 8,
            "dim": 8,
            "dim_head": 8,
            "depth": (1, 1),
            "window_size": 4,
        },
        (3, 64, 64),
        {"self": 4},
        {"x": 256},
        "x[made]",
    ),
    entry(
        "nest",
        "NesT",
        {
            "image_size": 32,
            "patch_size": 4,
            "dim": 8,
            "heads": 1,
            "num_hierarchies": 2,
            "block_repeats": (1, 1),
            "num_classes": 5,
        },
        (3, 32, 32),
        {"self": 2},
        {"img": 64},
        "img[made]",
    ),
    entry(
        "mobile_vit",
        "MobileViT",
        {"image_size": (128, 128), "dims": [8, 8, 8], "channels": [8] * 11, "num_classes": 5},
        (3, 128, 128),
        {"self": 9},
        {"x": 256},
        "x[made]",
    ),
    entry(
        "cross_vit",
        "CrossViT",
        CROSS,
        (3, 48, 48),
        {"self": 2, "self|co|encoder-decoder|pooling": 2},
        (),
    ),
    entry(
        "vit_3d",
        "ViT",
        {**FRAMES, "depth": 2},
        (3, 4, 16, 16),
        {"self": 2},
        {"video": 9},
        "video[0]",
        by_hand=plain("video", 2, 0),
    ),
    entry(
        "simple_vit_3d",
        "SimpleViT",
        {**FRAMES, "depth": 2},
        (3, 4, 16, 16),
        {"self": 2},
        {"video": 8},
        "video[0..7]",
    ),
    entry(
        "vit_1d",
        "ViT",
        SERIES,
        (3, 32),
        {"self": 2},
        {"series": 5},
        "series[0]",
        by_hand=plain("series", 2, 0),
    ),
    entry(
        "simple_vit_1d", "SimpleViT", SERIES, (3, 32), {"self": 2}, {"series": 4}, "series[0..3]"
    ),
    entry(
        "sep_vit",
        "SepViT",
        {"num_classes": 5, "dim": 8, "dim_head": 8, "heads": (1, 1), "depth": (1, 1)},
        (3, 56, 56),
        {"self": 3},
        (),
    ),
]
