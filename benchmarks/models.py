"""What is timed: randomly initialised models of real size, each with inputs and a target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
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

Inputs = dict[str, Tensor]


@dataclass(frozen=True)
class Case:
    """One line of the table.

    `target` is an index into the output's field `output`; `born` are the modules that make the tokens:
    the floor's backward pass ends at their outputs. `maps` takes the attention maps of an eager
    model's output for the classic recipe, by kind; None where the output does not hold them all.
    """

    name: str
    tokens: int
    make: Callable[[bool], tuple[nn.Module, Inputs]]
    target: tuple[int, ...]
    born: tuple[str, ...]
    maps: Callable[[Any], dict[str, Sequence[Tensor]]] | None
    output: str = "logits"
    quick: bool = True


def _self(out: Any) -> dict[str, Sequence[Tensor]]:
    return {"self": out.attentions}


def _encoder_decoder(out: Any) -> dict[str, Sequence[Tensor]]:
    return {
        "encoder": out.encoder_attentions,
        "self": out.decoder_attentions,
        "cross": out.cross_attentions,
    }


def _words(count: int, tokens: int) -> Tensor:
    return torch.randint(5, count, (1, tokens))


def bert(tokens: int, quick: bool) -> tuple[nn.Module, Inputs]:
    config = BertConfig(num_hidden_layers=4 if quick else 12)
    return BertForSequenceClassification(config), {"input_ids": _words(30_000, tokens)}


def vit(quick: bool) -> tuple[nn.Module, Inputs]:
    config = ViTConfig(num_hidden_layers=4 if quick else 12)
    return ViTForImageClassification(config), {"pixel_values": torch.randn(1, 3, 224, 224)}


def lxmert(quick: bool) -> tuple[nn.Module, Inputs]:
    layers = {"l_layers": 3, "r_layers": 2, "x_layers": 2} if quick else {}
    inputs = {
        "input_ids": _words(30_000, 20),
        "visual_feats": torch.randn(1, 36, 2048),
        "visual_pos": torch.rand(1, 36, 4),
    }
    return LxmertForQuestionAnswering(LxmertConfig(**layers)), inputs


def bart(quick: bool) -> tuple[nn.Module, Inputs]:
    layers = 2 if quick else 6
    config = BartConfig(
        d_model=768,
        encoder_layers=layers,
        decoder_layers=layers,
        encoder_attention_heads=12,
        decoder_attention_heads=12,
        encoder_ffn_dim=3072,
        decoder_ffn_dim=3072,
    )
    inputs = {"input_ids": _words(50_000, 256), "decoder_input_ids": _words(50_000, 64)}
    return BartForConditionalGeneration(config), inputs


def llama(tokens: int, quick: bool) -> tuple[nn.Module, Inputs]:
    config = LlamaConfig(
        hidden_size=768,
        intermediate_size=2048,
        num_hidden_layers=4 if quick else 12,
        num_attention_heads=12,
        num_key_value_heads=4,
        vocab_size=16_000,
        max_position_embeddings=8192,
        use_cache=False,
    )
    return LlamaForCausalLM(config), {"input_ids": _words(16_000, tokens)}


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.eager = heads, False
        self.norm, self.qkv = nn.LayerNorm(width), nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        q, k, v = (
            t.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for t in self.qkv(self.norm(x)).chunk(3, -1)
        )
        weights = None
        if self.eager:
            weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)
            attended = weights @ v
        else:
            attended = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(attended.transpose(1, 2).flatten(-2)), weights


@dataclass
class StackOutput:
    logits: Tensor
    attentions: tuple[Tensor, ...]


class Stack(nn.Module):
    """Attention and nothing else: where its cost shows most."""

    def __init__(self, layers: int, width: int = 512, heads: int = 8) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(1000, width), nn.Linear(width, 10)
        self.layers = nn.ModuleList(Attention(width, heads) for _ in range(layers))

    def set_attn_implementation(self, name: str) -> None:
        for layer in self.layers:
            layer.eager = name == "eager"

    def forward(self, input_ids: Tensor, output_attentions: bool = False) -> Any:
        x, seen = self.embed(input_ids), []
        for layer in self.layers:
            x, weights = layer(x)
            seen.append(weights)
        logits = self.head(x[:, 0])
        return StackOutput(logits, tuple(seen)) if output_attentions else {"logits": logits}


def stack(tokens: int, quick: bool) -> tuple[nn.Module, Inputs]:
    return Stack(3 if quick else 6), {"input_ids": _words(1000, tokens)}


CASES = [
    Case("BERT", 128, partial(bert, 128), (0,), ("bert.embeddings",), _self),
    Case("BERT", 512, partial(bert, 512), (0,), ("bert.embeddings",), _self),
    Case("ViT-B/16", 197, vit, (0,), ("vit.embeddings",), _self),
    Case(
        "LXMERT",
        56,
        lxmert,
        (0,),
        ("lxmert.embeddings", "lxmert.encoder.visn_fc"),
        None,
        output="question_answering_score",
    ),
    Case(
        "BART-base",
        320,
        bart,
        (63, 0),
        ("model.encoder.embed_tokens", "model.decoder.embed_tokens"),
        _encoder_decoder,
    ),
    Case("Llama-like", 1024, partial(llama, 1024), (1023, 0), ("model.embed_tokens",), _self),
    Case(
        "Llama-like",
        4096,
        partial(llama, 4096),
        (4095, 0),
        ("model.embed_tokens",),
        _self,
        quick=False,
    ),
    *(
        Case("attention", n, partial(stack, n), (0,), ("embed",), _self, quick=n in (512, 2048))
        for n in (512, 1024, 2048, 4096, 8192)
    ),
]
