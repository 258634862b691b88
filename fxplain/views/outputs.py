"""Outputs: the numbers beside the explained one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from fxplain.arguments import blaming
from fxplain.explanation import Contrast, Explanation
from fxplain.explanation.highest import highest

__all__ = [
    "ClassNames", "explained_text", "name_of", "target_text", "top_classes",
]  # fmt: skip

ClassNames = Sequence[str] | Mapping[int, str] | Callable[[int], str]
"""What classes are called: by place, by index, or by asking."""


def name_of(index: int, names: ClassNames | None) -> str:
    """What a class is called, or nothing.

    Examples
    --------
    >>> name_of(1, ["no", "yes"]), name_of(7, {1: "yes"}), name_of(3, str), name_of(0, None)
    ('yes', '', '3', '')
    """
    if names is None:
        return ""
    with blaming(f"class_names, asked for class {index},"):
        if isinstance(names, Mapping):
            return str(names.get(index, ""))
        if callable(names):
            return str(names(index))
        return str(names[index]) if 0 <= index < len(names) else ""


def target_text(target: Any, names: ClassNames | None) -> str:
    """A target in words.

    Examples
    --------
    >>> target_text(3, None), target_text((2, 1), ["cat", "dog"]), target_text(1, ["no", "yes"])
    ('class 3', 'dog (class 1 at position 2)', 'yes (class 1)')
    """
    if isinstance(target, Contrast):
        return f"{target_text(target.a, names)} rather than {target_text(target.b, names)}"
    if isinstance(target, str):
        return target
    index = target if isinstance(target, tuple) else (target,)
    if not index or not all(isinstance(i, int) for i in index):
        return "the output" if not index else str(target)
    place = f" at position {', '.join(map(str, index[:-1]))}" if index[1:] else ""
    name = name_of(index[-1], names)
    text = f"class {index[-1]}{place}"
    return f"{name} ({text})" if name else text


def explained_text(explanation: Explanation, sample: int, names: ClassNames | None) -> str:
    """One sample's target in words: as the explanation calls it, else as its classes are called."""
    target = explanation.target[sample]
    name = explanation.target_names[sample] if explanation.target_names else ""
    if not name:
        return target_text(target, names)
    own = target_text(target, None)
    return name if name == own else f"{name} ({own})"


def top_classes(
    explanation: Explanation, sample: int, names: ClassNames | None
) -> dict[str, Any] | None:
    """The highest numbers beside the explained one, with softmax shares, as plain data.

    Returns
    -------
    dict or None
        None where the target is a function, or it is not known (a file of an older fxplain).
    """
    found = highest(explanation, sample)
    if found is None:
        return None
    rows = [{**asdict(row), "name": name_of(row.index, names)} for row in found.rows]
    return {**asdict(found), "rows": rows}
