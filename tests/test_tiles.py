"""Maps made a few queries at a time are the maps made whole."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxplain
from fxplain.explanation import passes
from fxplain.methods import node_maps
from tests import small_models

TOKENS = 11


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = dict(node_maps.TILE)
    node_maps.TILE["cpu"] = 200
    monkeypatch.setattr(passes, "SMALL", 0)  # or small nodes are taken together, whole
    yield
    node_maps.TILE.update(before)


def split(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


class Layer(nn.Module):
    """One layer whose attention is a function of q, k, v (batch, heads, tokens, features)."""

    def __init__(self, attend: Callable[..., Tensor], kv_heads: int = 4) -> None:
        super().__init__()
        self.attend, self.kv_heads = attend, kv_heads
        self.query = nn.Linear(16, 16)
        self.key, self.value = nn.Linear(16, 4 * kv_heads), nn.Linear(16, 4 * kv_heads)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.query(x), self.key(x), self.value(x)
        q, k, v = split(q, 4), split(k, self.kv_heads), split(v, self.kv_heads)
        return x + self.attend(q, k, v).transpose(1, 2).flatten(-2)


class Reader(nn.Module):
    def __init__(self, attend: Callable[..., Tensor], kv_heads: int = 4) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.places = nn.Embedding(30, 16), nn.Embedding(TOKENS, 16)
        self.layers = nn.ModuleList([Layer(attend, kv_heads) for _ in range(3)])
        self.head = nn.Linear(16, 3)

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.words(input_ids) + self.places(torch.arange(TOKENS))
        for layer in self.layers:
            x = layer(x)
        return self.head(x[:, -1])


BOOLEAN = torch.rand(TOKENS, TOKENS, generator=torch.Generator().manual_seed(0)) > 0.3
BOOLEAN[2] = False  # a query that may attend to nothing
FLOAT = torch.randn(TOKENS, TOKENS, generator=torch.Generator().manual_seed(1))
OF_KEYS = torch.arange(TOKENS) < TOKENS - 2


def masked(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=BOOLEAN)


def biased(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=FLOAT.to(q.dtype))


def padded(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    mask = OF_KEYS.expand(len(q), 1, 1, TOKENS)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3)


def hidden(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal by a mask."""
    later = torch.full((TOKENS, TOKENS), float("-inf"), dtype=q.dtype).triu(1)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=later)


def shared_keys(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)


def explicit(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.transpose(-1, -2) + FLOAT.to(q.dtype)).softmax(-1) @ v


def queries_last(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    weights = (k @ q.transpose(-1, -2)).softmax(-2)
    return (v.transpose(-1, -2) @ weights).transpose(-1, -2)


def divided_late(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    weights = (q @ k.transpose(-1, -2)).exp()
    return (weights @ v) / weights.sum(-1, keepdim=True)


FORMS = [
    *(masked, biased, padded, causal, hidden, shared_keys, explicit, queries_last),
    divided_late,
]
METHODS = [
    ("generic", {}),
    ("generic", {"signed": True}),
    ("legrad", {}),
    ("raw_attention", {}),
    ("value_weighted", {}),
    ("weighted_accumulation", {}),
    ("transformer_attribution", {}),
    ("gradcam", {}),
]


def made(attend: Callable[..., Tensor], dtype: torch.dtype) -> tuple[nn.Module, dict]:
    model = Reader(attend, 2 if attend is shared_keys else 4).to(dtype).eval()
    return model, {"input_ids": small_models.words(2, TOKENS)}


@pytest.mark.parametrize("attend", FORMS, ids=lambda f: f.__name__)
def test_tiles_are_the_whole(attend: Callable[..., Tensor], small_tiles: None) -> None:
    model, inputs = made(attend, torch.float64)
    for method, options in METHODS:
        tiled = fxplain.explain(model, inputs, target=0, method=method, **options)
        matrix = tiled.matrix("input_ids", "input_ids")
        node_maps.TILE["cpu"] = 2**20
        whole = fxplain.explain(
            model, inputs, target=0, method=method, engine="matrices", **options
        )
        node_maps.TILE["cpu"] = 200
        for name in whole.relevance:
            torch.testing.assert_close(tiled.relevance[name], whole.relevance[name])
        torch.testing.assert_close(matrix, whole.matrix("input_ids", "input_ids"))


def test_products_without_the_map(small_tiles: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a map would be more to keep than its operands, only its products are made."""
    model, inputs = made(causal, torch.float64)
    want = fxplain.explain(model, inputs, target=0, engine="matrices")
    monkeypatch.setattr(node_maps.NodeEvidence, "size", 0)
    monkeypatch.setattr(node_maps.NodeMap, "_whole", None)
    got = fxplain.explain(model, inputs, target=0)
    assert got.engine == "rows"
    torch.testing.assert_close(got.relevance["input_ids"], want.relevance["input_ids"])


@pytest.mark.parametrize("attend", [causal, hidden, shared_keys, masked], ids=lambda f: f.__name__)
def test_no_weights_of_later_keys_are_made(
    attend: Callable[..., Tensor], small_tiles: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tile of a causal node ends with its last query, where zero weights add nothing."""
    widths: list[tuple[int, int]] = []
    weigh = node_maps.NodeMap._tile_times

    def noted(self: node_maps.NodeMap, tile: node_maps.NodeEvidence, x: Tensor) -> Tensor | None:
        if isinstance(tile.seen.queries, slice):
            widths.append((tile.seen.queries.stop, tile.attention().shape[-1]))
        return weigh(self, tile, x)

    monkeypatch.setattr(node_maps.NodeMap, "_tile_times", noted)
    model, inputs = made(attend, torch.float64)
    for method, narrow in (("generic", attend is not masked), ("legrad", False)):
        widths.clear()
        fxplain.explain(model, inputs, target=0, method=method)
        assert all(width == (last if narrow else TOKENS) for last, width in widths)
        assert len(widths) > 1 or method == "legrad"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_in_low_precision(dtype: torch.dtype, small_tiles: None) -> None:
    model, inputs = made(shared_keys, dtype)
    tiled = fxplain.explain(model, inputs, target=0)
    node_maps.TILE["cpu"] = 2**20
    whole = fxplain.explain(model, inputs, target=0, engine="matrices")
    assert tiled.relevance["input_ids"].dtype == torch.float32
    torch.testing.assert_close(
        tiled.relevance["input_ids"], whole.relevance["input_ids"], rtol=0, atol=1e-6
    )
