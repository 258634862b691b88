"""Text encoders: absolute, relative, disentangled positions; sparse, pooled, hashed attention."""

from tests.zoo.case import COMMON, Draw, Inputs, ZooCase, tiny
from tests.zoo.tokens import length

LENGTHS = (11, 9)
WORDS = {"input_ids": length}
EACH, FIRST = "each of input_ids[:]", "input_ids[0]"


def padded(d: Draw) -> Inputs:
    return d.text(*LENGTHS)


def full(d: Draw) -> Inputs:
    return d.text(9, 9)


XLNET = {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 40, "vocab_size": 99}
FUNNEL = {"d_model": 32, "n_head": 4, "d_head": 8, "d_inner": 40, "vocab_size": 99}


def encoder(name, model, inputs=padded, *, nodes=2, base=COMMON, returned=True, recorded="",
            unseen=0, tokens=WORDS, reads="", note="", **config):  # fmt: skip
    """A classifier reads the first word piece unless the case says otherwise."""
    reads = reads or (FIRST if "SequenceClassification" in model else EACH)
    build = tiny(model, {**base, **config}, inputs)
    return ZooCase(name, "text", build, {"self": nodes} if nodes else {}, returned=returned,
                   recorded=recorded, unseen=unseen, tokens=tokens, reads=reads,
                   note=note)  # fmt: skip


def sixteen(d: Draw) -> Inputs:
    return d.text(16, 12)


def with_globals(d: Draw) -> Inputs:
    inputs = d.text(16, 12)
    inputs["global_attention_mask"] = inputs["attention_mask"] * 0
    inputs["global_attention_mask"][:, 0] = 1
    return inputs


def permuted(d: Draw) -> Inputs:
    """XLNet's two streams: a permutation mask and the positions to predict."""
    inputs = d.text(9, 9)
    mask = d.floats(2, 9, 9).triu(1).ne(0).float()
    target = d.floats(2, 2, 9) * 0
    target[:, 0, 3] = target[:, 1, 7] = 1.0
    return {**inputs, "perm_mask": mask, "target_mapping": target}


