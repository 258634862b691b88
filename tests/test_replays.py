"""Replays: the same explanation of other numbers, made again as bare operations."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxplain
from fxplain.explanation import replays
from fxplain.run import DoesNotHoldError, Recording, Replay


class Words(nn.Module):
    """An encoder of words that pools its first token, or tags each word."""

    def __init__(self, *, tags: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(20, 16)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0.0) for _ in range(1)
        )
        self.head = nn.Linear(16, 3)
        self.tags = tags

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        x = self.embed(ids)
        hidden = None if mask is None else ~mask.bool()
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=hidden)
        return self.head(x if self.tags else x[:, 0])


@cache
def unchanged() -> Words:
    """One for all tests that do not change it."""
    return Words().eval()


def words(seed: int, batch: int = 2, tokens: int = 6) -> Tensor:
    return torch.randint(0, 20, (batch, tokens), generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first call of a form is recorded."""
    monkeypatch.setattr(replays, "FIRST", 1)


@pytest.fixture
def replayed(monkeypatch: pytest.MonkeyPatch, at_once: None) -> list[bool]:
    """For each replay that was tried, whether it served."""
    found: list[bool] = []
    own = replays.Form._replayed

    def watched(self: replays.Form, *args: Any) -> Any:
        made = own(self, *args)
        found.append(made is not None)
        return made

    monkeypatch.setattr(replays.Form, "_replayed", watched)
    return found


