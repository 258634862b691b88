"""Model inputs: bound to the forward signature, named, flattened to tensors, and checked."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections import UserDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fxplain.arguments import blaming, shown, whole
from fxplain.capture.frames import Columns, without_frames
from fxplain.capture.seen import found_once
from fxplain.capture.state import first_parameter, tensors_of
from fxplain.capture.structure import leaves_of, opens_objects, outline, with_leaves
from fxplain.errors import InputError

__all__ = ["ModelInputs", "bind_inputs", "on_axis", "tables_as_tensors"]


@dataclass(frozen=True)
class ModelInputs:
    """The arguments of one call of a model, flattened.

    Attributes
    ----------
    args, kwargs
        What the model is called with.
    names
        One name per tensor leaf: the forward argument's name, with ``[i]`` or ``.key`` for nested ones.
    leaves
        The tensor leaves, in the order of `names`.
    constants
        A hashable summary of everything that is not a tensor (flags, None, the nesting).
    batch_size
        The size of the first axis that most tensors share.
    batch_axes
        For each leaf the axis of the samples, None where it has none; empty where that is the first
        axis wherever its size is the batch size.
    columns
        What the columns of the tables are called that arguments were given as.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    names: tuple[str, ...]
    leaves: tuple[Tensor, ...]
    constants: str
    batch_size: int
    batch_axes: tuple[int | None, ...] = ()
    columns: Columns = field(default_factory=dict)

    def batch_axis_of(self, leaf: int) -> int | None:
        """The axis of a leaf's samples; None where it has none."""
        if self.batch_axes:
            return self.batch_axes[leaf]
        shape = self.leaves[leaf].shape
        return 0 if shape and shape[0] == self.batch_size else None

    def along(self, axes: Sequence[int | None], size: int) -> ModelInputs:
        """The same call, where a batch of `size` lies along each leaf's axis of `axes`.

        Leaves without one (masks that nobody has asked about) have it where their size is `size`, the
        first axis first.
        """
        found = tuple(
            next((a for a, n in enumerate(leaf.shape) if n == size), None) if axis is None else axis
            for axis, leaf in zip(axes, self.leaves, strict=True)
        )
        return replace(self, batch_size=size, batch_axes=found)

    def rebuild(self, leaves: Sequence[Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The same call with other tensors in the place of `leaves`."""
        replacements = iter(leaves)
        call = (self.args, self.kwargs)
        args, kwargs = with_leaves(
            call, lambda x: next(replacements) if isinstance(x, Tensor) else x, opens_objects
        )
        return args, kwargs

    def apart(self) -> ModelInputs:
        """The same call without a tensor that is two arguments, which would be one to a graph."""
        first = {id(leaf): place for place, leaf in reversed([*enumerate(self.leaves)])}
        if len(first) == len(self.leaves):
            return self
        leaves = tuple(
            leaf if first[id(leaf)] == place else leaf.clone()
            for place, leaf in enumerate(self.leaves)
        )
        args, kwargs = self.rebuild(leaves)
        return replace(self, args=args, kwargs=kwargs, leaves=leaves)


def bind_inputs(model: nn.Module, inputs: Any) -> ModelInputs:
    """Bind `inputs` to ``model.forward``.

    Parameters
    ----------
    model
        The module to be called.
    inputs
        A mapping from argument name to value (a processor's output as it is), or a sequence of
        positional arguments, or a single tensor or object (a batch with tensors as attributes).
        Values may be nested, NumPy arrays and tables are converted, and other values are passed as
        they are. A table of pandas or Polars, or a row of one, may be all of the inputs.

    Raises
    ------
    InputError
        When an argument is unknown or missing, no tensor is given, or a tensor is empty.
    """
    with _reading():
        return _bound(model, inputs)


@contextmanager
def _reading() -> Iterator[None]:
    """Within, what inputs of the user's own kinds raise when they are opened is told as theirs."""
    try:
        with blaming("reading inputs"):
            yield
    except InputError as error:
        if isinstance(error.__cause__, RecursionError):
            raise InputError(
                "inputs hold themselves, or are nested too deeply to be followed."
            ) from error
        raise


def _bound(model: nn.Module, inputs: Any) -> ModelInputs:
    inputs, columns = tables_as_tensors(model, inputs)
    if isinstance(inputs, (Tensor, np.ndarray)) or _is_batch(inputs):
        inputs = (inputs,)
    if isinstance(inputs, Mapping):
        args: tuple[Any, ...] = ()
        kwargs = {str(k): _plain(v) for k, v in inputs.items()}
    elif isinstance(inputs, Sequence) and not isinstance(inputs, (str, bytes)):
        args, kwargs = tuple(_plain(v) for v in inputs), {}
    else:
        raise InputError(
            f"inputs must be a mapping of argument names to tensors or a tuple of positional "
            f"arguments, got {type(inputs).__name__}."
        )
    kwargs = _in_signature_order(model, kwargs)
    names, leaves = _tensor_leaves(_named(model, args, kwargs))
    if not leaves:
        raise InputError(
            f"inputs hold no tensor. {type(model).__name__}.forward takes: {_signature(model)}. Make "
            f"tensors of numbers (torch.tensor), and of texts by a tokenizer (return_tensors='pt')."
        )
    _check(model, names, leaves)
    constants = outline((args, kwargs), opens_objects)
    return ModelInputs(args, kwargs, names, leaves, constants, _batch_size(leaves), (), columns)


def tables_as_tensors(model: nn.Module, inputs: Any) -> tuple[Any, Columns]:
    """Inputs without tables, and by argument what the columns of its table are called.

    Raises
    ------
    InputError
        When a table holds something else than numbers.
    """
    if isinstance(inputs, (Tensor, np.ndarray)):
        return inputs, {}
    weight = first_parameter(model, floating=True)
    parameters = [p.name for p in _forward_signature(model).parameters.values() if _is_named(p)]
    with _reading():
        return without_frames(inputs, parameters, None if weight is None else weight.dtype)


def _is_batch(value: Any) -> bool:
    """Whether a value is one object that holds tensors, and no collection of arguments."""
    return not isinstance(value, (Mapping, Sequence)) and opens_objects(value)


def _plain(value: Any) -> Any:
    """Mapping types that pytree does not know (a processor's output) as dicts, arrays as tensors."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        if isinstance(value, np.ma.MaskedArray) and bool(np.ma.getmaskarray(value).any()):
            raise InputError(
                "inputs hold a masked array, of which some numbers are missing: fill them "
                "(numpy.ma.filled) as the model was trained to be given them."
            )
        kind = np.float64 if value.dtype.itemsize > 8 else value.dtype.newbyteorder("=")
        return torch.from_numpy(np.ascontiguousarray(value, dtype=kind))
    if type(value) in (list, tuple):
        return type(value)(map(_plain, value))
    if isinstance(value, UserDict) or type(value) is dict:
        return {k: _plain(v) for k, v in value.items()}
    return value


def _signature(model: nn.Module) -> str:
    return ", ".join(_forward_signature(model).parameters)


def _forward_signature(model: nn.Module) -> inspect.Signature:
    """The names that forward takes, and what it must be given."""

    def bare() -> inspect.Signature:  # without defaults and annotations, which may hold anything
        own = _whole_signature(model)
        needed = inspect.Parameter.empty
        return inspect.Signature(
            [
                inspect.Parameter(p.name, p.kind, default=needed if p.default is needed else None)
                for p in own.parameters.values()
            ]
        )

    return found_once(model, "signature", bare)


def _whole_signature(model: nn.Module) -> inspect.Signature:
    """The signature of forward; of what it passes everything on to, where it says nothing itself.

    A wrapper's forward takes ``*args, **kwargs`` and hands them to the one module in it, and a
    forward that was replaced on the object to the class's own.
    """
    own = _signature_of(model.forward)
    if any(_is_named(parameter) for parameter in own.parameters.values()):
        return own
    if isinstance(model, torch.jit.ScriptModule):
        return own
    unpatched = _signature_of(functools.partial(type(model).forward, model))
    if any(_is_named(parameter) for parameter in unpatched.parameters.values()):
        return unpatched
    # what cannot be called holds weights that its parts share
    children = [c for c in model.children() if type(c).forward is not nn.Module.forward]
    if len(children) == 1 and not next(model.parameters(recurse=False), None):
        return _whole_signature(children[0])
    return own


def _signature_of(forward: Callable[..., Any]) -> inspect.Signature:
    schema = getattr(forward, "schema", None)  # compiled code has this instead
    if schema is None:
        try:
            return inspect.signature(forward)
        except (TypeError, ValueError) as error:  # no function, or one of C's
            raise InputError(
                f"the model's forward is {shown(forward)}, which does not say what it takes ({error}): "
                f"it must be a method that names its arguments."
            ) from error
    return inspect.Signature(
        [
            inspect.Parameter(
                argument.name,
                inspect.Parameter.POSITIONAL_OR_KEYWORD,
                default=argument.default_value if argument.has_default_value() else _REQUIRED,
            )
            for argument in schema.arguments[1:]
        ]
    )


_REQUIRED = inspect.Parameter.empty


def _is_named(parameter: inspect.Parameter) -> bool:
    return parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)


def _in_signature_order(model: nn.Module, kwargs: dict[str, Any]) -> dict[str, Any]:
    order = list(_forward_signature(model).parameters)
    return dict(
        sorted(kwargs.items(), key=lambda kv: order.index(kv[0]) if kv[0] in order else len(order))
    )


def _named(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> list[tuple[str, Any]]:
    """Pairs of argument name and value: the positional ones first, then `kwargs` in their order."""
    signature = _forward_signature(model)
    parameters = signature.parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for name in kwargs:
        if name not in parameters:
            left = [p for p in parameters if p not in kwargs]
            alike = _SLIP if takes_any else _LIKENESS
            close = difflib.get_close_matches(name, left, n=1, cutoff=alike)
            if takes_any and not close:
                continue  # forward passes it on
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise InputError(
                f"{type(model).__name__}.forward takes no argument {name!r}.{hint} "
                f"It takes: {_signature(model)}."
            )
    try:
        signature.bind(*args, **kwargs)
        positional = signature.bind_partial(*args).arguments
    except TypeError as error:
        raise InputError(
            f"inputs do not fit {type(model).__name__}.forward({_signature(model)}): {error}."
        ) from error
    return [*positional.items(), *kwargs.items()]


_LIKENESS = 0.6
"""How alike two names have to be for one to be suggested in the place of the other."""

_SLIP = 0.8
"""The same where any name may be meant: `pixel_values` is no slip for `past_key_values` (0.67)."""


def _tensor_leaves(named: list[tuple[str, Any]]) -> tuple[tuple[str, ...], tuple[Tensor, ...]]:
    """Names and tensors in the order of the call, which is the order that `rebuild` uses."""
    names: list[str] = []
    leaves: list[Tensor] = []
    for name, value in named:
        for path, leaf in leaves_of(value, opens_objects, name):
            if isinstance(leaf, Tensor):
                names.append(path)
                leaves.append(leaf)
    return tuple(names), tuple(leaves)


def _batch_size(leaves: Sequence[Tensor]) -> int:
    sizes = [leaf.shape[0] for leaf in leaves if leaf.dim()]
    return max(sizes, key=sizes.count) if sizes else 1


def on_axis(inputs: ModelInputs, axis: int | Mapping[str, int]) -> ModelInputs:
    """`inputs` with the samples along the axis that the user says: one for all, or one by name.

    Said for all, it is that of the inputs that have as many samples there as the first that has such
    an axis; the others (a mask) have them along their first axis of that size.

    Raises
    ------
    InputError
        When a name is none of the inputs', an input has no such axis, or the sizes differ.
    """
    said = axis.values() if isinstance(axis, Mapping) else [axis]
    if not all(whole().fits(a) for a in said):
        raise InputError(
            f"batch_axis={shown(axis)} must be a whole number, or one for each input's name."
        )
    given = axis if isinstance(axis, Mapping) else dict.fromkeys(inputs.names, axis)
    shapes = {n: leaf.shape for n, leaf in zip(inputs.names, inputs.leaves, strict=True)}
    for name in given:
        if name not in shapes:
            raise InputError(
                f"batch_axis= names {shown(name)}; the inputs are: {', '.join(shapes)}."
            )
    fits = {n: -len(shapes[n]) <= a < len(shapes[n]) for n, a in given.items()}
    sizes = [shapes[n][a] for n, a in given.items() if fits[n]]
    by_name = isinstance(axis, Mapping)
    if not sizes or (by_name and (not all(fits.values()) or len(set(sizes)) > 1)):
        described = ", ".join(f"{n} {tuple(shapes[n])}" for n in given)
        raise InputError(
            f"batch_axis={axis!r} does not fit the inputs' shapes ({described}): it is the axis of "
            f"the samples, of the same size in every input that has one."
        )
    axes = [
        given[name] % len(shape)
        if name in given and fits[name] and shape[given[name]] == sizes[0]
        else None
        for name, shape in shapes.items()
    ]
    return inputs.along(axes, sizes[0])


def _check(model: nn.Module, names: Sequence[str], leaves: Sequence[Tensor]) -> None:
    found_once(model, "weights", lambda: _check_weights(model))
    parameter = first_parameter(model)
    for name, leaf in zip(names, leaves, strict=True):
        if leaf.is_nested:
            raise InputError(
                f"input {name!r} is a nested tensor, which no capture can follow. Pad it: "
                f"torch.nested.to_padded_tensor(inputs[{name!r}], 0.0), with a mask beside it."
            )
        if leaf.layout is not torch.strided:
            raise InputError(
                f"input {name!r} has the layout {leaf.layout}, which no capture can follow. Make it "
                f"dense: inputs[{name!r}].to_dense()."
            )
        if leaf.untyped_storage().nbytes() == 0 and leaf.numel() and not leaf.is_meta:
            raise InputError(f"input {name!r} holds no values: its memory was freed.")
        if leaf.numel() == 0:
            raise InputError(
                f"input {name!r} is empty: its shape is {tuple(leaf.shape)}. "
                f"Every axis, the batch first, needs at least one element."
            )
        if parameter is not None and leaf.device != parameter.device:
            raise InputError(
                f"input {name!r} is on {leaf.device}, the model on {parameter.device}. "
                f"Move it: inputs[{name!r}].to({str(parameter.device)!r})."
            )


def _check_weights(model: nn.Module) -> bool:
    """Weights that do not exist (yet) cannot be explained; True where all do."""
    for name, parameter in tensors_of(model)[0].items():
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise InputError(
                f"parameter {name!r} is not made yet: it is lazy. Call the model once on such inputs, "
                f"then explain it."
            )
        if parameter.is_meta:
            raise InputError(
                f"parameter {name!r} is on the meta device, so it has a shape but no values. Load the "
                f"model's weights, then explain it."
            )
    return True
