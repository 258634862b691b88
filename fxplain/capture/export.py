"""Capture through `torch.export` (non-strict), for any module."""

from __future__ import annotations

import io
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stderr
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram
from torch.export.graph_signature import ConstantArgument, InputKind, OutputKind
from torch.fx import config as fx_config
from torch.fx.experimental import proxy_tensor

from fxplain.capture.captured import Capture, InputSlot, OutputLayout, StateSlot
from fxplain.capture.collector import collector_paused
from fxplain.capture.detached import data_is_detached
from fxplain.capture.flexible import flex_attention_written_out
from fxplain.capture.functional import (
    attach_module_paths,
    drop_assertions,
    functional_program,
    keep_known_paths,
)
from fxplain.capture.inputs import ModelInputs
from fxplain.capture.members import members_beside_each_other
from fxplain.capture.pace import Pace

if TYPE_CHECKING:
    import sympy

__all__ = ["capture_by_export", "capture_from_program"]


class _Call(nn.Module):
    """The model as a function from its tensor inputs to its tensor outputs.

    Whatever else goes in (flags) or comes out (caches, classes that are no pytree) stays in Python,
    so that export never sees it.
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: ModelInputs,
        note: Callable[[OutputLayout], None],
        pace: AbstractContextManager[Any],
    ) -> None:
        super().__init__()
        self.pace = pace
        self.model = model
        self.inputs = inputs
        self.note = note  # a callback, since export undoes what forward assigns to attributes

    def forward(self, *leaves: Tensor) -> tuple[Tensor, ...]:
        args, kwargs = self.inputs.rebuild(leaves)
        with self.pace:
            output = self.model(*args, **kwargs)
        layout, tensors = OutputLayout.of(output)
        self.note(layout)
        return tuple(tensors)


def capture_by_export(model: nn.Module, inputs: ModelInputs, *, dynamic: bool) -> Capture:
    """Export `model` for `inputs`; with `dynamic`, batch and sequence axes stay free where they can."""
    layouts: list[OutputLayout] = []
    pace = Pace() if dynamic else nullcontext()
    call = _Call(model, inputs, layouts.append, pace)
    call.training = model.training  # train() would set it in the model, too, or be refused there
    shapes = {"leaves": tuple(_free_axes(leaf, dynamic) for leaf in inputs.leaves)}
    with (
        quiet_export(), torch.no_grad(), flex_attention_written_out(), data_is_detached(),
        collector_paused(),
    ):  # fmt: skip
        program = torch.export.export(call, inputs.leaves, strict=False, dynamic_shapes=shapes)
        keep_known_paths(program.graph, model, "model")
        route = "export" if dynamic else "export-static"
        return capture_from_program(program, inputs, layouts[-1], route=route, prefix="model")


def _free_axes(leaf: Tensor, dynamic: bool) -> dict[int, Any]:
    """Axis 0 is the batch; axis 1 is a sequence in integer tensors and (batch, tokens, features).

    Image axes stay fixed: making every axis free costs windowed vision models a minute or more.
    """
    sequence = not leaf.is_floating_point() or leaf.dim() == 3
    free = {0, 1} if sequence else {0}
    return {
        axis: Dim.AUTO if dynamic and axis in free and leaf.shape[axis] > 1 else Dim.STATIC
        for axis in range(leaf.dim())
    }


def capture_from_program(
    program: ExportedProgram,
    inputs: ModelInputs,
    layout: OutputLayout,
    *,
    route: str,
    prefix: str,
) -> Capture:
    """Make a capture of an exported program whose tensor inputs are `inputs.leaves`, in order."""
    user_inputs = _user_inputs(program)
    free = [s for node in user_inputs for s in node.meta["val"].shape if not isinstance(s, int)]
    guards = _guards(free)
    import sympy  # here, since it takes a while to import

    bounds = {
        symbol: int(limits.lower)
        for symbol, limits in program.range_constraints.items()
        if isinstance(symbol, sympy.Symbol) and limits.lower.is_finite
    }
    slots = {
        node.name: InputSlot(name, leaf.dtype, leaf.device, _shape(node))
        for node, name, leaf in zip(user_inputs, inputs.names, inputs.leaves, strict=True)
    }
    members = members_beside_each_other(program.graph, user_inputs)
    program, module = functional_program(program)
    state = _state(program, prefix)
    _drop_constant_placeholders(program, module)
    _drop_mutation_outputs(program, module)
    drop_assertions(module)
    attach_module_paths(module.graph, prefix)
    made = Capture(module, route, (), state, slots, layout, guards, bounds)
    made.warnings += members
    return made


def _user_inputs(program: ExportedProgram) -> list[fx.Node]:
    names = [
        spec.arg.name
        for spec in program.graph_signature.input_specs
        if spec.kind is InputKind.USER_INPUT and not isinstance(spec.arg, ConstantArgument)
    ]
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    return [nodes[name] for name in names]


def _shape(node: fx.Node) -> tuple[int | sympy.Expr, ...]:
    return tuple(s if isinstance(s, int) else s.node.expr for s in node.meta["val"].shape)


def _guards(free: Sequence[torch.SymInt]) -> tuple[sympy.Basic, ...]:
    if not free:
        return ()
    environment = free[0].node.shape_env
    return tuple({guard.expr: None for guard in environment.guards})


def _state(program: ExportedProgram, prefix: str) -> dict[str, StateSlot]:
    kinds = {InputKind.PARAMETER: "parameter", InputKind.BUFFER: "buffer"}
    slots: dict[str, StateSlot] = {}
    for spec in program.graph_signature.input_specs:
        if spec.kind in kinds:
            path = str(spec.target)
            path = path.removeprefix(f"{prefix}.") if prefix else path
            slots[spec.arg.name] = StateSlot(kinds[spec.kind], path)
        elif spec.kind is InputKind.CONSTANT_TENSOR:
            tensor = program.constants[str(spec.target)]
            slots[spec.arg.name] = StateSlot("constant", str(spec.target), tensor)
    return slots


def _drop_constant_placeholders(program: ExportedProgram, module: fx.GraphModule) -> None:
    """Flags that export kept as unused placeholders."""
    constant = {
        spec.arg.name
        for spec in program.graph_signature.input_specs
        if isinstance(spec.arg, ConstantArgument)
    }
    for node in list(module.graph.nodes):
        if node.op == "placeholder" and node.name in constant and not node.users:
            module.graph.erase_node(node)


def _drop_mutation_outputs(program: ExportedProgram, module: fx.GraphModule) -> None:
    """Keep the user's outputs only: written-back buffers are not part of the explanation."""
    specs = program.graph_signature.output_specs
    output = next(n for n in module.graph.nodes if n.op == "output")
    values = output.args[0]
    output.args = (
        tuple(
            v
            for v, spec in zip(values, specs, strict=True)
            if spec.kind is OutputKind.USER_OUTPUT and isinstance(v, fx.Node)
        ),
    )


class _OthersOnly(io.TextIOBase):
    """An error stream to which the thread that made it writes in vain; all others write as ever."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._own = stream, threading.get_ident()

    def write(self, text: str) -> int:
        if threading.get_ident() != self._own and self._stream is not None:
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        if self._stream is not None:
            self._stream.flush()


@contextmanager
def _without_stack_traces() -> Iterator[None]:
    """No stack trace for each node: they cost a fifth of an export, and nobody reads them."""
    before = getattr(fx_config, _TRACELESS, None)
    if before is None:  # a release of torch that cannot leave them out
        yield
        return
    setattr(fx_config, _TRACELESS, True)
    try:
        yield
    finally:
        setattr(fx_config, _TRACELESS, before)


_TRACELESS = "do_not_emit_stack_traces"


@contextmanager
def quiet_export() -> Iterator[None]:
    """Silence export's advice and its prints on failure; what matters the capture reports itself."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            redirect_stderr(_OthersOnly(sys.stderr)),
            _without_stack_traces(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        # torch keeps the last exported graph, as large as the capture, until the next export
        getattr(proxy_tensor, "_FAKE_TENSOR_ID_TO_PROXY_MAP_FOR_EXPORT", {}).clear()
