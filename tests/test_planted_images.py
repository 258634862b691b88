"""Of a photo that is empty but for a bright square, the heat map lies on the square: in every family.

Biases, positions and the mixing within the vision towers are taken out, so that only the square's
patches have values that anything could draw on. Where they are on the photo is known from the photo.
"""

import inspect
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers as hf
from PIL import Image

import fxplain
from fxplain.pipelines.encoding import encode
from fxplain.pipelines.given import Given
from fxplain.pipelines.loading import Loaded
from tests.zoo.multimodal import OPT, QFORMER, QWEN, QWEN_TEXT, QWEN_VISION

pytestmark = pytest.mark.slow

WIDTH, HEIGHT = 96, 64
SQUARES = {"upper left": (8, 8, 32, 24), "lower right": (64, 32, 88, 56)}
IMAGE = 98
SIZE = {
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
}
TEXT = {**SIZE, "vocab_size": 99, "num_key_value_heads": 2, "head_dim": 8}
SEES = {**SIZE, "image_size": 32, "patch_size": 8, "projection_dim": 16}
CLIP = {**SEES, "model_type": "clip_vision_model"}
SIGLIP = {**SEES, "model_type": "siglip_vision_model", "vision_use_head": False}
PIXTRAL = {**SEES, "model_type": "pixtral", "image_size": 64, "head_dim": 8}
SQUARE = {"height": 32, "width": 32}
PINPOINTS = [[32, 64], [64, 32], [64, 64]]
TILES = {"size": {"longest_edge": 64}, "max_image_size": {"longest_edge": 32}}
LATENTS = {
    "resampler_n_latents": 3, "resampler_depth": 1, "hidden_size": 32, "resampler_n_heads": 2,
    "resampler_head_dim": 8, "num_key_value_heads": 1,
}  # fmt: skip
MLLAMA = {
    **SIZE, "num_global_layers": 1, "attention_heads": 4, "image_size": 32, "patch_size": 8,
    "max_num_tiles": 4, "vision_output_dim": 64, "intermediate_layers_indices": [0],
    "supported_aspect_ratios": [[1, 1], [1, 2], [1, 3], [1, 4], [2, 1], [2, 2], [3, 1], [4, 1]],
}  # fmt: skip


def text(kind: str, **more) -> dict:
    return {**TEXT, "model_type": kind, **more}


def of(vision, words, processor, *, token="image_token_index", **more):
    return {"vision_config": vision, "text_config": words, token: IMAGE, **more}, processor


def qwen(deepstack=(), vision=None, **words):
    config = {
        **QWEN,
        "vision_config": {
            **QWEN_VISION, "depth": 2, "num_position_embeddings": 64,
            "deepstack_visual_indexes": list(deepstack), **(vision or {}),
        },
        "text_config": {**TEXT, "rope_parameters": {**QWEN_TEXT["rope_parameters"], **words}},
    }  # fmt: skip
    size = {"shortest_edge": 16 * 16, "longest_edge": 48 * 48}
    return config, lambda: hf.Qwen2VLImageProcessorPil(patch_size=4, merge_size=2, size=size)


def cut(most: int):
    return lambda: hf.GotOcr2ImageProcessorPil(crop_to_patches=True, max_patches=most, size=SQUARE)


def pixtral(patch: int):
    size = {"height": patch, "width": patch}
    return lambda: hf.PixtralImageProcessorPil(size={"longest_edge": 48}, patch_size=size)


def gemma(**crops):
    return lambda: hf.Gemma3ImageProcessorPil(size=SQUARE, **crops)


CROPS = {
    "do_pan_and_scan": True, "pan_and_scan_min_crop_size": 8,
    "pan_and_scan_max_num_crops": 4, "pan_and_scan_min_ratio_to_activate": 1.2,
}  # fmt: skip


