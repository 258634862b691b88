"""SmoothGrad and VarGrad: their equations written out, and what they promise."""

from __future__ import annotations

import pytest
import torch

import fxplain
from fxplain.methods import method_named
from fxplain.program import BirthSite
from fxplain.run import Noise
from tests.small_models import TextClassifier, seeded, words
from tests.test_softening import IDS, OneHead, model

DRAWS, LEVEL, SEED = 3, 0.2, 5


def site(shape: tuple[int, int]) -> BirthSite:
    """Words of some samples, one after the other."""
    tokens = torch.arange(shape[0] * shape[1]).reshape(*shape, 1)
    return BirthSite(None, tokens, torch.arange(shape[0]).reshape(-1, 1, 1).expand_as(tokens))


def transcribed(made: OneHead, ids: torch.Tensor, target: int) -> list[torch.Tensor]:
    """x~ * dy/dx~ of x~ = x + sigma N(0, 1), for each draw, by autograd on the model's own lines."""
    found = []
    for draw in range(DRAWS):
        x = made.words(ids).detach()
        noise = Noise(LEVEL, SEED, draw, "smoothing").of(x[None], site((1, len(ids))), 0)[0]
        noised = (x + noise).requires_grad_()
        q, k, v = made.q(noised), made.k(noised), made.v(noised)
        mixed = (q @ k.T / q.shape[-1] ** 0.5).softmax(-1) @ v
        (g,) = torch.autograd.grad(made.head(mixed[-1])[target], noised)
        found.append((noised * g).sum(-1).detach())
    return found


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "written out"])
def test_mean_and_variance_are_those_of_the_papers(fused: bool) -> None:
    made = model(fused=fused)
    how = {"draws": DRAWS, "noise": LEVEL, "seed": SEED}
    drawn = torch.stack(
        [torch.stack(transcribed(made, ids, t)) for ids, t in zip(IDS, (1, 2), strict=True)], 1
    )
    smooth = fxplain.explain(made, (IDS,), [1, 2], "smoothgrad", **how)
    torch.testing.assert_close(smooth.relevance["ids"], sum(drawn) / DRAWS)
    squares = sum((x - sum(drawn) / DRAWS) ** 2 for x in drawn) / (DRAWS - 1)
    torch.testing.assert_close(smooth.error["ids"], (squares / DRAWS) ** 0.5)
    spread = fxplain.explain(made, (IDS,), [1, 2], "vargrad", **how)
    torch.testing.assert_close(spread.relevance["ids"], squares)
    assert spread.error is None


def test_noise_is_as_large_as_it_says_and_the_same_for_every_sample() -> None:
    x = torch.rand(2, 40, 500) * torch.arange(1, 41).reshape(1, -1, 1)
    noise = Noise(0.3).of(x, site((2, 40)), 0)
    sizes = x.square().mean(-1).sqrt()
    drawn = noise / sizes[..., None]
    assert drawn.mean().abs() < 0.01
    assert (drawn.std() - 0.3).abs() < 0.01
    torch.testing.assert_close(drawn[0], drawn[1])
    longer = Noise(0.3).of(torch.cat([x, x], 1), site((2, 80)), 0)
    torch.testing.assert_close(longer[:, :40], noise)  # padding changes nothing
    assert not torch.equal(noise, Noise(0.3, draw=1).of(x, site((2, 40)), 0))
    assert not torch.equal(noise, Noise(0.3).of(x, site((2, 40)), 1))


@pytest.mark.parametrize(
    "of", ["generic", "rollout", "lrp", "integrated_gradients", "transformer_attribution"]
)
def test_every_method_is_smoothed_reproducibly_and_sample_by_sample(of: str) -> None:
    made, ids = seeded(TextClassifier), words(2, 6)
    how = {"of": of, "draws": 2}
    both = fxplain.explain(made, (ids,), [1, 2], "smoothgrad", **how)
    alone = fxplain.explain(made, (ids[1:],), 2, "smoothgrad", **how)
    assert both.options["of"] == of
    torch.testing.assert_close(alone.relevance["input_ids"][0], both.relevance["input_ids"][1])
    again = fxplain.explain(made, (ids,), [1, 2], both.method, **both.options)
    assert torch.equal(again.relevance["input_ids"], both.relevance["input_ids"])
    clean = fxplain.explain(made, (ids,), [1, 2], of)
    assert not torch.allclose(clean.relevance["input_ids"], both.relevance["input_ids"])
    assert torch.equal(clean.scores, both.scores)


def test_recomputed_runs_have_the_same_noise() -> None:
    made, ids = seeded(TextClassifier, depth=2), words(2, 6)
    once, twice = (
        fxplain.explain(made, (ids,), method="smoothgrad", of="generic", draws=2, recompute=r)
        for r in (False, True)
    )
    torch.testing.assert_close(once.relevance["input_ids"], twice.relevance["input_ids"])


def test_several_targets_are_those_without_noise() -> None:
    made, ids = seeded(TextClassifier), words(1, 6)
    found = fxplain.explain(made, (ids,), targets=[None, 2], method="smoothgrad", draws=2)
    for each, target in zip(found, (None, 2), strict=True):
        alone = fxplain.explain(made, (ids,), target, "smoothgrad", draws=2)
        torch.testing.assert_close(each.relevance["input_ids"], alone.relevance["input_ids"])
        assert each.target == alone.target


def test_what_it_cannot_tell_is_said() -> None:
    made, ids = seeded(TextClassifier), words(1, 6)
    with pytest.raises(fxplain.MethodError, match="of='lime' is none of"):
        fxplain.explain(made, (ids,), method="smoothgrad", of="lime")
    with pytest.raises(fxplain.MethodError, match="no option 'steps'"):
        fxplain.explain(made, (ids,), method="smoothgrad", steps=3)
    found = fxplain.explain(made, (ids,), method="smoothgrad", of="generic", draws=2)
    with pytest.raises(fxplain.MethodError, match="no relevancy matrices"):
        found.matrix("input_ids", "input_ids")
    with pytest.raises(fxplain.MethodError, match="no sum over chains"):
        found.heads()
    known = method_named(found.method, found.options)
    assert known is not None
    assert "normalize" in known.options
    assert method_named("made elsewhere", {}) is None
