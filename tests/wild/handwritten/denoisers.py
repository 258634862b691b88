"""Denoisers, videos, masked images and channel attention, in plain torch."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.wild.case import Draw, Entry, Inputs, joint, made, plain

D, H = 16, 2


def image(draw: Draw) -> Inputs:
    return {"img": draw.images(8)}


class DividedSpaceTime(nn.Module):
    """TimeSformer: time with space in the batch, then space with time in the batch."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Linear(48, D), nn.Linear(D, 5)
        self.time, self.space = (
            nn.TransformerEncoderLayer(D, H, 32, batch_first=True) for _ in range(2)
        )

    def forward(self, video):  # (b, t, c, h, w)
        b, t, c, h, w = video.shape
        x = (
            video.reshape(b, t, c, h // 4, 4, w // 4, 4)
            .permute(0, 1, 3, 5, 4, 6, 2)
            .flatten(4)
            .flatten(2, 3)
        )
        x = self.embed(x)  # b t p d
        x = self.time(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (b, -1)).transpose(1, 2)
        x = self.space(x.flatten(0, 1)).unflatten(0, (b, -1))
        return self.head(x.mean((1, 2)))


class Factorised(nn.Module):
    """ViViT model 2: each frame's CLS, then a transformer over the frames with a CLS of its own."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Conv2d(3, D, 4, 4), nn.Linear(D, 5)
        self.space_token, self.time_token = (
            nn.Parameter(torch.randn(1, 1, D)),
            nn.Parameter(torch.randn(1, 1, D)),
        )
        self.space, self.time = (
            nn.TransformerEncoderLayer(D, H, 32, batch_first=True) for _ in range(2)
        )

    def forward(self, video):
        b, t = video.shape[:2]
        x = self.embed(video.flatten(0, 1)).flatten(2).transpose(1, 2)
        x = self.space(torch.cat((self.space_token.repeat(b * t, 1, 1), x), 1))[:, 0].view(b, t, -1)
        x = torch.cat((self.time_token.repeat(b, 1, 1), x), 1)
        return self.head(self.time(x)[:, 0])


class Segmenter(nn.Module):
    """Class tokens behind the patches; the map is the product of patches and classes."""

    def __init__(self):
        super().__init__()
        self.embed, self.cls = nn.Conv2d(3, D, 4, 4), nn.Parameter(torch.randn(1, 3, D))
        self.enc = nn.TransformerEncoderLayer(D, H, 32, batch_first=True)

    def forward(self, img):
        x = self.embed(img).flatten(2).transpose(1, 2)
        x = self.enc(torch.cat((x, self.cls.expand(len(x), -1, -1)), 1))
        patches, classes = F.normalize(x[:, :4], dim=-1), F.normalize(x[:, 4:], dim=-1)
        return (patches @ classes.transpose(1, 2)).transpose(1, 2).reshape(len(x), 3, 2, 2)


class Restormer(nn.Module):
    """Attention between channels only: no token hears another but by convolutions."""

    def __init__(self):
        super().__init__()
        self.embed, self.qkv, self.out = (
            nn.Conv2d(3, D, 3, padding=1),
            nn.Conv2d(D, 3 * D, 1),
            nn.Conv2d(D, 3, 1),
        )
        self.temperature = nn.Parameter(torch.ones(H, 1, 1))

    def forward(self, img):
        x = self.embed(img)
        b, c, h, w = x.shape
        q, k, v = (t.reshape(b, H, c // H, h * w) for t in self.qkv(x).chunk(3, dim=1))
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        attn = ((q @ k.transpose(-2, -1)) * self.temperature).softmax(dim=-1)
        return self.out((attn @ v).reshape(b, c, h, w) + x).mean((2, 3))


class Xcit(nn.Module):
    """Channel attention with a temperature, then attention between patches, then both again."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Conv2d(3, D, 4, 4), nn.Linear(D, 5)
        self.qkv = nn.ModuleList(nn.Linear(D, 3 * D) for _ in range(4))
        self.temperature = nn.ParameterList(nn.Parameter(torch.ones(H, 1, 1)) for _ in range(4))

    def forward(self, img):
        x = self.embed(img).flatten(2).transpose(1, 2)
        for i, qkv in enumerate(self.qkv):
            q, k, v = (t.unflatten(-1, (H, -1)).transpose(1, 2) for t in qkv(x).chunk(3, -1))
            if i % 2:
                y = F.scaled_dot_product_attention(q, k, v)
            else:
                q, k, v = (t.transpose(-2, -1) for t in (q, k, v))
                q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
                a = (q @ k.transpose(-2, -1) * self.temperature[i]).softmax(-1)
                y = (a @ v).transpose(-2, -1)
            x = x + y.transpose(1, 2).flatten(2)
        return self.head(x.mean(1))


class Masked(nn.Module):
    """MAE: some patches are kept by index, a learned token stands for the others in the decoder."""

    def __init__(self):
        super().__init__()
        self.embed, self.mask_token = nn.Conv2d(3, D, 4, 4), nn.Parameter(torch.randn(1, 1, D))
        self.pos = nn.Parameter(torch.randn(1, 16, D))
        self.enc, self.dec = (
            nn.TransformerEncoderLayer(D, H, 32, batch_first=True) for _ in range(2)
        )
        self.out = nn.Linear(D, 48)

    def forward(self, img, ids_shuffle):
        x = self.embed(img).flatten(2).transpose(1, 2) + self.pos
        b, n, d = x.shape
        keep, restore = ids_shuffle[:, :6], torch.argsort(ids_shuffle, dim=1)
        x = self.enc(torch.gather(x, 1, keep.unsqueeze(-1).repeat(1, 1, d)))
        x = torch.cat([x, self.mask_token.repeat(b, n - 6, 1)], dim=1)
        x = torch.gather(x, 1, restore.unsqueeze(-1).repeat(1, 1, d)) + self.pos
        return self.out(self.dec(x))


class UViT(nn.Module):
    """Long skips, concatenated: the first layer's tokens join the last one's; time is a token."""

    def __init__(self):
        super().__init__()
        self.embed, self.time, self.skip = (
            nn.Conv2d(3, D, 4, 4),
            nn.Linear(8, D),
            nn.Linear(2 * D, D),
        )
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(D, H, 32, batch_first=True) for _ in range(3)
        )
        self.out = nn.Linear(D, 48)

    def forward(self, img, t):
        freqs = torch.exp(-math.log(100.0) * torch.arange(4) / 4)
        args = t[:, None].float() * freqs
        token = self.time(torch.cat([args.cos(), args.sin()], -1)).unsqueeze(1)
        x = torch.cat((token, self.embed(img).flatten(2).transpose(1, 2)), dim=1)
        first = self.layers[0](x)
        x = self.skip(torch.cat([self.layers[1](first), first], dim=-1))
        return self.out(self.layers[2](x)[:, 1:])


