"""Layer-wise relevance propagation: each rule against a literal transcription, and what it promises."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import fxplain
from fxplain.rewriting.lrp_rules import (
    added,
    added_plainly,
    by_share,
    contracted,
    contracted_apart,
    noting,
    passed,
    product,
    propagated,
    ratio,
)

EPS = 1e-9


def numbers(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def relevances(rule, function, *operands: Tensor, R: Tensor, samples=None) -> list[Tensor]:
    """What the rule gives to each operand that requires a gradient."""
    output = propagated(rule, function, operands, {}, samples)
    active = [x for x in operands if x.requires_grad]
    return list(torch.autograd.grad(output, active, R))


def divided(a: float, b: float) -> float:
    return 0.0 if b == 0 else a / (b - EPS if b < 0 else b + EPS)


def test_ratio_is_safe() -> None:
    R, Z = torch.tensor([0.0, 1.0, 1.0, -2.0]), torch.tensor([0.0, 0.0, 4.0, 1e-20])
    assert torch.equal(ratio(R, Z)[:3], torch.tensor([0.0, 0.0, 0.25]))
    assert torch.isfinite(ratio(R, Z)).all()


def test_ratio_in_half_precision() -> None:
    R, Z = (torch.tensor(x, dtype=torch.float16) for x in ([1.0, -3.0, 2.0], [0.0, 2.0, -0.0]))
    torch.testing.assert_close(ratio(R, Z).float(), torch.tensor([0.0, -1.5, 0.0]))


# -- linear: with Z = x+ W+ + x- W-, R_in = x+ (S W+^T) + x- (S W-^T) --------------------------------


def linear_by_hand(x: np.ndarray, W: np.ndarray, R: np.ndarray, together: bool) -> np.ndarray:
    result = np.zeros_like(x)
    for n in range(len(x)):
        for j in range(len(W)):
            positive = sum(max(x[n, i], 0) * max(W[j, i], 0) for i in range(x.shape[1]))
            negative = sum(min(x[n, i], 0) * min(W[j, i], 0) for i in range(x.shape[1]))
            sums = [positive + negative] * 2 if together else [positive, negative]
            for i in range(x.shape[1]):
                result[n, i] += max(x[n, i], 0) * max(W[j, i], 0) * divided(R[n, j], sums[0])
                result[n, i] += min(x[n, i], 0) * min(W[j, i], 0) * divided(R[n, j], sums[1])
    return result


@pytest.mark.parametrize(("rule", "together"), [(contracted, True), (contracted_apart, False)])
def test_linear(rule, together: bool) -> None:
    x, W, b, R = (numbers(*s, seed=i) for i, s in enumerate([(3, 5), (4, 5), (4,), (3, 4)]))
    (got,) = relevances(rule, F.linear, x.requires_grad_(), W, b, R=R)
    want = linear_by_hand(x.detach().numpy(), W.numpy(), R.numpy(), together)
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-9, atol=1e-14)
    if together:
        assert got.sum().item() == pytest.approx(R.sum().item())


@pytest.mark.parametrize(("rule", "together"), [(contracted, True), (contracted_apart, False)])
@pytest.mark.parametrize("rows", [(), (4,), (0, 3)])
def test_rows_without_relevance_get_none(rule, together: bool, rows: tuple[int, ...]) -> None:
    x, W, b = numbers(2, 3, 5, seed=0).requires_grad_(), numbers(4, 5, seed=1), numbers(4, seed=2)
    R = torch.zeros(6, 4, dtype=torch.float64)
    R[list(rows)] = numbers(len(rows), 4, seed=3)
    output = propagated(rule, F.linear, (x, W, b), {}, by_rows=True)
    (got,) = torch.autograd.grad(output, x, R.reshape(2, 3, 4))
    want = linear_by_hand(x.detach().reshape(6, 5).numpy(), W.numpy(), R.numpy(), together)
    np.testing.assert_allclose(got.reshape(6, 5).numpy(), want, rtol=1e-9, atol=1e-14)


def test_rows_are_those_of_the_operand_on_the_left() -> None:
    class Turned(nn.Module):
        """A square matrix of weights on the left, where a row of the output reads all rows."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(numbers(6, 6, seed=5).float())
            self.embed, self.encoder = nn.Embedding(9, 6), nn.TransformerEncoderLayer(6, 2, 8)

        def forward(self, ids: Tensor) -> Tensor:
            x = self.encoder(self.embed(ids)[0])
            return torch.matmul(self.weight, x)[:1, 0]

    torch.manual_seed(0)  # where nothing counts towards the output, the rule gives nothing
    e = fxplain.explain(Turned().eval(), {"ids": torch.arange(6)[None]}, method="lrp")
    assert e.relevance["ids"].abs().gt(1e-4).all()


