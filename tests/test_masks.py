"""Masks: what is needed of them, and that attention and its weights are the same with that alone."""

from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.proxy_tensor import make_fx

import fxplain
from fxplain.capture import CAUSAL, MaskRows, fused_attention, masks, needed_mask
from fxplain.capture.captured import called
from tests import small_models

LOWER = torch.ones(5, 5, dtype=torch.bool).tril()


def added(allowed: Tensor, penalty: float, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.zeros(allowed.shape, dtype=dtype).masked_fill(~allowed, penalty)


@pytest.mark.parametrize(
    "mask",
    [torch.ones(2, 1, 5, 7, dtype=torch.bool), torch.zeros(2, 1, 5, 7), torch.zeros(1, 7)],
    ids=["bool", "float", "one row"],
)
def test_a_mask_that_hides_nothing_is_not_needed(mask: Tensor) -> None:
    assert needed_mask(mask) is None


@pytest.mark.parametrize(
    "mask",
    [
        LOWER,
        LOWER.expand(2, 3, 5, 5),
        added(LOWER, float("-inf")),
        added(LOWER, torch.finfo(torch.float32).min),
        added(LOWER, torch.finfo(torch.float16).min, torch.float16),
    ],
    ids=["bool", "expanded", "-inf", "lowest", "lowest half"],
)
def test_a_mask_of_later_keys_is_causal(mask: Tensor) -> None:
    assert needed_mask(mask) is CAUSAL


PADDED = LOWER.expand(2, 1, 5, 5).clone()
PADDED[1, :, :, 4] = False


@pytest.mark.parametrize(
    "mask",
    [
        PADDED,
        LOWER.T,
        LOWER[:, :4],
        torch.ones(5, 5, dtype=torch.bool).tril(1),
        torch.ones(5, 5, dtype=torch.bool).tril(-1),
        added(LOWER, -10.0),
        torch.stack([LOWER, LOWER.flip(0)]),
        torch.zeros(5, 5, requires_grad=True),
    ],
    ids=[
        *("padded", "earlier keys", "oblong", "one later", "not itself", "less likely"),
        *("another head", "learned"),
    ],
)
def test_any_other_mask_is_needed_as_it_is(mask: Tensor) -> None:
    assert needed_mask(mask) is mask


@pytest.mark.parametrize(
    "mask",
    [LOWER, added(LOWER, float("-inf")), torch.ones(5, 5, dtype=torch.bool), LOWER.T],
    ids=["causal", "causal float", "nothing", "other"],
)
def test_attention_is_the_same(mask: Tensor) -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 4, 5, 8).unbind(0)
    got = fused_attention(q, k, v, needed_mask(mask))
    torch.testing.assert_close(got, fused_attention(q, k, v, mask))


class Masked(nn.Module):
    """One attention with a mask that is made from the words."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(30, 8), nn.Linear(8, 3)

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.words(input_ids)
        count = x.shape[1]
        causal = torch.ones(count, count, dtype=torch.bool).tril()
        mask = causal & (input_ids != 0)[:, None]
        x = x + nn.functional.scaled_dot_product_attention(x, x, x, attn_mask=mask)
        return self.head(x[:, -1])


def test_one_capture_holds_for_padded_and_unpadded_words() -> None:
    """What is needed of the mask is found at each run: the words decide."""
    model = small_models.seeded(Masked).double()
    full = torch.tensor([[4, 5, 6, 7]])
    padded = torch.tensor([[4, 0, 6, 7]])
    for input_ids in (full, padded, full):
        e = fxplain.explain(model, {"input_ids": input_ids}, target=1)
        x = model.words(input_ids).detach()
        scores = (x @ x.transpose(-1, -2)) / 8**0.5
        allowed = torch.ones(4, 4, dtype=torch.bool).tril() & (input_ids != 0)
        attention = scores.masked_fill(~allowed, float("-inf")).softmax(-1)
        gradient = model.head.weight[1].detach() @ x[0].T
        expected = torch.eye(4)[-1] + (attention[0, -1] * gradient).clamp(min=0)
        torch.testing.assert_close(e.relevance["input_ids"][0], expected, rtol=1e-6, atol=1e-9)


def numbers(words: Tensor) -> tuple[Tensor, Tensor]:
    places = torch.arange(words.shape[1])
    return places.unsqueeze(1), places.unsqueeze(0)


BY_ROWS: dict[str, Any] = {
    "later": (lambda words: numbers(words)[1] <= numbers(words)[0], CAUSAL),
    "later, added": (
        lambda words: torch.zeros(words.shape[1], words.shape[1]).masked_fill(
            numbers(words)[1] > numbers(words)[0], float("-inf")
        ),
        CAUSAL,
    ),
    "ones, tril": (
        lambda words: torch.ones(words.shape[1], words.shape[1]).tril().bool()[None, None],
        CAUSAL,
    ),
    "full, triu": (
        lambda words: torch.full((words.shape[1],) * 2, float("-inf")).triu(1),
        CAUSAL,
    ),
    "nothing": (lambda words: numbers(words)[1] >= 0 * numbers(words)[0], None),
    "a window": (
        lambda words: (
            (numbers(words)[1] <= numbers(words)[0]) & (numbers(words)[1] > numbers(words)[0] - 3)
        ),
        "whole",
    ),
    "padded": (
        lambda words: (
            (numbers(words)[1] <= numbers(words)[0])
            & (words > 7)[:, None, None, :].expand(-1, 1, 9, 9)
        ),
        "whole",
    ),
}


@pytest.mark.parametrize("name", BY_ROWS)
def test_a_mask_made_by_rows_is_the_mask(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(masks._ROWS, "cpu", 20)  # two queries at a time
    make, kind = BY_ROWS[name]
    words = torch.arange(9).flip(0)[None]
    graph = make_fx(make)(words).graph
    (mask,) = graph.output_node().all_input_nodes
    by_rows = MaskRows.of(mask)
    assert by_rows is not None
    values: dict[fx.Node, Any] = {}
    for node in graph.nodes:
        if node.op == "placeholder":
            values[node] = words
        elif node.op == "call_function":
            values[node] = called(node, values.__getitem__)
    found = by_rows(torch.zeros(1, 9, 4), *(values[node] for node in by_rows.given))
    if kind == "whole":
        assert torch.equal(found, make(words))
    else:
        assert found is kind
