"""Vision: class tokens and registers, windows, spatial reduction, pooled queries and tokens."""

from tests.zoo.case import Draw, Inputs, ZooCase, tiny

VIT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40,
       "image_size": 32, "patch_size": 8, "num_labels": 5}  # fmt: skip
SWIN = {"image_size": 32, "patch_size": 2, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4],
        "window_size": 4, "num_labels": 5, "out_features": ["stage1", "stage2"]}  # fmt: skip
WINDOWS = {"returned": False, "recorded": "attention"}  # only the last block's are returned
PYRAMID = {"image_size": 32, "num_encoder_blocks": 2, "depths": [1, 1], "sr_ratios": [4, 2],
           "sequence_reduction_ratios": [4, 2], "hidden_sizes": [16, 32], "patch_sizes": [7, 3],
           "strides": [4, 2], "num_attention_heads": [2, 4], "mlp_ratios": [2, 2],
           "decoder_hidden_size": 16, "num_labels": 5}  # fmt: skip


def image(d: Draw) -> Inputs:
    return d.pixels(32)


def wide(d: Draw) -> Inputs:
    return d.pixels(32, 48)


def vision(name, model, inputs=image, *, nodes=2, kinds=None, base=VIT, returned=True, recorded="",
           note="", **config):  # fmt: skip
    kinds = kinds if kinds is not None else {"self": nodes}
    return ZooCase(name, "vision", tiny(model, {**base, **config}, inputs), kinds,
                   returned=returned, recorded=recorded, note=note)  # fmt: skip


def probed(own: int) -> dict[str, int]:
    return {"self": own, "pooling": 1}