def test_a_linear_layer_where_next_to_nothing_is_left_of_large_sums() -> None:
    x = torch.tensor([[1e6, 1e6, 1e-3], [0.0, 0.0, 0.0]])
    W = torch.tensor([[-1e6, -1e6, 2.0], [-1.0, -1.0, -1.0]])
    R = torch.tensor([[1.0, 1.0], [1.0, 1.0]])
    (got,) = relevances(contracted, F.linear, x.requires_grad_(), W, R=R)
    want = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]])  # all of R where 0.002 is left of 2e12
    torch.testing.assert_close(got, want)


def test_convolution_is_a_linear_layer_over_patches() -> None:
    x, W, R = numbers(2, 3, 4, 4, seed=0), numbers(5, 3, 2, 2, seed=1), numbers(2, 5, 2, 2, seed=2)
    (got,) = relevances(
        contracted, lambda x, W: F.conv2d(x, W, stride=2), x.clone().requires_grad_(), W, R=R
    )
    patches = F.unfold(x, 2, stride=2).transpose(1, 2).reshape(-1, 12)
    of_patches = R.flatten(2).transpose(1, 2).reshape(-1, 5)
    want = linear_by_hand(patches.numpy(), W.reshape(5, 12).numpy(), of_patches.numpy(), True)
    folded = F.fold(torch.as_tensor(want).reshape(2, 4, 12).transpose(1, 2), 4, 2, stride=2)
    torch.testing.assert_close(got, folded)


# -- products, sums, means --------------------------------------------------------------------------


def test_product_of_activations_halves_each_side() -> None:
    a, b, R = numbers(2, 3, seed=0), numbers(3, 4, seed=1), numbers(2, 4, seed=2)
    got_a, got_b = relevances(product, torch.matmul, a.requires_grad_(), b.requires_grad_(), R=R)
    want_a, want_b = np.zeros((2, 3)), np.zeros((3, 4))
    A, B = a.detach().numpy(), b.detach().numpy()
    Z = A @ B
    for i in range(2):
        for k in range(4):
            for j in range(3):
                share = A[i, j] * B[j, k] * divided(float(R[i, k]), Z[i, k]) / 2
                want_a[i, j] += share
                want_b[j, k] += share
    np.testing.assert_allclose(got_a.numpy(), want_a, rtol=1e-8)
    np.testing.assert_allclose(got_b.numpy(), want_b, rtol=1e-8)
    assert (got_a.sum() + got_b.sum()).item() == pytest.approx(R.sum().item())


def test_sum_is_rescaled_per_sample() -> None:
    a, b, R = (numbers(2, 3, 4, seed=i) for i in range(3))
    samples = torch.arange(2).reshape(2, 1, 1)
    got = relevances(added, torch.add, a.requires_grad_(), b.requires_grad_(), R=R, samples=samples)
    for n in range(2):
        sums = (a + b).detach()[n]
        S = [[divided(float(R[n, i, j]), float(sums[i, j])) for j in range(4)] for i in range(3)]
        shares = [x[n].detach().numpy() * np.array(S) for x in (a, b)]
        totals = [share.sum() for share in shares]
        for share, total, result in zip(shares, totals, got, strict=True):
            part = abs(total) / sum(map(abs, totals)) * R[n].sum().item()
            np.testing.assert_allclose(result[n].numpy(), share * part / total, rtol=1e-6)


def test_sum_without_rescaling() -> None:
    a, b, R = (numbers(3, 4, seed=i) for i in range(3))
    got = relevances(added_plainly, torch.add, a.requires_grad_(), b.requires_grad_(), R=R)
    for x, result in zip((a, b), got, strict=True):
        torch.testing.assert_close(result, x.detach() * R / (a + b).detach(), rtol=1e-6, atol=1e-6)


def test_a_constant_side_of_a_sum_gets_nothing() -> None:
    a, mask, R = (numbers(3, 4, seed=i) for i in range(3))
    (got,) = relevances(added, torch.add, a.requires_grad_(), mask, R=R)
    assert torch.equal(got, R)


def test_mean_by_share() -> None:
    x, R = numbers(2, 5, seed=0), numbers(2, seed=1)
    (got,) = relevances(by_share, lambda x: x.mean(1), x.requires_grad_(), R=R)
    want = x.detach() / x.detach().sum(1, keepdim=True) * R[:, None]
    torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("function", [torch.tanh, F.gelu, lambda x: x.softmax(-1)])
def test_passed_on_unchanged(function) -> None:
    x, R = numbers(2, 5, seed=0), numbers(2, 5, seed=1)
    (got,) = relevances(passed, function, x.requires_grad_(), R=R)
    assert torch.equal(got, R)


def test_a_value_used_twice_gets_both_relevances() -> None:
    x, R = numbers(2, 3, seed=0).requires_grad_(), numbers(2, 3, seed=1)
    y = propagated(passed, torch.tanh, (x,), {})
    z = propagated(passed, torch.sigmoid, (x,), {})
    (got,) = torch.autograd.grad([y, z], [x], [R, 2 * R])
    torch.testing.assert_close(got, 3 * R)


