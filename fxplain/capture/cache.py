"""The door to capturing: try the routes in turn, compare with the model, remember the result."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor, nn

from fxplain.capture.captured import Capture, OutputLayout, StateSlot
from fxplain.capture.inputs import ModelInputs
from fxplain.capture.preserve import preserved
from fxplain.errors import CaptureError, FxplainError, InputError, NonFiniteError, TrainingModeError

__all__ = ["capture", "clear_captures"]

# Captured and original outputs may differ by rounding: fused and unfused kernels, other orders.
_TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 5e-2}

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
    training = [name for name, module in model.named_modules() if module.training]
    if training:
        part = f" (its part {training[0]!r})" if training[0] else ""
        raise TrainingModeError(
            f"{type(model).__name__}{part} is in training mode, where dropout makes every explanation "
            f"a random one. Call model.eval() first."
        )
    known = _captures.setdefault(model, {})
    key = (inputs.constants, inputs.names, _fingerprint(model))
    for candidate in known.get(key, []):
        if candidate.sizes(inputs.leaves) is not None:
            return candidate
    buffers = {name for name, _ in model.named_buffers()}
    with preserved(model):
        made = _make(model, inputs)
        _keep_passing_buffers(made, model, buffers)
    if made.only_for is not None:  # branches on data depend on the weights too
        state = (*model.parameters(), *model.buffers())
        made.held_weights = tuple((weakref.ref(tensor), tensor._version) for tensor in state)
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
    current = dict(model.named_buffers(remove_duplicate=False))
    for name, slot in made.state.items():
        if slot.kind == "buffer" and slot.path not in present and slot.path in current:
            made.state[name] = StateSlot("constant", slot.path, current[slot.path].detach())


def _fingerprint(model: nn.Module) -> int:
    """Changes when a flag of the model changes: an attention implementation, a precision, a head."""
    facts: list[Any] = []
    configs: dict[int, Any] = {}
    for name, module in model.named_modules():
        facts.append((name, type(module), _flags(module)))
        config = getattr(module, "config", None)
        if hasattr(config, "__dict__"):
            configs[id(config)] = config
    facts += [_flags(config) for config in configs.values()]
    state = (*model.parameters(), *model.buffers())
    facts.append(tuple((tensor.dtype, tensor.device) for tensor in state))
    return hash(tuple(facts))


def _flags(thing: Any) -> tuple[Any, ...]:
    plain = (bool, int, float, str, type(None))
    return tuple((k, v) for k, v in vars(thing).items() if isinstance(v, plain))


def _make(model: nn.Module, inputs: ModelInputs) -> Capture:
    from fxplain.capture.routes import (
        routes_for,
    )  # here, since torch.export takes a while to import

    expected = _run_eagerly(model, inputs)
    failures: list[str] = []
    for name, route in routes_for(model, inputs):
        try:
            made = route()
            _compare(model, made, inputs, expected)
        except Exception as error:  # noqa: BLE001 (whatever export trips over, the next route is tried)
            failures.append(f"{name}: {_first_line(error)}")
            last = error
            continue
        made.failures = tuple(failures)
        return made
    raise CaptureError(
        f"{type(model).__name__} could not be captured as a graph for these inputs:\n"
        + "\n".join(f"  - {failure}" for failure in failures)
    ) from last


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else ''}"


def _run_eagerly(model: nn.Module, inputs: ModelInputs) -> dict[str, Tensor]:
    try:
        with torch.no_grad():
            output = model(*inputs.args, **inputs.kwargs)
    except FxplainError:
        raise
    except Exception as error:
        raise InputError(
            f"{type(model).__name__} itself fails on these inputs with {_first_line(error)}."
            f"{_dtype_hint(model, inputs)}"
        ) from error
    layout, tensors = OutputLayout.of(output)
    if not tensors:
        raise InputError(f"{type(model).__name__} returned no tensor to explain: {type(output)}.")
    named = dict(zip(layout.names, tensors, strict=True))
    for name, tensor in named.items():
        if tensor.is_floating_point() and tensor.isnan().any():
            raise NonFiniteError(
                f"the model's output{f' {name!r}' if name else ''} holds NaN for these inputs; "
                f"there is nothing to explain. Check the inputs, the weights and the masks."
            )
    return named


def _dtype_hint(model: nn.Module, inputs: ModelInputs) -> str:
    parameter = next((p for p in model.parameters() if p.is_floating_point()), None)
    shown = ", ".join(
        f"{name}: {str(leaf.dtype).removeprefix('torch.')} {tuple(leaf.shape)}"
        for name, leaf in zip(inputs.names, inputs.leaves, strict=True)
    )
    of_model = (
        f"; its parameters are {str(parameter.dtype).removeprefix('torch.')}"
        if (parameter is not None)
        else ""
    )
    return f" It was given {shown}{of_model}."


def _compare(
    model: nn.Module, made: Capture, inputs: ModelInputs, expected: dict[str, Tensor]
) -> None:
    """Warn when the captured graph computes something else than the model does."""
    with torch.no_grad():
        outputs = made.graph_module(*made.bind(model, inputs))
    for name, got in zip(made.output.names, outputs, strict=True):
        want = expected.get(name)
        if want is None or not want.is_floating_point() or want.shape != got.shape:
            continue
        scale = max(1.0, float(want.abs().max()))
        difference = float((got.double() - want.double()).abs().max()) / scale
        if difference > _TOLERANCE.get(want.dtype, 1e-4):
            implementation = getattr(getattr(model, "config", None), "_attn_implementation", None)
            which = f" with its {implementation!r} attention" if implementation else ""
            named = f"{name!r} " if name else ""
            made.warnings.append(
                f"output {named}of the captured graph differs from the model's own{which} by "
                f"{difference:.1e} of its largest value: the explanation is faithful to the "
                f"captured computation ({_attention_forms(made)}), not to the model's own run"
            )


def _attention_forms(made: Capture) -> str:
    targets = {str(node.target) for node in made.graph.nodes if node.op == "call_function"}
    forms = []
    if any("scaled_dot_product_attention" in target for target in targets):
        forms.append("scaled_dot_product_attention")
    if any("softmax" in target for target in targets):
        forms.append("explicit softmax")
    return " and ".join(forms) or "no softmax attention"
