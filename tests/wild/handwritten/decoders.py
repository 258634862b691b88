"""Language models as people write them, in plain torch."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.wild.case import Draw, Entry, Inputs, made, plain

D, H, V = 16, 2, 30


class MinGPT(nn.Module):
    """Karpathy's: a causal buffer, masked_fill with -inf, one c_attn for all."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.ln_1, self.ln_2 = nn.LayerNorm(D), nn.LayerNorm(D)
            self.c_attn, self.c_proj = nn.Linear(D, 3 * D), nn.Linear(D, D)
            self.register_buffer("bias", torch.tril(torch.ones(12, 12)).view(1, 1, 12, 12))
            self.mlp = nn.Sequential(nn.Linear(D, 4 * D), nn.GELU(), nn.Linear(4 * D, D))

        def attn(self, x):
            B, T, C = x.size()
            q, k, v = self.c_attn(x).split(C, dim=2)
            q, k, v = (t.view(B, T, H, C // H).transpose(1, 2) for t in (q, k, v))
            att = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
            att = att.masked_fill(self.bias[:, :, :T, :T] == 0, float("-inf"))
            y = F.softmax(att, dim=-1) @ v
            return self.c_proj(y.transpose(1, 2).contiguous().view(B, T, C))

        def forward(self, x):
            x = x + self.attn(self.ln_1(x))
            return x + self.mlp(self.ln_2(x))

    def __init__(self):
        super().__init__()
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(V, D),
                "wpe": nn.Embedding(12, D),
                "h": nn.ModuleList(self.Block() for _ in range(2)),
                "ln_f": nn.LayerNorm(D),
            }
        )
        self.lm_head = nn.Linear(D, V, bias=False)

    def forward(self, idx):
        pos = torch.arange(0, idx.size(1), dtype=torch.long, device=idx.device).unsqueeze(0)
        x = self.transformer.wte(idx) + self.transformer.wpe(pos)
        for block in self.transformer.h:
            x = block(x)
        return self.lm_head(self.transformer.ln_f(x))


