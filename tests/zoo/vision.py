"""Vision: class tokens and registers, windows, spatial reduction, pooled queries and tokens."""

from tests.zoo.case import Draw, Inputs, ZooCase, tiny
from tests.zoo.tokens import patches

VIT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40,
       "image_size": 32, "patch_size": 8, "num_labels": 5}  # fmt: skip
SWIN = {"image_size": 32, "patch_size": 2, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4],
        "window_size": 4, "num_labels": 5, "out_features": ["stage1", "stage2"]}  # fmt: skip
WINDOWS = {"returned": False, "recorded": "attention"}  # only the last block's are returned
PYRAMID = {"image_size": 32, "num_encoder_blocks": 2, "depths": [1, 1], "sr_ratios": [4, 2],
           "sequence_reduction_ratios": [4, 2], "hidden_sizes": [16, 32], "patch_sizes": [7, 3],
           "strides": [4, 2], "num_attention_heads": [2, 4], "mlp_ratios": [2, 2],
           "decoder_hidden_size": 16, "num_labels": 5}  # fmt: skip


ALL = "pixel_values[:]"
EACH = "each of pixel_values[:]"
SOME = "of pixel_values"  # patches that were merged or resampled


def grid(size: int, special: int = 0):
    return {"pixel_values": patches(size, special=special)}


def image(d: Draw) -> Inputs:
    return d.pixels(32)


def wide(d: Draw) -> Inputs:
    return d.pixels(32, 48)


def vision(name, model, inputs=image, *, nodes=2, kinds=None, base=VIT, returned=True, recorded="",
           note="", tokens=None, reads="pixel_values[0]", **config):  # fmt: skip
    """Patches of 8 by 8 after a class token that is read, unless the case says otherwise."""
    tokens = grid(8, 1) if tokens is None else tokens
    kinds = kinds if kinds is not None else {"self": nodes}
    return ZooCase(name, "vision", tiny(model, {**base, **config}, inputs), kinds,
                   returned=returned, recorded=recorded, note=note, tokens=tokens,
                   reads=reads)  # fmt: skip


def probed(own: int) -> dict[str, int]:
    return {"self": own, "pooling": 1}


