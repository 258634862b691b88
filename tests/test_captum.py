"""Beside captum: each method that it has too, asked the same of the same model, says the same."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

import fxplain
from fxplain.demo import digits
from fxplain.methods import lime
from fxplain.program import BirthSite
from fxplain.run import Noise
from tests.small_models import ImageClassifier, TextClassifier, pixels, seeded, words
from tests.test_softening import IDS, OneHead, model

captum = pytest.importorskip("captum.attr")


class Halves(nn.Module):
    """Two classes, from the mean of what attention makes of all words, and a mask word of its own."""

    config = SimpleNamespace(mask_token_id=0)

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(60, 8), nn.Linear(8, 2)

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.words(input_ids)
        x = x + nn.functional.scaled_dot_product_attention(x, x, x)
        return self.head(x.mean(1))


HALVES, SEVEN = seeded(Halves), words(1, 7, seed=3)
FIVE = SEVEN[:, :5]
OF = {"baselines": 0, "target": 1}


def of_halves(method: str, ids: Tensor = SEVEN, **options: object) -> fxplain.Explanation:
    return fxplain.explain(HALVES, (ids,), 1, method, removal="mask_token", **options)


def relevance(method: str, ids: Tensor = SEVEN, **options: object) -> Tensor:
    return of_halves(method, ids, **options).relevance["input_ids"][0]


def test_leave_one_out_is_feature_ablation() -> None:
    ablated = captum.FeatureAblation(HALVES).attribute(SEVEN, **OF)[0]
    torch.testing.assert_close(relevance("leave_one_out"), ablated)


def test_occlusion() -> None:
    slid = captum.Occlusion(HALVES).attribute(SEVEN, (3,), strides=1, **OF)[0]
    torch.testing.assert_close(relevance("occlusion", window=3), slid, check_dtype=False)


def test_regions_of_an_image_are_features_by_a_mask() -> None:
    made, image = seeded(ImageClassifier), pixels(1, 3, 16, 16)
    e = fxplain.explain(made, (image,), 1, "leave_one_out", regions=4, removal="zero")
    quarters = torch.arange(4).reshape(2, 2).repeat_interleave(8, 0).repeat_interleave(8, 1)
    ablated = captum.FeatureAblation(made).attribute(image, feature_mask=quarters, **OF)[0, 0]
    found = (
        e.pixels("pixel_values", "nearest")[0] * 4
    )  # each region's is shared by its four patches
    torch.testing.assert_close(found, ablated, atol=1e-5, rtol=1e-4)


def test_shapley_values() -> None:
    """Of all orders, as captum goes through them; and what both draw of them, within its error."""
    exact = captum.ShapleyValues(HALVES).attribute(FIVE, perturbations_per_eval=5, **OF)[0]
    found = relevance("kernel_shap", FIVE)
    torch.testing.assert_close(found, exact, atol=1e-5, rtol=1e-5, check_dtype=False)
    drawn = of_halves("permutation_shap", FIVE, budget=160)
    off = (drawn.relevance["input_ids"][0] - exact).abs()
    assert bool((off <= 4 * drawn.error["input_ids"][0]).all())
    torch.manual_seed(0)
    how = {"n_samples": 100, "perturbations_per_eval": 5, **OF}
    sampled = captum.ShapleyValueSampling(HALVES).attribute(FIVE, **how)[0]
    torch.testing.assert_close(found, sampled, atol=0.1, rtol=0.1, check_dtype=False)
    how |= {"n_samples": 1000, "perturbations_per_eval": 250}
    kernel = captum.KernelShap(HALVES).attribute(FIVE, **how)[0]
    torch.testing.assert_close(found, kernel, atol=0.1, rtol=0.1, check_dtype=False)


def test_lime_on_the_same_sets() -> None:
    pytest.importorskip("sklearn")
    from captum._utils.models.linear_model import SkLearnLinearModel

    asked = []

    def noted(kept: Tensor) -> Tensor:
        asked.append(kept)
        return HALVES(torch.where(kept, SEVEN, 0))[:, 1].detach()

    found = lime(noted, 7, draws=40, width=0.3, penalty=0.5)
    sets = iter(asked[0])

    class Ridge(SkLearnLinearModel):
        def __init__(self) -> None:
            super().__init__("linear_model.Ridge", alpha=0.5)

    def near(_original: Tensor, _changed: Tensor, kept: Tensor, **_: object) -> float:
        cosine = float(torch.cosine_similarity(kept.float(), torch.ones(1, 7), dim=1))
        return float(torch.tensor(-((1 - cosine) ** 2) / (2 * 0.3**2)).exp())

    beside = captum.LimeBase(
        lambda given: HALVES(given)[:, 1],
        Ridge(),
        near,
        lambda _original, **_: next(sets)[None].long(),
        perturb_interpretable_space=True,
        from_interp_rep_transform=lambda kept, original, **_: torch.where(kept.bool(), original, 0),
        to_interp_rep_transform=None,
    ).attribute(SEVEN, n_samples=len(asked[0]))
    torch.testing.assert_close(found.values.float(), beside[0].float(), atol=2e-3, rtol=2e-3)
    assert found.error.shape == (7,)


def test_input_x_gradient() -> None:
    """Of words: of what their table gives."""
    made, ids = seeded(TextClassifier, depth=2), words(2, 6)
    wanted = captum.LayerGradientXActivation(made, made.encoder.words).attribute(ids, target=2)
    found = fxplain.explain(made, (ids,), 2, "input_x_gradient").relevance["input_ids"]
    torch.testing.assert_close(found, wanted.sum(-1).detach())


def drawn_noise(made: OneHead, ids: Tensor, draws: int) -> Iterator[Tensor]:
    """What fxplain draws for each text, one after the other."""
    for row in ids:
        x = made.words(row).detach()[None]
        tokens = torch.arange(len(row)).reshape(1, -1, 1)
        site = BirthSite(None, tokens, torch.zeros_like(tokens))
        yield torch.cat([Noise(0.2, 5, i, "smoothing").of(x, site, 0) for i in range(draws)])


def test_smoothed_gradients_are_those_of_its_noise_tunnel(monkeypatch: pytest.MonkeyPatch) -> None:
    """SmoothGrad, VarGrad, and from both SmoothGrad-squared, with the same noise."""
    made, draws = model(fused=True), 3
    explained = {
        name: fxplain.explain(made, (IDS,), 1, name, draws=draws, noise=0.2, seed=5)
        for name in ("smoothgrad", "vargrad")
    }
    smooth, spread = (explained[name].relevance["ids"] for name in ("smoothgrad", "vargrad"))
    spread = spread * (draws - 1) / draws  # captum's is the mean square, and no estimate
    wanted = {"smoothgrad": smooth, "vargrad": spread, "smoothgrad_sq": spread + smooth**2}

    class Behind(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            q, k, v = made.q(x), made.k(x), made.v(x)
            return made.head(nn.functional.scaled_dot_product_attention(q, k, v)[:, -1])

    class Summed(captum.InputXGradient):
        """By word, before the tunnel takes squares."""

        def attribute(self, *given: object, **how: object) -> tuple[Tensor, ...]:
            return tuple(x.sum(-1) for x in super().attribute(*given, **how))

    Summed.attribute.__wrapped__ = (
        Summed.attribute
    )  # captum logs each door, and asks what is behind
    for kind, own in wanted.items():
        noise = torch.cat(list(drawn_noise(made, IDS, draws)))
        monkeypatch.setattr(torch, "normal", lambda *_, noise=noise: noise)
        found = captum.NoiseTunnel(Summed(Behind())).attribute(
            (made.words(IDS).detach(),), nt_type=kind, nt_samples=draws, target=1
        )
        torch.testing.assert_close(own, found[0].detach(), atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_integrated_gradients() -> None:
    """On the LXMERT that ships: words and boxes as they are born, from none of them."""
    made, tokenizer = digits.load_model()
    samples = digits.load_samples()[:3]
    mosaics = torch.stack([sample.mosaic for sample in samples])
    inputs = digits.encode(tokenizer, [sample.question.text for sample in samples], mosaics)
    born = {
        "input_ids": ("embeddings.word_embeddings", "embeddings.token_type_embeddings"),
        "visual_feats": ("encoder.visn_fc.visn_layer_norm", "encoder.visn_fc.box_layer_norm"),
    }
    sites = [made.lxmert.get_submodule(path) for paths in born.values() for path in paths]

    def score(*given: Tensor) -> Tensor:
        pairs = zip(sites, given, strict=True)
        hooks = [site.register_forward_hook(lambda *_, x=x: x) for site, x in pairs]
        output = made(**inputs).question_answering_score[:, 1]
        for hook in hooks:
            hook.remove()
        return output

    values: list[Tensor] = []
    hooks = [site.register_forward_hook(lambda _m, _i, x: values.append(x)) for site in sites]
    made(**inputs)
    for hook in hooks:
        hook.remove()
    values = [value.detach().expand(len(samples), -1, -1) for value in values]
    found = captum.IntegratedGradients(score).attribute(
        tuple(values), n_steps=20, internal_batch_size=len(samples)
    )
    e = fxplain.explain(made, inputs, 1, "integrated_gradients", steps=20)
    for modality, own in zip(born, (found[:2], found[2:]), strict=True):
        want = sum(attribution.sum(-1) for attribution in own).float()
        assert want.abs().max() > 0.1
        torch.testing.assert_close(e.relevance[modality], want, rtol=1e-3, atol=1e-3)
