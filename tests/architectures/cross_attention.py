"""Architectures with attention between modalities: LXMERT, T5, BART, Whisper and DETR."""

import torch
from torch import nn
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    DetrConfig,
    DetrForObjectDetection,
    LxmertConfig,
    LxmertForQuestionAnswering,
    T5Config,
    T5ForConditionalGeneration,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

from tests.architectures.case import (
    QUERIES,
    Case,
    Expected,
    Inputs,
    Maps,
    Node,
    Score,
    collect,
    draw,
    per_sample,
    randomise,
    ready,
)
from tests.oracle import Oracle

BATCH = 2


# LXMERT


def lxmert_oracle(model: nn.Module, inputs: Inputs, score: Score) -> Expected:
    """Text and image each through their own layers, then x-layers: both co-attentions read the
    state before either, then text self-attention, then image self-attention. The answer is read
    from the text's CLS.
    """
    text, image = "input_ids", "visual_feats"
    encoder = model.lxmert.encoder
    at = "lxmert.encoder"
    text_layers = [f"{at}.layer.{i}.attention.self" for i in range(len(encoder.layer))]
    image_layers = [f"{at}.r_layers.{i}.attention.self" for i in range(len(encoder.r_layers))]
    x_layers = [f"{at}.x_layers.{i}" for i in range(len(encoder.x_layers))]
    crosses = [f"{x}.visual_attention.att" for x in x_layers]
    text_selfs = [f"{x}.lang_self_att.self" for x in x_layers]
    image_selfs = [f"{x}.visn_self_att.self" for x in x_layers]
    maps = Maps(
        model,
        inputs,
        score,
        [*text_layers, *image_layers, *crosses, *text_selfs, *image_selfs],
        unread=[(crosses[-1], 1), (image_selfs[-1], 0)],  # the image side of the last x-layer
    )
    samples = []
    for b in range(len(inputs[text])):
        oracle = Oracle({text: inputs[text].shape[1], image: inputs[image].shape[1]})
        for path in text_layers:
            oracle.self_attention(text, maps(path)[b])
        for path in image_layers:
            oracle.self_attention(image, maps(path)[b])
        for cross, text_self, image_self in zip(crosses, text_selfs, image_selfs, strict=True):
            oracle.bi_modal((text, image, maps(cross, 0)[b]), (image, text, maps(cross, 1)[b]))
            oracle.self_attention(text, maps(text_self)[b])
            oracle.self_attention(image, maps(image_self)[b])
        samples.append(oracle.R)
    return collect(samples, text, [0] * len(samples))


def lxmert(name: str, words: int, boxes: int, seed: int) -> Case:
    target = [3, 6]

    def make(attn_implementation: str, dtype: torch.dtype) -> tuple[nn.Module, Inputs]:
        config = LxmertConfig(
            vocab_size=40,
            hidden_size=32,
            num_attention_heads=4,
            intermediate_size=48,
            num_qa_labels=9,
            l_layers=2,
            r_layers=1,
            x_layers=2,
            visual_feat_dim=12,
            max_position_embeddings=16,
            attn_implementation=attn_implementation,
        )
        ids, normal = draw(seed)
        mask = torch.ones(BATCH, words, dtype=torch.long)
        mask[1, -2:] = 0
        inputs = {
            "input_ids": ids(1, 40, BATCH, words),
            "attention_mask": mask,
            "visual_feats": normal(BATCH, boxes, 12),
            "visual_pos": normal(BATCH, boxes, 4).sigmoid(),
        }
        return ready(randomise(LxmertForQuestionAnswering(config), seed), inputs, dtype)

    def oracle(model: nn.Module, inputs: Inputs) -> Expected:
        return lxmert_oracle(
            model, inputs, lambda output: per_sample(output.question_answering_score, target)
        )

    text, image = ("input_ids",), ("visual_feats",)
    text_self = Node("self", text, text, 4, words, words)
    image_self = Node("self", image, image, 4, boxes, boxes)
    reads_image = Node("co", text, image, 4, words, boxes)
    reads_text = Node("co", image, text, 4, boxes, words)
    last = [
        Node("co", image, text, 4, boxes, words, dead=True),
        Node("self", image, image, 4, boxes, boxes, dead=True),
    ]
    return Case(
        name,
        make,
        oracle,
        target,
        [*[text_self] * 4, *[image_self] * 2, *[reads_image] * 2, reads_text, *last],
        implementations=("eager",),
    )


