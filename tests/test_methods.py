"""Every method: on architectures of all kinds, against literal transcriptions, and its invariances."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxplain
from fxplain import Contrast
from fxplain.methods import smoothing_methods, unit_methods
from fxplain.methods.smoothing import SMOOTHING_METHODS
from tests import small_models
from tests.small_models import BY_NAME, architecture
from tests.test_heads import Headed

IDS = small_models.words(2, 6)
CORRECTED = {"gradients": "corrected"}
EVERY = [
    *((name, {}) for name in fxplain.methods()),
    ("generic", {"attribution": "lrp"}),
    ("generic", {"aggregate": False}),
    ("generic", CORRECTED),
    ("generic", {**CORRECTED, "attention": "constant"}),
    ("input_x_gradient", {**CORRECTED, "attention": "constant"}),
    ("rollout", {"attribution": "lrp"}),
]
AT_TOKENS = ("lrp", "input_x_gradient", "integrated_gradients")


def label(value: object) -> str:
    return str(value) if isinstance(value, str) else "-".join(map(str, value.values())) or "plain"


every_method = pytest.mark.parametrize(("method", "options"), EVERY, ids=label)


def marks(name: str, method: str) -> list[pytest.MarkDecorator]:
    """Many steps are for the long run, and so are all architectures but one of each kind."""
    quick = name in ("bert", "vit", "lxmert", "t5", "swin")
    if method == "integrated_gradients":
        quick = name in ("bert", "vit")
    return [] if quick else [pytest.mark.slow]


def classifier(seed: int = 0, **kwargs: object) -> nn.Module:
    return small_models.seeded(small_models.TextClassifier, seed=seed, **kwargs).double()


def test_every_method_says_its_source_and_its_equation() -> None:
    for name, method in {**fxplain.methods(), **unit_methods(), **smoothing_methods()}.items():
        assert method.source, name
        assert method.equation, name
    smooth = SMOOTHING_METHODS["vargrad"]
    assert smooth.around(fxplain.methods()["generic"]).equation == smooth.equation


# -- architectures ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "method", "options"),
    [
        pytest.param(
            name, method, options, id=f"{name}-{method}-{label(options)}", marks=marks(name, method)
        )
        for name in BY_NAME
        for method, options in EVERY
    ],
)
def test_on_every_kind_of_architecture(name: str, method: str, options: dict) -> None:
    """Runs, is finite, and is the same through fused and explicit attention."""
    case, found = BY_NAME[name], []
    for implementation in case.implementations:
        model, inputs = architecture(name, implementation, torch.float64)
        e = fxplain.explain(
            model, inputs, target=case.target, output=case.output, method=method, **options
        )
        assert all(torch.isfinite(r).all() for r in e.relevance.values())
        found.append(e.relevance)
    largest = max(r.abs().max().item() for r in found[0].values())
    assert largest > 0 or method == "gradcam"  # clamped, its last map may be all 0
    for first, second in zip(found[0].values(), found[-1].values(), strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=1e-3 * largest + 1e-9)


# -- what a method promises -------------------------------------------------------------------------


@every_method
def test_a_batch_is_its_samples(method: str, options: dict) -> None:
    model = classifier(depth=2)
    together = fxplain.explain(model, {"input_ids": IDS}, [1, 3], method, **options)
    for b, target in enumerate([1, 3]):
        alone = fxplain.explain(model, {"input_ids": IDS[b : b + 1]}, target, method, **options)
        torch.testing.assert_close(
            together.relevance["input_ids"][b],
            alone.relevance["input_ids"][0],
            rtol=1e-5,
            atol=1e-8,
        )


@every_method
def test_tokens_may_be_permuted(method: str, options: dict) -> None:
    """Without positions, the words behind the first one may come in any order."""
    model = classifier(depth=2)
    nn.init.zeros_(model.encoder.positions.weight)
    order = torch.tensor([0, 4, 2, 5, 1, 3])
    one = fxplain.explain(model, {"input_ids": IDS}, 2, method, **options)
    other = fxplain.explain(model, {"input_ids": IDS[:, order]}, 2, method, **options)
    torch.testing.assert_close(
        one.relevance["input_ids"][:, order], other.relevance["input_ids"], rtol=1e-5, atol=1e-8
    )


PADDED = classifier(depth=2)


@every_method
def test_padding_changes_nothing(method: str, options: dict) -> None:
    """Up to the size of its maps, whose rows are the padding's, too, in Grad-CAM's mean."""
    model = PADDED  # one for all methods: it is captured once
    mask = torch.tensor([[1] * 6, [1] * 4 + [0] * 2])
    padded = {"input_ids": IDS, "attention_mask": mask}
    short = {"input_ids": IDS[1:, :4], "attention_mask": mask[1:, :4]}
    found = fxplain.explain(model, padded, [1, 3], method, **options).relevance["input_ids"][1]
    alone = fxplain.explain(model, short, 3, method, **options).relevance["input_ids"][0]
    assert not found[4:].any()
    scale = 6 / 4 if method == "gradcam" else 1
    torch.testing.assert_close(scale * found[:4], alone, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(
    ("method", "degree"),
    [("input_x_gradient", 1), ("integrated_gradients", 1), ("gradcam", 1), ("legrad", 1),
     ("lrp", 1), ("raw_attention", 0), ("rollout", 0), ("value_weighted", 0)],
)  # fmt: skip
def test_scaling_the_target(method: str, degree: int) -> None:
    """A target that is three times as large has relevance three times as large, or the same."""
    model = classifier()

    def explained(factor: float) -> Tensor:
        def target(output: Tensor) -> Tensor:
            return factor * output[:, 1]

        return fxplain.explain(model, {"input_ids": IDS}, target, method).relevance["input_ids"]

    torch.testing.assert_close(explained(3.0), 3**degree * explained(1.0))


@pytest.mark.parametrize("method", ["generic", "raw_attention", "rollout", "legrad"])
def test_heads_that_are_computed_one_by_one_are_heads(method: str) -> None:
    """Nodes of their own, which together are one attention."""
    found = [
        fxplain.explain(small_models.seeded(Headed, form), (IDS,), 1, method).relevance["ids"]
        for form in ("one by one", "at once")
    ]
    torch.testing.assert_close(found[0], found[1])


def test_signed_relevance_is_more_than_its_positive_part() -> None:
    model = classifier(depth=2)
    for method in ("generic", "gradcam", "legrad"):
        signed = fxplain.explain(model, {"input_ids": IDS}, 1, method, signed=True)
        assert signed.relevance["input_ids"].min() < 0
        positive = fxplain.explain(model, {"input_ids": IDS}, 1, method)
        assert positive.relevance["input_ids"].min() >= 0


# -- literal transcriptions -------------------------------------------------------------------------


class Traced(nn.Module):
    """One block of attention by hand, which keeps what a transcription needs."""

    def __init__(self, *, norm: bool = True, bias: bool = True) -> None:
        super().__init__()
        self.words, self.positions = nn.Embedding(small_models.VOCABULARY, 8), nn.Embedding(9, 8)
        self.qkv = nn.ModuleList(nn.Linear(8, 8, bias=bias) for _ in range(3))
        self.out, self.head = nn.Linear(8, 8, bias=bias), nn.Linear(8, 5, bias=bias)
        self.up, self.down = nn.Linear(8, 12, bias=bias), nn.Linear(12, 8, bias=bias)
        self.norm = nn.LayerNorm(8, elementwise_affine=False) if norm else nn.Identity()
        self.corrected = False

    def forward(self, input_ids: Tensor) -> Tensor:
        self.x = x = self.words(input_ids)
        q, k, self.v = (p(x).unflatten(-1, (2, 4)).transpose(1, 2) for p in self.qkv)
        self.A = (q @ k.transpose(-1, -2) / 2).softmax(-1)
        weights = self.A.detach() if self.corrected else self.A
        x = x + self.out((weights @ self.v).transpose(1, 2).flatten(2))
        x = self._norm(x)
        u = self.up(x)
        u = u * (F.gelu(u) / u).detach() if self.corrected else F.gelu(u)
        return self.head((x + self.down(u))[:, 0])

    def _norm(self, x: Tensor) -> Tensor:
        if not self.corrected or isinstance(self.norm, nn.Identity):
            return self.norm(x)
        std = (x.var(-1, correction=0, keepdim=True) + self.norm.eps).sqrt()
        return (x - x.mean(-1, keepdim=True)) / std.detach()


def traced(**kwargs: bool) -> Traced:
    model = small_models.seeded(Traced, **kwargs)
    assert isinstance(model, Traced)
    return model.double()


def by_autograd(model: Traced, class_: int, *of: str) -> list[Tensor]:
    """The gradients of the class's score in the values that the model kept."""
    scores = model(IDS)[:, class_]
    return list(torch.autograd.grad(scores.sum(), [getattr(model, name) for name in of]))


