"""Models that read an image whole and in crops: each crop is a picture, where the model looked."""

import pytest
import torch
import transformers as hf
from torch import Tensor

import fxplain

SIZE = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
ROPE = {"rope_type": "default", "rope_theta": 1e4}


def phi() -> tuple[torch.nn.Module, dict[str, Tensor]]:
    """Phi-4-multimodal: the image whole, and two crops beside each other."""
    config = hf.Phi4MultimodalConfig(
        **SIZE, vocab_size=100, num_hidden_layers=1, num_key_value_heads=2, pad_token_id=0,
        bos_token_id=1, eos_token_id=2, rope_parameters={**ROPE, "partial_rotary_factor": 1.0},
        vision_config={
            **SIZE, "num_hidden_layers": 2, "image_size": 16, "patch_size": 4, "crop_size": 16,
            "image_token_id": 90,
        },
        audio_config={
            **SIZE, "num_blocks": 1, "nemo_conv_channels": 4, "ext_pw_out_channel": 16,
            "depthwise_separable_out_channel": 16, "kernel_size": 3, "input_size": 8,
            "audio_token_id": 91,
        },
    )  # fmt: skip
    count = 2 * (4 + 1) + 1 + 2 * (2 + 1)  # of 2 x 2 patches one place each, and where rows end
    ids = torch.tensor([[5] + [90] * count + [7, 8]])
    return hf.Phi4MultimodalForCausalLM(config), {
        "input_ids": ids,
        "image_pixel_values": torch.randn(1, 3, 3, 16, 16),
        "image_sizes": torch.tensor([[16, 32]]),
        "image_attention_mask": torch.ones(1, 3, 4, 4),
    }


def molmo() -> tuple[torch.nn.Module, dict[str, Tensor]]:
    """Molmo 2: the image whole, and two crops, each as rows of patches that are pooled by attention."""
    heads = {"num_key_value_heads": 2, "head_dim": 8}
    config = hf.Molmo2Config(
        vision_config={
            **SIZE, **heads, "num_hidden_layers": 1, "image_size": [16, 16], "patch_size": 4,
        },
        adapter_config={**SIZE, **heads, "vision_feature_layer": [0], "text_hidden_size": 16},
        text_config={
            **SIZE, **heads, "num_hidden_layers": 1, "vocab_size": 100, "additional_vocab_size": 4,
            "max_position_embeddings": 64, "rope_parameters": ROPE,
        },
        image_patch_id=90,
    )  # fmt: skip
    whole = torch.arange(16).reshape(4, 4)
    crops = torch.cat([whole + 16, whole + 32], 1)
    pooled = [g.unfold(0, 2, 2).unfold(1, 2, 2).reshape(-1, 4) for g in (whole, crops)]
    return hf.Molmo2ForConditionalGeneration(config), {
        "input_ids": torch.tensor([[5, *[90] * 12, 7, 8]]),
        "pixel_values": torch.randn(3, 16, 3 * 4 * 4),
        "image_token_pooling": torch.cat(pooled),
        "image_grids": torch.tensor([[2, 2, 2, 4]]),
        "image_num_crops": torch.tensor([3]),
    }


@pytest.mark.parametrize("build", [phi, molmo])
def test_each_crop_has_a_heat_map(build):
    name = {phi: "Phi4MultimodalConfig", molmo: "Molmo2Config"}[build]
    if not hasattr(hf, name):
        pytest.skip(f"this transformers has no {name}")
    torch.manual_seed(0)
    model, inputs = build()
    e = fxplain.explain(model.eval(), inputs)
    (seen,) = [m for m in e.modalities if m != "input_ids"]
    assert e.grids[seen] == (3, 4, 4)
    heat = e.pixels(seen, "nearest")
    assert heat.shape == (1, 3, 16, 16)
    assert (heat.amax((0, 2, 3)) > 0).all()  # of each crop something was drawn
    plain = [i for i in range(e.relevance[seen].shape[1]) if i not in e.special[seen]]
    assert torch.equal(heat[0, :, 1::4, 1::4].flatten(), e.relevance[seen][0, plain])
