"""Several: many targets of one forward, as many at a time as one batch of backward passes pays for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from fxplain.explanation import reading
from fxplain.explanation.plan import Plan
from fxplain.explanation.reading import View
from fxplain.methods import Evidence, Relevancies, RelevancyRows, RowShare, Starts, starts_of

__all__ = ["each_read"]

Read = tuple[list[View], dict[int, Tensor] | None]
"""The views of a target, and their rows where these are read already."""

OUTPUTS, WEIGHTS = 2**20, 2**21
"""How many numbers of all nodes' outputs, and weights of one node, are worth being made at once.

Larger ones keep a processor busy by themselves: together they take as long, and more memory.
"""


def each_read(plans: Sequence[Plan]) -> Iterator[Read]:
    """What is read of each target in turn, some of them at a time."""
    size = _together(plans)
    at = 0
    while at < len(plans):
        chunk = plans[at : at + size]
        read = _at_once(chunk) if len(chunk) > 1 else None
        if read is None:
            size, chunk = 1, chunk[:1]
        at += len(chunk)
        yield from read or [(chunk[0].views(more=at < len(plans)), None)]


def _together(plans: Sequence[Plan]) -> int:
    """How many targets to take at a time."""
    passes, program = plans[0].passes, plans[0].program
    if passes.recompute or not passes.needs.ahead or passes.reads_weights_twice:
        return 1
    if _NOT_BATCHED in program.memo or any(plan.engine == "matrices" for plan in plans):
        return 1
    outputs, weights = passes.sizes
    return max(1, min(OUTPUTS // outputs, WEIGHTS // weights))


_NOT_BATCHED = "targets one by one"


def _at_once(plans: Sequence[Plan]) -> list[Read] | None:
    """The readouts' rows of some targets; None where they cannot be read together."""
    first = plans[0]
    scores = first.method.score(first.passes.promised(), first.options)
    if not isinstance(scores, Relevancies) or not scores.by_rows:
        return None
    views = [
        [View.of(plan.program, scores, r, i) for i, r in enumerate(plan.resolved.readouts)]
        for plan in plans
    ]
    shares = [reading.joint_shares(own) for own in views]
    known = [own for own in shares if own is not None]
    if len(known) < len(plans) or any(plan.share_tokens() for plan in plans):
        return None
    try:
        rows = _rows(plans, known)
    except RuntimeError:  # an operation that looks at numbers, or takes no batch of gradients
        first.program.memo.made(_NOT_BATCHED, lambda: True)
        return None
    if rows is None:
        return None
    return [(own, {column: x[i] for column, x in rows.items()}) for i, own in enumerate(views)]


def _rows(plans: Sequence[Plan], shares: Sequence[Sequence[RowShare]]) -> dict[int, Tensor] | None:
    """The rows of all targets, (targets, batch, tokens) by column stream."""
    first = plans[0]
    each = [starts_of(first.program, own) for own in shares]
    keys = dict.fromkeys(key for own in each for key in own)
    values: Starts = {}
    for key in keys:
        like = next(own[key] for own in each if key in own)
        values[key] = torch.stack([own.get(key, torch.zeros_like(like)) for own in each])
    starts = {key: (of_targets != 0).any(0) for key, of_targets in values.items()}

    def read(evidence: Evidence, own: Starts) -> dict[int, Tensor]:
        scores = first.method.score(evidence, first.options)
        assert isinstance(scores, Relevancies)
        rows = RelevancyRows(scores)
        zeros = scores.zeros(0)
        rows.begin_at(starts, {key: value.to(zeros) for key, value in own.items()})
        rows.advance()
        return rows.result()

    return first.passes.of_several([plan.resolved for plan in plans], read, values)
