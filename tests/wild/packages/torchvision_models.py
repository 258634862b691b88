"""torchvision's transformers."""

from __future__ import annotations

from typing import Any

from torch import nn
from torchvision import models
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformerBlockV2
from torchvision.models.video.mvit import MSBlockConfig, MViT
from torchvision.models.video.swin_transformer import SwinTransformer3d

from tests.wild.case import Entry, made, plain


def swin(**more: Any) -> nn.Module:
    return models.SwinTransformer([4, 4], 8, [2, 2], [1, 2], [4, 4], num_classes=5, **more)


def swin_v2() -> nn.Module:
    return swin(block=SwinTransformerBlockV2, downsample_layer=PatchMergingV2)


def maxvit() -> nn.Module:
    return models.MaxVit((64, 64), 8, 4, [8, 16], [1, 1], 8, 0.0, num_classes=5)


def mvit() -> nn.Module:
    blocks = [
        MSBlockConfig(1, 8, 8, [3, 3, 3], [3, 3, 3], [1, 1, 1], [1, 2, 2]),
        MSBlockConfig(1, 8, 16, [3, 3, 3], [3, 3, 3], [1, 2, 2], [1, 2, 2]),
    ]
    return MViT(
        spatial_size=(32, 32), temporal_size=4, block_setting=blocks, residual_pool=False,
        residual_with_cls_embed=False, rel_pos_embed=False, proj_after_attn=False, num_classes=5,
    )  # fmt: skip


def vit() -> nn.Module:
    return models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=5)


CASES = [
    Entry(
        "torchvision-vit",
        "torchvision",
        made(vit, lambda d: (d.images(32),)),
        {"self": 2},
        {"x": 17},
        "x[0]",
        by_hand=plain("x", 2, 0),
    ),
    Entry(
        "torchvision-swin",
        "torchvision",
        made(swin, lambda d: (d.images(32),)),
        {"self": 4},
        {"x": 64},
        "x[made]",
    ),
    Entry(
        "torchvision-swin-v2",
        "torchvision",
        made(swin_v2, lambda d: (d.images(32),)),
        {"self": 4},
        {"x": 64},
        "x[made]",
    ),
    Entry(
        "torchvision-maxvit",
        "torchvision",
        made(maxvit, lambda d: (d.images(64),)),
        {"self": 4},
        {"x": 256},
        "x[made]",
    ),
    Entry(
        "torchvision-mvit",
        "torchvision",
        made(mvit, lambda d: (d.floats(2, 3, 4, 32, 32),)),
        {"self": 2},
        {"x": 129},
        "x[0]",
    ),
    Entry(
        "torchvision-swin-3d",
        "torchvision",
        made(
            lambda: SwinTransformer3d([2, 4, 4], 8, [2, 2], [1, 2], [2, 2, 2], num_classes=5),
            lambda d: (d.floats(2, 3, 4, 32, 32),),
        ),
        {"self": 4},
        {"x": 128},
        "x[made]",
    ),
]
