"""Black-box attribution: Shapley values against exact enumeration, and the rest by hand."""

import math
from itertools import permutations, product
from math import comb

import pytest
import torch
from torch import Tensor

from fxplain.errors import MethodError
from fxplain.methods.black_box import (
    kernel_shap,
    leave_one_out,
    lime,
    permutation_shap,
    sparse_linear,
)


def game(units: int, seed: int = 0):
    """A score with parts for single units, for pairs, and for all together."""
    generator = torch.Generator().manual_seed(seed)
    single = torch.randn(units, generator=generator).double()
    pair = torch.randn(units, units, generator=generator).double() / 2

    def score(kept: Tensor) -> Tensor:
        z = kept.double()
        return (z @ single + ((z @ pair) * z).sum(1) + z.prod(1)).tanh() + 2

    return score


def exact(score, units: int) -> Tensor:
    """The definition: what a unit adds to each set of others, weighed by the orders that have it."""
    value = {}
    for kept in product((False, True), repeat=units):
        value[kept] = float(score(torch.tensor([kept]))[0])
    found = []
    for i in range(units):
        total = 0.0
        for kept in value:
            if kept[i]:
                without = tuple(k and j != i for j, k in enumerate(kept))
                size = sum(without)
                total += (value[kept] - value[without]) / (units * comb(units - 1, size))
        found.append(total)
    return torch.tensor(found, dtype=torch.double)


def test_the_definition_is_the_mean_over_all_orders() -> None:
    score, added = game(4), torch.zeros(4).double()
    orders = list(permutations(range(4)))
    for order in orders:
        kept = torch.zeros(1, 4).bool()
        for i in order:
            before = score(kept)[0]
            kept[0, i] = True
            added[i] += score(kept)[0] - before
    torch.testing.assert_close(exact(score, 4), added / len(orders))


def test_kernel_shap_is_exact_on_ten_units() -> None:
    found = kernel_shap(game(10), 10, budget=1024)
    torch.testing.assert_close(found.values, exact(game(10), 10), rtol=1e-8, atol=1e-10)
    assert found.calls == 1024
    assert (found.error == 0).all()


@pytest.mark.parametrize("method", ["kernel", "permutation"])
def test_drawn_values_are_within_their_errors(method: str) -> None:
    score, wanted = game(10), exact(game(10), 10)
    if method == "kernel":
        found = kernel_shap(score, 10, budget=600)
        assert found.calls == 600
    else:
        found = permutation_shap(score, 10, permutations=40)
        assert found.calls == 2 + 40 * 2 * 9
    assert (found.error > 0).all()
    assert ((found.values - wanted).abs() < 4 * found.error).all()
    ends = score(torch.stack([torch.zeros(10), torch.ones(10)]).bool())
    torch.testing.assert_close(found.values.sum(), ends[1] - ends[0])


def test_twice_as_many_draws_make_smaller_errors() -> None:
    few, many = (permutation_shap(game(8), 8, permutations=n).error.mean() for n in (20, 320))
    assert float(many) < 0.5 * float(few)


def test_permutations_of_a_sum_are_exact_at_once() -> None:
    weights = torch.tensor([1.0, -2.0, 0.5, 0.0]).double()
    found = permutation_shap(lambda kept: kept.double() @ weights, 4, permutations=2)
    torch.testing.assert_close(found.values, weights)
    assert (found.error < 1e-12).all()


