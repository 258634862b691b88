"""Layers with packed weights are followed as the linear layers that they are, and left as they were."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import fxplain
from tests.loading.packed import Coded, in_place_of_linear, unpacked
from tests.loading.ways import inputs, plain


class Rounding(Coded):
    """Rounds what it is given to 8 bits, too."""

    def forward(self, x: Tensor) -> Tensor:
        size = x.abs().amax(-1, keepdim=True).clamp_min(1e-9) / 127
        return super().forward((x / size).round() * size)


class Lazy(Coded):
    """Turns its codes round when it first runs, and back in each run."""

    turned = False

    def forward(self, x: Tensor) -> Tensor:
        if not self.turned:
            self.codes.data, self.codes.scale, self.turned = -self.codes, -self.codes.scale, True
        return super().forward(x)


class Curved(Coded):
    """No linear layer."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).tanh()


def relevance(model: nn.Module, **options: object) -> Tensor:
    (found,) = fxplain.explain(model, inputs(), target=1, **options).relevance.values()
    return found


def apart(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


def coded(kind: Callable[[nn.Linear], nn.Module] = Coded, only: str = "") -> nn.Module:
    return in_place_of_linear(plain(), kind, only)


def as_linear(model: nn.Module) -> nn.Module:
    """A plain model with the weights that a model's layers unpack."""
    made = plain()
    for part, own in zip(model.modules(), made.modules(), strict=True):
        if isinstance(part, Coded):
            own.weight.data = part.weight().clone()
    return made


@pytest.mark.parametrize("method", ["generic", "transformer_attribution"])
def test_the_weights_are_weights_for_every_method(method: str) -> None:
    expected = relevance(unpacked(plain(), Coded), method=method)
    assert apart(relevance(coded(), method=method), expected) < 1e-5


def test_what_layers_round_is_said() -> None:
    model = coded(Rounding)
    explanation = fxplain.explain(model, inputs(), target=1)
    (said,) = explanation.graph.warnings
    assert said.startswith("13 quantised layers (layers.0.q, ...) round what they are given")
    theirs = model(*inputs())
    share = float((explanation.output - theirs).abs().max() / theirs.abs().max())
    told = float(said.split(" by ")[1].split()[0])
    assert told == pytest.approx(share, rel=0.06)
    (found,) = explanation.relevance.values()
    assert apart(found, relevance(unpacked(plain(), Coded))) < 1e-5
    assert fxplain.explain(coded(), inputs(), target=1).graph.warnings == ()


def test_codes_that_are_written_are_read_again() -> None:
    model = coded(only="v")
    before = relevance(model)
    assert apart(before, relevance(as_linear(model))) < 1e-5
    with torch.no_grad():
        model.layers[1].v.codes.copy_(model.layers[1].v.codes.flip(0))
    expected = relevance(as_linear(model))
    assert apart(relevance(model), expected) < 1e-5
    assert apart(before, expected) > 1e-3


def test_hooks_on_a_packed_layer_count() -> None:
    model = coded(only="v")
    relevance(model)  # known before the hook is there
    other = as_linear(model)
    model.layers[0].v.register_forward_hook(lambda module, args, output: output * 3)
    with torch.no_grad():
        other.layers[0].v.weight.mul_(3)
        other.layers[0].v.bias.mul_(3)
    assert apart(relevance(model), relevance(other)) < 1e-5


def test_a_layer_that_packs_anew_is_left_as_it_was() -> None:
    model = coded(Lazy)
    model.layers[0].register_forward_hook(lambda module, args, output: None)  # it is run once more
    codes = model.head.codes.clone()
    expected = relevance(unpacked(plain(), Coded))
    assert apart(relevance(model), expected) < 1e-5
    assert torch.equal(model.head.codes, codes)
    assert not model.head.turned
    with torch.no_grad():
        torch.testing.assert_close(model(*inputs()), unpacked(plain(), Coded)(*inputs()))
    assert model.head.turned
    assert apart(relevance(model), expected) < 1e-5


def test_a_packed_layer_that_is_not_linear_is_refused_by_name() -> None:
    with pytest.raises(
        fxplain.CaptureError, match=r"'layers.0.up.codes' is a tests.loading.packed.Codes"
    ):
        relevance(coded(Curved, only="up"))


def test_what_was_read_is_let_go() -> None:
    from fxplain.capture import unpacked as kept

    model = coded(only="v")
    relevance(model)
    assert model.layers[0].v in kept._read
    fxplain.clear_captures(model)
    assert model.layers[0].v not in kept._read