def plainly(explain: Callable[[], fxplain.Explanation]) -> fxplain.Explanation:
    """An explanation that is neither recorded nor replayed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fxplain.explanation.call.form_of", lambda *_: None)
        return explain()


def assert_same(a: fxplain.Explanation, b: fxplain.Explanation) -> None:
    for name in b.relevance:
        torch.testing.assert_close(a.relevance[name], b.relevance[name], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(a.scores, b.scores)
    assert (a.target, a.readout, a.engine) == (b.target, b.readout, b.engine)
    assert a.labels == b.labels
    assert a.graph.warnings == b.graph.warnings


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("generic", {}),
        ("generic", {"gradients": "corrected"}),
        ("input_x_gradient", {}),
        ("input_x_gradient", {"gradients": "corrected"}),
    ],
)
def test_other_words_of_a_form_are_explained_as_without(
    replayed: list[bool], method: str, options: dict[str, Any]
) -> None:
    model = unchanged()
    fxplain.explain(model, {"ids": words(0)}, 1, method, **options)
    for seed, target in ((1, 1), (2, None), (3, 0)):
        inputs = {"ids": words(seed)}
        found = fxplain.explain(model, inputs, target, method, **options)
        assert_same(
            found,
            plainly(lambda: fxplain.explain(model, inputs, target, method, **options)),  # noqa: B023
        )
    assert replayed[-3:] == [True] * 3


def test_nothing_is_recorded_before_a_form_came_often(monkeypatch: pytest.MonkeyPatch) -> None:
    model, made = Words().eval(), []
    own = replays.Form.recorded
    monkeypatch.setattr(
        replays.Form, "recorded", lambda self, *args: made.append(1) or own(self, *args)
    )
    for seed in range(replays.FIRST - 1):
        fxplain.explain(model, {"ids": words(seed)}, 1)
    assert not made
    fxplain.explain(model, {"ids": words(9)}, 1)
    assert made == [1]


def test_a_mask_that_hides_is_not_taken_for_one_that_does_not(replayed: list[bool]) -> None:
    model, whole = Words().eval(), torch.ones(2, 6, dtype=torch.long)
    some = whole.clone()
    some[1, 4:] = 0
    fxplain.explain(model, {"ids": words(0), "mask": whole}, 1)
    for mask in (some, whole, some):
        inputs = {"ids": words(5), "mask": mask}
        found = fxplain.explain(model, inputs, 1)
        assert_same(found, plainly(lambda: fxplain.explain(model, inputs, 1)))  # noqa: B023
    assert found.relevance["ids"][1, 4:].eq(0).all()


def test_readouts_at_other_places_are_not_taken_for_the_recorded_ones(
    replayed: list[bool],
) -> None:
    model = Words(tags=True).eval()
    for target in ((0, 1), (3, 1), (0, 2), (3, 2)):
        inputs = {"ids": words(target[0])}
        found = fxplain.explain(model, inputs, target)
        assert_same(found, plainly(lambda: fxplain.explain(model, inputs, target)))  # noqa: B023
    assert replayed == [False, True, True]


def test_weights_are_those_of_the_call(replayed: list[bool]) -> None:
    model = Words().eval()
    inputs = {"ids": words(0)}
    before = fxplain.explain(model, inputs, 1)
    with torch.no_grad():
        model.layers[0].linear1.weight.mul_(3)
    found = fxplain.explain(model, inputs, 1)
    assert replayed[-1]
    assert not torch.allclose(found.relevance["ids"], before.relevance["ids"])
    assert_same(found, plainly(lambda: fxplain.explain(model, inputs, 1)))


def test_a_model_that_computes_something_else_is_not_replayed(replayed: list[bool]) -> None:
    model = Words().eval()
    inputs = {"ids": words(0)}
    fxplain.explain(model, inputs, 1)
    model.layers[0].self_attn.num_heads, model.layers[0].self_attn.head_dim = 4, 4
    found = fxplain.explain(model, inputs, 1)
    assert replayed == []
    expected = model(**inputs)[:, 1]
    torch.testing.assert_close(found.scores, expected.detach())


def test_matrices_and_cuts_can_be_asked_of_a_replay(replayed: list[bool]) -> None:
    model = unchanged()
    fxplain.explain(model, {"ids": words(0)}, 1)
    found = fxplain.explain(model, {"ids": words(1)}, 1)
    assert replayed[-1]
    expected = found.matrix("ids", "ids")[:, 0]
    torch.testing.assert_close(found.relevance["ids"], expected, rtol=1e-4, atol=1e-6)


def test_other_methods_have_no_form() -> None:
    model = unchanged()
    captured, program, question = None, None, None

    def kept(q: Any, c: Any, p: Any) -> None:
        nonlocal captured, program, question
        question, captured, program = q, c, p

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fxplain.explanation.call.form_of", kept)
        fxplain.explain(model, {"ids": words(0)}, 1, "lrp")
    assert question is not None
    assert captured is not None
    assert program is not None
    assert replays.form_of(question, captured, program) is None


# -- recordings by themselves -----------------------------------------------------------------------


def recorded(
    first: Callable[[Tensor], Tensor], second: Callable[[Tensor, Tensor], Tensor], *given: Tensor
) -> tuple[Recording, Replay | None]:
    recording = Recording()
    with recording.part(given[:1]):
        output = first(given[0])
    with recording.part(given[1:]):
        read = second(output, given[1])
    return recording, None if recording.refused else Replay.of(recording, [output], [read])


def replay(made: Replay | None, *given: Tensor) -> tuple[Tensor, Tensor]:
    assert made is not None
    outputs, kept = made.begun(given[:1])
    return outputs[0], made.finished(kept, given[1:])[0]


def test_gradients_facts_and_writes_are_replayed() -> None:
    def first(x: Tensor) -> Tensor:
        return (x.detach().requires_grad_() * torch.arange(3.0)).tanh()

    def second(y: Tensor, g: Tensor) -> Tensor:
        (slope,) = torch.autograd.grad(y, y, g)
        total = torch.zeros(2, 3)
        total[0] = slope * y.detach()
        total[1] += torch.ones(3)
        return total.t().contiguous()

    _, made = recorded(first, second, torch.randn(3), torch.randn(3))
    x, g = torch.randn(3), torch.randn(3)
    output, read = replay(made, x, g)
    expected = torch.tanh(x * torch.tensor([0.0, 1.0, 2.0]))
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(read, torch.stack([g * expected, torch.ones(3)], 1))


def test_what_is_asked_of_numbers_has_to_be_answered_the_same() -> None:
    def first(x: Tensor) -> Tensor:
        return x * 2 if bool((x > 0).all()) else x

    _, made = recorded(first, lambda y, g: y * g, torch.ones(3), torch.ones(3))
    torch.testing.assert_close(replay(made, torch.full((3,), 2.0), torch.ones(3))[1][0].item(), 4.0)
    with pytest.raises(DoesNotHoldError):
        replay(made, -torch.ones(3), torch.ones(3))


@pytest.mark.parametrize(
    ("reads", "why"),
    [
        (lambda x: x[x > 0].sum(), "shape"),
        (lambda x: x.nonzero().sum(), "shape"),
        (lambda x: torch.tensor(x.tolist()), "tolist"),
        (lambda x: torch.as_tensor(x.numpy() * 2), "numpy"),
    ],
)
def test_what_cannot_be_followed_is_refused(reads: Callable[[Tensor], Tensor], why: str) -> None:
    recording, made = recorded(reads, lambda y, g: y * g, torch.ones(3), torch.ones(()))
    assert made is None
    assert why in recording.refused


def test_a_replay_lets_go_of_values_after_their_last_use() -> None:
    def first(x: Tensor) -> Tensor:
        return x.exp().exp().exp()

    _, made = recorded(first, lambda y, g: y * g, torch.ones(3), torch.ones(3))
    assert made is not None
    x = [torch.ones(3)]
    made.forward(x)
    assert x == []


def test_a_form_is_replayed_from_the_first_call_once_it_is_prepared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, served = Words().eval(), []
    own = replays.Form._replayed
    monkeypatch.setattr(
        replays.Form, "_replayed", lambda self, *args: served.append(own(self, *args)) or served[-1]
    )
    monkeypatch.setattr(replays, "LARGEST", 0)
    assert fxplain.prepare(model, {"ids": words(0)}, 1) == ""
    inputs = {"ids": words(1)}
    found = fxplain.explain(model, inputs, 2)
    assert len(served) == 1
    assert served[0] is not None
    assert_same(found, plainly(lambda: fxplain.explain(model, inputs, 2)))


def test_preparing_says_why_nothing_is_replayed() -> None:
    model = unchanged()
    inputs = {"ids": words(0)}
    assert "random" in fxplain.prepare(Drawing().eval(), inputs, 1)
    assert "recompute" in fxplain.prepare(model, inputs, 1, recompute=True)
    with pytest.raises(fxplain.MethodError, match="nothing to prepare"):
        fxplain.prepare(model, inputs, 1, method="leave_one_out")


class Drawing(Words):
    """A model that adds noise."""

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        return super().forward(ids, mask) + 1e-3 * torch.randn(())


class Pair(nn.Module):
    """Two texts, one read by the other."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.embed = nn.Embedding(20, 16)
        self.layer = nn.TransformerDecoderLayer(16, 2, 32, batch_first=True, dropout=0.0)
        self.head = nn.Linear(16, 3)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.head(self.layer(self.embed(a), self.embed(b))[:, 0])