def test_lime_by_its_definition() -> None:
    """A weighted ridge with a free intercept, set by set, and fitted again without each tenth."""
    asked = []

    def noted(kept: Tensor) -> Tensor:
        asked.append(kept)
        return game(5)(kept)

    found = lime(noted, 5, draws=39, width=0.4, penalty=0.3, seed=2)
    (sets,) = asked
    y, rows = game(5)(sets).tolist(), [[1.0, *map(float, each)] for each in sets.tolist()]
    assert all(sets[0])
    assert found.calls == len(rows) == 40

    def fitted(without: int | None) -> Tensor:
        left, right = torch.zeros(6, 6).double(), torch.zeros(6).double()
        for number, (row, value) in enumerate(zip(rows, y, strict=True)):
            if without is not None and number % 10 == without:
                continue
            kept = sum(row[1:])
            distance = 1 - kept / (kept**0.5 * 5**0.5) if kept else 1.0
            weight = math.exp(-(distance**2) / (2 * 0.4**2))
            for i in range(6):
                right[i] += weight * row[i] * value
                for j in range(6):
                    left[i, j] += weight * row[i] * row[j]
        for i in range(1, 6):  # the intercept is free
            left[i, i] += 0.3
        return torch.linalg.solve(left, right)[1:]

    torch.testing.assert_close(found.values, fitted(None))
    parts = torch.stack([fitted(part) for part in range(10)])
    torch.testing.assert_close(found.error, (0.9 * (parts - parts.mean(0)).square().sum(0)).sqrt())


def test_leave_one_out() -> None:
    score, all_kept = game(6), torch.ones(1, 6).bool()
    found = leave_one_out(score, 6)
    for i in range(6):
        without = all_kept.clone()
        without[0, i] = False
        assert float(found.values[i]) == pytest.approx(float(score(all_kept) - score(without)))
    assert found.calls == 7


def test_a_single_unit_is_worth_the_whole() -> None:
    for method in (leave_one_out, permutation_shap, kernel_shap):
        assert method(lambda kept: 3 * kept[:, 0].double(), 1).values.tolist() == [3]


def test_no_row_of_nothing_is_scored() -> None:
    def score(kept: Tensor) -> Tensor:
        assert len(kept)
        return kept[:, 0].double()

    assert permutation_shap(score, 1).values.tolist() == [1]


@pytest.mark.parametrize(
    "returned",
    [
        lambda found: found[:, None].numpy(),  # as scikit-learn's decision_function has it
        lambda found: iter(found.tolist()),
        lambda found: found.numpy().astype(object),
        lambda found: list(found),
    ],
)
def test_whatever_holds_a_number_for_each_row_is_a_score(returned) -> None:
    score = game(4)
    found = leave_one_out(lambda kept: returned(score(kept)), 4)
    assert torch.equal(found.values, leave_one_out(score, 4).values)  # in full precision


def test_a_column_of_a_data_frame_is_a_score() -> None:
    pandas = pytest.importorskip("pandas")
    score = game(4)

    def column(kept: Tensor):
        return pandas.Series(score(kept).numpy(), index=range(7, 7 + len(kept)))

    assert torch.equal(leave_one_out(column, 4).values, leave_one_out(score, 4).values)


def test_sparse_linear_finds_the_passages_that_matter() -> None:
    weights = torch.zeros(12).double()
    weights[[2, 7]] = torch.tensor([3.0, -1.5]).double()
    found = sparse_linear(lambda kept: kept.double() @ weights + 5, 12)
    assert found.values.nonzero().flatten().tolist() == [2, 7]
    torch.testing.assert_close(found.values, weights, rtol=0.05, atol=1e-9)
    assert found.calls == 64


def test_sparse_linear_is_sklearns_lasso() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    generator = torch.Generator().manual_seed(3)
    kept = torch.rand(64, 8, generator=generator) < 0.5
    y = game(8)(kept).numpy()
    z = kept.double().numpy()
    z = (z - z.mean(0)) / z.std(0)
    fitted = linear.Lasso(alpha=0.01, tol=1e-12, max_iter=100_000).fit(z, y)
    found = sparse_linear(game(8), 8, seed=3)
    expected = torch.from_numpy(fitted.coef_ / kept.double().std(0, correction=0).numpy())
    torch.testing.assert_close(found.values, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: leave_one_out(lambda kept: kept, 3), "must return 4 numbers"),
        (lambda: leave_one_out(game(3), 0), "units"),
        (lambda: kernel_shap(game(8), 8, budget=5), "budget"),
        (lambda: permutation_shap(game(3), 3, permutations=1), "permutations"),
        (lambda: sparse_linear(game(3), 3, keep=1.0), "keep"),
    ],
)
def test_wrong_use(call, message: str) -> None:
    with pytest.raises(MethodError, match=message):
        call()
