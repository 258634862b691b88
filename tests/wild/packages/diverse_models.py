"""One or two models each of many packages; an entry is there where its package is."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from tests.wild.case import ByHand, Draw, Entry, Inputs, made, plain


def the(path: str) -> Any:
    """What is at ``module:name``, imported when a model is made."""
    module, name = path.split(":")
    return getattr(import_module(module), name)


def last(output: Tensor) -> Tensor:
    return output[:, -1, 1]


def words(length: int, name: str = "") -> Callable[[Draw], Inputs]:
    return lambda draw: {name: draw.ids(2, length)} if name else (draw.ids(2, length),)


def floats(*shape: int) -> Callable[[Draw], Inputs]:
    return lambda draw: (draw.floats(2, *shape),)


# -- Perceivers -----------------------------------------------------------------------------------

LATENT = {
    "num_latents": 4,
    "latent_dim": 16,
    "cross_heads": 1,
    "latent_heads": 2,
    "cross_dim_head": 8,
    "latent_dim_head": 8,
}


def perceiver() -> nn.Module:
    return the("perceiver_pytorch:Perceiver")(
        input_channels=3,
        input_axis=2,
        num_freq_bands=2,
        max_freq=4.0,
        depth=2,
        num_classes=5,
        **LATENT,
    )


def perceiver_io() -> nn.Module:
    return the("perceiver_pytorch:PerceiverIO")(
        dim=16, queries_dim=12, logits_dim=5, depth=1, **LATENT
    )


READ = torch.full((4,), 1 / 4)

# -- text and speech ------------------------------------------------------------------------------


def linformer() -> nn.Module:
    return the("linformer:LinformerLM")(num_tokens=30, dim=16, seq_len=8, depth=2, heads=2, k=4)


def reformer() -> nn.Module:
    return the("reformer_pytorch:ReformerLM")(
        num_tokens=30,
        dim=16,
        depth=2,
        max_seq_len=16,
        heads=2,
        bucket_size=4,
        full_attn_thres=64,
        causal=True,
    )


def local() -> nn.Module:
    return the("local_attention:LocalTransformer")(
        num_tokens=30,
        dim=16,
        depth=2,
        max_seq_len=16,
        heads=2,
        dim_head=8,
        causal=True,
        local_attn_window_size=4,
    )


def conformer() -> nn.Module:
    return the("conformer:Conformer")(
        dim=16, depth=2, dim_head=8, heads=2, ff_mult=2, conv_kernel_size=3
    )


def whisper() -> nn.Module:
    sizes = the("whisper.model:ModelDimensions")(
        n_mels=8, n_audio_ctx=6, n_audio_state=16, n_audio_head=2, n_audio_layer=2,
        n_vocab=30, n_text_ctx=8, n_text_state=16, n_text_head=2, n_text_layer=2,
    )  # fmt: skip
    model = the("whisper.model:Whisper")(sizes)
    nn.init.normal_(model.decoder.positional_embedding)  # which is whatever memory held
    return model


def torchscale() -> nn.Module:
    config = the("torchscale.architecture.config:EncoderConfig")(
        encoder_embed_dim=16, encoder_attention_heads=2, encoder_ffn_embed_dim=32, encoder_layers=2,
        vocab_size=30, no_output_layer=True,
    )  # fmt: skip
    return the("torchscale.architecture.encoder:Encoder")(config, embed_tokens=nn.Embedding(30, 16))


class Pooled(nn.Module):
    """A sentence encoder with the pooling of sentence-transformers."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.emb, self.head = nn.Embedding(30, 16), nn.Linear(16, 3)
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.enc = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.pool = the("sentence_transformers.models:Pooling")(16, pooling_mode=mode)

    def forward(self, input_ids, attention_mask):
        x = self.enc(self.emb(input_ids), src_key_padding_mask=attention_mask == 0)
        pooled = self.pool({"token_embeddings": x, "attention_mask": attention_mask})
        return self.head(pooled["sentence_embedding"])


def padded(draw: Draw) -> Inputs:
    mask = torch.ones(2, 7, dtype=torch.long)
    mask[1, 4:] = 0
    return {"input_ids": draw.ids(2, 7) * mask, "attention_mask": mask}


