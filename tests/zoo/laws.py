"""Cheap laws that an explanation of any model must keep, whatever the model is.

Each compares two things that must agree by definition; none knows what is right for one model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

import fxplain
from fxplain.explanation import Explanation, read_places
from fxplain.explanation.detection import program_of
from fxplain.program import Program, ProgramNode
from tests.zoo.case import Inputs

__all__ = ["broken_laws", "explained", "unlike_weights"]

TOLERANCE = 1e-4


def explained(model: nn.Module, inputs: Inputs, target: Any = None) -> Explanation:
    """The explanation that is looked at: of a target, the prediction, or an output's first number.

    A sequence of patches or frames has no position that one would explain unasked, and a loss, which
    a model returns before its predictions, belongs to no sample.
    """
    try:
        return fxplain.explain(model, inputs, target=target)
    except fxplain.TargetError:
        _, captured, program = program_of(model, inputs)
        shapes, tags = program.flow.shapes, program.flow.outputs
        chosen = next(i for i, shape in enumerate(shapes) if shape and tags[i])
        first = (0,) * (len(shapes[chosen]) - 1)
        name = captured.output.names[chosen]
        chosen_target = first or None if target is None else target
        return fxplain.explain(model, inputs, target=chosen_target, output=name or None)


def broken_laws(
    model: nn.Module, inputs: Inputs, explanation: Explanation, weights: Mapping[str, Tensor]
) -> list[str]:
    """What does not agree, in words.

    Parameters
    ----------
    model, inputs
        What was explained.
    explanation
        Its explanation.
    weights
        The attention weights by node, as the library gives them.
    """
    _, _, program = program_of(model, inputs)
    return [
        *_unlike_matrix(explanation),
        *_unlike_input(explanation, inputs),
        *_read_padding(model, explanation, inputs),
        *(
            broken
            for node in program.nodes.values()
            for broken in unlike_weights(program, node, weights[node.info.name])
        ),
    ]


def _unlike_matrix(explanation: Explanation) -> Iterator[str]:
    """The row of the matrix at the token that is read is the relevance."""
    for sample, readout in enumerate(explanation.readout):
        rows = _rows_read(readout)
        if rows is None or any(name not in explanation.relevance for name, _ in rows):
            continue
        for b, values in explanation.relevance.items():
            read = [explanation.matrix(a, b)[sample, list(places)].mean(0) for a, places in rows]
            row = torch.stack(read).sum(0)
            off = float((row - values[sample]).abs().max())
            if off > TOLERANCE * float(values[sample].abs().max().clamp(min=1e-2)):
                yield f"the matrix's row over {b} at {readout} is off by {off:.1e}"


def _rows_read(readout: str) -> list[tuple[str, set[int]]] | None:
    """The tokens of each part of a readout; None where what it reads has no row of its own.

    What a token is read with is in its row.
    """
    parts = []
    for part in readout.split(" and "):
        part = part.split(" with ")[0]
        found = re.fullmatch(r"(?:mean of )?([^\s,\[\]]+)\[([\d., ]+)\]", part)
        if found is None:
            return None
        parts.append((found[1], read_places(part, found[1])))
    return parts


def _unlike_input(explanation: Explanation, inputs: Inputs) -> Iterator[str]:
    """Ids have one number of relevance each."""
    for name, values in explanation.relevance.items():
        given = inputs.get(name)
        if not isinstance(given, Tensor) or given.is_floating_point() or given.dim() != 2:
            continue
        numbers = values.shape[1] - len(explanation.special.get(name, ()))
        if len(values) == len(given) and numbers != given.shape[1]:
            yield f"{numbers} numbers for the {given.shape[1]} ids of {name}"


def _read_padding(model: nn.Module, explanation: Explanation, inputs: Inputs) -> Iterator[str]:
    """What a mask hides has no relevance, unless it is read itself or by the model nonetheless."""
    for name, values in explanation.relevance.items():
        mask = inputs.get(_mask_name(name))
        if not isinstance(mask, Tensor) or mask.shape != values.shape:
            continue
        for sample, readout in enumerate(explanation.readout):
            if (
                " and " in readout
            ):  # the text that an image is compared with may be another sample's
                continue
            hidden = (mask[sample] == 0).nonzero().flatten().tolist()
            hidden = [place for place in hidden if place not in read_places(readout, name)]
            least = TOLERANCE * float(values[sample].abs().max())
            credited = [place for place in hidden if abs(float(values[sample, place])) > least]
            ghosts = [
                p for p in credited if not _depends(model, inputs, explanation, name, sample, p)
            ]
            if ghosts:
                most = max(abs(float(values[sample, place])) for place in ghosts)
                yield f"padding of {name} has relevance {most:.1e} in sample {sample}"


def _depends(
    model: nn.Module, inputs: Inputs, explanation: Explanation, name: str, sample: int, place: int
) -> bool:
    """Whether the explained number is another one with another id at a place: the model reads it."""
    given = inputs.get(name)
    if not isinstance(given, Tensor) or given.is_floating_point():
        return False
    changed = given.clone()
    changed[sample, place] = given[sample, place] + 1 if given[sample, place] == 0 else 0
    again = explained(model, {**inputs, name: changed}, list(explanation.target))
    moved = (again.scores - explanation.scores)[sample].abs()
    return bool(moved > 1e-6 * explanation.scores[sample].abs().clamp(min=1e-3))


def _mask_name(modality: str) -> str:
    if modality.endswith("input_ids"):
        return f"{modality.removesuffix('input_ids')}attention_mask"
    return "attention_mask"


def unlike_weights(program: Program, node: ProgramNode, weights: Tensor) -> Iterator[str]:
    """The map of a query, averaged over heads, sums to what its weights sum to: 1, or less."""
    weights = weights.float()
    sums, whole = _sums_of_map(program, node, weights)
    most, least = float(sums.max()), float(sums.min())
    if most > max(1.0, float(weights.sum(-1).max())) + 1e-3:
        yield f"{node.info.name}: a query's map sums to {most:.3g}"
    elif whole and least < 1 - 1e-3:
        yield f"{node.info.name}: a query's map sums to {least:.3g}"


def _sums_of_map(program: Program, node: ProgramNode, weights: Tensor) -> tuple[Tensor, bool]:
    """By query token, and whether all weights sum to 1 by query and belong to tokens."""
    groups = node.layout.mean_over_heads(node.layout.split(weights)) * node.layout.siblings
    stream = program.streams[node.stream]
    total = torch.zeros(stream.batch, len(stream))
    covered = torch.zeros(groups.shape[0], groups.shape[2], dtype=torch.bool)
    for block in node.blocks:
        columns = program.streams[block.stream]
        sizes = (max(stream.batch, columns.batch), len(stream), len(columns))
        total = total + node.dense(groups, block, sizes).sum(-1)
        covered |= block.columns.expand(covered.shape) >= 0
    queries = torch.zeros_like(total, dtype=torch.bool)
    real = node.rows >= 0
    samples = node.samples.unsqueeze(1).expand(node.rows.shape)
    queries[samples[real], node.rows[real]] = True
    whole = bool(covered.all()) and bool(((weights.sum(-1) - 1).abs() < 1e-3).all())
    return total[queries], whole
