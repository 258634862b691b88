"""Readers, copiers, image questioners: inputs that are read against each other, in plain torch."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from tests.wild.case import Draw, Entry, Inputs, made

D, H, V = 16, 2, 30


class Mha(nn.Module):
    """An attention, a residual, a norm behind it, as MCAN and DETR have it."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(D, D) for _ in range(4))
        self.norm = nn.LayerNorm(D)

    def forward(self, x, k=None, v=None, q=None):
        k = x if k is None else k
        q, k, v = (
            f(t).view(len(t), -1, H, D // H).transpose(1, 2)
            for f, t in (
                (self.q, x if q is None else q),
                (self.k, k),
                (self.v, k if v is None else v),
            )
        )
        a = F.softmax(torch.matmul(q, k.transpose(-2, -1)) / 8**0.5, dim=-1)
        y = torch.matmul(a, v).transpose(1, 2).contiguous().view(len(x), -1, D)
        return self.norm(x + self.o(y))


class Flat(nn.Module):
    """MCAN's reduction: an MLP says for two glimpses how much each token weighs."""

    def __init__(self):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(D, D), nn.ReLU(), nn.Linear(D, 2))
        self.merge = nn.Linear(2 * D, D)

    def forward(self, x):
        a = F.softmax(self.mlp(x), dim=1)
        return self.merge(
            torch.cat([torch.sum(a[:, :, i : i + 1] * x, dim=1) for i in range(2)], dim=1)
        )


class Mcan(nn.Module):
    """Questions attend to themselves, regions to themselves and to questions; both are pooled."""

    def __init__(self):
        super().__init__()
        self.emb, self.regions = nn.Embedding(V, D), nn.Linear(10, D)
        self.sa, self.sa_image, self.sga = Mha(), Mha(), Mha()
        self.flat, self.flat_image = Flat(), Flat()
        self.norm, self.head = nn.LayerNorm(D), nn.Linear(D, 3)

    def forward(self, question, regions):
        q, v = self.sa(self.emb(question)), self.regions(regions)
        v = self.sga(self.sa_image(v), q)
        return self.head(self.norm(self.flat(q) + self.flat_image(v)))


class Stacked(nn.Module):
    """SAN: a question's mean asks the regions twice, each time with what it heard."""

    def __init__(self):
        super().__init__()
        self.emb, self.regions = nn.Embedding(V, D), nn.Linear(10, D)
        self.i, self.q, self.p = (
            nn.ModuleList(nn.Linear(D, n) for _ in range(2)) for n in (D, D, 1)
        )
        self.head = nn.Linear(D, 3)

    def forward(self, question, regions):
        u, v = self.emb(question).mean(1), self.regions(regions)
        for i, q, p in zip(self.i, self.q, self.p, strict=True):
            h = torch.tanh(i(v) + q(u).unsqueeze(1))
            a = F.softmax(p(h).squeeze(2), dim=1)
            u = u + (a.unsqueeze(2) * v).sum(1)
        return self.head(u)


class CoAttention(nn.Module):
    """QANet's: context to query, and through the query back to the context."""

    def __init__(self):
        super().__init__()
        self.emb, self.encode, self.w = nn.Embedding(V, D), Mha(), nn.Linear(D, D, bias=False)
        self.model, self.head = nn.Linear(4 * D, D), nn.Linear(D, 2)

    def forward(self, context, query):
        c, q = self.encode(self.emb(context)), self.encode(self.emb(query))
        s = torch.bmm(self.w(c), q.transpose(1, 2))
        s1, s2 = F.softmax(s, dim=2), F.softmax(s, dim=1)
        a = torch.bmm(s1, q)
        b = torch.bmm(torch.bmm(s1, s2.transpose(1, 2)), c)
        return self.head(self.model(torch.cat([c, a, c * a, c * b], dim=2)))[:, 0]


