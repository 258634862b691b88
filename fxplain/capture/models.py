"""Models: what may be given as one, and whether it is ready to be explained."""

from __future__ import annotations

import sys
import types
import weakref
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import fx, nn
from torch.export import ExportedProgram
from torch.jit._trace import TopLevelTracedModule, TracedModule
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from fxplain.capture.names import names_mentioned
from fxplain.capture.offloaded import twin_of
from fxplain.capture.seen import found_once
from fxplain.capture.state import is_of_own_class, parts_of, tensors_of
from fxplain.errors import CaptureError, InputError, TrainingModeError

__all__ = ["as_module", "check_alone", "check_parts", "packed_hint"]

_opened: weakref.WeakKeyDictionary[ExportedProgram, nn.Module] = weakref.WeakKeyDictionary()


def as_module(model: Any) -> nn.Module:
    """`model` as a module that has all of its weights.

    Itself; that of an ``ExportedProgram`` (one for each program); where weights are offloaded, a twin
    that has them.

    Raises
    ------
    InputError
        When it is neither.
    """
    if isinstance(model, ExportedProgram):
        if model not in _opened:
            _opened[model] = model.module()
        return _opened[model]
    if isinstance(model, nn.parallel.DistributedDataParallel):
        model = model.module  # each process has all of it
    if isinstance(model, nn.Module):
        _check_hashable(model)
        _check_flat(model)
        return twin_of(model)
    raise InputError(f"the model must be a torch.nn.Module, got {_described(model)}")


def _check_hashable(model: nn.Module) -> None:
    """Refuse what torch itself cannot list the parts of."""
    found = found_once(
        model,
        "hashable",
        lambda: next((p for p, part in parts_of(model) if type(part).__hash__ is None), None),
    )
    if found is not None:
        raise InputError(
            f"{_named(model, found)} cannot be hashed, so that torch itself fails to list the model's "
            f"parameters: its class defines __eq__ and no __hash__, as a dataclass does. Make it "
            f"@dataclass(eq=False)."
        )


def _check_flat(model: nn.Module) -> None:
    """Refuse FSDP's first version, which cuts all weights of a layer out of one flat tensor."""
    fsdp = sys.modules.get("torch.distributed.fsdp")
    if fsdp is None:
        return
    flat = found_once(model, "flat", lambda: _first_of(model, fsdp.FullyShardedDataParallel))
    if flat is not None:
        raise InputError(
            f"{_named(model, flat)} is split over processes by FullyShardedDataParallel, whose "
            f"flat weights are not put together. Split it with fully_shard (FSDP2), or load the "
            f"whole model in one process."
        )


def _first_of(model: nn.Module, kind: type) -> str | None:
    """The path of the first part of a kind."""
    return next((path for path, part in parts_of(model) if isinstance(part, kind)), None)


def _is_script(module: torch.jit.ScriptModule) -> bool:
    """Whether a module is compiled by TorchScript; one that was traced still runs as operations."""
    return not isinstance(module, TopLevelTracedModule | TracedModule)


def _described(value: Any) -> str:
    kind = type(value).__name__
    if isinstance(value, str):
        return f"the string {value!r}. fxplain.from_pretrained loads models by name or folder."
    if isinstance(value, Mapping):
        return f"a {kind}. Weights alone are no model: load them with load_state_dict()."
    if isinstance(value, type) and issubclass(value, nn.Module):
        return f"the class {value.__name__}. Make one: {value.__name__}(...)."
    try:
        held = getattr(value, "model", None)
    except Exception:  # noqa: BLE001 - a property of the user's own
        held = None
    if isinstance(held, nn.Module):
        return f"{kind}, which holds one. Explain its model attribute, a {type(held).__name__}."
    if callable(value):
        return f"{kind} {getattr(value, '__name__', '')!r}. Wrap it in a module's forward."
    return f"{kind}."


def check_parts(model: nn.Module) -> None:
    """Refuse a model that is TorchScript, and one of which something is in training mode.

    The flag of a ``GraphModule``, and of the parts that only hold its weights, says nothing: what its
    graph computes was settled when it was made.

    Raises
    ------
    InputError
        When it is TorchScript, whose operations nothing in Python can follow.
    TrainingModeError
        When a part is in training mode, or when a graph was made while its model was.
    """
    found_once(model, "ready", lambda: _ready(model))


