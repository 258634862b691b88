"""Pairs of tokens: the paper's product of integrated Jacobians, and what it adds up to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fxplain
from tests.small_models import TextClassifier, seeded, words

STEPS = 3


class Tower(nn.Module):
    """One attention without norms, read from the mean of the tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(30, 4)
        self.q, self.k, self.v = (nn.Linear(4, 4) for _ in range(3))

    def embed(self, x: Tensor) -> Tensor:
        mixed = nn.functional.scaled_dot_product_attention(self.q(x), self.k(x), self.v(x))
        return (x + mixed).tanh().mean(-2)

    def forward(self, ids: Tensor) -> Tensor:
        return self.embed(self.words(ids))


class Siamese(nn.Module):
    """The dot product of two texts' embeddings, or their cosine."""

    def __init__(self, *, cosine: bool = False) -> None:
        super().__init__()
        self.tower, self.cosine = Tower(), cosine

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        a, b = self.tower(left), self.tower(right)
        if self.cosine:
            return nn.functional.cosine_similarity(a, b, dim=-1)
        return (a * b).sum(-1)


def integrated(tower: Tower, ids: Tensor) -> Tensor:
    """(tokens, features) J x_i: each token times the Jacobian of f, integrated from 0."""
    x = tower.words(ids).detach()
    at, weights = np.polynomial.legendre.leggauss(STEPS)
    jacobian = sum(
        float(w) / 2 * torch.autograd.functional.jacobian(tower.embed, x * float(t + 1) / 2)
        for t, w in zip(at, weights, strict=True)
    )  # (features, tokens, features of tokens)
    return torch.einsum("dif,if->id", jacobian, x)


def test_values_are_products_of_integrated_jacobians() -> None:
    made, left, right = seeded(Siamese), words(2, 4), words(2, 3, seed=1)
    found = fxplain.explain(made, (left, right)).pairs("left", "right", steps=STEPS)
    assert found.values.shape == (2, 4, 3)
    for sample in (0, 1):
        of_left, of_right = (integrated(made.tower, x[sample]) for x in (left, right))
        torch.testing.assert_close(found.values[sample], of_left @ of_right.T, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("cosine", [False, True])
def test_they_add_up_to_what_both_have_together(cosine: bool) -> None:
    made, left, right = seeded(Siamese, cosine=cosine), words(1, 4), words(1, 3, seed=1)
    found = fxplain.explain(made, (left, right)).pairs(steps=12)
    a, b = made.tower.words(left).detach(), made.tower.words(right).detach()

    def score(x: Tensor, y: Tensor) -> Tensor:
        f, g = made.tower.embed(x), made.tower.embed(y)
        return nn.functional.cosine_similarity(f, g, dim=-1) if cosine else (f * g).sum(-1)

    none_a, none_b = torch.zeros_like(a), torch.zeros_like(b)
    wanted = score(a, b) - score(none_a, b) - score(a, none_b) + score(none_a, none_b)
    torch.testing.assert_close(found.promised, wanted.detach(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.values.sum((1, 2)), found.promised, atol=2e-3, rtol=0.02)
    turned = fxplain.explain(made, (left, right)).pairs("right", "left", steps=12)
    torch.testing.assert_close(turned.values, found.values.mT, atol=1e-5, rtol=1e-3)


def test_a_target_that_is_a_function_is_followed() -> None:
    made, left, right = seeded(Siamese), words(2, 4), words(2, 3, seed=1)
    plain = fxplain.explain(made, (left, right)).pairs(steps=STEPS)
    doubled = fxplain.explain(made, (left, right), lambda s: 2 * s).pairs(steps=STEPS)
    torch.testing.assert_close(doubled.values, 2 * plain.values, atol=1e-5, rtol=1e-4)
    squared = fxplain.explain(made, (left, right), lambda s: s**2).pairs(steps=8)
    torch.testing.assert_close(squared.values.sum((1, 2)), squared.promised, atol=1e-2, rtol=0.05)


def test_it_prints_and_says_what_it_cannot() -> None:
    made, left, right = seeded(Siamese), words(1, 4), words(1, 3, seed=1)
    e = fxplain.explain(made, (left, right))
    found = e.pairs(steps=2)
    strongest = found.top(1)[0]
    i, j = strongest.places
    assert abs(strongest.value) == found.values.abs().max()
    assert strongest.value == pytest.approx(float(found.values[0, i, j]))
    assert "left" in str(found)
    assert len(found.to_frame()) == 12
    with pytest.raises(fxplain.ModalityError):
        e.pairs("left", "middle")
    alone = fxplain.explain(seeded(TextClassifier), (words(1, 4),))
    with pytest.raises(fxplain.MethodError, match="two modalities"):
        alone.pairs()