def pooled(mode: str, readout: Any, shares: Any) -> Entry:
    hand = None if shares is None else plain("input_ids", 2, shares)
    build = made(lambda: Pooled(mode), padded)
    return Entry(
        f"sentence-transformers-{mode}",
        "sentence_transformers",
        build,
        {"self": 2},
        {"input_ids": 7},
        readout,
        by_hand=hand,
    )


REAL = ("input_ids[0..6]", "input_ids[0..3]")
MEANS = torch.tensor([[1 / 7] * 7, [1 / 4] * 4 + [0] * 3])
RISING = torch.tensor([[i / 28 for i in range(1, 8)], [i / 10 for i in range(1, 5)] + [0] * 3])

# -- proteins, tables, series ---------------------------------------------------------------------


def esm2() -> nn.Module:
    return the("esm.model.esm2:ESM2")(
        num_layers=2, embed_dim=16, attention_heads=2, alphabet="ESM-1b"
    )


def msa_transformer() -> nn.Module:
    sizes = Namespace(
        layers=1, embed_dim=16, ffn_embed_dim=32, attention_heads=2, dropout=0.0, attention_dropout=0.0,
        activation_dropout=0.0, max_tokens_per_msa=1024, max_positions=32, embed_positions_msa=True,
        embed_positions_msa_dim=16, logit_bias=True, final_bias=True, max_tokens=64,
    )  # fmt: skip
    alphabet = the("esm.data:Alphabet").from_architecture("msa_transformer")
    return the("esm.model.msa_transformer:MSATransformer")(sizes, alphabet)


def amino(*shape: int) -> Callable[[Draw], Inputs]:
    return lambda draw: {"tokens": draw.ids(2, *shape, low=4, high=24)}


def ft_transformer() -> nn.Module:
    return the("rtdl_revisiting_models:FTTransformer")(
        n_cont_features=3, cat_cardinalities=[4, 5], d_out=2, n_blocks=2, d_block=16,
        attention_n_heads=2, attention_dropout=0.0, ffn_d_hidden_multiplier=2.0,
        ffn_dropout=0.0, residual_dropout=0.0,
    )  # fmt: skip


COLUMNS = {
    "categories": (4, 5, 6),
    "num_continuous": 4,
    "dim": 16,
    "dim_out": 3,
    "depth": 2,
    "heads": 2,
    "dim_head": 8,
}


def tab_transformer() -> nn.Module:
    return the("tab_transformer_pytorch:TabTransformer")(
        **COLUMNS, mlp_hidden_mults=(2,), mlp_act=nn.ReLU()
    )


def tab_ft() -> nn.Module:
    return the("tab_transformer_pytorch:FTTransformer")(**COLUMNS)


def columns(draw: Draw) -> Inputs:
    return (draw.ids(2, 3, low=0, high=4), draw.floats(2, 4))


def inverted() -> nn.Module:
    return the("iTransformer:iTransformer")(
        num_variates=5, lookback_len=12, dim=16, depth=2, heads=2, dim_head=8, pred_length=(3,)
    )


# -- images, videos, pairs ------------------------------------------------------------------------


def sam_encoder() -> nn.Module:
    return the("segment_anything.modeling:ImageEncoderViT")(
        img_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2, out_chans=8, window_size=2,
        global_attn_indexes=(1,), use_rel_pos=True,
    )  # fmt: skip


def sam_two_way() -> nn.Module:
    return the("segment_anything.modeling:TwoWayTransformer")(
        depth=1, embedding_dim=16, num_heads=2, mlp_dim=32
    )


def sam_inputs(draw: Draw) -> Inputs:
    return {
        "image_embedding": draw.floats(2, 16, 4, 4),
        "image_pe": draw.floats(2, 16, 4, 4),
        "point_embedding": draw.floats(2, 5, 16),
    }


def timesformer() -> nn.Module:
    return the("timesformer_pytorch:TimeSformer")(
        dim=16,
        image_size=16,
        patch_size=8,
        num_frames=3,
        num_classes=5,
        depth=1,
        heads=2,
        dim_head=8,
    )


