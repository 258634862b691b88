"""The user's model is as it was: after an explanation, after an inspection, and after an error."""

import random
from collections import OrderedDict, deque
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fxplain
from fxplain.capture import routes
from tests.small_models import Block, TextClassifier, architecture, seeded, words


class Memory:
    """A cache that is no module, as some models have one."""

    def __init__(self) -> None:
        self.known: OrderedDict[str, Tensor] = OrderedDict()
        self.recent: deque[int] = deque(maxlen=2)
        self.size = 0


class Restless(TextClassifier):
    """Does in its forward what models do, and should not; `habits` says which."""

    def __init__(self, *habits: str) -> None:
        super().__init__()
        self.habits = [getattr(self, habit) for habit in habits]
        self.register_buffer("calls", torch.zeros(3))
        self.register_buffer("replaced", torch.zeros(3), persistent=False)
        self.register_buffer("absent", None)
        self.hidden: Tensor | None = None
        self.history: list[int] = []
        self.settings = {"seen": 0, "nested": {"lengths": [1]}}
        self.memory = Memory()
        self.table = torch.zeros(4)
        self.count = 0
        self.head.bias.known, self.head.bias.fresh = {"seen": False}, True
        self.encoder.blocks[0].norm_1.weight.requires_grad_(False)

    def counts(self, _hidden: Tensor) -> None:
        self.count += 1

    def fills_a_list(self, _hidden: Tensor) -> None:
        self.history.append(1)

    def fills_a_mapping(self, _hidden: Tensor) -> None:
        self.settings["seen"] += 1
        self.settings["new"] = True

    def writes_a_buffer(self, _hidden: Tensor) -> None:
        self.calls += 1

    def replaces_a_buffer(self, _hidden: Tensor) -> None:
        self.replaced = self.replaced + 1

    def fills_an_absent_buffer(self, hidden: Tensor) -> None:
        self.absent = torch.ones(hidden.shape[-1])

    def keeps_a_tensor(self, hidden: Tensor) -> None:
        self.hidden = hidden
        self.encoder.blocks[0].seen = hidden.mean()

    def keeps_a_constant(self, hidden: Tensor) -> Tensor:
        if not hasattr(self, "cached"):
            self.cached = torch.ones(hidden.shape[-1])
        return hidden * self.cached

    def registers_a_buffer(self, hidden: Tensor) -> Tensor:
        if not hasattr(self, "lazy"):
            self.register_buffer("lazy", torch.ones(hidden.shape[-1]), persistent=False)
        return hidden * self.lazy

    def fills_an_object(self, hidden: Tensor) -> Tensor:
        key = str(tuple(hidden.shape))
        if key not in self.memory.known:
            self.memory.known[key] = self.encoder.blocks[0](hidden)
        self.memory.size += 1
        self.memory.recent.append(self.memory.size)
        return self.memory.known[key]

    def writes_an_attribute(self, _hidden: Tensor) -> None:
        self.table += 1

    def writes_on_a_weight(self, _hidden: Tensor) -> None:
        self.head.weight.uses = getattr(self.head.weight, "uses", 0) + 1
        self.head.bias.known["seen"] = True
        del self.head.bias.fresh

    def seeds(self, hidden: Tensor) -> Tensor:
        torch.manual_seed(0)
        return hidden

    def draws_with_torch(self, hidden: Tensor) -> Tensor:
        return hidden + 0 * torch.randn_like(hidden)

    def draws_with_python(self, hidden: Tensor) -> Tensor:
        return hidden * (1 + 0 * random.random())

    def draws_with_numpy(self, hidden: Tensor) -> Tensor:
        return hidden * (1 + 0 * np.random.rand())

    def fails(self, _hidden: Tensor) -> None:
        raise RuntimeError("this model fails")

    def forward(self, input_ids: Tensor) -> Tensor:
        hidden = self.encoder(input_ids)
        for habit in self.habits:
            changed = habit(hidden)
            hidden = hidden if changed is None else changed
        return self.head(hidden[:, 0])


