"""Language models that make their attention weights in ways of their own, in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.wild.case import Draw, Entry, Inputs, made, plain

D, H, V = 16, 2, 30


def ids7(draw: Draw) -> Inputs:
    return {"ids": draw.ids(2, 7)}


def causal(n: int) -> Tensor:
    return torch.ones(n, n, dtype=torch.bool).tril()


class Heads(nn.Module):
    """What most of these share: projections by head, weights by `weigh`, an output projection."""

    def __init__(self, heads: int = H):
        super().__init__()
        self.heads, self.norm = heads, nn.LayerNorm(D)
        self.qkv, self.o = nn.Linear(D, 3 * D), nn.Linear(D, D)

    def split(self, x):
        return (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))

    def merge(self, y):
        return self.o(y.transpose(1, 2).flatten(2))

    def weigh(self, scores, x, q):
        return scores.masked_fill(~causal(scores.shape[-1]), -1e9).softmax(-1)

    def forward(self, x):
        y = self.norm(x)
        q, k, v = self.split(y)
        return x + self.merge(self.weigh(q @ k.mT / q.shape[-1] ** 0.5, y, q) @ v)


class Model(nn.Module):
    """Words, two layers of one kind with an MLP each, a language head."""

    def __init__(self, layer, depth: int = 2):
        super().__init__()
        self.emb, self.layers = nn.Embedding(V, D), nn.ModuleList(layer() for _ in range(depth))
        self.ffs = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(D), nn.Linear(D, 32), nn.GELU(), nn.Linear(32, D))
            for _ in range(depth)
        )
        self.head = nn.Linear(D, V)

    def forward(self, ids):
        x = self.emb(ids)
        for layer, ff in zip(self.layers, self.ffs, strict=True):
            x = layer(x)
            x = x + ff(x)
        return self.head(x)


class Differential(Heads):
    """The difference of two softmaxes, then a norm over each head."""

    SHARE = 0.4

    def forward(self, x):
        y = self.norm(x)
        b, n, _ = y.shape
        q, k, v = self.qkv(y).chunk(3, dim=-1)
        q, k = (t.view(b, n, 2 * H, D // H // 2).transpose(1, 2) for t in (q, k))
        v = v.view(b, n, H, D // H).transpose(1, 2)
        a = (q @ k.mT / 2).masked_fill(~causal(n), float("-inf")).softmax(dim=-1)
        a = a.view(b, H, 2, n, n)
        a = a[:, :, 0] - self.SHARE * a[:, :, 1]
        y = F.rms_norm(torch.matmul(a, v), (D // H,)) * (1 - self.SHARE)
        return x + self.merge(y)


def difference(weights: Tensor) -> Tensor:
    pairs = weights.unflatten(1, (H, 2))
    return pairs[:, :, 0] - Differential.SHARE * pairs[:, :, 1]


class Sigmoid(Heads):
    """Each weight by itself, with a bias of minus the logarithm of the length."""

    def weigh(self, scores, x, q):
        n = scores.shape[-1]
        return torch.sigmoid(scores - torch.tensor(float(n)).log()) * causal(n)


class OffByOne(Heads):
    """One more in the denominator than there are keys."""

    def weigh(self, scores, x, q):
        scores = scores.masked_fill(~causal(scores.shape[-1]), -1e9)
        top = scores.amax(-1, keepdim=True).clamp(min=0)
        e = torch.exp(scores - top)
        return e / (e.sum(-1, keepdim=True) + torch.exp(-top))


class SoftCap(Heads):
    """Scores are capped by a tanh, queries and keys are normalised, as Gemma has it."""

    def forward(self, x):
        q, k, v = self.split(self.norm(x))
        q, k = F.rms_norm(q, (8,)), F.rms_norm(k, (8,))
        scores = 5 * torch.tanh(q @ k.mT / 5)
        return x + self.merge(self.weigh(scores, x, q) @ v)


class Sparsemax(Heads):
    """A projection onto the simplex, by sorting."""

    def weigh(self, scores, x, q):
        scores = scores.masked_fill(~causal(scores.shape[-1]), -1e4)
        z = scores.sort(dim=-1, descending=True).values
        ranks = torch.arange(1, z.shape[-1] + 1)
        kept = 1 + ranks * z > z.cumsum(-1)
        size = kept.sum(-1, keepdim=True)
        total = (z * kept).sum(-1, keepdim=True)
        return torch.relu(scores - (total - 1) / size)


class TopK(Heads):
    """Scores below a query's third are hidden."""

    def weigh(self, scores, x, q):
        scores = scores.masked_fill(~causal(scores.shape[-1]), -1e9)
        third = scores.topk(3, dim=-1).values[..., -1:]
        return scores.masked_fill(scores < third, -torch.finfo(scores.dtype).max).softmax(-1)