def axial() -> nn.Module:
    return the("axial_attention:AxialImageTransformer")(
        dim=16, depth=1, heads=2, reversible=False, axial_pos_emb_shape=(4, 4)
    )


def coca() -> nn.Module:
    vit = the("vit_pytorch.simple_vit_with_patch_dropout:SimpleViT")(
        image_size=16, patch_size=8, num_classes=5, dim=16, depth=1, heads=2, mlp_dim=16
    )
    extractor = the("vit_pytorch.extractor:Extractor")(
        vit, return_embeddings_only=True, detach=False
    )
    return the("coca_pytorch.coca_pytorch:CoCa")(
        dim=16, img_encoder=extractor, image_dim=16, num_tokens=30, unimodal_depth=1,
        multimodal_depth=1, dim_head=8, heads=2, num_img_queries=3,
    )  # fmt: skip


def x_clip() -> nn.Module:
    return the("x_clip:CLIP")(
        dim_text=16, dim_image=16, dim_latent=8, num_text_tokens=30, text_enc_depth=1, text_seq_len=6,
        text_heads=2, text_dim_head=8, visual_enc_depth=1, visual_image_size=16, visual_patch_size=8,
        visual_heads=2, visual_dim_head=8, visual_patch_dropout=0.0,
    )  # fmt: skip


def text_image(draw: Draw) -> Inputs:
    return (draw.ids(2, 6), draw.images(16))


SPEECH = ByHand(
    {"a": ("mel",), "t": ("tokens",)},
    (("a", "a"), ("a", "a"), ("t", "t"), ("t", "a"), ("t", "t"), ("t", "a")),
    {"t": 4},
)
UNSEEN = {"not_attention": ".", "unseen": 2}

