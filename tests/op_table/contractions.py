"""Samples of products: linear layers, matrix products, distances, attention."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, fx, ops

from tests.op_table.layouts import (
    HEADS,
    LAYOUTS,
    channels_first,
    flat,
    folded,
    heads,
    heads_folded,
    one_token,
)
from tests.op_table.samples import Sample
from tests.op_table.setting import BATCH, LENGTH, WIDTH, Setting

__all__ = ["CONTRACTIONS"]

aten = ops.aten
F64 = torch.float64


def _contractions() -> Iterator[Sample]:
    for layout, (make, _) in LAYOUTS.items():
        yield Sample(f"linear of {layout}", lambda s, f=make: _projected(s, f(s)))
    yield Sample(
        "linear of tokens", lambda s: aten.linear(channels_first(s), s.parameter(4, LENGTH))
    )
    yield Sample(
        "linear of as many tokens",
        lambda s: aten.linear(channels_first(s), s.parameter(LENGTH, LENGTH)),
    )
    yield Sample("linear to one number", lambda s: aten.linear(s.tokens(), s.parameter(WIDTH)))
    yield Sample(
        "linear of merged patches",
        lambda s: aten.linear(
            aten.reshape(s.tokens(), [s.batch, 3, 2 * WIDTH]), s.parameter(5, 2 * WIDTH)
        ),
    )
    yield Sample(
        "linear of all at once", lambda s: aten.linear(flat(s), s.parameter(5, LENGTH * WIDTH))
    )
    yield Sample(
        "linear of a learned query",
        lambda s: aten.linear(s.parameter(3, WIDTH, token=True), s.parameter(WIDTH, WIDTH)),
    )
    for name in ("matmul", "linalg_matmul"):
        op = getattr(aten, name)
        yield Sample(f"{name} with a weight", lambda s, o=op: o(s.tokens(), s.parameter(WIDTH, 5)))
        yield Sample(f"{name} with a vector", lambda s, o=op: o(s.tokens(), s.parameter(WIDTH)))
        yield Sample(
            f"{name} of a weight", lambda s, o=op: o(s.parameter(5, WIDTH), channels_first(s))
        )
        yield Sample(
            f"{name} of a weight with tokens", lambda s, o=op: o(s.parameter(4, LENGTH), s.tokens())
        )
        yield Sample(
            f"{name} of a constant with tokens",
            lambda s, o=op: o(s.numbers(LENGTH, LENGTH), s.tokens()),
        )
        yield Sample(
            f"{name} for scores", lambda s, o=op: o(s.tokens(), aten.mT(s.tokens("others", 5)))
        )
        yield Sample(f"{name} for scores of heads", lambda s, o=op: o(heads(s), aten.mT(heads(s))))
        yield Sample(f"{name} of features", lambda s, o=op: o(channels_first(s), s.tokens("types")))
    offsets = torch.tensor([5, 12], dtype=torch.int32)
    yield Sample(
        "_grouped_mm",
        lambda s: aten._grouped_mm(_single(folded(s)), _single(s.parameter(2, WIDTH, 8)), offsets),
    )
    yield Sample("grouped_mm_fallback", lambda s: _grouped(s, offsets))
    yield Sample("mm", lambda s: aten.mm(folded(s), s.parameter(WIDTH, 5)))
    yield Sample(
        "mm of sequences",
        lambda s: aten.mm(
            aten.select(s.tokens(), 0, 1), aten.t(aten.select(s.tokens("others", 5), 0, 1))
        ),
    )
    yield Sample("bmm", lambda s: aten.bmm(s.tokens(), aten.mT(s.tokens("others", 5))))
    yield Sample(
        "bmm with a weight",
        lambda s: aten.bmm(s.tokens(), aten.expand(s.parameter(1, WIDTH, 5), [s.batch, -1, -1])),
    )
    yield Sample(
        "bmm of folded heads", lambda s: aten.bmm(heads_folded(s), aten.mT(heads_folded(s)))
    )
    yield Sample("mv", lambda s: aten.mv(folded(s), s.parameter(WIDTH)))
    yield Sample(
        "dot",
        lambda s: aten.dot(
            aten.select(one_token(s), 0, 0),
            aten.select(aten.select(s.tokens("others"), 1, 0), 0, 0),
        ),
    )
    yield Sample("vdot", lambda s: aten.vdot(aten.select(one_token(s), 0, 0), s.parameter(WIDTH)))
    yield Sample("addmm", lambda s: aten.addmm(s.parameter(5), folded(s), s.parameter(WIDTH, 5)))
    yield Sample(
        "addmm to tokens",
        lambda s: aten.addmm(folded(s), aten.relu(folded(s)), s.parameter(WIDTH, WIDTH)),
    )
    yield Sample(
        "baddbmm",
        lambda s: aten.baddbmm(s.numbers(1, LENGTH, 5), s.tokens(), aten.mT(s.tokens("others", 5))),
    )
    yield Sample(
        "baddbmm of folded heads",
        lambda s: aten.baddbmm(
            s.numbers(BATCH * HEADS, LENGTH, LENGTH), heads_folded(s), aten.mT(heads_folded(s))
        ),
    )
    yield Sample("cdist", lambda s: aten.cdist(s.tokens(), s.tokens("others", 5)))
    yield Sample("cdist to places", lambda s: aten.cdist(s.tokens(), s.numbers(BATCH, 3, WIDTH)))
    yield Sample(
        "_cdist_forward",
        lambda s: aten._cdist_forward(s.tokens(), s.tokens("others", 5), 2.0, None),
    )
    yield Sample(
        "_euclidean_dist", lambda s: aten._euclidean_dist(s.tokens(), s.tokens("others", 5))
    )
    yield Sample(
        "attention, fused",
        lambda s: aten.scaled_dot_product_attention(heads(s), heads(s), heads(s)),
    )
    for dim in (-1, 2):
        yield Sample(
            f"cosine_similarity along {dim}",
            lambda s, d=dim: aten.cosine_similarity(s.tokens(), s.tokens("types"), d),
        )
        yield Sample(
            f"linalg_vecdot along {dim}",
            lambda s, d=dim: aten.linalg_vecdot(s.tokens(), s.tokens("types"), dim=d),
        )
    yield Sample(
        "cosine_similarity of pairs",
        lambda s: aten.cosine_similarity(
            aten.unsqueeze(s.tokens(), 2), aten.unsqueeze(s.tokens("others", 5), 1), -1
        ),
    )
    yield Sample(
        "cosine_similarity of two embeddings",
        lambda s: aten.cosine_similarity(one_token(s), aten.select(s.tokens("others"), 1, 0)),
    )
    yield Sample(
        "pairwise_distance", lambda s: aten.pairwise_distance(s.tokens(), s.tokens("types"))
    )
    yield Sample(
        "pairwise_distance, kept",
        lambda s: aten.pairwise_distance(s.tokens(), s.numbers(WIDTH), keepdim=True),
    )
    yield Sample(
        "cosine_similarity along tokens",
        lambda s: aten.cosine_similarity(s.tokens(), s.tokens("types"), 1),
    )


def _single(x: fx.Proxy) -> fx.Proxy:
    return aten._to_copy(x, dtype=torch.float32)


def _grouped(s: Setting, offsets: Tensor) -> fx.Proxy:
    """The experts' products of `transformers`, where it is installed with a PyTorch of its liking."""
    import transformers.integrations.moe  # noqa: F401

    return ops.transformers.grouped_mm_fallback(folded(s), s.parameter(2, WIDTH, 8), offsets)


def _projected(s: Setting, x: fx.Proxy) -> fx.Proxy:
    """A linear layer over the last axis, however wide it is."""
    return aten.linear(x, s.parameter(5, s.shape(x)[-1]))


CONTRACTIONS = [*_contractions()]