CASES = [
    encoder("bert", "BertForSequenceClassification"),
    encoder("bert-mlm", "BertForMaskedLM"),
    encoder("roberta", "RobertaForSequenceClassification", pad_token_id=0),
    encoder("xlm-roberta", "XLMRobertaForTokenClassification"),
    encoder("xlm-roberta-xl", "XLMRobertaXLModel"),
    encoder("roberta-prelayernorm", "RobertaPreLayerNormForSequenceClassification"),
    encoder("camembert", "CamembertForQuestionAnswering"),
    encoder("distilbert", "DistilBertForSequenceClassification", hidden_dim=40),
    encoder("albert", "AlbertForSequenceClassification", embedding_size=16, note="shared layers"),
    encoder("electra", "ElectraForSequenceClassification", embedding_size=16),
    encoder("ernie", "ErnieForSequenceClassification"),
    encoder("megatron-bert", "MegatronBertForSequenceClassification"),
    encoder("ibert", "IBertForSequenceClassification"),
    encoder("rembert", "RemBertForSequenceClassification", input_embedding_size=16),
    encoder("mobilebert", "MobileBertForSequenceClassification", embedding_size=32,
            intra_bottleneck_size=32),
    encoder("squeezebert", "SqueezeBertForSequenceClassification", returned=False,
            recorded="softmax$", embedding_size=32, note="returns its scores, not its weights"),
    encoder("mpnet", "MPNetForSequenceClassification"),
    encoder("luke", "LukeModel", lambda d: {
        **d.text(11, 7), "entity_ids": d.ids(2, 3, low=1, high=20),
        "entity_position_ids": d.ids(2, 3, 4, low=0, high=7)}, entity_vocab_size=20,
        entity_emb_size=16, tokens={"input_ids": 11, "entity_ids": 3}),
    encoder("splinter", "SplinterModel"),
    encoder("convbert", "ConvBertForSequenceClassification", nodes=4, unseen=2,
            embedding_size=32, conv_kernel_size=3,
            note="half the heads are dynamic convolutions: each position weighs 3 by itself"),
    encoder("deberta", "DebertaForSequenceClassification", relative_attention=True,
            pos_att_type=["c2p", "p2c"], max_relative_positions=16, position_biased_input=False),
    encoder("deberta-v2", "DebertaV2ForSequenceClassification", relative_attention=True,
            pos_att_type=["c2p", "p2c"], position_buckets=8, max_relative_positions=16,
            share_att_key=True, norm_rel_ebd="layer_norm", position_biased_input=False),
    encoder("xlnet", "XLNetForSequenceClassification", base=XLNET, reads="input_ids[-1]"),
    ZooCase("xlnet-two-streams", "text", tiny("XLNetLMHeadModel", XLNET, permuted),
            {"self": 2, "self|pooling|encoder-decoder": 2}, returned=False, recorded="rel_attn$",
            dead=1, tokens={"input_ids": 9, "transformer.mask_emb": 2},
            reads="each of transformer.mask_emb[:]",
            note="content and query stream in each layer; the last content is not read"),
    encoder("funnel", "FunnelModel", nodes=4, base=FUNNEL,
            block_sizes=[1, 2], num_decoder_layers=1, note="the second block pools its queries"),
    encoder("nystromformer", "NystromformerForSequenceClassification", lambda d: {
            "input_ids": d.ids(2, 16)}, nodes=4, unseen=2, returned=False,
            recorded=r"self \(2, 4, 4, 16\)", num_landmarks=4, segment_means_seq_len=16,
            conv_kernel_size=3, reads=f"{FIRST} with input_ids",
            note="to landmarks, and back by a product with a pseudo-inverse"),
    encoder("canine", "CanineModel", sixteen, nodes=5, returned=False,
            recorded="self$", downsampling_rate=4, num_hash_buckets=64, local_transformer_stride=8,
            reads="of input_ids", note="one token of four characters, and back"),
    encoder("bigbird", "BigBirdForSequenceClassification", lambda d: d.text(48, 40), nodes=16,
            unseen=8, returned=False, recorded=r"self \(2, 4, 4, (48|20)\)", block_size=4,
            num_random_blocks=1,
            note="five softmaxes a layer; the middle blocks' meets its values in four parts"),
    encoder("bigbird-full", "BigBirdForSequenceClassification", attention_type="original_full"),
    encoder("longformer", "LongformerForSequenceClassification", with_globals, nodes=6, unseen=4,
            returned=False, recorded=r"self \(8, 1, 16\)", attention_window=[4, 4],
            note="one softmax over global keys and band, in two parts, and the global queries"),
    encoder("longformer-band", "LongformerModel", lambda d: {
        **d.text(16, 12), "global_attention_mask": d.ids(2, 16, low=0, high=1)},
        attention_window=[4, 4]),
    encoder("modernbert", "ModernBertForSequenceClassification", num_hidden_layers=3,
            nodes=3, cls_token_id=1, sep_token_id=2, local_attention=4,
            global_attn_every_n_layers=3),
    encoder("nomic-bert", "NomicBertModel"),
    encoder("eurobert", "EuroBertForSequenceClassification", num_key_value_heads=2,
            reads="input_ids[:]", note="the mean of what is said of each word piece"),
    encoder("gte", "GteModel"),
    encoder("jina-v3", "JinaEmbeddingsV3Model"),
    encoder("roformer", "RoFormerForSequenceClassification", embedding_size=32),
    encoder("xlm", "XLMForSequenceClassification", emb_dim=32, n_layers=2, n_heads=4, n_langs=1),
    encoder("flaubert", "FlaubertForSequenceClassification", emb_dim=32, n_layers=2, n_heads=4,
            n_langs=1),
    encoder("xmod", "XmodModel", lambda d: {**d.text(11, 7), "lang_ids": d.ids(2, low=0, high=2)},
            languages=["a", "b"], default_language="a"),
    encoder("roc-bert", "RoCBertForSequenceClassification", lambda d: {
        **d.text(11, 7), "input_shape_ids": d.ids(2, 11), "input_pronunciation_ids": d.ids(2, 11)},
        shape_vocab_size=99, pronunciation_vocab_size=99, shape_embed_dim=8,
        pronunciation_embed_dim=8),
    encoder("reformer", "ReformerForSequenceClassification", lambda d: d.text(16, 16), nodes=2,
            attn_layers=["local", "local"], local_attn_chunk_length=4, attention_head_size=8,
            axial_pos_embds=False, feed_forward_size=40, is_decoder=False, num_buckets=4),
    encoder("reformer-lsh", "ReformerModel", lambda d: d.text(16, 16), nodes=2,
            attn_layers=["lsh", "lsh"],
            lsh_attn_chunk_length=4, attention_head_size=8, axial_pos_embds=False,
            feed_forward_size=40, is_decoder=False, num_buckets=4, hash_seed=0,
            note="normalised by exp(scores - logsumexp)"),
    encoder("esm", "EsmForSequenceClassification", position_embedding_type="rotary",
            token_dropout=True, mask_token_id=4, pad_token_id=0),
    encoder("esm-absolute", "EsmForTokenClassification", position_embedding_type="absolute",
            mask_token_id=4, pad_token_id=0),
    encoder("esmc", "EsmcForSequenceClassification", mask_token_id=4),
    encoder("fnet", "FNetForSequenceClassification", full, nodes=0, returned=False, tokens={},
            note="Fourier mixing, no attention"),
]  # fmt: skip