ALL = {
    "perceiver_pytorch": [
        Entry(
            "perceiver-pytorch",
            "perceiver_pytorch",
            made(perceiver, floats(6, 6, 3)),
            {"self": 2, "encoder-decoder": 2},
            {"data": 36, "latents": 4},
            "latents[0..3]",
            by_hand=ByHand(
                {"l": ("latents",), "d": ("data",)}, (("l", "d"), ("l", "l")) * 2, {"l": READ}
            ),
        ),
        Entry(
            "perceiver-io",
            "perceiver_pytorch",
            made(
                perceiver_io, lambda d: {"data": d.floats(2, 7, 16), "queries": d.floats(2, 3, 12)}
            ),
            {"self": 1, "encoder-decoder": 2},
            {"data": 7, "latents": 4, "queries": 3},
            "queries[1]",
            (1, 2),
        ),
    ],
    "linformer": [
        Entry(
            "linformer", "linformer", made(linformer, words(8)), {"self": 2}, {"x": 8}, "x[7]", last
        )
    ],
    "reformer_pytorch": [
        Entry(
            "reformer-full",
            "reformer_pytorch",
            made(reformer, words(16)),
            {"self": 2},
            {"x": 16},
            "x[15]",
            last,
        )
    ],
    "local_attention": [
        Entry(
            "local-transformer",
            "local_attention",
            made(local, words(16)),
            {"self": 2},
            {"x": 16},
            "x[15]",
            last,
        )
    ],
    "conformer": [
        Entry(
            "conformer-lucidrains",
            "conformer",
            made(conformer, floats(9, 16)),
            {"self": 2},
            {"x": 9},
            "",
            last,
        )
    ],
    "whisper": [
        Entry(
            "whisper-openai",
            "whisper",
            made(whisper, lambda d: {"mel": d.floats(2, 8, 12), "tokens": d.ids(2, 5)}),
            {"self": 4, "encoder-decoder": 2},
            {"mel": 6, "tokens": 5},
            "tokens[4]",
            last,
            by_hand=SPEECH,
        )
    ],
    "torchscale": [
        Entry(
            "torchscale-encoder",
            "torchscale",
            made(torchscale, words(7, "src_tokens")),
            {"self": 2},
            {"src_tokens": 7},
            "src_tokens[6]",
            lambda out: out["encoder_out"][:, -1, 1],
            by_hand=plain("src_tokens", 2, 6),
        )
    ],
    "sentence_transformers": [
        pooled("mean", REAL, MEANS),
        pooled("cls", "input_ids[0]", 0),
        pooled("max", ("input_ids[0..6]", "input_ids[0..6] | input_ids[0..3]"), None),
        pooled("lasttoken", ("input_ids[6]", "input_ids[3]"), torch.eye(7)[[6, 3]]),
        pooled("weightedmean", REAL, RISING),
        pooled("mean_sqrt_len_tokens", REAL, None),
    ],
    "esm": [
        Entry(
            "esm-2",
            "esm",
            made(esm2, amino(7)),
            {"self": 2},
            {"tokens": 7},
            "tokens[6]",
            lambda out: out["logits"][:, -1, 1],
            by_hand=plain("tokens", 2, 6),
        ),
        Entry(
            "esm-msa",
            "esm",
            made(msa_transformer, amino(3, 6)),
            {"self": 2},
            {"tokens": 18},
            "tokens[8]",
            lambda out: out["logits"][:, 1, 2, 3],
        ),
    ],
    "rtdl_revisiting_models": [
        Entry(
            "rtdl-ft-transformer",
            "rtdl_revisiting_models",
            made(
                ft_transformer,
                lambda d: {"x_cont": d.floats(2, 3), "x_cat": d.ids(2, 2, low=0, high=3)},
            ),
            {"self": 1, "self|pooling": 1},
            {"x_cont": 4, "x_cat": 2},
            "x_cont[0]",
        )
    ],
    "tab_transformer_pytorch": [
        Entry(
            "tab-transformer",
            "tab_transformer_pytorch",
            made(tab_transformer, columns),
            {"self": 2},
            ({"x_categ": 3}, {"x_categ": 3, "x_cont": 1}, {"x_categ": 3, "x_cont": 4}),
            "",
        ),
        Entry(
            "tab-ft-transformer",
            "tab_transformer_pytorch",
            made(tab_ft, columns),
            {"self": 2},
            {"x_categ": 4, "x_numer": 4},
            "x_categ[0]",
        ),
    ],
    "iTransformer": [
        Entry(
            "itransformer-lucidrains",
            "iTransformer",
            made(inverted, floats(12, 5)),
            {"self": 2},
            {"x": 9},
            "x[6]",
            lambda out: out[:, 1, 2],
            **UNSEEN,
        )
    ],
    "segment_anything": [
        Entry(
            "sam-image-encoder",
            "segment_anything",
            made(sam_encoder, lambda d: (d.images(32),)),
            {"self": 2},
            {"x": 16},
            "x[5..7, 9..11, 13..15]",  # a last convolution of 3 x 3 places around the tenth
            lambda out: out[:, 1, 2, 2],
        ),
        Entry(
            "sam-two-way",
            "segment_anything",
            made(sam_two_way, sam_inputs),
            {"self": 1, "co": 3},
            {"image_embedding": 16, "point_embedding": 5},
            "point_embedding[1]",
            lambda out: out[0][:, 1, 2],
        ),
    ],
    "timesformer_pytorch": [
        Entry(
            "timesformer-lucidrains",
            "timesformer_pytorch",
            made(timesformer, lambda d: {"video": d.floats(2, 3, 3, 16, 16)}),
            {"self": 4},
            {"video": 13},
            "video[0]",
        )
    ],
    "axial_attention": [
        Entry(
            "axial-image-transformer",
            "axial_attention",
            made(axial, floats(16, 4, 4)),
            {"self": 2},
            {"x": 16},
            "",
            lambda out: out[:, 1, 2, 3],
        )
    ],
    "coca_pytorch": [
        Entry(
            "coca-lucidrains",
            "coca_pytorch",
            made(coca, text_image),
            {"self": 3, "encoder-decoder": 2},
            {"text": 7, "images": 4, "img_queries": 4},
            "text[5]",
            last,
            dead=0,
        )
    ],
    "x_clip": [
        Entry(
            "x-clip",
            "x_clip",
            made(x_clip, text_image),
            {"self": 2},
            {"text": 7, "image": 4},
            "text[0] and image[0..3]",
            lambda out: out,
        )
    ],
}

CASES = [entry for package, cases in ALL.items() if find_spec(package) for entry in cases]
