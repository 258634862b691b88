"""Matrices: which of them a page carries, and how exactly."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fxplain.errors import ChangedModelError, InputError
from fxplain.explanation import Explanation
from fxplain.html.numbers import PackedMatrix, pack_matrix, packed_size

__all__ = ["MATRIX_BYTES", "NodeMaps", "attention_maps", "kept_matrices"]

MATRIX_BYTES = 640_000
"""Bytes of a page that its matrices may take by default, so that the page stays under 1 MB."""

TOO_LARGE = (
    "Its map is left out of this page, for its size: to_html(..., matrix_bytes=...) with more bytes "
    "has it."
)
OTHER_AXES = "It has no one map: its attention has other axes than batch, heads, queries and keys."
LOADED = (
    "Its map is not in this page: a loaded explanation holds no model. to_html(..., "
    "attention=fxplain.attention_weights(model, inputs)) has it."
)
NOT_GIVEN = "Its map is not in this page: it was not given in attention=."

_Place = tuple[int, int]  # (explanation, sample)


@dataclass(frozen=True)
class Kept:
    """The matrices that fit a page.

    Attributes
    ----------
    matrices
        By (explanation, sample), the packed matrices by "row modality,column modality" (places).
    left_out
        A sentence for each thing that did not fit.
    size
        Bytes that they take.
    """

    matrices: dict[_Place, dict[str, PackedMatrix]]
    left_out: list[str]
    size: int


def kept_matrices(explanations: Sequence[Explanation], limit: int) -> Kept:
    """The relevancy matrices that fit, the first sample's first.

    With 16 bits where all fit so, else with 8, and what does not fit then is left out, before
    anything of it is computed.
    """
    asked = list(_asked(explanations))
    bits = 16 if sum(packed_size(q, k, 16) for *_, q, k in asked) <= limit else 8
    chosen: list[tuple[int, int, int, int]] = []
    missing: list[tuple[int, int, int, int]] = []
    size = 0
    for which, sample, a, b, rows, columns in asked:
        own = packed_size(rows, columns, bits)
        fits = size + own <= limit
        size += own if fits else 0
        (chosen if fits else missing).append((which, sample, a, b))
    kept: dict[_Place, dict[str, PackedMatrix]] = {}
    for which, a, b in dict.fromkeys((which, a, b) for which, _, a, b in chosen):
        names = explanations[which].modalities
        matrix = explanations[which].matrix(names[a], names[b])
        for sample in [s for w, s, *pair in chosen if (w, pair) == (which, [a, b])]:
            diagonal = torch.eye(len(matrix[sample]), dtype=torch.bool) if a == b else None
            packed = pack_matrix(matrix[sample], bits, diagonal)
            kept.setdefault((which, sample), {})[f"{a},{b}"] = packed
    return Kept(kept, list(_left_out(explanations, missing, limit)), size)


def _asked(
    explanations: Sequence[Explanation],
) -> Iterator[tuple[int, int, int, int, int, int]]:
    """(explanation, sample, row modality, column modality, rows, columns), the small ones first."""
    for sample in range(explanations[0].batch_size):
        for which, explanation in enumerate(explanations):
            if explanation.engine == "tokens" or explanation.matrix_of is None:
                continue
            sizes = [r.shape[1] for r in explanation.relevance.values()]
            pairs = [(a, b) for a in range(len(sizes)) for b in range(len(sizes))]
            for a, b in sorted(pairs, key=lambda pair: math.prod(sizes[m] for m in pair)):
                yield which, sample, a, b, sizes[a], sizes[b]


def _left_out(
    explanations: Sequence[Explanation], missing: list[tuple[int, int, int, int]], limit: int
) -> Iterator[str]:
    names = explanations[0].modalities
    for which, explanation in enumerate(explanations):
        if explanation.matrix_of is None and explanation.engine != "tokens":
            yield f"The matrices ({explanation.method}) were not saved: save(path, matrices=True) does."
        for a in range(len(names)):
            for b in range(len(names)):
                samples = [s for w, s, *pair in missing if (w, pair) == (which, [a, b])]
                if samples:
                    yield (
                        f"The matrix of {names[a]} by {names[b]} ({explanation.method}; "
                        f"{_samples(samples, explanation.batch_size)}) is left out: matrices may take "
                        f"{limit // 1000} KB of this page (matrix_bytes)."
                    )


def _samples(samples: list[int], batch: int) -> str:
    if batch == 1:
        return "the only sample"
    if len(samples) == batch:
        return f"all {batch} samples"
    return f"sample{'s' if samples[1:] else ''} {', '.join(map(str, samples))}"


@dataclass
class NodeMaps:
    """The attention of each node, heads averaged.

    Attributes
    ----------
    maps
        By node, a packed map per sample, or None.
    missing
        By node, why it has no map, or "".
    """

    maps: list[list[PackedMatrix] | None]
    missing: list[str]


def attention_maps(
    explanation: Explanation, given: Mapping[str, Tensor] | None, limit: int
) -> NodeMaps:
    """Each node's attention, as far as it has axes of its own for samples and heads, and fits.

    Parameters
    ----------
    explanation
        Whose nodes; it runs its model once more where nothing is given.
    given
        What `fxplain.attention_weights` returned: (batch, heads, queries, keys) by node name.
    limit
        Bytes that all maps may take. The last nodes, next to what is read out, go first.
    """
    nodes, batch = explanation.graph.nodes, explanation.batch_size
    found = NodeMaps([None] * len(nodes), [""] * len(nodes))
    chosen, size = [], 0
    for i, node in reversed([*enumerate(nodes)]):
        own = batch * packed_size(node.q_len, node.k_len, bits=8)
        if size + own > limit:
            found.missing[i] = TOO_LARGE
        else:
            size += own
            chosen.append(i)
    weights = given
    if given and not _are_maps(given, {node.name for node in nodes}):
        raise InputError(
            "attention= must be what fxplain.attention_weights returned for the same inputs: tensors "
            "by the names of the explanation's attention nodes."
        )
    if weights is None:
        if explanation.asked is None:
            return NodeMaps(found.maps, [LOADED] * len(nodes))
        try:
            weights = explanation.asked.attention({nodes[i].name for i in chosen}) if chosen else {}
        except ChangedModelError as error:
            return NodeMaps(found.maps, [f"Its map is not in this page: {error}"] * len(nodes))
    for i in chosen:
        of_node = weights.get(nodes[i].name)
        if of_node is None:
            found.missing[i] = NOT_GIVEN
        elif of_node.dim() != 4 or len(of_node) != batch or of_node.shape[1] != nodes[i].heads:
            found.missing[i] = OTHER_AXES
        else:
            found.maps[i] = [pack_matrix(sample.float().mean(0), 8) for sample in of_node]
    return found


def _are_maps(given: Mapping[str, Any], names: set[str]) -> bool:
    tensors = all(isinstance(value, Tensor) for value in given.values())
    return tensors and bool(names & given.keys())
