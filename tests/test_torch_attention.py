"""PyTorch's own attention, with its flags: against what it reports, and by hand."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

import fxplain
from tests.attention_by_hand import (
    CLASSES,
    HEADS,
    TOKENS,
    WIDTH,
    by_hand,
    check_classifier,
    classifier,
    noted,
    now_by_hand,
    relevance_by_hand,
)
from tests.small_models import VOCABULARY, words

CAUSAL = torch.ones(TOKENS, TOKENS, dtype=torch.bool).triu(1)  # True: not attended
PADDED = torch.zeros(2, TOKENS, dtype=torch.bool)
PADDED[1, -2:] = True


class SelfAttention(nn.Module):
    """`nn.MultiheadAttention` of words to themselves, with flags of the module and of the call."""

    def __init__(self, flags: dict[str, Any], call: dict[str, Any]) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, **{"batch_first": True, **flags})
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.attention.batch_first else x.transpose(0, 1)
        mixed = self.attention(x, x, x, **self.call)[0]
        return mixed if self.attention.batch_first else mixed.transpose(0, 1)


def additive(mask: Tensor) -> Tensor:
    return torch.zeros(mask.shape, dtype=torch.float64).masked_fill(mask, float("-inf"))


MASKS: dict[str, dict[str, Any]] = {
    "none": {},
    "bool": {"attn_mask": CAUSAL},
    "float": {"attn_mask": additive(CAUSAL)},
    "3-D": {"attn_mask": CAUSAL.repeat(2 * HEADS, 1, 1)},
    "padding": {"key_padding_mask": PADDED},
    "float padding": {"key_padding_mask": additive(PADDED)},
    "padding and float": {"key_padding_mask": additive(PADDED), "attn_mask": additive(CAUSAL)},
    "causal": {"attn_mask": CAUSAL, "is_causal": True},
    "padded causal": {"attn_mask": CAUSAL, "is_causal": True, "key_padding_mask": PADDED},
}
REPORTS: dict[str, dict[str, Any]] = {
    "weights": {},
    "weights of heads": {"average_attn_weights": False},
    "no weights": {"need_weights": False},
}


@pytest.mark.parametrize(
    ("mask", "report"),
    [
        *((mask, "no weights") for mask in MASKS),
        ("padding", "weights"),
        ("3-D", "weights of heads"),
    ],
)
def test_masks(mask: str, report: str) -> None:
    call = {**MASKS[mask], **REPORTS[report]}
    check_classifier(classifier(lambda: SelfAttention({}, call)))


@pytest.mark.parametrize("report", ["weights", "no weights"])
@pytest.mark.parametrize(
    "flags", [{"batch_first": False}, {"bias": False}, {"add_zero_attn": True}]
)
def test_flags(flags: dict[str, Any], report: str) -> None:
    model = classifier(lambda: SelfAttention(flags, REPORTS[report]))
    (node,) = check_classifier(model).graph.nodes
    assert node.k_len == TOKENS + flags.get("add_zero_attn", False)  # a key of no token


@pytest.mark.parametrize("report", ["weights", "no weights"])
@pytest.mark.parametrize("zero", [False, True])
def test_a_learned_key_is_a_special_token(zero: bool, report: str) -> None:
    flags = {"add_bias_kv": True, "add_zero_attn": zero}
    model = classifier(lambda: SelfAttention(flags, REPORTS[report]))
    for parameter in (model.layers[0].attention.bias_k, model.layers[0].attention.bias_v):
        nn.init.normal_(parameter)
    explanation = check_classifier(model, tokens=TOKENS + 1)
    (special,) = explanation.special["ids"].values()
    assert special.startswith("layers.0.attention.bias_")


class CrossAttention(nn.Module):
    """Words ask features of another width."""

    def __init__(self, batched: bool = True) -> None:
        super().__init__()
        self.words, self.batched = nn.Embedding(VOCABULARY, WIDTH), batched
        self.project = nn.Linear(4, 4)
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, kdim=4, vdim=4, batch_first=True)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, ids: Tensor, features: Tensor) -> Tensor:
        x, y = self.words(ids), self.project(features)
        if not self.batched:
            x, y = x.squeeze(0), y.squeeze(0)
        mixed, _ = self.attention(x, y, y, average_attn_weights=False)
        x = x + mixed
        return self.head(x if self.batched else x.unsqueeze(0))[:, 0]


@pytest.mark.parametrize("batched", [True, False])
def test_cross_attention_with_keys_of_their_own_width(batched: bool) -> None:
    torch.manual_seed(0)
    model = CrossAttention(batched).double().eval()
    inputs = words(1, 5), torch.randn(1, 7, 4, dtype=torch.float64)
    explanation = fxplain.explain(model, inputs, target=2)
    (node,) = explanation.graph.nodes
    assert (node.kind, node.query, node.key) == ("encoder-decoder", ("ids",), ("features",))
    assert (node.heads, node.q_len, node.k_len) == (HEADS, 5, 7)
    (found,) = fxplain.attention_weights(model, inputs).values()
    x, y = model.words(inputs[0]), model.project(inputs[1])
    _, reported = model.attention(x, y, y, average_attn_weights=False)
    torch.testing.assert_close(found.reshape(reported.shape), reported.detach())
    with by_hand() as notes:
        model(*inputs)[:, 2].sum().backward()
    ((weights, place, _),) = notes
    want = place((weights * weights.grad).detach().clamp(min=0)).mean(1)[:, 0]
    torch.testing.assert_close(explanation.relevance["features"], want)


class Layers(nn.Module):
    """`nn.TransformerEncoder` around the words, called with or without padding."""

    def __init__(self, *, nested: bool = False, padded: bool = False, **flags: Any) -> None:
        super().__init__()
        flags = {"dim_feedforward": 12, "batch_first": True, **flags}
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, **flags)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=nested)
        self.words, self.head = nn.Embedding(VOCABULARY, WIDTH), nn.Linear(WIDTH, CLASSES)
        self.padded, self.batch_first = padded, flags["batch_first"]

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        x = x if self.batch_first else x.transpose(0, 1)
        x = self.encoder(x, src_key_padding_mask=PADDED if self.padded else None)
        return self.head(x[:, 0] if self.batch_first else x[0])


ENCODERS = {
    "plain": {},
    "nested": {"nested": True, "padded": True},
    "padded": {"padded": True},
    "norm first": {"norm_first": True},
    "tokens first": {"batch_first": False},
    "gelu, no bias": {"activation": "gelu", "bias": False},
}


@pytest.mark.parametrize(
    ("name", "frozen"), [*((name, False) for name in ENCODERS), ("plain", True), ("nested", True)]
)
def test_transformer_encoder(name: str, frozen: bool) -> None:
    """Also in evaluation with frozen weights, where PyTorch takes its fused fast path."""
    torch.manual_seed(0)
    model = Layers(**ENCODERS[name]).double().eval()
    want = relevance_by_hand(model, (words(2, TOKENS),), 1)
    model.requires_grad_(not frozen)
    with torch.no_grad():
        explanation = fxplain.explain(model, (words(2, TOKENS),), target=1)
    assert [(node.kind, node.heads) for node in explanation.graph.nodes] == [("self", HEADS)] * 2
    assert explanation.graph.warnings == ()
    np.testing.assert_allclose(explanation.relevance["ids"].numpy(), want, rtol=0, atol=1e-9)


class Translator(nn.Module):
    """`nn.Transformer` with a causal mask over its target."""

    def __init__(self, norm_first: bool) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(VOCABULARY, WIDTH), nn.Linear(WIDTH, CLASSES)
        self.transformer = nn.Transformer(
            WIDTH, HEADS, 1, 2, 12, norm_first=norm_first, batch_first=True
        )

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(target.shape[1])
        mask = mask.to(self.head.weight)
        x, y = self.words(source), self.words(target)
        return self.head(self.transformer(x, y, tgt_mask=mask, tgt_is_causal=True))[:, -1]


@pytest.mark.parametrize("norm_first", [False, True])
def test_transformer(norm_first: bool) -> None:
    torch.manual_seed(0)
    model, inputs = Translator(norm_first).double().eval(), (words(2, 5), words(2, 4, seed=1))
    graph = fxplain.inspect(model, inputs)
    source, target = ("source",), ("target",)
    layer = [("self", target, target, 4, 4), ("encoder-decoder", target, source, 4, 5)]
    found = [(node.kind, node.query, node.key, node.q_len, node.k_len) for node in graph.nodes]
    assert found == [("self", source, source, 5, 5), *layer, *layer]
    assert graph.readout == "target[3]"
    weights = fxplain.attention_weights(model, inputs)
    with by_hand() as notes:
        model(*inputs)
    for got, (want, _, _) in zip(weights.values(), notes, strict=True):
        torch.testing.assert_close(got, want.detach())


# Fused attention by itself


class Fused(nn.Module):
    """`scaled_dot_product_attention` as a function of query, key and value."""

    def __init__(self, attend: Callable[..., Tensor], groups: int = HEADS) -> None:
        super().__init__()
        self.attend, self.size = attend, WIDTH // HEADS
        self.query, self.out = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.key, self.value = (nn.Linear(WIDTH, groups * self.size) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            f(x).unflatten(-1, (-1, self.size)).transpose(1, 2)
            for f in (self.query, self.key, self.value)
        )
        return self.out(self.attend(query, key, value).transpose(1, 2).flatten(2))


def sdpa(**flags: Any) -> Callable[..., Tensor]:
    return lambda q, k, v: F.scaled_dot_product_attention(q, k, v, **flags)


KEPT = ~CAUSAL
FUSED: dict[str, Callable[[], nn.Module]] = {
    "causal": lambda: Fused(sdpa(is_causal=True)),
    "scale": lambda: Fused(sdpa(scale=0.3)),
    "mask": lambda: Fused(sdpa(attn_mask=KEPT)),
    "float mask": lambda: Fused(sdpa(attn_mask=additive(CAUSAL))),
    "mask by head": lambda: Fused(sdpa(attn_mask=KEPT.expand(1, HEADS, -1, -1))),
    "grouped": lambda: Fused(sdpa(enable_gqa=True), groups=1),
    "grouped causal": lambda: Fused(sdpa(enable_gqa=True, is_causal=True), groups=1),
}


@pytest.mark.parametrize("name", FUSED)
def test_fused(name: str) -> None:
    check_classifier(classifier(FUSED[name]))


def flexible(**flags: Any) -> Callable[..., Tensor]:
    """`flex_attention`; by hand, what its functions say of all scores at once."""

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        if not now_by_hand():
            return flex_attention(query, key, value, **flags)
        if flags.get("enable_gqa"):
            key, value = (x.repeat_interleave(HEADS, 1) for x in (key, value))
        scores = query @ key.mT * flags.get("scale", query.shape[-1] ** -0.5)
        places = torch.meshgrid(*map(torch.arange, scores.shape), indexing="ij")
        if "score_mod" in flags:
            scores = flags["score_mod"](scores, *places)
        if "block_mask" in flags:
            scores = scores.masked_fill(~flags["block_mask"].mask_mod(*places), float("-inf"))
        return noted(scores.softmax(-1)) @ value

    return attend


def by_distance(score: Tensor, batch: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
    return score - 0.3 * (head + 1) * (q - k).abs()


def causal(batch: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
    return q >= k


FLEXIBLE: dict[str, dict[str, Any]] = {
    "plain": {},
    "scale": {"scale": 0.3},
    "score_mod": {"score_mod": by_distance},
    "block_mask": {
        "block_mask": create_block_mask(causal, None, None, TOKENS, TOKENS, device="cpu")
    },
    "grouped": {"enable_gqa": True, "score_mod": by_distance},
}


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("name", FLEXIBLE)
def test_flex_attention(name: str) -> None:
    flags = FLEXIBLE[name]
    groups = 1 if flags.get("enable_gqa") else HEADS
    check_classifier(classifier(lambda: Fused(flexible(**flags), groups)))
