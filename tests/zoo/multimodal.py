"""Vision and language: two towers, one sequence, cross-attention both ways, gates, resamplers."""

from tests.zoo.case import COMMON, Draw, Inputs, ZooCase, tiny
from tests.zoo.tokens import PLACEHOLDER, either, length, patches

IMAGE_TOKEN = PLACEHOLDER
GROUPED = {**COMMON, "num_key_value_heads": 2, "head_dim": 8}
TOWER = {**COMMON, "image_size": 32, "patch_size": 8, "projection_dim": 16}
CLIP = {"text_config": TOWER, "vision_config": TOWER, "projection_dim": 16}
LLAMA = {**GROUPED, "model_type": "llama"}
CLIP_VISION = {**TOWER, "model_type": "clip_vision_model"}
SIGLIP_VISION = {**TOWER, "model_type": "siglip_vision_model", "vision_use_head": False}
OPT = {**COMMON, "model_type": "opt", "ffn_dim": 40, "word_embed_proj_dim": 32}
QFORMER = {**COMMON, "encoder_hidden_size": 32, "cross_attention_frequency": 2}
QWEN_VISION = {"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 4, "mlp_ratio": 2,
               "intermediate_size": 40, "patch_size": 4, "spatial_merge_size": 2,
               "temporal_patch_size": 2, "in_channels": 3, "out_hidden_size": 32,
               "window_size": 16, "fullatt_block_indexes": [1], "num_position_embeddings": 16,
               "deepstack_visual_indexes": [0]}  # fmt: skip
QWEN_TEXT = {**GROUPED, "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2],
             "rope_theta": 10000.0}}  # fmt: skip
QWEN = {"vision_config": QWEN_VISION, "text_config": QWEN_TEXT, "image_token_id": IMAGE_TOKEN,
        "video_token_id": 97, "vision_start_token_id": 96, "vision_end_token_id": 95}  # fmt: skip


PLAIN = {"input_ids": length, "pixel_values": patches(8)}
CAPTIONED = {"input_ids": length, "pixel_values": patches(8, special=1)}
WORDS = "each of input_ids[:]"
DECODED = "each of decoder_input_ids[:]"
MERGED = "each of input_ids[words], pixel_values[1:]"
SHUFFLED = "of input_ids[words], pixel_values"  # several patches make one token
PAIR = "of pixel_values[0], input_ids[0]"


def captioned(d: Draw) -> Inputs:
    return {**d.text(7, 5, high=95), **d.pixels(32)}


def equal_lengths(d: Draw) -> Inputs:
    """As many word pieces as patches with the class token."""
    return {**d.text(17, 17, high=95), **d.pixels(32)}


def interleaved(*counts: int, words: int = 6, token: int = IMAGE_TOKEN, **extra):
    """Word pieces with a run of image tokens in them, and the images."""

    def inputs(d: Draw) -> Inputs:
        text = d.text(*(words + n for n in counts), high=95)
        for ids, count in zip(text["input_ids"], counts, strict=True):
            ids[2 : 2 + count] = token
        return {**text, **d.pixels(32), **{k: v(d) for k, v in extra.items()}}

    return inputs


def boxes(words: tuple[int, ...], count: int):
    return lambda d: {
        **d.text(*words),
        "visual_feats": d.floats(len(words), count, 12),
        "visual_pos": d.floats(len(words), count, 4),
    }


def qwen(d: Draw) -> Inputs:
    """Two images of different sizes, flattened to patches as the processor gives them."""
    import torch

    grid = torch.tensor([[1, 4, 4], [1, 4, 6]])
    text = d.text(4 + 4, 6 + 4, high=95)
    for ids, count in zip(text["input_ids"], (4, 6), strict=True):
        ids[1] = 96
        ids[2 : 2 + count] = IMAGE_TOKEN
    return {**text, "pixel_values": d.floats(40, 3 * 2 * 4 * 4), "image_grid_thw": grid,
            "mm_token_type_ids": (text["input_ids"] == IMAGE_TOKEN).long()}  # fmt: skip


