"""x-transformers: one wrapper, many options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from x_transformers import (
    ContinuousTransformerWrapper,
    Decoder,
    Encoder,
    TransformerWrapper,
    ViTransformerWrapper,
)

from tests.wild.case import ByHand, Draw, Entry, Inputs, made, plain

SIZES = {"dim": 16, "depth": 2, "heads": 2, "attn_dim_head": 8}


def words(draw: Draw) -> Inputs:
    return (draw.ids(2, 8),)


def wrapped(layers: type[nn.Module], options: Mapping[str, Any], **around: Any) -> nn.Module:
    stack = layers(**{**SIZES, **options})
    return TransformerWrapper(num_tokens=30, max_seq_len=16, attn_layers=stack, **around)


def last(output: Tensor) -> Tensor:
    return output[:, -1, 1]


LAST = plain("x", 2, 7)


def decoder(
    name: str, hand: ByHand | None = LAST, *, more: Mapping[str, Any] = {}, **options: Any
) -> Entry:
    facts = {"kinds": {"self": 2}, "modalities": {"x": 8}, "readout": "x[7]", **more}
    around = {"num_memory_tokens": options.pop("memory")} if "memory" in options else {}
    build = made(lambda: wrapped(Decoder, options, **around), words)
    return Entry(f"xt-{name}", "x-transformers", build, target=last, by_hand=hand, **facts)


def encoder(
    name: str,
    kinds: Mapping[str, int],
    tokens: int,
    readout: str,
    hand: ByHand | None,
    **around: Any,
) -> Entry:
    build = made(lambda: wrapped(Encoder, {}, **around), words)
    return Entry(f"xt-{name}", "x-transformers", build, kinds, {"x": tokens}, readout, by_hand=hand)


class MaskedMean(nn.Module):
    """An encoder whose real tokens are averaged outside of it."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.head = wrapped(Encoder, {}, return_only_embed=True), nn.Linear(16, 3)

    def forward(self, x, mask):
        h = self.encoder(x, mask=mask)
        return self.head((h * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))


class Both(nn.Module):
    """Encoder and decoder, as XTransformer puts them together for its loss."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = wrapped(Encoder, {}, return_only_embed=True)
        self.decoder = wrapped(Decoder, {"cross_attend": True})

    def forward(self, src, tgt):
        return self.decoder(tgt, context=self.encoder(src))


def real(draw: Draw) -> Inputs:
    mask = torch.ones(2, 8, dtype=torch.bool)
    mask[1, 5:] = False
    return {"x": draw.ids(2, 8), "mask": mask}


UNSEEN = {"not_attention": ".", "unseen": 2}
REAL = torch.tensor([[1 / 8] * 8, [1 / 5] * 5 + [0] * 3])
STEPS = (("s", "s"), ("s", "s"), ("t", "t"), ("t", "s"), ("t", "t"), ("t", "s"))

CASES = [
    decoder("decoder"),
    decoder("rotary", rotary_pos_emb=True),
    decoder("alibi", alibi_pos_bias=True),
    decoder("t5-bias", rel_pos_bias=True),
    decoder("dynamic-bias", dynamic_pos_bias=True, dynamic_pos_bias_log_distance=False),
    decoder("grouped-query", attn_kv_heads=1),
    decoder("one-kv-head", attn_one_kv_head=True),
    decoder("qk-norm", attn_qk_norm=True),
    decoder(
        "talking-heads",
        None,
        attn_pre_talking_heads=True,
        attn_post_talking_heads=True,
        more=UNSEEN,
    ),
    decoder("gated-values", attn_gate_values=True),
    decoder("memory-keys", None, attn_num_mem_kv=2, more={"modalities": (), "readout": "x[*]"}),
    decoder("sandwich", sandwich_norm=True),
    decoder("macaron", macaron=True),
    # the last feed-forward layer is shifted, too: it reads the token before beside the last one
    decoder("token-shift", None, shift_tokens=1, more={"readout": "x[6, 7]"}),
    decoder("residual-attention", residual_attn=True),
    decoder("gru-gating", gate_residual=True),
    decoder(
        "residual-streams", None, num_residual_streams=2, more={"not_attention": r"attn_layers \("}
    ),
    decoder("memory-tokens", None, memory=2, more={"modalities": {"x": 10}, "readout": "x[9]"}),
    decoder("sparse-topk", attn_sparse_topk=2),
    decoder("value-residual", None, add_value_residual=True),
    decoder("flash", None, attn_flash=True, more=UNSEEN),
    decoder("forgetting", attn_data_dependent_alibi=True),
    decoder("soft-clamped", attn_softclamp_logits=True),
    decoder("selective", attn_selective=True),
    encoder("encoder-cls", {"self": 2}, 9, "x[0]", plain("x", 2, 0), use_cls_token=True),
    encoder(
        "encoder-mean",
        {"self": 2},
        8,
        "x[0..7]",
        plain("x", 2, torch.full((8,), 1 / 8)),
        average_pool_embed=True,
    ),
    Entry(
        "xt-encoder-masked-mean",
        "x-transformers",
        made(MaskedMean, real),
        {"self": 2},
        {"x": 8},
        ("x[0..7]", "x[0..4]"),
        by_hand=plain("x", 2, REAL),
    ),
    Entry(
        "xt-vit",
        "x-transformers",
        made(
            lambda: ViTransformerWrapper(
                image_size=32, patch_size=8, num_classes=5, attn_layers=Encoder(**SIZES)
            ),
            lambda d: (d.images(32),),
        ),
        {"self": 2},
        {"img": 16},
        "img[0..15]",
        by_hand=plain("img", 2, torch.full((16,), 1 / 16)),
    ),
    Entry(
        "xt-continuous",
        "x-transformers",
        made(
            lambda: ContinuousTransformerWrapper(
                dim_in=6, dim_out=5, max_seq_len=16, attn_layers=Decoder(**SIZES)
            ),
            lambda d: (d.floats(2, 8, 6),),
        ),
        {"self": 2},
        {"x": 8},
        "x[7]",
        last,
        by_hand=LAST,
    ),
    Entry(
        "xt-encoder-decoder",
        "x-transformers",
        made(Both, lambda d: (d.ids(2, 6), d.ids(2, 5))),
        {"self": 4, "encoder-decoder": 2},
        {"src": 6, "tgt": 5},
        "tgt[4]",
        last,
        by_hand=ByHand({"s": ("src",), "t": ("tgt",)}, STEPS, {"t": 4}),
    ),
]
