"""Image and text towers of open_clip."""

from __future__ import annotations

from typing import Any

from open_clip.coca_model import CoCa
from open_clip.model import CLIP
from torch import Tensor, nn

from tests.wild.case import Draw, Entry, Inputs, made

TEXT = {"context_length": 8, "vocab_size": 30, "width": 16, "heads": 2, "layers": 2}
VISION = {"layers": 2, "width": 16, "head_width": 8, "patch_size": 8, "image_size": 32}
PLACES = ("image[0] and text[4]", "image[0] and text[3]")


def clip(vision: dict[str, Any]) -> Any:
    return lambda: CLIP(embed_dim=8, vision_cfg=vision, text_cfg=TEXT)


def coca() -> nn.Module:
    vision = {
        **VISION,
        "attentional_pool": True,
        "attn_pooler_heads": 2,
        "attn_pooler_queries": 3,
        "output_tokens": True,
    }
    text = {**TEXT, "embed_cls": True, "output_tokens": True}
    return CoCa(embed_dim=16, multimodal_cfg=TEXT, vision_cfg=vision, text_cfg=text)


def pair(size: int) -> Any:
    def inputs(draw: Draw) -> Inputs:
        text = draw.ids(2, 8, high=20)
        text[0, 4] = text[1, 3] = 29  # where the text is read
        return {"image": draw.images(size), "text": text}

    return inputs


def similarity(output: tuple[Tensor, ...]) -> Tensor:
    return (output[0] * output[1]).sum(-1)


def caption(output: dict[str, Tensor]) -> Tensor:
    return output["logits"][:, -1, 1]


CASES = [
    Entry(
        "openclip-vit",
        "open_clip",
        made(clip(VISION), pair(32)),
        {"self": 4},
        {"image": 17, "text": 8},
        PLACES,
        similarity,
    ),
    Entry(
        "openclip-resnet",
        "open_clip",
        made(
            clip({"layers": (1, 1, 1, 1), "width": 8, "head_width": 8, "image_size": 64}), pair(64)
        ),
        {"self": 2, "self|pooling": 1},
        ({"image": 4, "text": 8}, {"image": 5, "text": 8}),
        "",
        similarity,
    ),
    Entry(
        "openclip-coca",
        "open_clip",
        made(coca, pair(32)),
        {"self": 6, "encoder-decoder": 2, "encoder-decoder|pooling": 1},
        (),
        "",
        caption,
    ),
]
