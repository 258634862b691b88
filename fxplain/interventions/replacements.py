"""Replacements: what takes the place of a cut value, from a run of a reference or of the inputs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fxplain.capture import Capture, ModelInputs, model_tried
from fxplain.errors import InputError
from fxplain.interventions.edits import Edits, Point
from fxplain.interventions.masks import row_heads, rows_that_ask
from fxplain.interventions.sites import Sites

__all__ = ["Given", "replacements"]


@dataclass(frozen=True, eq=False)
class Given:
    """A batch of inputs with its capture and its sites.

    Attributes
    ----------
    capture, model, inputs, sites
        What runs.
    """

    capture: Capture
    model: nn.Module
    inputs: ModelInputs
    sites: Sites

    def run(self, edits: Edits) -> tuple[Tensor, ...]:
        """The model's outputs."""
        values = self.capture.bind(self.model, self.inputs)
        outputs: tuple[Tensor, ...] = self.sites.graph.forward(*values, edits)
        return tuple(outputs)

    def noted(self, points: Iterable[Point]) -> dict[Point, Tensor]:
        """The values at some points."""
        edits = Edits(wanted=frozenset(points))
        tried = model_tried(self.model, self.inputs)
        with tried, torch.no_grad(), self.capture.own_chance(self.inputs.leaves):
            self.run(edits)
        return edits.notes


def replacements(
    needed: Iterable[tuple[Point, str]], given: Given, reference: Given | None
) -> dict[Point, dict[str, Tensor]]:
    """What takes the place of values, by point and source.

    Raises
    ------
    InputError
        When there is no reference but one is asked for, or it does not fit.
    """
    wanted = [(point, source) for point, source in needed if source in ("mean", "reference")]
    if not wanted:
        return {}
    if reference is None and any(source == "reference" for _, source in wanted):
        raise InputError(
            "a cut puts what the reference has in the place of a value, and there is none: give "
            "reference=, other inputs of the same form."
        )
    found: dict[Point, dict[str, Tensor]] = {}
    source_of_means = reference or given
    noted = source_of_means.noted({point for point, _ in wanted})
    own = noted if reference is None else {}
    if reference is not None and any(source == "mean" for _, source in wanted):
        own = given.noted({point for point, source in wanted if source == "mean"})
    for point, source in wanted:
        if point not in noted:
            raise InputError(_OTHER)
        value = noted[point]
        if source == "mean":
            value = _mean(point, value, source_of_means.sites, own[point], given.sites)
        found.setdefault(point, {})[source] = value
    return found


_OTHER = (
    "the reference runs through other operations than the inputs: it must be of the same form, with "
    "the same sizes where a value of one is put in the place of the other's."
)


def check_sizes(
    given: ModelInputs,
    reference: ModelInputs,
    names: tuple[str, str] = ("the reference", "the inputs"),
    otherwise: str = ", or take the mean (to='mean'), for which any sizes do",
) -> None:
    """Refuse a reference whose values do not fit in the place of the inputs'.

    Parameters
    ----------
    names
        What both are called.
    otherwise
        What can be done beside padding.

    Raises
    ------
    InputError
        With the argument whose size differs.
    """
    for name, leaf, other in zip(given.names, given.leaves, reference.leaves, strict=False):
        if leaf.shape != other.shape:
            raise InputError(
                f"{name!r} of {names[0]} has the shape {tuple(other.shape)}, that of {names[1]} "
                f"{tuple(leaf.shape)}: what is put in another's place must be of one size. Pad one "
                f"of them{otherwise}."
            )


def _mean(point: Point, value: Tensor, of: Sites, own: Tensor, into: Sites) -> Tensor:
    """The mean over samples and tokens, by head and feature, laid out as the own value is."""
    index, size = _features(point, value, of)
    into_index, into_size = _features(point, own, into)
    if size != into_size:
        raise InputError(_OTHER)
    index, into_index = index.to(value.device), into_index.to(value.device)
    flat = value.flatten()
    table = torch.zeros(size + 1, dtype=value.dtype, device=value.device)
    count = table.clone().index_add_(0, index, torch.ones_like(flat))
    table = table.index_add_(0, index, flat) / count.clamp(min=1)
    return table[into_index].reshape(own.shape)


def _features(point: Point, value: Tensor, sites: Sites) -> tuple[Tensor, int]:
    """For each element its head and feature as one number, and how many there are.

    What is of no token has the last number of all, which is no feature.
    """
    heads = _heads_of(point, value, sites)
    axes = [axis for axis in range(value.dim()) if heads.shape[axis] == 1 < value.shape[axis]]
    width = 1
    number = torch.zeros((1,) * value.dim(), dtype=torch.int64)
    for axis in axes:
        shape = [1] * value.dim()
        shape[axis] = value.shape[axis]
        number = number * value.shape[axis] + torch.arange(value.shape[axis]).reshape(shape)
        width *= value.shape[axis]
    size = (int(heads.max()) + 1) * width
    joined = torch.where(heads < 0, size, heads * width + number)
    return joined.expand(value.shape).flatten(), size


def _heads_of(point: Point, value: Tensor, sites: Sites) -> Tensor:
    """The head of each element, 0 where there are none; -1 of no token. Size 1 along features."""
    kind, name = point
    if kind == "output":
        (node,) = (n for n in sites.program.nodes.values() if n.info.name == name)
        heads = row_heads(node, sites.geometry[node.index])
        assert heads is not None
        asking = rows_that_ask(node, sites.geometry[node.index])
        return torch.where(asking, heads, -1)
    if kind == "birth":
        tokens = sites.births[int(name)].tokens
    else:
        (tokens,) = (write.tokens for write in sites.writes if write.name == name)
    tokens = tokens.reshape((1,) * (value.dim() - tokens.dim()) + tuple(tokens.shape))
    return torch.where(tokens >= 0, 0, -1)
