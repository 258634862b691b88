"""Capture by recording one run on the concrete inputs, for what `torch.export` refuses."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import get_proxy_mode, make_fx
from torch.nn.attention import SDPBackend, sdpa_kernel

from fxplain.capture.captured import Capture, InputSlot, OutputLayout, StateSlot
from fxplain.capture.chance import reseed
from fxplain.capture.detached import data_is_detached, noted_departures
from fxplain.capture.export import quiet_export
from fxplain.capture.flexible import flex_attention_written_out
from fxplain.capture.functional import attach_module_paths, drop_assertions
from fxplain.capture.inputs import ModelInputs
from fxplain.capture.kernels import make_whole
from fxplain.capture.losses import parts_of_losses
from fxplain.capture.state import is_plain, kept_on
from fxplain.capture.writes import has_writes, without_writes

__all__ = ["capture_by_recording"]

_EINSUM = torch.ops.aten.einsum.default  # its parts say more about tokens


def capture_by_recording(model: nn.Module, inputs: ModelInputs) -> Capture:
    """Record the operations of one run into the same kind of graph.

    Branches, loops and sizes that depend on data are frozen as they went for these inputs, so the
    capture holds for these input values only.
    """
    parameters = dict(model.named_parameters())
    buffers = dict(model.named_buffers())
    state = {**parameters, **buffers}
    layouts: list[OutputLayout] = []

    def call(*tensors: Tensor) -> tuple[Tensor, ...]:
        own = dict(zip(state, tensors, strict=False))
        for name, value in own.items():  # the forward may read what is kept on a weight
            if is_plain(state[name]):  # of another class, it may be what a packed weight is made of
                vars(value).update(kept_on(state[name]))
        args, kwargs = inputs.rebuild(tensors[len(state) :])
        output = functional_call(model, own, args, kwargs)
        layout, results = OutputLayout.of(output)
        layouts.append(layout)
        return tuple(results)

    values = [*(v.detach() for v in state.values()), *(x.detach().clone() for x in inputs.leaves)]
    with (
        quiet_export(),
        torch.no_grad(),
        flex_attention_written_out(),
        data_is_detached(),
        _noted_modules(model),
        _noted_seeds(),
        noted_departures() as left,
    ):
        module = _recorded(call, values)
    _drop_modes(module)
    drop_assertions(module)
    make_whole(module.graph)
    if has_writes(module.graph):
        module = without_writes(module)
    attach_module_paths(module.graph, "")
    nodes = [node for node in module.graph.nodes if node.op == "placeholder"]
    slots = {
        node.name: StateSlot("parameter" if path in parameters else "buffer", path)
        for node, path in zip(nodes, state, strict=False)
    }
    leaves = zip(nodes[len(state) :], inputs.names, inputs.leaves, strict=True)
    return Capture(
        module,
        "recorded",
        (),
        slots,
        {n.name: InputSlot(name, x.dtype, x.device, tuple(x.shape)) for n, name, x in leaves},
        layouts[-1],
        only_for=tuple(x.detach().clone() for x in inputs.leaves),
        warnings=[_frozen(path) for path in left] if _holds_numbers(module) else [],
    )


def _frozen(path: str) -> str:
    return (
        f"{path or 'the model'} turns activations into numbers outside of torch: what is computed of "
        f"these is not in the explanation"
    )


def _holds_numbers(module: fx.GraphModule) -> bool:
    """Whether several floats that no operation made are in a graph."""
    return any(c.is_floating_point() and c.numel() > 1 for c in _constants(module))


def _recorded(call: Callable[..., Any], values: Sequence[Tensor]) -> fx.GraphModule:
    """The graph of one run, composites whole; taken apart where dispatch does more than compute.

    Before dispatch a batched tensor of ``torch.vmap`` looks like a constant, so that what is
    computed from it would be frozen, and the casts of autocast do not show.
    """
    try:
        module = _made(call, values, pre_dispatch=True)
    except Exception:  # noqa: BLE001 (a custom function under vmap, for one)
        return _made(call, values, pre_dispatch=False)
    is_batched = torch._C._functorch.is_functorch_wrapped_tensor
    batched = any(map(is_batched, _constants(module)))
    casts = any(_opens_autocast(node) for node in module.graph.nodes)
    module.graph.eliminate_dead_code()
    if casts or any(map(is_batched, _constants(module))):  # the latter mean nothing out of the vmap
        return _made(call, values, pre_dispatch=False)
    if batched and any(constant.is_floating_point() for constant in _constants(module)):
        return _made(call, values, pre_dispatch=False)
    return module


def _made(
    call: Callable[..., Any], values: Sequence[Tensor], *, pre_dispatch: bool
) -> fx.GraphModule:
    # after dispatch, fused attention would be a kernel with several results
    kernels = nullcontext() if pre_dispatch else sdpa_kernel(SDPBackend.MATH)
    with kernels:
        return make_fx(
            call,
            decomposition_table={_EINSUM: _EINSUM.decompose, **parts_of_losses()},
            tracing_mode="real",
            pre_dispatch=pre_dispatch,
            _error_on_data_dependent_ops=False,
        )(*values)


def _opens_autocast(node: fx.Node) -> bool:
    """Whether a node switches autocast on: its arguments are (device, dtype, enabled, cache)."""
    return getattr(node.target, "__name__", "") == "_enter_autocast" and bool(node.args[2])


def _constants(module: fx.GraphModule) -> list[Tensor]:
    found = [getattr(module, str(n.target), None) for n in module.graph.find_nodes(op="get_attr")]
    return [constant for constant in found if isinstance(constant, Tensor)]


@contextmanager
def _noted_modules(model: nn.Module) -> Iterator[None]:
    """Write the path of the running module into the meta of every node that is recorded."""
    paths = {id(module): path for path, module in model.named_modules()}
    original = nn.Module._call_impl  # fx replaces __call__ while it traces
    own = threading.get_ident()

    @functools.wraps(original)
    def noting(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() != own:  # a model that another thread runs meanwhile
            return original(self, *args, **kwargs)
        meta: dict[str, Any] = torch.fx.traceback.current_meta
        before = meta.get("nn_module_stack", {})
        path = paths.get(id(self))
        if path is not None:
            meta["nn_module_stack"] = {**before, path: (path, type(self))}
        try:
            return original(self, *args, **kwargs)
        finally:
            meta["nn_module_stack"] = before

    nn.Module._call_impl = noting  # type: ignore[method-assign]
    try:
        with torch.fx.traceback.preserve_node_meta():
            yield
    finally:
        nn.Module._call_impl = original  # type: ignore[method-assign]


@contextmanager
def _noted_seeds() -> Iterator[None]:
    """Record calls of ``torch.manual_seed``, or a run of the graph would draw other numbers."""
    original = torch.manual_seed

    def noting(seed: int) -> torch.Generator:
        mode = get_proxy_mode()
        if mode is not None:
            mode.tracer.create_proxy("call_function", reseed, (int(seed),), {})
        return original(seed)

    torch.manual_seed = noting
    try:
        yield
    finally:
        torch.manual_seed = original


def _drop_modes(module: fx.GraphModule) -> None:
    """Remove switches of grad mode and autocast: the recorded casts are explicit."""
    modes = {"_set_grad_enabled", "_enter_autocast", "_exit_autocast"}
    for node in reversed(list(module.graph.nodes)):
        name = getattr(node.target, "__name__", "")
        if node.op == "call_function" and name in modes:
            module.graph.erase_node(node)
    module.recompile()