HABITS = [
    "counts", "fills_a_list", "fills_a_mapping", "writes_a_buffer", "replaces_a_buffer",
    "fills_an_absent_buffer", "keeps_a_tensor", "keeps_a_constant", "registers_a_buffer",
    "fills_an_object", "writes_an_attribute", "writes_on_a_weight",
    "seeds",
    "draws_with_torch", "draws_with_python", "draws_with_numpy",
]  # fmt: skip
COMMON = ("counts", "writes_a_buffer", "replaces_a_buffer", "keeps_a_tensor", "draws_with_python")


def state_of(model: nn.Module) -> dict[str, Any]:
    """Everything about a model that a user could see."""
    facts: dict[str, Any] = {
        "config": deepcopy(getattr(getattr(model, "config", None), "__dict__", None))
    }
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if name in ("_parameters", "_buffers", "_modules", "config"):
                continue
            facts[f"{path}:{name}"] = plain(value)
        facts[f"{path}:type"] = type(module)
        facts[f"{path}:children"] = [(k, id(v)) for k, v in module.named_children()]
    for name, parameter in model.named_parameters(remove_duplicate=False):
        facts[f"parameter {name}"] = (id(parameter), parameter.requires_grad, parameter._version)
        facts[f"value {name}"] = parameter.detach().clone()
        facts[f"kept on {name}"] = plain(vars(parameter))
        facts[f"grad {name}"] = (id(parameter.grad), plain(parameter.grad))
        facts[f"hooks {name}"] = len(parameter._backward_hooks or ())
    for name, buffer in model.named_buffers(remove_duplicate=False):
        facts[f"buffer {name}"] = (id(buffer), buffer.requires_grad)
        facts[f"value {name}"] = buffer.detach().clone()
    facts["state_dict"] = {k: v.clone() for k, v in model.state_dict().items()}
    return facts


