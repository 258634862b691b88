"""Recommenders, control, proteins, tables, series, sets and graphs, in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.wild.case import Draw, Entry, Inputs, made, plain

D, H, V = 16, 2, 30


class SASRec(nn.Module):
    """Items in order; candidates are scored by their embeddings' product with the last state."""

    def __init__(self):
        super().__init__()
        self.item_emb, self.pos_emb = nn.Embedding(V, D, padding_idx=0), nn.Embedding(10, D)
        self.norms = nn.ModuleList(nn.LayerNorm(D, eps=1e-8) for _ in range(2))
        self.attn = nn.ModuleList(nn.MultiheadAttention(D, 1) for _ in range(2))
        self.conv = nn.ModuleList(nn.Conv1d(D, D, 1) for _ in range(2))

    def forward(self, log_seqs, candidates):
        seqs = self.item_emb(log_seqs) * D**0.5
        seqs = seqs + self.pos_emb(torch.arange(log_seqs.shape[1]).expand_as(log_seqs))
        seqs = seqs * ~(log_seqs == 0).unsqueeze(-1)
        n = seqs.shape[1]
        mask = ~torch.tril(torch.ones(n, n, dtype=torch.bool))
        for norm, attn, conv in zip(self.norms, self.attn, self.conv, strict=True):
            x = seqs.transpose(0, 1)
            x = x + attn(norm(x), x, x, attn_mask=mask)[0]
            seqs = x.transpose(0, 1)
            seqs = seqs + conv(seqs.transpose(-1, -2)).transpose(-1, -2)
        return self.item_emb(candidates).matmul(seqs[:, -1, :].unsqueeze(-1)).squeeze(-1)


class BehaviourSequence(nn.Module):
    """BST: the target item stands at the end of the history; all outputs are flattened to an MLP."""

    def __init__(self):
        super().__init__()
        self.item, self.pos, self.user = (
            nn.Embedding(V, D),
            nn.Parameter(torch.randn(6, D)),
            nn.Linear(3, D),
        )
        self.layer = nn.TransformerEncoderLayer(D, H, 32, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(7 * D, 16), nn.LeakyReLU(), nn.Linear(16, 2))

    def forward(self, history, target, profile):
        x = torch.cat([self.item(history), self.item(target).unsqueeze(1)], dim=1) + self.pos
        x = self.layer(x).flatten(1)
        return self.mlp(torch.cat([x, self.user(profile)], dim=1))


class DecisionTransformer(nn.Module):
    """Returns, states and actions interleaved, all with the same embedded time step."""

    def __init__(self):
        super().__init__()
        self.r, self.s, self.a, self.t = (
            nn.Linear(1, D),
            nn.Linear(5, D),
            nn.Linear(2, D),
            nn.Embedding(20, D),
        )
        self.layer = nn.TransformerEncoderLayer(D, H, 32, batch_first=True)
        self.ln, self.predict_action = nn.LayerNorm(D), nn.Sequential(nn.Linear(D, 2), nn.Tanh())

    def forward(self, returns, states, actions, timesteps):
        b, n = timesteps.shape
        time = self.t(timesteps)
        parts = (self.r(returns) + time, self.s(states) + time, self.a(actions) + time)
        x = self.ln(torch.stack(parts, dim=1).permute(0, 2, 1, 3).reshape(b, 3 * n, D))
        x = self.layer(x, src_mask=nn.Transformer.generate_square_subsequent_mask(3 * n))
        return self.predict_action(x.reshape(b, n, 3, D).permute(0, 2, 1, 3)[:, 1])


class Evoformer(nn.Module):
    """Rows with a pair bias, columns, and an outer product mean back into the pairs."""

    def __init__(self):
        super().__init__()
        self.emb, self.left, self.right = nn.Embedding(V, D), nn.Linear(D, 8), nn.Linear(D, 8)
        self.row, self.col, self.row2 = (nn.Linear(D, 3 * D) for _ in range(3))
        self.bias, self.bias2, self.pair = nn.Linear(8, H), nn.Linear(8, H), nn.Linear(64, 8)
        self.gate, self.head = nn.Linear(D, D), nn.Linear(D, 4)

    def attend(self, qkv, x, bias=None):  # over dim -2
        q, k, v = (t.unflatten(-1, (H, -1)) for t in qkv(x).chunk(3, dim=-1))
        a = torch.einsum("...qhc,...khc->...hqk", q, k) / 8**0.5
        if bias is not None:
            a = a + bias
        return torch.einsum("...hqk,...khc->...qhc", a.softmax(-1), v).flatten(-2)

    def forward(self, msa):
        m = self.emb(msa)  # b s r d
        z = self.left(m[:, 0])[:, :, None] + self.right(m[:, 0])[:, None]
        m = m + torch.sigmoid(self.gate(m)) * self.attend(
            self.row, m, self.bias(z).permute(0, 3, 1, 2)[:, None]
        )
        m = m + self.attend(self.col, m.transpose(1, 2)).transpose(1, 2)
        outer = (
            torch.einsum("bsic,bsjd->bijcd", self.left(m), self.right(m)).flatten(-2) / m.shape[1]
        )
        z = z + self.pair(outer)
        m = m + self.attend(self.row2, m, self.bias2(z).permute(0, 3, 1, 2)[:, None])
        return self.head(m[:, 0])


