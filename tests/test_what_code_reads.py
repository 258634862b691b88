"""Whatever code of the user's reads by name is seen when it changes, and known again when put back."""

import contextlib
import decimal
import functools
import math
import threading
import types
import weakref
from array import array
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fxplain
from fxplain.capture.comparison import difference, tolerance
from fxplain.capture.fingerprint import changed, facts_and_watch, facts_of
from tests.small_models import TextClassifier, seeded, words

SCALE = 1.0
LOCAL = threading.local()
LOCAL.scale = 1.0
BY_MODEL: weakref.WeakKeyDictionary[nn.Module, float] = weakref.WeakKeyDictionary()
OURS = types.ModuleType("ours")
OURS.settings, OURS.act, OURS.below = {"scale": 1.0}, torch.relu, types.ModuleType("ours.below")
OURS.below.scale = 1.0


class Settings:
    scale = 1.0
    below: ClassVar[dict[str, float]] = {"scale": 1.0}

    @staticmethod
    def act(x: Tensor) -> Tensor:
        return x


class Kind(type):
    """A class of classes, whose property is a number."""

    @property
    def scale(cls) -> float:
        return SCALE


class Measured(metaclass=Kind):
    pass


class Act:
    beta = 1.0

    def __call__(self, x: Tensor) -> Tensor:
        return x * self.beta * SCALE


class Rounded(torch.autograd.Function):
    scale = 1.0

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * Rounded.scale


def scaled(x: Tensor) -> Tensor:
    return x * scaled.scale


scaled.scale = 1.0


@functools.lru_cache
def remembered() -> float:
    return SCALE


@torch.no_grad()
def decorated() -> float:
    return SCALE


@contextlib.contextmanager
def lent() -> Iterator[float]:
    yield SCALE


def by_context(x: Tensor) -> Tensor:
    with lent() as scale:
        return x * scale


class Part(nn.Module):
    gain = 1.0

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gain


class Numbers(list[float]):
    """A list with an attribute."""


class Owner:
    """What others refer to weakly."""

    scale = 1.0


READ = types.SimpleNamespace(
    numbers=Numbers([1.0]), owner=Owner(), hidden=[Part()], raw=bytearray(b"\x01"), act=Act(),
    array=array("f", [1.0]), objects=np.array([{"scale": 1.0}], dtype=object),
    price=decimal.Decimal("1.5"), normal=torch.distributions.Normal(0.0, 1.0),
)  # fmt: skip
READ.numbers.scale = 1.0
READ.reference, READ.proxy = weakref.ref(READ.owner), weakref.proxy(READ.owner)
READ.shown = types.MappingProxyType(Settings.below)


def _set(thing: object, name: str, value: object) -> Callable[[], None]:
    """Set an attribute or an entry; how to put it back."""
    if isinstance(thing, (dict, list, array, bytearray, weakref.WeakKeyDictionary)):
        before: Any = thing[name]
        thing[name] = value  # type: ignore[index,call-overload]
        return lambda: thing.__setitem__(name, before)  # type: ignore[union-attr]
    before = vars(thing)[name]
    setattr(thing, name, value)
    return lambda: setattr(thing, name, before)


def _here(name: str, value: object) -> Callable[[], None]:
    return _set(globals(), name, value)  # type: ignore[arg-type]


def _unremembered() -> Callable[[], None]:
    undo = _here("SCALE", 3.0)
    remembered.cache_clear()
    return undo


