"""Is the captured graph the model's own computation? Both run on the same inputs and draws."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from fxplain.capture.captured import Capture, OutputLayout
from fxplain.capture.inputs import ModelInputs
from fxplain.capture.lean import run_leanly
from fxplain.capture.state import config_of
from fxplain.errors import FxplainError, InputError, NonFiniteError

__all__ = ["difference", "differences", "failure", "first_line", "run_eagerly", "tolerance"]

# Captured and original outputs may differ by rounding: fused and unfused kernels, other orders.
_TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 5e-2}


def tolerance(dtype: torch.dtype) -> float:
    """The largest difference of two outputs that rounding makes, as a part of the largest value."""
    return _TOLERANCE.get(dtype, 1e-4)


def failure(model: nn.Module, error: Exception, hint: str = "") -> InputError:
    """What to raise where the model itself fails, however it was called."""
    return InputError(
        f"{type(model).__name__} itself fails on these inputs with {first_line(error)}.{hint}"
    )


def run_eagerly(model: nn.Module, inputs: ModelInputs) -> dict[str, Tensor]:
    """The tensors of the model's own output, by name.

    Raises
    ------
    InputError
        When the model fails on the inputs, or returns no tensor.
    NonFiniteError
        When an output holds NaN.
    """
    try:
        with torch.no_grad():
            output = model(*inputs.args, **inputs.kwargs)
    except FxplainError:
        raise
    except Exception as error:
        raise failure(model, error, _dtype_hint(model, inputs)) from error
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


def first_line(error: Exception) -> str:
    """What an error says, on one line."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else ''}"


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


def differences(
    model: nn.Module, made: Capture, inputs: ModelInputs, expected: dict[str, Tensor]
) -> list[str]:
    """What the captured graph computes otherwise than the model does, one sentence per output."""
    with torch.no_grad():
        outputs = run_leanly(made.graph_module, made.bind(model, inputs))
    names = set(made.output.names)
    found = [
        f"output {name!r} is of {'the captured graph' if name in names else 'the model'} alone"
        for name in sorted(names ^ expected.keys())
    ]
    for name, got in zip(made.output.names, outputs, strict=True):
        want = expected.get(name)
        if want is None or not want.is_floating_point():
            continue
        apart = difference(got, want)
        if apart > tolerance(want.dtype):
            implementation = getattr(config_of(model), "_attn_implementation", None)
            which = f" with its {implementation!r} attention" if implementation else ""
            named = f"{name!r} " if name else ""
            found.append(
                f"output {named}of the captured graph differs from the model's own{which} by "
                f"{apart:.1e} of its largest value: the explanation is faithful to the "
                f"captured computation ({_attention_forms(made)}), not to the model's own run"
            )
    return found


def difference(got: Tensor, want: Tensor) -> float:
    """The largest difference, as a part of the largest finite value; infinite for another type.

    Of values that are all small a twentieth counts as rounding does of others: they may be what is left
    of large ones. What the type itself rounds off 1 is no difference.
    """
    if got.shape != want.shape or got.dtype != want.dtype:
        return math.inf
    apart, scale = 0.0, 0.0
    for a, b in zip(*(x.reshape(-1).split(_PART) for x in (got, want)), strict=True):
        a, b = a.double(), b.double()
        finite = b[b.isfinite()].abs()
        scale = max(scale, float(finite.max())) if finite.numel() else scale
        wrong = (a != b) & ~(a.isnan() & b.isnan())
        if wrong.any():
            apart = max(apart, float((a[wrong] - b[wrong]).abs().nan_to_num(math.inf).max()))
    if scale < 1:
        rounded = torch.finfo(want.dtype).eps / tolerance(want.dtype)
        scale = max(min(1.0, scale * _SMALL), rounded)
    return apart / scale


_SMALL = 500
"""How much larger small values are taken to be: at 1e-4, a twentieth of them is no rounding."""

_PART = 2**17
"""How many numbers are compared at once: outputs may be most of what a model's run needs."""


def _attention_forms(made: Capture) -> str:
    targets = {str(node.target) for node in made.graph.nodes if node.op == "call_function"}
    forms = []
    if any("scaled_dot_product_attention" in target for target in targets):
        forms.append("scaled_dot_product_attention")
    if any("softmax" in target for target in targets):
        forms.append("explicit softmax")
    return " and ".join(forms) or "no softmax attention"
