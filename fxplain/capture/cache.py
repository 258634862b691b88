"""The door to capturing: try the routes in turn, compare with the model, remember the result."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from fxplain.arguments import first_line, shown
from fxplain.capture import offloaded, sharded
from fxplain.capture.captured import Capture, StateSlot
from fxplain.capture.chance import other_draws
from fxplain.capture.comparison import (
    difference,
    differences,
    run_eagerly,
    share_apart,
    tolerance,
)
from fxplain.capture.compiled import nothing_compiled
from fxplain.capture.custom import custom_functions
from fxplain.capture.fingerprint import Facts, changed, fact_of, facts_of
from fxplain.capture.inputs import ModelInputs
from fxplain.capture.locks import borrowed, capturing, chance_held
from fxplain.capture.models import check_alone, check_parts, packed_hint
from fxplain.capture.other_threads import others_kept_out
from fxplain.capture.own_weights import weights_kept
from fxplain.capture.preserve import ModelState, hooks_on_all, preserved
from fxplain.capture.replaced import applied_once
from fxplain.capture.residue import without_residue
from fxplain.capture.seen import facts_now, not_looking
from fxplain.capture.shelf import Kept, Shelf
from fxplain.capture.state import AsItWas, parts_of, tensors_of
from fxplain.capture.structure import leaves_of, opens_objects
from fxplain.capture.unpacked import forget_unpacked
from fxplain.capture.unpacking import has_packed_layers, layers_to_unpack, unpacked_in_place
from fxplain.errors import CaptureError, InputError

__all__ = ["capture", "clear_captures", "share_captures"]

_captures: MutableMapping[nn.Module, Shelf] = WeakIdKeyDictionary()

_EVERY = 64
"""A capture that is used again is compared with the model once in so many uses: 1.6% of the calls."""


def capture(model: nn.Module, inputs: ModelInputs, *, recheck: bool = False) -> Capture:
    """The capture of `model` that holds for `inputs`, made on first need.

    One that was made before is used again while nothing looks different on the model. Where what the
    model's own forward changes looks different, once in `_EVERY` uses, and with `recheck` always, it
    is first compared with the model. One thread captures at a time.

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
    check_parts(model)
    found = _known(model, inputs, recheck)
    if found is not None:
        return found
    with capturing(model):
        found = _known(model, inputs, recheck)  # another thread may have made it meanwhile
        if found is not None:
            return found
        with not_looking(), without_residue():
            return _captured(model, inputs)


def clear_captures(model: nn.Module | None = None) -> None:
    """Forget the captures of `model`, or all of them, and what was put together of its weights.

    Raises
    ------
    InputError
        When it is no model.
    """
    if model is not None and not isinstance(model, (nn.Module, torch.export.ExportedProgram)):
        raise InputError(f"model={shown(model)} must be a torch.nn.Module, or None for all models.")
    twins = [*offloaded.twins.forgotten(model), *sharded.twins.forgotten(model)]
    if model is None:
        _captures.clear()
        forget_unpacked(None)
    else:
        for each in (model, *twins):
            _captures.pop(each, None)
            if isinstance(each, nn.Module):
                forget_unpacked(each)


def share_captures(model: nn.Module, copy: nn.Module) -> None:
    """Let a copy of `model`, of which only the numbers in its weights are others, use its captures.

    A capture holds no weights, so that it is the copy's computation as well. Those that were not the
    model's own computation, or depend on weights (branches on data), are not shared; what is not
    shared is captured of the copy when it is needed.
    """
    shelf = _captures.get(model)
    if shelf is None:
        return
    own = _captures.setdefault(copy, Shelf())
    now = facts_now(model)
    for kept in shelf.lent(own, now):
        own.add(Kept(kept.capture, kept.key, facts_now(copy), kept.same), copy)
    own.restless |= shelf.restless


def _key_of(inputs: ModelInputs) -> tuple[Any, ...]:
    given = leaves_of((inputs.args, inputs.kwargs), opens_objects)
    functions = [fact_of(leaf) for _, leaf in given if callable(leaf)]
    return inputs.constants, inputs.names, functions


def _known(model: nn.Module, inputs: ModelInputs, recheck: bool) -> Capture | None:
    """A capture that was made before and still is the model's computation."""
    with borrowed(model):
        shelf = _captures.get(model)
        if shelf is None:
            return None
        facts = facts_now(model)
        for kept, different in shelf.fitting(model, _key_of(inputs), facts, inputs.leaves):
            shelf.used(kept)
            if different or recheck or kept.uses >= _EVERY:
                if not _still_the_model(model, inputs, kept):
                    shelf.drop(kept)
                    continue
                kept.uses, kept.facts = 0, facts
            return kept.capture
    return None


def _still_the_model(model: nn.Module, inputs: ModelInputs, kept: Kept) -> bool:
    """The sure test: the captured graph's output against the model's own.

    One that never was the model's computation, and says so in a warning, is not tested.
    """
    if not kept.same:
        return True
    whole = unpacked_in_place(model, kept.capture.packed)
    with not_looking(), chance_held(), whole, preserved(model, inputs.args, inputs.kwargs) as state:
        expected = run_eagerly(model, inputs)
        state.restore()
        return not differences(model, kept.capture, inputs, expected)


