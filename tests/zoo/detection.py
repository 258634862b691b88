"""Detection and segmentation: object queries, sampled keys, two-way decoders, matching."""

from tests.zoo.case import COMMON, Draw, Inputs, ZooCase, tiny
from tests.zoo.tokens import length, patches

RESNET = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1],
          "out_features": ["stage2"], "layer_type": "basic"}  # fmt: skip
LEVELS = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 8, 16, 16],
          "depths": [1, 1, 1, 1], "layer_type": "basic",
          "out_features": ["stage2", "stage3", "stage4"]}  # fmt: skip
DETR = {"backbone_config": RESNET, "use_timm_backbone": False, "use_pretrained_backbone": False,
        "backbone": None, "d_model": 32, "hidden_size": 32, "encoder_layers": 2,
        "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
        "encoder_ffn_dim": 40, "decoder_ffn_dim": 40, "num_queries": 5,
        "num_labels": 4}  # fmt: skip
RT_DETR = {"backbone_config": {**LEVELS, "model_type": "rt_detr_resnet"}, "d_model": 32,
           "encoder_hidden_dim": 32, "encoder_in_channels": [8, 16, 16], "num_queries": 5,
           "encoder_ffn_dim": 40, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
           "decoder_in_channels": [32, 32, 32], "decoder_ffn_dim": 40, "decoder_layers": 2,
           "num_labels": 4, "decoder_n_points": 2, "num_denoising": 0,
           "anchor_image_size": None}  # fmt: skip
SWIN = {"model_type": "swin", "image_size": 64, "patch_size": 4, "embed_dim": 8,
        "depths": [1, 1, 1, 1], "num_heads": [2, 2, 2, 2], "window_size": 4,
        "out_features": ["stage1", "stage2", "stage3", "stage4"]}  # fmt: skip
TOWER = {**COMMON, "image_size": 32, "patch_size": 8, "projection_dim": 16}
SAM = {
    "vision_config": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
                      "image_size": 64, "patch_size": 8, "window_size": 3, "output_channels": 16,
                      "global_attn_indexes": [1], "mlp_dim": 40, "num_pos_feats": 8,
                      "initializer_range": 0.02},
    "prompt_encoder_config": {"hidden_size": 16, "image_size": 64, "patch_size": 8,
                              "mask_input_channels": 4},
    "mask_decoder_config": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
                            "mlp_dim": 20, "iou_head_hidden_dim": 16},
}  # fmt: skip


QUERIES = {"model.query_position_embeddings": 5}
FOUND = "each of model.query_position_embeddings[:]"
PYRAMID = {"pixel_values": 8 * 12 + 4 * 6 + 2 * 3}  # 64 by 96 pixels at strides 8, 16, 32


def image(d: Draw) -> Inputs:
    return d.pixels(64, 96)


def square(d: Draw) -> Inputs:
    return d.pixels(64)


def masked(d: Draw) -> Inputs:
    """The second image is narrower than the batch."""
    inputs = d.pixels(64, 96)
    mask = inputs["pixel_values"].new_ones(2, 64, 96).long()
    mask[1, :, 64:] = 0
    return {**inputs, "pixel_mask": mask}


def detection(name, model, inputs=masked, *, base=DETR, kinds=None, returned=True, recorded="",
              note="", dead=0, eager=True, tokens=None, reads=FOUND, **config):  # fmt: skip
    """Queries that read the last grid of a backbone of stride 8, unless the case says otherwise."""
    tokens = {"pixel_values": patches(8), **QUERIES} if tokens is None else tokens
    kinds = kinds or {"self": 4, "encoder-decoder": 2}
    return ZooCase(name, "detection", tiny(model, {**base, **config}, inputs), kinds, note=note,
                   returned=returned, recorded=recorded, dead=dead, eager=eager,
                   tokens=tokens, reads=reads)  # fmt: skip


SAMPLED = "reads sampled points, which is no attention to tokens"

