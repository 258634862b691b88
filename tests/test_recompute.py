"""Explanations whose layers run again for the backward: the same numbers, one layer's memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxplain
from tests.small_models import BY_NAME, architecture, words


def both(model: nn.Module, inputs: Any, *args: Any, **options: Any) -> list[Any]:
    """Explained as usual, and with `recompute`."""
    return [
        fxplain.explain(model, inputs, *args, recompute=again, **options) for again in (False, True)
    ]


def assert_same(a: fxplain.Explanation, b: fxplain.Explanation) -> None:
    assert set(a.relevance) == set(b.relevance)
    for name, relevance in a.relevance.items():
        torch.testing.assert_close(b.relevance[name], relevance, rtol=0, atol=1e-12)
    torch.testing.assert_close(b.scores, a.scores, rtol=0, atol=0)


METHODS = [
    ("generic", {}),
    ("generic", {"engine": "matrices"}),
    ("input_x_gradient", {}),
    ("transformer_attribution", {}),
]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bert", "lxmert", "bart", "detr", "swin"])
@pytest.mark.parametrize(("method", "options"), METHODS)
def test_architectures_say_the_same(name: str, method: str, options: dict[str, Any]) -> None:
    case = BY_NAME[name]
    model, inputs = architecture(name, case.implementations[0], torch.float64)
    assert_same(*both(model, inputs, case.target, method=method, output=case.output, **options))


class Stack(nn.Module):
    """Layers of attention over words; with chance, each adds what it draws."""

    def __init__(self, layers: int, *, chance: bool = False) -> None:
        super().__init__()
        self.words = nn.Embedding(30, 8)
        self.layers = nn.ModuleList(nn.Linear(8, 24) for _ in range(layers))
        self.head, self.chance = nn.Linear(8, 3), chance

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.words(input_ids)
        for layer in self.layers:
            q, k, v = layer(x).chunk(3, -1)
            x = x + torch.softmax(q @ k.mT, -1) @ v
            x = torch.tanh(x) + (torch.rand_like(x) if self.chance else 0)
        return self.head(x[:, 0])


def stack(layers: int, *, chance: bool = False) -> nn.Module:
    torch.manual_seed(0)
    return Stack(layers, chance=chance).double().eval()


class Two(nn.Module):
    """Words and boxes that attend to each other twice, and a sequence that all layers read."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.boxes, self.head = nn.Embedding(30, 8), nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, input_ids: Tensor, boxes: Tensor) -> Tensor:
        attend = nn.functional.scaled_dot_product_attention
        x, first = self.words(input_ids), self.boxes(boxes)
        y = first
        for _ in range(2):
            x, y = x + attend(x, y, y), y + attend(y, x, x)
            x, y = torch.tanh(x + attend(x, x, x)), torch.tanh(y + attend(y, first, first))
        return self.head(x[:, 0] + y.mean(1))


@pytest.fixture(scope="module")
def two() -> nn.Module:
    torch.manual_seed(0)
    return Two().double().eval()


@pytest.mark.parametrize(("method", "options"), METHODS)
def test_the_numbers_are_those_of_one_backward(
    two: nn.Module, method: str, options: dict[str, Any]
) -> None:
    """Also where equation 10 looks back, and where every layer reads the same values."""
    boxes = torch.randn(2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert_same(*both(two, (words(2, 5), boxes), [0, 2], method=method, **options))


def test_what_is_drawn_is_drawn_again() -> None:
    model, ids = stack(3, chance=True), words(2, 5)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    assert_same(*both(model, (ids,), target=[0, 2]))
    assert torch.equal(torch.get_rng_state(), before)


def test_several_targets_matrices_and_attention() -> None:
    model, ids = stack(3), words(2, 5)
    for a, b in zip(*both(model, (ids,), targets=[0, 1]), strict=True):
        assert_same(a, b)
        torch.testing.assert_close(
            b.matrix("input_ids", "input_ids"), a.matrix("input_ids", "input_ids")
        )
        assert b.heads().to_dict() == a.heads().to_dict()


class _Held:
    """How much autograd keeps, and the most that it kept at once."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def keep(self, tensor: Tensor) -> tuple[Tensor, Any]:
        held, size = self, tensor.numel()

        class Until:
            def __del__(self) -> None:
                held.now -= size

        self.now += size
        self.most = max(self.most, self.now)
        return tensor.detach(), Until()


def most_kept(layers: int, *, recompute: bool) -> int:
    model, ids = stack(layers), words(2, 9)
    fxplain.explain(model, (ids,), target=0)
    held = _Held()
    with torch.autograd.graph.saved_tensors_hooks(held.keep, lambda kept: kept[0]):
        fxplain.explain(model, (ids,), target=0, recompute=recompute)
    return held.most


def test_a_backward_keeps_one_layer() -> None:
    """Whatever their number; all of them without."""
    again = most_kept(6, recompute=True)
    assert again == most_kept(2, recompute=True)
    assert most_kept(6, recompute=False) > 4 * again


class Aside(Stack):
    """Beside its answer, what no attention comes near."""

    def forward(self, input_ids: Tensor) -> dict[str, Tensor]:
        return {"logits": super().forward(input_ids), "aside": self.words(input_ids)[:, 0] * 2}


def test_a_target_that_no_attention_reaches() -> None:
    for again in (False, True):
        with pytest.raises(fxplain.NoGradientError):
            fxplain.explain(Aside(2).eval(), (words(1, 4),), 0, output="aside", recompute=again)
