"""Outputs: the numbers beside the explained one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fxplain.arguments import blaming
from fxplain.explanation import Contrast, Explanation
from fxplain.views.boxes import named_outputs

__all__ = [
    "ClassNames", "explained_text", "name_of", "target_text", "top_classes",
]  # fmt: skip

ClassNames = Sequence[str] | Mapping[int, str] | Callable[[int], str]
"""What classes are called: by place, by index, or by asking."""

MOST_CLASSES = 5


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
    """The highest numbers beside the explained one, with softmax shares.

    Returns
    -------
    dict or None
        None where the target is a function or the output was not kept (a loaded explanation).
    """
    target = explanation.target[sample]
    chosen = target.a if isinstance(target, Contrast) else target
    index = chosen if isinstance(chosen, tuple) else (chosen,)
    if not index or not all(isinstance(i, int) for i in index):
        return None
    field, row = _explained_row(explanation, sample, index)
    if row is None or len(row) < 2:
        return None
    given = _are_shares(row)
    shares = row if given else row.softmax(-1) if explanation.compete else row.sigmoid()
    order = row.argsort(descending=True)[:MOST_CLASSES].tolist()
    wanted = [index[-1]]
    if isinstance(target, Contrast):
        wanted.append(target.b[-1] if isinstance(target.b, tuple) else target.b)
    order += [i for i in wanted if i not in order]
    return {
        "field": field,
        "classes": len(row),
        "shares": "probability" if given else "softmax" if explanation.compete else "sigmoid",
        "rows": [
            {
                "index": i,
                "name": name_of(i, names),
                "value": _finite(row[i]),
                "share": _finite(shares[i]) or 0.0,
                "target": i == index[-1],
            }
            for i in order
        ],
    }


def _explained_row(
    explanation: Explanation, sample: int, index: tuple[int, ...]
) -> tuple[str, Tensor | None]:
    """The output's row that holds the explained number: told by its shape and that number."""
    target = explanation.target[sample]
    score = explanation.scores[sample].double().cpu()
    for name, leaf in named_outputs(explanation.output):
        if leaf.dim() != len(index) + 1 or len(leaf) != explanation.batch_size:
            continue
        own = leaf[sample].detach().double().cpu()
        value = _at(own, index)
        if isinstance(target, Contrast) and value is not None:
            other = _at(own, target.b if isinstance(target.b, tuple) else (target.b,))
            value = None if other is None else value - other
        if value is not None and torch.isclose(value, score, rtol=1e-3, atol=1e-6):
            return name, own[index[:-1]]
    return "", None


def _at(values: Tensor, index: tuple[int, ...]) -> Tensor | None:
    inside = all(-size <= i < size for i, size in zip(index, values.shape, strict=True))
    return values[index] if inside else None


def _finite(value: Tensor) -> float | None:
    """The number, or None for a masked class."""
    return float(value) if bool(value.isfinite()) else None


def _are_shares(row: Tensor) -> bool:
    """Whether the numbers are probabilities already."""
    return bool((row >= 0).all()) and abs(float(row.sum()) - 1) < 1e-3
