"""The fuzzer: its account by hand, its styles against plain attention, and a few models of it."""

import numpy as np
import pytest
import torch

from tests.fuzz.build import build, make_inputs
from tests.fuzz.compare import targets, tried, truth
from tests.fuzz.rarer import TOPOLOGIES
from tests.fuzz.recipe import CHOICES, Recipe, draw
from tests.fuzz.truth import Account, Ledger, normalised, united


def test_rows_that_are_zero_but_for_rounding_stay_the_identity() -> None:
    square = np.eye(2) + np.array([[3.0, 1.0], [1e-16, 0.0]])
    np.testing.assert_allclose(normalised(square), [[1.75, 0.25], [0.0, 1.0]])


def test_the_account_of_self_attention_is_equations_5_and_6() -> None:
    ledger = Ledger()
    rows = ledger.born("words", 2, batch=1)
    weights = torch.tensor([[[[0.5, 0.5], [0.25, 0.75]], [[1.0, 0.0], [0.5, 0.5]]]])
    weights.requires_grad_(True)
    heard = united(rows, ledger.attended(rows, rows, weights))
    ledger.left(0, heard[0])
    weights.grad = torch.tensor([[[[2.0, -1.0], [4.0, 0.0]], [[1.0, 5.0], [0.0, 2.0]]]])
    np.testing.assert_allclose(
        Account(ledger, 0).matrix("words", "words"), np.array([[2.0, 0.0], [0.5, 1.5]])
    )


def test_the_account_of_two_modalities_is_equations_8_to_11() -> None:
    ledger = Ledger()
    words, regions = ledger.born("words", 1, batch=1), ledger.born("regions", 2, batch=1)
    first = torch.tensor([[[[1.0], [3.0]]]]).requires_grad_(True)
    second = torch.tensor([[[[0.5, 0.25]]]]).requires_grad_(True)
    regions = united(regions, ledger.attended(regions, words, first))
    words = united(words, ledger.attended(words, regions, second))
    ledger.left(0, words[0])
    first.grad, second.grad = torch.ones_like(first), torch.ones_like(second)
    account = Account(ledger, 0)
    # R[regions, words] = [1, 3], so that R[words, words] = 1 + 0.5 * 1 + 0.25 * 3 (eq. 11)
    np.testing.assert_allclose(account.matrix("words", "words"), [[2.25]])
    np.testing.assert_allclose(account.matrix("words", "regions"), [[0.5, 0.25]])


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_every_style_computes_the_same(topology: str) -> None:
    for seed in range(4):
        recipe = draw(seed, topology)
        model, inputs = build(recipe), make_inputs(recipe)
        want = truth(model, inputs, targets(recipe, recipe.batch)).output
        with torch.no_grad():
            torch.testing.assert_close(model(**inputs), want, rtol=1e-9, atol=1e-9)


def test_the_first_choices_are_the_defaults() -> None:
    plain = Recipe("encoder")
    assert {name: getattr(plain, name) for name in CHOICES} == {
        name: options[0] for name, options in CHOICES.items()
    }


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe("co_attention", seed=1, depth=2, attention="einsum"),
        Recipe("merged_sequence", seed=2, attention="sdpa", norm="post"),
        Recipe("latents", seed=4, softmax="logsumexp"),
        Recipe("attention_pooling", seed=5023, softmax="online", readout="first", fusion="cat"),
    ],
    ids=lambda recipe: recipe.topology,
)
def test_a_few_seeds(recipe: Recipe) -> None:
    finding = tried(recipe)
    assert finding.outcome == "equal", finding
