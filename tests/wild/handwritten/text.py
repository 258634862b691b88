"""Text encoders as people write them, in plain torch."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from tests.wild.case import Draw, Entry, Inputs, made, plain

D, H, V = 16, 2, 30


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


class TorchEncoder(nn.Module):
    """nn.TransformerEncoder with a padding mask; how its output is pooled is what differs."""

    def __init__(self, pool: str):
        super().__init__()
        self.pool, self.emb = pool, nn.Embedding(V, D, padding_idx=0)
        self.pos = nn.Parameter(torch.randn(1, 12, D))
        layer = nn.TransformerEncoderLayer(D, H, 32, batch_first=True, norm_first=pool == "cls")
        self.enc, self.head = (
            nn.TransformerEncoder(layer, 2, enable_nested_tensor=False),
            nn.Linear(D, 4),
        )
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
            probs = nn.Softmax(dim=-1)(
                torch.matmul(q, k.transpose(-1, -2)) / math.sqrt(D // H) + mask
            )
            c = torch.matmul(probs, v).permute(0, 2, 1, 3).contiguous()
            x = self.n1(self.dense(c.view(*c.size()[:-2], D)) + x)
            return self.n2(self.out(F.gelu(self.inter(x))) + x)

    def __init__(self):
        super().__init__()
        self.word, self.place, self.kind = (
            nn.Embedding(V, D),
            nn.Embedding(12, D),
            nn.Embedding(2, D),
        )
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
        self.enc, self.head = (
            nn.TransformerEncoderLayer(D, H, 32, batch_first=True),
            nn.Linear(D, 4),
        )
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
        "t5-bias",
        "text",
        made(T5Bias, padded),
        {"self": 2},
        {"ids": 7},
        "ids[0]",
        by_hand=plain("ids", 2, 0),
    ),
    encoder("cls", {"self": 2}, "ids[0]", 0),
    encoder("masked mean", {"self": 2}, ("ids[0..6]", "ids[0..3]"), MEANS),
    encoder("expanded", {"self": 2}, ("ids[0..6]", "ids[0..3]"), MEANS),
    encoder("filled", {"self": 2}, ("ids[0..6]", "ids[0..3]"), MEANS),
    encoder("last", {"self": 2}, ("ids[6]", "ids[3]"), torch.eye(7)[[6, 3]]),
    encoder("max", {"self": 2}, ("ids[0..6]", "ids[0..6] | ids[0..3]")),
    encoder("learned", {"self": 2, "pooling": 1}, ""),
    Entry(
        "scratch-bert",
        "text",
        made(ScratchBert, bert_inputs),
        {"self": 2},
        {"input_ids": 7},
        "input_ids[0]",
        by_hand=plain("input_ids", 2, 0),
    ),
    Entry(
        "universal",
        "text",
        made(Universal, ids7),
        {"self": 4},
        {"ids": 7},
        "ids[0..6]",
        by_hand=plain("ids", 4, torch.full((7,), 1 / 7)),
    ),
    Entry(
        "talking-heads",
        "text",
        made(TalkingHeads, ids7),
        {"self": 1},
        {"ids": 7},
        "ids[0]",
        not_attention=r"\(2, 2, 7, 7\)",
        unseen=1,
    ),
    Entry(
        "gated-heads",
        "text",
        made(lambda: Gated(False), ids7),
        {"self": 1},
        {"ids": 7},
        "ids[6]",
        by_hand=plain("ids", 1, 6),
    ),
    Entry(
        "sink",
        "text",
        made(lambda: Gated(True), ids7),
        {"self": 1},
        {"ids": 7},
        "ids[6]",
        contracted=lambda w: w[..., :-1],
        by_hand=plain("ids", 1, 6, lambda w, b: w[..., :-1]),
    ),
    Entry(
        "memory-tokens",
        "text",
        made(MemoryTokens, ids7),
        {"self": 2},
        {"ids": 10},
        "ids[3..9]",
        by_hand=plain("ids", 2, PREFIX),
    ),
    Entry(
        "sliding-window", "text", made(SlidingWindow, ids7), {"self": 1}, {"ids": 7}, "ids[0..6]"
    ),
    Entry(
        "blocks-in-batch",
        "text",
        made(Blocks, lambda d: {"ids": d.ids(2, 8)}),
        {"self": 2},
        {"ids": 8},
        "ids[0]",
    ),
    Entry(
        "hierarchical",
        "text",
        made(Hierarchical, lambda d: {"documents": d.ids(2, 3, 5)}),
        {"self": 2, "pooling": 1, "pooling|encoder-decoder": 1},
        {"documents": 15},
    ),
]