def test_one_tensor_for_two_inputs_is_not_taken_for_two(replayed: list[bool]) -> None:
    model = Pair().eval()
    same = words(0)
    fxplain.explain(model, {"a": same, "b": same}, 1)
    for a, b in ((words(1), words(2)), (words(3), words(4))):
        inputs = {"a": a, "b": b}
        found = fxplain.explain(model, inputs, 1)
        assert_same(found, plainly(lambda: fxplain.explain(model, inputs, 1)))  # noqa: B023
    assert replayed == [False, True]


def test_what_is_viewed_twice_or_written_through_a_view_is_one_memory() -> None:
    def first(x: Tensor) -> Tensor:
        made = x.detach().view(2, 3).view(6) * 2
        made.view(2, 3)[0] += x.view(3, 2).view(6)[:3]
        return made

    _, made = recorded(
        first, lambda y, g: (y.view(2, 3) * g).view(-1).sum(), *(torch.ones(6), torch.ones(2, 3))
    )
    x, g = torch.randn(6), torch.randn(2, 3)
    expected = torch.cat([3 * x[:3], 2 * x[3:]])
    output, read = replay(made, x, g)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(read, (expected.view(2, 3) * g).sum())


def test_a_recording_keeps_nothing_of_the_run(at_once: None) -> None:
    model = unchanged()
    found = fxplain.explain(model, {"ids": words(0, tokens=5)}, 1)
    recorded_scores = weakref.ref(found.output.untyped_storage())
    made = weakref.ref(found)
    del found
    gc.collect()
    assert made() is None
    assert recorded_scores() is None