def multimodal(name, model, inputs=captioned, *, base=CLIP, kinds, returned=False, dead=0,
               unseen=0, recorded="(attn|attention)", note="", tokens=CAPTIONED, reads="",
               eager=True, **config):  # fmt: skip
    return ZooCase(name, "vision-language", tiny(model, {**base, **config}, inputs), kinds,
                   returned=returned, recorded=recorded, note=note, dead=dead, unseen=unseen,
                   tokens=tokens, reads=reads, eager=eager)  # fmt: skip


BOXES = {"input_ids": length, "visual_feats": length}
# two images of 16 and 24 patches: the longer one's, or all of them where no sample is told apart
PACKED = {"input_ids": length, "pixel_values": either(24, 16 + 24)}
LXMERT = {**COMMON, "l_layers": 2, "r_layers": 1, "x_layers": 1, "visual_feat_dim": 12,
          "num_qa_labels": 5}  # fmt: skip
IDEFICS_VISION = {"embed_dim": 32, "image_size": 32, "patch_size": 8, "intermediate_size": 40,
                  "num_hidden_layers": 2, "num_attention_heads": 4}  # fmt: skip

CASES = [
    multimodal("lxmert", "LxmertModel", boxes((9, 7), 5), base=LXMERT,
               kinds={"self": 5, "co": 2}, recorded="(att|self)$",
        tokens=BOXES, reads=WORDS),
    multimodal("lxmert-equal", "LxmertModel", boxes((8, 8), 8), base=LXMERT,
               kinds={"self": 5, "co": 2}, recorded="(att|self)$",
        tokens=BOXES, reads=WORDS),
    multimodal("lxmert-vqa", "LxmertForQuestionAnswering", boxes((9, 7), 5), base=LXMERT,
               kinds={"self": 5, "co": 2}, dead=2, recorded="(att|self)$",
               note="the last visual updates are read by nothing",
        tokens=BOXES, reads="input_ids[0]"),
    multimodal("visual-bert", "VisualBertForQuestionAnswering", lambda d: {
        **d.text(9, 7), "visual_embeds": d.floats(2, 5, 12),
        "visual_attention_mask": d.ids(2, 5, low=1, high=2)}, base={
        **COMMON, "visual_embedding_dim": 12, "num_labels": 5}, kinds={"self": 2}, returned=True,
        tokens={"input_ids": length, "visual_embeds": length}, reads="input_ids[7]"),
    multimodal("visual-bert-equal", "VisualBertForQuestionAnswering", lambda d: {
        **d.text(8, 8), "visual_embeds": d.floats(2, 8, 12)}, base={
        **COMMON, "visual_embedding_dim": 12, "num_labels": 5}, kinds={"self": 2}, returned=True,
        tokens={"input_ids": length, "visual_embeds": length}, reads="input_ids[6]"),
    multimodal("vilt", "ViltForQuestionAnswering", base={**TOWER, "num_labels": 5},
               kinds={"self": 2},
        reads="input_ids[0]"),
    multimodal("clip", "CLIPModel", kinds={"self": 4},
        reads="of pixel_values[0], input_ids[top]"),
    multimodal("clip-equal", "CLIPModel", equal_lengths, kinds={"self": 4},
        reads="of pixel_values[0], input_ids[top]"),
    multimodal("siglip", "SiglipModel", kinds={"self": 4, "pooling": 1},
        tokens={**PLAIN, "vision_model.head.probe": 1},
        reads="of vision_model.head.probe[0], input_ids[-1]"),
    multimodal("altclip", "AltCLIPModel", kinds={"self": 4}, base={
        **CLIP, "text_config": {**TOWER, "project_dim": 16}},
        reads=PAIR),
    multimodal("chinese-clip", "ChineseCLIPModel", kinds={"self": 4},
        reads=PAIR),
    multimodal("metaclip-2", "MetaClip2Model", kinds={"self": 4},
        reads=PAIR),
    multimodal("vision-text-dual-encoder", "VisionTextDualEncoderModel", kinds={"self": 4}, base={
        "text_config": {**COMMON, "model_type": "bert"},
        "vision_config": {**TOWER, "model_type": "vit"}, "projection_dim": 16},
        reads=PAIR),
    multimodal("groupvit", "GroupViTModel", base={
        **CLIP, "vision_config": {**TOWER, "depths": [1, 1], "num_group_tokens": [4, 0],
                                  "num_output_groups": [4, 0], "assign_mlp_ratio": [0.5, 2]},
        "projection_intermediate_dim": 32}, kinds={"self": 4, "self|co|encoder-decoder": 2},
        recorded="(self_attn|assign_attn)", unseen=1,
        note="patches assigned to groups through a straight-through argmax",
        tokens={"input_ids": length, "pixel_values": patches(8, special=4)},
        reads="of pixel_values, input_ids[top]"),
    multimodal("flava", "FlavaModel", base={
        "text_config": TOWER, "image_config": TOWER, "multimodal_config": TOWER,
        "hidden_size": 32, "projection_dim": 16}, kinds={"self": 6},
        tokens={"input_ids": length, "pixel_values": patches(8, special=2)},
        reads="each of pixel_values[1:]"),
    multimodal("bridgetower", "BridgeTowerModel", base={
        "text_config": {**COMMON, "hidden_size": 64}, "vision_config": {**TOWER, "hidden_size": 64},
        "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2},
        kinds={"self": 8, "co": 4}, note="cross-modal layers in both directions",
        reads=WORDS),
    multimodal("blip", "BlipForConditionalGeneration", base={
        **CLIP, "text_config": {**TOWER, "encoder_hidden_size": 32}},
        kinds={"self": 4, "encoder-decoder": 2},
        reads=WORDS),
    multimodal("blip-retrieval", "BlipForImageTextRetrieval", base={
        **CLIP, "text_config": {**TOWER, "encoder_hidden_size": 32}},
        kinds={"self": 4, "encoder-decoder": 2},
        reads="input_ids[0]"),
    multimodal("blip-2", "Blip2ForConditionalGeneration", interleaved(3, 3), base={
        "vision_config": TOWER, "qformer_config": QFORMER, "text_config": OPT,
        "num_query_tokens": 3, "image_token_index": IMAGE_TOKEN},
        kinds={"self": 6, "encoder-decoder": 1},
        tokens={**CAPTIONED, "query_tokens": 3},
        reads="each of input_ids[words], query_tokens[:]"),
    multimodal("instructblip", "InstructBlipForConditionalGeneration", lambda d: {
        **interleaved(3, 3)(d), "qformer_input_ids": d.ids(2, 4),
        "qformer_attention_mask": d.ids(2, 4, low=1, high=2)}, base={
        "vision_config": TOWER, "qformer_config": QFORMER, "text_config": OPT,
        "num_query_tokens": 3, "image_token_index": IMAGE_TOKEN},
        kinds={"self": 6, "encoder-decoder": 1},
        tokens={**CAPTIONED, "qformer_input_ids": 3 + 4},
        reads="each of input_ids[words], qformer_input_ids[:3]"),
    multimodal("git", "GitForCausalLM", base={**COMMON, "vision_config": TOWER}, kinds={"self": 4},
        reads="each of pixel_values[:], input_ids[:]"),
    multimodal("llava", "LlavaForConditionalGeneration", interleaved(16, 16), base={
        "vision_config": CLIP_VISION, "text_config": LLAMA, "image_token_index": IMAGE_TOKEN,
        "vision_feature_layer": -1}, kinds={"self": 4}, note="merged by masked_scatter",
        reads=MERGED),
    multimodal("llava-next", "LlavaNextForConditionalGeneration", interleaved(
        36, 36, image_sizes=lambda d: d.ids(2, 2, low=32, high=33),
        pixel_values=lambda d: d.floats(2, 2, 3, 32, 32)), base={
        "vision_config": CLIP_VISION, "text_config": LLAMA, "image_token_index": IMAGE_TOKEN,
        "vision_feature_layer": -1, "image_grid_pinpoints": [[32, 32]]}, kinds={"self": 4},
        tokens={"input_ids": length, "pixel_values": 2 * (16 + 1) + 4},
        reads="of input_ids[words], pixel_values"),
    multimodal("vipllava", "VipLlavaForConditionalGeneration", interleaved(16, 16), base={
        "vision_config": CLIP_VISION, "text_config": LLAMA, "image_token_index": IMAGE_TOKEN,
        "vision_feature_layers": [-1, -2]}, kinds={"self": 4},
        reads=MERGED),
    multimodal("paligemma", "PaliGemmaForConditionalGeneration", interleaved(16, 16), base={
        "vision_config": SIGLIP_VISION, "text_config": {**GROUPED, "model_type": "gemma"},
        "image_token_index": IMAGE_TOKEN, "projection_dim": 32}, kinds={"self": 4}, eager=False,
        note="its mask hides less from fused attention than from eager",
        tokens=PLAIN, reads="each of input_ids[words], pixel_values[:]"),
    multimodal("gemma3-vision", "Gemma3ForConditionalGeneration", interleaved(
        4, 4, token_type_ids=lambda d: d.ids(2, 10, low=0, high=1)), base={
        "vision_config": SIGLIP_VISION, "text_config": {**GROUPED, "model_type": "gemma3_text"},
        "image_token_index": IMAGE_TOKEN, "mm_tokens_per_image": 4}, kinds={"self": 4},
        tokens=PLAIN, reads=SHUFFLED),
    multimodal("idefics", "IdeficsForVisionText2Text", lambda d: {
        **d.text(7, 7, high=95), "pixel_values": d.floats(2, 1, 3, 32, 32),
        "image_attention_mask": d.ids(2, 7, 1, low=1, high=2)}, base={
        **COMMON, "vision_config": IDEFICS_VISION, "cross_layer_interval": 1,
        "use_resampler": False}, kinds={"self": 4, "encoder-decoder": 2},
        reads=WORDS),
    multimodal("idefics-resampler", "IdeficsForVisionText2Text", lambda d: {
        **d.text(7, 7, high=95), "pixel_values": d.floats(2, 1, 3, 32, 32),
        "image_attention_mask": d.ids(2, 7, 1, low=1, high=2)}, base={
        **COMMON, "vision_config": IDEFICS_VISION, "cross_layer_interval": 1,
        "use_resampler": True, "perceiver_config": {
            "use_resampler": True, "resampler_n_latents": 3, "resampler_depth": 1,
            "resampler_n_heads": 2, "resampler_head_dim": 8}},
        kinds={"self": 4, "encoder-decoder|self": 3}, recorded="(attn|perceiver)",
        tokens={**CAPTIONED, "model.perceiver_resampler.latents": 3}, reads=WORDS),
    multimodal("idefics2", "Idefics2ForConditionalGeneration", lambda d: {
        **interleaved(3, 3)(d), "pixel_values": d.floats(2, 1, 3, 32, 32)}, base={
        "vision_config": {**TOWER, "image_size": 32}, "text_config": {**GROUPED,
            "model_type": "mistral"},
        "perceiver_config": {"resampler_n_latents": 3, "resampler_depth": 1, "hidden_size": 32,
                             "resampler_n_heads": 2, "resampler_head_dim": 8,
                             "num_key_value_heads": 1}, "image_token_id": IMAGE_TOKEN},
        kinds={"self": 4, "encoder-decoder|self": 1},
        tokens={**PLAIN, "model.connector.perceiver_resampler.latents": 3},
        reads="each of input_ids[words], model.connector.perceiver_resampler.latents[:]"),
    multimodal("idefics3", "Idefics3ForConditionalGeneration", lambda d: {
        **interleaved(4, 4)(d), "pixel_values": d.floats(2, 1, 3, 32, 32)}, base={
        "vision_config": TOWER, "text_config": LLAMA, "image_token_id": IMAGE_TOKEN,
        "scale_factor": 2}, kinds={"self": 4},
        tokens=PLAIN, reads=SHUFFLED),
    multimodal("smolvlm", "SmolVLMForConditionalGeneration", lambda d: {
        **interleaved(4, 4)(d), "pixel_values": d.floats(2, 1, 3, 32, 32)}, base={
        "vision_config": TOWER, "text_config": LLAMA, "image_token_id": IMAGE_TOKEN,
        "scale_factor": 2}, kinds={"self": 4},
        tokens=PLAIN, reads=SHUFFLED),
    multimodal("mllama", "MllamaForConditionalGeneration", lambda d: {
        **d.text(7, 7, high=95), "pixel_values": d.floats(2, 1, 2, 3, 32, 32),
        "aspect_ratio_ids": d.ids(2, 1, low=2, high=3),
        "aspect_ratio_mask": d.ids(2, 1, 2, low=1, high=2),
        "cross_attention_mask": d.ids(2, 7, 1, 2, low=1, high=2)}, base={
        "vision_config": {"hidden_size": 32, "num_hidden_layers": 2, "num_global_layers": 1,
                          "attention_heads": 4, "intermediate_size": 40, "image_size": 32,
                          "patch_size": 8, "max_num_tiles": 2, "vision_output_dim": 64,
                          "intermediate_layers_indices": [0],
                          "supported_aspect_ratios": [[1, 1], [1, 2], [2, 1]]},
        "text_config": {**GROUPED, "num_hidden_layers": 3, "cross_attention_layers": [1]},
        "image_token_index": IMAGE_TOKEN}, kinds={"self": 5, "encoder-decoder": 1},
        tokens={"input_ids": length, "pixel_values": 2 * (16 + 1)}, reads=WORDS),
    multimodal("qwen2-vl", "Qwen2VLForConditionalGeneration", qwen, base=QWEN, kinds={"self": 6},
               note="one attention per image and layer",
        tokens=PACKED, reads=SHUFFLED),
    multimodal("qwen2-5-vl", "Qwen2_5_VLForConditionalGeneration", qwen, base=QWEN,
               kinds={"self": 7}, note="windows in the first vision layer",
        tokens=PACKED, reads=SHUFFLED),
    multimodal("qwen3-vl", "Qwen3VLForConditionalGeneration", qwen, base=QWEN, kinds={"self": 6},
               note="one attention per image and layer",
        tokens=PACKED, reads=SHUFFLED),
    multimodal("internvl", "InternVLForConditionalGeneration", interleaved(4, 4), base={
        "vision_config": {**TOWER, "image_size": [32, 32], "patch_size": [8, 8]},
        "text_config": {**GROUPED, "model_type": "qwen2"}, "image_token_id": IMAGE_TOKEN,
        "downsample_ratio": 0.5}, kinds={"self": 4},
        reads=SHUFFLED),
    multimodal("aya-vision", "AyaVisionForConditionalGeneration", interleaved(4, 4), base={
        "vision_config": SIGLIP_VISION, "text_config": {**GROUPED, "model_type": "cohere2"},
        "image_token_index": IMAGE_TOKEN, "downsample_factor": 2}, kinds={"self": 4},
        tokens=PLAIN, reads=SHUFFLED),
    multimodal("got-ocr2", "GotOcr2ForConditionalGeneration", lambda d: {
        **interleaved(1, 1)(d), "pixel_values": d.floats(2, 3, 64, 64)}, base={
        "vision_config": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
                          "image_size": 64, "patch_size": 16, "window_size": 3, "mlp_dim": 40,
                          "output_channels": 16, "global_attn_indexes": [1]},
        "text_config": {**GROUPED, "model_type": "qwen2"}, "image_token_id": IMAGE_TOKEN},
        kinds={"self": 4},
        tokens={"input_ids": length, "pixel_values": patches(16)}, reads=SHUFFLED),
    multimodal("fuyu", "FuyuForCausalLM", lambda d: {
        k: v for k, v in interleaved(4, 4, image_patches=lambda d: d.floats(2, 4, 3 * 8 * 8))(
            d).items() if k != "pixel_values"}, base={
        "text_config": {**COMMON, "model_type": "persimmon"}, "patch_size": 8,
        "image_token_id": IMAGE_TOKEN}, kinds={"self": 2},
        tokens={"input_ids": length, "image_patches": length},
        reads="each of input_ids[words], image_patches[:]"),
    multimodal("kosmos-2", "Kosmos2ForConditionalGeneration", lambda d: {
        **d.text(9, 9, high=95), **d.pixels(32), "image_embeds_position_mask":
        (d.ids(2, 9, low=0, high=1) + (d.ids(9, low=0, high=1).cumsum(0) * 0)).index_fill(
            1, d.ids(3, low=1, high=2).cumsum(0), 1)}, base={
        "text_config": {"vocab_size": 99, "embed_dim": 32, "layers": 2, "ffn_dim": 40,
                        "attention_heads": 4, "max_position_embeddings": 64, "pad_token_id": 0},
        "vision_config": TOWER, "latent_query_num": 3},
        kinds={"self": 4, "encoder-decoder|self": 1},
        tokens={**CAPTIONED, "image_to_text_projection.latent_query": 3},
        reads="each of input_ids[0, 4:], image_to_text_projection.latent_query[:]"),
    multimodal("chameleon", "ChameleonForConditionalGeneration", lambda d: d.text(9, 7), base={
        **COMMON, "num_key_value_heads": 2, "vocabulary_map": {"<image>": 98},
        "vq_config": {"base_channels": 32, "resolution": 32, "embed_dim": 8,
                      "num_embeddings": 8, "latent_channels": 8, "channel_multiplier": [1]}},
        kinds={"self": 2}, note="text only",
        tokens={"input_ids": length}, reads=WORDS),
    multimodal("vision-encoder-decoder", "VisionEncoderDecoderModel", lambda d: {
        **d.pixels(32), "decoder_input_ids": d.ids(2, 6)}, base={
        "encoder": {**TOWER, "model_type": "vit"},
        "decoder": {"model_type": "trocr", "vocab_size": 99, "d_model": 32, "decoder_layers": 2,
                    "decoder_attention_heads": 4, "decoder_ffn_dim": 40, "is_decoder": True,
                    "add_cross_attention": True, "cross_attention_hidden_size": 32,
                    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}},
        kinds={"self": 4, "encoder-decoder": 2},
        note="TrOCR",
        tokens={"pixel_values": patches(8, special=1), "decoder_input_ids": length},
        reads=DECODED),
    multimodal("donut", "VisionEncoderDecoderModel", lambda d: {
        **d.pixels(32), "decoder_input_ids": d.ids(2, 6)}, base={
        "encoder": {"model_type": "donut-swin", "image_size": 32, "patch_size": 2, "embed_dim": 16,
                    "depths": [1, 1], "num_heads": [2, 4], "window_size": 4},
        "decoder": {"model_type": "mbart", "vocab_size": 99, "d_model": 32, "decoder_layers": 2,
                    "decoder_attention_heads": 4, "decoder_ffn_dim": 40, "encoder_layers": 2,
                    "is_decoder": True, "add_cross_attention": True, "pad_token_id": 0,
                    "max_position_embeddings": 32}},
        kinds={"self": 4, "encoder-decoder": 2},
        tokens={"pixel_values": patches(2), "decoder_input_ids": length}, reads=DECODED),
    multimodal("pix2struct", "Pix2StructForConditionalGeneration", lambda d: {
        "flattened_patches": d.floats(2, 9, 2 + 12).abs().mul(2), "decoder_input_ids": d.ids(2, 6),
        "attention_mask": d.ids(2, 9, low=1, high=2)}, base={
        "text_config": {"vocab_size": 99, "hidden_size": 32, "d_kv": 8, "d_ff": 40, "num_layers": 2,
                        "num_heads": 4, "pad_token_id": 0},
        "vision_config": {"hidden_size": 32, "patch_embed_hidden_size": 12, "d_ff": 40, "d_kv": 8,
                          "num_hidden_layers": 2, "num_attention_heads": 4, "seq_len": 16}},
        kinds={"self": 4, "encoder-decoder": 2},
        tokens={"flattened_patches": length, "decoder_input_ids": length}, reads=DECODED),
    multimodal("florence-2", "Florence2ForConditionalGeneration", interleaved(
        17, 17, decoder_input_ids=lambda d: d.ids(2, 6)), base={
        "vision_config": {"depths": [1, 1], "embed_dim": [16, 32], "num_heads": [2, 4],
                          "num_groups": [2, 4], "patch_size": [7, 3], "patch_stride": [4, 2],
                          "patch_padding": [3, 1], "patch_prenorm": [False, True],
                          "window_size": 4, "projection_dim": 32},
        "text_config": {"model_type": "bart", "vocab_size": 99, "d_model": 32, "encoder_layers": 2,
                        "decoder_layers": 2, "encoder_attention_heads": 4,
                        "decoder_attention_heads": 4, "encoder_ffn_dim": 40, "pad_token_id": 0,
                        "decoder_ffn_dim": 40, "max_position_embeddings": 64},
        "image_token_id": IMAGE_TOKEN}, kinds={"self": 6, "encoder-decoder": 2},
        recorded="(window|self|encoder)_attn$",
        note="and channel attention, which is over features",
        tokens={"input_ids": length, "pixel_values": patches(4), "decoder_input_ids": length},
        reads=DECODED),
]  # fmt: skip