def _ready(model: nn.Module) -> bool:
    """True, where `check_parts` finds nothing."""
    if isinstance(model, torch.jit.ScriptModule) and _is_script(model):
        raise InputError(
            f"{type(model).__name__} is TorchScript, whose operations cannot be followed. Explain the "
            f"Python module that it was made of."
        )
    parts = list(parts_of(model))
    graphs = {path: part for path, part in parts if isinstance(part, fx.GraphModule)}
    for path, graph in graphs.items():
        if any(map(_drops, graph.graph.nodes)):
            raise TrainingModeError(
                f"{_named(model, path)} is a graph that was made in training mode, where dropout makes "
                f"every explanation a random one. Make it again after model.eval()."
            )
    inert = set(graphs)
    for path, graph in graphs.items():
        inert |= _uncalled(path, graph)
    training = [path for path, part in parts if part.training and path not in inert]
    mixed = len(training) < sum(path not in inert for path, _ in parts)
    if mixed:  # what came after eval() is in training mode; most computes the same in both
        training = [path for path in training if _asks_for_its_mode(model.get_submodule(path))]
    if not training:
        return True
    if not mixed or training[0] == "":
        raise TrainingModeError(
            f"{_named(model, training[0])} is in training mode, where dropout makes every explanation "
            f"a random one. Call model.eval() first."
        )
    part = type(model.get_submodule(training[0])).__name__
    most = "partly " if model.training else ""
    raise TrainingModeError(
        f"{type(model).__name__} is {most}in evaluation mode, but its part {training[0]!r} ({part}) is "
        f"in training mode, as parts are that are added, replaced, wrapped or parametrised after "
        f"model.eval(). Call model.eval() again."
    )


def _asks_for_its_mode(part: nn.Module) -> bool:
    """Whether a part may compute something else in training mode: its code speaks of the mode."""
    if "forward" in vars(part):  # whatever stands there may look
        return True
    owns = [vars(cls) for cls in type(part).__mro__ if cls not in (nn.Module, object)]
    codes = [code for own in owns for value in own.values() for code in _codes_of(value)]
    return any("training" in names_mentioned(code) for code in codes)


def _codes_of(value: object) -> list[types.CodeType]:
    """The code of a function, or of those that a property or a method of the class holds."""
    held = [getattr(value, name, None) for name in ("__func__", "fget", "__wrapped__")]
    code = getattr(value, "__code__", None)
    own = [code] if isinstance(code, types.CodeType) else []
    return own + [inner for each in held if each is not None for inner in _codes_of(each)]


_TALKING = ("c10d", "_c10d_functional", "_c10d_functional_autograd", "_dtensor", "fsdp")
"""The namespaces of operations that exchange values with other processes."""


def check_alone(model: nn.Module, graph: fx.Graph) -> None:
    """Refuse a computation of which other processes do a part.

    Raises
    ------
    CaptureError
        With the operation that talks to them.
    """
    for node in graph.nodes:
        if getattr(node.target, "namespace", None) in _TALKING:
            raise CaptureError(
                f"{type(model).__name__} exchanges values with other processes while it runs "
                f"({node.target}), and a part of it is theirs. Load the whole model in one process, "
                f"and explain that; FSDP2 and tensor parallelism with DTensors are put together."
            )


def packed_hint(model: nn.Module) -> str:
    """What to do where weights are packed in a class of their own, which no graph can hold; or ""."""
    for name, weight in tensors_of(model)[0].items():
        kind = type(weight)
        if is_of_own_class(weight) and not is_traceable_wrapper_subclass(cast("Any", weight)):
            method = getattr(model, "dequantize", None)
            how = (
                "copy.deepcopy(model).dequantize()" if callable(method) else "the model unquantised"
            )
            return (
                f"\nIts weights are packed ({name!r} is a {kind.__module__}.{kind.__name__}), which a "
                f"graph cannot hold. Explain {how}."
            )
    return ""


def _named(model: nn.Module, path: str) -> str:
    return type(model).__name__ + (f" (its part {path!r})" if path else "")


def _uncalled(path: str, graph: fx.GraphModule) -> set[str]:
    """Paths of a graph's parts that it never calls, but for what export makes to check its inputs."""
    prefix = f"{path}." if path else ""
    called = {str(n.target) for n in graph.graph.nodes if n.op == "call_module"}
    called -= {name for name in called if _is_guard(graph.get_submodule(name))}
    names = (name for name, _ in graph.named_modules(remove_duplicate=False) if name)
    return {
        prefix + name for name in names if not any(f"{name}.".startswith(f"{c}.") for c in called)
    }


def _is_guard(part: nn.Module) -> bool:
    return type(part).__module__.startswith("torch.export")


def _drops(node: fx.Node) -> bool:
    """Whether a node of a graph is a dropout that is on."""
    if node.op != "call_function" or "dropout" not in str(node.target):
        return False
    schema = getattr(node.target, "_schema", None)
    flags = [] if schema is None else [a.name for a in schema.arguments]
    given = {**dict(zip(flags, node.args, strict=False)), **node.kwargs}
    return bool(given.get("train", given.get("training", False))) and given.get("p") != 0