FAMILIES = {
    "Qwen2VL": qwen(),
    "Qwen2_5_VL": qwen(),
    "Qwen3VL": qwen(),
    "Qwen3VL deepstack": qwen([0]),
    "VideoLlama3": of(
        {**SIZE, "patch_size": 4}, text("qwen2"),
        lambda: hf.VideoLlama3ImageProcessorPil(
            size={"shortest_edge": 16 * 16, "longest_edge": 48 * 48}, patch_size=4, merge_size=2),
        token="image_token_id",
    ),
    "AyaVision": of(SIGLIP, text("cohere2"), cut(4), downsample_factor=2),
    "Cohere2Vision": of(SIGLIP, text("cohere2"), cut(4), token="image_token_id",
                        downsample_factor=2),
    "InternVL": of(
        {**SIZE, "image_size": [32, 32], "patch_size": [8, 8], "model_type": "internvl_vision"},
        text("qwen2"), cut(6), token="image_token_id", downsample_ratio=0.5,
    ),
    "Llava": of(CLIP, text("llama"), lambda: hf.CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size=SQUARE), vision_feature_layer=-1),
    "LlavaNext": of(CLIP, text("llama"), lambda: hf.LlavaNextImageProcessorPil(
        image_grid_pinpoints=PINPOINTS, size={"shortest_edge": 32}, crop_size=SQUARE),
        vision_feature_layer=-1, image_grid_pinpoints=PINPOINTS),
    "LlavaOnevision": of(SIGLIP, text("qwen2"), lambda: hf.LlavaOnevisionImageProcessorPil(
        image_grid_pinpoints=PINPOINTS, size=SQUARE), vision_feature_layer=-1,
        image_grid_pinpoints=PINPOINTS),
    "SmolVLM": of(SEES, text("llama"), lambda: hf.SmolVLMImageProcessorPil(**TILES),
                  token="image_token_id", scale_factor=2),
    "Idefics3": of(SEES, text("llama"), lambda: hf.Idefics3ImageProcessorPil(**TILES),
                   token="image_token_id", scale_factor=2),
    "Idefics2": of(SEES, text("mistral"), lambda: hf.Idefics2ImageProcessorPil(
        size={"shortest_edge": 24, "longest_edge": 32}, do_image_splitting=False),
        token="image_token_id", perceiver_config=LATENTS),
    "PaliGemma": of(SIGLIP, text("gemma"), lambda: hf.SiglipImageProcessorPil(size=SQUARE),
                    projection_dim=32),
    "Gemma3": of(SIGLIP, text("gemma3_text"), gemma(), mm_tokens_per_image=4),
    "Gemma3 crops": of(SIGLIP, text("gemma3_text"), gemma(**CROPS), mm_tokens_per_image=4),
    "Blip2": of(SEES, {**OPT, "num_hidden_layers": 1}, lambda: hf.BlipImageProcessorPil(
        size=SQUARE), qformer_config=QFORMER, num_query_tokens=3),
    "Llava Pixtral": of(PIXTRAL, text("mistral"), pixtral(8), vision_feature_layer=-1,
                        vision_feature_select_strategy="full"),
    "Mistral3": of(PIXTRAL, text("mistral"), pixtral(16), vision_feature_layer=-1,
                   spatial_merge_size=2),
    "Mllama": of(MLLAMA, text("mllama_text_model", num_hidden_layers=2, pad_token_id=0,
                              cross_attention_layers=[1]),
                 lambda: hf.MllamaImageProcessorPil(size=SQUARE, max_image_tiles=4)),
}  # fmt: skip
SEES_ONLY = (
    "pixel_values", "image_grid_thw", "image_merge_sizes", "image_sizes", "pixel_attention_mask",
)  # fmt: skip
PLACES = (
    "pos_embed|position_embed|class_embedding|cls_token|image_newline|tile_pos|positional_embedding"
)
MIXES = r"(vision|visual).*att.*\.(out_proj|o_proj|proj|projection|projection_layer)\.weight"


@torch.no_grad()
def planted(name: str, config: dict, seed: int) -> torch.nn.Module:
    """A model in which patches of zeros stay zeros and no patch hears of another."""
    kind = getattr(hf, f"{name.split()[0]}ForConditionalGeneration")
    torch.manual_seed(seed)
    model = kind(kind.config_class(**config)).eval()
    for part, parameter in model.named_parameters():
        if part.endswith("bias") or re.search(f"{PLACES}|{MIXES}", part):
            parameter.zero_()
        elif "gate" in part.rsplit(".", 1)[-1]:
            parameter.fill_(1.0)
        elif part.endswith("mm_input_projection_weight"):
            parameter.normal_()
        elif parameter.dim() > 1:
            parameter.mul_(4)
    return model


