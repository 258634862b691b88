"""Nested values: the tensors in them, their paths, and the same value with other tensors.

Lists, tuples, mappings and whatever torch's pytree knows are opened, and so are dataclasses and
other objects that hold state (a cache of keys and values, a graph with attributes).
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

__all__ = ["holds_state", "is_container", "leaves_of", "opens_objects", "outline", "with_leaves"]

Parts = tuple[list[tuple[str, Any]], Callable[[list[Any]], Any]]
"""Names and values of the parts, and how to build the whole from other values."""


def holds_state(value: Any) -> bool:
    """Whether a value is an object with attributes of its own: no code, nothing of torch's."""
    if isinstance(value, type) or callable(value) or not hasattr(value, "__dict__"):
        return False
    return type(value).__module__.split(".")[0] not in ("torch", "builtins")


def is_container(value: Any) -> bool:
    """Whether a value is made to hold others, and no object that happens to hold some."""
    return isinstance(value, (Mapping, list, tuple)) or _is_dataclass(value)


def opens_objects(value: Any) -> bool:
    """Containers and objects with state: how a model's arguments are opened."""
    return is_container(value) or (
        holds_state(value) and not isinstance(value, (Tensor, nn.Module, torch.Generator))
    )


def leaves_of(
    value: Any, opened: Callable[[Any], bool] = is_container, path: str = ""
) -> Iterator[tuple[str, Any]]:
    """Path and value of every leaf, in order; `opened` says which values have parts.

    Examples
    --------
    >>> [path for path, _ in leaves_of({"a": [1, 2], "b": {"c": None}})]
    ['.a[0]', '.a[1]', '.b.c']
    """
    found: list[tuple[str, Any]] = []
    _visit(value, lambda path, leaf: found.append((path, leaf)), opened, path, ())
    yield from found


def with_leaves(
    value: Any, leaf: Callable[[Any], Any], opened: Callable[[Any], bool] = is_container
) -> Any:
    """The same structure with ``leaf(x)`` in the place of each leaf x, in the order of `leaves_of`."""
    return _visit(value, lambda _, part: leaf(part), opened, "", ())


def outline(value: Any, opened: Callable[[Any], bool] = is_container, depth: int = 0) -> str:
    """The structure and what is no tensor in it, as text: equal where only tensors differ."""
    if not opened(value) or depth > 20:
        return "*" if isinstance(value, Tensor) else repr(value)
    parts = ", ".join(
        f"{name}={outline(part, opened, depth + 1)}" for name, part in _parts(value)[0]
    )
    return f"{type(value).__qualname__}({parts})"


def _visit(
    value: Any,
    leaf: Callable[[str, Any], Any],
    opened: Callable[[Any], bool],
    path: str,
    inside: tuple[int, ...],
) -> Any:
    """Rebuild `value` from what `leaf` makes of its leaves; an object inside itself is a leaf."""
    if not opened(value) or id(value) in inside:
        return leaf(path, value)
    parts, build = _parts(value)
    inside = (*inside, id(value))
    return build([_visit(part, leaf, opened, path + name, inside) for name, part in parts])


def _is_dataclass(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _parts(value: Any) -> Parts:
    if type(value) in pytree.SUPPORTED_NODES and is_container(value):
        return _known(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        named = [(f".{name}", part) for name, part in zip(value._fields, value, strict=True)]
        return named, lambda new: type(value)(*new)
    if isinstance(value, (list, tuple)):
        return [(f"[{i}]", part) for i, part in enumerate(value)], _sequence(type(value))
    if isinstance(value, Mapping):
        return [(_key(k), v) for k, v in value.items()], lambda new: dict(
            zip(value, new, strict=True)
        )
    state = vars(value)
    return [(f".{name}", part) for name, part in state.items()], lambda new: _copied(
        value, dict(zip(state, new, strict=True))
    )


def _known(value: Any) -> Parts:
    """A type that is registered with pytree: tuples, dicts, a model's output classes."""
    node = pytree.SUPPORTED_NODES[type(value)]
    children, context = node.flatten_fn(value)
    names = [f"[{i}]" for i in range(len(children))]
    if isinstance(value, Mapping):
        names = [_key(key) for key in value]
    elif hasattr(value, "_fields"):
        names = [f".{name}" for name in value._fields]
    return list(zip(names, children, strict=True)), lambda new: node.unflatten_fn(new, context)


def _key(key: Any) -> str:
    return f".{key}" if isinstance(key, str) else f"[{key!r}]"


def _sequence(kind: type) -> Callable[[list[Any]], Any]:
    return tuple if issubclass(kind, tuple) else list


def _copied(value: Any, state: dict[str, Any]) -> Any:
    made = copy.copy(value)
    vars(made).update(state)
    return made
