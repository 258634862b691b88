"""The models that are measured: real sizes, random weights, parameters frozen, evaluation mode."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    LxmertConfig,
    LxmertForQuestionAnswering,
    ViTConfig,
    ViTForImageClassification,
)

from benchmarks.classic import EncoderDecoder, SelfAttention, TwoStreams
from benchmarks.stack import AttentionStack
from benchmarks.workload import Case, Inputs, Workload


def _frozen(kind: Callable[[object], nn.Module], config: object) -> nn.Module:
    torch.manual_seed(0)
    return kind(config).eval().requires_grad_(False)


def _written_out(model: nn.Module) -> Callable[[], nn.Module]:
    """The model's class with its weights, and attention of plain matrix products."""

    def make() -> nn.Module:
        config = type(model.config).from_dict(model.config.to_dict())
        config._attn_implementation = "eager"
        with torch.device("meta"):
            copy = type(model)(config)
        return _with_tensors_of(model, copy)

    return make


def _with_tensors_of(model: nn.Module, copy: nn.Module) -> nn.Module:
    """``copy`` with the very parameters and buffers of ``model``, so that no weight is held twice."""
    for path, module in copy.named_modules():
        own = model.get_submodule(path)
        module._parameters.update(own._parameters)
        module._buffers.update(own._buffers)
    return copy.eval()


