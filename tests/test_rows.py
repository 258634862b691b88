"""Rows of R by products with vectors, against the matrices."""

import pytest
import torch
from hypothesis import given
from torch import nn

import fxplain
from tests.random_models import Recipe, build, make_inputs, make_target, recipes
from tests.small_models import BY_NAME, architecture
from tests.test_random_models import some_examples

OPTIONS = [{}, {"normalize": False}, {"self_in_bimodal": False}, {"signed": True}]


def both(model: nn.Module, inputs: object, **kwargs: object) -> list[fxplain.Explanation]:
    return [fxplain.explain(model, inputs, engine=e, **kwargs) for e in ("rows", "matrices")]


def check_equal(
    rows: fxplain.Explanation, matrices: fxplain.Explanation, to: float = 1e-10
) -> None:
    assert (rows.engine, matrices.engine) == ("rows", "matrices")
    for name, want in matrices.relevance.items():
        got = rows.relevance[name]
        assert got.dtype == want.dtype
        torch.testing.assert_close(got, want, rtol=0, atol=to * max(1.0, want.abs().max().item()))


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(map(str, o)) or "plain")
@pytest.mark.parametrize("name", BY_NAME)
def test_on_every_kind_of_architecture(name: str, options: dict) -> None:
    case = BY_NAME[name]
    model, inputs = architecture(name, case.implementations[0])
    model = model.double()
    inputs = {k: v.double() if v.is_floating_point() else v for k, v in inputs.items()}
    check_equal(*both(model, inputs, target=case.target, output=case.output, **options))


@some_examples(60)
@given(recipes())
def test_on_random_models(recipe: Recipe) -> None:
    model, inputs, target = build(recipe), make_inputs(recipe), make_target(recipe)
    check_equal(*both(model, inputs, target=target))
