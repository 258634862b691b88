"""Queries that read an image, and attention in the middle of a CNN, in plain torch."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from tests.wild.case import Draw, Entry, Inputs, made, plain

D, H = 16, 2


def image(draw: Draw) -> Inputs:
    return {"img": draw.images(8)}


class Mlp(nn.Sequential):
    def __init__(self):
        super().__init__(nn.LayerNorm(D), nn.Linear(D, 32), nn.GELU(), nn.Linear(32, D))


class Detr(nn.Module):
    """The DETR demo: learned queries, row and column positions, sequence-first nn.Transformer."""

    def __init__(self):
        super().__init__()
        self.conv, self.transformer = nn.Conv2d(3, D, 4, 4), nn.Transformer(D, H, 1, 1, 32)
        self.linear_class, self.linear_bbox = nn.Linear(D, 5), nn.Linear(D, 4)
        self.query_pos = nn.Parameter(torch.rand(3, D))
        self.row_embed, self.col_embed = (nn.Parameter(torch.rand(10, D // 2)) for _ in range(2))

    def forward(self, img):
        h = self.conv(img)
        H_, W_ = h.shape[-2:]
        pos = (
            torch.cat(
                [
                    self.col_embed[:W_].unsqueeze(0).repeat(H_, 1, 1),
                    self.row_embed[:H_].unsqueeze(1).repeat(1, W_, 1),
                ],
                dim=-1,
            )
            .flatten(0, 1)
            .unsqueeze(1)
        )
        queries = self.query_pos.unsqueeze(1).repeat(1, h.shape[0], 1)
        h = self.transformer(pos + 0.1 * h.flatten(2).permute(2, 0, 1), queries).transpose(0, 1)
        return {"pred_logits": self.linear_class(h), "pred_boxes": self.linear_bbox(h).sigmoid()}


class Perceiver(nn.Module):
    """Latents read the pixels, then each other, twice; their mean is classified."""

    def __init__(self):
        super().__init__()
        self.proj, self.latents = nn.Linear(3, D), nn.Parameter(torch.randn(4, D))
        self.cross, self.self_ = (
            nn.ModuleList(nn.MultiheadAttention(D, H, batch_first=True) for _ in range(2))
            for _ in "cs"
        )
        self.norms, self.head = nn.ModuleList(nn.LayerNorm(D) for _ in range(4)), nn.Linear(D, 5)

    def forward(self, img):
        data = self.proj(img.permute(0, 2, 3, 1).flatten(1, 2))
        x = self.latents.unsqueeze(0).expand(len(img), -1, -1)
        for i, (cross, self_) in enumerate(zip(self.cross, self.self_, strict=True)):
            x = x + cross(self.norms[2 * i](x), data, data, need_weights=False)[0]
            y = self.norms[2 * i + 1](x)
            x = x + self_(y, y, y, need_weights=False)[0]
        return self.head(x.mean(dim=1))


class SlotAttention(nn.Module):
    """Slots compete: softmax over slots, then each slot's weights are normalised over the inputs."""

    def __init__(self):
        super().__init__()
        self.embed, self.slots = nn.Conv2d(3, D, 4, 4), nn.Parameter(torch.randn(1, 3, D))
        self.q, self.k, self.v = (nn.Linear(D, D, bias=False) for _ in range(3))
        self.gru, self.norm, self.head = nn.GRUCell(D, D), nn.LayerNorm(D), nn.Linear(D, 5)

    def forward(self, img):
        x = self.embed(img).flatten(2).transpose(1, 2)
        k, v, slots = self.k(x), self.v(x), self.slots.expand(len(img), -1, -1)
        for _ in range(2):
            q = self.q(self.norm(slots))
            attn = torch.einsum("bid,bjd->bij", q, k).mul(D**-0.5).softmax(dim=1) + 1e-8
            attn = attn / attn.sum(dim=-1, keepdim=True)
            updates = torch.einsum("bjd,bij->bid", v, attn)
            slots = self.gru(updates.reshape(-1, D), slots.reshape(-1, D)).reshape(slots.shape)
        return self.head(slots).max(dim=1).values


class AttentionPool(nn.Module):
    """SigLIP's head: a learned probe attends to the patches."""

    def __init__(self):
        super().__init__()
        self.embed, self.probe = nn.Conv2d(3, D, 4, 4), nn.Parameter(torch.randn(1, 1, D))
        self.enc = nn.TransformerEncoderLayer(D, H, 32, batch_first=True)
        self.attention, self.norm, self.mlp = (
            nn.MultiheadAttention(D, H, batch_first=True),
            nn.LayerNorm(D),
            Mlp(),
        )

    def forward(self, img):
        x = self.enc(self.embed(img).flatten(2).transpose(1, 2))
        x = self.attention(self.probe.repeat(len(x), 1, 1), x, x)[0]
        return (x + self.mlp(self.norm(x)))[:, 0]


