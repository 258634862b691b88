"""Rows that are followed while the backward is under way: same numbers, and nodes let go on the way."""

import weakref
from contextlib import nullcontext
from unittest.mock import patch

import pytest
import torch

import fxplain
from fxplain.explanation import passes
from fxplain.explanation.call import Call
from fxplain.explanation.passes import Passes
from fxplain.explanation.plan import Plan
from fxplain.explanation.question import Question
from fxplain.methods import Method, RelevancyRows, resolve_method
from tests.small_models import BY_NAME, architecture

ONE_WAY = ["bert", "gpt2", "llama", "vit", "swin", "visual_bert"]


def explained(name: str, ride: bool, dtype: torch.dtype = torch.float64) -> fxplain.Explanation:
    case = BY_NAME[name]
    model, inputs = architecture(name, case.implementations[0], dtype)
    method, options = resolve_method("generic", {})
    assert isinstance(method, Method)
    question = Question(model, inputs, method, options, {}, output=case.output)
    with nullcontext() if ride else patch.object(Plan, "ridden", lambda _plan: None):
        return Call(question).explanation(case.target)


@pytest.fixture(autouse=True)
def no_node_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the backward is ridden in tiny models, too."""
    monkeypatch.setattr(passes, "SMALL", 0)


@pytest.fixture
def rides(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with each backward that is ridden."""
    seen: list[int] = []
    ridden = Passes.ridden
    monkeypatch.setattr(Passes, "ridden", lambda *a: seen.append(1) or ridden(*a))
    return seen


@pytest.mark.parametrize("name", ONE_WAY)
def test_equal_to_rows_after_the_backward(name: str, rides: list[int]) -> None:
    after = explained(name, ride=False)
    assert not rides
    on_the_way = explained(name, ride=True)
    assert rides
    for modality, relevance in after.relevance.items():
        torch.testing.assert_close(on_the_way.relevance[modality], relevance, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ONE_WAY)
def test_small_nodes_are_taken_together(
    name: str, rides: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_the_way = explained(name, ride=True)
    monkeypatch.setattr(passes, "SMALL", 2**19)
    together = explained(name, ride=True)
    assert len(rides) == 1
    for modality, relevance in on_the_way.relevance.items():
        torch.testing.assert_close(together.relevance[modality], relevance, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["lxmert", "bart"])
def test_equation_10_looks_back(name: str, rides: list[int]) -> None:
    explained(name, ride=True)
    assert not rides


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_in_float32_at_least(dtype: torch.dtype) -> None:
    assert explained("bert", True, dtype).relevance["input_ids"].dtype is torch.float32


def test_matrices_are_made_by_another_run(rides: list[int]) -> None:
    name = "input_ids"
    on_the_way, after = explained("bert", ride=True), explained("bert", ride=False)
    torch.testing.assert_close(on_the_way.matrix(name, name), after.matrix(name, name))
    assert len(rides) == 1


def test_a_node_is_let_go_of_before_the_next_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a stack of attention nodes, only those that are still to come are alive."""
    nodes: list[weakref.ref] = []
    alive: list[int] = []
    promised, advance = Passes.promised, RelevancyRows.advance

    def noted(self: Passes) -> object:
        made = promised(self)
        nodes.extend(weakref.ref(node.seen.operands[0]) for node in made.nodes.values())
        return made

    def counted(self: RelevancyRows) -> None:
        advance(self)
        alive.append(sum(node() is not None for node in nodes))

    monkeypatch.setattr(Passes, "promised", noted)
    monkeypatch.setattr(RelevancyRows, "advance", counted)
    fxplain.explain(*architecture("bert"), 0)
    count = len(nodes)
    assert count > 1
    riding, after = alive[:count], alive[count:]  # the identity's row is read afterwards
    assert riding == list(range(count - 1, -1, -1))
    assert not any(after)


def test_a_target_before_all_attention(rides: list[int]) -> None:
    model, inputs = architecture("bert")
    with pytest.raises(fxplain.FxplainError):
        fxplain.explain(model, inputs, target=lambda output: output.logits[:, 0].detach() * 0)
