"""The door to capturing: try the routes in turn, compare with the model, remember the result."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fxplain.capture.captured import Capture, StateSlot, version_of
from fxplain.capture.chance import other_draws
from fxplain.capture.comparison import differences, first_line, run_eagerly
from fxplain.capture.custom import custom_functions
from fxplain.capture.inputs import ModelInputs
from fxplain.capture.models import check_parts, packed_hint
from fxplain.capture.preserve import ModelState, preserved
from fxplain.capture.state import config_of, parts_of, tensors_of
from fxplain.errors import CaptureError

__all__ = ["capture", "clear_captures"]

_captures: weakref.WeakKeyDictionary[nn.Module, dict[Any, list[Capture]]] = (
    weakref.WeakKeyDictionary()
)


def capture(model: nn.Module, inputs: ModelInputs) -> Capture:
    """The capture of `model` that holds for `inputs`, made on first need and kept as long as the model.

    Raises
    ------
    TrainingModeError
        When the model, or a part of it, is in training mode.
    InputError
        When the model itself fails on the inputs.
    NonFiniteError
        When the model's output holds NaN.
    CaptureError
        When every route to a graph failed.
    """
    parts = list(parts_of(model))
    check_parts(model, parts)
    known = _captures.setdefault(model, {})
    key = (inputs.constants, inputs.names, _fingerprint(parts))
    for candidate in known.get(key, []):
        if candidate.sizes(inputs.leaves) is not None:
            return candidate
    compiled = torch.compiler.set_stance("force_eager")  # compiling takes long, and is not traced
    with preserved(model, inputs.args, inputs.kwargs) as state, compiled:
        made = _make(model, inputs, state)
    if made.only_for is not None:  # branches on data depend on the weights too
        weights = (*model.parameters(), *model.buffers())
        made.held_weights = tuple((weakref.ref(tensor), version_of(tensor)) for tensor in weights)
    stale = [k for k in known if k[2] != key[2]]
    for k in stale:
        del known[k]
    known.setdefault(key, []).append(made)
    return made


def clear_captures(model: nn.Module | None = None) -> None:
    """Forget the captures of `model`, or all of them."""
    if model is None:
        _captures.clear()
    else:
        _captures.pop(model, None)


def _keep_passing_buffers(made: Capture, model: nn.Module, present: set[str]) -> None:
    """Buffers that the model made while it ran are gone afterwards: keep them in the capture."""
    _, current = tensors_of(model)
    for name, slot in made.state.items():
        if slot.kind == "buffer" and slot.path not in present and slot.path in current:
            made.state[name] = StateSlot("constant", slot.path, current[slot.path].detach())


def _fingerprint(parts: Sequence[tuple[str, nn.Module]]) -> int:
    """Changes when a flag of the model changes: an attention implementation, a precision, a head."""
    facts: list[Any] = []
    configs: dict[int, Any] = {}
    for path, module in parts:
        own = vars(module)
        facts.append((path, type(module), _flags(own)))
        inherited = config_of(module) if hasattr(type(module), "config") else None
        config = own.get("config", inherited)
        if hasattr(config, "__dict__"):
            configs[id(config)] = config
        for tensors in (module._parameters, module._buffers):
            facts += [(t.dtype, t.device) for t in tensors.values() if t is not None]
    facts += [_flags(vars(config)) for config in configs.values()]
    return hash(tuple(facts))


def _flags(attributes: dict[str, Any]) -> tuple[Any, ...]:
    plain = (bool, int, float, str, type(None))
    return tuple([(k, v) for k, v in attributes.items() if isinstance(v, plain)])


def _make(model: nn.Module, inputs: ModelInputs, state: ModelState) -> Capture:
    from fxplain.capture.routes import (
        routes_for,
    )  # here, since torch.export takes a while to import

    with custom_functions() as custom:
        expected = run_eagerly(model, inputs)
    facts = [_own_backward(name) for name in custom]
    drawn = state.chance.drawn()
    if drawn and ("torch" in drawn or _depends_on_draws(model, inputs, state, expected)):
        facts.append(_one_draw(drawn))
    state.restore()
    buffers = {name for name, _ in model.named_buffers()}
    failures: list[str] = []
    second_best: Capture | None = None
    for name, route in routes_for(model, inputs):
        if second_best is not None and name != "recorder":
            continue  # a model that knows when it is exported; the recorder runs it as it is
        state.restore()  # a route must not find what an earlier run left in the model
        try:
            made = route()
            _keep_passing_buffers(made, model, buffers)
            state.restore()
            different = differences(model, made, inputs, expected)
        except Exception as error:  # noqa: BLE001 (whatever export trips over, the next route is tried)
            failures.append(f"{name}: {first_line(error)}")
            last = error
            continue
        made.failures = tuple(failures)
        made.warnings += facts
        if not different:
            return made
        made.warnings += different
        second_best = second_best or made
        failures.append(f"{name}: {different[0].split(':')[0]}")
    if second_best is not None:
        return second_best
    raise CaptureError(
        f"{type(model).__name__} could not be captured as a graph for these inputs:\n"
        + "\n".join(f"  - {failure}" for failure in failures)
        + packed_hint(model)
    ) from last


def _depends_on_draws(
    model: nn.Module, inputs: ModelInputs, state: ModelState, expected: dict[str, Tensor]
) -> bool:
    """Whether other draws of Python's and NumPy's generators change an output by a bit.

    A decorator that checks some of the arguments (beartype) draws, and nothing depends on it.
    """
    for seed in range(_OTHER_DRAWS):
        state.restore()
        with other_draws(seed):
            found = run_eagerly(model, inputs)
        if found.keys() != expected.keys():
            return True
        if not all(_same(found[name], value) for name, value in expected.items()):
            return True
    return False


_OTHER_DRAWS = 4
"""Runs with other draws: what none of them changes is taken to depend on none."""


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a.nan_to_num(), b.nan_to_num())


def _own_backward(name: str) -> str:
    return (
        f"{name} has a backward of its own, which a captured graph does not know: the explanation's "
        f"gradients through it are the derivative of its forward"
    )


def _one_draw(generators: str) -> str:
    fixed = "" if generators == "torch" else ", which are part of the capture from now on"
    return (
        f"the model draws random numbers ({generators}) while it runs{fixed}: results hold for one "
        f"draw, the one that a call of the model would make now"
    )
