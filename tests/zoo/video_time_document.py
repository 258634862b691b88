"""Video, time series, documents, tables, decisions, and models of any modality."""

from tests.zoo.case import COMMON, Draw, Inputs, ZooCase, tiny
from tests.zoo.tokens import length, patches

VIT = {**COMMON, "image_size": 16, "patch_size": 8, "num_labels": 4}
TOWER = {**COMMON, "image_size": 16, "patch_size": 8, "projection_dim": 16}
SERIES = {"prediction_length": 4, "context_length": 8, "lags_sequence": [1, 2],
          "num_time_features": 2, "d_model": 16, "encoder_attention_heads": 2,
          "decoder_attention_heads": 2, "encoder_layers": 2, "decoder_layers": 2,
          "encoder_ffn_dim": 20, "decoder_ffn_dim": 20, "encoder_layerdrop": 0.0,
          "decoder_layerdrop": 0.0, "label_length": 4, "moving_average": 3, "distil": False,
          "sampling_factor": 1}  # fmt: skip
PATCHTST = {"num_input_channels": 2, "context_length": 16, "patch_length": 4, "patch_stride": 4,
            "num_hidden_layers": 2, "d_model": 16, "num_attention_heads": 2, "ffn_dim": 20,
            "prediction_length": 4, "num_targets": 3}  # fmt: skip
LAYOUT = {**COMMON, "max_2d_position_embeddings": 128, "coordinate_size": 5, "shape_size": 6,
          "input_size": 32, "patch_size": 8, "num_labels": 4}  # fmt: skip
SEQ2SEQ = {"self": 4, "encoder-decoder": 2}


WORDS = {"input_ids": length}
EACH = "each of input_ids[:]"
QUERY = "perceiver.decoder.decoder.output_position_encodings"
FORECAST = {"past_values": 8, "future_values": 4}


def frames(count: int, size: int = 16):
    return lambda d: {"pixel_values": d.floats(2, count, 3, size, size)}


def series(d: Draw) -> Inputs:
    """Context and lags, then the future values for teacher forcing."""
    return {
        "past_values": d.floats(2, 10),
        "past_time_features": d.floats(2, 10, 2),
        "past_observed_mask": d.ids(2, 10, low=1, high=2).float(),
        "future_values": d.floats(2, 4),
        "future_time_features": d.floats(2, 4, 2),
    }


def channels(d: Draw) -> Inputs:
    return {"past_values": d.floats(2, 16, 2)}


def page(d: Draw) -> Inputs:
    return {**d.text(9, 6), "bbox": d.boxes(2, 9)}


def illustrated(d: Draw) -> Inputs:
    return {**page(d), **d.pixels(32)}


def case(name, family, model, inputs, base, *, nodes=2, kinds=None, returned=True, recorded="",
         note="", dead=0, tokens=WORDS, reads=EACH, **config):  # fmt: skip
    kinds = kinds if kinds is not None else {"self": nodes}
    return ZooCase(name, family, tiny(model, {**base, **config}, inputs), kinds,
                   returned=returned, recorded=recorded, note=note, dead=dead, tokens=tokens,
                   reads=reads)  # fmt: skip


