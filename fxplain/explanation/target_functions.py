"""Targets that are functions from the model's output to one number per sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fxplain.arguments import blaming
from fxplain.capture import Capture, ModelInputs
from fxplain.errors import NonFiniteError, TargetError
from fxplain.explanation.outputs import TokenRef, mask_of, positions_at
from fxplain.explanation.resolved_target import ResolvedTarget, Seeds, check_finite, readout_of
from fxplain.program import Program

__all__ = ["of_function"]


def of_function(
    target: Callable[[Any], Any],
    inputs: ModelInputs,
    capture: Capture,
    program: Program,
    outputs: Sequence[Tensor],
) -> ResolvedTarget:
    """Resolve a function from the model's output to one number per sample."""
    given = outputs

    def scored(outputs: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        return _scores_of(target, outputs, inputs, capture)

    leaves, scores = scored(given)
    check_finite(scores)  # before asking where it is read: its gradient is no number either
    floats = [i for i, leaf in enumerate(leaves) if leaf.requires_grad]

    def seeds(outputs: Sequence[Tensor], sample: int | None) -> Seeds:
        held, again = scored(outputs)
        score = again.sum() if sample is None else again[sample]
        wanted = [held[i] for i in floats]
        with blaming(f"the backward of the target function {_name_of(target)!r}", TargetError):
            found: tuple[Tensor | None, ...] = torch.autograd.grad(score, wanted, allow_unused=True)
        gradients = [
            torch.zeros_like(leaf) if g is None else g
            for leaf, g in zip(wanted, found, strict=True)
        ]
        if not all(bool(gradient.isfinite().all()) for gradient in gradients):
            raise NonFiniteError(
                f"the gradient of the target function {_name_of(target)!r} is infinite or NaN, as "
                f"that of a root or a norm is at 0: add a small number under it."
            )
        return [outputs[i] for i in floats], gradients

    readouts = []
    read: dict[int, None] = {}
    for sample in range(len(scores)):
        groups: list[tuple[TokenRef, ...]] = []
        for i, gradient in zip(floats, seeds(given, sample)[1], strict=True):
            mask = mask_of(gradient, sample, 1)
            if mask.any():
                read[i] = None
                groups += [tuple(g) for g in positions_at(program, i, mask)]
        readouts.append(readout_of(program, groups, sample))
    name = _name_of(target)
    described = (name,) * len(scores)
    return ResolvedTarget(
        described,
        scores.detach(),
        tuple(readouts),
        seeds,
        tuple(read),
        lambda outputs: scored(outputs)[1].detach(),
    )


def _scores_of(
    target: Callable[[Any], Any],
    outputs: Sequence[Tensor],
    inputs: ModelInputs,
    capture: Capture,
) -> tuple[list[Tensor], Tensor]:
    """The outputs as leaves, and one number per sample computed from them."""
    leaves = [
        o.detach().requires_grad_() if o.is_floating_point() or o.is_complex() else o
        for o in outputs
    ]
    name = _name_of(target)
    before = [leaf._version for leaf in leaves]
    said = f"the target function {name!r}, given the model's output,"
    with blaming(said, TargetError), torch.enable_grad(), capture.autocast.again():
        scores: Any = target(capture.output.rebuild(leaves))
        if isinstance(scores, (list, tuple)) and len(scores) == inputs.batch_size:
            scores = torch.stack([torch.as_tensor(s) for s in scores])
    if before != [leaf._version for leaf in leaves]:
        raise TargetError(
            f"the target function {name!r} writes into the model's output, which others read too; "
            f"it must work on a copy, such as output.clone()."
        )
    if not isinstance(scores, Tensor) or scores.layout is not torch.strided or scores.is_meta:
        what = f"a {type(scores).__name__}"
        if isinstance(scores, Tensor):
            what = "a tensor on the meta device" if scores.is_meta else "a sparse or nested tensor"
        raise TargetError(
            f"the target function {name!r} returned {what}; it must return a tensor with one number "
            f"per sample, shape ({inputs.batch_size},)."
        )
    returned = tuple(scores.shape)
    scores = scores if scores.dim() else scores.reshape(1)
    if scores.dim() != 1 or len(scores) != inputs.batch_size:
        raise TargetError(
            f"the target function {name!r} returned a tensor of shape {returned}; it "
            f"must return one number per sample, shape ({inputs.batch_size},)."
        )
    if scores.is_complex():
        raise TargetError(
            f"the target function {name!r} returned complex numbers; it must return real ones, "
            f"such as their .abs() or .real."
        )
    if not scores.requires_grad:
        raise TargetError(
            f"the target function {name!r} returned a number that does not depend on the model's "
            f"output through differentiable operations."
        )
    return leaves, scores


def _name_of(target: Callable[[Any], Any]) -> str:
    return str(getattr(target, "__name__", type(target).__name__))
