"""Memory: a long run stays flat, and explanations keep no more than they need."""

import gc
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxplain
from fxplain.methods import node_maps
from fxplain.run import Run
from tests import small_models

STATUS = Path("/proc/self/status")


def resident() -> int:
    """KiB."""
    line = next(x for x in STATUS.read_text().splitlines() if x.startswith("VmRSS"))
    return int(line.split()[1])


def tensors() -> int:
    return sum(isinstance(x, Tensor) for x in gc.get_objects())


@pytest.mark.slow
@pytest.mark.skipif(not STATUS.exists(), reason="no /proc")
def test_five_hundred_explanations_are_flat() -> None:
    model = small_models.seeded(small_models.TextClassifier)
    inputs = {"input_ids": small_models.words(2, 6)}
    for _ in range(50):
        fxplain.explain(model, inputs, target=0)
    gc.collect()
    before, held = resident(), tensors()
    for _ in range(500):
        fxplain.explain(model, inputs, target=0)
    gc.collect()
    assert tensors() <= held + 5
    assert resident() - before < 10 * 1024


def test_the_gradient_of_an_output_goes_when_the_backward_has_it() -> None:
    first = torch.ones(3, requires_grad=True)
    second = first * 2
    nodes: list[Any] = [SimpleNamespace(output=first), SimpleNamespace(output=second)]
    given = [torch.ones(3)]
    alive, found = weakref.ref(given[0]), dict[int, Tensor | None]()
    gone: list[bool] = []

    def arrived(i: int, gradient: Tensor | None) -> None:
        gone.append(alive() is None)
        found[i] = gradient

    Run((second * 3,), nodes).ridden_backward([second * 3], given, arrived)
    assert gone == [True, True]
    assert given == []
    assert torch.equal(found[1], torch.full((3,), 3.0))  # type: ignore[arg-type]
    assert torch.equal(found[0], torch.full((3,), 6.0))  # type: ignore[arg-type]


class Reader(nn.Module):
    """One attention."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(30, 8), nn.Linear(8, 3)

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.words(input_ids)
        x = x + nn.functional.scaled_dot_product_attention(x, x, x)
        return self.head(x[:, 0])


def test_an_explanation_lets_go_of_operands_that_are_more_than_the_map(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Once a node's map is made it stands for what the node saw."""
    seen: list[weakref.ref] = []
    make = node_maps.NodeMap.__init__

    def noted(self: node_maps.NodeMap, node: object, *args: object, **kwargs: object) -> None:
        seen.append(weakref.ref(node))
        make(self, node, *args, **kwargs)

    monkeypatch.setattr(node_maps.NodeMap, "__init__", noted)
    torch.manual_seed(0)
    e = fxplain.explain(Reader().eval(), {"input_ids": small_models.words(1, 6)}, target=0)
    e.matrix("input_ids", "input_ids")
    gc.collect()
    assert seen
    assert all(reference() is None for reference in seen)
