"""Audio: convolutional stems, relative positions, convolution modules, codecs, speech to text."""

from tests.zoo.case import COMMON, Draw, Inputs, ZooCase, tiny
from tests.zoo.tokens import length, strided

WAVE = {**COMMON, "vocab_size": 32, "conv_dim": [16, 16], "conv_stride": [5, 4],
        "conv_kernel": [10, 8], "num_feat_extract_layers": 2, "num_conv_pos_embeddings": 4,
        "num_conv_pos_embedding_groups": 2, "layerdrop": 0.0, "apply_spec_augment": False,
        "num_labels": 4, "mask_time_prob": 0.0, "classifier_proj_size": 16,
        "num_codevectors_per_group": 8, "codevector_dim": 16, "proj_codevector_dim": 16,
        "tdnn_dim": [16, 16], "tdnn_kernel": [3, 1], "tdnn_dilation": [1, 1]}  # fmt: skip
SPEECH = {"vocab_size": 99, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2,
          "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 40,
          "decoder_ffn_dim": 40, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
          "decoder_start_token_id": 1, "max_source_positions": 20, "max_target_positions": 32,
          "num_mel_bins": 8, "encoder_layerdrop": 0.0, "decoder_layerdrop": 0.0,
          "suppress_tokens": None, "begin_suppress_tokens": None}  # fmt: skip
CONFORMER = {**COMMON, "feature_projection_input_dim": 8, "num_conv_pos_embeddings": 4,
             "conv_depthwise_kernel_size": 3, "layerdrop": 0.0, "apply_spec_augment": False,
             "left_max_position_embeddings": 4, "right_max_position_embeddings": 2,
             "position_embeddings_type": "relative_key"}  # fmt: skip


FRAMES = {"input_values": strided((10, 5), (8, 4))}
HEARD, EACH = "input_values[:]", "each of input_values[:]"
BOTH = {"input_ids": length, "decoder_input_ids": length}
DECODED = "each of decoder_input_ids[:]"