def test_conservation_is_noted_by_name() -> None:
    ledger: dict[str, tuple[float, float]] = {}
    x, W, R = numbers(3, 5, seed=0).requires_grad_(), numbers(4, 5, seed=1), numbers(3, 4, seed=2)
    with noting(ledger):
        y = propagated(contracted, F.linear, (x, W), {}, None, "head")
    torch.autograd.grad(y, x, R)
    assert ledger["head"] == pytest.approx((R.sum().item(), R.sum().item()))


# -- whole models -----------------------------------------------------------------------------------


class Encoder(nn.Module):
    """Two layers with what models are made of; `fused` says how attention is computed."""

    def __init__(self, fused: bool, norm: str = "layer") -> None:
        super().__init__()
        make = (lambda: nn.LayerNorm(8)) if norm == "layer" else (lambda: HandWrittenNorm(8))
        self.fused = fused
        self.words, self.positions = nn.Embedding(30, 8), nn.Parameter(torch.randn(12, 8) / 3)
        self.qkv = nn.ModuleList(nn.Linear(8, 24) for _ in range(2))
        self.out = nn.ModuleList(nn.Linear(8, 8) for _ in range(2))
        self.mlp = nn.ModuleList(
            nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8)) for _ in range(2)
        )
        self.norms = nn.ModuleList(make() for _ in range(4))
        self.head = nn.Linear(8, 5)

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.words(input_ids) + self.positions[: input_ids.shape[1]]
        for i in range(2):
            q, k, v = (t.unflatten(-1, (2, 4)).transpose(1, 2) for t in self.qkv[i](x).chunk(3, -1))
            if self.fused:
                y = F.scaled_dot_product_attention(q, k, v)
            else:
                y = (q @ k.transpose(-1, -2) / 2).softmax(-1) @ v
            x = self.norms[2 * i](x + self.out[i](y.transpose(1, 2).flatten(2)))
            x = self.norms[2 * i + 1](x + self.mlp[i](x))
        return self.head(x[:, 0])


class HandWrittenNorm(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight


def encoder(seed: int, fused: bool = False, norm: str = "layer") -> nn.Module:
    torch.manual_seed(seed)
    return Encoder(fused, norm).double().eval()


LRP_METHODS = [
    ("lrp", {}),
    ("partial_lrp", {}),
    ("transformer_attribution", {}),
    ("generic", {"attribution": "lrp"}),
    ("rollout", {"attribution": "lrp"}),
]
IDS = torch.tensor([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 1000), norm=st.sampled_from(["layer", "by hand"]))
def test_relevance_is_conserved(seed: int, norm: str) -> None:
    """Relevance is lost in one place only: an output of a linear layer without a positive part."""
    e = fxplain.explain(encoder(seed, norm=norm), {"input_ids": IDS}, method="lrp")
    gained = {node: out - came for node, (came, out) in e.conservation.items()}
    elsewhere = [abs(g) for node, g in gained.items() if not node.startswith("linear")]
    assert max(elsewhere) < 1e-6
    assert e.relevance["input_ids"].sum().item() == pytest.approx(
        2 + sum(gained.values()), abs=1e-5
    )


@pytest.mark.parametrize(("method", "options"), LRP_METHODS)
def test_fused_and_explicit_attention_agree(method: str, options: dict) -> None:
    found = [
        fxplain.explain(encoder(0, fused), {"input_ids": IDS}, method=method, **options)
        for fused in (True, False)
    ]
    torch.testing.assert_close(found[0].relevance["input_ids"], found[1].relevance["input_ids"])


@pytest.mark.parametrize(("method", "options"), LRP_METHODS)
def test_a_batch_is_its_samples(method: str, options: dict) -> None:
    model = encoder(1)
    together = fxplain.explain(model, {"input_ids": IDS}, target=[2, 4], method=method, **options)
    for b, target in enumerate([2, 4]):
        alone = fxplain.explain(
            model, {"input_ids": IDS[b : b + 1]}, target=target, method=method, **options
        )
        torch.testing.assert_close(
            together.relevance["input_ids"][b],
            alone.relevance["input_ids"][0],
            rtol=1e-6,
            atol=1e-9,
        )


class Unknown(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(30, 8), nn.Linear(8, 5)

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.words(input_ids)
        x = x + F.scaled_dot_product_attention(x, x, x)
        return self.head(torch.logaddexp(x, x.flip(-1))[:, 0])


def test_an_operation_without_a_rule_is_named() -> None:
    with pytest.raises(fxplain.MethodError, match=r"no rule for aten\.logaddexp in the model"):
        fxplain.explain(Unknown().eval(), {"input_ids": IDS}, method="lrp")