def seen(model, processor, square) -> tuple[dict, object]:
    """The square on zeros as the processor gives it, and where it all came from."""
    grey = np.array(getattr(processor, "image_mean", [0.5] * 3)) * 255
    empty = np.broadcast_to(grey.round().astype(np.uint8), (HEIGHT, WIDTH, 3)).copy()
    photo = empty.copy()
    left, top, right, bottom = square
    photo[top:bottom, left:right] = 255
    loaded = Loaded(model, "a model", image_processor=processor)
    given, nothing = (
        encode(loaded, Given(image=[Image.fromarray(pixels)])) for pixels in (photo, empty)
    )
    pixels = given.inputs["pixel_values"] - nothing.inputs["pixel_values"]
    pixels[pixels.abs() < pixels.abs().max() / 2] = 0
    pixels[..., 0] += 1e-30  # a tile of zeros is padding to some
    return {**given.inputs, "pixel_values": pixels}, given.originals


def asked(model, inputs: dict) -> dict:
    """The same with a text that has as many places for the image as the model makes of it."""
    inner = getattr(model, "model", model)
    count = 1
    if "aspect_ratio_ids" not in inputs:
        own = {name: value for name, value in inputs.items() if name in SEES_ONLY}
        found = inner.get_image_features(**own)
        found = getattr(found, "pooler_output", found)
        parts = found if isinstance(found, (list, tuple)) else [found]
        count = sum(part.shape[:-1].numel() for part in parts)
    ids = torch.tensor([[5, *[IMAGE] * count, 7, 8, 9]])
    kinds = (ids == IMAGE).long()
    tiles = torch.ones(1, ids.shape[1], 1, 4, dtype=torch.long)
    more = {
        "input_ids": ids, "attention_mask": torch.ones_like(ids), "mm_token_type_ids": kinds,
        "token_type_ids": kinds, "cross_attention_mask": tiles,
    }  # fmt: skip
    taken = inspect.signature(model.forward).parameters
    return {name: value for name, value in {**inputs, **more}.items() if name in taken}


@pytest.mark.parametrize("square", SQUARES.values(), ids=SQUARES)
@pytest.mark.parametrize("name", FAMILIES)
def test_the_heat_lies_on_the_square(name, square):
    config, processor = FAMILIES[name]
    left, top, right, bottom = square
    lit = 0
    for seed in range(3):  # what speaks against is dropped, so that of some weights nothing is left
        model = planted(name, config, seed)
        with torch.no_grad():
            inputs, originals = seen(model, processor(), square)
            inputs = asked(model, inputs)
        e = replace(
            fxplain.explain(model, inputs, method="generic", verify="off"), originals=originals
        )
        names = [modality for modality in e.modalities if modality.startswith("pixel_values")]
        assert all(e.on_photos(modality) for modality in names)
        for modality in names:
            for number, on in enumerate(e.on_photos(modality)):
                heat = e.photo_heat(modality, 0, number, "nearest", beyond_identity=True).abs()
                if heat.max() <= 1e-9 * e.relevance[modality].max():  # what stands in for zeros
                    continue
                lit += 1
                # several patches make one of the text's tokens, and share what it has
                wide, high = 2 * WIDTH / on.grid[1], 2 * HEIGHT / on.grid[0]
                near = heat[
                    max(0, int(top - high)) : int(bottom + high),
                    max(0, int(left - wide)) : int(right + wide),
                ]
                assert near.sum() > 0.95 * heat.sum()
                down, across = torch.meshgrid(
                    torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij"
                )
                assert left - wide / 2 <= (heat * across).sum() / heat.sum() <= right + wide / 2
                assert top - high / 2 <= (heat * down).sum() / heat.sum() <= bottom + high / 2
        if lit:
            return
    pytest.fail("nothing was lit by any weights")