class BiDirectional(nn.Module):
    """BiDAF: every word of the context hears the query; the context's best words are summed for all."""

    def __init__(self):
        super().__init__()
        self.emb, self.encode = nn.Embedding(V, D), Mha()
        self.c, self.q, self.cq = (nn.Linear(D, 1) for _ in range(3))
        self.head = nn.Linear(4 * D, 2)

    def forward(self, context, query):
        c, q = self.encode(self.emb(context)), self.encode(self.emb(query))
        both = torch.stack(
            [self.cq(c * q[:, i].unsqueeze(1)).squeeze(2) for i in range(q.size(1))], -1
        )
        s = self.c(c).expand(-1, -1, q.size(1)) + self.q(q).permute(0, 2, 1).expand(
            -1, c.size(1), -1
        )
        s = s + both
        c2q = torch.bmm(F.softmax(s, dim=2), q)
        b = F.softmax(torch.max(s, dim=2)[0], dim=1).unsqueeze(1)
        q2c = torch.bmm(b, c).squeeze(1).unsqueeze(1).expand(-1, c.size(1), -1)
        return self.head(torch.cat([c, c2q, c * c2q, c * q2c], dim=-1))[:, 2]


class PointerGenerator(nn.Module):
    """Words of the source are copied by the weights that made the context."""

    def __init__(self):
        super().__init__()
        self.emb, self.encode, self.decode = nn.Embedding(V, D), Mha(), Mha()
        self.wh, self.ws, self.v = nn.Linear(D, D), nn.Linear(D, D), nn.Linear(D, 1, bias=False)
        self.out, self.p_gen = nn.Linear(2 * D, V), nn.Linear(2 * D, 1)

    def forward(self, source, start):
        h, s = self.encode(self.emb(source)), self.emb(start)
        scores = self.v(torch.tanh(self.wh(h).unsqueeze(1) + self.ws(s).unsqueeze(2))).squeeze(-1)
        a = scores.softmax(-1)  # b t s
        state = torch.cat([s, torch.bmm(a, h)], dim=-1)
        p = torch.sigmoid(self.p_gen(state))
        words = p * self.out(state).softmax(-1)
        return words.scatter_add(2, source.unsqueeze(1).expand(-1, s.shape[1], -1), (1 - p) * a)


class Detr(nn.Module):
    """The original: sequence first, positions added to queries and keys of every layer."""

    def __init__(self):
        super().__init__()
        self.backbone, self.project = nn.Conv2d(3, 12, 4, 4), nn.Conv2d(12, D, 1)
        self.pos, self.query_embed = nn.Parameter(torch.randn(4, 1, D)), nn.Embedding(3, D)
        self.enc = nn.MultiheadAttention(D, H)
        self.self_, self.cross = (
            nn.ModuleList(nn.MultiheadAttention(D, H) for _ in range(2)) for _ in range(2)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(D) for _ in range(6))
        self.class_embed, self.bbox_embed = nn.Linear(D, 4), nn.Linear(D, 4)

    def forward(self, img):
        src = self.project(self.backbone(img)).flatten(2).permute(2, 0, 1)
        q = k = src + self.pos
        memory = self.norms[0](src + self.enc(q, k, value=src)[0])
        query = self.query_embed.weight.unsqueeze(1).repeat(1, img.shape[0], 1)
        tgt, outs = torch.zeros_like(query), []
        for i, (own, cross) in enumerate(zip(self.self_, self.cross, strict=True)):
            q = k = tgt + query
            tgt = self.norms[1 + 2 * i](tgt + own(q, k, value=tgt)[0])
            y = cross(tgt + query, memory + self.pos, value=memory)[0]
            tgt = self.norms[2 + 2 * i](tgt + y)
            outs.append(tgt)
        hs = torch.stack(outs).transpose(1, 2)
        return {
            "pred_logits": self.class_embed(hs)[-1],
            "pred_boxes": self.bbox_embed(hs).sigmoid()[-1],
        }


class MulT(nn.Module):
    """Each of three modalities hears the two others, sequence first; the last states side by side."""

    def __init__(self):
        super().__init__()
        self.proj = nn.ModuleList(nn.Conv1d(n, D, 1, bias=False) for n in (6, 5, 7))
        self.cross = nn.ModuleList(nn.MultiheadAttention(D, H) for _ in range(6))
        self.norms = nn.ModuleList(nn.LayerNorm(D) for _ in range(6))
        self.head = nn.Linear(6 * D, 3)

    def forward(self, text, audio, video):
        t, a, v = (
            f(x.transpose(1, 2)).permute(2, 0, 1)
            for f, x in zip(self.proj, (text, audio, video), strict=True)
        )
        pairs = ((t, a), (t, v), (a, t), (a, v), (v, t), (v, a))
        hs = [
            norm(x + cross(x, y, y)[0])
            for (x, y), cross, norm in zip(pairs, self.cross, self.norms, strict=True)
        ]
        return self.head(torch.cat([h[-1] for h in hs], dim=1))