def relevance(model: nn.Module, method: str, class_: int = 2, **options: object) -> Tensor:
    e = fxplain.explain(model, {"input_ids": IDS}, class_, method, **options)
    return e.relevance["input_ids"]


def test_input_x_gradient() -> None:
    model = traced()
    (gradient,) = by_autograd(model, 2, "x")
    torch.testing.assert_close(relevance(model, "input_x_gradient"), (model.x * gradient).sum(-1))


def test_corrected_input_x_gradient() -> None:
    """The same network with its statistics, gates and attention weights detached, by hand."""
    model = traced()
    got = relevance(model, "input_x_gradient", **CORRECTED, attention="constant")
    model.corrected = True
    (gradient,) = by_autograd(model, 2, "x")
    torch.testing.assert_close(got, (model.x * gradient).sum(-1), rtol=1e-6, atol=1e-9)


def test_corrected_gradients_conserve_without_biases() -> None:
    model = traced(bias=False)
    got = relevance(model, "input_x_gradient", **CORRECTED, attention="constant")
    torch.testing.assert_close(got.sum(1), model(IDS)[:, 2].detach(), rtol=1e-6, atol=1e-6)


def test_corrected_gradients_of_hand_written_norms_and_gates() -> None:
    """x * rsqrt(mean(x^2)), x * sigmoid(x), u * sigmoid(v) and routed experts conserve."""

    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(small_models.VOCABULARY, 8)
            self.up, self.gate = nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)
            self.router, self.experts = nn.Linear(8, 3, bias=False), nn.Linear(8, 24, bias=False)
            self.head = nn.Linear(8, 5, bias=False)

        def forward(self, input_ids: Tensor) -> Tensor:
            x = self.words(input_ids)
            x = x + F.scaled_dot_product_attention(x, x, x)
            x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
            u = self.up(x)
            u = u * torch.sigmoid(1.7 * u)
            x = x + u * self.gate(x).sigmoid()
            weights, experts = self.router(x).softmax(-1).topk(2, -1)
            weights = 1.5 * weights / weights.sum(-1, keepdim=True)
            x = x + (
                weights[..., None]
                * self.experts(x)
                .unflatten(-1, (3, 8))
                .gather(-2, experts[..., None].expand(-1, -1, -1, 8))
            ).sum(-2)
            x = x * 0.5 * (1 + torch.tanh(0.8 * (x + 0.04 * x**3)))
            return self.head(F.normalize(x[:, 0], dim=-1))

    model = small_models.seeded(Gated).double()
    got = relevance(model, "input_x_gradient", **CORRECTED, attention="constant")
    torch.testing.assert_close(got.sum(1), model(IDS)[:, 2].detach(), rtol=1e-6, atol=1e-6)


