"""Text models as people write them, in plain torch."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.wild.case import ByHand, Draw, Entry, Inputs, made, plain

D, H, V = 16, 2, 30


# -- the annotated transformer --------------------------------------------------------------------


def clones(module: nn.Module, n: int) -> nn.ModuleList:
    return nn.ModuleList([copy.deepcopy(module) for _ in range(n)])


def attention(query, key, value, mask=None):
    scores = torch.matmul(query, key.transpose(-2, -1)) / math.sqrt(query.size(-1))
    if mask is not None:
        scores = scores.masked_fill(mask == 0, -1e9)
    p_attn = scores.softmax(dim=-1)
    return torch.matmul(p_attn, value), p_attn


class MultiHeadedAttention(nn.Module):
    def __init__(self, h=H, d_model=D):
        super().__init__()
        self.d_k, self.h = d_model // h, h
        self.linears = clones(nn.Linear(d_model, d_model), 4)
        self.attn = None

    def forward(self, query, key, value, mask=None):
        if mask is not None:
            mask = mask.unsqueeze(1)
        nbatches = query.size(0)
        query, key, value = (
            lin(x).view(nbatches, -1, self.h, self.d_k).transpose(1, 2)
            for lin, x in zip(self.linears, (query, key, value), strict=False)
        )
        x, self.attn = attention(query, key, value, mask=mask)
        x = x.transpose(1, 2).contiguous().view(nbatches, -1, self.h * self.d_k)
        return self.linears[-1](x)


class SublayerConnection(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.dropout = nn.LayerNorm(D), nn.Dropout(0.1)

    def forward(self, x, sublayer):
        return x + self.dropout(sublayer(self.norm(x)))


class AnnotatedLayer(nn.Module):
    def __init__(self, cross):
        super().__init__()
        self.self_attn, self.src_attn = MultiHeadedAttention(), MultiHeadedAttention() if cross else None
        self.feed_forward = nn.Sequential(nn.Linear(D, 32), nn.ReLU(), nn.Linear(32, D))
        self.sublayer = clones(SublayerConnection(), 3 if cross else 2)

    def forward(self, x, mask, memory=None, src_mask=None):
        x = self.sublayer[0](x, lambda x: self.self_attn(x, x, x, mask))
        if self.src_attn is not None:
            x = self.sublayer[1](x, lambda x: self.src_attn(x, memory, memory, src_mask))
        return self.sublayer[-1](x, self.feed_forward)


class PositionalEncoding(nn.Module):
    def __init__(self, d_model=D, max_len=50):
        super().__init__()
        pe = torch.zeros(max_len, d_model)
        position = torch.arange(0, max_len).unsqueeze(1)
        div_term = torch.exp(torch.arange(0, d_model, 2) * -(math.log(10000.0) / d_model))
        pe[:, 0::2] = torch.sin(position * div_term)
        pe[:, 1::2] = torch.cos(position * div_term)
        self.register_buffer("pe", pe.unsqueeze(0))

    def forward(self, x):
        return x + self.pe[:, : x.size(1)].requires_grad_(False)


class AnnotatedTransformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.src_embed = nn.Sequential(nn.Embedding(V, D), PositionalEncoding())
        self.tgt_embed = nn.Sequential(nn.Embedding(V, D), PositionalEncoding())
        self.encoder, self.decoder = clones(AnnotatedLayer(False), 2), clones(AnnotatedLayer(True), 2)
        self.norm, self.proj = clones(nn.LayerNorm(D), 2), nn.Linear(D, V)

    def forward(self, src, tgt, src_mask):
        size = tgt.size(-1)
        tgt_mask = torch.triu(torch.ones(1, size, size), diagonal=1).type(torch.uint8) == 0
        memory, x = self.src_embed(src), self.tgt_embed(tgt)
        for layer in self.encoder:
            memory = layer(memory, src_mask)
        memory = self.norm[0](memory)
        for layer in self.decoder:
            x = layer(x, tgt_mask, memory, src_mask)
        return F.log_softmax(self.proj(self.norm[1](x)), dim=-1)


def annotated(draw: Draw) -> Inputs:
    mask = torch.ones(2, 1, 7, dtype=torch.bool)
    mask[1, :, 5:] = False
    return {"src": draw.ids(2, 7), "tgt": draw.ids(2, 5), "src_mask": mask}


# -- GPTs -----------------------------------------------------------------------------------------


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
        self.wq, self.wo = (nn.ModuleList(nn.Linear(D, D, bias=False) for _ in range(2)) for _ in "qo")
        self.wk, self.wv = (
            nn.ModuleList(nn.Linear(D, size * kv_heads, bias=False) for _ in range(2)) for _ in "kv"
        )
        self.norm = nn.ParameterList(nn.Parameter(torch.ones(D)) for _ in range(5))
        self.w1, self.w2, self.w3 = (
            nn.ModuleList(nn.Linear(*s, bias=False) for _ in range(2)) for s in ((D, 32), (32, D), (D, 32))
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


class T5Bias(nn.Module):
    """Bucketed relative positions from an embedding shared by the layers; no scaling."""

    def __init__(self):
        super().__init__()
        self.shared, self.rel = nn.Embedding(V, D), nn.Embedding(8, H)
        self.q, self.k, self.v, self.o = (
            nn.ModuleList(nn.Linear(D, D, bias=False) for _ in range(2)) for _ in "qkvo"
        )
        self.head = nn.Linear(D, 4)

    def bucket(self, distance):
        ret = (distance > 0).long() * 4
        n = distance.abs()
        large = 2 + (torch.log(n.float().clamp(min=1) / 2) / math.log(8 / 2) * 2).long()
        return ret + torch.where(n < 2, n, large.clamp(max=3))

    def forward(self, ids, mask):
        x, n = self.shared(ids), ids.shape[1]
        place = torch.arange(n)
        bias = self.rel(self.bucket(place[None, :] - place[:, None])).permute(2, 0, 1)[None]
        bias = bias + (1.0 - mask[:, None, None, :].float()) * -1e9
        for q, k, v, o in zip(self.q, self.k, self.v, self.o, strict=True):
            q, k, v = (f(x).view(-1, n, H, D // H).transpose(1, 2) for f in (q, k, v))
            w = F.softmax((q @ k.transpose(3, 2) + bias).float(), dim=-1)
            x = x + o((w @ v).transpose(1, 2).reshape(-1, n, D))
        return self.head(x[:, 0])


def padded(draw: Draw) -> Inputs:
    mask = torch.ones(2, 7, dtype=torch.long)
    mask[1, 4:] = 0
    return {"ids": draw.ids(2, 7) * mask, "mask": mask}


MEANS = torch.tensor([[1 / 7] * 7, [1 / 4] * 4 + [0] * 3])


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
        self.emb, self.shift, self.head = nn.Embedding(V, D), nn.ZeroPad2d((0, 0, 1, -1)), nn.Linear(D, V)
        self.q, self.k, self.v = (nn.Linear(D, D) for _ in range(3))
        self.mix = nn.Parameter(torch.rand(D))

    def forward(self, ids):
        x = self.emb(ids)
        xx = self.shift(x)
        y = x * self.mix + xx * (1 - self.mix)
        n = x.shape[1]
        a = self.q(y) @ self.k(y).mT / 4 + torch.full((n, n), -1e9).triu(1)
        return self.head(x + a.softmax(-1) @ self.v(y))


# -- encoders -------------------------------------------------------------------------------------


class TorchEncoder(nn.Module):
    """nn.TransformerEncoder with a padding mask; how its output is pooled is what differs."""

    def __init__(self, pool: str):
        super().__init__()
        self.pool, self.emb = pool, nn.Embedding(V, D, padding_idx=0)
        self.pos = nn.Parameter(torch.randn(1, 12, D))
        layer = nn.TransformerEncoderLayer(D, H, 32, batch_first=True, norm_first=pool == "cls")
        self.enc, self.head = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(D, 4)
        self.score = nn.Linear(D, 1) if pool == "learned" else None

    def forward(self, ids, mask):
        h = self.enc(self.emb(ids) + self.pos[:, : ids.shape[1]], src_key_padding_mask=mask == 0)
        m = mask.unsqueeze(-1)
        if self.pool == "masked mean":
            h = (h * m).sum(1) / m.sum(1).clamp(min=1)
        elif self.pool == "expanded":
            e = m.expand(h.size()).float()
            h = torch.sum(h * e, 1) / torch.clamp(e.sum(1), min=1e-9)
        elif self.pool == "filled":
            h = h.masked_fill(m == 0, 0.0).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        elif self.pool == "max":
            h = h.masked_fill(m == 0, -1e4).max(dim=1).values
        elif self.pool == "last":
            h = h[torch.arange(len(h)), mask.sum(1) - 1]
        elif self.pool == "learned":
            w = self.score(h).masked_fill(m == 0, -1e9).softmax(dim=1)
            h = (h * w).sum(dim=1)
        else:
            h = h[:, 0]
        return self.head(h)


class SequenceFirst(nn.Module):
    """nn.Transformer's default layout, as in the translation tutorial."""

    def __init__(self):
        super().__init__()
        self.src_emb, self.tgt_emb = nn.Embedding(V, D), nn.Embedding(V, D)
        self.transformer = nn.Transformer(D, H, 1, 1, 32, dropout=0.0)
        self.generator = nn.Linear(D, V)

    def forward(self, src, tgt):
        mask = self.transformer.generate_square_subsequent_mask(tgt.shape[0])
        outs = self.transformer(self.src_emb(src), self.tgt_emb(tgt), tgt_mask=mask)
        return self.generator(outs)[-1]


