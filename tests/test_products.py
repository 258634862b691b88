"""Products that leave out blocks of zeros: the same numbers as without."""

import pytest
import torch
from torch import Tensor

from fxplain.methods import products

N = 21  # blocks of 4, and one of 1


def numbers(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def triangle(x: Tensor) -> Tensor:
    return x.tril()


def band(x: Tensor) -> Tensor:
    return x.tril(2).triu(-2)


def apart(x: Tensor) -> Tensor:
    """Two texts in one sequence, and a token that is attended to by all."""
    made = torch.zeros_like(x)
    made[:, :9, :9], made[:, 9:, 9:], made[:, :, 0] = x[:, :9, :9], x[:, 9:, 9:], x[:, :, 0]
    return made


def nothing(x: Tensor) -> Tensor:
    return torch.zeros_like(x)


def negative(x: Tensor) -> Tensor:
    return -x.tril().abs()


KINDS = [triangle, band, apart, nothing, negative, Tensor.clone, Tensor.triu]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small blocks."""
    monkeypatch.setattr(products, "BLOCK", 4)
    monkeypatch.setattr(products, "LEAST", 8)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("of_A", KINDS)
@pytest.mark.parametrize("of_B", KINDS)
def test_products_of_blocks(of_A, of_B) -> None:
    A, B = of_A(numbers(2, N, N, seed=0)), of_B(numbers(2, N, N, seed=1))
    torch.testing.assert_close(products.product(A, B), torch.einsum("bik,bkj->bij", A, B))


@pytest.mark.usefixtures("small_blocks")
def test_a_block_counts_where_one_sample_has_it() -> None:
    A, B = numbers(2, N, 13, seed=0), numbers(2, 13, 10, seed=1)
    A[0, :8], A[1, 4:], B[1, :, 2:] = 0, 0, 0
    torch.testing.assert_close(products.product(A, B), torch.einsum("bik,bkj->bij", A, B))


@pytest.mark.usefixtures("small_blocks")
def test_a_matrix_of_all_samples() -> None:
    A = triangle(numbers(1, N, N, seed=0)).expand(3, -1, -1)
    B = triangle(numbers(3, N, N, seed=1))
    torch.testing.assert_close(products.product(A, B), torch.einsum("bik,bkj->bij", A, B))


@pytest.mark.usefixtures("small_blocks")
def test_a_single_number_in_a_block_is_not_lost() -> None:
    A, B = torch.zeros(1, N, N), torch.zeros(1, N, N)
    A[0, 20, 3], B[0, 3, 11] = 1e-30, -1e5
    want = torch.zeros(1, N, N)
    want[0, 20, 11] = -1e-25
    assert torch.equal(products.product(A, B), want)