CASES = [
    detection("detr", "DetrForObjectDetection"),
    detection("detr-segmentation", "DetrForSegmentation", square, d_model=64, hidden_size=64,
              encoder_attention_heads=8, decoder_attention_heads=8, backbone_config={
                  **LEVELS, "out_features": ["stage1", "stage2", "stage3", "stage4"]},
              note="and a map of queries over pixels, made of all grids of the backbone",
        tokens={"pixel_values": 16 * 16 + 8 * 8 + 4 * 4 + 2 * 2,
                "detr.model.query_position_embeddings": 5},
        reads="each of detr.model.query_position_embeddings[:]"),
    detection("conditional-detr", "ConditionalDetrForObjectDetection"),
    detection("dab-detr", "DabDetrForObjectDetection",
        tokens={"pixel_values": patches(8), "model.query_refpoint_embeddings": 5},
        reads="each of model.query_refpoint_embeddings[:]"),
    detection("table-transformer", "TableTransformerForObjectDetection"),
    detection("deformable-detr", "DeformableDetrForObjectDetection", base={
        **DETR, "backbone_config": LEVELS, "num_feature_levels": 3, "encoder_n_points": 2,
        "decoder_n_points": 2}, kinds={"self": 2}, returned=False, recorded="decoder.*self_attn$",
        note=SAMPLED,
        tokens={**PYRAMID, **QUERIES}),
    detection("deformable-detr-two-stage", "DeformableDetrForObjectDetection", base={
        **DETR, "backbone_config": LEVELS, "num_feature_levels": 3, "encoder_n_points": 2,
        "decoder_n_points": 2, "two_stage": True, "with_box_refine": True,
        "two_stage_num_proposals": 5}, kinds={"self": 2}, returned=False,
        recorded="decoder.*self_attn$", note=SAMPLED,
        tokens=PYRAMID, reads="of pixel_values"),
    detection("rt-detr", "RTDetrForObjectDetection", image, base=RT_DETR, kinds={"self": 3},
              returned=False, recorded="self_attn", note=SAMPLED,
        tokens=PYRAMID, reads="of pixel_values"),
    detection("rt-detr-v2", "RTDetrV2ForObjectDetection", image, base=RT_DETR, kinds={"self": 3},
              returned=False, recorded="self_attn", note=SAMPLED,
        tokens=PYRAMID, reads="of pixel_values"),
    detection("d-fine", "DFineForObjectDetection", image, base=RT_DETR, kinds={"self": 3},
              feat_strides=[8, 16, 32], lqe_hidden_dim=8, max_num_bins=8, top_prob_values=2,
              returned=False, recorded="self_attn", note=SAMPLED,
        tokens=PYRAMID, reads="of pixel_values"),
    detection("yolos", "YolosForObjectDetection", lambda d: d.pixels(32, 48), base={
        **COMMON, "image_size": [32, 48], "patch_size": 8, "num_detection_tokens": 5,
        "num_labels": 4}, kinds={"self": 2}, note="detection tokens in the image's sequence",
        tokens={"pixel_values": patches(8, special=1 + 5)}, reads="each of pixel_values[-5:]"),
    detection("owlvit", "OwlViTForObjectDetection", lambda d: {
        **d.text(6, 4, 6, 5), **d.pixels(32)}, base={
        "text_config": TOWER, "vision_config": TOWER, "projection_dim": 32},
        kinds={"self": 4}, recorded="self_attn",
        tokens={"input_ids": length, "pixel_values": patches(8, special=1)},
        reads="of input_ids, pixel_values[:]"),
    detection("owlv2", "Owlv2ForObjectDetection", lambda d: {**d.text(6, 4), **d.pixels(32)}, base={
        "text_config": TOWER, "vision_config": TOWER, "projection_dim": 32},
        kinds={"self": 4}, recorded="self_attn",
        tokens={"input_ids": length, "pixel_values": patches(8, special=1)},
        reads="of input_ids, pixel_values[:]"),
    detection("maskformer", "MaskFormerForInstanceSegmentation", square, base={
        "backbone_config": SWIN, "fpn_feature_size": 32, "mask_feature_size": 32,
        "decoder_config": {"model_type": "detr", **{k: v for k, v in DETR.items()
                           if not k.startswith(("backbone", "use_"))}, "d_model": 32}},
        kinds={"self": 6, "encoder-decoder": 2}, returned=False, recorded="(attention|attn)",
        tokens={"pixel_values": patches(4), "model.transformer_module.queries_embedder": 5},
        reads="each of model.transformer_module.queries_embedder[:]"),
    detection("mask2former", "Mask2FormerForUniversalSegmentation", square, base={
        "backbone_config": SWIN, "feature_size": 32, "mask_feature_size": 32, "hidden_dim": 32,
        "encoder_feedforward_dim": 20, "encoder_layers": 1, "decoder_layers": 4,
        "num_attention_heads": 2, "dim_feedforward": 20, "num_queries": 5, "num_labels": 4},
        kinds={"self": 7, "encoder-decoder": 3}, returned=False,
        recorded="(swin.*attention|decoder.layers.*attn)",
        note="cross-attention is masked by the predicted mask; the pixel decoder samples",
        tokens={"pixel_values": patches(4), "model.transformer_module.queries_features": 5},
        reads="each of model.transformer_module.queries_features[:]"),
    detection("oneformer", "OneFormerForUniversalSegmentation", lambda d: {
        **d.pixels(64), "task_inputs": d.ids(2, 7)}, base={
        "backbone_config": SWIN, "conv_dim": 32, "mask_dim": 32, "hidden_dim": 32,
        "encoder_feedforward_dim": 20, "encoder_layers": 1, "decoder_layers": 4,
        "num_attention_heads": 2, "dim_feedforward": 20, "num_queries": 5, "num_labels": 4,
        "text_encoder_width": 32, "text_encoder_context_length": 7, "text_encoder_num_layers": 1,
        "text_encoder_vocab_size": 99, "text_encoder_n_ctx": 2, "task_seq_len": 7,
        "query_dec_layers": 1, "strides": [4, 8, 16, 32]},
        kinds={"self": 8, "encoder-decoder": 4}, returned=False,
        recorded="(swin.*attention|transformer_module.*attn)",
        tokens={"pixel_values": patches(4), "task_inputs": 1,
                "model.transformer_module.queries_embedder": 5 - 1},
        reads="each of model.transformer_module.queries_embedder[:], task_inputs[0]"),
    detection("grounding-dino", "GroundingDinoForObjectDetection", lambda d: {
        **d.pixels(64), **d.text(9, 7)}, base={
        "backbone_config": {**SWIN, "out_features": ["stage2", "stage3", "stage4"]},
        "text_config": {**COMMON, "model_type": "bert"}, "d_model": 32, "encoder_layers": 1,
        "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
        "encoder_ffn_dim": 40, "decoder_ffn_dim": 40, "num_queries": 5, "num_feature_levels": 3,
        "encoder_n_points": 2, "decoder_n_points": 2, "max_text_len": 9},
        kinds={"self": 9, "co": 2, "encoder-decoder|co": 2}, returned=False, eager=False,
        recorded="(backbone.*attention|fusion|text_enhancer|decoder.*(self_attn|attn_text)$)",
        note="fusion in both directions from one score matrix",
        tokens={"pixel_values": patches(4), "input_ids": length, **QUERIES},
        reads="each of model.query_position_embeddings[:], input_ids[:]"),
    detection("sam", "SamModel", lambda d: {
        **d.pixels(64), "input_points": d.floats(2, 1, 3, 2).abs() * 20}, base=SAM,
        kinds={"self": 4, "co": 5}, returned=False, recorded="attn",
        note="two-way attention between prompt and image",
        tokens={"pixel_values": patches(8), "input_points": 1 + 4 + 3 + 1},
        reads="input_points[0]"),
    detection("eomt", "EomtForUniversalSegmentation", lambda d: d.pixels(32), base={
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 32,
        "patch_size": 8, "mlp_ratio": 2, "num_upscale_blocks": 1, "num_blocks": 1,
        "num_queries": 5, "num_register_tokens": 2, "num_labels": 4}, kinds={"self": 2},
        tokens={"pixel_values": patches(8, special=1 + 2 + 5)}, reads="each of pixel_values[:5]"),
    detection("clipseg", "CLIPSegForImageSegmentation", lambda d: {
        **d.pixels(32), **d.text(6, 4)}, base={
        "text_config": TOWER, "vision_config": TOWER, "projection_dim": 16,
        "extract_layers": [0, 1], "reduce_dim": 16, "decoder_num_attention_heads": 4,
        "decoder_intermediate_size": 20, "conditional_layer": 0}, kinds={"self": 6},
        returned=False, recorded="attn",
        tokens={"input_ids": length, "pixel_values": patches(8, special=1)},
        reads="of pixel_values[1:]"),
    detection("upernet-swin", "UperNetForSemanticSegmentation", square, base={
        "backbone_config": SWIN, "hidden_size": 16, "pool_scales": [1, 2],
        "use_auxiliary_head": False, "num_labels": 4}, kinds={"self": 4}, returned=False,
        recorded="attention",
        tokens={"pixel_values": patches(4)}, reads="of pixel_values"),
    detection("omdet-turbo", "OmDetTurboForObjectDetection", lambda d: {
        "pixel_values": d.floats(2, 3, 64, 64), "classes_input_ids": d.ids(4, 5),
        "classes_attention_mask": d.ids(4, 5, low=1, high=2), "tasks_input_ids": d.ids(2, 6),
        "tasks_attention_mask": d.ids(2, 6, low=1, high=2),
        "classes_structure": d.ids(2, low=2, high=3)}, base={
        "backbone_config": {**SWIN, "out_features": ["stage2", "stage3", "stage4"]},
        "text_config": {**TOWER, "model_type": "clip_text_model"},
        "apply_layernorm_after_vision_backbone": False,
        "encoder_in_channels": [16, 32, 64], "vision_features_channels": [16, 16, 16],
        "text_projection_in_dim": 32, "text_projection_out_dim": 32, "class_embed_dim": 32,
        "task_encoder_hidden_dim": 24, "encoder_hidden_dim": 16, "encoder_attention_heads": 4,
        "encoder_dim_feedforward": 40, "decoder_hidden_dim": 16, "decoder_num_heads": 4,
        "decoder_num_layers": 2, "decoder_dim_feedforward": 40, "decoder_num_points": 2,
        "num_queries": 5}, kinds={"self": 11}, returned=False,
        recorded="(attention|self_attn)", note="it caches its text features between calls",
        tokens={"pixel_values": patches(4), "classes_input_ids": length, "tasks_input_ids": length},
        reads="of pixel_values"),
]  # fmt: skip