class BatchFirst(nn.Module):
    """nn.Transformer, batch first."""

    def __init__(self):
        super().__init__()
        self.src_emb, self.tgt_emb = nn.Embedding(V, D), nn.Embedding(V, D)
        self.transformer = nn.Transformer(D, H, 2, 2, 32, batch_first=True, norm_first=True)
        self.generator = nn.Linear(D, V)

    def forward(self, src, tgt):
        mask = nn.Transformer.generate_square_subsequent_mask(tgt.shape[1])
        outs = self.transformer(self.src_emb(src), self.tgt_emb(tgt), tgt_mask=mask, tgt_is_causal=True)
        return self.generator(outs[:, -1])


class ScratchBert(nn.Module):
    """BERT in one file: three embeddings, an extended mask, post-norm, a pooler."""

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.query, self.key, self.value, self.dense = (nn.Linear(D, D) for _ in range(4))
            self.inter, self.out = nn.Linear(D, 32), nn.Linear(32, D)
            self.n1, self.n2 = nn.LayerNorm(D, eps=1e-12), nn.LayerNorm(D, eps=1e-12)

        def heads(self, x):
            return x.view(*x.size()[:-1], H, D // H).permute(0, 2, 1, 3)

        def forward(self, x, mask):
            q, k, v = self.heads(self.query(x)), self.heads(self.key(x)), self.heads(self.value(x))
            probs = nn.Softmax(dim=-1)(torch.matmul(q, k.transpose(-1, -2)) / math.sqrt(D // H) + mask)
            c = torch.matmul(probs, v).permute(0, 2, 1, 3).contiguous()
            x = self.n1(self.dense(c.view(*c.size()[:-2], D)) + x)
            return self.n2(self.out(F.gelu(self.inter(x))) + x)

    def __init__(self):
        super().__init__()
        self.word, self.place, self.kind = nn.Embedding(V, D), nn.Embedding(12, D), nn.Embedding(2, D)
        self.norm, self.layers = nn.LayerNorm(D), nn.ModuleList(self.Layer() for _ in range(2))
        self.pooler, self.classifier = nn.Linear(D, D), nn.Linear(D, 3)

    def forward(self, input_ids, token_type_ids, attention_mask):
        extended = (1.0 - attention_mask[:, None, None, :].float()) * -10000.0
        place = torch.arange(input_ids.shape[1]).unsqueeze(0).expand_as(input_ids)
        x = self.norm(self.word(input_ids) + self.place(place) + self.kind(token_type_ids))
        for layer in self.layers:
            x = layer(x, extended)
        return self.classifier(torch.tanh(self.pooler(x[:, 0])))


def bert_inputs(draw: Draw) -> Inputs:
    mask = torch.ones(2, 7, dtype=torch.long)
    mask[1, 5:] = 0
    return {
        "input_ids": draw.ids(2, 7) * mask,
        "token_type_ids": torch.tensor([[0, 0, 0, 1, 1, 1, 1]]).repeat(2, 1),
        "attention_mask": mask,
    }


class Universal(nn.Module):
    """One layer used four times, with the depth embedded at each step."""

    def __init__(self):
        super().__init__()
        self.emb, self.depth, self.head = nn.Embedding(V, D), nn.Embedding(4, D), nn.Linear(D, 4)
        self.layer = nn.TransformerEncoderLayer(D, H, 32, batch_first=True)

    def forward(self, ids):
        x = self.emb(ids)
        for t in range(4):
            x = self.layer(x + self.depth(torch.tensor(t)))
        return self.head(x.mean(dim=1))


class TalkingHeads(nn.Module):
    """Heads are mixed before and after the softmax."""

    def __init__(self):
        super().__init__()
        self.emb, self.qkv, self.head = nn.Embedding(V, D), nn.Linear(D, 3 * D), nn.Linear(D, 4)
        self.pre, self.post = nn.Conv2d(H, H, 1, bias=False), nn.Conv2d(H, H, 1, bias=False)

    def forward(self, ids):
        x = self.emb(ids)
        q, k, v = (t.unflatten(-1, (H, -1)).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        a = self.post(self.pre(q @ k.mT / math.sqrt(D // H)).softmax(-1))
        return self.head((x + (a @ v).transpose(1, 2).flatten(2))[:, 0])


class Gated(nn.Module):
    """A sigmoid gate on each head's output, and a sink that takes attention from everybody."""

    def __init__(self, sink: bool):
        super().__init__()
        self.emb, self.qkv, self.gate = nn.Embedding(V, D), nn.Linear(D, 3 * D), nn.Linear(D, D)
        self.o, self.head = nn.Linear(D, D), nn.Linear(D, 4)
        self.sink = nn.Parameter(torch.randn(H)) if sink else None

    def forward(self, ids):
        x = self.emb(ids)
        b, n, _ = x.shape
        q, k, v = (t.view(b, n, H, -1).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        scores = q @ k.mT / math.sqrt(D // H)
        if self.sink is not None:
            sinks = self.sink.reshape(1, -1, 1, 1).expand(b, -1, n, -1)
            weights = torch.cat([scores, sinks], dim=-1).softmax(-1)[..., :-1]
        else:
            weights = scores.softmax(-1)
        y = (weights @ v).transpose(1, 2).reshape(b, n, D)
        return self.head((x + self.o(y * torch.sigmoid(self.gate(x))))[:, -1])


class MemoryTokens(nn.Module):
    """Learned memory before the text in layer 1; learned keys and values, never queries, in layer 2."""

    def __init__(self):
        super().__init__()
        self.emb, self.memory = nn.Embedding(V, D), nn.Parameter(torch.randn(3, D))
        self.enc, self.head = nn.TransformerEncoderLayer(D, H, 32, batch_first=True), nn.Linear(D, 4)
        self.enc2 = nn.TransformerEncoderLayer(D, H, 32, batch_first=True)

    def forward(self, ids):
        x = self.emb(ids)
        x = torch.cat([self.memory.expand(len(x), -1, -1), x], dim=1)
        return self.head(self.enc2(self.enc(x))[:, 3:].mean(1))


class SlidingWindow(nn.Module):
    """Neighbours are gathered by unfold: each query has five keys of its own."""

    def __init__(self):
        super().__init__()
        self.emb, self.qkv, self.head = nn.Embedding(V, D), nn.Linear(D, 3 * D), nn.Linear(D, 4)

    def forward(self, ids):
        x = self.emb(ids)
        q, k, v = self.qkv(x).chunk(3, -1)
        k, v = (F.pad(t, (0, 0, 2, 2)).unfold(1, 5, 1) for t in (k, v))  # b n d 5
        n = x.shape[1]
        place = torch.arange(n)[:, None] + torch.arange(5)[None] - 2
        scores = torch.einsum("bnd,bndw->bnw", q, k) / 4
        scores = scores.masked_fill((place < 0) | (place >= n), float("-inf"))
        y = torch.einsum("bnw,bndw->bnd", scores.softmax(-1), v)
        return self.head((x + y).mean(1))


class Blocks(nn.Module):
    """Attention within blocks of four words, reshaped into the batch."""

    def __init__(self):
        super().__init__()
        self.emb, self.head = nn.Embedding(V, D), nn.Linear(D, 4)
        self.a, self.b = (nn.MultiheadAttention(D, H, batch_first=True) for _ in range(2))

    def forward(self, ids):
        x = self.emb(ids)
        b, n, d = x.shape
        w = x.reshape(b * n // 4, 4, d)
        x = x + self.a(w, w, w, need_weights=False)[0].reshape(b, n, d)
        x = x + self.b(x, x, x, need_weights=False)[0]
        return self.head(x[:, 0])


class Hierarchical(nn.Module):
    """HAN: words make sentences, sentences make a document, by attention with a learned context."""

    def __init__(self):
        super().__init__()
        self.emb, self.head = nn.Embedding(V, D), nn.Linear(D, 4)
        self.word = nn.TransformerEncoderLayer(D, H, 32, batch_first=True)
        self.sent = nn.TransformerEncoderLayer(D, H, 32, batch_first=True)
        self.word_fc, self.sent_fc = nn.Linear(D, D), nn.Linear(D, D)
        self.word_context, self.sent_context = (nn.Parameter(torch.randn(D)) for _ in range(2))

    def pool(self, h, fc, context):
        a = torch.softmax(torch.tanh(fc(h)) @ context, dim=1)
        return (h * a.unsqueeze(-1)).sum(1)

    def forward(self, documents):
        b, s, w = documents.shape
        words = self.word(self.emb(documents.view(b * s, w)))
        sentences = self.pool(words, self.word_fc, self.word_context).view(b, s, -1)
        return self.head(self.pool(self.sent(sentences), self.sent_fc, self.sent_context))


class Bahdanau(nn.Module):
    """Additive attention of one query, the mean of the words, to an encoder's states."""

    def __init__(self):
        super().__init__()
        self.emb, self.enc = nn.Embedding(V, D), nn.TransformerEncoderLayer(D, H, 32, batch_first=True)
        self.W, self.U, self.v, self.head = nn.Linear(D, D), nn.Linear(D, D), nn.Linear(D, 1), nn.Linear(2 * D, 4)

    def forward(self, source, target):
        keys, query = self.enc(self.emb(source)), self.emb(target)  # (b, n, d), (b, m, d)
        scores = self.v(torch.tanh(self.W(query)[:, :, None] + self.U(keys)[:, None])).squeeze(-1)
        context = torch.bmm(F.softmax(scores, dim=-1), keys)
        return self.head(torch.cat((query, context), dim=-1)[:, -1])


class MemoryNetwork(nn.Module):
    """End-to-end memory: a question hops twice over stories."""

    def __init__(self):
        super().__init__()
        self.A, self.B, self.C, self.W = nn.Embedding(V, D), nn.Embedding(V, D), nn.Embedding(V, D), nn.Linear(D, V)

    def forward(self, story, question):
        m, c = self.A(story), self.C(story)
        u = self.B(question)  # (b, 1, d)
        for _ in range(2):
            p = F.softmax(torch.bmm(u, m.transpose(1, 2)), dim=-1)
            u = u + torch.bmm(p, c)
        return self.W(u.squeeze(1))


class PairNet(nn.Module):
    """Sentence pairs: each attends to the other (decomposable attention), compared and summed."""

    def __init__(self):
        super().__init__()
        self.emb, self.F, self.G = nn.Embedding(V, D), nn.Linear(D, D), nn.Linear(2 * D, D)
        self.H = nn.Linear(2 * D, 3)

    def forward(self, premise, hypothesis):
        a, b = self.emb(premise), self.emb(hypothesis)
        e = torch.matmul(self.F(a), self.F(b).transpose(1, 2))
        beta = torch.matmul(F.softmax(e, dim=2), b)
        alpha = torch.matmul(F.softmax(e, dim=1).transpose(1, 2), a)
        v1 = F.relu(self.G(torch.cat([a, beta], -1))).sum(1)
        v2 = F.relu(self.G(torch.cat([b, alpha], -1))).sum(1)
        return self.H(torch.cat([v1, v2], -1))


def ids7(draw: Draw) -> Inputs:
    return {"ids": draw.ids(2, 7)}


def encoder(pool: str, kinds: dict[str, int], readout, read=None) -> Entry:
    return Entry(
        f"encoder-{pool.replace(' ', '-')}",
        "text",
        made(lambda: TorchEncoder(pool), padded),
        kinds,
        {"ids": 7},
        readout,
        by_hand=None if read is None else plain("ids", 2, read),
    )


PREFIX = torch.cat([torch.zeros(3), torch.full((7,), 1 / 7)])

CASES = [
    Entry(
        "annotated-transformer",
        "text",
        made(AnnotatedTransformer, annotated),
        {"self": 4, "encoder-decoder": 2},
        {"src": 7, "tgt": 5},
        "tgt[4]",
        last,
        by_hand=ByHand(
            {"s": ("src",), "t": ("tgt",)},
            (("s", "s"), ("s", "s"), ("t", "t"), ("t", "s"), ("t", "t"), ("t", "s")),
            {"t": 4},
        ),
    ),
    Entry("mingpt", "text", made(MinGPT, lambda d: {"idx": d.ids(2, 7)}), {"self": 2}, {"idx": 7}, "idx[6]", last, by_hand=plain("idx", 2, 6)),
    Entry("nanogpt", "text", made(NanoGPT, lambda d: {"idx": d.ids(2, 7)}), {"self": 2}, {"idx": 7}, "idx[6]", last, by_hand=plain("idx", 2, 6)),
    Entry("llama-complex", "text", made(lambda: Rotary(True), lambda d: {"tokens": d.ids(2, 7)}), {"self": 2}, {"tokens": 7}, "tokens[6]", last, by_hand=plain("tokens", 2, 6)),
    Entry("llama-rotate-half", "text", made(lambda: Rotary(False, 2), lambda d: {"tokens": d.ids(2, 7)}), {"self": 2}, {"tokens": 7}, "tokens[6]", last, by_hand=plain("tokens", 2, 6)),
    Entry("multi-query-einsum", "text", made(lambda: MultiQuery(1), ids7), {"self": 2}, {"ids": 7}, "ids[6]", last, by_hand=plain("ids", 2, 6)),
    Entry("grouped-query-einsum", "text", made(lambda: MultiQuery(2), ids7), {"self": 2}, {"ids": 7}, "ids[6]", last, by_hand=plain("ids", 2, 6, lambda w, b: w.flatten(1, 2))),
    Entry("palm", "text", made(PaLM, ids7), {"self": 2}, {"ids": 7}, "ids[6]", last, by_hand=plain("ids", 2, 6)),
    Entry("alibi", "text", made(Alibi, ids7), {"self": 2}, {"ids": 7}, "ids[6]", last, by_hand=plain("ids", 2, 6)),
    Entry("music-transformer", "text", made(MusicTransformer, lambda d: {"notes": d.ids(2, 7)}), {"self": 2}, {"notes": 7}, "notes[6]", last, by_hand=plain("notes", 2, 6)),
    Entry("t5-bias", "text", made(T5Bias, padded), {"self": 2}, {"ids": 7}, "ids[0]", by_hand=plain("ids", 2, 0)),
    Entry("transformer-xl", "text", made(TransformerXL, ids7), {"self": 1}, {"ids": 7}, "ids[6]", last, by_hand=plain("ids", 1, 6)),
    Entry("token-shift", "text", made(TokenShift, ids7), {"self": 1}, {"ids": 7}, "ids[6]", last),
    encoder("cls", {"self": 2}, "ids[0]", 0),
    encoder("masked mean", {"self": 2}, ("ids[0..6]", "ids[0..3]"), MEANS),
    encoder("expanded", {"self": 2}, ("ids[0..6]", "ids[0..3]"), MEANS),
    encoder("filled", {"self": 2}, ("ids[0..6]", "ids[0..3]"), MEANS),
    encoder("last", {"self": 2}, ("ids[6]", "ids[3]"), torch.eye(7)[[6, 3]]),
    encoder("max", {"self": 2}, ("ids[0..6]", "ids[0..6] | ids[0..3]")),
    encoder("learned", {"self": 2, "pooling": 1}, ""),
    Entry(
        "sequence-first-seq2seq",
        "text",
        made(SequenceFirst, lambda d: {"src": d.ids(7, 2), "tgt": d.ids(5, 2)}),
        {"self": 2, "encoder-decoder": 1},
        {"src": 7, "tgt": 5},
        "tgt[4]",
        by_hand=ByHand({"s": ("src",), "t": ("tgt",)}, (("s", "s"), ("t", "t"), ("t", "s")), {"t": 4}),
    ),
    Entry(
        "batch-first-seq2seq",
        "text",
        made(BatchFirst, lambda d: {"src": d.ids(2, 7), "tgt": d.ids(2, 5)}),
        {"self": 4, "encoder-decoder": 2},
        {"src": 7, "tgt": 5},
        "tgt[4]",
        by_hand=ByHand(
            {"s": ("src",), "t": ("tgt",)},
            (("s", "s"), ("s", "s"), ("t", "t"), ("t", "s"), ("t", "t"), ("t", "s")),
            {"t": 4},
        ),
    ),
    Entry("scratch-bert", "text", made(ScratchBert, bert_inputs), {"self": 2}, {"input_ids": 7}, "input_ids[0]", by_hand=plain("input_ids", 2, 0)),
    Entry("universal", "text", made(Universal, ids7), {"self": 4}, {"ids": 7}, "ids[0..6]", by_hand=plain("ids", 4, torch.full((7,), 1 / 7))),
    Entry("talking-heads", "text", made(TalkingHeads, ids7), {"self": 1}, {"ids": 7}, "ids[0]", not_attention=r"\(2, 2, 7, 7\)", unseen=1),
    Entry("gated-heads", "text", made(lambda: Gated(False), ids7), {"self": 1}, {"ids": 7}, "ids[6]", by_hand=plain("ids", 1, 6)),
    Entry("sink", "text", made(lambda: Gated(True), ids7), {"self": 1}, {"ids": 7}, "ids[6]", contracted=lambda w: w[..., :-1], by_hand=plain("ids", 1, 6, lambda w, b: w[..., :-1])),
    Entry(
        "memory-tokens",
        "text",
        made(MemoryTokens, ids7),
        {"self": 2},
        {"ids": 10},
        "ids[3..9]",
        by_hand=plain("ids", 2, PREFIX),
    ),
    Entry("sliding-window", "text", made(SlidingWindow, ids7), {"self": 1}, {"ids": 7}, "ids[0..6]"),
    Entry("blocks-in-batch", "text", made(Blocks, lambda d: {"ids": d.ids(2, 8)}), {"self": 2}, {"ids": 8}, "ids[0]"),
    Entry(
        "hierarchical",
        "text",
        made(Hierarchical, lambda d: {"documents": d.ids(2, 3, 5)}),
        {"self": 2, "pooling": 1, "pooling|encoder-decoder": 1},
        {"documents": 15},
    ),
    Entry(
        "bahdanau",
        "text",
        made(Bahdanau, lambda d: {"source": d.ids(2, 7), "target": d.ids(2, 3)}),
        {"self": 1, "encoder-decoder": 1},
        {"source": 7, "target": 3},
        "target[2]",
    ),
    Entry(
        "memory-network",
        "text",
        made(MemoryNetwork, lambda d: {"story": d.ids(2, 6), "question": d.ids(2, 1)}),
        {"encoder-decoder": 2},
        {"story": 6, "question": 1},
        "question[0]",
    ),
    Entry(
        "decomposable-attention",
        "text",
        made(PairNet, lambda d: {"premise": d.ids(2, 6), "hypothesis": d.ids(2, 4)}),
        {"co": 2},
        {"premise": 6, "hypothesis": 4},
        "premise[0..5] and hypothesis[0..3]",
    ),
]
