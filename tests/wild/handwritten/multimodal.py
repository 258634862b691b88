"""Models of several modalities as people write them, in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.wild.case import ByHand, Draw, Entry, Inputs, joint, made

D, H, V = 16, 2, 30


class Attend(nn.Module):
    """Pre-norm attention of x to a context, or to itself, added to x."""

    def __init__(self, context: int = D):
        super().__init__()
        self.norm, self.q, self.kv = nn.LayerNorm(D), nn.Linear(D, D), nn.Linear(context, 2 * D)
        self.o = nn.Linear(D, D)

    def forward(self, x, context=None, mask=None):
        y = self.norm(x)
        k, v = self.kv(y if context is None else context).chunk(2, -1)
        q, k, v = (t.unflatten(-1, (H, -1)).transpose(1, 2) for t in (self.q(y), k, v))
        a = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return x + self.o(a.transpose(1, 2).flatten(2))


class Ff(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.LayerNorm(D), nn.Linear(D, 32), nn.GELU(), nn.Linear(32, D))

    def forward(self, x):
        return x + self.net(x)


def text_image(draw: Draw) -> Inputs:
    return {"text": draw.ids(2, 6), "regions": draw.floats(2, 4, 10)}


class ViLBERT(nn.Module):
    """Two streams; co-attention reads both sides from before; the first tokens are multiplied."""

    def __init__(self, fuse: str = "mul"):
        super().__init__()
        self.fuse, self.emb, self.regions = fuse, nn.Embedding(V, D), nn.Linear(10, D)
        self.text_self, self.image_self, self.text_co, self.image_co, self.text_last = (
            Attend() for _ in range(5)
        )
        self.head = nn.Linear(2 * D if fuse == "cat" else D, 3)

    def forward(self, text, regions):
        t, v = self.text_self(self.emb(text)), self.image_self(self.regions(regions))
        t, v = self.text_co(t, v), self.image_co(v, t)
        t = self.text_last(t)
        if self.fuse == "text":
            return self.head(t[:, 0])
        if self.fuse == "cat":
            return self.head(torch.cat([t[:, 0], v.mean(1)], dim=-1))
        return self.head(t[:, 0] * v[:, 0])


CO = (("t", "t"), ("v", "v"), (("t", "v"), ("v", "t")), ("t", "t"))
TWO = {"t": ("text",), "v": ("regions",)}


class Cross(nn.Module):
    """LXMERT's cross layers: both directions at once by one shared module, then each to itself."""

    def __init__(self):
        super().__init__()
        self.emb, self.regions, self.boxes = nn.Embedding(V, D), nn.Linear(10, D), nn.Linear(4, D)
        self.lang, self.cross = Attend(), Attend()
        self.lang_self, self.visn_self, self.head = Attend(), Attend(), nn.Linear(D, 3)

    def forward(self, text, regions, boxes):
        t, v = self.lang(self.emb(text)), (self.regions(regions) + self.boxes(boxes)) / 2
        t, v = self.cross(t, v), self.cross(v, t)
        t, v = self.lang_self(t), self.visn_self(v)
        return self.head(torch.tanh(t[:, 0]))


class OneStream(nn.Module):
    """ViLT: words and patches in one sequence, with a type embedding for each."""

    def __init__(self):
        super().__init__()
        self.emb, self.patch, self.kind = (
            nn.Embedding(V, D),
            nn.Conv2d(3, D, 4, 4),
            nn.Embedding(2, D),
        )
        self.layers, self.head = nn.ModuleList(Attend() for _ in range(2)), nn.Linear(D, 3)

    def forward(self, text, image, mask):
        t, v = self.emb(text), self.patch(image).flatten(2).transpose(1, 2)
        t = t + self.kind(torch.zeros_like(text))
        v = v + self.kind(torch.ones(v.shape[:2], dtype=torch.long))
        x = torch.cat([t, v], dim=1)
        keep = torch.cat([mask, torch.ones(v.shape[:2], dtype=torch.long)], dim=1).bool()
        for layer in self.layers:
            x = layer(x, mask=keep[:, None, None])
        return self.head(x[:, 0])