class PerceiverIO(nn.Module):
    """Latents hear a text, attend, and are asked by learned output queries."""

    def __init__(self):
        super().__init__()
        self.emb, self.pos = nn.Embedding(V, D), nn.Embedding(8, D)
        self.latents, self.queries = (
            nn.Parameter(torch.randn(4, D)),
            nn.Parameter(torch.randn(2, D)),
        )
        self.read, self.think, self.write = Mha(), Mha(), Mha()
        self.head = nn.Linear(D, 3)

    def forward(self, ids):
        x = self.emb(ids) + self.pos(torch.arange(ids.shape[1]))
        b = len(ids)
        z = self.read(self.latents.expand(b, -1, -1), x)
        z = self.think(z)
        return self.head(self.write(self.queries.expand(b, -1, -1), z))


class JointBlocks(nn.Module):
    """SD3: text and latents have weights of their own and attend together; a time modulates both."""

    def __init__(self):
        super().__init__()
        self.patch, self.emb, self.time = nn.Linear(8, D), nn.Linear(6, D), nn.Linear(1, D)
        self.qkv = nn.ModuleList(nn.Linear(D, 3 * D) for _ in range(2))
        self.mod = nn.ModuleList(nn.Linear(D, 3 * D) for _ in range(2))
        self.out = nn.ModuleList(nn.Linear(D, D) for _ in range(2))
        self.last = nn.Linear(D, 8)

    def forward(self, latents, prompt, t):
        x, c, y = self.patch(latents), self.emb(prompt), F.silu(self.time(t))
        n = c.shape[1]
        parts, gates = [], []
        for s, mod, qkv in zip((c, x), self.mod, self.qkv, strict=True):
            shift, scale, gate = mod(y).unsqueeze(1).chunk(3, dim=-1)
            parts.append(qkv(F.layer_norm(s, (D,)) * (1 + scale) + shift))
            gates.append(gate)
        q, k, v = (
            t.unflatten(-1, (H, -1)).transpose(1, 2)
            for t in torch.cat(parts, dim=1).chunk(3, dim=-1)
        )
        a = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        c = c + gates[0] * self.out[0](a[:, :n])
        x = x + gates[1] * self.out[1](a[:, n:])
        return self.last(x)


class MixtureOfDepths(nn.Module):
    """Half of the words go through the block, chosen by a router that also scales what it gives."""

    def __init__(self):
        super().__init__()
        self.emb, self.router, self.first, self.block = (
            nn.Embedding(V, D),
            nn.Linear(D, 1),
            Mha(),
            Mha(),
        )
        self.head = nn.Linear(D, 3)

    def forward(self, ids):
        x = self.first(self.emb(ids))
        weights = self.router(x).squeeze(-1)
        top, chosen = weights.topk(4, dim=1)
        chosen, order = chosen.sort(dim=1)
        top = top.gather(1, order)
        index = chosen.unsqueeze(-1).expand(-1, -1, D)
        picked = x.gather(1, index)
        done = (self.block(picked) - picked) * torch.sigmoid(top).unsqueeze(-1)
        return self.head(x.scatter_add(1, index, done).mean(1))