def test_half_of_the_gradient_goes_to_the_weights() -> None:
    """generic with corrected gradients and attention="half": values get half, and so do weights."""
    model = traced(norm=False)
    half = fxplain.explain(model, {"input_ids": IDS}, 2, "legrad", **CORRECTED, signed=True)
    whole = fxplain.explain(
        model, {"input_ids": IDS}, 2, "legrad", **CORRECTED, attention="constant", signed=True
    )
    torch.testing.assert_close(half.relevance["input_ids"], whole.relevance["input_ids"] / 2)


@pytest.mark.parametrize("steps", [1, 16])
def test_integrated_gradients(steps: int) -> None:
    model = traced(norm=False)
    at, weights = np.polynomial.legendre.leggauss(steps)
    x = model.words(IDS).detach()
    total = torch.zeros_like(x)
    for point, weight in zip(at, weights, strict=True):
        share = (point + 1) / 2
        handle = model.words.register_forward_hook(lambda *a, s=share: (s * x).requires_grad_())
        (gradient,) = by_autograd(model, 2, "x")
        handle.remove()
        total += gradient * weight / 2
    got = relevance(model, "integrated_gradients", steps=steps)
    torch.testing.assert_close(got, (x * total).sum(-1))


def test_integrated_gradients_are_complete() -> None:
    model = traced(norm=False)
    got = relevance(model, "integrated_gradients", steps=64)
    handle = model.words.register_forward_hook(lambda _m, _i, output: 0 * output)
    without = model(IDS)[:, 2]
    handle.remove()
    torch.testing.assert_close(
        got.sum(1), (model(IDS)[:, 2] - without).detach(), rtol=1e-4, atol=1e-4
    )


