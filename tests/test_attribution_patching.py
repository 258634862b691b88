"""Attribution patching estimates what patching does, to first order."""

import pytest
import torch
from torch import Tensor, nn

import fxplain
from fxplain import Cut
from fxplain.evaluation.statistics import spearman
from tests.long_run import quickly
from tests.small_models import ImageClassifier, TextClassifier, architecture, pixels, seeded, words
from tests.test_heads import Grouped, Headed


def all_of(nodes: int, heads: int, to: str) -> list[Cut]:
    return [Cut.heads(n, h, to=to) for n in range(nodes) for h in range(heads)]


def test_small_changes_are_met_exactly() -> None:
    """The error is of second order: a change a tenth as large has an error a hundredth as large."""
    model, image = seeded(ImageClassifier, depth=2).double(), pixels().double()
    cuts = [*all_of(2, 2, "reference"), Cut.tokens("pixel_values", [1, 2], to="reference")]
    cuts += [
        Cut.write("blocks.0.feed_forward", to="reference"),
        Cut.stream("blocks.0.feed_forward"),
    ]
    errors = []
    for size in (1e-3, 1e-4):
        reference = (image + size * pixels(seed=1).double(),)
        true, quick = (
            fxplain.intervene(model, (image,), cuts, 1, reference=reference, estimate=estimate)
            for estimate in (False, True)
        )
        errors.append((quick.effects - true.effects).abs().amax(1))
    assert bool((errors[1] < 0.02 * errors[0]).all())
    assert bool((errors[1] < 0.01 * true.effects.abs().amax(1)).all())
    assert quick.estimated
    assert not true.estimated


@pytest.mark.parametrize("fused", quickly([True, False], [False]))
def test_signs_and_ranks_are_those_of_patching(fused: bool) -> None:
    model = seeded(TextClassifier, width=16, heads=4, depth=3, fused=fused)
    with torch.no_grad():
        for (
            parameter
        ) in model.parameters():  # near where it is linear, as trained models' heads are
            parameter.mul_(0.5)
    ids, other = words(3, 6), words(3, 6, seed=1)
    cuts = all_of(3, 4, "reference")
    cuts += [Cut.tokens("input_ids", place, to="reference") for place in range(6)]
    true, quick = (
        fxplain.intervene(model, (ids,), cuts, 1, reference=(other,), estimate=estimate).effects
        for estimate in (False, True)
    )
    for sample in range(3):
        assert spearman(true[:, sample], quick[:, sample]) > 0.9
        large = true[:, sample].abs() > 0.05 * true[:, sample].abs().max()
        assert bool((true[large, sample].sign() == quick[large, sample].sign()).all())


class Linear(nn.Module):
    """The score is linear in what attention says: estimates of edges and heads are exact."""

    def __init__(self, *, fused: bool) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(30, 16), nn.Linear(16, 3)
        self.fused = fused

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids).unflatten(-1, (2, 8)).transpose(1, 2)
        if self.fused:
            mixed = nn.functional.scaled_dot_product_attention(x, x, x)
        else:
            mixed = (x @ x.mT / 8**0.5).softmax(-1) @ x
        return self.head(mixed.transpose(1, 2).flatten(2)[:, 0])


@pytest.mark.parametrize("fused", [True, False])
def test_edges_and_heads_are_exact_where_the_score_is_linear(fused: bool) -> None:
    model, ids = seeded(Linear, fused=fused), words(2, 5)
    cuts = [Cut.edges(0, [1, 2]), Cut.edges(0, [1, 2], heads=1, renormalize=False)]
    cuts += [Cut.edges(0, "ids"), Cut.heads(0, 1), Cut.heads(0, to="mean")]
    true, quick = (
        fxplain.intervene(model, (ids,), cuts, 1, estimate=estimate).scores
        for estimate in (False, True)
    )
    torch.testing.assert_close(quick, true, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("form", ["among keys", "at once"])
def test_samples_are_told_apart_wherever_heads_are(form: str) -> None:
    model, ids = seeded(Headed, form), words(2, 6)
    cuts = [Cut.heads(0, 1), Cut.edges(0, [1, 2], heads=0)]
    both = fxplain.intervene(model, (ids,), cuts, 1, estimate=True).scores
    for sample in (0, 1):
        alone = fxplain.intervene(model, (ids[sample : sample + 1],), cuts, 1, estimate=True).scores
        torch.testing.assert_close(both[:, sample : sample + 1], alone)


def test_queries_that_share_keys() -> None:
    ids, cuts = words(2, 6), all_of(2, 4, "zero")
    want, found = (
        fxplain.intervene(seeded(Grouped, 2, form), (ids,), cuts, 1, estimate=True).scores
        for form in ("repeated", "heads by queries")
    )
    torch.testing.assert_close(found, want, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vit", "swin", "detr", "clip"])
def test_small_changes_of_pictures_on_architectures(name: str) -> None:
    model, inputs = architecture(name, None, torch.float64)
    nodes = fxplain.inspect(model, inputs).nodes
    cuts = [Cut.heads(n, 1, to="reference") for n in range(len(nodes))]
    noise = torch.randn_like(inputs["pixel_values"]) * 1e-5
    reference = {**inputs, "pixel_values": inputs["pixel_values"] + noise}
    true, quick = (
        fxplain.intervene(model, inputs, cuts, reference=reference, estimate=estimate).effects
        for estimate in (False, True)
    )
    torch.testing.assert_close(quick, true, rtol=1e-2, atol=1e-9)
    assert bool((true.abs() > 1e-8).any())


def test_no_outputs_are_estimated() -> None:
    with pytest.raises(fxplain.InputError, match="makes no outputs"):
        fxplain.intervene(
            seeded(TextClassifier), (words(2, 6),), Cut.heads(0), estimate=True, outputs=True
        )
