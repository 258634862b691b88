"""Sharded models: each process explains a twin with whole weights, and all of them end together.

FSDP and tensor parallelism split weights over processes, as DTensors, and put hooks on modules that
talk to the other processes. A twin has the plain layers, the whole weights and no such hooks, so that
nothing between the first gather and the last word waits for another process.
"""

from __future__ import annotations

import copy
import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from fxplain import errors
from fxplain.capture.comparison import difference, run_eagerly, tolerance
from fxplain.capture.inputs import bind_inputs
from fxplain.capture.seen import found_once, looking
from fxplain.capture.state import parts_of, tensors_of
from fxplain.capture.twins import Twins
from fxplain.errors import CaptureError

__all__ = ["on_all_processes", "twins"]

F = TypeVar("F", bound=Callable[..., Any])


twins = Twins(beside="tensors")
"""Of the models that were asked for, in this process; tensors are put together in each call."""


def on_all_processes(function: F) -> F:
    """A door whose first argument is a model: of a sharded one it is given the twin.

    All processes that hold a part of the model must call it, as they must call the model itself; each
    may do so with inputs of its own. Where it fails in one of them, it fails in all.
    """

    @functools.wraps(function)
    def door(*args: Any, **kwargs: Any) -> Any:
        model = args[0] if args else kwargs.get("model")
        with looking():
            if not isinstance(model, nn.Module) or not _is_sharded(model):
                return function(*args, **kwargs)
        rest = {k: v for k, v in kwargs.items() if k != "model"}
        return _together(model, function, args[1:], rest)

    return cast("F", door)


def _is_sharded(model: nn.Module) -> bool:
    if "torch.distributed.tensor" not in sys.modules:  # then there is no DTensor, either
        return False
    return found_once(model, "sharded", lambda: _any_is_sharded(model))


def _any_is_sharded(model: nn.Module) -> bool:
    from torch.distributed.tensor import DTensor

    parts = (part for _, part in parts_of(model))
    return any(
        _is_fsdp(part) or any(isinstance(p, DTensor) for p in part._parameters.values())
        for part in parts
    )


def _is_fsdp(part: nn.Module) -> bool:
    fsdp = sys.modules.get("torch.distributed.fsdp")
    return fsdp is not None and isinstance(part, fsdp.FSDPModule)