# Encoder and decoder


def encoder_decoder_oracle(
    model: nn.Module,
    inputs: Inputs,
    score: Score,
    names: tuple[str, str],
    lengths: tuple[int, int],
    encoder: list[str],
    decoder: list[tuple[str, str]],
    rows: list[int],
) -> Expected:
    """Encoder layers; then, per decoder layer, self-attention and attention to the encoder's
    tokens.

    ``decoder`` holds (self-attention, cross-attention) paths per layer; ``rows`` the decoder token
    that is read.
    """
    source, query = names
    maps = Maps(model, inputs, score, [*encoder, *(path for layer in decoder for path in layer)])
    samples = []
    for b in range(len(rows)):
        oracle = Oracle(dict(zip(names, lengths, strict=True)))
        for path in encoder:
            oracle.self_attention(source, maps(path)[b])
        for self_path, cross_path in decoder:
            oracle.self_attention(query, maps(self_path)[b])
            oracle.bi_modal((query, source, maps(cross_path)[b]))
        samples.append(oracle.R)
    return collect(samples, query, rows)


def encoder_decoder_nodes(
    names: tuple[str, str], lengths: tuple[int, int], layers: tuple[int, int]
) -> list[Node]:
    source, query = (names[0],), (names[1],)
    s, q = lengths
    return [
        *[Node("self", source, source, 4, s, s)] * layers[0],
        *[Node("self", query, query, 4, q, q)] * layers[1],
        *[Node("encoder-decoder", query, source, 4, q, s)] * layers[1],
    ]


def last_token(target: list[int]) -> Score:
    """The target token's logit at the last decoder position."""
    return lambda output: per_sample(output.logits[:, -1], target)


def text_to_text_inputs(seed: int, source: int, query: int) -> Inputs:
    ids, _ = draw(seed)
    mask = torch.ones(BATCH, source, dtype=torch.long)
    mask[1, -2:] = 0
    input_ids = ids(3, 40, BATCH, source)
    return {
        "input_ids": torch.where(mask == 1, input_ids, 1),
        "attention_mask": mask,
        "decoder_input_ids": ids(3, 40, BATCH, query),
    }


def t5(seed: int = 3, source: int = 7, query: int = 4) -> Case:
    target = [11, 29]
    names, lengths = ("input_ids", "decoder_input_ids"), (source, query)

    def make(attn_implementation: str, dtype: torch.dtype) -> tuple[nn.Module, Inputs]:
        config = T5Config(
            vocab_size=40,
            d_model=32,
            d_kv=8,
            d_ff=48,
            num_layers=2,
            num_decoder_layers=2,
            num_heads=4,
            relative_attention_num_buckets=8,
            pad_token_id=1,
            decoder_start_token_id=1,
            attn_implementation=attn_implementation,
        )
        model = randomise(T5ForConditionalGeneration(config), seed, gain=1.0)
        return ready(model, text_to_text_inputs(seed, source, query), dtype)

    def oracle(model: nn.Module, inputs: Inputs) -> Expected:
        encoder = [f"encoder.block.{i}.layer.0.SelfAttention" for i in range(2)]
        decoder = [
            (
                f"decoder.block.{i}.layer.0.SelfAttention",
                f"decoder.block.{i}.layer.1.EncDecAttention",
            )
            for i in range(2)
        ]
        rows = [query - 1] * BATCH
        return encoder_decoder_oracle(
            model, inputs, last_token(target), names, lengths, encoder, decoder, rows
        )

    return Case("t5", make, oracle, target, encoder_decoder_nodes(names, lengths, (2, 2)), "logits")


def bart(name: str, source: int, query: int, seed: int) -> Case:
    target = [17, 5]
    names, lengths = ("input_ids", "decoder_input_ids"), (source, query)

    def make(attn_implementation: str, dtype: torch.dtype) -> tuple[nn.Module, Inputs]:
        config = BartConfig(
            vocab_size=40,
            d_model=32,
            max_position_embeddings=16,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=48,
            decoder_ffn_dim=48,
            attn_implementation=attn_implementation,
        )
        model = randomise(BartForConditionalGeneration(config), seed)
        return ready(model, text_to_text_inputs(seed, source, query), dtype)

    def oracle(model: nn.Module, inputs: Inputs) -> Expected:
        rows = [query - 1] * BATCH
        return encoder_decoder_oracle(
            model, inputs, last_token(target), names, lengths, *attention_paths(2, 2), rows
        )

    return Case(name, make, oracle, target, encoder_decoder_nodes(names, lengths, (2, 2)), "logits")


