"""Encoder-decoders of text: relative positions, sparse encoders, n-gram streams, experts."""

from transformers import BertConfig, EncoderDecoderModel

from tests.zoo.case import COMMON, Draw, Inputs, ZooCase, tiny
from tests.zoo.tokens import length

T5 = {"vocab_size": 99, "d_model": 32, "d_kv": 8, "d_ff": 40, "num_layers": 2, "num_heads": 4,
      "num_decoder_layers": 2, "relative_attention_num_buckets": 8, "decoder_start_token_id": 0,
      "pad_token_id": 0, "eos_token_id": 1}  # fmt: skip
BART = {"vocab_size": 99, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2,
        "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 40,
        "decoder_ffn_dim": 40, "max_position_embeddings": 64, "pad_token_id": 0,
        "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2,
        "forced_eos_token_id": None}  # fmt: skip


BOTH = {"input_ids": length, "decoder_input_ids": length}
DECODED = "each of decoder_input_ids[:]"


def pair(d: Draw) -> Inputs:
    return {**d.text(11, 7), "decoder_input_ids": d.ids(2, 6)}


def equal_lengths(d: Draw) -> Inputs:
    return {**d.text(8, 8), "decoder_input_ids": d.ids(2, 8)}


def derived(d: Draw) -> Inputs:
    """The decoder's input is made from the encoder's input inside of the model."""
    inputs = d.text(9, 9)
    inputs["input_ids"][:, -1] = 2
    return inputs


def seq2seq(name, model, inputs=pair, *, base, nodes=(4, 2), returned=True, recorded="", note="",
            unseen=0, tokens=BOTH, reads=DECODED, **config):  # fmt: skip
    own, cross = nodes
    return ZooCase(name, "encoder-decoder", tiny(model, {**base, **config}, inputs),
                   {"self": own, "encoder-decoder": cross}, returned=returned, recorded=recorded,
                   note=note, unseen=unseen, tokens=tokens, reads=reads)  # fmt: skip


def encoder_decoder(d: Draw) -> Inputs:
    return {**d.text(11, 7), "decoder_input_ids": d.ids(2, 6)}


PARTS = {
    "encoder": {**BertConfig(**COMMON).to_dict(), "model_type": "bert"},
    "decoder": {**BertConfig(**COMMON, is_decoder=True, add_cross_attention=True).to_dict(),
                "model_type": "bert"},
    "pad_token_id": 0, "decoder_start_token_id": 1,
}  # fmt: skip

