"""What is compared: the model itself, the floor of any gradient method, fxplain, the classic recipe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import fxplain
from benchmarks.models import Case, Inputs

Call = Callable[[], object]


def calls(case: Case, *, quick: bool) -> dict[str, Call]:
    """The calls of one case by name; those that do not apply are left out."""
    torch.manual_seed(0)
    model, inputs = case.make(quick)
    model.eval().requires_grad_(False)
    found: dict[str, Call] = {
        "forward": lambda: forward(model, inputs),
        "floor": lambda: floor(case, model, inputs),
        "fxplain": lambda: fxplain.explain(
            model, inputs, target=[case.target] if len(case.target) > 1 else case.target[0]
        ),
    }
    if case.maps is not None:
        found["classic"] = lambda: classic(case, model, inputs)
    return found


def forward(model: nn.Module, inputs: Inputs) -> None:
    with torch.no_grad():
        model(**inputs)


def floor(case: Case, model: nn.Module, inputs: Inputs) -> None:
    """One forward, and one backward to where the tokens are born: parameters are frozen."""
    born: list[Tensor] = []

    def leaf(_module: nn.Module, _args: Any, out: Tensor) -> Tensor:
        born.append(out.detach().requires_grad_())
        return born[-1]

    hooks = [model.get_submodule(path).register_forward_hook(leaf) for path in case.born]
    try:
        out: Any = model(**inputs)
    finally:
        for hook in hooks:
            hook.remove()
    torch.autograd.grad(out[case.output][(0, *case.target)], born)


def classic(case: Case, model: Any, inputs: Inputs) -> Tensor:
    """The recipe in use: eager attention, every layer's A and dA, full matrix products.

    Self-attention as equation 6, the cross-attention of decoders as equation 10.
    """
    assert case.maps is not None
    before = getattr(getattr(model, "config", None), "_attn_implementation", "sdpa")
    first = model.get_submodule(case.born[0])
    hooks = [
        model.get_submodule(path).register_forward_hook(lambda *a: a[2].detach().requires_grad_())
        for path in case.born
    ]
    assert first is not None
    model.set_attn_implementation("eager")
    try:
        out = model(**inputs, output_attentions=True)
    finally:
        model.set_attn_implementation(before)
        for hook in hooks:
            hook.remove()
    maps = case.maps(out)
    flat = [A for of_kind in maps.values() for A in of_kind]
    logits = out.logits[(0, *case.target)]
    grads = iter(torch.autograd.grad(logits, flat, allow_unused=True))
    weighed = {kind: [weigh(A, next(grads)) for A in of_kind] for kind, of_kind in maps.items()}
    R = rolled(weighed["self"])
    if "cross" not in maps:
        return R[-1]
    R_qq = normalised(rolled(weighed["encoder"]))
    R_ss, R_sq = torch.eye(len(R)), torch.zeros(len(R), len(R_qq))
    for own, cross in zip(weighed["self"], weighed["cross"], strict=True):
        R_ss, R_sq = R_ss + own @ R_ss, R_sq + own @ R_sq
        R_sq = R_sq + normalised(R_ss).T @ cross @ R_qq
    return R_sq[-1]


def weigh(A: Tensor, gradient: Tensor | None) -> Tensor:
    """Equation 5."""
    if gradient is None:
        return torch.zeros(A.shape[-2:])
    return (gradient * A.detach()).clamp(min=0).mean(1)[0]


def rolled(maps: list[Tensor]) -> Tensor:
    """Equation 6."""
    R = torch.eye(len(maps[0]))
    for A in maps:
        R = R + A @ R
    return R


def normalised(R: Tensor) -> Tensor:
    """Equations 8 and 9."""
    residual = R - torch.eye(len(R))
    return residual / residual.sum(-1, keepdim=True).clamp(min=1e-12) + torch.eye(len(R))