def _captured(model: nn.Module, inputs: ModelInputs) -> Capture:
    facts = facts_of(model)
    shelf = _captures.setdefault(model, Shelf())
    with chance_held(), preserved(model, inputs.args, inputs.kwargs) as state, nothing_compiled():
        make = _unpacked if has_packed_layers(model) else _make
        made, same = make(model, inputs, state, lambda: _note_restless(shelf, model, facts))
    if made.only_for is not None:  # branches on data depend on the weights too
        made.held_weights = {p: AsItWas.of(t) for of in tensors_of(model) for p, t in of.items()}
    if _has_hooks(model):  # what they store is real again, and of these inputs
        with preserved(model, inputs.args, inputs.kwargs, functions=False):
            run_eagerly(model, inputs)
    shelf.add(Kept(made, _key_of(inputs), facts, same), model)
    return made


def _has_hooks(model: nn.Module) -> bool:
    """Whether functions of the user's run with the model."""
    return any(hooks_on_all()) or any(
        part._forward_hooks or part._forward_pre_hooks or "forward" in vars(part)
        for _, part in parts_of(model)
    )


def _note_restless(shelf: Shelf, model: nn.Module, before: Facts) -> None:
    """What a forward that has just run changed by itself says nothing of a change by the user."""
    shelf.restless |= changed(before, facts_of(model))


def _keep_passing_buffers(made: Capture, model: nn.Module, present: set[str]) -> None:
    """Buffers that the model made while it ran are gone afterwards: keep them in the capture."""
    _, current = tensors_of(model)
    for name, slot in made.state.items():
        if slot.kind == "buffer" and slot.path not in present and slot.path in current:
            made.state[name] = StateSlot("constant", slot.path, current[slot.path].detach())


def _unpacked(
    model: nn.Module, inputs: ModelInputs, state: ModelState, ran: Callable[[], None]
) -> tuple[Capture, bool]:
    """As `_make`, with plain layers in the place of those whose weights no graph can hold."""
    with weights_kept(model):
        layers = layers_to_unpack(model, inputs)
        state.restore()
        if layers:
            packed = run_eagerly(model, inputs)
    if not layers:
        return _make(model, inputs, state, ran)
    ran()
    state.restore()
    with (
        unpacked_in_place(model, layers),
        preserved(model, inputs.args, inputs.kwargs) as own,
    ):
        made, same = _make(model, inputs, own, lambda: None)
        own.restore()
        plain = run_eagerly(model, inputs)
    made.packed = layers
    made.warnings += _rounding(packed, plain, [*layers])
    return made, same


def _rounding(packed: dict[str, Tensor], plain: dict[str, Tensor], layers: list[str]) -> list[str]:
    """What is said where packed layers compute less exactly than plain ones with their weights."""
    apart, name = max((difference(plain[name], packed[name]), name) for name in packed)
    if apart <= tolerance(packed[name].dtype):
        return []
    return [
        f"{len(layers)} quantised layers ({layers[0]}, ...) round what they are given: the explanation "
        f"is that of linear layers with their weights, whose output differs from the model's by "
        f"{share_apart(plain[name], packed[name]):.1e} of its largest value"
    ]


def _make(
    model: nn.Module, inputs: ModelInputs, state: ModelState, ran: Callable[[], None]
) -> tuple[Capture, bool]:
    """A capture, and whether it computes what the model does; `ran` is called after a plain run."""
    from fxplain.capture.routes import (
        routes_for,
    )  # here, since torch.export takes a while to import

    with custom_functions() as custom, weights_kept(model):
        expected = run_eagerly(model, inputs)
    ran()
    facts = [_own_backward(name) for name in custom]
    drawn = state.chance.drawn()
    if drawn and ("torch" in drawn or _depends_on_draws(model, inputs, state, expected)):
        facts.append(_one_draw(drawn))
    state.restore()
    buffers = set(tensors_of(model)[1])
    failures: list[str] = []
    second_best: Capture | None = None
    for name, route in routes_for(model, inputs.apart()):
        if second_best is not None and name != "recorder":
            continue  # a model that knows when it is exported; the recorder runs it as it is
        state.restore()  # a route must not find what an earlier run left in the model
        try:
            with others_kept_out(model), applied_once():
                made = route()
            _keep_passing_buffers(made, model, buffers)
            state.restore()
            different = differences(model, made, inputs, expected)
        except Exception as error:  # noqa: BLE001 (whatever export trips over, the next route is tried)
            failures.append(f"{name}: {first_line(error)}")
            last = error
            continue
        check_alone(model, made.graph)
        made.failures = tuple(failures)
        made.warnings += facts
        if not different:
            return made, True
        made.warnings += different
        second_best = second_best or made
        failures.append(f"{name}: {different[0].split(':')[0]}")
    if second_best is not None:
        return second_best, False
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
    if generators == "torch":
        which = ": results hold for one draw, the one that a call of the model would make now"
    else:
        which = (
            ", which are part of the capture from now on: results hold for the draw that was made when "
            "it was captured, until fxplain.clear_captures()"
        )
    return f"the model draws random numbers ({generators}) while it runs{which}"