CASES = [
    seq2seq("t5", "T5ForConditionalGeneration", base=T5),
    seq2seq("t5-equal", "T5ForConditionalGeneration", equal_lengths, base=T5),
    ZooCase("t5-encoder", "encoder-decoder", tiny("T5EncoderModel", T5, lambda d: d.text(11, 7)),
            {"self": 2}, tokens={"input_ids": length}, reads="each of input_ids[:]"),
    seq2seq("mt5", "MT5ForConditionalGeneration", base=T5),
    seq2seq("umt5", "UMT5ForConditionalGeneration", base=T5),
    seq2seq("longt5-local", "LongT5ForConditionalGeneration", lambda d: {
        **d.text(20, 13), "decoder_input_ids": d.ids(2, 6)}, base=T5, local_radius=3,
        encoder_attention_type="local"),
    seq2seq("longt5-global", "LongT5ForConditionalGeneration", lambda d: {
        **d.text(20, 13), "decoder_input_ids": d.ids(2, 6)}, base=T5, local_radius=3,
        global_block_size=4, encoder_attention_type="transient-global",
        note="transient tokens are block sums"),
    seq2seq("switch-transformers", "SwitchTransformersForConditionalGeneration", base=T5,
            num_experts=4, num_sparse_encoder_layers=1, num_sparse_decoder_layers=1,
            expert_capacity=16),
    seq2seq("bart", "BartForConditionalGeneration", base=BART),
    seq2seq("bart-equal", "BartForConditionalGeneration", equal_lengths, base=BART),
    seq2seq("bart-classifier", "BartForSequenceClassification", derived, base=BART,
            tokens={"input_ids": length, "input_ids@added": 1}, reads="input_ids[7]",
            note="the decoder reads the shifted input_ids: at the end's place, the word before"),
    seq2seq("mbart", "MBartForConditionalGeneration", base=BART),
    seq2seq("plbart", "PLBartForConditionalGeneration", base=BART),
    seq2seq("pegasus", "PegasusForConditionalGeneration", base=BART),
    ZooCase("pegasus-x", "encoder-decoder", tiny("PegasusXForConditionalGeneration", {
        **BART, "num_global_tokens": 4, "block_size": 4, "stagger_local_blocks": True},
        lambda d: {**d.text(16, 16), "decoder_input_ids": d.ids(2, 6)}),
        {"self": 4, "co": 4, "encoder-decoder": 2}, returned=False, unseen=4, dead=1,
        recorded=r"(self_attn \(2, 4, 4, 2[04]\)|decoder.*attn$)",
        tokens={**BOTH, "model.encoder.embed_global": 4}, reads=DECODED,
        note="words read a block and the global tokens by one softmax; global tokens read all"),
    seq2seq("blenderbot", "BlenderbotForConditionalGeneration", base=BART),
    seq2seq("blenderbot-small", "BlenderbotSmallForConditionalGeneration", base=BART),
    seq2seq("marian", "MarianMTModel", base=BART),
    seq2seq("m2m100", "M2M100ForConditionalGeneration", base=BART),
    seq2seq("nllb-moe", "NllbMoeForConditionalGeneration", base=BART, num_experts=4,
            encoder_sparse_step=2, decoder_sparse_step=2, expert_capacity=16),
    seq2seq("fsmt", "FSMTForConditionalGeneration", base={
        **BART, "langs": ["en", "de"], "src_vocab_size": 99, "tgt_vocab_size": 99},
        note="heads in the batch, time first"),
    seq2seq("led", "LEDForConditionalGeneration", lambda d: {
        **d.text(16, 12), "decoder_input_ids": d.ids(2, 6)}, base=BART, attention_window=4,
        max_encoder_position_embeddings=64, max_decoder_position_embeddings=64),
    seq2seq("prophetnet", "ProphetNetForConditionalGeneration", base={
        "vocab_size": 99, "hidden_size": 32, "num_encoder_layers": 2, "num_decoder_layers": 2,
        "encoder_ffn_dim": 40, "decoder_ffn_dim": 40, "max_position_embeddings": 64,
        "num_encoder_attention_heads": 4, "num_decoder_attention_heads": 4, "ngram": 2,
        "num_buckets": 8, "relative_max_distance": 16}, nodes=(6, 2), returned=False,
        recorded="attn$", note="a main and an n-gram stream in each decoder layer",
        tokens={**BOTH, "prophetnet.decoder.ngram_embeddings": 2 * 6},
        reads="each of prophetnet.decoder.ngram_embeddings[-6:]"),
    seq2seq("bigbird-pegasus", "BigBirdPegasusForConditionalGeneration", lambda d: {
        **d.text(48, 48), "decoder_input_ids": d.ids(2, 6)}, base=BART, nodes=(18, 2), unseen=8,
        block_size=4, num_random_blocks=1, returned=False,
        recorded=r"(self \(2, 4, 4, (48|20)\)|decoder.*attn$)"),
    seq2seq("bert2bert", EncoderDecoderModel, encoder_decoder, base=PARTS),
    seq2seq("t5gemma", "T5GemmaForConditionalGeneration", base={
        "encoder": {**COMMON, "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 4,
                    "query_pre_attn_scalar": 8},
        "decoder": {**COMMON, "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 4,
                    "query_pre_attn_scalar": 8}, "vocab_size": 99}),
]  # fmt: skip