class DiT(nn.Module):
    """Adaptive norms: time and class shift, scale and gate all patches alike. They are no tokens."""

    def __init__(self):
        super().__init__()
        self.embed, self.label, self.time = (
            nn.Conv2d(3, D, 4, 4),
            nn.Embedding(5, D),
            nn.Linear(1, D),
        )
        self.ada = nn.ModuleList(nn.Sequential(nn.SiLU(), nn.Linear(D, 6 * D)) for _ in range(2))
        self.attn = nn.ModuleList(nn.MultiheadAttention(D, H, batch_first=True) for _ in range(2))
        self.mlp = nn.ModuleList(
            nn.Sequential(nn.Linear(D, 32), nn.GELU(), nn.Linear(32, D)) for _ in range(2)
        )
        self.norm, self.out = nn.LayerNorm(D, elementwise_affine=False), nn.Linear(D, 48)

    def forward(self, img, t, y):
        x = self.embed(img).flatten(2).transpose(1, 2)
        c = self.time(t[:, None]) + self.label(y)
        for ada, attn, mlp in zip(self.ada, self.attn, self.mlp, strict=True):
            s1, c1, g1, s2, c2, g2 = ada(c).unsqueeze(1).chunk(6, dim=-1)
            h = self.norm(x) * (1 + c1) + s1
            x = x + g1 * attn(h, h, h, need_weights=False)[0]
            x = x + g2 * mlp(self.norm(x) * (1 + c2) + s2)
        return self.out(self.norm(x))