def _together(
    model: nn.Module, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Call a door with the twin in every process; where it fails in one, fail in all."""
    for _, part in parts_of(model):
        if _is_fsdp(part):
            cast("Any", part).reshard()  # what a forward leaves whole for its backward
    meshes = _meshes(model)
    twin = twins.known(model)
    fresh = not all(_from_all(meshes, twin is not None))
    weights = _whole_weights(model)
    with _agreed(meshes):
        if fresh or twin is None:
            twin = twins.keep(model, _made(model, dict(weights)))
        else:
            _refresh(twin, weights)
        result = function(twin, *args, **kwargs)
    if fresh and (inputs := _inputs_of(args, kwargs)) is not None:
        with _agreed(meshes):
            _check(model, twin, inputs)
    return result


# ---- what processes tell each other -------------------------------------------------------------


def _meshes(model: nn.Module) -> list[Any]:
    """The meshes of processes that weights are split over."""
    tensors = (t for found in tensors_of(model) for t in found.values())
    return list(dict.fromkeys(mesh for t in tensors if (mesh := _mesh_of(t)) is not None))


def _mesh_of(tensor: Tensor) -> Any:
    return getattr(tensor, "device_mesh", None)


def _from_all(meshes: Sequence[Any], said: Any) -> list[Any]:
    """What each process says, known to all."""
    known = [said]
    for mesh in meshes:
        for axis in range(mesh.ndim):
            group = mesh.get_group(axis)
            heard: list[Any] = [None] * dist.get_world_size(group)
            dist.all_gather_object(heard, known, group=group)
            known = [one for several in heard for one in several]
    return known


@contextmanager
def _agreed(meshes: Sequence[Any]) -> Iterator[None]:
    """What fails within in one process fails in all, on leaving.

    Raises
    ------
    FxplainError
        Of the class that it had where it was raised first.
    """
    error: Exception | None = None
    try:
        yield
    except Exception as own:  # noqa: BLE001 - told to the others before it is raised
        error = own
    said = None if error is None else (dist.get_rank(), type(error).__name__, str(error))
    failed = [each for each in _from_all(meshes, said) if each is not None]
    if error is not None:
        raise error
    if failed:
        rank, kind, message = failed[0]
        known = getattr(errors, kind, CaptureError)
        raise known(f"process {rank} failed with {kind}: {message}")


# ---- the twin -----------------------------------------------------------------------------------


def _whole_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Each tensor of a model by its path, put together from all processes: to be used up in each."""
    for found in tensors_of(model):
        for name, tensor in found.items():
            yield name, _whole(tensor.detach())


def _whole(tensor: Tensor) -> Tensor:
    return tensor if _mesh_of(tensor) is None else cast("Any", tensor).full_tensor()


def _refresh(twin: nn.Module, weights: Iterator[tuple[str, Tensor]]) -> None:
    parameters, buffers = tensors_of(twin)
    own = {**parameters, **buffers}
    with torch.no_grad():
        for name, value in weights:
            if own[name].data_ptr() != value.data_ptr() and not torch.equal(own[name], value):
                own[name].copy_(value)


def _made(model: nn.Module, weights: dict[str, Tensor]) -> nn.Module:
    """A copy of a model with these weights, of plain classes, without what talks to others."""
    parts = dict(parts_of(model))
    memo: dict[int, Any] = {}
    for found in tensors_of(model):
        for name, tensor in found.items():
            whole = weights[name]
            if isinstance(tensor, nn.Parameter):
                whole = nn.Parameter(whole, requires_grad=tensor.requires_grad)
            memo.setdefault(id(tensor), whole)
    for part in parts.values():
        kind = _plain_class(part)
        memo[id(part)] = kind.__new__(kind)
    for part in parts.values():
        memo.update((id(v), v) for v in vars(part).values() if _is_of_processes(v))
    for part in parts.values():
        vars(memo[id(part)]).update(copy.deepcopy(_own(part), memo))
    return cast("nn.Module", memo[id(model)])


def _plain_class(part: nn.Module) -> type[nn.Module]:
    """The class that a module had before FSDP gave it another."""
    kind = type(part)
    if not _is_fsdp(part):
        return kind
    return next(base for base in kind.__bases__ if base.__name__ != "FSDPModule")


_TENSORS_AND_PARTS = ("_parameters", "_buffers", "_modules")


def _own(part: nn.Module) -> dict[str, Any]:
    """A module's attributes without hooks, a forward and states that are for several processes."""
    kept: dict[str, Any] = {}
    for name, value in vars(part).items():
        if name == "forward" and _is_of_processes(value):
            continue
        if isinstance(value, dict) and name not in _TENSORS_AND_PARTS:
            own = [(k, v) for k, v in value.items() if not _is_of_processes(v)]
            value = value if len(own) == len(value) else type(value)(own)
        kept[name] = value
    return kept


def _is_of_processes(thing: Any) -> bool:
    """Whether a function or an object comes from a library's part for several processes."""
    while isinstance(thing, functools.partial):
        thing = thing.func
    where = str(getattr(thing, "__module__", None) or type(thing).__module__)
    return "distributed" in where.split(".")


# ---- the sure test ------------------------------------------------------------------------------


def _inputs_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[0] if args else kwargs.get("inputs")


def _check(model: nn.Module, twin: nn.Module, inputs: Any) -> None:
    """The model's own output, which takes all processes, against the twin's.

    Raises
    ------
    CaptureError
        Where they differ: something that splits the model is not known for what it is.
    """
    expected = run_eagerly(model, bind_inputs(twin, inputs))
    found = run_eagerly(twin, bind_inputs(twin, inputs))
    for name, value in expected.items():
        local = _whole(value)
        if name not in found or difference(found[name], local) > tolerance(local.dtype):
            raise CaptureError(
                f"{type(model).__name__} is split over processes in a way that is not understood: with "
                f"all of its weights in one place it computes something else. Load the whole model in "
                f"one process, and explain that."
            )
