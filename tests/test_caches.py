"""Keys and values of earlier calls that new ones are put beside, or written into the place of."""

import pytest
import torch
from torch import Tensor, nn

import fxplain
from tests.small_models import seeded

SLOTS, PAST, NEW = 8, 3, 4
IDS = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])


class Cached(nn.Module):
    """One attention over a cache; `way` says how the new keys and values come into it."""

    def __init__(self, way: str = "cat") -> None:
        super().__init__()
        self.way = way
        self.words = nn.Embedding(10, 16)
        self.q, self.k, self.v = (nn.Linear(16, 16) for _ in range(3))
        self.head = nn.Linear(16, 3)

    def forward(self, ids: Tensor, keys: Tensor, values: Tensor, places: Tensor) -> Tensor:
        x = self.words(ids)
        q, k, v = (f(x).unflatten(-1, (2, 8)).transpose(1, 2) for f in (self.q, self.k, self.v))
        keys, values = self.filled(keys, k, places), self.filled(values, v, places)
        mask = torch.arange(keys.shape[2])[None] <= places[-1]
        y = nn.functional.scaled_dot_product_attention(q, keys, values, attn_mask=mask)
        y = y.transpose(1, 2).flatten(-2)
        return self.head(x[:, -1] + y[:, -1])  # type: ignore[no-any-return]

    def filled(self, cache: Tensor, new: Tensor, places: Tensor) -> Tensor:
        if self.way == "cat":
            return torch.cat([cache[:, :, :PAST], new], 2)
        if self.way == "index_copy":
            return cache.index_copy(2, places, new)
        cache = cache.clone()
        if self.way == "index_put":
            cache[:, :, places] = new
        else:
            cache[:, :, PAST : PAST + NEW] = new
        return cache


@pytest.mark.parametrize("way", ["index_copy", "index_put", "slice"])
def test_a_slot_of_a_static_cache_is_a_token(way: str) -> None:
    """As where keys are put beside those of before: its features and heads are none of their own."""
    generator = torch.Generator().manual_seed(0)
    cache = torch.randn(2, 2, 2, SLOTS, 8, generator=generator)
    given = (IDS, *cache, torch.arange(PAST, PAST + NEW))
    expected = fxplain.explain(seeded(Cached), given, target=1).relevance
    found = fxplain.explain(seeded(lambda: Cached(way)), given, target=1).relevance
    torch.testing.assert_close(found["ids"], expected["ids"])
    (slots,) = (found[name] for name in found if name != "ids")
    (past,) = (expected[name] for name in expected if name != "ids")
    torch.testing.assert_close(slots[:, :PAST], past[:, :PAST])
    assert slots.shape == (2, SLOTS - NEW)  # the others were written over
    assert not slots[:, PAST:].any()