def test_integrated_gradients_of_a_function() -> None:
    """The target function is asked again at each point on the way."""
    model = traced(norm=False)
    e = fxplain.explain(
        model, {"input_ids": IDS}, lambda y: y[:, 2] ** 2, "integrated_gradients", steps=64
    )
    handle = model.words.register_forward_hook(lambda _m, _i, output: 0 * output)
    without = model(IDS)[:, 2] ** 2
    handle.remove()
    want = (model(IDS)[:, 2] ** 2 - without).detach()
    torch.testing.assert_close(e.relevance["input_ids"].sum(1), want, rtol=1e-3, atol=1e-3)


class Normed(nn.Module):
    """Words that a norm reads at once and nothing else does, as LXMERT's boxes."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.norm = nn.Embedding(small_models.VOCABULARY, 16), nn.LayerNorm(16)
        self.attention, self.head = small_models.Attention(), nn.Linear(16, 4)

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.norm(self.words(input_ids))
        return self.head((x + self.attention(x, x))[:, 0])


def test_tokens_are_taken_behind_the_norm_that_reads_them() -> None:
    model = small_models.seeded(Normed).double()
    nn.init.normal_(model.norm.bias)
    x = model.norm(model.words(IDS)).detach().requires_grad_()
    score = model.head((x + model.attention(x, x))[:, 0])[:, 2]
    (gradient,) = torch.autograd.grad(score.sum(), x)
    got = relevance(model, "input_x_gradient")
    torch.testing.assert_close(got, (gradient * x).sum(-1))
    nothing = torch.zeros_like(x)
    base = model.head((nothing + model.attention(nothing, nothing))[:, 0])[:, 2]
    got = relevance(model, "integrated_gradients")
    torch.testing.assert_close(got.sum(1), (score - base).detach(), rtol=1e-6, atol=1e-6)


def test_legrad() -> None:
    model = traced()
    (gradient,) = by_autograd(model, 2, "A")
    torch.testing.assert_close(relevance(model, "legrad"), gradient.clamp(min=0).mean(1)[:, 0])


def test_gradcam() -> None:
    model = traced()
    (gradient,) = by_autograd(model, 2, "A")
    want = (gradient.mean((2, 3), keepdim=True) * model.A).mean(1).clamp(min=0)[:, 0]
    torch.testing.assert_close(relevance(model, "gradcam"), want)


def test_value_weighted() -> None:
    model = traced()
    model(IDS)
    shares = (model.A * model.v.norm(dim=-1).unsqueeze(-2)).mean(1)
    shares = shares / shares.sum(-1, keepdim=True)
    want = ((shares + torch.eye(6, dtype=torch.float64)) / 2)[:, 0]
    torch.testing.assert_close(relevance(model, "value_weighted"), want.detach())


def test_weighted_accumulation() -> None:
    model = traced()
    (gradient,) = by_autograd(model, 2, "A")
    norms = model.v.norm(dim=-1).unsqueeze(-2)
    weighed = (gradient * model.A).clamp(min=0) * norms / norms.mean(-1, keepdim=True)
    want = weighed.mean(1)[:, 0] + torch.eye(6, dtype=torch.float64)[0]
    torch.testing.assert_close(relevance(model, "weighted_accumulation"), want.detach())


def test_rollout_leaves_out_first_layers() -> None:
    model = classifier(depth=3)
    weights = [A.mean(1) for A in fxplain.attention_weights(model, {"input_ids": IDS}).values()]
    eye = torch.eye(6, dtype=torch.float64)
    for start in (0, 1, -1):
        want = eye.expand(2, -1, -1)
        for A in weights[start:]:
            want = (A + eye) / 2 @ want
        got = relevance(model, "rollout", start_layer=start)
        torch.testing.assert_close(got, want[:, 0])


# -- targets ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["generic", "input_x_gradient", "lrp"])
def test_contrast_explains_the_difference(method: str) -> None:
    model = classifier()
    contrast = fxplain.explain(model, {"input_ids": IDS}, Contrast(1, 4), method)
    difference = fxplain.explain(
        model, {"input_ids": IDS}, lambda output: output[:, 1] - output[:, 4], method
    )
    torch.testing.assert_close(contrast.relevance["input_ids"], difference.relevance["input_ids"])
    torch.testing.assert_close(contrast.scores, difference.scores)
    assert str(contrast.target[0]) == "1 rather than 4"


def test_contrast_with_the_prediction_and_saved(tmp_path) -> None:
    model = classifier()
    worst = int(model(IDS)[0].argmin())
    e = fxplain.explain(model, {"input_ids": IDS}, [Contrast(None, worst)] * 2)
    assert e.target[0] == Contrast(int(model(IDS)[0].argmax()), worst)
    e.save(tmp_path / "e.safetensors")
    assert fxplain.load(tmp_path / "e.safetensors").target == e.target


def test_contrast_of_the_same_is_refused() -> None:
    with pytest.raises(fxplain.TargetError, match="both sides are the same"):
        fxplain.explain(classifier(), {"input_ids": IDS}, Contrast(1, 1))


# -- options ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        (
            "attention",
            {},
            "unknown method 'attention'; there are: generic, transformer_attribution",
        ),
        ("rollout", {"signed": True}, "no option 'signed'; its options: normalize, attribution"),
        ("generic", {"gradients": "better"}, "none of 'plain', 'corrected'"),
        ("generic", {"start_layer": "last"}, "start_layer='last' must be of type int"),
        ("integrated_gradients", {"steps": 0}, "steps=0 must be a whole number from 1 to 10000"),
        ("generic", {"preset": "paper"}, "unknown preset 'paper'; there are: clip-notebook"),
    ],
)
def test_wrong_options_are_named(method: str, options: dict, message: str) -> None:
    with pytest.raises(fxplain.MethodError, match=message):
        fxplain.explain(classifier(), {"input_ids": IDS}, 1, method, **options)


def test_preset_is_its_method_and_options() -> None:
    model = classifier(depth=2)
    torch.testing.assert_close(
        relevance(model, "generic", preset="clip-notebook"),
        relevance(model, "generic", start_layer=-1),
    )


@pytest.mark.parametrize("method", AT_TOKENS)
def test_scores_of_tokens_have_no_matrices(method: str, tmp_path) -> None:
    e = fxplain.explain(classifier(), {"input_ids": IDS}, 1, method)
    with pytest.raises(fxplain.MethodError, match="has no relevancy matrices"):
        e.matrix("input_ids", "input_ids")
    e.save(tmp_path / "e.safetensors")
    loaded = fxplain.load(tmp_path / "e.safetensors")
    torch.testing.assert_close(loaded.relevance["input_ids"], e.relevance["input_ids"])


def test_every_method_says_what_it_is() -> None:
    for name, method in fxplain.methods().items():
        assert method.name == name
        assert method.source
        assert "forward" in method.cost
        assert method.about
        assert all(option.about for option in method.options.values())
