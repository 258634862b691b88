"""Architectures with self-attention alone: BERT, ViT, VisualBERT, CLIP, GPT-2 and Llama."""

import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    CLIPConfig,
    CLIPModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    VisualBertConfig,
    VisualBertForQuestionAnswering,
    ViTConfig,
    ViTForImageClassification,
)

from tests.architectures.case import (
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


def stack_oracle(
    model: nn.Module, inputs: Inputs, score: Score, modality: str, paths: list[str], rows: list[int]
) -> Expected:
    """One sequence through its self-attention layers, read at token ``rows[b]``."""
    maps = Maps(model, inputs, score, paths)
    samples = []
    for b in range(len(rows)):
        oracle = Oracle({modality: maps(paths[0]).shape[1]})
        for path in paths:
            oracle.self_attention(modality, maps(path)[b])
        samples.append(oracle.R)
    return collect(samples, modality, rows)


def stack_nodes(modality: str, tokens: int, layers: int) -> list[Node]:
    return [Node("self", (modality,), (modality,), 4, tokens, tokens)] * layers


def padded(seed: int, tokens: int, padding: int = 2) -> Inputs:
    """Word pieces of two samples, the second padded at its end."""
    ids, _ = draw(seed)
    mask = torch.ones(BATCH, tokens, dtype=torch.long)
    mask[1, tokens - padding :] = 0
    input_ids = torch.where(mask == 1, ids(3, 40, BATCH, tokens), 0)
    return {"input_ids": input_ids, "attention_mask": mask}


# Classifiers read from a CLS


def bert(seed: int = 11, tokens: int = 8) -> Case:
    target = [2, 0]

    def make(attn_implementation: str, dtype: torch.dtype) -> tuple[nn.Module, Inputs]:
        config = BertConfig(
            vocab_size=40,
            hidden_size=32,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=48,
            max_position_embeddings=16,
            num_labels=3,
            attn_implementation=attn_implementation,
        )
        return ready(
            randomise(BertForSequenceClassification(config), seed), padded(seed, tokens), dtype
        )

    def oracle(model: nn.Module, inputs: Inputs) -> Expected:
        paths = [f"bert.encoder.layer.{i}.attention.self" for i in range(3)]
        return stack_oracle(
            model,
            inputs,
            lambda output: per_sample(output.logits, target),
            "input_ids",
            paths,
            [0, 0],
        )

    return Case("bert", make, oracle, target, stack_nodes("input_ids", tokens, 3))


def vit_oracle(model: nn.Module, inputs: Inputs, score: Score) -> Expected:
    """CLS first, then the patches, row by row."""
    paths = [f"vit.layers.{i}.attention" for i in range(model.config.num_hidden_layers)]
    return stack_oracle(
        model, inputs, score, "pixel_values", paths, [0] * len(inputs["pixel_values"])
    )


def vit(seed: int = 12) -> Case:
    target = [4, 1]

    def make(attn_implementation: str, dtype: torch.dtype) -> tuple[nn.Module, Inputs]:
        config = ViTConfig(
            image_size=24,
            patch_size=8,
            hidden_size=32,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=48,
            num_labels=5,
            attn_implementation=attn_implementation,
        )
        _, normal = draw(seed)
        inputs = {"pixel_values": normal(BATCH, 3, 24, 24)}
        return ready(randomise(ViTForImageClassification(config), seed), inputs, dtype)

    def oracle(model: nn.Module, inputs: Inputs) -> Expected:
        return vit_oracle(model, inputs, lambda output: per_sample(output.logits, target))

    return Case("vit", make, oracle, target, stack_nodes("pixel_values", 10, 3))


# Words and boxes in one sequence


def visual_bert(seed: int = 13, words: int = 7, boxes: int = 4) -> Case:
    """The answer is read from the last word before the separator: padding moves the readout."""
    target = [6, 3]
    text, image = "input_ids", "visual_embeds"

    def make(attn_implementation: str, dtype: torch.dtype) -> tuple[nn.Module, Inputs]:
        config = VisualBertConfig(
            vocab_size=40,
            hidden_size=32,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=48,
            max_position_embeddings=16,
            visual_embedding_dim=12,
            num_labels=8,
            attn_implementation=attn_implementation,
        )
        _, normal = draw(seed)
        inputs = {
            **padded(seed, words),
            "visual_embeds": normal(BATCH, boxes, 12),
            "visual_attention_mask": torch.ones(BATCH, boxes, dtype=torch.long),
        }
        return ready(randomise(VisualBertForQuestionAnswering(config), seed), inputs, dtype)

    def oracle(model: nn.Module, inputs: Inputs) -> Expected:
        paths = [f"visual_bert.encoder.layer.{i}.attention.self" for i in range(3)]
        rows = (inputs["attention_mask"].sum(1) - 2).tolist()
        joint = stack_oracle(
            model, inputs, lambda output: per_sample(output.logits, target), "joint", paths, rows
        )
        spans = {text: slice(0, words), image: slice(words, words + boxes)}
        R = joint.matrices["joint", "joint"]
        return Expected(
            {q: joint.relevance["joint"][:, spans[q]] for q in spans},
            {(s, q): R[:, spans[s], spans[q]] for s in spans for q in spans},
            {q: joint.start["joint"][:, spans[q]] for q in spans},
        )

    both = (text, image)
    node = Node("self", both, both, 4, words + boxes, words + boxes)
    return Case("visual_bert", make, oracle, target, [node] * 3, implementations=("eager",))


# Two towers


def clip(seed: int = 14, tokens: int = 6) -> Case:
    """Each image's similarity to its own text: the image's CLS and the text's end are read."""
    target = [0, 1]
    end_of_text = 39

    def make(attn_implementation: str, dtype: torch.dtype) -> tuple[nn.Module, Inputs]:
        tower = {
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_attention_heads": 4,
            "projection_dim": 16,
        }
        config = CLIPConfig(
            text_config={
                **tower,
                "vocab_size": 40,
                "num_hidden_layers": 2,
                "max_position_embeddings": 10,
                "bos_token_id": 1,
                "eos_token_id": end_of_text,
                "pad_token_id": 0,
            },
            vision_config={**tower, "num_hidden_layers": 3, "image_size": 24, "patch_size": 8},
            projection_dim=16,
            attn_implementation=attn_implementation,
        )
        _, normal = draw(seed)
        inputs = {**padded(seed, tokens), "pixel_values": normal(BATCH, 3, 24, 24)}
        inputs["input_ids"][inputs["input_ids"] == end_of_text] -= 1
        for b, end in enumerate(inputs["attention_mask"].sum(1) - 1):
            inputs["input_ids"][b, end] = end_of_text
        return ready(randomise(CLIPModel(config), seed), inputs, dtype)

    def oracle(model: nn.Module, inputs: Inputs) -> Expected:
        def score(output: object) -> torch.Tensor:
            return per_sample(output.logits_per_image, target)

        image_paths = [f"vision_model.encoder.layers.{i}.self_attn" for i in range(3)]
        text_paths = [f"text_model.encoder.layers.{i}.self_attn" for i in range(2)]
        ends = (inputs["attention_mask"].sum(1) - 1).tolist()
        image = stack_oracle(model, inputs, score, "pixel_values", image_paths, [0, 0])
        text = stack_oracle(model, inputs, score, "input_ids", text_paths, ends)
        return Expected(
            image.relevance | text.relevance,
            image.matrices | text.matrices,
            image.start | text.start,
        )

    return Case(
        "clip",
        make,
        oracle,
        target,
        stack_nodes("pixel_values", 10, 3) + stack_nodes("input_ids", tokens, 2),
        output="logits_per_image",
        alone=lambda _target, _sample: [0],  # the image's own text is the only column then
    )


# Causal language models


def causal_oracle(
    model: nn.Module, inputs: Inputs, target: list[int], paths: list[str]
) -> Expected:
    """The target token's logit at each sample's last real position."""
    last = (inputs["attention_mask"].sum(1) - 1).tolist()
    return stack_oracle(
        model,
        inputs,
        lambda output: per_sample(output.logits, last, target),
        "input_ids",
        paths,
        last,
    )


def gpt2(seed: int = 15, tokens: int = 7) -> Case:
    target = [21, 9]

    def make(attn_implementation: str, dtype: torch.dtype) -> tuple[nn.Module, Inputs]:
        config = GPT2Config(
            vocab_size=40,
            n_positions=16,
            n_embd=32,
            n_layer=3,
            n_head=4,
            bos_token_id=1,
            eos_token_id=2,
            attn_implementation=attn_implementation,
        )
        return ready(randomise(GPT2LMHeadModel(config), seed), padded(seed, tokens), dtype)

    def oracle(model: nn.Module, inputs: Inputs) -> Expected:
        return causal_oracle(model, inputs, target, [f"transformer.h.{i}.attn" for i in range(3)])

    return Case("gpt2", make, oracle, target, stack_nodes("input_ids", tokens, 3), "logits")


def llama(seed: int = 16, tokens: int = 7) -> Case:
    """Grouped queries: four heads share two key-value heads."""
    target = [30, 14]

    def make(attn_implementation: str, dtype: torch.dtype) -> tuple[nn.Module, Inputs]:
        config = LlamaConfig(
            vocab_size=40,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=16,
            attn_implementation=attn_implementation,
        )
        inputs = padded(seed, tokens, padding=1)
        return ready(randomise(LlamaForCausalLM(config), seed), inputs, dtype)

    def oracle(model: nn.Module, inputs: Inputs) -> Expected:
        return causal_oracle(
            model, inputs, target, [f"model.layers.{i}.self_attn" for i in range(3)]
        )

    return Case("llama", make, oracle, target, stack_nodes("input_ids", tokens, 3), "logits")


CASES = [bert(), vit(), visual_bert(), clip(), gpt2(), llama()]
