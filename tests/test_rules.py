"""Each rule against a slow transcription of its equation (arXiv 2103.15679), entry by entry."""

import math

import pytest
import torch
from torch import Tensor

from fxplain.methods import rules

BATCH, HEADS, S, Q, M = 3, 4, 5, 4, 6
SHAPES = [(BATCH, S, Q), (1, 1, 1), (2, 1, 7)]


def random(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def relevancy(n: int, *, batch: int = BATCH, seed: int = 0) -> Tensor:
    """Identity plus something non-negative, as self-relevancies are."""
    return torch.eye(n, dtype=torch.float64) + random(batch, n, n, seed=seed).abs()


def entries(batch: int, rows: int, columns: int, value: object) -> Tensor:
    """A tensor from a function of (sample, row, column)."""
    return torch.tensor(
        [
            [[value(b, i, j) for j in range(columns)] for i in range(rows)]  # type: ignore[operator]
            for b in range(batch)
        ],
        dtype=torch.float64,
    )


def product(A: Tensor, R: Tensor) -> Tensor:
    return entries(
        len(A),
        A.shape[1],
        R.shape[2],
        lambda b, i, j: math.fsum(float(A[b, i, k] * R[b, k, j]) for k in range(A.shape[2])),
    )


def test_attention_map_is_equation_5() -> None:
    attention, gradient = random(BATCH, HEADS, S, Q).softmax(-1), random(BATCH, HEADS, S, Q, seed=1)
    got = rules.attention_map(attention, gradient)
    for b in range(BATCH):
        for h in range(HEADS):
            for i in range(S):
                for j in range(Q):
                    want = max(0.0, float(gradient[b, h, i, j]) * float(attention[b, h, i, j]))
                    assert float(got[b, h, i, j]) == pytest.approx(want, abs=1e-15)
    assert (got == 0).any()
    assert (got > 0).any()


@pytest.mark.parametrize(("batch", "s", "m"), SHAPES)
def test_self_attention_is_equations_6_and_7(batch: int, s: int, m: int) -> None:
    A = random(batch, s, s).abs()
    for R in (random(batch, s, m, seed=1), relevancy(s, batch=batch)):
        torch.testing.assert_close(rules.self_attention_update(A, R), product(A, R))


def normalised(R: Tensor, identity: Tensor) -> Tensor:
    """Equations 8 and 9, and a row whose sum is 0 stays the identity."""
    batch, n, m = R.shape

    def entry(b: int, i: int, j: int) -> float:
        hat = [float(R[b, i, k] - identity[b, i, k]) for k in range(m)]
        total = math.fsum(hat)
        share = hat[j] / total if total != 0 else 0.0
        return share + float(identity[b, i, j])

    return entries(batch, n, m, entry)


@pytest.mark.parametrize("n", [1, 2, S])
def test_normalisation_is_equations_8_and_9(n: int) -> None:
    R, identity = relevancy(n), torch.eye(n, dtype=torch.float64).expand(BATCH, n, n)
    got = rules.normalized(R, identity)
    torch.testing.assert_close(got, normalised(R, identity))
    torch.testing.assert_close(got.sum(-1), torch.full((BATCH, n), 2.0, dtype=torch.float64))


def test_normalisation_with_a_routes_identity() -> None:
    """After a route the identity is a product of shares, not square."""
    identity = random(BATCH, 3, S).softmax(-1)
    R = identity + random(BATCH, 3, S, seed=2).abs()
    torch.testing.assert_close(rules.normalized(R, identity), normalised(R, identity))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_row_that_sums_to_zero_stays_the_identity(dtype: torch.dtype) -> None:
    R, identity = relevancy(S).to(dtype), torch.eye(S, dtype=dtype).expand(BATCH, S, S)
    R[0, 2] = identity[0, 2]
    R[1] = identity[1]
    got = rules.normalized(R, identity)
    assert torch.isfinite(got).all()
    assert torch.equal(got[0, 2], identity[0, 2])
    assert torch.equal(got[1], identity[1])
    torch.testing.assert_close(
        got.double(), normalised(R.double(), identity.double()), rtol=2e-2, atol=2e-2
    )


def test_a_tiny_row_is_still_normalised() -> None:
    """Gradients can be small: a row of 1e-30 is not a row of zeros."""
    identity = torch.eye(2, dtype=torch.float64).expand(1, 2, 2)
    residual = torch.tensor([[[1e-30, 3e-30], [0.0, 5e-44]]], dtype=torch.float64)
    zero = torch.zeros_like(identity)
    want = torch.tensor([[[0.25, 0.75], [0.0, 1.0]]], dtype=torch.float64)
    torch.testing.assert_close(rules.normalized(residual, zero), want)
    assert torch.equal(rules.normalized(identity, identity), identity)


def test_a_row_that_is_zero_but_for_rounding_is_zero() -> None:
    identity = torch.eye(2, dtype=torch.float64).expand(1, 2, 2)
    residual = torch.tensor([[[0.25, 0.75], [1e-20, -3e-21]]], dtype=torch.float64)
    want = torch.tensor([[[0.25, 0.75], [0.0, 0.0]]], dtype=torch.float64)
    torch.testing.assert_close(rules.normalized(residual + 0, torch.zeros_like(identity)), want)


def test_bimodal_cross_is_equation_10() -> None:
    R_ss, R_qq = relevancy(S, seed=1), relevancy(Q, seed=2)
    A = random(BATCH, S, Q).abs()
    got = rules.bimodal_cross_update(R_ss, A, R_qq)

    def entry(b: int, i: int, j: int) -> float:
        return math.fsum(
            float(R_ss[b, k, i] * A[b, k, m] * R_qq[b, m, j]) for k in range(S) for m in range(Q)
        )

    torch.testing.assert_close(got, entries(BATCH, S, Q, entry))
    eye = torch.eye(S, dtype=torch.float64).expand(BATCH, S, S)
    torch.testing.assert_close(
        rules.bimodal_cross_update(None, A, R_qq), rules.bimodal_cross_update(eye, A, R_qq)
    )


def test_bimodal_own_is_equation_11() -> None:
    A, R_qs, R_qm = random(BATCH, S, Q).abs(), random(BATCH, Q, S), random(BATCH, Q, M)
    torch.testing.assert_close(rules.bimodal_own_update(A, R_qs), product(A, R_qs))
    torch.testing.assert_close(rules.bimodal_own_update(A, R_qm), product(A, R_qm))


def test_a_route_carries_relevancies_by_its_shares() -> None:
    P = random(BATCH, 2, S).softmax(-1)
    for R in (relevancy(S), random(BATCH, S, M)):
        torch.testing.assert_close(rules.route_update(P, R), product(P, R))


def test_rules_change_nothing() -> None:
    A, R, identity = (
        random(2, 3, 3).abs(),
        relevancy(3, batch=2),
        torch.eye(3).double().expand(2, 3, 3),
    )
    before = [x.clone() for x in (A, R, identity)]
    rules.attention_map(A, R)
    rules.self_attention_update(A, R)
    rules.normalized(R, identity)
    rules.bimodal_cross_update(R, A, R)
    rules.bimodal_own_update(A, R)
    rules.route_update(A, R)
    assert all(torch.equal(x, y) for x, y in zip(before, (A, R, identity), strict=True))
