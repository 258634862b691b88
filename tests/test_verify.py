"""The law finds what is wrong: rules of the table that are broken on purpose, unread shares."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

import fxplain
from fxplain.capture import Capture, ModelInputs, bind_inputs, capture
from fxplain.program import Program, build_program
from fxplain.tokens import RouteSite, Tag, follow_tokens, tokens_in, versions_in
from fxplain.tokens.op_table import TABLE
from fxplain.tokens.tag import pack
from fxplain.verification import Fault, check_program
from tests.small_models import TextClassifier

SHORT = torch.tensor([[1.0] * 6, [1, 1, 1, 0, 0, 0]])
IDS = torch.tensor([[3, 1, 4, 1, 5, 9], [2, 6, 5, 3, 5, 8]])


class Winding(nn.Module):
    """Two attentions over words that are moved about, read as a mean over all."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(20, 8), nn.Linear(8, 3)
        self.mix, self.norm = nn.Linear(8, 8), nn.LayerNorm(8)

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.norm(self.mix(self.words(input_ids)))
        x = torch.cat([x[:, 3:], x[:, :3]], 1).roll(1, 1)
        x = x + F.scaled_dot_product_attention(x, x, x)
        x = x.flip(1).index_select(1, torch.tensor([1, 0, 3, 2, 5, 4]))
        x = x.transpose(1, 2).transpose(1, 2).repeat(1, 1, 2).unflatten(-1, (2, 8))[:, :, 1]
        y = F.gelu(x * 1.5)
        x = x + (y @ y.mT / 3).softmax(-1) @ y
        return self.head(x)


class MaskedMean(nn.Module):
    """One attention, and a mean over the words that a mask keeps: as product, sum and quotient."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(20, 8), nn.Linear(8, 3)

    def forward(self, input_ids: Tensor, mask: Tensor) -> Tensor:
        x = self.words(input_ids)
        x = x + F.scaled_dot_product_attention(x, x, x, mask[:, None].bool())
        return self.head((x * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True))


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    torch.manual_seed(0)
    yield
    fxplain.clear_captures()


Change = Callable[[Tag], Tag | None]


def off_by_one(tag: Tag) -> Tag | None:
    """Every token's row is its neighbour's."""
    axis = max(range(tag.ids.dim()), key=lambda x: tag.ids.shape[x] if x else 0)
    return tag.with_ids(tag.ids.roll(1, axis))


def two_swapped(tag: Tag) -> Tag | None:
    axis = max(range(tag.ids.dim()), key=lambda x: tag.ids.shape[x] if x else 0)
    order = [1, 0, *range(2, tag.ids.shape[axis])][: tag.ids.shape[axis]]
    return tag.with_ids(tag.ids.index_select(axis, torch.tensor(order)))


def lost(_: Tag) -> None:
    return None


def newborn_again(tag: Tag) -> Tag | None:
    """All that the rows have absorbed is forgotten."""
    return tag.with_ids(pack(tokens_in(tag.ids), torch.zeros_like(versions_in(tag.ids))))


BROKEN: list[tuple[str, Change]] = [
    *((f"aten.{name}", off_by_one) for name in (
        "cat", "roll", "flip", "index_select", "transpose", "slice", "linear", "layer_norm", "add",
        "repeat", "gelu", "mul",
    )),
    *((f"aten.{name}", two_swapped) for name in (
        "flip", "roll", "cat", "linear", "unflatten", "select",
    )),
    *((f"aten.{name}", newborn_again) for name in ("add", "flip", "index_select", "gelu", "linear")),
    *((f"aten.{name}", lost) for name in ("cat", "flip")),
]  # fmt: skip


def faults_of(model: nn.Module, inputs: Any, level: str = "full") -> list[Fault]:
    bound = bind_inputs(model, inputs)
    captured = capture(model, bound)
    program = build_program(follow_tokens(captured, model, bound, keep_tags=True))
    return check_faults(model, bound, captured, program, level)


def check_faults(
    model: nn.Module, bound: ModelInputs, captured: Capture, program: Program, level: str
) -> list[Fault]:
    results = check_program(captured, model, bound, program, level)
    return [fault for result in results for fault in result.faults]


def broken_rule(rule: Callable[..., Any], change: Change) -> Callable[..., Any]:
    def broken(analysis: Any, node: fx.Node) -> Any:
        tags = rule(analysis, node)
        if not isinstance(tags, tuple):
            return tags
        changed = (change(tag) if tag.level > 1 and tag.softmax is None else tag for tag in tags)
        return tuple(tag for tag in changed if tag is not None)

    return broken


def test_rules_that_are_broken_on_purpose_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from fxplain.tokens import pointwise

    model = Winding().eval()
    assert not faults_of(model, (IDS,))
    found, named, missed = 0, 0, []
    for name, change in BROKEN:
        with monkeypatch.context() as patch:
            patch.setitem(TABLE, name, broken_rule(TABLE.get(name, pointwise.pointwise), change))
            faults = faults_of(model, (IDS,))
        found += bool(faults)
        first = bool(faults) and faults[0].operation.startswith(name)
        named += first
        if not first:
            missed.append((name, change.__name__, [f.operation for f in faults]))
    assert len(BROKEN) == 25
    assert found >= 24, missed
    assert named >= 20, missed


@pytest.mark.parametrize("level", ["light", "full"])
def test_a_share_of_padding_is_found(level: str) -> None:
    """Two samples of six words, the second one's last three hidden, and all shares made equal."""
    model = MaskedMean().eval()
    bound = bind_inputs(model, {"input_ids": IDS, "mask": SHORT})
    captured = capture(model, bound)
    flow = follow_tokens(captured, model, bound, keep_tags=True)
    place, route = next((i, u) for i, u in enumerate(flow.updates) if isinstance(u, RouteSite))
    assert not check_faults(model, bound, captured, build_program(flow), level)
    flow.updates[place] = replace(
        route,
        new=route.new[[0] * 6 + [-1] * 6],
        old=route.old[0] + torch.arange(12),
        weights=torch.full((12,), 1 / 6, dtype=torch.float64),
    )
    faults = check_faults(model, bound, captured, build_program(flow), level)
    assert [(fault.operation, fault.ghosts) for fault in faults] == [("aten.sum.dim_IntList", 3)]


def test_small_models_hold() -> None:
    for fused in (True, False):
        assert not faults_of(TextClassifier(fused=fused).eval(), {"input_ids": IDS})


class OfTheOthers(nn.Module):
    """A sum over words with one of them, or a part of it, taken off again, each turned before."""

    def __init__(self, part: float) -> None:
        super().__init__()
        self.words, self.head, self.part = nn.Embedding(20, 8), nn.Linear(8, 3), part
        self.turn = nn.Linear(8, 8, bias=False)

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.words(input_ids)
        x = x + F.scaled_dot_product_attention(x, x, x)
        return self.head(self.turn(x).sum(1) - self.part * self.turn(x[:, 0]))


@pytest.mark.parametrize(("part", "rows"), [(1.0, 2), (0.5, 0)])
def test_what_is_taken_off_a_sum_is_no_part_of_it(part: float, rows: int) -> None:
    faults = faults_of(OfTheOthers(part).eval(), (IDS,), "light")
    assert sum(fault.ghosts for fault in faults) == rows
