"""Matrices: which of them a page carries, and how exactly."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from fxplain.explanation import Explanation
from fxplain.html.numbers import PackedMatrix, pack_matrix, packed_size
from fxplain.program import AttentionNode

__all__ = ["MATRIX_BYTES", "attention_maps", "kept_matrices"]

MATRIX_BYTES = 640_000
"""Bytes of a page that its matrices may take by default, so that the page stays under 1 MB."""

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
            packed = pack_matrix(matrix[sample], bits, apart=a == b)
            kept.setdefault((which, sample), {})[f"{a},{b}"] = packed
    return Kept(kept, list(_left_out(explanations, missing, limit)), size)


def _asked(
    explanations: Sequence[Explanation],
) -> Iterator[tuple[int, int, int, int, int, int]]:
    """(explanation, sample, row modality, column modality, rows, columns), the small ones first."""
    for sample in range(explanations[0].batch_size):
        for which, explanation in enumerate(explanations):
            if explanation.engine == "tokens":  # scores of tokens, no matrices
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


def attention_maps(
    nodes: Sequence[AttentionNode], weights: Mapping[str, Tensor], batch: int, limit: int
) -> tuple[list[list[PackedMatrix] | None], list[str]]:
    """Each node's attention, heads averaged, by sample: as far as it has such axes and fits.

    Parameters
    ----------
    nodes
        The graph's.
    weights
        What `fxplain.attention_weights` returned: (batch, heads, queries, keys) by node name.
    batch, limit
        Number of samples, and bytes that all maps may take.

    Returns
    -------
    tuple
        For each node a map per sample, or None; and a sentence on what is left out.
    """
    maps: list[list[PackedMatrix] | None] = []
    unfit = large = size = 0
    for node in nodes:
        of_node = weights.get(node.name)
        maps.append(None)
        if of_node is None:
            continue
        if of_node.dim() != 4 or len(of_node) != batch or of_node.shape[1] != node.heads:
            unfit += 1
            continue
        queries, keys = of_node.shape[-2:]
        own = batch * packed_size(queries, keys, bits=8)
        if size + own > limit:
            large += 1
            continue
        size += own
        maps[-1] = [pack_matrix(sample.float().mean(0), 8) for sample in of_node]
    reasons = ((unfit, "they have other axes than batch, heads, queries, keys"), (large, "size"))
    return maps, [
        f"The attention of {count} node{'' if count == 1 else 's'} is left out: {reason}."
        for count, reason in reasons
        if count
    ]
