"""Targets as people write them: a class, a label, an index tuple, a function, and what joins them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Contrast", "Sum", "Target", "plain_target", "signed_parts", "target_of"]

Target = Any
"""None, an int, a label, a sequence or tensor with one entry per sample, an index tuple, a callable."""


@dataclass(frozen=True)
class Contrast:
    """A contrastive target: why `a` rather than `b`. Explains y_a - y_b.

    Attributes
    ----------
    a, b
        Class indices, labels or index tuples; None for `a` means the prediction.
    """

    a: Any
    b: Any

    def __repr__(self) -> str:
        return f"{self.a} rather than {self.b}"


@dataclass(frozen=True, init=False)
class Sum:
    """Several outputs together: explains y_a + y_b + ..., read from all of their tokens (their mean).

    Attributes
    ----------
    parts
        Class indices, labels or index tuples; of a sequence, tokens at several positions.

    Examples
    --------
    >>> Sum((4, 17), (5, 3))
    (4, 17) + (5, 3)
    """

    parts: tuple[Any, ...]

    def __init__(self, *parts: Any) -> None:
        object.__setattr__(self, "parts", parts)

    def __repr__(self) -> str:
        return " + ".join(map(repr, self.parts))


def signed_parts(target: Any) -> list[tuple[Any, int]]:
    """The outputs that a target adds (1) and takes away (-1).

    Examples
    --------
    >>> signed_parts(Contrast(Sum(1, 2), 5))
    [(1, 1), (2, 1), (5, -1)]
    """
    if isinstance(target, Sum):
        return [part for each in target.parts for part in signed_parts(each)]
    if isinstance(target, Contrast):
        taken = [(part, -sign) for part, sign in signed_parts(target.b)]
        return [*signed_parts(target.a), *taken]
    return [(target, 1)]


def plain_target(target: Any) -> Any:
    """A described target as plain data, for JSON."""
    if isinstance(target, Contrast):
        return {"contrast": [plain_target(target.a), plain_target(target.b)]}
    if isinstance(target, Sum):
        return {"sum": [plain_target(part) for part in target.parts]}
    return list(target) if isinstance(target, tuple) else target


def target_of(plain: Any) -> Any:
    """The target that `plain_target` wrote."""
    if isinstance(plain, dict):
        ((kind, parts),) = plain.items()
        return {"contrast": Contrast, "sum": Sum}[kind](*map(target_of, parts))
    return tuple(plain) if isinstance(plain, list) else plain