class NanoGPT(nn.Module):
    """Fused attention, tied embeddings, and the last position only."""

    def __init__(self):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(V, D), nn.Embedding(12, D)
        self.attn = nn.ModuleList(nn.Linear(D, 3 * D, bias=False) for _ in range(2))
        self.proj = nn.ModuleList(nn.Linear(D, D, bias=False) for _ in range(2))
        self.norm = nn.ModuleList(nn.LayerNorm(D) for _ in range(2))
        self.lm_head = nn.Linear(D, V, bias=False)
        self.wte.weight = self.lm_head.weight

    def forward(self, idx):
        b, t = idx.shape
        x = self.wte(idx) + self.wpe(torch.arange(t))
        for attn, proj, norm in zip(self.attn, self.proj, self.norm, strict=True):
            q, k, v = attn(norm(x)).view(b, t, 3, H, D // H).permute(2, 0, 3, 1, 4).unbind(0)
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + proj(y.transpose(1, 2).reshape(b, t, D))
        return self.lm_head(x[:, [-1], :])


def last(output: Tensor) -> Tensor:
    return output[:, -1, 1]


class Rotary(nn.Module):
    """Llama's own code: complex rotations, RMS norms, SwiGLU, repeated keys."""

    def __init__(self, complex_: bool, kv_heads: int = 1):
        super().__init__()
        self.tok, self.complex, self.kv = nn.Embedding(V, D), complex_, kv_heads
        size = D // H
        self.wq, self.wo = (
            nn.ModuleList(nn.Linear(D, D, bias=False) for _ in range(2)) for _ in "qo"
        )
        self.wk, self.wv = (
            nn.ModuleList(nn.Linear(D, size * kv_heads, bias=False) for _ in range(2)) for _ in "kv"
        )
        self.norm = nn.ParameterList(nn.Parameter(torch.ones(D)) for _ in range(5))
        self.w1, self.w2, self.w3 = (
            nn.ModuleList(nn.Linear(*s, bias=False) for _ in range(2))
            for s in ((D, 32), (32, D), (D, 32))
        )
        freqs = 1.0 / (100.0 ** (torch.arange(0, size, 2).float() / size))
        angles = torch.outer(torch.arange(12).float(), freqs)
        self.register_buffer("cis", torch.polar(torch.ones_like(angles), angles), persistent=False)
        self.register_buffer("angles", torch.cat((angles, angles), -1), persistent=False)
        self.out = nn.Linear(D, V, bias=False)

    def rms(self, x, w):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * w

    def rotate(self, x):  # (b, s, h, d)
        if self.complex:
            x_ = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
            return torch.view_as_real(x_ * self.cis[None, : x.shape[1], None]).flatten(3).type_as(x)
        cos, sin = (f(self.angles[: x.shape[1]])[None, :, None] for f in (torch.cos, torch.sin))
        x1, x2 = x[..., : x.shape[-1] // 2], x[..., x.shape[-1] // 2 :]
        return x * cos + torch.cat((-x2, x1), dim=-1) * sin

    def forward(self, tokens):
        b, s = tokens.shape
        h = self.tok(tokens)
        mask = torch.full((s, s), float("-inf")).triu(1)
        for i in range(2):
            x = self.rms(h, self.norm[2 * i])
            xq = self.rotate(self.wq[i](x).view(b, s, H, -1))
            xk = self.rotate(self.wk[i](x).view(b, s, self.kv, -1))
            xv = self.wv[i](x).view(b, s, self.kv, -1)
            n = H // self.kv
            keys, values = (
                t[:, :, :, None, :].expand(b, s, self.kv, n, D // H).reshape(b, s, H, D // H)
                for t in (xk, xv)
            )
            q, k, v = (t.transpose(1, 2) for t in (xq, keys, values))
            scores = torch.matmul(q, k.transpose(2, 3)) / math.sqrt(D // H) + mask
            a = F.softmax(scores.float(), dim=-1).type_as(q)
            h = h + self.wo[i](torch.matmul(a, v).transpose(1, 2).contiguous().view(b, s, -1))
            x = self.rms(h, self.norm[2 * i + 1])
            h = h + self.w2[i](F.silu(self.w1[i](x)) * self.w3[i](x))
        return self.out(self.rms(h, self.norm[4]))


class MultiQuery(nn.Module):
    """One key head, or groups of query heads, by einsum: keys are never repeated."""

    def __init__(self, groups: int):
        super().__init__()
        self.emb, self.groups = nn.Embedding(V, D), groups
        size = D // 4
        self.q = nn.ModuleList(nn.Linear(D, D) for _ in range(2))
        self.kv = nn.ModuleList(nn.Linear(D, 2 * size * groups) for _ in range(2))
        self.o = nn.ModuleList(nn.Linear(D, D) for _ in range(2))
        self.head = nn.Linear(D, V)

    def forward(self, ids):
        b, n = ids.shape
        x = self.emb(ids)
        mask = torch.ones(n, n, dtype=torch.bool).triu(1)
        for to_q, to_kv, to_o in zip(self.q, self.kv, self.o, strict=True):
            k, v = to_kv(x).chunk(2, -1)
            if self.groups == 1:
                q = to_q(x).view(b, n, 4, -1)
                sim = torch.einsum("bihd,bjd->bhij", q, k) * 0.5
                attn = sim.masked_fill(mask, -torch.finfo(sim.dtype).max).softmax(-1)
                out = torch.einsum("bhij,bjd->bihd", attn, v)
            else:
                q = to_q(x).view(b, n, self.groups, 4 // self.groups, -1)
                k, v = (t.view(b, n, self.groups, -1) for t in (k, v))
                sim = torch.einsum("bigrd,bjgd->bgrij", q, k) * 0.5
                attn = sim.masked_fill(mask, -torch.finfo(sim.dtype).max).softmax(-1)
                out = torch.einsum("bgrij,bjgd->bigrd", attn, v)
            x = x + to_o(out.reshape(b, n, -1))
        return self.head(x)


class PaLM(nn.Module):
    """Parallel blocks: attention and feed-forward from one fused projection, multi-query keys."""

    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(V, D)
        self.norms = nn.ModuleList(nn.LayerNorm(D) for _ in range(2))
        self.fused = nn.ModuleList(nn.Linear(D, D + 4 + 4 + 64, bias=False) for _ in range(2))
        self.attn_out = nn.ModuleList(nn.Linear(D, D, bias=False) for _ in range(2))
        self.ff_out = nn.ModuleList(nn.Linear(32, D, bias=False) for _ in range(2))

    def forward(self, ids):
        x = self.emb(ids)
        n = x.shape[1]
        for norm, fused, attn_out, ff_out in zip(
            self.norms, self.fused, self.attn_out, self.ff_out, strict=True
        ):
            q, k, v, ff = fused(norm(x)).split((D, 4, 4, 64), dim=-1)
            q = q.unflatten(-1, (4, 4)).transpose(1, 2) * 4**-0.5
            sim = torch.einsum("b h i d, b j d -> b h i j", q, k)
            causal = torch.ones((n, n), dtype=torch.bool).triu(1)
            attn = sim.masked_fill(causal, -torch.finfo(sim.dtype).max).softmax(dim=-1)
            out = torch.einsum("b h i j, b j d -> b h i d", attn, v).transpose(1, 2).flatten(2)
            a, gate = ff.chunk(2, dim=-1)
            x = x + attn_out(out) + ff_out(F.silu(gate) * a)
        return F.linear(x, self.emb.weight)


class Alibi(nn.Module):
    """Linear biases on the distance, no position embedding."""

    def __init__(self):
        super().__init__()
        self.emb, self.layers, self.head = nn.Embedding(V, D), nn.ModuleList(), nn.Linear(D, V)
        for _ in range(2):
            self.layers.append(nn.ModuleDict({n: nn.Linear(D, D) for n in "qkvo"}))
        self.register_buffer("slopes", torch.tensor([2 ** (-8 * (i + 1) / H) for i in range(H)]))

    def forward(self, ids):
        x, n = self.emb(ids), ids.shape[1]
        distance = torch.arange(n)[None, :] - torch.arange(n)[:, None]
        bias = self.slopes[:, None, None] * distance
        bias = bias.masked_fill(distance > 0, float("-inf"))
        for layer in self.layers:
            q, k, v = (layer[c](x).unflatten(-1, (H, -1)).transpose(1, 2) for c in "qkv")
            weights = torch.softmax(q @ k.mT / math.sqrt(D // H) + bias, dim=-1)
            x = x + layer["o"]((weights @ v).transpose(1, 2).flatten(2))
        return self.head(x)


class MusicTransformer(nn.Module):
    """Relative positions by the skewing trick of Huang et al. (2018)."""

    def __init__(self):
        super().__init__()
        self.emb, self.head = nn.Embedding(V, D), nn.Linear(D, V)
        self.qkv = nn.ModuleList(nn.Linear(D, 3 * D) for _ in range(2))
        self.Er = nn.ParameterList(nn.Parameter(torch.randn(12, D // H)) for _ in range(2))

    def skew(self, QEr):
        padded = F.pad(QEr, (1, 0))
        b, h, r, c = padded.shape
        return padded.reshape(b, h, c, r)[:, :, 1:, :]

    def forward(self, notes):
        x, n = self.emb(notes), notes.shape[1]
        for qkv, Er in zip(self.qkv, self.Er, strict=True):
            q, k, v = (t.unflatten(-1, (H, -1)).transpose(1, 2) for t in qkv(x).chunk(3, -1))
            s_rel = self.skew(torch.matmul(q, Er[12 - n :].transpose(0, 1)))
            att = (torch.matmul(q, k.transpose(-2, -1)) + s_rel) / math.sqrt(D // H)
            att = att.masked_fill(torch.tril(torch.ones(n, n)) == 0, float("-inf"))
            x = x + torch.matmul(F.softmax(att, dim=-1), v).transpose(1, 2).reshape(*x.shape)
        return self.head(x)


def padded(draw: Draw) -> Inputs:
    mask = torch.ones(2, 7, dtype=torch.long)
    mask[1, 4:] = 0
    return {"ids": draw.ids(2, 7) * mask, "mask": mask}


class TransformerXL(nn.Module):
    """Content and position terms with learned biases u and v, and a relative shift."""

    def __init__(self):
        super().__init__()
        self.emb, self.head = nn.Embedding(V, D), nn.Linear(D, V)
        self.qkv, self.r = nn.Linear(D, 3 * D, bias=False), nn.Linear(D, D, bias=False)
        self.u, self.v = (nn.Parameter(torch.randn(H, D // H)) for _ in range(2))
        self.o, self.norm = nn.Linear(D, D, bias=False), nn.LayerNorm(D)

    def shift(self, x):
        b, h, n, m = x.shape
        x = torch.cat([torch.zeros(b, h, n, 1), x], -1).view(b, h, m + 1, n)
        return x[:, :, 1:].view(b, h, n, m)

    def forward(self, ids):
        x, n = self.emb(ids), ids.shape[1]
        place = torch.arange(n - 1, -1, -1.0)
        freq = 1 / (100 ** (torch.arange(0, D, 2.0) / D))
        pos = torch.cat([torch.outer(place, freq).sin(), torch.outer(place, freq).cos()], -1)
        q, k, v = (t.view(-1, n, H, D // H) for t in self.qkv(x).chunk(3, -1))
        r = self.r(pos).view(n, H, D // H)
        ac = torch.einsum("bind,bjnd->bnij", q + self.u, k)
        bd = self.shift(torch.einsum("bind,jnd->bnij", q + self.v, r))
        score = ((ac + bd) / math.sqrt(D // H)).masked_fill(torch.ones(n, n).triu(1).bool(), -1e30)
        out = torch.einsum("bnij,bjnd->bind", F.softmax(score, dim=3), v).reshape(-1, n, D)
        return self.head(self.norm(x + self.o(out)))


class TokenShift(nn.Module):
    """RWKV's token shift before an ordinary attention: half of each token is its left neighbour."""

    def __init__(self):
        super().__init__()
        self.emb, self.shift, self.head = (
            nn.Embedding(V, D),
            nn.ZeroPad2d((0, 0, 1, -1)),
            nn.Linear(D, V),
        )
        self.q, self.k, self.v = (nn.Linear(D, D) for _ in range(3))
        self.mix = nn.Parameter(torch.rand(D))

    def forward(self, ids):
        x = self.emb(ids)
        xx = self.shift(x)
        y = x * self.mix + xx * (1 - self.mix)
        n = x.shape[1]
        a = self.q(y) @ self.k(y).mT / 4 + torch.full((n, n), -1e9).triu(1)
        return self.head(x + a.softmax(-1) @ self.v(y))


def ids7(draw: Draw) -> Inputs:
    return {"ids": draw.ids(2, 7)}


CASES = [
    Entry(
        "mingpt",
        "text",
        made(MinGPT, lambda d: {"idx": d.ids(2, 7)}),
        {"self": 2},
        {"idx": 7},
        "idx[6]",
        last,
        by_hand=plain("idx", 2, 6),
    ),
    Entry(
        "nanogpt",
        "text",
        made(NanoGPT, lambda d: {"idx": d.ids(2, 7)}),
        {"self": 2},
        {"idx": 7},
        "idx[6]",
        last,
        by_hand=plain("idx", 2, 6),
    ),
    Entry(
        "llama-complex",
        "text",
        made(lambda: Rotary(True), lambda d: {"tokens": d.ids(2, 7)}),
        {"self": 2},
        {"tokens": 7},
        "tokens[6]",
        last,
        by_hand=plain("tokens", 2, 6),
    ),
    Entry(
        "llama-rotate-half",
        "text",
        made(lambda: Rotary(False, 2), lambda d: {"tokens": d.ids(2, 7)}),
        {"self": 2},
        {"tokens": 7},
        "tokens[6]",
        last,
        by_hand=plain("tokens", 2, 6),
    ),
    Entry(
        "multi-query-einsum",
        "text",
        made(lambda: MultiQuery(1), ids7),
        {"self": 2},
        {"ids": 7},
        "ids[6]",
        last,
        by_hand=plain("ids", 2, 6),
    ),
    Entry(
        "grouped-query-einsum",
        "text",
        made(lambda: MultiQuery(2), ids7),
        {"self": 2},
        {"ids": 7},
        "ids[6]",
        last,
        by_hand=plain("ids", 2, 6, lambda w, b: w.flatten(1, 2)),
    ),
    Entry(
        "palm",
        "text",
        made(PaLM, ids7),
        {"self": 2},
        {"ids": 7},
        "ids[6]",
        last,
        by_hand=plain("ids", 2, 6),
    ),
    Entry(
        "alibi",
        "text",
        made(Alibi, ids7),
        {"self": 2},
        {"ids": 7},
        "ids[6]",
        last,
        by_hand=plain("ids", 2, 6),
    ),
    Entry(
        "music-transformer",
        "text",
        made(MusicTransformer, lambda d: {"notes": d.ids(2, 7)}),
        {"self": 2},
        {"notes": 7},
        "notes[6]",
        last,
        by_hand=plain("notes", 2, 6),
    ),
    Entry(
        "transformer-xl",
        "text",
        made(TransformerXL, ids7),
        {"self": 1},
        {"ids": 7},
        "ids[6]",
        last,
        by_hand=plain("ids", 1, 6),
    ),
    Entry("token-shift", "text", made(TokenShift, ids7), {"self": 1}, {"ids": 7}, "ids[6]", last),
]