def halved(times: int, axis: int = -1):
    """Convolutions of stride 2 that pad their input."""
    return lambda values: -(-values.shape[axis] // 2**times)


def wave(d: Draw) -> Inputs:
    return {"input_values": d.floats(2, 400)}


def padded_wave(d: Draw) -> Inputs:
    mask = d.ids(2, 400, low=1, high=2)
    mask[1, 300:] = 0
    return {"input_values": d.floats(2, 400) * mask, "attention_mask": mask}


def audio(name, model, inputs=wave, *, base=WAVE, kinds=None, nodes=2, returned=True, recorded="",
          note="", dead=0, tokens=FRAMES, reads=EACH, **config):  # fmt: skip
    kinds = kinds or {"self": nodes}
    return ZooCase(name, "audio", tiny(model, {**base, **config}, inputs), kinds,
                   returned=returned, recorded=recorded, note=note, dead=dead, tokens=tokens,
                   reads=reads)  # fmt: skip


def with_audio(d: Draw) -> Inputs:
    """Ten audio tokens among the word pieces."""
    text = d.text(16, 16, high=95)
    text["input_ids"][:, 2:12] = 98
    return text


SPEECH_KINDS = {"self": 4, "encoder-decoder": 2}
CODEC = {"model_type": "encodec", "num_filters": 4, "hidden_size": 8, "codebook_size": 16,
         "codebook_dim": 8, "upsampling_ratios": [4, 2], "num_lstm_layers": 1}  # fmt: skip

CASES = [
    audio("wav2vec2", "Wav2Vec2ForCTC"),
    audio("wav2vec2-classifier", "Wav2Vec2ForSequenceClassification", padded_wave,
          feat_extract_norm="layer", do_stable_layer_norm=True, use_weighted_layer_sum=True,
          note="a softmax over layers",
        reads=HEARD),
    audio("hubert", "HubertForCTC"),
    audio("wavlm", "WavLMForSequenceClassification", num_buckets=8, max_bucket_distance=16,
          returned=False, recorded="attention$",
          note="gated relative position bias; returns the mean over its heads",
        reads=HEARD),
    audio("unispeech-sat", "UniSpeechSatForCTC"),
    audio("sew", "SEWForCTC", squeeze_factor=2,
        tokens={"input_values": 18 // 2}),
    audio("sew-d", "SEWDForCTC", squeeze_factor=2, position_buckets=8, pos_att_type=["p2c", "c2p"],
        tokens={"input_values": 18 // 2}),
    audio("data2vec-audio", "Data2VecAudioForCTC", conv_pos_kernel_size=3),
    audio("wav2vec2-conformer", "Wav2Vec2ConformerForCTC", conv_depthwise_kernel_size=3,
          position_embeddings_type="relative", note="convolution modules between the attentions"),
    audio("wav2vec2-conformer-rotary", "Wav2Vec2ConformerModel", conv_depthwise_kernel_size=3,
          position_embeddings_type="rotary"),
    audio("wav2vec2-bert", "Wav2Vec2BertModel", lambda d: {"input_features": d.floats(2, 12, 8)},
          base=CONFORMER,
        tokens={"input_features": length}, reads="each of input_features[:]"),
    audio("ast", "ASTForAudioClassification", lambda d: {"input_values": d.floats(2, 24, 16)},
          base={**COMMON, "patch_size": 4, "max_length": 24, "num_mel_bins": 16,
                "frequency_stride": 4, "time_stride": 4, "num_labels": 4},
        tokens={"input_values": (24 // 4) * (16 // 4) + 2}, reads="input_values[0:2]"),
    audio("whisper", "WhisperForConditionalGeneration", lambda d: {
        "input_features": d.floats(2, 8, 40), "decoder_input_ids": d.ids(2, 6)}, base=SPEECH,
        kinds=SPEECH_KINDS,
        tokens={"input_features": halved(1), "decoder_input_ids": length}, reads=DECODED),
    audio("whisper-classifier", "WhisperForAudioClassification", lambda d: {
        "input_features": d.floats(2, 8, 40)}, base=SPEECH, num_labels=4,
        tokens={"input_features": halved(1)}, reads="input_features[:]"),
    audio("speech-to-text", "Speech2TextForConditionalGeneration", lambda d: {
        "input_features": d.floats(2, 40, 8), "decoder_input_ids": d.ids(2, 6),
        "attention_mask": d.ids(2, 40, low=1, high=2)}, base={
        **SPEECH, "input_feat_per_channel": 8, "num_conv_layers": 2, "conv_kernel_sizes": [3, 3],
        "conv_channels": 16, "max_source_positions": 64}, kinds=SPEECH_KINDS,
        tokens={"input_features": halved(2, axis=1), "decoder_input_ids": length}, reads=DECODED),
    audio("moonshine", "MoonshineForConditionalGeneration", lambda d: {
        "input_values": d.floats(2, 2000), "decoder_input_ids": d.ids(2, 6)}, base={
        **COMMON, "encoder_num_hidden_layers": 2, "decoder_num_hidden_layers": 2,
        "encoder_num_attention_heads": 4, "decoder_num_attention_heads": 4},
        kinds=SPEECH_KINDS, returned=False, recorded="attn$",
        tokens={"input_values": strided((127, 64), (7, 3), (3, 2)), "decoder_input_ids": length},
        reads=DECODED),
    audio("speecht5-asr", "SpeechT5ForSpeechToText", lambda d: {
        "input_values": d.floats(2, 400), "decoder_input_ids": d.ids(2, 6)}, base={
        **WAVE, **SPEECH, "hidden_size": 32}, kinds=SPEECH_KINDS,
        tokens={**FRAMES, "decoder_input_ids": length}, reads=DECODED),
    audio("speecht5-tts", "SpeechT5ForTextToSpeech", lambda d: {
        **d.text(9, 7), "decoder_input_values": d.floats(2, 6, 8)}, base={
        **WAVE, **SPEECH, "hidden_size": 32, "num_mel_bins": 8, "speech_decoder_prenet_units": 16,
        "speech_decoder_postnet_units": 16, "speech_decoder_postnet_kernel": 3,
        "speech_decoder_postnet_layers": 2, "speaker_embedding_dim": 4,
        "speech_decoder_prenet_dropout": 0.0}, kinds=SPEECH_KINDS,
        note="its speech prenet applies dropout in eval mode too",
        tokens={"input_ids": length, "decoder_input_values": length},
        reads="of decoder_input_values[:]"),
    audio("seamless-m4t-text", "SeamlessM4TForTextToText", lambda d: {
        **d.text(9, 7), "decoder_input_ids": d.ids(2, 6)}, base={
        **SPEECH, "hidden_size": 32, "speech_encoder_layers": 1,
        "speech_encoder_attention_heads": 4, "speech_encoder_intermediate_size": 40,
        "t2u_encoder_layers": 1, "t2u_decoder_layers": 1}, kinds=SPEECH_KINDS,
        tokens=BOTH, reads=DECODED),
    audio("seamless-m4t-speech", "SeamlessM4TForSpeechToText", lambda d: {
        "input_features": d.floats(2, 16, 8), "decoder_input_ids": d.ids(2, 6)}, base={
        **SPEECH, "hidden_size": 32, "speech_encoder_layers": 2, "encoder_layers": 1,
        "speech_encoder_attention_heads": 4, "speech_encoder_intermediate_size": 40,
        "feature_projection_input_dim": 8, "adaptor_kernel_size": 2, "adaptor_stride": 2,
        "position_embeddings_type": "relative", "max_source_positions": 32,
        "conv_depthwise_kernel_size": 3}, kinds={"self": 5, "encoder-decoder": 2},
        returned=False, recorded="(attn|cross_attention)$",
        note="a strided convolution before the adapter",
        tokens={"input_features": length, "decoder_input_ids": length}, reads=DECODED),
    audio("clap", "ClapModel", lambda d: {
        **d.text(7, 5), "input_features": d.floats(2, 1, 32, 16),
        "is_longer": d.ids(2, 1, low=0, high=1).bool()}, base={
        "text_config": COMMON, "projection_dim": 16,
        "audio_config": {"spec_size": 32, "num_mel_bins": 16, "patch_size": 2,
                         "patch_stride": [2, 2], "window_size": 4,
                         "patch_embeds_hidden_size": 8, "hidden_size": 16,
                         "depths": [1, 1], "num_attention_heads": [2, 2],
                         "num_hidden_layers": 2, "enable_fusion": False,
                         "projection_dim": 16}}, nodes=4, returned=False, recorded="self$",
        tokens={"input_ids": length, "input_features": (32 // 2) ** 2},
        reads="of input_features, input_ids[0]"),
    audio("musicgen", "MusicgenForConditionalGeneration", lambda d: {
        **d.text(7, 5), "decoder_input_ids": d.ids(2 * 2, 6, low=0, high=16)}, base={
        "text_encoder": {"model_type": "t5", "vocab_size": 99, "d_model": 32, "d_kv": 8,
                         "d_ff": 40, "num_layers": 2, "num_heads": 4},
        "audio_encoder": CODEC,
        "decoder": {"model_type": "musicgen_decoder", "vocab_size": 16, "hidden_size": 32,
                    "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 40,
                    "num_codebooks": 2, "pad_token_id": 16, "bos_token_id": 16}},
        kinds=SPEECH_KINDS,
        tokens=BOTH, reads=DECODED),
    audio("musicgen-melody", "MusicgenMelodyForConditionalGeneration", lambda d: {
        **d.text(7, 5), "input_features": d.floats(2, 5, 12),
        "decoder_input_ids": d.ids(2 * 2, 6, low=0, high=16)}, base={
        "text_encoder": {"model_type": "t5", "vocab_size": 99, "d_model": 32, "d_kv": 8,
                         "d_ff": 40, "num_layers": 2, "num_heads": 4},
        "audio_encoder": CODEC, "num_chroma": 12, "chroma_length": 5,
        "decoder": {"model_type": "musicgen_melody_decoder", "vocab_size": 16, "hidden_size": 32,
                    "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 40,
                    "num_codebooks": 2, "pad_token_id": 16, "bos_token_id": 16}},
        nodes=4, returned=False, recorded="(SelfAttention|self_attn)$",
        tokens={**BOTH, "input_features": length},
        reads="each of input_ids[:], input_features[:], decoder_input_ids[:]"),
    audio("mimi", "MimiModel", lambda d: {"input_values": d.floats(2, 1, 320)}, base={
        **COMMON, "num_filters": 4, "hidden_size": 16, "upsampling_ratios": [4, 2],
        "codebook_size": 8, "codebook_dim": 8, "num_quantizers": 2, "head_dim": 4,
        "num_semantic_quantizers": 1, "vector_quantization_hidden_dimension": 8,
        "num_key_value_heads": 4, "upsample_groups": 4, "sliding_window": 8}, nodes=4,
        returned=False, recorded="self_attn$", dead=2,
        note="quantised in the middle: nothing passes but by the codes",
        tokens={"input_values": 320 // 8}, reads="of input_values"),
    audio("bark-semantic", "BarkSemanticModel", lambda d: {"input_ids": d.ids(2, 9)}, base={
        "input_vocab_size": 99, "output_vocab_size": 99, "num_layers": 2, "num_heads": 4,
        "hidden_size": 32, "block_size": 32}, returned=False, recorded="attn",
        tokens={"input_ids": length}, reads="each of input_ids[:]"),
    audio("vits", "VitsModel", lambda d: d.text(9, 7, high=38), base={
        "vocab_size": 38, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
        "ffn_dim": 20, "flow_size": 16, "spectrogram_bins": 9, "upsample_initial_channel": 16,
        "upsample_rates": [4, 2], "upsample_kernel_sizes": [8, 4], "window_size": 2,
        "resblock_kernel_sizes": [3], "resblock_dilation_sizes": [[1]],
        "use_stochastic_duration_prediction": False, "duration_predictor_filter_channels": 8,
        "prior_encoder_num_flows": 1, "posterior_encoder_num_wavenet_layers": 1,
        "noise_scale": 0.0, "noise_scale_duration": 0.0, "layerdrop": 0.0},
        tokens={"input_ids": length}, reads="of input_ids"),
    audio("fastspeech2-conformer", "FastSpeech2ConformerModel", lambda d: d.text(7, 7, high=38),
          base={"hidden_size": 16, "vocab_size": 38, "num_mel_bins": 8, "encoder_layers": 2,
                "encoder_num_attention_heads": 2, "encoder_linear_units": 20, "decoder_layers": 2,
                "decoder_num_attention_heads": 2, "decoder_linear_units": 20,
                "speech_decoder_postnet_layers": 2, "speech_decoder_postnet_units": 8,
                "duration_predictor_channels": 8, "energy_predictor_channels": 8,
                "pitch_predictor_channels": 8, "encoder_kernel_size": 3,
                "decoder_kernel_size": 3}, nodes=4,
        tokens={"input_ids": length}, reads="of input_ids"),
    audio("pop2piano", "Pop2PianoForConditionalGeneration", lambda d: {
        "input_features": d.floats(2, 9, 32), "decoder_input_ids": d.ids(2, 6)}, base={
        "vocab_size": 99, "composer_vocab_size": 4, "d_model": 32, "d_kv": 8, "d_ff": 40,
        "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}, kinds=SPEECH_KINDS,
        tokens={"input_features": length, "decoder_input_ids": length}, reads=DECODED),
    audio("parakeet-ctc", "ParakeetForCTC", lambda d: {
        "input_features": d.floats(2, 64, 16)}, base={
        "vocab_size": 20, "pad_token_id": 19,
        "encoder_config": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
                           "intermediate_size": 40, "conv_kernel_size": 3, "num_mel_bins": 16,
                           "subsampling_conv_channels": 8, "subsampling_factor": 4,
                           "layerdrop": 0.0, "max_position_embeddings": 64}},
        tokens={"input_features": halved(2, axis=1)},
        reads="each of input_features[:]"),
    audio("qwen2-audio", "Qwen2AudioForConditionalGeneration", lambda d: {
        **with_audio(d), "input_features": d.floats(2, 8, 40),
        "feature_attention_mask": d.ids(2, 40, low=1, high=2)}, base={
        "audio_config": {"num_mel_bins": 8, "d_model": 32, "encoder_layers": 2,
                         "encoder_attention_heads": 4, "encoder_ffn_dim": 40,
                         "max_source_positions": 20},
        "text_config": {**COMMON, "model_type": "qwen2", "num_key_value_heads": 2},
        "audio_token_index": 98}, nodes=4, returned=False, recorded="self_attn$",
        tokens={"input_ids": length, "input_features": halved(1)},
        reads="of input_ids[words], input_features"),
    audio("dia", "DiaForConditionalGeneration", lambda d: {
        **d.text(9, 7), "decoder_input_ids": d.ids(2, 6, 3, low=0, high=16)}, base={
        "encoder_config": {**COMMON, "num_key_value_heads": 4, "head_dim": 8},
        "decoder_config": {**COMMON, "vocab_size": 19, "num_key_value_heads": 2, "head_dim": 8,
                           "cross_num_attention_heads": 4, "cross_head_dim": 8,
                           "cross_num_key_value_heads": 4, "cross_hidden_size": 32,
                           "num_channels": 3, "pad_token_id": 17, "eos_token_id": 16,
                           "bos_token_id": 18},
        "delay_pattern": [0, 1, 2]}, kinds=SPEECH_KINDS,
        tokens=BOTH, reads=DECODED),
]  # fmt: skip