class StableUNet(nn.Module):
    """A UNet with a text: at two sizes, pixels attend to each other and to the words."""

    class Spatial(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.n = nn.GroupNorm(4, D), nn.ModuleList(nn.LayerNorm(D) for _ in range(3))
            self.self_ = nn.MultiheadAttention(D, H, batch_first=True)
            self.cross = nn.MultiheadAttention(D, H, batch_first=True, kdim=12, vdim=12)
            self.ff = nn.Linear(D, D)

        def forward(self, x, context):
            b, c, h, w = x.shape
            y = self.norm(x).flatten(2).transpose(1, 2)
            n = self.n[0](y)
            y = y + self.self_(n, n, n, need_weights=False)[0]
            y = y + self.cross(self.n[1](y), context, context, need_weights=False)[0]
            y = y + self.ff(self.n[2](y))
            return x + y.transpose(1, 2).reshape(b, c, h, w)

    def __init__(self):
        super().__init__()
        self.inp, self.out = nn.Conv2d(4, D, 3, padding=1), nn.Conv2d(D, 4, 3, padding=1)
        self.a, self.b, self.c = self.Spatial(), self.Spatial(), self.Spatial()
        self.down, self.merge = nn.Conv2d(D, D, 3, 2, 1), nn.Conv2d(2 * D, D, 1)

    def forward(self, latents, context):
        x = self.inp(latents)
        x = self.a(x, context)
        y = self.b(self.down(x), context)
        y = F.interpolate(y, scale_factor=2, mode="nearest")
        return self.out(self.c(self.merge(torch.cat([y, x], dim=1)), context))


def mean_of(output: Tensor) -> Tensor:
    return output.flatten(1).mean(1)


VIDEO = made(DividedSpaceTime, lambda d: {"video": d.floats(2, 3, 3, 8, 8)})


CASES = [
    Entry("divided-space-time", "vision", VIDEO, {"self": 2}, {"video": 12}, "video[0..11]"),
    Entry(
        "factorised-video",
        "vision",
        made(Factorised, lambda d: {"video": d.floats(2, 3, 3, 8, 8)}),
        {"self": 2},
        {"video": 16},
        "",
    ),
    Entry(
        "segmenter",
        "vision",
        made(Segmenter, image),
        {"self": 1},
        {"img": 7},
        "img[1, 5]",
        lambda out: out[:, 1, 0, 1],
    ),
    Entry("restormer", "vision", made(Restormer, image), {}, not_attention="."),
    Entry(
        "xcit",
        "vision",
        made(Xcit, image),
        {"self": 2},
        {"img": 4},
        "img[0..3]",
        not_attention=r"\(2, 2, 8, 8\)",
    ),
    Entry(
        "mae",
        "vision",
        made(
            Masked,
            lambda d: {
                "img": d.images(16),
                "ids_shuffle": torch.stack(
                    [torch.randperm(16, generator=torch.Generator().manual_seed(i)) for i in (0, 1)]
                ),
            },
        ),
        {"self": 2},
        (),
        "",
        (3, 4),
    ),
    Entry(
        "u-vit",
        "vision",
        made(UViT, lambda d: {"img": d.images(8), "t": torch.tensor([3, 7])}),
        {"self": 3},
        {"img": 4, "t": 1},
        "img[2]",
        (2, 5),
        by_hand=joint(("t", "img"), 3, 3),
    ),
    Entry(
        "dit",
        "vision",
        made(
            DiT,
            lambda d: {
                "img": d.images(8),
                "t": torch.tensor([0.3, 0.7]),
                "y": torch.tensor([1, 3]),
            },
        ),
        {"self": 2},
        {"img": 4},
        "img[2]",
        (2, 5),
        by_hand=plain("img", 2, 2),
    ),
    Entry(
        "stable-diffusion-unet",
        "vision",
        made(
            StableUNet, lambda d: {"latents": d.floats(2, 4, 4, 4), "context": d.floats(2, 5, 12)}
        ),
        {"self": 3, "encoder-decoder": 3},
        {"latents": 16, "context": 5},
        "",
        mean_of,
    ),
]