def _ids(vocabulary: int, tokens: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(5, vocabulary, (1, tokens), generator=generator)


def _normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


SMALL = {"initializer_range": 0.4}  # at a few features, so that attention is far from uniform


def bert(tokens: int, tiny: bool) -> Workload:
    vocabulary = 40 if tiny else 30_522
    tokens = 12 if tiny else tokens
    sizes = {
        "vocab_size": 40,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        **SMALL,
    }
    config = BertConfig(**(sizes if tiny else {}))
    model = _frozen(BertForSequenceClassification, config)
    layers = range(config.num_hidden_layers)
    return Workload(
        model,
        {"input_ids": _ids(vocabulary, tokens)},
        target=1,
        score=lambda output: output.logits[:, 1],
        sources=("bert.embeddings.word_embeddings",),
        recipe=SelfAttention(
            "input_ids", [f"bert.encoder.layer.{i}.attention.self" for i in layers], row=0
        ),
        written_out=_written_out(model),
        further={"input_ids": _ids(vocabulary, tokens - 5, seed=1)},
    )


def vit(tiny: bool) -> Workload:
    sizes = {
        "image_size": 32,
        "patch_size": 8,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        **SMALL,
    }
    labels = 5 if tiny else 1_000
    config = ViTConfig(num_labels=labels, **(sizes if tiny else {}))
    model = _frozen(ViTForImageClassification, config)
    attention = "vit.layers.{}.attention"
    return Workload(
        model,
        {"pixel_values": _normal(1, 3, config.image_size, config.image_size)},
        target=3,
        score=lambda output: output.logits[:, 3],
        sources=("vit.embeddings.patch_embeddings",),
        recipe=SelfAttention(
            "pixel_values",
            [attention.format(i) for i in range(config.num_hidden_layers)],
            row=0,
        ),
        written_out=_written_out(model),
    )


def lxmert(words: int, boxes: int, tiny: bool) -> Workload:
    sizes = {
        "vocab_size": 40,
        "hidden_size": 16,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "num_qa_labels": 6,
        "l_layers": 2,
        "r_layers": 1,
        "x_layers": 2,
        "visual_feat_dim": 10,
        **SMALL,
    }
    words, boxes = (7, 5) if tiny else (words, boxes)
    config = LxmertConfig(**(sizes if tiny else {}))
    model = _frozen(LxmertForQuestionAnswering, config)

    def inputs(words: int, boxes: int) -> Inputs:
        return {
            "input_ids": _ids(config.vocab_size, words),
            "visual_feats": _normal(1, boxes, config.visual_feat_dim),
            "visual_pos": _normal(1, boxes, 4).sigmoid(),
        }

    return Workload(
        model,
        inputs(words, boxes),
        target=3,
        score=lambda output: output.question_answering_score[:, 3],
        sources=("lxmert.embeddings.word_embeddings", "visual_feats"),
        recipe=TwoStreams(
            "input_ids",
            "visual_feats",
            [f"lxmert.encoder.layer.{i}.attention.self" for i in range(config.l_layers)],
            [f"lxmert.encoder.r_layers.{i}.attention.self" for i in range(config.r_layers)],
            [f"lxmert.encoder.x_layers.{i}" for i in range(config.x_layers)],
        ),
        written_out=lambda: model,  # its attention is written out as it is
        further=inputs(words - 2, boxes - 1),
    )


def bart(source: int, query: int, tiny: bool) -> Workload:
    sizes = {
        "vocab_size": 40,
        "d_model": 16,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 24,
        "decoder_ffn_dim": 24,
        "init_std": 0.4,
    }
    base = {
        "d_model": 768,
        "encoder_layers": 6,
        "decoder_layers": 6,
        "encoder_attention_heads": 12,
        "decoder_attention_heads": 12,
        "encoder_ffn_dim": 3_072,
        "decoder_ffn_dim": 3_072,
    }
    source, query = (9, 5) if tiny else (source, query)
    config = BartConfig(**(sizes if tiny else base))
    model = _frozen(BartForConditionalGeneration, config)

    def inputs(source: int, query: int) -> Inputs:
        return {
            "input_ids": _ids(config.vocab_size, source),
            "decoder_input_ids": _ids(config.vocab_size, query, seed=1),
        }

    decoder = [f"model.decoder.layers.{i}" for i in range(config.decoder_layers)]
    return Workload(
        model,
        inputs(source, query),
        target=17,
        score=lambda output: output.logits[:, -1, 17],
        sources=("model.encoder.embed_tokens", "model.decoder.embed_tokens"),
        recipe=EncoderDecoder(
            "input_ids",
            "decoder_input_ids",
            [f"model.encoder.layers.{i}.self_attn" for i in range(config.encoder_layers)],
            [(f"{layer}.self_attn", f"{layer}.encoder_attn") for layer in decoder],
            row=query - 1,
        ),
        written_out=_written_out(model),
        further=inputs(source - 3, query - 1),
        output="logits",
    )


def llama(tokens: int, tiny: bool) -> Workload:
    """About 100 million parameters, four heads of keys to twelve of queries."""
    sizes = {
        "vocab_size": 40,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        **SMALL,
    }
    base = {
        "vocab_size": 32_000,
        "hidden_size": 768,
        "intermediate_size": 2_048,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "num_key_value_heads": 4,
        "max_position_embeddings": 8_192,
        "tie_word_embeddings": True,
    }
    tokens = 10 if tiny else tokens
    config = LlamaConfig(**(sizes if tiny else base))
    model = _frozen(LlamaForCausalLM, config)
    return Workload(
        model,
        {"input_ids": _ids(config.vocab_size, tokens)},
        target=17,
        score=lambda output: output.logits[:, -1, 17],
        sources=("model.embed_tokens",),
        recipe=SelfAttention(
            "input_ids",
            [f"model.layers.{i}.self_attn" for i in range(config.num_hidden_layers)],
            row=tokens - 1,
        ),
        written_out=_written_out(model),
        further={"input_ids": _ids(config.vocab_size, tokens - 3, seed=1)},
        output="logits",
    )


def attention_stack(tokens: int, tiny: bool) -> Workload:
    """Six layers of nothing but attention, eight heads, width 512."""
    layers, heads, width = (2, 2, 16) if tiny else (6, 8, 512)
    tokens = 14 if tiny else tokens

    def make(written_out: bool) -> nn.Module:
        return AttentionStack(layers, heads, width, classes=10, written_out=written_out)

    model = _frozen(make, False)

    def copy() -> nn.Module:
        with torch.device("meta"):
            return _with_tensors_of(model, make(True))

    return Workload(
        model,
        {"features": _normal(1, tokens, width)},
        target=3,
        score=lambda output: output[:, 3],
        sources=("features",),
        recipe=SelfAttention("features", [f"layers.{i}.attention" for i in range(layers)], row=0),
        written_out=copy,
        further={"features": _normal(1, tokens - 3, width)},
    )


def _bert_case(tokens: int) -> Case:
    return Case(
        f"BERT-base, {tokens}", tokens, 12 * 12 * tokens**2, lambda tiny: bert(tokens, tiny)
    )


def _llama_case(tokens: int) -> Case:
    return Case(
        f"Llama-like 100M, {tokens}", tokens, 12 * 12 * tokens**2, lambda tiny: llama(tokens, tiny)
    )


def _stack_case(tokens: int) -> Case:
    return Case(
        f"attention stack, {tokens}",
        tokens,
        6 * 8 * tokens**2,
        lambda tiny: attention_stack(tokens, tiny),
    )


CASES: Sequence[Case] = (
    _bert_case(128),
    _bert_case(512),
    Case("ViT-B/16", 197, 12 * 12 * 197**2, vit),
    Case(
        "LXMERT-base",
        56,
        12 * (14 * 20**2 + 10 * 36**2 + 2 * 5 * 20 * 36),
        lambda tiny: lxmert(20, 36, tiny),
    ),
    Case(
        "BART-base",
        320,
        12 * 6 * (256**2 + 64**2 + 64 * 256),
        lambda tiny: bart(256, 64, tiny),
    ),
    _llama_case(1_024),
    _llama_case(4_096),
    *(_stack_case(tokens) for tokens in (1_024, 2_048, 4_096, 8_192)),
)
BY_NAME = {case.name: case for case in CASES}
QUICK = ("BERT-base, 128", "LXMERT-base", "attention stack, 1024")
