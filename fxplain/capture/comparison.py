"""Is the captured graph the model's own computation? Both run on the same inputs and draws."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from fxplain.arguments import first_line
from fxplain.capture.captured import Capture, OutputLayout
from fxplain.capture.inputs import ModelInputs
from fxplain.capture.lean import run_leanly
from fxplain.capture.state import config_of, first_parameter, parts_of
from fxplain.errors import FxplainError, InputError, NonFiniteError

__all__ = [
    "difference", "differences", "failure", "run_eagerly", "share_apart", "tolerance",
]  # fmt: skip

# Captured and original outputs may differ by rounding: fused and unfused kernels, other orders.
_TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 5e-2}


def tolerance(dtype: torch.dtype) -> float:
    """The largest difference of two outputs that rounding makes, as a part of the largest value."""
    return _TOLERANCE.get(dtype, 1e-4)


def failure(model: nn.Module, error: BaseException, hint: str = "") -> InputError:
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
    except (Exception, SystemExit, GeneratorExit) as error:
        raise failure(model, error, _dtype_hint(model, inputs)) from error
    try:
        layout, tensors = OutputLayout.of(output)
    except RecursionError as error:
        raise InputError(
            f"{type(model).__name__} returned a {type(output).__name__} whose parts are nested too "
            f"deeply to be followed."
        ) from error
    if not tensors:
        raise InputError(
            f"{type(model).__name__} returned no tensor to explain, but a {type(output).__name__}. Its "
            f"forward must return tensors, or tuples, lists, mappings or dataclasses that hold some."
        )
    named = dict(zip(layout.names, tensors, strict=True))
    for name, tensor in named.items():
        _check_kind(model, name, tensor)
        if tensor.is_floating_point() and tensor.isnan().any():
            raise NonFiniteError(
                f"the model's output{f' {name!r}' if name else ''} holds NaN for these inputs; "
                f"there is nothing to explain. Check the inputs, the weights and the masks."
            )
    return named


def _check_kind(model: nn.Module, name: str, tensor: Tensor) -> None:
    """Refuse an output that holds no numbers which can be read one by one."""
    said = f"output {name!r}" if name else "the output"
    if tensor.is_nested or tensor.layout is not torch.strided:
        kind = "nested" if tensor.is_nested else f"of the layout {tensor.layout}"
        raise InputError(
            f"{said} of {type(model).__name__} is {kind}, which nothing can be read from: return "
            f"a dense tensor."
        )
    if tensor.is_meta:
        raise InputError(
            f"{said} of {type(model).__name__} is on the meta device: it has a shape and no values."
        )


def _dtype_hint(model: nn.Module, inputs: ModelInputs) -> str:
    parameter = first_parameter(model, floating=True)
    shown = ", ".join(
        f"{name}: {str(leaf.dtype).removeprefix('torch.')} {tuple(leaf.shape)}{_range(leaf)}"
        for name, leaf in zip(inputs.names, inputs.leaves, strict=True)
    )
    of_model = (
        f"; its parameters are {str(parameter.dtype).removeprefix('torch.')}"
        if (parameter is not None)
        else ""
    )
    tables = dict.fromkeys(
        str(part.num_embeddings) for _, part in parts_of(model) if isinstance(part, nn.Embedding)
    )
    rows = f"; its embeddings have {' and '.join(tables)} rows" if tables else ""
    return f" It was given {shown}{of_model}{rows}."


def _range(leaf: Tensor) -> str:
    """From where to where whole numbers go: ids past the end of a table are the usual fault."""
    known = leaf.dtype in (torch.int64, torch.int32) and leaf.numel() and type(leaf) is Tensor
    return f" of {int(leaf.min())} to {int(leaf.max())}" if known else ""


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
        if difference(got, want) > tolerance(want.dtype):
            implementation = getattr(config_of(model), "_attn_implementation", None)
            which = f" with its {implementation!r} attention" if implementation else ""
            named = f"{name!r} " if name else ""
            share = share_apart(got, want)
            found.append(
                f"output {named}of the captured graph differs from the model's own{which} by "
                f"{share:.1e} of its largest value: the explanation is faithful to the "
                f"captured computation ({_attention_forms(made)}), not to the model's own run"
            )
    return found


def difference(got: Tensor, want: Tensor) -> float:
    """The largest difference, as a part of the largest finite value; infinite for another type.

    Of values that are all small a twentieth counts as rounding does of others: they may be what is left
    of large ones. What the type itself rounds off 1 is no difference.
    """
    apart, scale = _apart(got, want)
    if scale < 1:
        rounded = torch.finfo(want.dtype).eps / tolerance(want.dtype)
        scale = max(min(1.0, scale * _SMALL), rounded)
    return apart / scale


def share_apart(got: Tensor, want: Tensor) -> float:
    """The largest difference as a part of the largest finite value, as it is: what people are told."""
    apart, scale = _apart(got, want)
    return apart / scale if scale else math.inf


def _apart(got: Tensor, want: Tensor) -> tuple[float, float]:
    """The largest difference, and the largest finite value of `want`."""
    if got.shape != want.shape or got.dtype != want.dtype:
        return math.inf, 1.0
    apart, scale = 0.0, 0.0
    for a, b in zip(*(x.reshape(-1).split(_PART) for x in (got, want)), strict=True):
        a, b = a.double(), b.double()
        finite = b[b.isfinite()].abs()
        scale = max(scale, float(finite.max())) if finite.numel() else scale
        wrong = (a != b) & ~(a.isnan() & b.isnan())
        if wrong.any():
            apart = max(apart, float((a[wrong] - b[wrong]).abs().nan_to_num(math.inf).max()))
    return apart, scale


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