class Forgetting(Heads):
    """A gate of every token; how much of a key is forgotten is the sum of the gates behind it."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(D, H)

    def weigh(self, scores, x, q):
        kept = F.logsigmoid(self.gate(x)).transpose(1, 2).cumsum(-1)  # b h n
        scores = scores + kept[..., :, None] - kept[..., None, :]
        return scores.masked_fill(~causal(scores.shape[-1]), float("-inf")).softmax(-1)


class StickBreaking(Heads):
    """A key gets its share of what later keys have left."""

    def weigh(self, scores, x, q):
        n = scores.shape[-1]
        seen = causal(n)
        left = torch.where(seen, -F.softplus(scores), 0.0)
        behind = left.flip(-1).cumsum(-1).flip(-1) - left
        return torch.where(seen, torch.exp(F.logsigmoid(scores) + behind), 0.0)


class Selective(Heads):
    """What the first head looks at is hidden from later queries of all heads."""

    def weigh(self, scores, x, q):
        n = scores.shape[-1]
        scores = scores.masked_fill(~causal(n), -1e9)
        seen = torch.relu(scores[:, :1]) * ~torch.eye(n, dtype=torch.bool)
        seen = torch.roll(seen, 1, -2) * (torch.arange(n) > 0)[:, None]
        return (scores - seen.cumsum(-2)).softmax(-1)


class Contextual(Heads):
    """CoPE: a key's place is the number of open gates up to it, between two learned places."""

    def __init__(self):
        super().__init__()
        self.places = nn.Parameter(torch.randn(1, D // H, 5))

    def weigh(self, scores, x, q):
        gates = torch.sigmoid(scores) * causal(scores.shape[-1])
        place = gates.flip(-1).cumsum(-1).flip(-1).clamp(max=4)
        logits = torch.matmul(q, self.places)
        high, low = place.ceil().long(), place.floor().long()
        part = place - low
        bias = logits.gather(-1, high) * part + logits.gather(-1, low) * (1 - part)
        return super().weigh(scores + bias, x, q)


class Shaw(Heads):
    """Relative keys and relative values from clipped tables."""

    def __init__(self):
        super().__init__()
        self.keys, self.values = nn.Embedding(5, D // H), nn.Embedding(5, D // H)

    def forward(self, x):
        q, k, v = self.split(self.norm(x))
        n = x.shape[1]
        apart = (torch.arange(n)[None] - torch.arange(n)[:, None]).clamp(-2, 2) + 2
        scores = q @ k.mT + torch.einsum("bhid,ijd->bhij", q, self.keys(apart))
        a = self.weigh(scores / 8**0.5, x, q)
        return x + self.merge(a @ v + torch.einsum("bhij,ijd->bhid", a, self.values(apart)))


class GatedUnit(nn.Module):
    """FLASH: one head of squared relus between affine copies of one projection, and a gate."""

    def __init__(self):
        super().__init__()
        self.norm, self.hidden, self.qk = nn.LayerNorm(D), nn.Linear(D, 64), nn.Linear(D, 8)
        self.gamma, self.beta = nn.Parameter(torch.randn(2, 8)), nn.Parameter(torch.zeros(2, 8))
        self.o = nn.Linear(32, D)

    def forward(self, x):
        y = self.norm(x)
        v, gate = F.silu(self.hidden(y)).chunk(2, dim=-1)
        z = F.silu(self.qk(y))
        q, k = (torch.einsum("...d,hd->...hd", z, self.gamma) + self.beta).unbind(dim=-2)
        n = x.shape[1]
        a = F.relu(torch.einsum("bid,bjd->bij", q, k) / n) ** 2
        a = a.masked_fill(~causal(n), 0.0)
        return x + self.o(torch.einsum("bij,bjd->bid", a, v) * gate)


class Dense(nn.Module):
    """Synthesizer: a query says by itself, with no keys, how much each place weighs."""

    def __init__(self):
        super().__init__()
        self.norm, self.v, self.o = nn.LayerNorm(D), nn.Linear(D, D), nn.Linear(D, D)
        self.first, self.second = nn.Linear(D, D), nn.Linear(D, 7)

    def forward(self, x):
        y = self.norm(x)
        scores = self.second(F.relu(self.first(y)))
        a = scores.masked_fill(~causal(x.shape[1]), -1e9).softmax(-1)
        return x + self.o(a @ self.v(y))


class DynamicConvolution(nn.Module):
    """Weights over the last three places, from the query alone, shared by the features of a head."""

    def __init__(self):
        super().__init__()
        self.norm, self.v, self.o = nn.LayerNorm(D), nn.Linear(D, D), nn.Linear(D, D)
        self.taps = nn.Linear(D, 3 * H)

    def forward(self, x):
        y = self.norm(x)
        b, n, _ = y.shape
        taps = self.taps(y).view(b, n, H, 3).softmax(-1)
        v = F.pad(self.v(y), (0, 0, 2, 0)).unfold(1, 3, 1).reshape(b, n, H, -1, 3)
        return x + self.o(torch.einsum("bnht,bnhdt->bnhd", taps, v).flatten(2))


class Latent(nn.Module):
    """DeepSeek's: one compressed key for all heads, its projections absorbed, rotary apart."""

    def __init__(self):
        super().__init__()
        self.norm, self.q, self.kv = nn.LayerNorm(D), nn.Linear(D, H * 12), nn.Linear(D, 6 + 4)
        self.kv_norm, self.up = nn.RMSNorm(6), nn.Parameter(torch.randn(H, 16, 6) / 4)
        self.o = nn.Linear(H * 8, D)

    def turned(self, x, places):
        first, second = x.chunk(2, dim=-1)
        cos, sin = places.cos(), places.sin()
        return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)

    def forward(self, x):
        y = self.norm(x)
        b, n, _ = y.shape
        q_nope, q_pe = self.q(y).view(b, n, H, 12).split([8, 4], dim=-1)
        kv, k_pe = self.kv(y).split([6, 4], dim=-1)
        places = torch.arange(n)[:, None] * torch.tensor([1.0, 0.1])
        q_pe = self.turned(q_pe, places[:, None])
        k_pe = self.turned(k_pe.unsqueeze(2), places[:, None])
        kv = self.kv_norm(kv)
        q_nope = torch.einsum("bshd,hdc->bshc", q_nope, self.up[:, :8])
        scores = torch.einsum("bshc,btc->bsht", q_nope, kv)
        scores = (scores + torch.einsum("bshr,btr->bsht", q_pe, k_pe.squeeze(2))) * 12**-0.5
        scores = scores + torch.full((n, n), float("-inf")).triu_(1).unsqueeze(1)
        a = scores.softmax(dim=-1, dtype=torch.float32).type_as(x)
        y = torch.einsum("bsht,btc->bshc", a, kv)
        y = torch.einsum("bshc,hdc->bshd", y, self.up[:, -8:])
        return x + self.o(y.flatten(2))


class Prefixed(Heads):
    """Prefix tuning: learned keys and learned values stand before the words' own."""

    def __init__(self):
        super().__init__()
        self.prefix = nn.Parameter(torch.randn(2, H, 3, D // H))

    def forward(self, x):
        q, k, v = self.split(self.norm(x))
        k, v = (
            torch.cat([own.expand(len(x), -1, -1, -1), t], dim=2)
            for own, t in zip(self.prefix, (k, v), strict=True)
        )
        scores = q @ k.mT / 8**0.5
        seen = torch.cat([torch.ones(7, 3, dtype=torch.bool), causal(7)], dim=1)
        return x + self.merge(scores.masked_fill(~seen, -1e9).softmax(-1) @ v)


def last(output: Tensor) -> Tensor:
    return output[:, -1, 1]


def lm(name: str, layer, *, depth: int = 2, **changes) -> Entry:
    entry = Entry(
        name, "weights", made(lambda: Model(layer, depth), ids7), {"self": depth}, {"ids": 7},
        "ids[6]", last, by_hand=plain("ids", depth, 6),
    )  # fmt: skip
    return entry.but(**changes)


UNSEEN = {"unseen": 2, "by_hand": None}

CASES = [
    lm("differential", Differential, contracted=difference, by_hand=None),
    lm("sigmoid-attention", Sigmoid, **UNSEEN),
    lm("softmax-off-by-one", OffByOne, **UNSEEN),
    lm("soft-cap", SoftCap),
    lm("sparsemax", Sparsemax, **UNSEEN),
    lm("top-k-scores", TopK),
    lm("forgetting", Forgetting),
    lm("stick-breaking", StickBreaking, **UNSEEN),
    lm("selective", Selective),
    lm("contextual-places", Contextual),
    lm("shaw", Shaw),
    lm("gated-attention-unit", GatedUnit, **UNSEEN),
    lm("dense-synthesizer", Dense, by_hand=plain("ids", 2, 6)),
    lm("dynamic-convolution", DynamicConvolution, by_hand=None),
    lm("latent-attention", Latent, by_hand=plain("ids", 2, 6, lambda w, b: w.transpose(1, 2))),
    lm(
        "prefix-tuning",
        Prefixed,
        depth=1,
        modalities={"ids": 10},  # three, each with what every head has of it
        readout="ids[9]",
        by_hand=None,
    ),
]
