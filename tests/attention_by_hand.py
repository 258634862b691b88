"""A classifier around any attention, and what explaining it should give, by hand.

An attention calls `noted` with its weights. Run by hand, the model keeps these with their gradients,
and the paper's equations follow; explained, it runs as if the call were not there.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxplain
from tests.oracle import Oracle
from tests.small_models import VOCABULARY, words

TOKENS, WIDTH, HEADS, CLASSES = 6, 8, 2, 3
SIZE = WIDTH // HEADS

Place = Callable[[Tensor], Tensor]
"""From numbers laid out as the weights to (batch, heads, tokens, tokens)."""

Note = tuple[Tensor, Place, bool]

_notes: list[Note] | None = None


def _as_it_is(weights: Tensor) -> Tensor:
    return weights


def noted(weights: Tensor, place: Place = _as_it_is, *, newborn_keys: bool = False) -> Tensor:
    """The weights, noted in a run by hand; ``newborn_keys``: they are from before any attention."""
    if _notes is not None:
        if weights.requires_grad:
            weights.retain_grad()
        _notes.append((weights, place, newborn_keys))
    return weights


def now_by_hand() -> bool:
    """Whether this run is one by hand."""
    return _notes is not None


def _plain_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """What `scaled_dot_product_attention` computes, with its weights noted."""
    if enable_gqa:
        groups = query.shape[-3] // key.shape[-3]
        key, value = (x.repeat_interleave(groups, -3) for x in (key, value))
    scores = query @ key.mT * (query.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, float("-inf"))
    elif attn_mask is not None:
        scores = scores + attn_mask
    return noted(scores.softmax(-1)) @ value


@contextmanager
def by_hand() -> Iterator[list[Note]]:
    """Within, attentions note their weights, fused ones and `nn.MultiheadAttention` too."""
    global _notes
    fused, softmax = F.scaled_dot_product_attention, F.softmax

    def folded(scores: Tensor, dim: int) -> Tensor:  # (batch * heads, s, q)
        return noted(softmax(scores, dim), lambda x: x.unflatten(0, (-1, HEADS)))

    _notes = []
    F.scaled_dot_product_attention, F.softmax = _plain_attention, folded
    try:
        yield _notes
    finally:
        _notes = None
        F.scaled_dot_product_attention, F.softmax = fused, softmax


class Classifier(nn.Module):
    """Words and positions, attentions added to them, three classes read from the first word."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, WIDTH)
        self.positions = nn.Parameter(torch.randn(TOKENS, WIDTH))
        self.layers = nn.ModuleList(layers)
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, CLASSES)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids) + self.positions
        for layer in self.layers:
            x = x + layer(x)
        return self.head(self.norm(x)[:, 0])


def classifier(*make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Classifier(*(each() for each in make)).double().eval()


def _squared(a_bar: Tensor, tokens: int) -> np.ndarray:
    """(batch, tokens, tokens): keys of no token left out, learned keys given rows of zero."""
    full = a_bar.new_zeros(len(a_bar), tokens, tokens)
    kept = min(a_bar.shape[-1], tokens)
    full[:, : a_bar.shape[-2], :kept] = a_bar[..., :kept]
    return full.numpy()


def relevance_by_hand(
    model: nn.Module, inputs: tuple[Tensor, ...], target: int, tokens: int = TOKENS
) -> np.ndarray:
    """Row 0 of R after equation 6 at every noted attention, (batch, tokens)."""
    with by_hand() as notes, torch.enable_grad():
        model(*inputs)[:, target].sum().backward()
    model.zero_grad()
    positive = [(place((w.grad * w).detach().clamp(min=0)), born) for w, place, born in notes]
    maps = [(_squared(heads.mean(1).double(), tokens), born) for heads, born in positive]
    rows = []
    for sample in range(len(maps[0][0])):
        oracle = Oracle({"ids": tokens})
        for a_bar, newborn_keys in maps:
            if newborn_keys:
                oracle.R["ids", "ids"] += a_bar[sample]
            else:
                oracle.self_attention("ids", a_bar[sample])
        rows.append(oracle.R["ids", "ids"][0])
    return np.stack(rows)


def check_classifier(
    model: nn.Module, *, tolerance: float = 1e-8, tokens: int = TOKENS
) -> fxplain.Explanation:
    """Every noted attention is a self-attention node, and the relevance is that by hand."""
    inputs = (words(2, TOKENS),)
    explanation = fxplain.explain(model, inputs, target=1)
    want = relevance_by_hand(model, inputs, 1, tokens)
    got = explanation.relevance["ids"].double().numpy()
    start = np.eye(tokens)[0]
    largest = np.abs(want - start).max()
    assert largest > 1e-6  # or it would prove nothing
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * largest)
    with by_hand() as notes:
        model(*inputs)
    assert [node.kind for node in explanation.graph.nodes] == ["self"] * len(notes)
    assert explanation.graph.warnings == ()
    return explanation


# Attention to begin with


def split(x: Tensor) -> Tensor:
    """(batch, tokens, width) to (batch, heads, tokens, size)."""
    return x.unflatten(-1, (HEADS, SIZE)).transpose(1, 2)


def merged(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)


class Form(nn.Module):
    """Multi-head attention; what differs from form to form is a method of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.build()

    def build(self) -> None:
        pass

    def forward(self, x: Tensor) -> Tensor:
        query, key = self.turned(split(self.query(x)), split(self.key(x)))
        return self.out(merged(self.mixed(self.scores(query, key), split(self.value(x)))))

    def turned(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        return query, key

    def scores(self, query: Tensor, key: Tensor) -> Tensor:
        return query @ key.mT / math.sqrt(SIZE)

    def mixed(self, scores: Tensor, value: Tensor) -> Tensor:
        return noted(scores.softmax(-1)) @ value


def distances() -> Tensor:
    place = torch.arange(TOKENS)
    return place[None] - place[:, None]
