"""The data set: any iterable of inputs, as batches of samples with their targets and masks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from fxplain.arguments import MAPPING, Form, as_numbers, blaming, shown, whole
from fxplain.capture import leaves_of, opens_objects
from fxplain.errors import EvaluationError, InputError
from fxplain.removal import are_divisible, named_inputs, with_rows

__all__ = ["Batch", "Example", "batches", "count_samples"]


def _is_label(value: Any) -> bool:
    parts = value if isinstance(value, tuple) and value else (value,)
    return value is None or isinstance(value, str) or all(map(whole().fits, map(_number, parts)))


def _number(value: Any) -> Any:
    return int(value) if isinstance(value, (bool, np.bool_)) else value


_GROUP = Form(
    "a name, a number, or None",
    lambda value: value is None or isinstance(value, (str, int, float)),
    EvaluationError,
)
_MASKS = Form("masks by modality, {name: where the evidence is}", MAPPING.fits, EvaluationError)
_LABEL = Form("a class index, a label, or None", _is_label, EvaluationError)


@dataclass(frozen=True)
class Example:
    """One sample, or a batch of them, of a data set that `fxplain.evaluate` reads.

    Attributes
    ----------
    inputs
        What `fxplain.explain` takes: a mapping of argument names, a tuple of positional arguments
        or a tensor; with a batch axis.
    target
        What is explained, unless `fxplain.evaluate` is told something else, and what counts as right:
        a class, a label or an index tuple, one per sample (a list or tensor), or a single one for a
        batch of one. None where it is not known. Or a function of the model's output for this batch,
        as `fxplain.explain` takes it, which nothing is right for; such a batch stays as it is.
    mask
        By modality, where the evidence truly is, bool: (batch, tokens), or (batch, height, width)
        for an image whose tokens lie on a grid.
    group
        The slice of the data that the samples belong to, such as "long" or "from Berlin": one per
        sample (a list), or a single one for all. `Evaluation.by` tells results apart by it.
    """

    inputs: Any
    target: Any = None
    mask: Mapping[str, Tensor] = field(default_factory=dict)
    group: Any = None


@dataclass(frozen=True)
class Batch:
    """Samples that are explained together.

    Attributes
    ----------
    inputs
        By argument name.
    targets
        The true classes, one per sample, or None.
    mask
        By modality, as in `Example`.
    size
        The number of samples.
    first
        The place of the first of them in the data set.
    asked
        Whether the targets are those of an `Example`, which asks for them to be explained.
    groups
        The slice of each sample, None where it is in none.
    function
        What is explained, where that is a function of the output for these samples together.
    """

    inputs: dict[str, Any]
    targets: tuple[Any, ...] | None
    mask: dict[str, Tensor]
    size: int
    first: int = 0
    asked: bool = False
    groups: tuple[Any, ...] = ()
    function: Callable[[Any], Any] | None = None

    @property
    def samples(self) -> range:
        """The samples' places in the data set."""
        return range(self.first, self.first + self.size)


def batches(model: nn.Module, dataset: Iterable[Any], batch_size: int) -> Iterator[Batch]:
    """The data set's samples, in their order, at most `batch_size` at a time.

    Neighbours whose inputs have equal shapes are put together, larger batches are cut.
    """
    first = 0
    waiting: list[Batch] = []
    for item in _items(dataset):
        for batch in _pieces(_as_batch(model, item), batch_size):
            full = sum(b.size for b in waiting) + batch.size > batch_size
            if waiting and (full or _form(waiting[0]) != _form(batch)):
                yield replace(_joined(waiting), first=first)
                first += sum(b.size for b in waiting)
                waiting = []
            waiting.append(batch)
    if waiting:
        yield replace(_joined(waiting), first=first)


def _items(dataset: Any) -> Iterable[Any]:
    """What a data set yields; one item, or its path, is no data set."""
    lone = (str, bytes, Mapping, Tensor, np.ndarray, np.generic, os.PathLike)
    single = isinstance(dataset, lone)
    if single or (not hasattr(type(dataset), "__iter__") and not hasattr(dataset, "__getitem__")):
        raise EvaluationError(
            f"dataset={shown(dataset)} must be a list of inputs, or anything that yields them: "
            f"[(inputs, true class), ...]."
        )
    return cast("Iterable[Any]", dataset)


def count_samples(model: nn.Module, dataset: Iterable[Any]) -> int | None:
    """The number of samples in a list; None where counting would use the data set up."""
    if not isinstance(dataset, Sequence):
        return None
    return sum(_as_batch(model, item).size for item in dataset)


# ---- one item -----------------------------------------------------------------------------------