class SetTransformer(nn.Module):
    """ISAB with inducing points, then PMA with one seed."""

    class MAB(nn.Module):
        def __init__(self):
            super().__init__()
            self.q, self.k, self.v, self.o = (nn.Linear(D, D) for _ in range(4))

        def forward(self, Q, K):
            Q, K, V_ = self.q(Q), self.k(K), self.v(K)
            Q_, K_, V_ = (torch.cat(t.split(D // H, 2), 0) for t in (Q, K, V_))
            A = torch.softmax(Q_.bmm(K_.transpose(1, 2)) / D**0.5, 2)
            out = torch.cat((Q_ + A.bmm(V_)).split(Q.size(0), 0), 2)
            return out + F.relu(self.o(out))

    def __init__(self):
        super().__init__()
        self.inp, self.inducing, self.seed = (
            nn.Linear(3, D),
            nn.Parameter(torch.randn(1, 4, D)),
            nn.Parameter(torch.randn(1, 1, D)),
        )
        self.mab0, self.mab1, self.pma, self.head = (
            self.MAB(),
            self.MAB(),
            self.MAB(),
            nn.Linear(D, 4),
        )

    def forward(self, points):
        x = self.inp(points)
        h = self.mab0(self.inducing.repeat(len(x), 1, 1), x)
        x = self.mab1(x, h)
        return self.head(self.pma(self.seed.repeat(len(x), 1, 1), x).squeeze(1))


class FeatureTokenizer(nn.Module):
    """FT-Transformer: a token per column, numeric and categorical, and a CLS at the end."""

    def __init__(self):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(4, D)), nn.Parameter(torch.randn(4, D))
        self.cat, self.cls = (
            nn.ModuleList(nn.Embedding(5, D) for _ in range(3)),
            nn.Parameter(torch.randn(D)),
        )
        layer = nn.TransformerEncoderLayer(D, H, 32, batch_first=True, norm_first=True)
        self.enc, self.head = (
            nn.TransformerEncoder(layer, 2, enable_nested_tensor=False),
            nn.Linear(D, 3),
        )

    def forward(self, numbers, categories):
        n = numbers.unsqueeze(-1) * self.weight + self.bias
        c = torch.stack([emb(categories[:, i]) for i, emb in enumerate(self.cat)], dim=1)
        x = torch.cat([n, c, self.cls.view(1, 1, -1).expand(len(n), -1, -1)], dim=1)
        return self.head(self.enc(x)[:, -1])


class PatchSeries(nn.Module):
    """PatchTST: channels are samples of their own, patches of a series are tokens."""

    def __init__(self):
        super().__init__()
        self.embed, self.pos = nn.Linear(4, D), nn.Parameter(torch.randn(7, D))
        self.layer, self.head = (
            nn.TransformerEncoderLayer(D, H, 32, batch_first=True),
            nn.Linear(7 * D, 3),
        )

    def forward(self, series):  # (b, 16, 3)
        x = series.transpose(1, 2).unfold(-1, 4, 2)  # b c 7 4
        x = self.embed(x) + self.pos
        x = self.layer(x.flatten(0, 1)).unflatten(0, (-1, 3))
        return self.head(x.flatten(2)).transpose(1, 2)


class Inverted(nn.Module):
    """iTransformer: each variable's whole series is one token."""

    def __init__(self):
        super().__init__()
        self.embed, self.layer, self.out = (
            nn.Linear(16, D),
            nn.TransformerEncoderLayer(D, H, 32, batch_first=True),
            nn.Linear(D, 3),
        )

    def forward(self, series):
        return self.out(self.layer(self.embed(series.permute(0, 2, 1)))).permute(0, 2, 1)


class KnowledgeTracing(nn.Module):
    """SAKT: exercises ask past interactions; the query's residual is the exercise."""

    def __init__(self):
        super().__init__()
        self.interaction, self.exercise, self.pos = (
            nn.Embedding(2 * V, D),
            nn.Embedding(V, D),
            nn.Embedding(10, D),
        )
        self.attn, self.norm, self.pred = (
            nn.MultiheadAttention(D, H, batch_first=True),
            nn.LayerNorm(D),
            nn.Linear(D, 1),
        )

    def forward(self, interactions, exercises):
        n = exercises.shape[1]
        m = self.interaction(interactions) + self.pos(torch.arange(n))
        e = self.exercise(exercises)
        s, _ = self.attn(e, m, m, attn_mask=torch.triu(torch.ones(n, n), 1).bool())
        return torch.sigmoid(self.pred(self.norm(s + e))).squeeze(-1)


class GraphAttention(nn.Module):
    """GAT on a dense adjacency: additive scores of two projections, masked by the edges."""

    def __init__(self):
        super().__init__()
        self.W = nn.ModuleList([nn.Linear(5, D, bias=False), nn.Linear(D, 3, bias=False)])
        self.a = nn.ParameterList([nn.Parameter(torch.randn(2 * n, 1)) for n in (D, 3)])

    def forward(self, nodes, adjacency):
        x = nodes
        for W, a in zip(self.W, self.a, strict=True):
            h = W(x)
            size = h.shape[-1]
            e = F.leaky_relu(h @ a[:size] + (h @ a[size:]).mT, 0.2)
            attention = F.softmax(torch.where(adjacency > 0, e, -9e15 * torch.ones_like(e)), dim=-1)
            x = F.elu(attention @ h)
        return F.log_softmax(x, dim=-1)


class PointerNetwork(nn.Module):
    """Cities by coordinates; the output is a distribution over the input's positions itself."""

    def __init__(self):
        super().__init__()
        self.embed, self.enc = (
            nn.Linear(2, D),
            nn.TransformerEncoderLayer(D, H, 32, batch_first=True),
        )
        self.W1, self.W2, self.v = nn.Linear(D, D), nn.Linear(D, D), nn.Linear(D, 1)

    def forward(self, cities):
        h = self.enc(self.embed(cities))
        query = h.mean(1, keepdim=True)
        return self.v(torch.tanh(self.W1(h) + self.W2(query))).squeeze(-1)


class Conformer(nn.Module):
    """Macaron halves around attention and a gated depthwise convolution, on a subsampled spectrum."""

    def __init__(self):
        super().__init__()
        self.sub = nn.Sequential(nn.Conv1d(8, D, 3, 2, 1), nn.GELU(), nn.Conv1d(D, D, 3, 2, 1))
        self.ff1, self.ff2 = (
            nn.Sequential(nn.LayerNorm(D), nn.Linear(D, 32), nn.SiLU(), nn.Linear(32, D))
            for _ in range(2)
        )
        self.norm, self.attn = nn.LayerNorm(D), nn.MultiheadAttention(D, H, batch_first=True)
        self.pw1, self.dw, self.pw2 = (
            nn.Conv1d(D, 2 * D, 1),
            nn.Conv1d(D, D, 3, padding=1, groups=D),
            nn.Conv1d(D, D, 1),
        )
        self.last, self.ctc = nn.LayerNorm(D), nn.Linear(D, 9)

    def forward(self, features):  # (b, time, mel)
        x = self.sub(features.transpose(1, 2)).transpose(1, 2)
        x = x + 0.5 * self.ff1(x)
        y = self.norm(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        c = F.glu(self.pw1(x.transpose(1, 2)), dim=1)
        x = x + self.pw2(F.silu(self.dw(c))).transpose(1, 2)
        return self.ctc(self.last(x + 0.5 * self.ff2(x)))


class Trajectory(nn.Module):
    """Agents attend over time, then over each other, then to a map."""

    def __init__(self):
        super().__init__()
        self.embed, self.map, self.head = nn.Linear(2, D), nn.Linear(3, D), nn.Linear(D, 4)
        self.time, self.social = (
            nn.TransformerEncoderLayer(D, H, 32, batch_first=True) for _ in range(2)
        )
        self.cross = nn.MultiheadAttention(D, H, batch_first=True)

    def forward(self, agents, lanes):  # (b, agents, time, 2), (b, lanes, 3)
        b, a = agents.shape[:2]
        x = self.time(self.embed(agents).flatten(0, 1))[:, -1].view(b, a, D)
        x = self.social(x)
        m = self.map(lanes)
        return self.head(x + self.cross(x, m, m, need_weights=False)[0])


class DeepInterest(nn.Module):
    """DIN: a candidate weighs the history by an MLP of both; softmaxed, and summed."""

    def __init__(self):
        super().__init__()
        self.item, self.att = (
            nn.Embedding(V, D),
            nn.Sequential(nn.Linear(4 * D, 8), nn.ReLU(), nn.Linear(8, 1)),
        )
        self.out = nn.Linear(2 * D, 2)

    def forward(self, history, candidate):
        k, q = self.item(history), self.item(candidate)
        wide = q[:, None].expand_as(k)
        w = self.att(torch.cat([wide, k, wide - k, wide * k], dim=-1)).softmax(dim=1)
        return self.out(torch.cat([(w * k).sum(1), q], dim=-1))


def last(output: Tensor) -> Tensor:
    return output[:, -1, 1]


def control(draw: Draw) -> Inputs:
    return {
        "returns": draw.floats(2, 4, 1),
        "states": draw.floats(2, 4, 5),
        "actions": draw.floats(2, 4, 2),
        "timesteps": torch.arange(4).expand(2, 4).contiguous(),
    }


def graph(draw: Draw) -> Inputs:
    adjacency = (draw.floats(2, 6, 6) > 0).float()
    return {
        "nodes": draw.floats(2, 6, 5),
        "adjacency": ((adjacency + adjacency.mT + torch.eye(6)) > 0).float(),
    }


CASES = [
    Entry(
        "sasrec",
        "sequences",
        made(SASRec, lambda d: {"log_seqs": d.ids(2, 6), "candidates": d.ids(2, 3)}),
        {"self": 2},
        ({"log_seqs": 6, "candidates": 3}, {"log_seqs": 6}),
        "log_seqs[5] and candidates[1] | log_seqs[5]",
    ),
    Entry(
        "bst",
        "sequences",
        made(
            BehaviourSequence,
            lambda d: {"history": d.ids(2, 5), "target": d.ids(2), "profile": d.floats(2, 3)},
        ),
        {"self": 1},
        ({"history": 5, "target": 1}, {"history": 5, "target": 1, "profile": 1}),
        "",
    ),
    Entry(
        "decision-transformer",
        "sequences",
        made(DecisionTransformer, control),
        {"self": 1},
        {"returns": 4, "states": 4, "actions": 4},
        "states[3]",
        last,
    ),
    Entry(
        "evoformer",
        "sequences",
        made(Evoformer, lambda d: {"msa": d.ids(2, 3, 5)}),
        {"self": 3},
        {"msa": 15},
        "msa[2]",
        (2, 1),
    ),
    Entry(
        "set-transformer",
        "sequences",
        made(SetTransformer, lambda d: {"points": d.floats(2, 7, 3)}),
        {"co": 2, "pooling": 1},
        ({"points": 7, "inducing": 4, "seed": 1}, {"points": 7, "inducing": 4}),
        "",
    ),
    Entry(
        "ft-transformer",
        "sequences",
        made(
            FeatureTokenizer,
            lambda d: {"numbers": d.floats(2, 4), "categories": d.ids(2, 3, low=0, high=5)},
        ),
        {"self": 2},
        ({"numbers": 4, "categories": 4}, {"numbers": 5, "categories": 3}),
        "categories[3] | numbers[4]",
    ),
    Entry(
        "patch-tst",
        "sequences",
        made(PatchSeries, lambda d: {"series": d.floats(2, 16, 3)}),
        {"self": 1},
        {"series": 21},
        "",
        (1, 2),
    ),
    Entry(
        "itransformer",
        "sequences",
        made(Inverted, lambda d: {"series": d.floats(2, 16, 3)}),
        {"self": 1},
        {"series": 3},
        "series[2]",
        (1, 2),
        by_hand=plain("series", 1, 2),
    ),
    Entry(
        "knowledge-tracing",
        "sequences",
        made(KnowledgeTracing, lambda d: {"interactions": d.ids(2, 6), "exercises": d.ids(2, 6)}),
        {"encoder-decoder": 1},
        {"interactions": 6, "exercises": 6},
        "exercises[5]",
        lambda out: out[:, -1],
    ),
    Entry(
        "graph-attention",
        "sequences",
        made(GraphAttention, graph),
        {"self": 2},
        {"nodes": 6},
        "nodes[3]",
        (3, 1),
    ),
    Entry(
        "pointer-network",
        "sequences",
        made(PointerNetwork, lambda d: {"cities": d.floats(2, 6, 2)}),
        {"self": 1},
        {"cities": 6},
        "cities[0..5]",
    ),
    Entry(
        "conformer",
        "sequences",
        made(Conformer, lambda d: {"features": d.floats(2, 24, 8)}),
        {"self": 1},
        {"features": 6},
        "",
        last,
    ),
    Entry(
        "trajectory",
        "sequences",
        made(Trajectory, lambda d: {"agents": d.floats(2, 3, 5, 2), "lanes": d.floats(2, 4, 3)}),
        {"self": 2, "encoder-decoder": 1},
        {"agents": 15, "lanes": 4},
        "agents[14]",
        (2, 1),
    ),
    Entry(
        "deep-interest",
        "sequences",
        made(DeepInterest, lambda d: {"history": d.ids(2, 6), "candidate": d.ids(2)}),
        {"encoder-decoder|pooling": 1},
        {"history": 6, "candidate": 1},
        "",
    ),
]
