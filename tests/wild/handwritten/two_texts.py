"""Translators and other readers of two texts, in plain torch."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.wild.case import ByHand, Draw, Entry, Inputs, made

D, H, V = 16, 2, 30


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
        self.self_attn, self.src_attn = (
            MultiHeadedAttention(),
            MultiHeadedAttention() if cross else None,
        )
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
        self.encoder, self.decoder = (
            clones(AnnotatedLayer(False), 2),
            clones(AnnotatedLayer(True), 2),
        )
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


def last(output: Tensor) -> Tensor:
    return output[:, -1, 1]


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
        outs = self.transformer(
            self.src_emb(src), self.tgt_emb(tgt), tgt_mask=mask, tgt_is_causal=True
        )
        return self.generator(outs[:, -1])


class Bahdanau(nn.Module):
    """Additive attention of one query, the mean of the words, to an encoder's states."""

    def __init__(self):
        super().__init__()
        self.emb, self.enc = (
            nn.Embedding(V, D),
            nn.TransformerEncoderLayer(D, H, 32, batch_first=True),
        )
        self.W, self.U, self.v, self.head = (
            nn.Linear(D, D),
            nn.Linear(D, D),
            nn.Linear(D, 1),
            nn.Linear(2 * D, 4),
        )

    def forward(self, source, target):
        keys, query = self.enc(self.emb(source)), self.emb(target)  # (b, n, d), (b, m, d)
        scores = self.v(torch.tanh(self.W(query)[:, :, None] + self.U(keys)[:, None])).squeeze(-1)
        context = torch.bmm(F.softmax(scores, dim=-1), keys)
        return self.head(torch.cat((query, context), dim=-1)[:, -1])


class MemoryNetwork(nn.Module):
    """End-to-end memory: a question hops twice over stories."""

    def __init__(self):
        super().__init__()
        self.A, self.B, self.C, self.W = (
            nn.Embedding(V, D),
            nn.Embedding(V, D),
            nn.Embedding(V, D),
            nn.Linear(D, V),
        )

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
    Entry(
        "sequence-first-seq2seq",
        "text",
        made(SequenceFirst, lambda d: {"src": d.ids(7, 2), "tgt": d.ids(5, 2)}),
        {"self": 2, "encoder-decoder": 1},
        {"src": 7, "tgt": 5},
        "tgt[4]",
        by_hand=ByHand(
            {"s": ("src",), "t": ("tgt",)}, (("s", "s"), ("t", "t"), ("t", "s")), {"t": 4}
        ),
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
