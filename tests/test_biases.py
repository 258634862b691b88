"""FullGrad: what tokens and biases get adds up to the score, against the equation written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxplain
from tests.small_models import (
    ImageClassifier,
    TextClassifier,
    TextEncoder,
    architecture,
    pixels,
    seeded,
    words,
)


class Pooled(nn.Module):
    """Read from the mean of all tokens, with a bias behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = TextEncoder()
        self.head = nn.Linear(16, 3)

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.head(self.encoder(input_ids).mean(1))


class TwoLayers(nn.Module):
    """Attention and a layer of ReLUs, with a bias in each, read from the last word."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(30, 4)
        self.q, self.k, self.v, self.up, self.head = (nn.Linear(4, 4) for _ in range(5))
        self.place = nn.Parameter(torch.randn(5, 4))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids) + self.place
        x = x + F.scaled_dot_product_attention(self.q(x), self.k(x), self.v(x))
        return self.head(x + self.up(x).relu())[:, -1]


def transcribed(made: TwoLayers, ids: Tensor, target: int) -> tuple[Tensor, dict[str, Tensor]]:
    """By token, and by bias, value times gradient of a y that is linear once A and gates are held."""
    n = len(ids)
    words, place = made.words.weight[ids].detach(), made.place.detach()
    x = words + place
    q, k = made.q(x), made.k(x)
    A = (q @ k.T / 4**0.5).softmax(-1).detach()
    v = made.v(x).detach()
    mixed = x + A @ v
    gate = (made.up(mixed) > 0).float().detach()
    h = made.head.weight.detach()[target]  # gradient at the head's input, in the last row alone
    at_up = h * gate[-1]
    at_mixed = h + made.up.weight.detach().T @ at_up
    found = {
        "head.bias": made.head.bias.detach()[target],
        "up.bias": made.up.bias.detach() @ at_up,
    }
    tokens = torch.zeros(n)
    tokens[-1] = found["head.bias"] + found["up.bias"]
    found["v.bias"], found["place"] = torch.tensor(0.0), torch.tensor(0.0)
    for j in range(n):
        at_v = A[-1, j] * at_mixed
        of_bias = made.v.bias.detach() @ at_v
        at_x = made.v.weight.detach().T @ at_v + (at_mixed if j == n - 1 else 0)
        tokens[j] += of_bias + words[j] @ at_x + place[j] @ at_x
        found["v.bias"] += of_bias
        found["place"] += place[j] @ at_x
    return tokens, found


def test_tokens_and_biases_get_what_the_equation_says() -> None:
    made, ids = seeded(TwoLayers), words(2, 5)
    e = fxplain.explain(made, (ids,), [1, 2], "fullgrad")
    for sample, target in enumerate((1, 2)):
        tokens, named = transcribed(made, ids[sample], target)
        torch.testing.assert_close(e.relevance["ids"][sample], tokens, atol=1e-5, rtol=1e-4)
        for name in ("head.bias", "up.bias", "v.bias"):
            torch.testing.assert_close(
                e.biases[name][sample], named[name].float(), atol=1e-5, rtol=1e-4
            )
    assert set(e.biases) <= {"head.bias", "up.bias", "v.bias", "place"}
    torch.testing.assert_close(e.relevance["ids"].sum(1), e.scores)


CASES = {
    "words": (seeded(TextClassifier, depth=2), (words(2, 7),)),
    "written out": (seeded(TextClassifier, depth=2, fused=False), (words(1, 7),)),
    "patches": (seeded(ImageClassifier, depth=2, registers=1), (pixels(2, 3, 8, 8),)),
    "behind a mean": (seeded(Pooled), (words(2, 5),)),
}


@pytest.mark.parametrize("name", CASES)
def test_it_adds_up_to_the_score(name: str) -> None:
    model, inputs = CASES[name]
    e = fxplain.explain(model, inputs, method="fullgrad")
    total = sum(values.sum(1) for values in e.relevance.values())
    torch.testing.assert_close(total, e.scores, atol=1e-4, rtol=1e-4)
    assert e.completeness() == pytest.approx(torch.ones(len(e.scores)), abs=1e-3)
    without = fxplain.explain(
        model, inputs, method="input_x_gradient", gradients="corrected", attention="constant"
    )
    births = sum(values.sum(1) for values in without.relevance.values())
    torch.testing.assert_close(
        births + torch.stack(list(e.biases.values())).sum(0), e.scores, atol=1e-4, rtol=1e-4
    )


def test_a_bias_behind_a_mean_is_shared_by_what_is_read() -> None:
    made, inputs = CASES["behind a mean"]
    e = fxplain.explain(made, inputs, 1, "fullgrad")
    other = fxplain.explain(made, inputs, 1, "fullgrad")
    with torch.no_grad():
        made.head.bias[1] += 5
        more = fxplain.explain(made, inputs, 1, "fullgrad")
        made.head.bias[1] -= 5
    assert torch.equal(e.relevance["input_ids"], other.relevance["input_ids"])
    torch.testing.assert_close(
        more.relevance["input_ids"] - e.relevance["input_ids"], torch.ones(2, 5)
    )
    torch.testing.assert_close(
        more.biases["head.bias"] - e.biases["head.bias"], torch.full((2,), 5.0)
    )


def test_samples_and_recomputed_runs_agree() -> None:
    made, ids = seeded(TextClassifier, depth=2), words(2, 7)
    both = fxplain.explain(made, (ids,), 1, "fullgrad")
    alone = fxplain.explain(made, (ids[1:],), 1, "fullgrad")
    again = fxplain.explain(made, (ids,), 1, "fullgrad", recompute=True)
    torch.testing.assert_close(alone.relevance["input_ids"][0], both.relevance["input_ids"][1])
    torch.testing.assert_close(again.relevance["input_ids"], both.relevance["input_ids"])
    for name, values in both.biases.items():
        torch.testing.assert_close(again.biases[name], values)
        torch.testing.assert_close(alone.biases[name][0], values[1])
    many = fxplain.explain(made, (ids,), targets=[1, 2], method="fullgrad")
    torch.testing.assert_close(many[0].relevance["input_ids"], both.relevance["input_ids"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lxmert", "detr", "vit", "swin", "t5", "bert", "clip", "llama"])
def test_it_adds_up_on_every_kind_of_architecture(name: str) -> None:
    model, inputs = architecture(name)
    e = fxplain.explain(model, inputs, method="fullgrad")
    total = sum(values.sum(1) for values in e.relevance.values())
    torch.testing.assert_close(total, e.scores, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(e.promised, e.scores)
    assert e.biases.keys() == e.to_dict().get("biases", {}).keys()
