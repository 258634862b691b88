"""Vision models as people write them, in plain torch."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.wild.case import Draw, Entry, Inputs, joint, made, plain

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
        self.embed, self.qkv = nn.Conv2d(3, D, 2, 2), nn.ModuleList(nn.Linear(D, 3 * D) for _ in range(2))
        self.table, self.merge = nn.Parameter(torch.randn(9, H)), nn.Linear(4 * D, D)
        self.last, self.head = nn.Linear(D, 3 * D), nn.Linear(D, 5)
        grid = torch.stack(torch.meshgrid(torch.arange(2), torch.arange(2), indexing="ij")).flatten(1)
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
        self.q, self.kv, self.norm, self.head = nn.Linear(D, D), nn.Linear(D, 2 * D), nn.LayerNorm(D), nn.Linear(D, 5)

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
        pos = torch.cat(
            [
                self.col_embed[:W_].unsqueeze(0).repeat(H_, 1, 1),
                self.row_embed[:H_].unsqueeze(1).repeat(1, W_, 1),
            ],
            dim=-1,
        ).flatten(0, 1).unsqueeze(1)
        queries = self.query_pos.unsqueeze(1).repeat(1, h.shape[0], 1)
        h = self.transformer(pos + 0.1 * h.flatten(2).permute(2, 0, 1), queries).transpose(0, 1)
        return {"pred_logits": self.linear_class(h), "pred_boxes": self.linear_bbox(h).sigmoid()}


class Perceiver(nn.Module):
    """Latents read the pixels, then each other, twice; their mean is classified."""

    def __init__(self):
        super().__init__()
        self.proj, self.latents = nn.Linear(3, D), nn.Parameter(torch.randn(4, D))
        self.cross, self.self_ = (
            nn.ModuleList(nn.MultiheadAttention(D, H, batch_first=True) for _ in range(2)) for _ in "cs"
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
        self.attention, self.norm, self.mlp = nn.MultiheadAttention(D, H, batch_first=True), nn.LayerNorm(D), Mlp()

    def forward(self, img):
        x = self.enc(self.embed(img).flatten(2).transpose(1, 2))
        x = self.attention(self.probe.repeat(len(x), 1, 1), x, x)[0]
        return (x + self.mlp(self.norm(x)))[:, 0]


class ClipPool(nn.Module):
    """CLIP ResNet's pool: the mean is prepended, and reads the map."""

    def __init__(self):
        super().__init__()
        self.conv, self.pos = nn.Conv2d(3, D, 4, 4), nn.Parameter(torch.randn(5, D))
        self.q, self.k, self.v, self.c = nn.Linear(D, D), nn.Linear(D, D), nn.Linear(D, D), nn.Linear(D, 5)

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