CASES = [
    vision("vit", "ViTForImageClassification"),
    vision("vit-wide", "ViTModel", lambda d: {
        **d.pixels(32, 48), "interpolate_pos_encoding": True}),
    vision("deit", "DeiTForImageClassificationWithTeacher", note="two class tokens"),
    vision("beit", "BeitForImageClassification", use_relative_position_bias=True, vocab_size=20),
    vision("data2vec-vision", "Data2VecVisionForImageClassification",
           use_shared_relative_position_bias=True),
    vision("dinov2", "Dinov2ForImageClassification", patch_size=8, mlp_ratio=2),
    vision("dinov2-registers", "Dinov2WithRegistersForImageClassification", num_register_tokens=3,
           mlp_ratio=2),
    vision("dinov3", "DINOv3ViTModel", num_register_tokens=2),
    vision("ijepa", "IJepaForImageClassification"),
    vision("vit-mae", "ViTMAEModel", lambda d: {**d.pixels(32), "noise": d.floats(2, 16)},
           mask_ratio=0.5, note="half the patches are dropped"),
    vision("vit-mae-pretraining", "ViTMAEForPreTraining",
           lambda d: {**d.pixels(32), "noise": d.floats(2, 16)}, mask_ratio=0.5, nodes=3,
           decoder_num_attention_heads=4, decoder_hidden_size=32, decoder_num_hidden_layers=1,
           decoder_intermediate_size=40, recorded="decoder_layers"),
    vision("vit-msn", "ViTMSNForImageClassification"),
    vision("dpt", "DPTForDepthEstimation", num_hidden_layers=4, nodes=4,
           backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[8, 8, 8, 8],
           fusion_hidden_size=8, neck_ignore_stages=[]),
    vision("vitdet", "VitDetModel", window_size=2, window_block_indices=[0], mlp_ratio=2,
           use_relative_position_embeddings=True, pretrain_image_size=32),
    vision("vitpose", "VitPoseForPoseEstimation", base={
        "backbone_config": {**VIT, "model_type": "vitpose_backbone", "image_size": [32, 16],
                            "patch_size": [8, 8], "out_features": ["stage2"]},
        "num_labels": 3}, inputs=lambda d: d.pixels(32, 16)),
    vision("siglip-vision", "SiglipVisionModel", kinds=probed(2), recorded="head.attention"),
    vision("siglip-classifier", "SiglipForImageClassification", base={"vision_config": VIT,
           "num_labels": 5}),
    vision("clip-vision", "CLIPVisionModelWithProjection", projection_dim=16),
    vision("clip-classifier", "CLIPForImageClassification", base={"vision_config": VIT,
           "text_config": {"hidden_size": 32}, "num_labels": 5}),
    vision("aimv2", "Aimv2VisionModel", kinds=probed(2), recorded="head"),
    vision("swin", "SwinForImageClassification", nodes=4, base=SWIN, **WINDOWS),
    vision("swin-odd", "SwinModel", lambda d: d.pixels(26, 36), nodes=4, base=SWIN, **WINDOWS,
           note="padded to whole windows"),
    vision("swinv2", "Swinv2ForImageClassification", nodes=4, base=SWIN, **WINDOWS),
    vision("swin2sr", "Swin2SRForImageSuperResolution", nodes=4, **WINDOWS, base={
        **SWIN, "image_size": 16, "patch_size": 1, "upscale": 2}, inputs=lambda d: d.pixels(16)),
    vision("donut-swin", "DonutSwinModel", nodes=4, base=SWIN, **WINDOWS),
    vision("maskformer-swin", "MaskFormerSwinModel", nodes=4, base=SWIN, **WINDOWS),
    vision("cvt", "CvtForImageClassification", nodes=6, base={
        "embed_dim": [16, 24, 32], "num_heads": [1, 2, 4], "depth": [1, 2, 3], "num_labels": 5},
        inputs=lambda d: d.pixels(64), returned=False, recorded="attention",
        note="convolutional projections"),
    vision("pvt", "PvtForImageClassification", base=PYRAMID, patch_sizes=[4, 2],
           sequence_reduction_ratios=[4, 1]),
    vision("pvt-v2", "PvtV2ForImageClassification", base=PYRAMID),
    vision("pvt-v2-linear", "PvtV2ForImageClassification", base=PYRAMID, linear_attention=True),
    vision("segformer", "SegformerForImageClassification", base=PYRAMID),
    vision("segformer-segmentation", "SegformerForSemanticSegmentation", base=PYRAMID),
    vision("glpn", "GLPNForDepthEstimation", base=PYRAMID, num_encoder_blocks=4,
           depths=[1, 1, 1, 1], sr_ratios=[4, 2, 1, 1], hidden_sizes=[8, 8, 8, 8], nodes=4,
           patch_sizes=[7, 3, 3, 3], strides=[4, 2, 2, 2], num_attention_heads=[2, 2, 2, 2],
           mlp_ratios=[2, 2, 2, 2], decoder_hidden_size=8, inputs=lambda d: d.pixels(64)),
    vision("hiera", "HieraForImageClassification", nodes=3, base={
        "image_size": [64, 64], "embed_dim": 16, "depths": [1, 1, 1], "num_heads": [1, 2, 4],
        "num_query_pool": 2, "masked_unit_size": [4, 4], "num_labels": 5,
        "masked_unit_attention": [True, True, False]}, inputs=lambda d: d.pixels(64)),
    vision("levit", "LevitForImageClassification", nodes=5, base={
        "image_size": 128, "hidden_sizes": [16, 24, 32], "num_attention_heads": [2, 2, 4],
        "depths": [1, 1, 1], "key_dim": [8, 8, 8], "num_labels": 5}, returned=False,
        recorded="stages", inputs=lambda d: d.pixels(128)),
    vision("mobilevit", "MobileViTForImageClassification", nodes=9, base={
        "image_size": 64, "hidden_sizes": [16, 24, 32], "num_attention_heads": 4, "num_labels": 5,
        "neck_hidden_sizes": [8, 8, 8, 16, 16, 16, 32]}, returned=False, recorded="attention",
        inputs=lambda d: d.pixels(128), note="patches folded into the batch"),
    vision("mobilevitv2", "MobileViTV2ForImageClassification", base={
        "image_size": 64, "base_attn_unit_dims": [16, 24, 32], "n_attn_blocks": [1, 1, 1],
        "width_multiplier": 0.25, "num_labels": 5}, kinds={"pooling": 3}, returned=False,
        recorded="attention", inputs=lambda d: d.pixels(128),
        note="separable attention: one softmax over the tokens, their sum gates each token"),
    vision("focalnet", "FocalNetForImageClassification", base={
        "image_size": 32, "embed_dim": 16, "hidden_sizes": [16, 32], "depths": [1, 1],
        "focal_levels": [2, 2], "focal_windows": [3, 3], "num_labels": 5}, kinds={},
        returned=False, note="modulation, no attention"),
    vision("poolformer", "PoolFormerForImageClassification", base={
        "depths": [1, 1, 1, 1], "hidden_sizes": [8, 8, 16, 16], "num_labels": 5}, kinds={},
        returned=False, note="pooling, no attention"),
    vision("convnext", "ConvNextForImageClassification", base={
        "depths": [1, 1], "hidden_sizes": [8, 16], "num_stages": 2, "num_labels": 5}, kinds={},
        returned=False, note="no attention"),
    vision("imagegpt", "ImageGPTForImageClassification", lambda d: {"input_ids": d.ids(2, 12)},
           base={"vocab_size": 99, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 32}),
    vision("zoedepth", "ZoeDepthForDepthEstimation", base={
        "backbone_config": {**VIT, "model_type": "dinov2", "mlp_ratio": 2, "num_hidden_layers": 4,
                            "out_indices": [1, 2, 3, 4], "reshape_hidden_states": False},
        "patch_size": 8, "backbone_hidden_size": 32, "neck_hidden_sizes": [8, 8, 8, 8],
        "fusion_hidden_size": 8,
        "bottleneck_features": 8, "num_relative_features": 8}, nodes=4),
    vision("depth-anything", "DepthAnythingForDepthEstimation", base={
        "backbone_config": {**VIT, "model_type": "dinov2", "mlp_ratio": 2, "num_hidden_layers": 4,
                            "out_indices": [1, 2, 3, 4], "reshape_hidden_states": False},
        "reassemble_hidden_size": 32, "patch_size": 8, "neck_hidden_sizes": [8, 8, 8, 8],
        "fusion_hidden_size": 8}, nodes=4),
]  # fmt: skip