def plain(value: Any) -> Any:
    """A copy of an attribute for comparison; other objects by identity."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set)):
        return type(value)(map(plain, value))
    return value if isinstance(value, (bool, int, float, str, type(None))) else id(value)


def random_state() -> dict[str, Any]:
    return {
        "torch": torch.random.get_rng_state(),
        "python": random.getstate(),
        "numpy": tuple(map(plain, map(_as_list, np.random.get_state()))),
    }


def _as_list(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value


def differences(before: Any, after: Any, where: str = "") -> list[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        found = [f"{where}.{k} is new" for k in after.keys() - before.keys()]
        found += [f"{where}.{k} is gone" for k in before.keys() - after.keys()]
        for key in before.keys() & after.keys():
            found += differences(before[key], after[key], f"{where}.{key}")
        return found
    if isinstance(before, (list, tuple)) and type(before) is type(after):
        if len(before) != len(after):
            return [f"{where}: {len(before)} entries before, {len(after)} after"]
        pairs = enumerate(zip(before, after, strict=True))
        return [d for i, (b, a) in pairs for d in differences(b, a, f"{where}[{i}]")]
    if isinstance(before, Tensor) and isinstance(after, Tensor):
        same = before.dtype == after.dtype and torch.equal(before, after)
        return [] if same else [f"{where} has another value"]
    return [] if before == after else [f"{where}: {before!r} before, {after!r} after"]


def assert_untouched(model: nn.Module, act: Callable[[], object]) -> None:
    torch.manual_seed(3)
    random.seed(3)
    np.random.seed(3)
    before, chance = state_of(model), random_state()
    act()
    assert differences(before, state_of(model)) == []
    assert differences(chance, random_state()) == []


def fails(call: Callable[[], object]) -> Callable[[], None]:
    def act() -> None:
        with pytest.raises(fxplain.FxplainError):
            call()

    return act


IDS = words(2, 6)
ACTS: dict[str, Callable[[nn.Module], Callable[[], object]]] = {
    "explain": lambda model: lambda: fxplain.explain(model, (IDS,)),
    "explain with matrices": lambda model: lambda: fxplain.explain(model, (IDS,)).matrices(),
    "explain twice": lambda model: lambda: [fxplain.explain(model, (IDS,)) for _ in "ab"],
    "inspect": lambda model: lambda: fxplain.inspect(model, (IDS,)),
    "attention weights": lambda model: lambda: fxplain.attention_weights(model, (IDS,)),
    "target function": lambda model: (
        lambda: fxplain.explain(model, (IDS,), target=lambda output: output[:, 0] * 2)
    ),
    "wrong target": lambda model: fails(lambda: fxplain.explain(model, (IDS,), target=99)),
    "wrong input": lambda model: fails(lambda: fxplain.explain(model, (IDS.float(),))),
    "missing input": lambda model: fails(lambda: fxplain.explain(model, {})),
}


@pytest.mark.parametrize("habit", HABITS)
def test_a_restless_model_is_untouched(habit: str) -> None:
    model = seeded(Restless, habit)
    assert_untouched(model, lambda: fxplain.explain(model, (IDS,)))


def test_a_restless_model_is_explained_like_a_calm_one() -> None:
    want = fxplain.explain(seeded(Restless), (IDS,))
    got = fxplain.explain(seeded(Restless, *COMMON, "keeps_a_constant"), (IDS,))
    torch.testing.assert_close(got.output, want.output)
    torch.testing.assert_close(got.relevance["input_ids"], want.relevance["input_ids"])


@pytest.mark.parametrize("act", ACTS)
def test_untouched_after_each_door(act: str) -> None:
    model = seeded(Restless, *COMMON)
    assert_untouched(model, ACTS[act](model))


@pytest.mark.parametrize("recorder", [True, False], ids=["export fails", "every route fails"])
def test_untouched_although_a_capture_fails(
    recorder: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = seeded(Restless, *COMMON)

    def broken(route: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            route(*args, **kwargs)
            raise RuntimeError("after the trace")

        return run

    monkeypatch.setattr(routes, "capture_by_export", broken(routes.capture_by_export))
    if not recorder:
        monkeypatch.setattr(routes, "capture_by_recording", broken(routes.capture_by_recording))

    def act() -> object:
        return fxplain.explain(model, (IDS,))

    assert_untouched(model, act if recorder else fails(act))


def test_what_a_run_left_behind_is_no_part_of_the_next() -> None:
    """The first run fills a cache, which must not be what is captured."""
    model, want = seeded(Restless, "fills_an_object"), seeded(Restless)
    want.encoder.blocks.append(want.encoder.blocks[0])
    for ids in (IDS, words(2, 6, seed=1)):
        got = fxplain.explain(model, (ids,))
        assert len(got.graph.nodes) == 2
        torch.testing.assert_close(
            got.relevance["input_ids"], fxplain.explain(want, (ids,)).relevance["input_ids"]
        )


class Writer(TextClassifier):
    """Writes into what it was given."""

    def forward(self, input_ids: Tensor) -> Tensor:
        input_ids.clamp_(min=3)
        return super().forward(input_ids)


def test_inputs_that_a_model_writes_into_stay() -> None:
    model, ids = seeded(Writer), words(2, 6)
    copy = ids.clone()
    e = fxplain.explain(model, (ids,))
    assert torch.equal(ids, copy)
    torch.testing.assert_close(e.output, model(ids.clone()).detach())


def test_untouched_although_the_model_fails() -> None:
    model = seeded(Restless, *COMMON, "fails")
    assert_untouched(model, fails(lambda: fxplain.explain(model, (IDS,))))


def test_untouched_although_a_target_function_fails() -> None:
    model = seeded(TextClassifier)

    def target(output: Tensor) -> Tensor:
        raise ZeroDivisionError("the user's own")

    def act() -> None:
        with pytest.raises((ZeroDivisionError, fxplain.TargetError)):
            fxplain.explain(model, (IDS,), target=target)

    assert_untouched(model, act)


def test_a_random_graph_leaves_the_random_state() -> None:
    """The captured graph draws, too: with a known capture only the run is left to look after."""
    model = seeded(Restless, "draws_with_torch")
    fxplain.explain(model, (IDS,))
    assert_untouched(model, lambda: fxplain.explain(model, (IDS,)))


def test_gradients_are_neither_filled_nor_changed() -> None:
    model = seeded(TextClassifier)
    model(IDS).sum().backward()
    model.head.weight.grad = None
    assert_untouched(model, lambda: fxplain.explain(model, (IDS,)))
    assert model.head.weight.grad is None
    assert model.encoder.words.weight.grad.abs().sum() > 0


def test_requires_grad_flags_stay_and_do_not_matter() -> None:
    model = seeded(TextClassifier)
    want = fxplain.explain(model, (IDS,)).relevance["input_ids"]
    for parameter in list(model.parameters())[::2]:
        parameter.requires_grad_(False)
    assert_untouched(model, lambda: fxplain.explain(model, (IDS,)))
    torch.testing.assert_close(fxplain.explain(model, (IDS,)).relevance["input_ids"], want)
    model.requires_grad_(False)
    assert_untouched(model, lambda: fxplain.explain(model, (IDS,)))


def test_hooks_of_the_user_stay_and_none_is_added() -> None:
    model = seeded(TextClassifier)
    seen: list[str] = []
    handle = model.head.register_forward_hook(lambda *_: seen.append("head"))
    assert_untouched(model, lambda: fxplain.explain(model, (IDS,)))
    seen.clear()
    model(IDS)
    assert seen == ["head"]
    handle.remove()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize("grad", [True, False], ids=["gradients on", "gradients off"])
def test_the_global_gradient_mode_stays(grad: bool) -> None:
    model = seeded(TextClassifier)
    with torch.set_grad_enabled(grad):
        e = fxplain.explain(model, (IDS,))
        assert torch.is_grad_enabled() is grad
    assert not any(r.requires_grad for r in e.relevance.values())
    assert not e.output.requires_grad
    assert not e.matrix("input_ids", "input_ids").requires_grad


def test_inference_mode_is_no_obstacle() -> None:
    model = seeded(TextClassifier)
    want = fxplain.explain(model, (IDS,)).relevance["input_ids"]
    with torch.inference_mode():
        got = fxplain.explain(model, (IDS,)).relevance["input_ids"]
    torch.testing.assert_close(got.clone(), want)


class Scorer(nn.Module):
    """Float inputs, which could be given a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.project, self.block, self.head = nn.Linear(4, 16), Block(), nn.Linear(16, 3)

    def forward(self, features: Tensor) -> Tensor:
        return self.head(self.block(self.project(features))[:, 0])