class Clip(nn.Module):
    """Two towers; the text is read at its largest id, the image at its CLS; their cosine, per pair."""

    def __init__(self):
        super().__init__()
        self.emb, self.patch, self.cls = (
            nn.Embedding(V, D),
            nn.Conv2d(3, D, 4, 4),
            nn.Parameter(torch.randn(D)),
        )
        self.text, self.vision = Attend(), Attend()
        self.text_projection, self.visual_projection = (
            nn.Parameter(torch.randn(D, 8)) for _ in range(2)
        )
        self.logit_scale = nn.Parameter(torch.tensor(1.5))

    def forward(self, image, text):
        n = text.shape[1]
        t = self.text(self.emb(text), mask=torch.ones(n, n, dtype=torch.bool).tril())
        t = t[torch.arange(len(t)), text.argmax(dim=-1)] @ self.text_projection
        v = self.patch(image).flatten(2).transpose(1, 2)
        v = torch.cat([self.cls + torch.zeros(len(v), 1, D), v], dim=1)
        v = self.vision(v)[:, 0] @ self.visual_projection
        t, v = (x / x.norm(dim=1, keepdim=True) for x in (t, v))
        return self.logit_scale.exp() * (t * v).sum(-1)


class Flamingo(nn.Module):
    """Latents attend to [image; latents]; gated cross-attention in a causal text model."""

    def __init__(self):
        super().__init__()
        self.emb, self.latents, self.to_image = (
            nn.Embedding(V, D),
            nn.Parameter(torch.randn(3, D)),
            nn.Linear(10, D),
        )
        self.resample, self.cross, self.self_ = Attend(), Attend(), Attend()
        self.gate, self.head = nn.Parameter(torch.zeros(1)), nn.Linear(D, V)

    def forward(self, text, regions):
        x, image = self.emb(text), self.to_image(regions)
        latents = self.latents.expand(len(image), -1, -1)
        latents = self.resample(latents, torch.cat([image, latents], dim=1))
        x = x + self.gate.tanh() * (self.cross(x, latents) - x)
        n = x.shape[1]
        return self.head(self.self_(x, mask=torch.ones(n, n, dtype=torch.bool).tril()))


class QFormer(nn.Module):
    """BLIP-2: learned queries and words attend together; only the queries see the image."""

    def __init__(self):
        super().__init__()
        self.emb, self.queries, self.to_image = (
            nn.Embedding(V, D),
            nn.Parameter(torch.randn(1, 3, D)),
            nn.Linear(10, D),
        )
        self.self_, self.cross, self.again = Attend(), Attend(), Attend()
        self.head = nn.Linear(D, 2)

    def forward(self, text, regions):
        x = torch.cat([self.queries.expand(len(text), -1, -1), self.emb(text)], dim=1)
        x = self.self_(x)
        x = torch.cat([self.cross(x[:, :3], self.to_image(regions)), x[:, 3:]], dim=1)
        return self.head(self.again(x)[:, :3]).mean(dim=1)


class Captioner(nn.Module):
    """A vision encoder, projected, put before the words of a causal decoder."""

    def __init__(self):
        super().__init__()
        self.patch, self.vision, self.project = nn.Conv2d(3, D, 4, 4), Attend(), nn.Linear(D, D)
        self.emb, self.layers, self.head = (
            nn.Embedding(V, D),
            nn.ModuleList(Attend() for _ in range(2)),
            nn.Linear(D, V),
        )

    def forward(self, image, ids):
        v = self.project(self.vision(self.patch(image).flatten(2).transpose(1, 2)))
        x = torch.cat([v, self.emb(ids)], dim=1)
        n = x.shape[1]
        for layer in self.layers:
            x = layer(x, mask=torch.ones(n, n, dtype=torch.bool).tril())
        return self.head(x[:, v.shape[1] :])


class Three(nn.Module):
    """Text asks sound and video in turn, and then itself."""

    def __init__(self):
        super().__init__()
        self.emb, self.audio, self.video = nn.Embedding(V, D), nn.Linear(5, D), nn.Linear(7, D)
        self.a, self.v, self.s, self.head = Attend(), Attend(), Attend(), nn.Linear(D, 3)

    def forward(self, text, audio, video):
        x = self.emb(text)
        x = self.a(x, self.audio(audio))
        x = self.v(x, self.video(video))
        return self.head(self.s(x)[:, 0])


