"""Random small transformers: the library against the slow oracle, and properties that must hold.

Numbers are compared in float64, to 1e-8 of what the attentions add to the relevancies (their start,
identity, would hide errors). A failing example prints its recipe, whose repr can be pasted into
`build`.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

import fxplain
from tests.random_models import (
    ATTENTIONS,
    FEATURES,
    KINDS,
    Expected,
    Inputs,
    RandomModel,
    Recipe,
    Target,
    build,
    expected,
    make_inputs,
    make_target,
    recipes,
)

TOLERANCE = 1e-8
ROUNDING = 1e-12


def some_examples(count: int, shrink: bool = False) -> settings:
    """The same examples in every run; ``shrink``: take minutes to find the simplest that fails."""
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate, *([Phase.shrink] if shrink else [])],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )


def made(recipe: Recipe) -> tuple[RandomModel, Inputs, Target]:
    return build(recipe), make_inputs(recipe), make_target(recipe)


def explained(recipe: Recipe) -> fxplain.Explanation:
    model, inputs, target = made(recipe)
    return fxplain.explain(model, inputs, target=target)


def check(
    got: torch.Tensor, want: np.ndarray, start: np.ndarray, what: object, rounding: float = 1e-20
) -> None:
    """``got`` is ``want``, relative to the largest number added to ``start``, up to ``rounding``."""
    got = got.detach().numpy()
    assert got.shape == want.shape, what
    tolerance = max(TOLERANCE * np.abs(want - start).max(), rounding)
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance, err_msg=str(what))


def check_oracle(recipe: Recipe) -> None:
    model, inputs, target = made(recipe)
    explanation = fxplain.explain(model, inputs, target=target)
    want = expected(model, inputs, target)
    assume_settled(want, expected(model, inputs, target, least=ROUNDING))
    names = set(explanation.relevance)
    # tokens that nothing reads may be left out
    assert recipe.wiring.live - {"joint"} <= names <= set(want.relevance)
    added = max(np.abs(want.relevance[name] - want.start[name]).max() for name in want.relevance)
    for modality in names:
        got = explanation.relevance[modality]
        check(got, want.relevance[modality], want.start[modality], modality, ROUNDING * added)
    for (s, q), matrix in want.matrices.items():
        if not {s, q} <= names:
            continue
        start = np.eye(matrix.shape[1]) if s == q else np.zeros(matrix.shape[1:])
        check(explanation.matrix(s, q), matrix, start, (s, q))


def assume_settled(want: Expected, cut: Expected) -> None:
    """Give up an example whose numbers rounding decides.

    Where gradients are zero but for rounding, equation 8 divides noise by noise, and any two ways to
    compute the same model differ: so do the oracle's numbers with the noise and without.
    """
    for modality, relevance in want.relevance.items():
        scale = max(np.abs(relevance - want.start[modality]).max(), 1e-12)
        assume(np.abs(relevance - cut.relevance[modality]).max() <= 0.1 * TOLERANCE * scale)


each_kind = pytest.mark.parametrize("kind", KINDS)
LARGE = ("three", "sequential_co_attention")


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=[pytest.mark.slow] if kind in LARGE else []) for kind in KINDS],
)
@some_examples(2)
@given(data=st.data())
def test_relevance_and_matrices_are_the_oracles(kind: str, data: st.DataObject) -> None:
    check_oracle(data.draw(recipes(kind)))


@pytest.mark.slow
@each_kind
@some_examples(80, shrink=True)
@given(data=st.data())
def test_relevance_and_matrices_are_the_oracles_at_length(kind: str, data: st.DataObject) -> None:
    check_oracle(data.draw(recipes(kind)))


def check_same(got: dict[str, torch.Tensor], want: dict[str, torch.Tensor], what: object) -> None:
    assert got.keys() == want.keys()
    for modality, relevance in want.items():
        largest = float(relevance.abs().max())
        torch.testing.assert_close(
            got[modality], relevance, rtol=0, atol=TOLERANCE * max(largest, 1e-6), msg=str(what)
        )


@some_examples(3)
@given(recipes())
def test_a_batch_is_its_samples(recipe: Recipe) -> None:
    model, inputs, target = made(recipe)
    both = fxplain.explain(model, inputs, target=target)
    for b in range(recipe.batch):
        alone = {name: value[b : b + 1] for name, value in inputs.items()}
        one = fxplain.explain(model, alone, target=target[b : b + 1])
        check_same(one.relevance, {k: v[b : b + 1] for k, v in both.relevance.items()}, b)


@pytest.mark.slow
@some_examples(3)
@given(recipes())
def test_relevance_follows_the_keys_when_they_are_permuted(recipe: Recipe) -> None:
    moved = [name for name in FEATURES if name in recipe.wiring.streams]
    assume(moved and recipe.wiring.reads not in moved)
    modality = moved[0]
    recipe = replace(recipe, positions="none", causal=False, readout="first")
    assume(recipe.with_special != modality)
    model, inputs, target = made(recipe)
    before = fxplain.explain(model, inputs, target=target).relevance
    order = torch.arange(getattr(recipe, modality)).roll(1)
    together = {modality, "boxes"} if modality == "regions" else {modality}
    permuted = {k: v[:, order] if k in together else v for k, v in inputs.items()}
    after = fxplain.explain(model, permuted, target=target).relevance
    check_same(after, {**before, modality: before[modality][:, order]}, order)


@pytest.mark.slow
@some_examples(3)
@given(recipes())
def test_every_way_to_write_attention_gives_the_same(recipe: Recipe) -> None:
    names = list(ATTENTIONS)
    other = names[(names.index(recipe.attention) + 1 + recipe.seed % (len(names) - 1)) % len(names)]
    check_same(
        explained(replace(recipe, attention=other)).relevance, explained(recipe).relevance, other
    )


@some_examples(2)
@given(recipes())
def test_padding_changes_nothing(recipe: Recipe) -> None:
    """More padding at the end of the words gives the same relevance, and none to the padding."""
    assume(recipe.wiring.streams[0] == "words" and not recipe.special_last)
    assume(recipe.wiring.reads not in ("words", "joint") or recipe.readout == "first")
    recipe = replace(recipe, padding=True)
    model, inputs, target = made(recipe)
    before = fxplain.explain(model, inputs, target=target).relevance
    zeros = torch.zeros(recipe.batch, 2, dtype=torch.long)
    longer = {
        k: torch.cat([v, zeros], 1) if k in ("words", "types", "mask") else v
        for k, v in inputs.items()
    }
    after = fxplain.explain(model, longer, target=target).relevance
    assert float(after["words"][:, -2:].abs().max()) == 0.0
    check_same({**after, "words": after["words"][:, :-2]}, before, "padded")