CASES = [
    vision("vit", "ViTForImageClassification"),
    vision("vit-wide", "ViTModel", lambda d: {
        **d.pixels(32, 48), "interpolate_pos_encoding": True}, reads=EACH),
    vision("deit", "DeiTForImageClassificationWithTeacher", note="two class tokens",
           tokens=grid(8, 2), reads="pixel_values[0:2]"),
    vision("beit", "BeitForImageClassification", use_relative_position_bias=True, vocab_size=20,
           reads="pixel_values[1:]"),
    vision("data2vec-vision", "Data2VecVisionForImageClassification",
           use_shared_relative_position_bias=True, reads="pixel_values[1:]"),
    vision("dinov2", "Dinov2ForImageClassification", patch_size=8, mlp_ratio=2, reads=ALL),
    vision("dinov2-registers", "Dinov2WithRegistersForImageClassification", num_register_tokens=3,
           mlp_ratio=2, tokens=grid(8, 1 + 3), reads="pixel_values[0, 4:]"),
    vision("dinov3", "DINOv3ViTModel", num_register_tokens=2, tokens=grid(8, 1 + 2), reads=EACH),
    vision("ijepa", "IJepaForImageClassification", tokens=grid(8), reads=ALL),
    vision("vit-mae", "ViTMAEModel", lambda d: {**d.pixels(32), "noise": d.floats(2, 16)},
           mask_ratio=0.5, note="half the patches are dropped",
           tokens={"pixel_values": 1 + 16 // 2}, reads=EACH),
    vision("vit-mae-pretraining", "ViTMAEForPreTraining",
           lambda d: {**d.pixels(32), "noise": d.floats(2, 16)}, mask_ratio=0.5, nodes=3,
           decoder_num_attention_heads=4, decoder_hidden_size=32, decoder_num_hidden_layers=1,
           decoder_intermediate_size=40, recorded="decoder_layers", reads="of pixel_values"),
    vision("vit-msn", "ViTMSNForImageClassification"),
    vision("dpt", "DPTForDepthEstimation", num_hidden_layers=4, nodes=4,
           backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[8, 8, 8, 8],
           fusion_hidden_size=8, neck_ignore_stages=[], reads=SOME),
    vision("vitdet", "VitDetModel", window_size=2, window_block_indices=[0], mlp_ratio=2,
           use_relative_position_embeddings=True, pretrain_image_size=32, tokens=grid(8),
           reads=EACH),
    vision("vitpose", "VitPoseForPoseEstimation", base={
        "backbone_config": {**VIT, "model_type": "vitpose_backbone", "image_size": [32, 16],
                            "patch_size": [8, 8], "out_features": ["stage2"]},
        "num_labels": 3}, inputs=lambda d: d.pixels(32, 16), tokens=grid(8),
        reads="of pixel_values[:]"),
    vision("siglip-vision", "SiglipVisionModel", kinds=probed(2), recorded="head.attention",
           tokens={**grid(8), "head.probe": 1}, reads=EACH),
    vision("siglip-classifier", "SiglipForImageClassification", base={"vision_config": VIT,
           "num_labels": 5}, tokens=grid(8), reads=ALL),
    vision("clip-vision", "CLIPVisionModelWithProjection", projection_dim=16),
    vision("clip-classifier", "CLIPForImageClassification", base={"vision_config": VIT,
           "text_config": {"hidden_size": 32}, "num_labels": 5}, reads="pixel_values[1:]"),
    vision("aimv2", "Aimv2VisionModel", kinds=probed(2), recorded="head",
           tokens={**grid(8), "head.cls_token": 1}, reads=EACH),
    vision("swin", "SwinForImageClassification", nodes=4, base=SWIN, **WINDOWS, tokens=grid(2),
           reads=SOME),
    vision("swin-odd", "SwinModel", lambda d: d.pixels(26, 36), nodes=4, base=SWIN, **WINDOWS,
           note="padded to whole windows", tokens=grid(2), reads=SOME),
    vision("swinv2", "Swinv2ForImageClassification", nodes=4, base=SWIN, **WINDOWS, tokens=grid(2),
           reads=SOME),
    vision("swin2sr", "Swin2SRForImageSuperResolution", nodes=4, **WINDOWS, base={
        **SWIN, "image_size": 16, "patch_size": 1, "upscale": 2}, inputs=lambda d: d.pixels(16),
        tokens=grid(1), reads="of pixel_values[:]"),
    vision("donut-swin", "DonutSwinModel", nodes=4, base=SWIN, **WINDOWS, tokens=grid(2),
           reads=SOME),
    vision("maskformer-swin", "MaskFormerSwinModel", nodes=4, base=SWIN, **WINDOWS, tokens=grid(2),
           reads=SOME),
    vision("cvt", "CvtForImageClassification", nodes=6, base={
        "embed_dim": [16, 24, 32], "num_heads": [1, 2, 4], "depth": [1, 2, 3], "num_labels": 5},
        inputs=lambda d: d.pixels(64), returned=False, recorded="attention",
        note="convolutional projections", tokens=grid(4, 1)),
    vision("pvt", "PvtForImageClassification", base=PYRAMID, patch_sizes=[4, 2],
           sequence_reduction_ratios=[4, 1], tokens=grid(4, 1)),
    vision("pvt-v2", "PvtV2ForImageClassification", base=PYRAMID, tokens=grid(4), reads=SOME),
    vision("pvt-v2-linear", "PvtV2ForImageClassification", base=PYRAMID, linear_attention=True,
           tokens=grid(4), reads=SOME),
    vision("segformer", "SegformerForImageClassification", base=PYRAMID, tokens=grid(4),
           reads=SOME),
    vision("segformer-segmentation", "SegformerForSemanticSegmentation", base=PYRAMID,
           tokens=grid(4), reads=SOME),
    vision("glpn", "GLPNForDepthEstimation", base=PYRAMID, num_encoder_blocks=4,
           depths=[1, 1, 1, 1], sr_ratios=[4, 2, 1, 1], hidden_sizes=[8, 8, 8, 8], nodes=4,
           patch_sizes=[7, 3, 3, 3], strides=[4, 2, 2, 2], num_attention_heads=[2, 2, 2, 2],
           mlp_ratios=[2, 2, 2, 2], decoder_hidden_size=8, inputs=lambda d: d.pixels(64),
           tokens=grid(4), reads=SOME),
    vision("hiera", "HieraForImageClassification", nodes=3, base={
        "image_size": [64, 64], "embed_dim": 16, "depths": [1, 1, 1], "num_heads": [1, 2, 4],
        "num_query_pool": 2, "masked_unit_size": [4, 4], "num_labels": 5,
        "masked_unit_attention": [True, True, False]}, inputs=lambda d: d.pixels(64),
        tokens=grid(4), reads=SOME),
    vision("levit", "LevitForImageClassification", nodes=5, base={
        "image_size": 128, "hidden_sizes": [16, 24, 32], "num_attention_heads": [2, 2, 4],
        "depths": [1, 1, 1], "key_dim": [8, 8, 8], "num_labels": 5}, returned=False,
        recorded="stages", inputs=lambda d: d.pixels(128), tokens=grid(16), reads=SOME),
    vision("mobilevit", "MobileViTForImageClassification", nodes=9, base={
        "image_size": 64, "hidden_sizes": [16, 24, 32], "num_attention_heads": 4, "num_labels": 5,
        "neck_hidden_sizes": [8, 8, 8, 16, 16, 16, 32]}, returned=False, recorded="attention",
        inputs=lambda d: d.pixels(128), note="patches folded into the batch", tokens=grid(8),
        reads=SOME),
    vision("mobilevitv2", "MobileViTV2ForImageClassification", base={
        "image_size": 64, "base_attn_unit_dims": [16, 24, 32], "n_attn_blocks": [1, 1, 1],
        "width_multiplier": 0.25, "num_labels": 5}, kinds={"pooling": 3}, returned=False,
        recorded="attention", inputs=lambda d: d.pixels(128),
        note="separable attention: one softmax over the tokens, their sum gates each token",
        tokens=grid(8), reads=SOME),
    vision("focalnet", "FocalNetForImageClassification", base={
        "image_size": 32, "embed_dim": 16, "hidden_sizes": [16, 32], "depths": [1, 1],
        "focal_levels": [2, 2], "focal_windows": [3, 3], "num_labels": 5}, kinds={},
        returned=False, note="modulation, no attention", tokens={}),
    vision("poolformer", "PoolFormerForImageClassification", base={
        "depths": [1, 1, 1, 1], "hidden_sizes": [8, 8, 16, 16], "num_labels": 5}, kinds={},
        returned=False, note="pooling, no attention", tokens={}),
    vision("convnext", "ConvNextForImageClassification", base={
        "depths": [1, 1], "hidden_sizes": [8, 16], "num_stages": 2, "num_labels": 5}, kinds={},
        returned=False, note="no attention", tokens={}),
    vision("imagegpt", "ImageGPTForImageClassification", lambda d: {"input_ids": d.ids(2, 12)},
           base={"vocab_size": 99, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 32},
           tokens={"input_ids": 12}, reads="input_ids[:]"),
    vision("zoedepth", "ZoeDepthForDepthEstimation", base={
        "backbone_config": {**VIT, "model_type": "dinov2", "mlp_ratio": 2, "num_hidden_layers": 4,
                            "out_indices": [1, 2, 3, 4], "reshape_hidden_states": False},
        "patch_size": 8, "backbone_hidden_size": 32, "neck_hidden_sizes": [8, 8, 8, 8],
        "fusion_hidden_size": 8,
        "bottleneck_features": 8, "num_relative_features": 8}, nodes=4, reads=SOME),
    vision("depth-anything", "DepthAnythingForDepthEstimation", base={
        "backbone_config": {**VIT, "model_type": "dinov2", "mlp_ratio": 2, "num_hidden_layers": 4,
                            "out_indices": [1, 2, 3, 4], "reshape_hidden_states": False},
        "reassemble_hidden_size": 32, "patch_size": 8, "neck_hidden_sizes": [8, 8, 8, 8],
        "fusion_hidden_size": 8}, nodes=4, reads=SOME),
]  # fmt: skip
