"""Image models of timm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import timm
import torch
from timm.models.nest import Nest
from timm.models.volo import VOLO
from torch import nn

from tests.wild.case import ByHand, Entry, made, plain

SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}


def model(name: str, **options: Any) -> Any:
    return lambda: timm.create_model(name, num_classes=5, **options)


def entry(
    name: str,
    make: Any,
    size: int,
    kinds: Mapping[str, int],
    modalities: Any = (),
    readout: str = "",
    **more: Any,
) -> Entry:
    build = made(make, lambda d: (d.images(size),))
    return Entry(f"timm-{name}", "timm", build, kinds, modalities, readout, **more)


def vit(
    short: str, name: str, tokens: int, readout: str, hand: ByHand | None, **options: Any
) -> Entry:
    make = model(name, **SMALL, **options)
    return entry(short, make, 32, {"self": 2}, {"x": tokens}, readout, by_hand=hand)


CLS, MEAN = plain("x", 2, 0), plain("x", 2, torch.full((16,), 1 / 16))
PATCHES = torch.cat([torch.zeros(1), torch.full((16,), 1 / 16)])
PYRAMID = {"depths": (1, 1, 1, 1), "embed_dims": (8, 8, 16, 16), "num_heads": (1, 1, 2, 2)}


def volo() -> nn.Module:
    return VOLO(
        layers=(1, 1), img_size=32, num_classes=5, embed_dims=(8, 16), num_heads=(2, 2),
        downsamples=(True, False), outlook_attention=(True, False), mlp_ratio=2.0,
        use_aux_head=False, stem_hidden_dim=8,
    )  # fmt: skip


CASES = [
    vit("vit", "vit_tiny_patch16_224", 17, "x[0]", CLS),
    vit("vit-gap", "vit_base_patch16_rpn_224", 16, "x[0..15]", MEAN),
    vit("deit3", "deit3_small_patch16_224", 17, "x[0]", CLS),
    vit("deit-distilled", "deit_tiny_distilled_patch16_224", 18, "x[0, 1]", None),
    vit("vit-clip", "vit_base_patch16_clip_224", 17, "x[0]", CLS),
    vit("dinov2-registers", "vit_small_patch14_reg4_dinov2", 21, "x[0]", CLS),
    vit("vit-relpos", "vit_relpos_small_patch16_224", 16, "x[0..15]", MEAN),
    vit("vit-srelpos", "vit_srelpos_small_patch16_224", 16, "x[0..15]", MEAN),
    vit("eva02", "eva02_tiny_patch14_224", 17, "x[1..16]", plain("x", 2, PATCHES)),
    vit("beit", "beit_base_patch16_224", 17, "x[1..16]", plain("x", 2, PATCHES)),
    vit("flexivit", "flexivit_small", 17, "x[0]", CLS),
    vit(
        "vit-register-mean", "vit_wee_patch16_reg1_gap_256", 17, "x[1..16]", plain("x", 2, PATCHES)
    ),
    vit("dinov3", "vit_small_patch16_dinov3", 21, "", None),
    vit("vit-tokens-averaged", "vit_tiny_patch16_224", 17, "x[1..16]", None, global_pool="avg"),
    entry(
        "siglip",
        model("vit_base_patch16_siglip_224", **SMALL),
        32,
        {"self": 2, "pooling": 1},
        ({"x": 16}, {"x": 16, "attn_pool.latent": 1}),
    ),
    entry(
        "cait",
        model("cait_xxs24_224", **SMALL, depth_token_only=1),
        32,
        {"self": 2, "self|pooling": 1},
        {"x": 17},
        "x[0]",
        not_attention=r"blocks\.[01]\.",
        unseen=2,
    ),
    entry(
        "xcit",
        model("xcit_nano_12_p16_224", **SMALL, cls_attn_layers=1),
        32,
        {"self|pooling": 1},
        {"x": 17},
        "x[0]",
        not_attention=r"\(2, 2, 8, 8\)",
    ),
    entry(
        "swin",
        model(
            "swin_tiny_patch4_window7_224",
            img_size=32,
            window_size=4,
            embed_dim=8,
            depths=(2, 2),
            num_heads=(2, 2),
        ),
        32,
        {"self": 4},
        {"x": 64},
        "x[made]",
    ),
    entry(
        "swin-v2",
        model(
            "swinv2_tiny_window8_256",
            img_size=32,
            window_size=4,
            embed_dim=8,
            depths=(2, 2),
            num_heads=(2, 2),
        ),
        32,
        {"self": 4},
        {"x": 64},
        "x[made]",
    ),
    entry("pvt-v2", model("pvt_v2_b0", **PYRAMID), 64, {"self": 4}, {"x": 256}, "x[made]"),
    entry(
        "twins-svt",
        model("twins_svt_small", img_size=64, patch_size=4, **{**PYRAMID, "depths": (1, 1, 2, 1)}),
        64,
        {"self": 5},
        {"x": 256},
        "x[made]",
    ),
    entry(
        "twins-pcpvt",
        model("twins_pcpvt_small", img_size=64, patch_size=4, **PYRAMID),
        64,
        {"self": 4},
        {"x": 256},
        "x[made]",
    ),
    entry(
        "tnt",
        model(
            "tnt_s_patch16_224",
            img_size=32,
            embed_dim=16,
            inner_dim=8,
            depth=2,
            num_heads_inner=2,
            num_heads_outer=2,
        ),
        32,
        {"self": 4},
        {"x": 65},
    ),
    entry(
        "visformer",
        model(
            "visformer_tiny",
            img_size=64,
            embed_dim=32,
            depth=(1, 1, 1),
            num_heads=2,
            init_channels=8,
        ),
        64,
        {"self": 2},
        {"x": 16},
        "x[made]",
    ),
    entry(
        "convit",
        model("convit_tiny", **SMALL, local_up_to_layer=1),
        32,
        {"self": 2},
        {"x": 17},
        "x[0]",
        not_attention=r"blocks\.0",
        unseen=1,
    ),
    entry(
        "crossvit",
        model(
            "crossvit_9_240",
            img_size=48,
            img_scale=(1.0, 1.0),
            patch_size=(12, 16),
            embed_dim=(16, 16),
            depth=((1, 1, 0),),
            num_heads=(2, 2),
            mlp_ratio=(2, 2, 1),
        ),
        48,
        {"self": 2, "self|co|encoder-decoder|pooling": 2},
        (),
    ),
    entry(
        "edgenext",
        model("edgenext_xx_small", depths=(1, 1, 1, 1), dims=(8, 8, 16, 16)),
        64,
        {},
        (),
        not_attention=".",
    ),
    entry("mobilevit", model("mobilevit_xxs"), 128, {"self": 9}, {"x": 256}, "x[made]"),
    entry(
        "levit",
        model(
            "levit_128s",
            img_size=128,
            embed_dim=(16, 16, 16),
            num_heads=(2, 2, 2),
            depth=(1, 1, 1),
            key_dim=8,
        ),
        128,
        {"self": 5},
        {"x": 64},
        "x[0, 4, 32, 36]",
    ),
    entry(
        "davit",
        model("davit_tiny", window_size=2, **PYRAMID),
        64,
        {"self": 4},
        {"x": 256},
        "x[made]",
        not_attention=r"\(2, \d, 8, 8\)",
    ),
    entry(
        "nest",
        lambda: Nest(
            img_size=32,
            patch_size=4,
            num_levels=2,
            embed_dims=(8, 16),
            num_heads=(2, 2),
            depths=(1, 1),
            num_classes=5,
        ),
        32,
        {"self": 2},
        {"x": 64},
        "x[made]",
    ),
    entry(
        "vit-parallel",
        model("vit_small_patch16_18x2_224", **SMALL),
        32,
        {"self": 4},
        {"x": 17},
        "x[0]",
    ),
    entry(
        "sam-vit",
        model(
            "samvit_base_patch16", **SMALL, window_size=2, global_attn_indexes=(1,), neck_chans=8
        ),
        32,
        {"self": 2},
        {"x": 16},
        "x[0..15] | x[made]",
    ),
    entry(
        "botnet", model("botnet26t_256", img_size=64), 64, {"self": 3}, {"x": 16}, "x[*] | x[made]"
    ),
    entry("convnext", model("convnext_atto", depths=(1, 1, 1, 1), dims=(8, 8, 16, 16)), 32, {}),
    entry("volo", volo, 32, {"self": 2, "self|pooling": 2}, {"x": 17}),
]