class ClipPool(nn.Module):
    """CLIP ResNet's pool: the mean is prepended, and reads the map."""

    def __init__(self):
        super().__init__()
        self.conv, self.pos = nn.Conv2d(3, D, 4, 4), nn.Parameter(torch.randn(5, D))
        self.q, self.k, self.v, self.c = (
            nn.Linear(D, D),
            nn.Linear(D, D),
            nn.Linear(D, D),
            nn.Linear(D, 5),
        )

    def forward(self, img):
        x = self.conv(img).flatten(start_dim=2).permute(2, 0, 1)
        x = torch.cat([x.mean(dim=0, keepdim=True), x], dim=0) + self.pos[:, None, :]
        x, _ = F.multi_head_attention_forward(
            query=x[:1], key=x, value=x, embed_dim_to_check=D, num_heads=H,
            q_proj_weight=self.q.weight, k_proj_weight=self.k.weight, v_proj_weight=self.v.weight,
            in_proj_weight=None, in_proj_bias=torch.cat([self.q.bias, self.k.bias, self.v.bias]),
            bias_k=None, bias_v=None, add_zero_attn=False, dropout_p=0.0,
            out_proj_weight=self.c.weight, out_proj_bias=self.c.bias, use_separate_proj_weight=True,
            training=False, need_weights=False,
        )  # fmt: skip
        return x.squeeze(0)


class NonLocal(nn.Module):
    """A non-local block in a CNN, at the size of its map, and the map averaged."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, D, 3, 2, 1), nn.Linear(D, 5)
        self.theta, self.phi, self.g, self.out = (nn.Conv2d(D, D, 1) for _ in range(4))

    def forward(self, img):
        x = F.relu(self.stem(img))
        b, c, h, w = x.shape
        g = self.g(x).view(b, c, -1).permute(0, 2, 1)
        theta = self.theta(x).view(b, c, -1).permute(0, 2, 1)
        f = F.softmax(torch.matmul(theta, self.phi(x).view(b, c, -1)), dim=-1)
        y = torch.matmul(f, g).permute(0, 2, 1).contiguous().view(b, c, h, w)
        z = self.out(y) + x
        return self.head(F.adaptive_avg_pool2d(z, 1).flatten(1))


class SelfAttentionGan(nn.Module):
    """SAGAN: columns are softmaxed and the values multiplied from the left."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, D, 4, 4), nn.Linear(D, 5)
        self.f, self.g, self.h = nn.Conv1d(D, 4, 1), nn.Conv1d(D, 4, 1), nn.Conv1d(D, D, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, img):
        x = self.stem(img).flatten(2)
        beta = F.softmax(torch.bmm(self.f(x).transpose(1, 2), self.g(x)), dim=1)
        return self.head((self.gamma * torch.bmm(self.h(x), beta) + x).mean(-1))


CASES = [
    Entry(
        "detr-demo",
        "vision",
        made(Detr, image),
        {"self": 2, "encoder-decoder": 1},
        {"img": 4, "query_pos": 3},
        "query_pos[1]",
        lambda out: out["pred_logits"][:, 1, 2],
    ),
    Entry(
        "perceiver",
        "vision",
        made(Perceiver, lambda d: {"img": d.images(4)}),
        {"self": 2, "encoder-decoder": 2},
        {"img": 16, "latents": 4},
        "latents[0..3]",
    ),
    Entry(
        "slot-attention",
        "vision",
        made(SlotAttention, image),
        {"encoder-decoder": 2},
        {"img": 4, "slots": 3},
        "slots[0..2]",
        not_attention=".",
        unseen=2,
    ),
    Entry(
        "siglip-pool",
        "vision",
        made(AttentionPool, image),
        {"self": 1, "pooling": 1},
        ({"img": 4}, {"img": 4, "probe": 1}),
    ),
    Entry(
        "clip-pool", "vision", made(ClipPool, image), {"self|pooling": 1}, ({"img": 4}, {"img": 5})
    ),
    Entry(
        "non-local",
        "vision",
        made(NonLocal, image),
        {"self": 1},
        {"img": 16},
        "img[0..15]",
        by_hand=plain("img", 1, torch.full((16,), 1 / 16), lambda w, b: w[:, None]),
    ),
    Entry(
        "sagan",
        "vision",
        made(SelfAttentionGan, image),
        {"self": 1},
        {"img": 4},
        "img[0..3]",
        by_hand=plain("img", 1, torch.full((4,), 1 / 4), lambda w, b: w[:, None]),
    ),
]