def attention_paths(encoder_layers: int, decoder_layers: int) -> tuple[list, list]:
    """The module paths that BART, Whisper and DETR share."""
    encoder = [f"model.encoder.layers.{i}.self_attn" for i in range(encoder_layers)]
    at = "model.decoder.layers"
    decoder = [(f"{at}.{i}.self_attn", f"{at}.{i}.encoder_attn") for i in range(decoder_layers)]
    return encoder, decoder


def whisper(seed: int = 7, frames: int = 10, query: int = 4) -> Case:
    """``frames`` audio tokens, after the convolutional stem has halved the spectrogram's length."""
    target = [23, 8]
    names, lengths = ("input_features", "decoder_input_ids"), (frames, query)

    def make(attn_implementation: str, dtype: torch.dtype) -> tuple[nn.Module, Inputs]:
        config = WhisperConfig(
            vocab_size=40,
            num_mel_bins=6,
            d_model=32,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=48,
            decoder_ffn_dim=48,
            max_source_positions=frames,
            max_target_positions=12,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            decoder_start_token_id=1,
            attn_implementation=attn_implementation,
        )
        ids, normal = draw(seed)
        inputs = {
            "input_features": normal(BATCH, 6, 2 * frames),
            "decoder_input_ids": ids(3, 40, BATCH, query),
        }
        return ready(randomise(WhisperForConditionalGeneration(config), seed), inputs, dtype)

    def oracle(model: nn.Module, inputs: Inputs) -> Expected:
        rows = [query - 1] * BATCH
        return encoder_decoder_oracle(
            model, inputs, last_token(target), names, lengths, *attention_paths(2, 2), rows
        )

    nodes = encoder_decoder_nodes(names, lengths, (2, 2))
    return Case("whisper", make, oracle, target, nodes, "logits")


def detr_oracle(
    model: nn.Module, inputs: Inputs, score: Score, rows: list[int], patches: int
) -> Expected:
    """Image tokens are the feature map's cells, row by row; ``rows`` the object queries read."""
    config = model.config
    return encoder_decoder_oracle(
        model,
        inputs,
        score,
        ("pixel_values", QUERIES),
        (patches, config.num_queries),
        *attention_paths(config.encoder_layers, config.decoder_layers),
        rows,
    )


def detr(seed: int = 18) -> Case:
    """In the first decoder layer, self-attention's values are all the same, so that a query whose
    gradient is negative in every head has an empty row: with this seed, queries 0 and 1 of the
    first sample (eq. 8's rows that sum to zero).
    """
    target = [(4, 2), (1, 5)]
    queries, patches = 6, 12

    def make(attn_implementation: str, dtype: torch.dtype) -> tuple[nn.Module, Inputs]:
        backbone = {
            "model_type": "resnet",
            "num_channels": 3,
            "embedding_size": 8,
            "hidden_sizes": [8, 16],
            "depths": [1, 1],
            "layer_type": "basic",
            "hidden_act": "relu",
            "out_features": ["stage2"],
        }
        config = DetrConfig(
            use_timm_backbone=False,
            backbone_config=backbone,
            d_model=32,
            encoder_layers=2,
            decoder_layers=3,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=48,
            decoder_ffn_dim=48,
            num_queries=queries,
            num_labels=7,
            attn_implementation={"": attn_implementation, "backbone_config": "eager"},
        )
        _, normal = draw(seed)
        inputs = {"pixel_values": normal(BATCH, 3, 24, 32)}
        return ready(randomise(DetrForObjectDetection(config), seed), inputs, dtype)

    rows, classes = (list(part) for part in zip(*target, strict=True))

    def oracle(model: nn.Module, inputs: Inputs) -> Expected:
        return detr_oracle(
            model, inputs, lambda output: per_sample(output.logits, rows, classes), rows, patches
        )

    nodes = encoder_decoder_nodes(("pixel_values", QUERIES), (patches, queries), (2, 3))
    return Case("detr", make, oracle, target, nodes, "logits")


CASES = [
    lxmert("lxmert", words=7, boxes=5, seed=1),
    lxmert("lxmert-equal-lengths", words=6, boxes=6, seed=2),
    t5(),
    bart("bart", source=8, query=5, seed=5),
    bart("bart-equal-lengths", source=6, query=6, seed=6),
    whisper(),
    detr(),
]
