"""A model that was changed after an explanation is explained as it is now."""

import os
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import pytest
import torch
from torch import Tensor, nn

import fxplain
from fxplain.capture import cache, routes, shelf
from fxplain.capture.fingerprint import changed, facts_of

IDS = torch.tensor([[3, 1, 4, 1, 5, 9], [2, 7, 1, 8, 2, 8]])
STRENGTH = 1.0


def _bent(x: Tensor) -> Tensor:
    return x * 2


class Dials:
    """An object of the model's own, with slots."""

    __slots__ = ("gain",)

    def __init__(self) -> None:
        self.gain = 1.0


class Adjustable(nn.Module):
    """One attention and all kinds of dials."""

    floor = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(20, 8)
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 3)
        self.act: Callable[[Tensor], Tensor] = torch.relu
        self.scaling = {"default": {"deep": 1.0}}
        self.dials = Dials()
        self.layers = [0]
        self.shift = torch.zeros(8)
        self.wide = torch.zeros(2000)
        self.calls = 0

    def bend(self, x: Tensor) -> Tensor:
        return x

    def forward(self, input_ids: Tensor) -> Tensor:
        self.calls += 1
        x = self.words(input_ids)
        for _ in self.layers:
            x = x + self.attend(x, x, x)[0] * self.scaling["default"]["deep"] * self.dials.gain
        x = self.bend(self.act(x + self.shift + self.wide[:8]).clamp(min=self.floor)) * STRENGTH
        return self.head(x[:, 0])


def _set_class_attribute(model: Adjustable) -> None:
    type(model).floor = 0.4


def _replace_in_the_class(model: Adjustable) -> None:
    type(model).bend = lambda self, x: x * 3  # type: ignore[method-assign]


def _change_a_global(_model: Adjustable) -> None:
    globals()["STRENGTH"] = 4.0


CHANGES: dict[str, Callable[[Adjustable], object]] = {
    "hook": lambda m: m.attend.register_forward_hook(lambda _m, _a, out: (out[0] * 9, out[1])),
    "pre-hook": lambda m: m.head.register_forward_pre_hook(lambda _m, a: (a[0] + 1,)),
    "hook with keywords": lambda m: m.attend.register_forward_hook(
        lambda _m, _a, _k, out: (out[0] * 9, out[1]), with_kwargs=True
    ),
    "hook on the whole": lambda m: m.register_forward_hook(lambda _m, _a, out: out + 1),
    "function": lambda m: setattr(m, "act", torch.tanh),
    "number in nested dicts": lambda m: m.scaling["default"].update(deep=5.0),
    "number in an object": lambda m: setattr(m.dials, "gain", 3.0),
    "list": lambda m: m.layers.append(0),
    "tensor replaced": lambda m: setattr(m, "shift", torch.ones(8)),
    "tensor written": lambda m: m.shift.add_(1),
    "tensor written behind torch's back": lambda m: m.shift.data.add_(1),
    "large tensor written": lambda m: m.wide.add_(1),
    "method of the object": lambda m: setattr(m, "bend", _bent),
    "bound method": lambda m: setattr(
        m, "bend", types.MethodType(lambda self, x: x + self.layers[0] - 1, m)
    ),
    "forward of the object": lambda m: setattr(
        m, "forward", lambda input_ids: type(m).forward(m, input_ids) * 2
    ),
    "forward of a part": lambda m: setattr(m.head, "forward", lambda x: x[:, :3] * 7),
    "class of a part": lambda m: setattr(
        m.head, "__class__", type("Louder", (nn.Linear,), {"forward": lambda self, x: x[:, :3] * 7})
    ),
    "class attribute": _set_class_attribute,
    "method of the class": _replace_in_the_class,
    "global": _change_a_global,
    "part replaced": lambda m: setattr(m, "head", nn.Sequential(nn.Linear(8, 3), nn.Tanh()).eval()),
}


@pytest.fixture
def model() -> Iterator[Adjustable]:
    torch.manual_seed(0)
    own = type("Own", (Adjustable,), {})
    yield own().eval()
    globals()["STRENGTH"] = 1.0