class DividedSpaceTime(nn.Module):
    """TimeSformer: time with space in the batch, then space with time in the batch."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Linear(48, D), nn.Linear(D, 5)
        self.time, self.space = (nn.TransformerEncoderLayer(D, H, 32, batch_first=True) for _ in range(2))

    def forward(self, video):  # (b, t, c, h, w)
        b, t, c, h, w = video.shape
        x = video.reshape(b, t, c, h // 4, 4, w // 4, 4).permute(0, 1, 3, 5, 4, 6, 2).flatten(4).flatten(2, 3)
        x = self.embed(x)  # b t p d
        x = self.time(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (b, -1)).transpose(1, 2)
        x = self.space(x.flatten(0, 1)).unflatten(0, (b, -1))
        return self.head(x.mean((1, 2)))


class Factorised(nn.Module):
    """ViViT model 2: each frame's CLS, then a transformer over the frames with a CLS of its own."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Conv2d(3, D, 4, 4), nn.Linear(D, 5)
        self.space_token, self.time_token = nn.Parameter(torch.randn(1, 1, D)), nn.Parameter(torch.randn(1, 1, D))
        self.space, self.time = (nn.TransformerEncoderLayer(D, H, 32, batch_first=True) for _ in range(2))

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
        self.embed, self.qkv, self.out = nn.Conv2d(3, D, 3, padding=1), nn.Conv2d(D, 3 * D, 1), nn.Conv2d(D, 3, 1)
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
        self.enc, self.dec = (nn.TransformerEncoderLayer(D, H, 32, batch_first=True) for _ in range(2))
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
        self.embed, self.time, self.skip = nn.Conv2d(3, D, 4, 4), nn.Linear(8, D), nn.Linear(2 * D, D)
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(D, H, 32, batch_first=True) for _ in range(3))
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
        self.embed, self.label, self.time = nn.Conv2d(3, D, 4, 4), nn.Embedding(5, D), nn.Linear(1, D)
        self.ada = nn.ModuleList(nn.Sequential(nn.SiLU(), nn.Linear(D, 6 * D)) for _ in range(2))
        self.attn = nn.ModuleList(nn.MultiheadAttention(D, H, batch_first=True) for _ in range(2))
        self.mlp = nn.ModuleList(nn.Sequential(nn.Linear(D, 32), nn.GELU(), nn.Linear(32, D)) for _ in range(2))
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
    Entry("cnn-transformer", "vision", made(Hybrid, lambda d: {"img": d.images(16)}), {"self": 2}, {"img": 17}, "img[0]", by_hand=plain("img", 2, 0)),
    Entry(
        "detr-demo",
        "vision",
        made(Detr, image),
        {"self": 2, "encoder-decoder": 1},
        {"img": 4, "query_pos": 3},
        "query_pos[1]",
        lambda out: out["pred_logits"][:, 1, 2],
    ),
    Entry("perceiver", "vision", made(Perceiver, lambda d: {"img": d.images(4)}), {"self": 2, "encoder-decoder": 2}, {"img": 16, "latents": 4}, "latents[0..3]"),
    Entry("slot-attention", "vision", made(SlotAttention, image), {"encoder-decoder": 2}, {"img": 4, "slots": 3}, "slots[0..2]", not_attention=".", unseen=2),
    Entry("siglip-pool", "vision", made(AttentionPool, image), {"self": 1, "pooling": 1}, ({"img": 4}, {"img": 4, "probe": 1})),
    Entry("clip-pool", "vision", made(ClipPool, image), {"self|pooling": 1}, ({"img": 4}, {"img": 5})),
    Entry("non-local", "vision", made(NonLocal, image), {"self": 1}, {"img": 16}, "img[0..15]", by_hand=plain("img", 1, torch.full((16,), 1 / 16), lambda w, b: w[:, None])),
    Entry("sagan", "vision", made(SelfAttentionGan, image), {"self": 1}, {"img": 4}, "img[0..3]", by_hand=plain("img", 1, torch.full((4,), 1 / 4), lambda w, b: w[:, None])),
    Entry("axial", "vision", made(Axial, image), {"self": 2}, {"img": 16}, "img[0..15]"),
    Entry("divided-space-time", "vision", VIDEO, {"self": 2}, {"video": 12}, "video[0..11]"),
    Entry("factorised-video", "vision", made(Factorised, lambda d: {"video": d.floats(2, 3, 3, 8, 8)}), {"self": 2}, {"video": 16}, ""),
    Entry("segmenter", "vision", made(Segmenter, image), {"self": 1}, {"img": 7}, "img[1, 5]", lambda out: out[:, 1, 0, 1]),
    Entry("restormer", "vision", made(Restormer, image), {}, not_attention="."),
    Entry("xcit", "vision", made(Xcit, image), {"self": 2}, {"img": 4}, "img[0..3]", not_attention=r"\(2, 2, 8, 8\)"),
    Entry(
        "mae",
        "vision",
        made(Masked, lambda d: {"img": d.images(16), "ids_shuffle": torch.stack([torch.randperm(16, generator=torch.Generator().manual_seed(i)) for i in (0, 1)])}),
        {"self": 2},
        (),
        "",
        (3, 4),
    ),
    Entry("u-vit", "vision", made(UViT, lambda d: {"img": d.images(8), "t": torch.tensor([3, 7])}), {"self": 3}, {"img": 4, "t": 1}, "img[2]", (2, 5), by_hand=joint(("t", "img"), 3, 3)),
    Entry("dit", "vision", made(DiT, lambda d: {"img": d.images(8), "t": torch.tensor([0.3, 0.7]), "y": torch.tensor([1, 3])}), {"self": 2}, {"img": 4}, "img[2]", (2, 5), by_hand=plain("img", 2, 2)),
    Entry(
        "stable-diffusion-unet",
        "vision",
        made(StableUNet, lambda d: {"latents": d.floats(2, 4, 4, 4), "context": d.floats(2, 5, 12)}),
        {"self": 3, "encoder-decoder": 3},
        {"latents": 16, "context": 5},
        "",
        mean_of,
    ),
]