class BiEncoder(nn.Module):
    """One encoder for questions and passages, masked means, a cosine."""

    def __init__(self):
        super().__init__()
        self.emb, self.layer = nn.Embedding(V, D), Attend()

    def encode(self, ids):
        mask = (ids != 0).float()
        x = self.layer(self.emb(ids), mask=mask[:, None, None].bool())
        x = (x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1e-9)
        return F.normalize(x, dim=-1)

    def forward(self, question, passage):
        return (self.encode(question) * self.encode(passage)).sum(-1)


class ColBert(nn.Module):
    """Late interaction: each query token takes its best document token."""

    def __init__(self):
        super().__init__()
        self.emb, self.layer, self.linear = (
            nn.Embedding(V, D),
            Attend(),
            nn.Linear(D, 8, bias=False),
        )

    def forward(self, query, doc):
        q, d = (F.normalize(self.linear(self.layer(self.emb(x))), dim=-1) for x in (query, doc))
        return (q @ d.permute(0, 2, 1)).max(2).values.sum(1)


class CrossEncoder(nn.Module):
    """Both texts in one sequence, joined inside the model."""

    def __init__(self):
        super().__init__()
        self.emb, self.segment, self.layers = (
            nn.Embedding(V, D),
            nn.Embedding(2, D),
            nn.ModuleList(Attend() for _ in range(2)),
        )
        self.head = nn.Linear(D, 1)

    def forward(self, query, doc):
        ids = torch.cat([query, doc], dim=1)
        segment = torch.cat([torch.zeros_like(query), torch.ones_like(doc)], dim=1)
        x = self.emb(ids) + self.segment(segment)
        for layer in self.layers:
            x = layer(x)
        return self.head(x[:, 0]).squeeze(-1)


class Ensemble(nn.Module):
    """Two encoders of the same text, each with its own embedding; their means are averaged."""

    def __init__(self):
        super().__init__()
        self.embs, self.layers, self.head = (
            nn.ModuleList(nn.Embedding(V, D) for _ in range(2)),
            nn.ModuleList(Attend() for _ in range(2)),
            nn.Linear(D, 3),
        )

    def forward(self, ids):
        parts = [layer(emb(ids)).mean(1) for emb, layer in zip(self.embs, self.layers, strict=True)]
        return self.head(torch.stack(parts).mean(0))


class Late(nn.Module):
    """A text and a table of numbers, encoded apart, concatenated and classified."""

    def __init__(self):
        super().__init__()
        self.emb, self.text, self.columns = (
            nn.Embedding(V, D),
            Attend(),
            nn.Parameter(torch.randn(5, D)),
        )
        self.table, self.cls, self.head = (
            Attend(),
            nn.Parameter(torch.randn(1, 1, D)),
            nn.Linear(2 * D, 3),
        )

    def forward(self, text, numbers):
        t = self.text(self.emb(text)).mean(1)
        x = torch.cat(
            [self.cls.expand(len(numbers), -1, -1), numbers[..., None] * self.columns], dim=1
        )
        return self.head(torch.cat([t, self.table(x)[:, 0]], dim=-1))


def identity(output: Tensor) -> Tensor:
    return output


def pair(a: str, b: str, pad: bool = False):
    def inputs(draw: Draw) -> Inputs:
        first, second = draw.ids(2, 5), draw.ids(2, 8)
        if pad:
            second[1, 6:] = 0
        return {a: first, b: second}

    return inputs


def last(output: Tensor) -> Tensor:
    return output[:, -1, 1]


def mask6(draw: Draw) -> Inputs:
    mask = torch.ones(2, 6, dtype=torch.long)
    mask[1, 4:] = 0
    return {"text": draw.ids(2, 6), "image": draw.images(8), "mask": mask}


def clip_inputs(draw: Draw) -> Inputs:
    text = draw.ids(2, 6, high=20)
    text[0, 4], text[1, 3] = 29, 29
    return {"image": draw.images(8), "text": text}


