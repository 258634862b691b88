"""The look at a model that a warm call takes in the place of a walk."""

from __future__ import annotations

import gc
import types
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from fxplain.capture import seen
from fxplain.capture.fingerprint import facts_and_watch
from fxplain.capture.watch import Named, Watch, elements, items


class Settings:
    def __init__(self) -> None:
        self.scale, self.names, self.by_name = 1.5, ["a", "b"], {"a": [1, 2]}


class Others(Settings):
    """Settings of another kind."""


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 3)
        self.settings = Settings()
        self.table = torch.ones(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x) * self.settings.scale


@pytest.fixture
def model() -> Model:
    return Model().eval()


CHANGES: dict[str, Callable[[Model], Any]] = {
    "a number in an object": lambda m: setattr(m.settings, "scale", 2.5),
    "an element of a list": lambda m: m.settings.names.append("c"),
    "an element of a list in a dict": lambda m: m.settings.by_name["a"].append(3),
    "a list by another": lambda m: setattr(m.settings, "names", ["a", "c"]),
    "a weight by another shape": lambda m: setattr(m.inner, "bias", None),
    "a weight's type": lambda m: m.double(),
    "a plain tensor": lambda m: m.table.add_(1),
    "a hook": lambda m: m.inner.register_forward_hook(lambda *_: None),
    "the mode": lambda m: m.inner.train(),
    "a function": lambda m: setattr(m.inner, "forward", torch.tanh),
    "a part": lambda m: setattr(m, "inner", nn.Linear(3, 3)),
    "an attribute gone": lambda m: delattr(m, "table"),
    "an object's class": lambda m: setattr(m.settings, "__class__", Others),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen(model: Model, change: str) -> None:
    _, watch = facts_and_watch(model)
    assert watch.holds()
    CHANGES[change](model)
    assert not watch.holds()


def test_models_with_hooks_are_watched(model: Model) -> None:
    times = [2.0]
    handle = model.inner.register_forward_hook(lambda *a: a[-1] * times[0])
    _, watch = facts_and_watch(model)
    assert watch.holds()
    times[0] = 3.0
    assert not watch.holds()
    _, watch = facts_and_watch(model)
    handle.remove()
    assert not watch.holds()


def test_a_number_that_is_set_twice_is_seen(model: Model) -> None:
    _, watch = facts_and_watch(model)
    for i in range(1000):  # an object made now may lie where one lay before
        model.settings.scale = float(i) + 0.25
    model.settings.scale = 1.5 + 1e-9
    assert not watch.holds()


def test_what_is_watched_is_not_kept_alive() -> None:
    model = Model()
    seen.facts_now(model)
    held, settings = weakref.ref(model), weakref.ref(model.settings)
    del model
    gc.collect()
    assert held() is None
    assert settings() is None


def test_an_unchanged_model_is_walked_once(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    walks = []

    def counted(one: nn.Module) -> Any:
        walks.append(one)
        return facts_and_watch(one)

    monkeypatch.setattr(seen, "facts_and_watch", counted)
    first = seen.facts_now(model)
    assert seen.facts_now(model) is first
    model.settings.scale = 3.0
    assert seen.facts_now(model) is not first
    assert len(walks) == 2


def test_within_a_call_a_model_is_looked_at_until_it_runs(model: Model) -> None:
    with seen.looking():
        seen.facts_now(model)
        found = seen.found_once(model, "answer", lambda: 1)
        assert seen.found_once(model, "answer", lambda: 2) == found
        with seen.not_looking():
            model.settings.scale = 7.0
        assert seen.found_once(model, "answer", lambda: 3) == 3


def test_what_came_from_nowhere_is_never_the_same() -> None:
    watch = Watch()
    watch.read([1, 2], elements)
    assert not watch.closed().holds()


def test_a_name_that_comes_while_another_goes_is_seen() -> None:
    """A namespace is as long as before then."""
    watch, home = Watch(), types.ModuleType("home")
    home.known = home.other = 1
    watch.read(home, Named(vars, ("known", "looked_for")))
    watch = watch.closed()
    assert watch.holds()
    del home.other
    assert watch.holds()
    home.looked_for = 2
    assert not watch.holds()


def test_a_thing_that_fails_when_it_is_asked_is_not_the_same() -> None:
    class Moody(dict[str, int]):
        asked = 0

        def values(self) -> Any:
            Moody.asked += 1
            if Moody.asked > 1:
                raise OSError
            return super().values()

    watch, moody = Watch(), Moody(a=1)
    watch.read(moody, items)
    assert not watch.closed().holds()
