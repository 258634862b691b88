"""Attribution patching: the effects of all cuts from one forward and one backward, to first order.

Nanda, "Attribution Patching: Activation Patching At Industrial Scale", 2023: what a cut does to the
score is about (the value with the cut - the value) . d(score)/d(value).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from fxplain.errors import NoGradientError
from fxplain.explanation.resolved_target import ResolvedTarget
from fxplain.interventions.edits import Edits, Point
from fxplain.interventions.geometry import as_operand
from fxplain.interventions.masks import Masks, by_point
from fxplain.interventions.replacements import Given
from fxplain.interventions.sites import Sites
from fxplain.program import ProgramNode, laid_out

__all__ = ["estimated_effects"]


def estimated_effects(
    given: Given,
    cuts: Sequence[Masks],
    values: Mapping[Point, Mapping[str, Tensor]],
    target: ResolvedTarget,
) -> Tensor:
    """The effect of each cut on each sample's score, (cuts, batch), to first order.

    Raises
    ------
    NoGradientError
        When the score does not depend on what is cut through differentiable operations.
    """
    points = list(dict.fromkeys(point for masks in cuts for point, _ in masks))
    edits = Edits(values=values, wanted=frozenset(points), differentiable=True)
    with torch.enable_grad(), given.capture.own_chance(given.inputs.leaves):
        outputs = given.run(edits)
        leaves, seeds = target.seeds(outputs, None)
        pairs = [(a, b) for a, b in zip(leaves, seeds, strict=True) if a.requires_grad]
        if not pairs:
            raise NoGradientError(
                "the score does not depend on what is cut through differentiable operations: leave "
                "estimate=True out."
            )
        found = torch.autograd.grad(
            [leaf for leaf, _ in pairs],
            [edits.notes[point] for point in points],
            [seed for _, seed in pairs],
            allow_unused=True,
        )
    gradients = dict(zip(points, found, strict=True))
    samples = {point: _samples(point, given.sites) for point in points}
    rows = []
    with torch.no_grad():
        for masks in cuts:
            row = torch.zeros_like(target.scores)
            for point, own in by_point(masks).items():
                gradient = gradients[point]
                if gradient is not None:
                    change = edits.changes[point](own) - edits.notes[point]
                    row += _by_sample(change * gradient, samples[point], len(row))
            rows.append(row)
    return torch.stack(rows)


def _by_sample(product: Tensor, samples: Tensor, count: int) -> Tensor:
    """The sum over each sample's elements."""
    samples = samples.to(product.device).expand(product.shape)
    result = product.new_zeros(count + 1)
    result.index_add_(0, samples.flatten(), product.flatten())
    return result[1:]


def _samples(point: Point, sites: Sites) -> Tensor:
    """One more than the sample of each element of a point's value, 0 of none; it broadcasts to it."""
    kind, name = point
    sample_of = torch.as_tensor(sites.program.token_sample)
    if kind == "birth":
        return _of_tokens(sites.births[int(name)].tokens, sample_of)
    if kind in ("write", "stream"):
        (write,) = (write for write in sites.writes if write.name == name)
        return _of_tokens(write.tokens, sample_of)
    node, *_ = _nodes_at(point, sites)
    groups = node.samples if node.layout.fold is None else node.samples[node.layout.fold]
    rows = laid_out(node, groups.reshape(-1, 1, 1, 1) + 1)
    geometry = sites.geometry[node.index]
    if kind == "output" or node.site.form == "fused":
        assert geometry.rows is not None
        return rows.flatten()[geometry.rows]
    weights = as_operand(node, rows.expand(node.site.shape), geometry.weights_shape)
    if kind == "weights":
        return weights
    assert geometry.scores is not None
    of_scores = torch.zeros(geometry.scores_shape, dtype=torch.int64).flatten()
    of_scores[geometry.scores.cpu().flatten()] = weights.expand(geometry.weights_shape).flatten()
    return of_scores.reshape(geometry.scores_shape)


def _of_tokens(tokens: Tensor, sample_of: Tensor) -> Tensor:
    return torch.where(tokens >= 0, sample_of[tokens.clamp(min=0)] + 1, 0)


def _nodes_at(point: Point, sites: Sites) -> Iterator[ProgramNode]:
    """The attention nodes of which a value is a part."""
    kind, name = point
    for node in sites.program.nodes.values():
        softmax = kind == "scores" and node.site.form != "fused"
        if name == (node.site.softmax.name if softmax else node.info.name):
            yield node