def _as_batch(model: nn.Module, item: Any) -> Batch:
    example = _as_example(item)
    inputs = named_inputs(model, example.inputs)
    with blaming("reading an item of the data set"):  # it may hold itself
        leaves = [x for _, x in leaves_of(inputs, opens_objects) if isinstance(x, Tensor)]
    sizes = [x.shape[0] for x in leaves if x.dim()]
    if not sizes:
        raise InputError("an item of the data set holds no tensor with a batch axis.")
    size = max(sizes, key=sizes.count)
    _MASKS.check("mask", example.mask)
    with blaming("reading the mask of an example", EvaluationError):
        mask = {name: as_numbers(m).bool() for name, m in example.mask.items()}
    for name, m in mask.items():
        if m.dim() < 2 or m.shape[0] != size:
            raise InputError(
                f"the mask of {name!r} has shape {tuple(m.shape)}; it must be ({size}, tokens) or "
                f"({size}, height, width)."
            )
    groups = _groups(example.group, size)
    if callable(example.target):
        return Batch(inputs, None, mask, size, asked=True, groups=groups, function=example.target)
    targets = _targets(example.target, size)
    asked = targets is not None and isinstance(item, Example)
    return Batch(inputs, targets, mask, size, asked=asked, groups=groups)


def _groups(group: Any, size: int) -> tuple[Any, ...]:
    groups = tuple(group) if isinstance(group, (list, tuple)) else (group,) * size
    if len(groups) != size:
        raise EvaluationError(f"{len(groups)} groups for a batch of {size}: give one per sample.")
    for name in groups:
        _GROUP.check("a group", name)
    return groups


def _as_example(item: Any) -> Example:
    """An `Example`, an (inputs, target) pair, or inputs, whose "labels" are their target."""
    if isinstance(item, Example):
        return item
    if isinstance(item, (tuple, list)):
        if len(item) != 2:
            raise InputError(
                f"an item of the data set is a {type(item).__name__} of {len(item)}; give inputs, a "
                f"pair (inputs, target) or an fxplain.Example. A model's positional arguments are "
                f"given as Example((a, b, c))."
            )
        return Example(*item)
    if isinstance(item, Mapping):
        with blaming("reading an item of the data set"):
            labels = dict(item).get("labels")
        if isinstance(labels, Tensor) and labels.dim() == 1 and not labels.is_floating_point():
            return Example({k: v for k, v in item.items() if k != "labels"}, labels)
    return Example(item)


def _targets(target: Any, size: int) -> tuple[Any, ...] | None:
    if target is None:
        return None
    if isinstance(target, Tensor) and target.is_meta:
        raise EvaluationError("the true classes are on the meta device: they have no values.")
    if isinstance(target, (Tensor, np.ndarray)):
        with blaming("reading the true classes", EvaluationError):
            target = target.tolist()
    if isinstance(target, list):
        targets = tuple(tuple(t) if isinstance(t, list) else t for t in target)
    else:
        targets = (target,) if size == 1 or not isinstance(target, tuple) else target
    if len(targets) != size:
        raise EvaluationError(f"{len(targets)} targets for a batch of {size}: give one per sample.")
    for label in targets:
        _LABEL.check("a true class", label)
    return targets


# ---- cutting and joining ------------------------------------------------------------------------


def _pieces(batch: Batch, most: int) -> Iterator[Batch]:
    if batch.size <= most or not _is_divisible(batch):
        yield batch
        return
    for rows in torch.arange(batch.size).split(most):
        yield Batch(
            {k: with_rows(v, batch.size, rows) for k, v in batch.inputs.items()},
            batch.targets and tuple(batch.targets[i] for i in rows.tolist()),
            {k: m[rows] for k, m in batch.mask.items()},
            len(rows),
            asked=batch.asked,
            groups=tuple(batch.groups[i] for i in rows.tolist()),
        )


def _is_divisible(batch: Batch) -> bool:
    """Whether its samples may stand in other batches."""
    return batch.function is None and are_divisible(batch.inputs, batch.size)


def _form(batch: Batch) -> Any:
    """What batches must have in common to be joined; nothing equals an indivisible one's."""
    if not _is_divisible(batch):
        return object()
    leaves, structure = pytree.tree_flatten(batch.inputs)
    return (
        [(x.shape[1:], x.dtype, x.device) if isinstance(x, Tensor) else x for x in leaves],
        structure,
        batch.targets is None,
        batch.asked,
        {name: m.shape[1:] for name, m in batch.mask.items()},
    )


def _joined(parts: Sequence[Batch]) -> Batch:
    if len(parts) == 1:
        return parts[0]
    inputs = pytree.tree_map(
        lambda *xs: torch.cat(xs) if isinstance(xs[0], Tensor) else xs[0],
        *(part.inputs for part in parts),
    )
    return Batch(
        inputs,
        None if parts[0].targets is None else sum((part.targets or () for part in parts), ()),
        {name: torch.cat([part.mask[name] for part in parts]) for name in parts[0].mask},
        sum(part.size for part in parts),
        asked=parts[0].asked,
        groups=sum((part.groups for part in parts), ()),
    )
