"""Highest: the classes of an output that stand highest, beside the explained one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fxplain.explanation.output_fields import named_outputs
from fxplain.explanation.target import Contrast

if TYPE_CHECKING:
    from fxplain.explanation.explanation import Explanation

__all__ = ["HighClass", "Highest", "highest", "namer_of"]

MOST_CLASSES = 5


@dataclass(frozen=True)
class HighClass:
    """One class.

    Attributes
    ----------
    index
        Its place in the output.
    value
        The output's number; None of a masked class.
    share
        How probable the model finds it, as far as the number tells.
    target
        Whether it is the explained one.
    name
        What config or tokenizer call it; empty where neither does.
    """

    index: int
    value: float | None
    share: float
    target: bool
    name: str = ""


@dataclass(frozen=True)
class Highest:
    """The highest numbers beside one sample's explained number, and that number.

    Attributes
    ----------
    field
        The output's name.
    classes
        How many classes there are.
    shares
        How their shares were found: "softmax", "sigmoid", or "probability" of an output of shares.
    rows
        The highest ones, highest first, then what is explained where it is none of them.
    """

    field: str
    classes: int
    shares: str
    rows: tuple[HighClass, ...]


def highest(explanation: Explanation, sample: int) -> Highest | None:
    """The highest classes beside a sample's explained one.

    Returns
    -------
    Highest or None
        None where the target is a function or a sum, or a file tells nothing of it.
    """
    if explanation.highest:
        return explanation.highest[sample]
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
    order = row.topk(min(MOST_CLASSES, len(row))).indices.tolist()
    wanted = [index[-1]]
    if isinstance(target, Contrast):
        wanted.append(target.b[-1] if isinstance(target.b, tuple) else target.b)
    order += [i for i in wanted if i not in order]
    name_of = explanation.class_name or (lambda _: "")
    return Highest(
        field,
        len(row),
        "probability" if given else "softmax" if explanation.compete else "sigmoid",
        tuple(
            HighClass(
                i, _finite(row[i]), _finite(shares[i]) or 0.0, i == index[-1], str(name_of(i))
            )
            for i in order
        ),
    )


@dataclass(frozen=True)
class _Names:
    """Names by class; no closure, for an explanation takes them along to other processes."""

    names: Mapping[int, str]

    def __call__(self, number: int) -> str:
        return self.names.get(number, "")


def namer_of(kept: tuple[Highest | None, ...]) -> Callable[[int], str] | None:
    """What the classes are called that were kept; None where none has a name."""
    rows = (row for own in kept if own is not None for row in own.rows)
    names = {row.index: row.name for row in rows if row.name}
    return _Names(names) if names else None


def _explained_row(
    explanation: Explanation, sample: int, index: tuple[int, ...]
) -> tuple[str, Tensor | None]:
    """The output's row that holds the explained number: told by its shape and that number."""
    target = explanation.target[sample]
    score = explanation.scores[sample].double().cpu()
    for name, leaf in named_outputs(explanation.output):
        if leaf.dim() != len(index) + 1 or len(leaf) != explanation.batch_size:
            continue
        own = leaf[sample].detach()
        value = _at(own, index)
        if isinstance(target, Contrast) and value is not None:
            other = _at(own, target.b if isinstance(target.b, tuple) else (target.b,))
            value = None if other is None else value - other
        if value is not None and torch.isclose(value, score, rtol=1e-3, atol=1e-6):
            return name, own[index[:-1]].double().cpu()
    return "", None


def _at(values: Tensor, index: tuple[int, ...]) -> Tensor | None:
    """One number, in double precision; None where there is no such place."""
    inside = all(-size <= i < size for i, size in zip(index, values.shape, strict=True))
    return values[index].double().cpu() if inside else None


def _finite(value: Tensor) -> float | None:
    """The number, or None for a masked class."""
    return float(value) if bool(value.isfinite()) else None


def _are_shares(row: Tensor) -> bool:
    """Whether the numbers are probabilities already."""
    return bool((row >= 0).all()) and abs(float(row.sum()) - 1) < 1e-3