CASES = [
    Entry(
        "vilbert-text",
        "multimodal",
        made(lambda: ViLBERT("text"), text_image),
        {"self": 3, "co|encoder-decoder": 2},
        {"text": 6, "regions": 4},
        "text[0]",
        dead=1,
    ),
    Entry(
        "vilbert-product",
        "multimodal",
        made(lambda: ViLBERT("mul"), text_image),
        {"self": 3, "co": 2},
        {"text": 6, "regions": 4},
        "text[0] and regions[0]",
    ),
    Entry(
        "vilbert-concatenated",
        "multimodal",
        made(lambda: ViLBERT("cat"), text_image),
        {"self": 3, "co": 2},
        {"text": 6, "regions": 4},
        "text[0] and regions[0..3]",
    ),
    Entry(
        "lxmert-cross",
        "multimodal",
        made(Cross, lambda d: {**text_image(d), "boxes": d.floats(2, 4, 4)}),
        {"self": 3, "co|encoder-decoder": 2},
        {"text": 6, "regions": 4},
        "text[0]",
        dead=2,
    ),
    Entry(
        "vilt",
        "multimodal",
        made(OneStream, mask6),
        {"self": 2},
        {"text": 6, "image": 4},
        "text[0]",
        by_hand=joint(("text", "image"), 2, 0),
    ),
    Entry(
        "clip",
        "multimodal",
        made(Clip, clip_inputs),
        {"self": 2},
        {"text": 6, "image": 5},
        ("text[4] and image[0]", "text[3] and image[0]"),
        identity,
    ),
    Entry(
        "flamingo",
        "multimodal",
        made(Flamingo, text_image),
        {"self": 1, "encoder-decoder": 2},
        {"text": 6, "regions": 4, "latents": 3},
        "text[5]",
        last,
    ),
    Entry(
        "q-former",
        "multimodal",
        made(QFormer, text_image),
        {"self": 2, "encoder-decoder": 1},
        ({"text": 9, "regions": 4}, {"text": 6, "regions": 4, "queries": 3}),
        "",
    ),
    Entry(
        "captioner",
        "multimodal",
        made(Captioner, lambda d: {"image": d.images(8), "ids": d.ids(2, 5)}),
        {"self": 3},
        {"image": 4, "ids": 5},
        "ids[4]",
        last,
    ),
    Entry(
        "three-modalities",
        "multimodal",
        made(
            Three,
            lambda d: {"text": d.ids(2, 6), "audio": d.floats(2, 4, 5), "video": d.floats(2, 3, 7)},
        ),
        {"self": 1, "encoder-decoder": 2},
        {"text": 6, "audio": 4, "video": 3},
        "text[0]",
        by_hand=ByHand(
            {"t": ("text",), "a": ("audio",), "v": ("video",)},
            (("t", "a"), ("t", "v"), ("t", "t")),
            {"t": 0},
        ),
    ),
    Entry(
        "bi-encoder",
        "multimodal",
        made(BiEncoder, pair("question", "passage", True)),
        {"self": 2},
        {"question": 5, "passage": 8},
        ("question[0..4] and passage[0..7]", "question[0..4] and passage[0..5]"),
        identity,
    ),
    Entry(
        "colbert",
        "multimodal",
        made(ColBert, pair("query", "doc")),
        {"self": 2},
        {"query": 5, "doc": 8},
        "query[0..4] and doc[*]",
        identity,
    ),
    Entry(
        "cross-encoder",
        "multimodal",
        made(CrossEncoder, pair("query", "doc")),
        {"self": 2},
        {"query": 5, "doc": 8},
        "query[0]",
        identity,
        by_hand=joint(("query", "doc"), 2, 0),
    ),
    Entry(
        "ensemble",
        "multimodal",
        made(Ensemble, lambda d: {"ids": d.ids(2, 6)}),
        {"self": 2},
        {"ids": 6},
        "ids[0..5]",
    ),
    Entry(
        "text-and-table",
        "multimodal",
        made(Late, lambda d: {"text": d.ids(2, 6), "numbers": d.floats(2, 5)}),
        {"self": 2},
        {"text": 6, "numbers": 6},
        "text[0..5] and numbers[0]",
    ),
]