@pytest.fixture
def captures(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry for each capture that is made."""
    names: list[str] = []
    original = routes.routes_for

    def noting(model, inputs):  # type: ignore[no-untyped-def]
        names.append(type(model).__name__)
        return original(model, inputs)

    monkeypatch.setattr(routes, "routes_for", noting)
    return names


def _explained(model: nn.Module, **options: object) -> fxplain.Explanation:
    return fxplain.explain(model, (IDS,), target=1, **options)


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_noticed(model: Adjustable, name: str) -> None:
    before = _explained(model).output
    CHANGES[name](model)
    with torch.no_grad():
        expected = model(IDS)
    assert not torch.allclose(before, expected, atol=1e-4)
    torch.testing.assert_close(_explained(model).output, expected, atol=1e-5, rtol=1e-4)


class Packed(Adjustable):
    """A model whose tensors carry what they are to be used with, as those of quantisers do."""

    def __init__(self) -> None:
        super().__init__()
        self.words.weight.packing, self.head.weight.step, self.wide.step = {"zero": 1.0}, 1.0, 1.0

    def forward(self, input_ids: Tensor) -> Tensor:
        scale = self.words.weight.packing["zero"] * self.head.weight.step * self.wide.step
        return super().forward(input_ids) * scale  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.words.weight.packing.update(zero=4.0),
        lambda m: setattr(m.head.weight, "step", 3.0),
        lambda m: setattr(m.wide, "step", 3.0),
    ],
)
def test_a_change_of_what_is_kept_on_a_tensor_is_noticed(
    change: Callable[[nn.Module], None],
) -> None:
    torch.manual_seed(0)
    model = Packed().eval()
    before = _explained(model).output
    change(model)
    expected = model(IDS).detach()
    assert not torch.allclose(before, expected, atol=1e-4)
    torch.testing.assert_close(_explained(model).output, expected, atol=1e-5, rtol=1e-4)


def test_what_is_put_back_is_known_again(model: Adjustable, captures: list[str]) -> None:
    @contextmanager
    def steered(strength: float) -> Iterator[None]:
        handle = model.attend.register_forward_hook(lambda _m, _a, out: (out[0] + strength, out[1]))
        try:
            yield
        finally:
            handle.remove()

    plain = _explained(model).output
    for strength in (1.0, 2.0, 1.0, 2.0):
        with steered(strength):
            torch.testing.assert_close(_explained(model).output, model(IDS))
        torch.testing.assert_close(_explained(model).output, plain)
    assert len(captures) == 3


def test_what_the_forward_itself_changes_is_no_change(
    model: Adjustable, captures: list[str]
) -> None:
    for _ in range(3):
        model(IDS)
        _explained(model)
    assert len(captures) == 1


def test_adapters_are_followed(model: Adjustable) -> None:
    class Scaled(nn.Linear):
        def __init__(self) -> None:
            super().__init__(8, 3)
            self.scaling, self.merged = {"a": 1.0}, False

        def forward(self, input: Tensor) -> Tensor:
            x = super().forward(input)
            return x if self.merged else x * self.scaling["a"]

    model.head = Scaled().eval()
    for change in (
        lambda: model.head.scaling.update(a=3.0),
        lambda: setattr(model.head, "merged", True),
        lambda: model.head.weight.data.mul_(2),
    ):
        _explained(model)
        change()
        torch.testing.assert_close(_explained(model).output, model(IDS))


class Outside(nn.Module):
    """Its output depends on what no fingerprint sees."""

    def __init__(self, where: list[float]) -> None:
        super().__init__()
        self.plain = Adjustable()
        self.ask = iter(lambda: where[0], None).__next__  # a method of C

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.plain(input_ids) * self.ask()


def test_the_model_itself_is_asked_on_demand_and_on_a_schedule() -> None:
    where = [1.0]
    model = Outside(where).eval()
    first = _explained(model).output
    where[0] = 2.0
    torch.testing.assert_close(_explained(model, recheck=True).output, first * 2)
    where[0] = 3.0
    for _ in range(cache._EVERY):
        last = _explained(model).output
    torch.testing.assert_close(last, first * 3)


def test_a_fingerprint_is_the_same_twice_and_holds_nothing(model: Adjustable) -> None:
    facts = facts_of(model)
    assert not changed(facts, facts_of(model))
    model.act = torch.tanh
    assert changed(facts, facts_of(model)) == {("", "act")}


FACTOR: ContextVar[float] = ContextVar("FACTOR", default=1.0)


class InContext(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.plain = Adjustable()

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.plain(input_ids) * FACTOR.get()


def test_a_value_of_the_context_is_seen() -> None:
    model = InContext().eval()
    first = _explained(model).output
    token = FACTOR.set(2.0)
    torch.testing.assert_close(_explained(model).output, first * 2)
    FACTOR.reset(token)
    torch.testing.assert_close(_explained(model).output, first)


def test_captures_of_one_model_are_bounded(
    model: Adjustable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf, "_MOST_CAPTURES", 3)
    for i in range(5):
        model.dials.gain = float(i)
        _explained(model)
    assert len(cache._captures[model]) == 3


class Branching(nn.Module):
    """Which way it takes depends on a weight, so that it is recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = Adjustable()
        self.gate = nn.Parameter(torch.ones(3))

    def forward(self, input_ids: Tensor) -> Tensor:
        found = self.plain(input_ids)
        return found * 2 if self.gate.sum() > 0 else torch.tanh(found)


def test_a_recording_does_not_hold_for_another_weight_though_the_first_lives() -> None:
    torch.manual_seed(0)
    model = Branching().eval()
    assert _explained(model).graph.capture.route == "recorded"
    first = model.gate
    for gate in (nn.Parameter(-torch.ones(3)), first):
        model.gate = gate
        torch.testing.assert_close(_explained(model).output, model(IDS))


def test_weights_can_be_swapped_after_an_explanation() -> None:
    torch.manual_seed(0)
    for model in (Adjustable().eval(), Branching().eval()):
        _explained(model)
        for weight in model.parameters():  # torch refuses where something refers to it
            torch.utils.swap_tensors(weight, nn.Parameter(torch.rand_like(weight)))
        torch.testing.assert_close(_explained(model).output, model(IDS))


class ByEnvironment(nn.Module):
    """A switch as scripts have it."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = Adjustable()

    def forward(self, input_ids: Tensor) -> Tensor:
        found = self.plain(input_ids)
        return found * 3 if os.getenv("FXPLAIN_TEST_SWITCH") == "on" else found


def test_an_environment_variable_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ByEnvironment().eval()
    _explained(model)
    monkeypatch.setenv("FXPLAIN_TEST_SWITCH", "on")
    torch.testing.assert_close(_explained(model).output, model(IDS))
    monkeypatch.delenv("FXPLAIN_TEST_SWITCH")
    torch.testing.assert_close(_explained(model).output, model(IDS))


def test_a_function_of_torch_that_its_own_modules_call_is_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = Adjustable().eval()
    model.head = nn.Sequential(nn.Linear(8, 3), nn.GELU()).eval()
    _explained(model)
    monkeypatch.setattr(nn.functional, "gelu", lambda x, approximate="none": x * 5)
    torch.testing.assert_close(_explained(model).output, model(IDS))


class Written(nn.Module):
    """Attention and a norm that are called as functions."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(20, 8)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 3)

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.words(input_ids)[:, None]
        x = self.norm(x + nn.functional.scaled_dot_product_attention(x, x, x).tanh())
        return self.head(x[:, 0, 0])  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("home", "name"),
    [
        (nn.functional, "layer_norm"),
        (nn.functional, "scaled_dot_product_attention"),
        (Tensor, "tanh"),
    ],
)
def test_a_function_of_torch_that_calls_the_one_it_replaced_is_applied_once(
    monkeypatch: pytest.MonkeyPatch, home: object, name: str
) -> None:
    torch.manual_seed(0)
    model = Written().eval()
    before, original = _explained(model).output, getattr(home, name)

    def louder(*args: object, **options: object) -> Tensor:
        return original(*args, **options) * 2  # type: ignore[no-any-return]

    monkeypatch.setattr(home, name, louder)
    found = _explained(model)
    torch.testing.assert_close(found.output, model(IDS), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(found.output, before, atol=1e-4)
    assert not found.graph.warnings
    assert getattr(home, name) is louder


def test_a_method_of_tensors_that_was_replaced_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """It makes floats of the numbers by which tokens are followed."""
    monkeypatch.setattr(Tensor, "__add__", lambda self, other: torch.add(self, other) * 1.0)
    model = Adjustable().eval()
    for call in (_explained, lambda model: fxplain.inspect(model, (IDS,))):
        with pytest.raises(fxplain.InputError, match=r"replaced torch\.Tensor\.__add__"):
            call(model)


@pytest.mark.parametrize(
    ("home", "name"), [(Tensor, "split"), (Tensor, "softmax"), (nn.Module, "__call__")]
)
def test_methods_of_torch_are_seen(
    monkeypatch: pytest.MonkeyPatch, model: Adjustable, home: type, name: str
) -> None:
    before = facts_of(model)
    monkeypatch.setattr(home, name, lambda self, *a, **k: self)
    assert changed(before, facts_of(model))
    monkeypatch.undo()
    assert not changed(before, facts_of(model))


def test_functions_that_transformers_finds_by_name_are_seen(
    monkeypatch: pytest.MonkeyPatch, model: Adjustable
) -> None:
    modeling = pytest.importorskip("transformers.modeling_utils")
    masks = pytest.importorskip("transformers.masking_utils")
    before = facts_of(model)
    attention, masking = modeling.ALL_ATTENTION_FUNCTIONS, masks.ALL_MASK_ATTENTION_FUNCTIONS
    for table in (attention._local_mapping, attention._global_mapping, masking._local_mapping):
        monkeypatch.setitem(table, "sdpa", _bent)
        assert changed(before, facts_of(model))
        monkeypatch.undo()
        assert not changed(before, facts_of(model))


def test_parts_that_came_after_eval() -> None:
    """What computes the same in both modes is explained; a dropout is named."""
    model = Adjustable().eval()
    model.head = nn.Sequential(nn.Linear(8, 3), nn.GELU())  # in training mode, as new parts are
    torch.testing.assert_close(_explained(model).output, model(IDS))
    model.head = nn.Sequential(nn.Linear(8, 3), nn.Dropout())
    with pytest.raises(fxplain.TrainingModeError, match=r"'head.1' \(Dropout\).*eval\(\) again"):
        _explained(model)
    model.head.eval()
    torch.testing.assert_close(_explained(model).output, model(IDS))
    wrapped = nn.Sequential(model)  # in training mode, too
    torch.testing.assert_close(_explained(wrapped).output, model(IDS))