class Blocks(nn.Module):
    """BigBird's: each block of queries sees its own block, the first one, and its neighbour's keys."""

    def __init__(self):
        super().__init__()
        self.emb, self.qkv, self.o = nn.Embedding(V, D), nn.Linear(D, 3 * D), nn.Linear(D, D)
        self.head = nn.Linear(D, 3)
        self.register_buffer("seen", torch.tensor([[0, 1, 2], [0, 1, 2], [0, 2, 1]]))

    def forward(self, ids):
        x = self.emb(ids)
        b, n, _ = x.shape
        q, k, v = (t.view(b, n, H, -1).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        q, k, v = (t.view(b, H, 3, n // 3, -1) for t in (q, k, v))
        k, v = (t[:, :, self.seen].flatten(3, 4) for t in (k, v))
        a = torch.einsum("bhlqd,bhlkd->bhlqk", q / 8**0.5, k).softmax(-1)
        y = torch.einsum("bhlqk,bhlkd->bhlqd", a, v).reshape(b, H, n, -1)
        return self.head((x + self.o(y.transpose(1, 2).flatten(2)))[:, 0])


def two(draw: Draw) -> Inputs:
    return {"question": draw.ids(2, 5), "regions": draw.floats(2, 4, 10)}


def reading(draw: Draw) -> Inputs:
    return {"context": draw.ids(2, 6), "query": draw.ids(2, 4)}


ids6 = lambda d: {"ids": d.ids(2, 6)}  # noqa: E731
logits = lambda out: out["pred_logits"][:, 1, 2]  # noqa: E731
CASES = [
    Entry(
        "mcan",
        "readers",
        made(Mcan, two),
        {"self": 2, "encoder-decoder": 1, "pooling": 4},
        {"question": 5, "regions": 4},
        "",
        not_attention="flat",
        unseen=4,
    ),
    Entry(
        "stacked-attention",
        "readers",
        made(Stacked, two),
        {"encoder-decoder|pooling": 2},
        {"question": 5, "regions": 4},
        "",
    ),
    Entry(  # one map is the product of two softmaxes, and one of these meets no tokens by itself
        "co-attention",
        "readers",
        made(CoAttention, reading),
        {"self": 3, "encoder-decoder": 1},
        {"context": 6, "query": 4},
        "context[0]",
        unseen=2,
        not_attention=r"\(2, 6, 4\)|^ \(2, 4, 6\)",
    ),
    Entry(
        "bidaf",
        "readers",
        made(BiDirectional, reading),
        {"self": 2, "encoder-decoder": 1, "pooling": 1},
        {"context": 6, "query": 4},
        "",
        lambda out: out[:, 1],
    ),
    Entry(
        "pointer-generator",
        "readers",
        made(PointerGenerator, lambda d: {"source": d.ids(2, 6), "start": d.ids(2, 2)}),
        {"self": 1, "encoder-decoder": 1},
        {"source": 6, "start": 2},
        "",
        not_attention="30",
        target=lambda out: out[:, 1].gather(1, torch.tensor([[7], [9]])).squeeze(1),
    ),
    Entry(
        "detr-original",
        "readers",
        made(Detr, lambda d: {"img": d.images(8)}),
        {"self": 3, "encoder-decoder": 2},
        {"img": 4, "query_embed": 3},
        "query_embed[1]",
        logits,
        dead=1,
    ),
    Entry(
        "mult",
        "readers",
        made(
            MulT,
            lambda d: {
                "text": d.floats(2, 5, 6),
                "audio": d.floats(2, 4, 5),
                "video": d.floats(2, 3, 7),
            },
        ),
        {"co": 6},
        {"text": 5, "audio": 4, "video": 3},
        "text[4] and audio[3] and video[2]",
    ),
    Entry(
        "perceiver-io-text",
        "readers",
        made(PerceiverIO, ids6),
        {"self": 1, "encoder-decoder": 1, "encoder-decoder|pooling": 1},
        {"ids": 6, "latents": 4, "queries": 2},
        "queries[1]",
        lambda out: out[:, 1, 2],
    ),
    Entry(
        "joint-blocks",
        "readers",
        made(
            JointBlocks,
            lambda d: {
                "latents": d.floats(2, 4, 8),
                "prompt": d.floats(2, 3, 6),
                "t": d.floats(2, 1),
            },
        ),
        {"self": 1},
        {"latents": 4, "prompt": 3},
        "latents[2]",
        lambda out: out[:, 2, 1],
    ),
    Entry(
        "mixture-of-depths",
        "readers",
        made(MixtureOfDepths, ids6),
        {"self": 2},
        {"ids": 6},
        "ids[0..5]",
    ),
    Entry("block-sparse", "readers", made(Blocks, ids6), {"self": 1}, {"ids": 6}, "ids[0]"),
]
