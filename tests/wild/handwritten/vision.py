"""Image classifiers as people write them, in plain torch."""

from __future__ import annotations

import math

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


class ViT(nn.Module):
    """A ViT from scratch; how patches, attention and readout are written differs."""

    def __init__(self, patches: str, attend: str, read: str = "cls", depth: int = 2):
        super().__init__()
        self.patches, self.attend, self.read = patches, attend, read
        self.embed = nn.Conv2d(3, D, 4, 4) if patches == "conv" else nn.Linear(48, D)
        extra = {"cls": 1, "mean": 0, "distilled": 2, "registers": 3}[read]
        self.special = nn.Parameter(torch.randn(1, extra, D)) if extra else None
        self.pos = nn.Parameter(torch.randn(1, 4 + extra, D))
        self.norms = nn.ModuleList(nn.LayerNorm(D) for _ in range(depth))
        self.mlps = nn.ModuleList(Mlp() for _ in range(depth))
        if attend in ("module", "sequence first"):
            make = lambda: nn.MultiheadAttention(D, H, batch_first=attend == "module")  # noqa: E731
        else:
            make = lambda: nn.ModuleDict({"qkv": nn.Linear(D, 3 * D), "proj": nn.Linear(D, D)})  # noqa: E731
        self.attn = nn.ModuleList(make() for _ in range(depth))
        self.norm, self.head, self.head_dist = nn.LayerNorm(D), nn.Linear(D, 5), nn.Linear(D, 5)

    def tokens(self, img):
        b, c, h, w = img.shape
        if self.patches == "conv":
            return self.embed(img).flatten(2).transpose(1, 2)
        if self.patches == "rearrange":  # 'b c (h p1) (w p2) -> b (h w) (p1 p2 c)'
            x = img.reshape(b, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1)
            return self.embed(x.reshape(b, (h // 4) * (w // 4), 16 * c))
        if self.patches == "unfold":
            return self.embed(F.unfold(img, 4, stride=4).transpose(1, 2))
        if self.patches == "tensor unfold":
            x = img.unfold(2, 4, 4).unfold(3, 4, 4)  # b c h w 4 4
            return self.embed(x.permute(0, 2, 3, 1, 4, 5).reshape(b, -1, 48))
        rows = [img[:, :, i : i + 4, j : j + 4] for i in range(0, h, 4) for j in range(0, w, 4)]
        return self.embed(torch.stack([row.reshape(b, -1) for row in rows], dim=1))

    def mix(self, attn, x):
        b, n, _ = x.shape
        if self.attend == "module":
            return attn(x, x, x, need_weights=False)[0]
        if self.attend == "sequence first":
            y = x.transpose(0, 1)
            return attn(y, y, y)[0].transpose(0, 1)
        qkv = attn["qkv"](x)
        if self.attend == "timm":
            q, k, v = qkv.reshape(b, n, 3, H, D // H).permute(2, 0, 3, 1, 4).unbind(0)
            a = ((q * (D // H) ** -0.5) @ k.transpose(-2, -1)).softmax(dim=-1)
            return attn["proj"]((a @ v).transpose(1, 2).reshape(b, n, D))
        if self.attend == "einsum":
            q, k, v = (t.reshape(b, n, H, -1) for t in qkv.chunk(3, dim=-1))
            a = torch.einsum("bihd,bjhd->bhij", q, k).mul(8**-0.5).softmax(-1)
            return attn["proj"](torch.einsum("bhij,bjhd->bihd", a, v).reshape(b, n, -1))
        if self.attend == "head by head":
            out = []
            for q, k, v in zip(*(t.split(D // H, -1) for t in qkv.chunk(3, -1)), strict=True):
                out.append(torch.softmax(q @ k.transpose(1, 2) / 8**0.5, dim=2) @ v)
            return attn["proj"](torch.cat(out, dim=-1))
        q, k, v = (  # folded into the batch
            t.view(b, n, H, -1).transpose(1, 2).reshape(b * H, n, -1) for t in qkv.chunk(3, -1)
        )
        a = torch.baddbmm(torch.zeros(1), q, k.transpose(1, 2), alpha=8**-0.5).softmax(-1)
        return attn["proj"](torch.bmm(a, v).view(b, H, n, -1).transpose(1, 2).reshape(b, n, D))

    def forward(self, img):
        x = self.tokens(img)
        if self.special is not None:
            x = torch.cat((self.special.expand(len(x), -1, -1), x), dim=1)
        x = x + self.pos
        for norm, attn, mlp in zip(self.norms, self.attn, self.mlps, strict=True):
            x = x + self.mix(attn, norm(x))
            x = x + mlp(x)
        x = self.norm(x)
        if self.read == "mean":
            return self.head(x.mean(dim=1))
        if self.read == "distilled":
            return (self.head(x[:, 0]) + self.head_dist(x[:, 1])) / 2
        return self.head(x[:, 0])


def vit(name: str, patches: str, attend: str, read: str = "cls") -> Entry:
    tokens = {"cls": 5, "mean": 4, "distilled": 6, "registers": 7}[read]
    heads = 2 if attend == "head by head" else 1
    reads = {"mean": torch.full((4,), 0.25), "distilled": None}.get(read, 0)
    return Entry(
        name,
        "vision",
        made(lambda: ViT(patches, attend, read), image),
        {"self": 2 * heads},
        {"img": tokens},
        {"mean": "img[0..3]", "distilled": "img[0, 1]"}.get(read, "img[0]"),
        by_hand=plain("img", 2, reads) if reads is not None and heads == 1 else None,
    )


class Swin(nn.Module):
    """Windows of 2 x 2 of 4 x 4 patches, shifted in the second layer, then patches merged."""

    def __init__(self):
        super().__init__()
        self.embed, self.qkv = (
            nn.Conv2d(3, D, 2, 2),
            nn.ModuleList(nn.Linear(D, 3 * D) for _ in range(2)),
        )
        self.table, self.merge = nn.Parameter(torch.randn(9, H)), nn.Linear(4 * D, D)
        self.last, self.head = nn.Linear(D, 3 * D), nn.Linear(D, 5)
        grid = torch.stack(torch.meshgrid(torch.arange(2), torch.arange(2), indexing="ij")).flatten(
            1
        )
        relative = (grid[:, :, None] - grid[:, None, :]).permute(1, 2, 0) + 1
        self.register_buffer("index", relative[..., 0] * 3 + relative[..., 1])

    def attend(self, qkv, w, bias=None):
        b, n, _ = w.shape
        q, k, v = qkv(w).view(b, n, 3, H, -1).permute(2, 0, 3, 1, 4)
        a = q @ k.transpose(-2, -1) / math.sqrt(D // H)
        if bias is not None:
            a = a + bias
        return (a.softmax(-1) @ v).transpose(1, 2).reshape(b, n, -1)

    def forward(self, img):
        x = self.embed(img).permute(0, 2, 3, 1)  # (b, 4, 4, d)
        b = x.shape[0]
        bias = self.table[self.index.view(-1)].view(4, 4, H).permute(2, 0, 1)
        for i, qkv in enumerate(self.qkv):
            shifted = torch.roll(x, (-i, -i), (1, 2))
            w = shifted.view(b, 2, 2, 2, 2, D).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, D)
            w = self.attend(qkv, w, bias)
            y = w.view(b, 2, 2, 2, 2, D).permute(0, 1, 3, 2, 4, 5).reshape(b, 4, 4, D)
            x = x + torch.roll(y, (i, i), (1, 2))
        x = torch.cat([x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)], -1)
        x = self.merge(x).flatten(1, 2)
        return self.head((x + self.attend(self.last, x)).mean(1))


class Pyramid(nn.Module):
    """PVT: keys and values are a strided convolution of the map."""

    def __init__(self):
        super().__init__()
        self.embed, self.sr = nn.Conv2d(3, D, 2, 2), nn.Conv2d(D, D, 2, 2)
        self.q, self.kv, self.norm, self.head = (
            nn.Linear(D, D),
            nn.Linear(D, 2 * D),
            nn.LayerNorm(D),
            nn.Linear(D, 5),
        )

    def forward(self, img):
        x = self.embed(img)
        reduced = self.norm(self.sr(x).flatten(2).transpose(1, 2))
        x = x.flatten(2).transpose(1, 2)
        q = self.q(x).unflatten(-1, (H, -1)).transpose(1, 2)
        k, v = (t.unflatten(-1, (H, -1)).transpose(1, 2) for t in self.kv(reduced).chunk(2, -1))
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.head((x + y).mean(dim=1))


class ConvProjection(nn.Module):
    """CvT: queries, keys and values by depthwise convolutions over the map."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Conv2d(3, D, 2, 2), nn.Linear(D, 5)
        self.q, self.k, self.v = (nn.Conv2d(D, D, 3, padding=1, groups=D) for _ in range(3))

    def forward(self, img):
        x = self.embed(img)
        q, k, v = (f(x).flatten(2).transpose(1, 2) for f in (self.q, self.k, self.v))
        y = (q @ k.mT / 4).softmax(-1) @ v
        return self.head((x.flatten(2).transpose(1, 2) + y).mean(1))


class Hybrid(nn.Module):
    """A small CNN, a transformer on its map, a CLS token: tokens are the map's cells."""

    def __init__(self):
        super().__init__()
        self.cnn = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(8, D, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        )  # fmt: skip
        self.cls, self.pos = nn.Parameter(torch.zeros(1, 1, D)), nn.Parameter(torch.randn(1, 17, D))
        layer = nn.TransformerEncoderLayer(D, H, 32, batch_first=True, activation="gelu")
        self.enc, self.head = nn.TransformerEncoder(layer, 2), nn.Linear(D, 5)

    def forward(self, img):
        x = self.cnn(img).flatten(2).permute(0, 2, 1)
        x = torch.cat([self.cls.expand(x.size(0), -1, -1), x], dim=1) + self.pos
        return self.head(self.enc(x)[:, 0])


class Axial(nn.Module):
    """Attention along rows, then along columns, the other axis in the batch."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Conv2d(3, D, 2, 2), nn.Linear(D, 5)
        self.row, self.column = (nn.MultiheadAttention(D, H, batch_first=True) for _ in range(2))

    def forward(self, img):
        x = self.embed(img).permute(0, 2, 3, 1)
        b, h, w, d = x.shape
        rows = x.reshape(b * h, w, d)
        x = x + self.row(rows, rows, rows)[0].view(b, h, w, d)
        columns = x.permute(0, 2, 1, 3).reshape(b * w, h, d)
        x = x + self.column(columns, columns, columns)[0].view(b, w, h, d).transpose(1, 2)
        return self.head(x.mean((1, 2)))


CASES = [
    vit("vit-conv-timm", "conv", "timm"),
    vit("vit-rearrange-einsum", "rearrange", "einsum"),
    vit("vit-unfold-folded-heads", "unfold", "folded"),
    vit("vit-tensor-unfold-module", "tensor unfold", "module"),
    vit("vit-slices-head-by-head", "slices", "head by head"),
    vit("vit-sequence-first-mean", "conv", "sequence first", "mean"),
    vit("vit-distilled", "conv", "timm", "distilled"),
    vit("vit-registers", "rearrange", "module", "registers"),
    Entry("swin", "vision", made(Swin, image), {"self": 3}, {"img": 16}, "img[made] | img[0..15]"),
    Entry("pvt", "vision", made(Pyramid, image), {"self": 1}, {"img": 16}, "img[0..15]"),
    Entry("cvt", "vision", made(ConvProjection, image), {"self": 1}, {"img": 16}, "img[0..15]"),
    Entry(
        "cnn-transformer",
        "vision",
        made(Hybrid, lambda d: {"img": d.images(16)}),
        {"self": 2},
        {"img": 17},
        "img[0]",
        by_hand=plain("img", 2, 0),
    ),
    Entry("axial", "vision", made(Axial, image), {"self": 2}, {"img": 16}, "img[0..15]"),
]
