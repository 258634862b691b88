"""Graphs, points, proteins, genomes, speech, series and pixels, in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.wild.case import Draw, Entry, Inputs, made, plain

D, H, V = 16, 2, 30


class Attend(nn.Module):
    """Pre-norm self-attention with a bias on its scores."""

    def __init__(self):
        super().__init__()
        self.norm, self.qkv, self.o = nn.LayerNorm(D), nn.Linear(D, 3 * D), nn.Linear(D, D)

    def forward(self, x, bias=0.0):
        q, k, v = (
            t.unflatten(-1, (H, -1)).transpose(1, 2) for t in self.qkv(self.norm(x)).chunk(3, -1)
        )
        a = (q @ k.mT / 8**0.5 + bias).softmax(-1)
        return x + self.o((a @ v).transpose(1, 2).flatten(2))


class Graphormer(nn.Module):
    """Atoms with their degrees, a virtual node, distances and edges as biases of the scores."""

    def __init__(self):
        super().__init__()
        self.atom, self.degree = nn.Embedding(V, D, padding_idx=0), nn.Embedding(8, D)
        self.graph_token, self.distance = nn.Embedding(1, D), nn.Embedding(8, H)
        self.virtual, self.edge = nn.Embedding(1, H), nn.Embedding(9, H)
        self.layers, self.head = nn.ModuleList(Attend() for _ in range(2)), nn.Linear(D, 3)

    def forward(self, x, degree, spatial, edges):
        b, n = x.shape[:2]
        nodes = self.atom(x).sum(dim=-2) + self.degree(degree)
        token = self.graph_token.weight.unsqueeze(0).repeat(b, 1, 1)
        h = torch.cat([token, nodes], dim=1)
        bias = torch.zeros(b, H, n + 1, n + 1)
        inner = self.distance(spatial) + self.edge(edges).mean(-2)
        bias[:, :, 1:, 1:] = bias[:, :, 1:, 1:] + inner.permute(0, 3, 1, 2)
        t = self.virtual.weight.view(1, H, 1)
        bias[:, :, 1:, 0] = bias[:, :, 1:, 0] + t
        bias[:, :, 0, :] = bias[:, :, 0, :] + t
        for layer in self.layers:
            h = layer(h, bias)
        return self.head(h[:, 0])


def molecules(draw: Draw) -> Inputs:
    return {
        "x": draw.ids(2, 5, 3),
        "degree": draw.ids(2, 5, low=0, high=8),
        "spatial": draw.ids(2, 5, 5, low=0, high=8),
        "edges": draw.ids(2, 5, 5, 2, low=0, high=9),
    }


class OffsetAttention(nn.Module):
    """PCT: weights are normalised along queries, then along keys; the offset goes through an MLP."""

    def __init__(self):
        super().__init__()
        self.inp, self.q, self.k, self.v, self.after = (
            nn.Conv1d(3, D, 1), nn.Conv1d(D, 4, 1, bias=False), nn.Conv1d(D, 4, 1, bias=False),
            nn.Conv1d(D, D, 1), nn.Conv1d(D, D, 1),
        )  # fmt: skip
        self.norm, self.head = nn.BatchNorm1d(D), nn.Linear(D, 4)

    def forward(self, points):
        x = self.inp(points.transpose(1, 2))  # b d n
        energy = torch.bmm(self.q(x).permute(0, 2, 1), self.k(x))  # b n n
        a = energy.softmax(dim=-1)
        a = a / (1e-9 + a.sum(dim=1, keepdim=True))
        y = torch.bmm(self.v(x), a)
        x = x + F.relu(self.norm(self.after(x - y)))
        return self.head(x.max(dim=-1).values)


class VectorAttention(nn.Module):
    """Point transformer: a softmax over neighbours for every feature of its own."""

    def __init__(self):
        super().__init__()
        self.inp, self.qkv, self.head = (
            nn.Linear(3, D),
            nn.Linear(D, 3 * D, bias=False),
            nn.Linear(D, 4),
        )
        self.place = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, D))
        self.mlp = nn.Sequential(nn.Linear(D, 32), nn.ReLU(), nn.Linear(32, D))

    def forward(self, points):
        x = self.inp(points)
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        apart = self.place(points[:, :, None] - points[:, None])
        sim = self.mlp(q[:, :, None] - k[:, None] + apart)
        v = v[:, None].expand(-1, x.shape[1], -1, -1) + apart
        a = sim.softmax(dim=-2)
        return self.head((x + torch.einsum("bijd,bijd->bid", a, v)).mean(1))


class TriangleAttention(nn.Module):
    """AlphaFold's pairs: around the starting node, then around the ending node, with gates."""

    class Around(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.qkv = nn.LayerNorm(D), nn.Linear(D, 3 * D, bias=False)
            self.bias, self.gate, self.o = (
                nn.Linear(D, H, bias=False),
                nn.Linear(D, D),
                nn.Linear(D, D),
            )

        def forward(self, z):  # along the second of (b, i, j, c)
            z = self.norm(z)
            q, k, v = (t.unflatten(-1, (H, -1)).transpose(-2, -3) for t in self.qkv(z).chunk(3, -1))
            bias = self.bias(z).permute(0, 3, 1, 2).unsqueeze(1)  # b 1 h q k
            a = torch.softmax(torch.matmul(q, k.transpose(-1, -2)) / 8**0.5 + bias, dim=-1)
            y = torch.matmul(a, v).transpose(-2, -3).flatten(-2)
            return self.o(torch.sigmoid(self.gate(z)) * y)

    def __init__(self):
        super().__init__()
        self.pairs, self.start, self.end = nn.Embedding(9, D), self.Around(), self.Around()
        self.head = nn.Linear(D, 3)

    def forward(self, distances):
        z = self.pairs(distances)
        z = z + self.start(z)
        z = z + self.end(z.transpose(1, 2)).transpose(1, 2)
        return self.head(z)[:, 1, 2]


class EnformerPool(nn.Module):
    """A convolutional stem; pairs of places are pooled by a softmax for each feature; attention."""

    def __init__(self):
        super().__init__()
        self.stem, self.logits = nn.Conv1d(4, D, 5, padding=2), nn.Conv2d(D, D, 1, bias=False)
        self.layers, self.head = nn.ModuleList(Attend() for _ in range(2)), nn.Linear(D, 3)

    def forward(self, genome):
        x = self.stem(genome.transpose(1, 2))
        x = x.reshape(*x.shape[:2], -1, 2)  # b d n p
        x = (x * self.logits(x).softmax(dim=-1)).sum(dim=-1).transpose(1, 2)
        for layer in self.layers:
            x = layer(x)
        return self.head(x[:, 2])


class Speech(nn.Module):
    """Convolutions over time and frequency, frames flattened, attention with lengths as a mask."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(1, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 4, 3, 2), nn.ReLU()
        )
        self.out, self.norm = nn.Linear(4 * 2, D), nn.LayerNorm(D)
        self.layers, self.head = nn.ModuleList(Attend() for _ in range(2)), nn.Linear(D, V)

    def forward(self, fbank, lengths):
        x = self.conv(fbank.unsqueeze(1))
        b, c, t, f = x.size()
        x = self.out(x.transpose(1, 2).contiguous().view(b, t, c * f)) * D**0.5
        lengths = ((lengths - 1) // 2 - 1) // 2
        mask = torch.arange(t)[None] >= lengths[:, None]
        bias = torch.zeros(mask.shape).masked_fill(mask, float("-inf"))[:, None, None]
        for layer in self.layers:
            x = layer(x, bias)
        return self.head(self.norm(x)).log_softmax(-1)


class InterpretableHeads(nn.Module):
    """Temporal fusion: heads share their values, and their outputs are averaged."""

    def __init__(self):
        super().__init__()
        self.inp, self.q, self.k, self.v = (
            nn.Linear(3, D), nn.Linear(D, D), nn.Linear(D, D), nn.Linear(D, 8)
        )  # fmt: skip
        self.o, self.gate, self.norm = nn.Linear(8, D), nn.Linear(D, 2 * D), nn.LayerNorm(D)
        self.head = nn.Linear(D, 3)

    def forward(self, series):
        x = self.inp(series)
        n = x.shape[1]
        q, k = (f(x).unflatten(-1, (H, -1)) for f in (self.q, self.k))
        v = self.v(x)
        mask = torch.ones(n, n, dtype=torch.bool).triu(1)
        heads = []
        for i in range(H):
            scores = torch.bmm(q[:, :, i], k[:, :, i].permute(0, 2, 1)) / 8**0.5
            heads.append(torch.bmm(scores.masked_fill(mask, -1e9).softmax(2), v))
        y = torch.stack(heads, dim=2).mean(dim=2)
        return self.head(self.norm(x + F.glu(self.gate(self.o(y)))))[:, -1]


class Crossformer(nn.Module):
    """Each variable attends over time; then variables, through a few learned routers a segment."""

    class Full(nn.Module):
        def __init__(self):
            super().__init__()
            self.q, self.k, self.v, self.o = (nn.Linear(D, D) for _ in range(4))

        def forward(self, q, k, v):
            q, k, v = (
                f(t).unflatten(-1, (H, -1)) for f, t in ((self.q, q), (self.k, k), (self.v, v))
            )
            a = torch.softmax(torch.einsum("blhe,bshe->bhls", q, k) / 8**0.5, dim=-1)
            return self.o(torch.einsum("bhls,bshd->blhd", a, v).flatten(-2))

    def __init__(self):
        super().__init__()
        self.embed, self.time = nn.Linear(4, D), self.Full()
        self.sender, self.receiver = self.Full(), self.Full()
        self.router, self.head = nn.Parameter(torch.randn(5, 2, D)), nn.Linear(D, 3)

    def forward(self, series):  # (b, 20, 3)
        b = len(series)
        x = self.embed(series.transpose(1, 2).unflatten(-1, (5, 4)))  # b v s d
        time = x.reshape(-1, 5, D)
        x = (time + self.time(time, time, time)).reshape(b, 3, 5, D)
        send = x.transpose(1, 2).reshape(-1, 3, D)  # (b s) v d
        router = self.router.repeat(b, 1, 1)
        buffer = self.sender(router, send, send)
        receive = send + self.receiver(send, buffer, buffer)
        return self.head(receive.reshape(b, 5, 3, D).mean((1, 2)))


class StandAlone(nn.Module):
    """Attention in place of a convolution: a pixel's keys are those around it."""

    def __init__(self):
        super().__init__()
        self.stem, self.q, self.k, self.v = (
            nn.Conv2d(3, D, 2, 2), *(nn.Conv2d(D, D, 1) for _ in range(3))
        )  # fmt: skip
        self.rel, self.head = nn.Parameter(torch.randn(D, 1, 1, 3, 3)), nn.Linear(D, 3)

    def forward(self, img):
        x = self.stem(img)
        b, c, h, w = x.shape
        padded = F.pad(x, [1, 1, 1, 1])
        q, k, v = self.q(x), self.k(padded), self.v(padded)
        k, v = (t.unfold(2, 3, 1).unfold(3, 3, 1) for t in (k, v))
        k = k + self.rel
        k, v = (t.contiguous().view(b, H, c // H, h, w, -1) for t in (k, v))
        q = q.view(b, H, c // H, h, w, 1)
        a = (q * k).sum(2, keepdim=True).softmax(dim=-1)
        out = torch.einsum("bnchwk,bnchwk->bnchw", a.expand_as(v), v).reshape(b, -1, h, w)
        return self.head((x + out).mean((2, 3)))


class Halo(nn.Module):
    """Blocks of queries; a block's keys are its pixels and a margin around them."""

    def __init__(self):
        super().__init__()
        self.stem, self.q, self.kv = nn.Conv2d(3, D, 2, 2), nn.Linear(D, D), nn.Linear(D, 2 * D)
        self.o, self.head = nn.Linear(D, D), nn.Linear(D, 3)

    def forward(self, img):
        x = self.stem(img)
        b, c, h, w = x.shape
        q = x.reshape(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 3, 5, 1).reshape(-1, 4, c)
        kv = F.unfold(x, kernel_size=4, stride=2, padding=1)
        kv = kv.reshape(b, c, 16, -1).permute(0, 3, 2, 1).reshape(-1, 16, c)
        real = F.unfold(torch.ones(1, 1, h, w), kernel_size=4, stride=2, padding=1) > 0
        real = real.permute(0, 2, 1).repeat(b, 1, 1).reshape(-1, 1, 16).repeat_interleave(H, 0)
        q, k, v = self.q(q), *self.kv(kv).chunk(2, dim=-1)
        q, k, v = (t.unflatten(-1, (H, -1)).transpose(1, 2).flatten(0, 1) for t in (q, k, v))
        sim = torch.einsum("bid,bjd->bij", q * 8**-0.5, k)
        a = sim.masked_fill(~real, -torch.finfo(sim.dtype).max).softmax(dim=-1)
        y = torch.einsum("bij,bjd->bid", a, v).unflatten(0, (-1, H)).transpose(1, 2).flatten(2)
        y = self.o(y).reshape(b, h // 2, w // 2, 2, 2, c).permute(0, 5, 1, 3, 2, 4)
        return self.head((x + y.reshape(b, c, h, w)).flatten(2)[..., 5])


class TokenLearner(nn.Module):
    """Few tokens are learned, each by its own map over all patches; then attention."""

    def __init__(self):
        super().__init__()
        self.patch, self.maps = nn.Conv2d(3, D, 2, 2), nn.Conv2d(D, 3, 1)
        self.layer, self.head = Attend(), nn.Linear(D, 3)

    def forward(self, img):
        x = self.patch(img)
        a = self.maps(x).flatten(2).softmax(-1)  # b 3 n
        x = torch.einsum("bsn,bdn->bsd", a, x.flatten(2))
        return self.head(self.layer(x).mean(1))


class StripesWithLePE(nn.Module):
    """CSWin: half of the heads attend in rows, half in columns; values are convolved, and added."""

    def __init__(self):
        super().__init__()
        self.patch, self.norm, self.qkv = (
            nn.Conv2d(3, D, 2, 2),
            nn.LayerNorm(D),
            nn.Linear(D, 3 * D),
        )
        self.local = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1, groups=8) for _ in range(2))
        self.o, self.head = nn.Linear(D, D), nn.Linear(D, 3)

    def stripes(self, qkv, local, turned):
        q, k, v = (t.transpose(1, 2) if turned else t for t in qkv)  # b h w c
        b, h, w, c = q.shape
        near = local(v.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        q, k, v = (t.reshape(b * h, 1, w, c) for t in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v).reshape(b, h, w, c) + near
        return y.transpose(1, 2) if turned else y

    def forward(self, img):
        x = self.patch(img).permute(0, 2, 3, 1)
        qkv = self.qkv(self.norm(x)).chunk(3, dim=-1)
        halves = zip(*(t.chunk(2, dim=-1) for t in qkv), strict=True)
        y = [
            self.stripes(h, f, t) for h, f, t in zip(halves, self.local, (False, True), strict=True)
        ]
        return self.head((x + self.o(torch.cat(y, dim=-1))).mean((1, 2)))


def image(draw: Draw) -> Inputs:
    return {"img": draw.images(8)}


def around(weights: Tensor, batch: int) -> Tensor:
    """A row of the pair grid after the other, as attention among all 16 pairs."""
    w = weights.reshape(batch, 4, H, 4, 4)  # b i h j k
    full = w.new_zeros(batch, H, 4, 4, 4, 4)
    for i in range(4):
        full[:, :, i, :, i] = w[:, i]
    return full.reshape(batch, H, 16, 16)


READ = torch.full((16,), 1 / 16)
CASES = [
    Entry(
        "graphormer",
        "structures",
        made(Graphormer, molecules),
        {"self": 2},
        {"x": 6},
        "x[0]",
        by_hand=plain("x", 2, 0),
    ),
    Entry(
        "offset-attention",
        "structures",
        made(OffsetAttention, lambda d: {"points": d.floats(2, 6, 3)}),
        {"self": 1},
        {"points": 6},
        "points[*]",
        unseen=1,
        not_attention=".",
    ),
    Entry(
        "vector-attention",
        "structures",
        made(VectorAttention, lambda d: {"points": d.floats(2, 6, 3)}),
        {"self": 1},
        {"points": 6},
        "points[0..5]",
    ),
    Entry(
        "triangle-attention",
        "structures",
        made(TriangleAttention, lambda d: {"distances": d.ids(2, 4, 4, low=0, high=9)}),
        {"self": 2},
        {"distances": 16},
        "distances[6]",
    ),
    Entry(
        "enformer-pool",
        "structures",
        made(EnformerPool, lambda d: {"genome": d.floats(2, 12, 4)}),
        {"self": 2, "pooling|encoder-decoder": 1},
        {"genome": 12},
        "",
    ),
    Entry(
        "speech-subsampled",
        "structures",
        made(Speech, lambda d: {"fbank": d.floats(2, 19, 11), "lengths": torch.tensor([19, 15])}),
        {"self": 2},
        {"fbank": 4},
        "fbank[2]",
        lambda out: out[:, 2, 1],
        by_hand=plain("fbank", 2, 2),
    ),
    Entry(
        "interpretable-heads",
        "structures",
        made(InterpretableHeads, lambda d: {"series": d.floats(2, 7, 3)}),
        {"self": 2},
        {"series": 7},
        "series[6]",
    ),
    Entry(
        "crossformer",
        "structures",
        made(Crossformer, lambda d: {"series": d.floats(2, 20, 3)}),
        {"self": 1, "co|encoder-decoder": 2},
        {"series": 15, "router": 10},
        "series[0..14]",
    ),
    Entry(
        "stand-alone", "structures", made(StandAlone, image), {"self": 1}, {"img": 16}, "img[0..15]"
    ),
    Entry("halo", "structures", made(Halo, image), {"self": 1}, {"img": 16}, "img[5]"),
    Entry(
        "token-learner",
        "structures",
        made(TokenLearner, image),
        {"self": 1, "pooling|encoder-decoder": 1},
        {"img": 16},
        "",
    ),
    Entry(
        "stripes-with-lepe",
        "structures",
        made(StripesWithLePE, image),
        {"self": 2},
        {"img": 16},
        "img[0..15]",
    ),
]
