"""A node's arguments by their schema names."""

from __future__ import annotations

from typing import Any

from torch import fx

__all__ = ["arguments"]


def arguments(node: fx.Node) -> dict[str, Any]:
    """Arguments of an ATen call by name, defaults included; "self" is called "input"."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        named = {str(i): value for i, value in enumerate(node.args)}
        return {**named, **node.kwargs}
    named = {a.name: a.default_value if a.has_default_value() else None for a in schema.arguments}
    named.update(zip(named, node.args, strict=False))
    named.update(node.kwargs)
    if "self" in named:
        named = {"input" if k == "self" else k: v for k, v in named.items()}
    return named