CASES: dict[str, tuple[Callable[[Any, Tensor], Any], Callable[[], Callable[[], None]]]] = {
    "class": (lambda _, x: x * Settings.scale, lambda: _set(Settings, "scale", 3.0)),
    "function of a class": (
        lambda _, x: Settings.act(x),
        lambda: _set(Settings, "act", staticmethod(torch.tanh)),
    ),
    "class of classes": (lambda _, x: x * Measured.scale, lambda: _here("SCALE", 3.0)),
    "class of an object": (lambda _, x: READ.act(x), lambda: _set(Act, "beta", 3.0)),
    "what an object's method reads": (lambda _, x: READ.act(x), lambda: _here("SCALE", 3.0)),
    "method of an object's class": (
        lambda _, x: READ.act(x),
        lambda: _set(Act, "__call__", lambda _, x: x),
    ),
    "own derivative": (lambda _, x: Rounded.apply(x), lambda: _set(Rounded, "scale", 3.0)),
    "attribute of a function": (lambda _, x: scaled(x), lambda: _set(scaled, "scale", 3.0)),
    "decorated by torch": (lambda _, x: x * decorated(), lambda: _here("SCALE", 3.0)),
    "decorated by Python": (lambda _, x: by_context(x), lambda: _here("SCALE", 3.0)),
    "remembered": (lambda _, x: x * remembered(), _unremembered),
    "of a thread": (lambda _, x: x * LOCAL.scale, lambda: _set(LOCAL, "scale", 3.0)),
    "by model": (lambda m, x: x * BY_MODEL[m], lambda: _set(BY_MODEL, next(iter(BY_MODEL)), 3.0)),
    "dict of a module": (
        lambda _, x: x * OURS.settings["scale"],
        lambda: _set(OURS.settings, "scale", 3.0),
    ),
    "builtin of a module": (lambda _, x: OURS.act(x), lambda: _set(OURS, "act", torch.tanh)),
    "module in a module": (
        lambda _, x: x * OURS.below.scale,
        lambda: _set(OURS.below, "scale", 3.0),
    ),
    "builtin of torch": (lambda _, x: torch.erf(x), lambda: _set(torch, "erf", torch.tanh)),
    "builtin of Python": (lambda _, x: x * math.sin(1), lambda: _set(math, "sin", math.cos)),
    "looked up by a text": (lambda _, x: x * globals()["SCALE"], lambda: _here("SCALE", 3.0)),
    "a list's attribute": (
        lambda _, x: x * READ.numbers.scale,
        lambda: _set(vars(READ.numbers), "scale", 3.0),
    ),
    "by a weak reference": (
        lambda _, x: x * READ.reference().scale,
        lambda: _set(Owner, "scale", 3.0),
    ),
    "by a proxy": (lambda _, x: x * READ.proxy.scale, lambda: _set(Owner, "scale", 3.0)),
    "bytes": (lambda _, x: x * READ.raw[0], lambda: _set(READ.raw, 0, 3)),
    "array": (lambda _, x: x * READ.array[0], lambda: _set(READ.array, 0, 3.0)),
    "objects of NumPy": (
        lambda _, x: x * READ.objects[0]["scale"],
        lambda: _set(READ.objects[0], "scale", 3.0),
    ),
    "decimal": (lambda _, x: x * float(READ.price), lambda: _set(READ, "price", decimal.Decimal(3))),
    "shown mapping": (lambda _, x: x * READ.shown["scale"], lambda: _set(Settings.below, "scale", 3.0)),
    "distribution": (
        lambda _, x: x + READ.normal.mean,
        lambda: _set(READ.normal, "loc", torch.tensor(3.0)),
    ),
    "class of a part that is no part": (
        lambda _, x: READ.hidden[0](x),
        lambda: _set(Part, "gain", 3.0),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_it_is_seen(name: str) -> None:
    read, change = CASES[name]
    model = type("Own", (nn.Module,), {"forward": read})()
    BY_MODEL[model] = 1.0
    facts, watch = facts_and_watch(model)
    assert watch.holds()
    undo = change()
    try:
        assert not watch.holds()
        assert changed(facts, facts_of(model))
    finally:
        undo()
    assert not changed(facts, facts_of(model))


def test_a_flag_of_torch_is_seen() -> None:
    model = nn.Linear(1, 1)
    facts, watch = facts_and_watch(model)
    torch.use_deterministic_algorithms(True)
    try:
        assert not watch.holds()
        assert changed(facts, facts_of(model))
    finally:
        torch.use_deterministic_algorithms(False)


def test_a_slot_of_a_module_and_how_a_hook_is_called_are_seen() -> None:
    model = type("Slotted", (nn.Linear,), {"__slots__": ("gain",)})(1, 1)
    object.__setattr__(model, "gain", 1.0)
    hook = types.MethodType(lambda *_: None, model)
    handle = model.register_forward_hook(hook)
    for change in (
        lambda: object.__setattr__(model, "gain", 3.0),
        lambda: (handle.remove(), model.register_forward_hook(hook, with_kwargs=True)),
    ):
        facts, watch = facts_and_watch(model)
        change()
        assert not watch.holds()
        assert changed(facts, facts_of(model))


def test_what_library_functions_of_one_file_call_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    llama = pytest.importorskip("transformers.models.llama.modeling_llama")
    model = llama.LlamaForCausalLM(
        llama.LlamaConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, vocab_size=9)
    )
    facts = facts_of(model)
    monkeypatch.setattr(llama, "rotate_half", lambda x: x)
    assert changed(facts, facts_of(model))


def test_methods_of_a_library_that_may_run_are_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    bert = pytest.importorskip("transformers.models.bert.modeling_bert")
    config = bert.BertConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=9
    )
    model = bert.BertModel(config)
    facts, watch = facts_and_watch(model)
    inside = bert.BertSelfAttention.forward  # mentioned by nobody: it is what runs
    called = bert.BertLayer.feed_forward_chunk  # forward hands it on by its name
    for function in (inside, called):
        own = function.__code__
        function.__code__ = own.replace(co_firstlineno=own.co_firstlineno + 1)
        try:
            assert not watch.holds()
            assert changed(facts, facts_of(model))
        finally:
            function.__code__ = own
    monkeypatch.setattr(bert.BertModel, "save_pretrained", print)  # nothing that runs says its name
    assert not watch.holds()
    assert changed(facts, facts_of(model))