@pytest.mark.parametrize("requires_grad", [False, True])
def test_inputs_are_untouched(requires_grad: bool) -> None:
    features = torch.randn(2, 5, 4).requires_grad_(requires_grad)
    given, copy = {"features": features}, features.detach().clone()
    e = fxplain.explain(seeded(Scorer), given)
    assert given == {"features": features}
    assert features.requires_grad is requires_grad
    assert features.grad is None
    assert features.grad_fn is None
    assert torch.equal(features, copy)
    assert not features._backward_hooks
    assert not e.relevance["features"].requires_grad


def test_a_well_known_model_is_untouched() -> None:
    model, inputs = architecture("bert")
    before = {key: value.clone() for key, value in inputs.items()}
    assert_untouched(model, lambda: fxplain.explain(model, inputs))
    assert differences(before, dict(inputs)) == []
    model.zero_grad()
    loss = model(**inputs, labels=torch.tensor([0, 1])).loss
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())
    model.zero_grad()


def test_training_flags_of_every_part_stay() -> None:
    model = seeded(TextClassifier)
    fxplain.explain(model, (IDS,))
    assert [m.training for m in model.modules()] == [False] * len(list(model.modules()))
    model.train()
    with pytest.raises(fxplain.TrainingModeError):
        fxplain.explain(model, (IDS,))
    assert all(m.training for m in model.modules())


def test_an_explanation_does_not_depend_on_earlier_ones() -> None:
    model, other = seeded(TextClassifier), words(2, 6, seed=9)
    first = fxplain.explain(model, (IDS,), target=1)
    fxplain.explain(model, (other,), target=2)
    again = fxplain.explain(model, (IDS,), target=1)
    assert torch.equal(first.relevance["input_ids"], again.relevance["input_ids"])
    assert torch.equal(
        first.matrix("input_ids", "input_ids"), again.matrix("input_ids", "input_ids")
    )