CASES = [
    case("timesformer", "video", "TimesformerForVideoClassification", frames(3), VIT, num_frames=3,
         nodes=4, returned=False, recorded="attention", note="time, then space",
        tokens={"pixel_values": 3 * 4 + 1}, reads="pixel_values[0]"),
    case("timesformer-joint", "video", "TimesformerForVideoClassification", frames(3), VIT,
         num_frames=3, attention_type="joint_space_time",
        tokens={"pixel_values": 3 * 4 + 1}, reads="pixel_values[0]"),
    case("vivit", "video", "VivitForVideoClassification", frames(4), VIT, num_frames=4,
         tubelet_size=[2, 8, 8],
        tokens={"pixel_values": 2 * 4 + 1}, reads="pixel_values[0]"),
    case("videomae", "video", "VideoMAEForVideoClassification", frames(4), VIT, num_frames=4,
         tubelet_size=2,
        tokens={"pixel_values": 2 * 4}, reads="pixel_values[:]"),
    case("vjepa2", "video", "VJEPA2Model", lambda d: {
        "pixel_values_videos": d.floats(2, 4, 3, 16, 16)}, {
        **COMMON, "crop_size": 16, "patch_size": 8, "frames_per_clip": 4, "tubelet_size": 2,
        "hidden_size": 48, "mlp_ratio": 2, "pred_hidden_size": 48, "pred_num_attention_heads": 4,
        "pred_num_hidden_layers": 1, "pred_num_mask_tokens": 2, "num_pooler_layers": 1,
        "pred_mlp_ratio": 2}, nodes=3, returned=False, recorded="attention$",
        tokens={"pixel_values_videos": 2 * 4 + 8}, reads="each of pixel_values_videos[::2]",
        note="a mask token after each patch"),
    case("x-clip", "video", "XCLIPModel", lambda d: {
        **frames(3)(d), "input_ids": d.ids(2, 7), "attention_mask": d.ids(2, 7, low=1, high=2)}, {
        "text_config": TOWER, "projection_dim": 32, "prompt_layers": 1,
        "prompt_num_attention_heads": 4,
        "vision_config": {**TOWER, "num_frames": 3, "mit_hidden_size": 32,
                          "mit_intermediate_size": 40, "mit_num_hidden_layers": 1,
                          "mit_num_attention_heads": 4}},
        kinds={"self": 7, "encoder-decoder": 1}, returned=False,
        recorded="attn$", note="message tokens between frames; prompts read the video",
        tokens={"input_ids": length, "pixel_values": 3 * (4 + 1)},
        reads="of pixel_values, input_ids[top]"),
    case("tvp", "video", "TvpForVideoGrounding", lambda d: {
        **d.text(6), "pixel_values": d.floats(1, 2, 3, 64, 64)}, {
        **COMMON, "backbone_config": {
            "model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 32], "depths": [1, 1],
            "out_features": ["stage2"], "layer_type": "basic"}, "num_frames": 2,
        "visual_prompt_size": 4, "max_img_size": 64, "type_vocab_size": 2,
        "max_grid_col_position_embeddings": 8, "max_grid_row_position_embeddings": 8},
        returned=False, recorded="attention", note="its grid positions take one sample only",
        tokens={"input_ids": 10 + 6, "pixel_values": 4 * 4}, reads="input_ids[0]"),
    case("time-series-transformer", "time series", "TimeSeriesTransformerForPrediction", series,
         SERIES, kinds=SEQ2SEQ,
        tokens=FORECAST, reads="each of future_values[:]"),
    case("informer", "time series", "InformerForPrediction", series, SERIES, kinds=SEQ2SEQ,
         attention_type="prob", note="a query subset attends, the others take the mean",
        tokens=FORECAST, reads="each of future_values[:]"),
    case("informer-full", "time series", "InformerForPrediction", series, SERIES, kinds=SEQ2SEQ,
         attention_type="full",
        tokens=FORECAST, reads="each of future_values[:]"),
    case("autoformer", "time series", "AutoformerForPrediction", series, SERIES, kinds={},
         returned=False, note="autocorrelation weighs delays, not tokens: no attention",
        tokens={}),
    case("patchtst", "time series", "PatchTSTForPrediction", channels, PATCHTST,
        tokens={"past_values": 2 * 4}, reads="of past_values[:]"),
    case("patchtst-channels", "time series", "PatchTSTForClassification", channels, PATCHTST,
         channel_attention=True, use_cls_token=True, nodes=4,
         returned=False, recorded="self_attn$", note="over time, then over channels",
        tokens={"past_values": 2 * (1 + 4)}, reads="past_values[0, 5]"),
    case("patchtsmixer", "time series", "PatchTSMixerForPrediction", channels, {
        **PATCHTST, "num_layers": 2, "expansion_factor": 2, "self_attn": True,
        "self_attn_heads": 2}, nodes=2, returned=False, recorded="self_attn",
        note="attention over the patches beside a mixing MLP; its gates are no attention",
        tokens={"past_values": 2 * 4}, reads="of past_values[:]"),
    case("patchtsmixer-plain", "time series", "PatchTSMixerForPrediction", channels, {
        **PATCHTST, "num_layers": 2, "expansion_factor": 2}, kinds={}, returned=False,
        note="no attention",
        tokens={}),
    case("timesfm", "time series", "TimesFmModel", lambda d: {
        "past_values": d.floats(2, 16), "past_values_padding": d.ids(2, 16, low=0, high=1),
        "freq": d.ids(2, 1, low=0, high=3)}, {
        "patch_length": 4, "context_length": 16, "horizon_length": 4, "num_hidden_layers": 2,
        "hidden_size": 32, "intermediate_size": 40, "head_dim": 8, "num_attention_heads": 4},
        tokens={"past_values": 16 // 4}, reads="each of past_values[:]"),
    case("decision-transformer", "decision", "DecisionTransformerModel", lambda d: {
        "states": d.floats(2, 4, 5), "actions": d.floats(2, 4, 3), "rewards": d.floats(2, 4, 1),
        "returns_to_go": d.floats(2, 4, 1), "timesteps": d.ids(2, 4, low=0, high=9),
        "attention_mask": d.ids(2, 4, low=1, high=2)}, {
        "state_dim": 5, "act_dim": 3, "hidden_size": 32, "n_layer": 2, "n_head": 4,
        "max_ep_len": 16}, note="states, actions and returns interleaved",
        tokens={"returns_to_go": 4, "states": 4, "actions": 4},
        reads="each of actions[:]"),
    case("layoutlm", "document", "LayoutLMForTokenClassification", page, LAYOUT),
    case("layoutlmv3", "document", "LayoutLMv3ForTokenClassification", illustrated, LAYOUT,
        tokens={**WORDS, "pixel_values": patches(8, special=1)}),
    case("layoutlmv3-text", "document", "LayoutLMv3ForTokenClassification", page, LAYOUT),
    case("lilt", "document", "LiltForTokenClassification", page, {
        **LAYOUT, "hidden_size": 48, "channel_shrink_ratio": 2}, nodes=4, returned=False,
        recorded="self$", note="text and layout streams with one sum of scores"),
    case("bros", "document", "BrosForTokenClassification", lambda d: {
        **d.text(9, 6), "bbox": (d.boxes(2, 9) / 64.0)[..., [0, 1, 2, 1, 2, 3, 0, 3]]}, LAYOUT,
        dim_bbox=8, hidden_size=64),
    case("markuplm", "document", "MarkupLMForTokenClassification", lambda d: {
        **d.text(9, 6), "xpath_tags_seq": d.ids(2, 9, 4, low=0, high=9),
        "xpath_subs_seq": d.ids(2, 9, 4, low=0, high=9)}, LAYOUT, max_depth=4,
        xpath_unit_hidden_size=8, max_xpath_tag_unit_embeddings=12, tag_pad_id=10, subs_pad_id=10,
        max_xpath_subs_unit_embeddings=12),
    case("udop", "document", "UdopForConditionalGeneration", lambda d: {
        **illustrated(d), "bbox": d.boxes(2, 9) / 64.0, "decoder_input_ids": d.ids(2, 5)}, {
        "vocab_size": 99, "d_model": 32, "d_kv": 8, "d_ff": 40, "num_layers": 2, "num_heads": 4,
        "image_size": 32, "patch_size": 8, "max_2d_position_embeddings": 64,
        "decoder_start_token_id": 0}, kinds=SEQ2SEQ,
        tokens={**WORDS, "pixel_values": 13, "decoder_input_ids": length},
        reads="each of decoder_input_ids[:]",
        note="a patch is added to the words that lie on it; 10 and 11 of the 16 are left in the "
             "sequence, each in its place: 13 of them in one sample or the other"),
    case("tapas", "document", "TapasForQuestionAnswering", lambda d: {
        **d.text(11, 7), "token_type_ids": d.ids(2, 11, 7, low=0, high=2)}, COMMON,
        type_vocab_sizes=[3, 8, 8, 2, 8, 8, 4], num_aggregation_labels=3, max_num_rows=8,
        max_num_columns=8, reads="of input_ids[:]", note="means over the words of each cell"),
    case("perceiver-text", "any modality", "PerceiverForSequenceClassification", lambda d: {
        "inputs": d.ids(2, 12), "attention_mask": d.ids(2, 12, low=1, high=2)}, {
        "num_latents": 5, "d_latents": 32, "d_model": 24, "num_blocks": 1, "vocab_size": 99,
        "num_self_attends_per_block": 2, "num_self_attention_heads": 4,
        "num_cross_attention_heads": 4, "max_position_embeddings": 16},
        kinds={"self": 2, "encoder-decoder": 1, "pooling": 1}, returned=False,
        recorded="attention", note="latents read the text, and are read by a label query",
        tokens={"inputs": length, "perceiver.embeddings.latents": 5,
                f"{QUERY}.position_embeddings": 1}, reads=f"{QUERY}.position_embeddings[0]"),
    case("perceiver-mlm", "any modality", "PerceiverForMaskedLM", lambda d: {
        "inputs": d.ids(2, 12), "attention_mask": d.ids(2, 12, low=1, high=2)}, {
        "num_latents": 5, "d_latents": 32, "d_model": 24, "num_blocks": 1, "vocab_size": 99,
        "num_self_attends_per_block": 2, "num_self_attention_heads": 4,
        "num_cross_attention_heads": 4, "max_position_embeddings": 12, "qk_channels": 16,
        "v_channels": 32}, kinds={"self": 2, "encoder-decoder": 1, "pooling": 1},
        returned=False, recorded="attention", note="read by one learned query per position",
        tokens={"inputs": length, "perceiver.embeddings.latents": 5,
                "perceiver.decoder.output_position_encodings.position_embeddings": 12},
        reads="each of perceiver.decoder.output_position_encodings.position_embeddings[:]"),
    case("perceiver-image", "any modality", "PerceiverForImageClassificationLearned", lambda d: {
        "inputs": d.floats(2, 3, 8, 8)}, {
        "num_latents": 5, "d_latents": 32, "num_blocks": 1, "num_self_attends_per_block": 2,
        "num_self_attention_heads": 4, "num_cross_attention_heads": 1, "image_size": 8},
        kinds={"self": 2, "encoder-decoder": 1, "pooling": 1}, returned=False,
        recorded="attention",
        tokens={"inputs": patches(1), "perceiver.embeddings.latents": 5,
                f"{QUERY}.position_embeddings": 1}, reads=f"{QUERY}.position_embeddings[0]"),
    case("mgp-str", "document", "MgpstrForSceneTextRecognition", lambda d: d.pixels(16, 32), {
        **COMMON, "image_size": [16, 32], "patch_size": 8, "max_token_length": 4,
        "num_character_labels": 9, "num_bpe_labels": 9, "num_wordpiece_labels": 9},
        kinds={"self": 2, "pooling": 3}, recorded="a3_module",
        note="one learned query per character reads the patches",
        tokens={"pixel_values": patches(8, special=1)}, reads="of pixel_values"),
]  # fmt: skip