class Equal(TextClassifier):
    """Models that compare as equal."""

    gain = 1.0

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self)

    def __hash__(self) -> int:
        return 1

    def forward(self, input_ids: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(input_ids) * self.gain


def test_equal_models_are_two() -> None:
    one, two = seeded(Equal), seeded(Equal)
    two.gain = 3.0
    for model in (one, two):
        found = fxplain.explain(model, (words(2, 6),), target=1)
        torch.testing.assert_close(found.output, model(words(2, 6)))


def test_what_cannot_be_hashed_is_refused() -> None:
    model = type("Unhashed", (TextClassifier,), {"__eq__": lambda self, other: self is other})()
    with pytest.raises(fxplain.InputError, match=r"cannot be hashed.*eq=False"):
        fxplain.explain(model.eval(), (words(2, 6),), target=1)


class Called(TextClassifier):
    """Takes a function."""

    def forward(self, input_ids: Tensor, act: Callable[[Tensor], Tensor]) -> Tensor:  # type: ignore[override]
        return act(super().forward(input_ids))


def test_a_function_that_is_given_is_seen_by_what_it_reads() -> None:
    model, scale = seeded(Called), [1.0]
    given = {"input_ids": words(2, 6), "act": lambda x: x * scale[0]}
    for scale[0] in (1.0, 3.0):
        found = fxplain.explain(model, given, target=1)
        torch.testing.assert_close(found.output, model(**given))


class Unseen(TextClassifier):
    """What its output is called depends on what no look at it shows."""

    def forward(self, input_ids: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        return {self.ask(): super().forward(input_ids)}


def test_other_names_of_outputs_are_a_difference() -> None:
    name, model = ["a"], seeded(Unseen)
    model.ask = iter(lambda: name[0], None).__next__
    fxplain.explain(model, (words(2, 6),), target=1)
    name[0] = "b"
    assert fxplain.explain(model, (words(2, 6),), target=1, recheck=True).output.keys() == {"b"}


def test_small_outputs_differ_by_a_part_of_theirs() -> None:
    likely = torch.tensor([2e-5, 1e-5, 3e-6])
    rounded = likely + torch.tensor([1e-8, 0, -1e-8])  # as sums that nearly cancel are
    assert difference(rounded, likely) < tolerance(likely.dtype)
    assert difference(likely.flip(0), likely) > tolerance(likely.dtype)
    assert difference(likely * 0 + 1e-8, likely * 0) < tolerance(likely.dtype)
