"""The recipe that people use today, written literally: what explanations have cost so far.

One forward with attention written out and hooks that keep every layer's weights A; one backward
that keeps every dy/dA; then the rules of Chefer, Gur & Wolf (ICCV 2021, arXiv 2103.15679) as full
matrix products, one sample. As in the published code the backward gives the gradients of the
parameters too, and keeps the graph; frozen, it gives no more than the recipe reads.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import signature

import torch
from torch import Tensor, nn

Maps = Callable[..., Tensor]
"""A-bar of a module's n-th call: ``maps(path, call=0)``, (queries, keys)."""


class Recipe(ABC):
    """Which modules attend, and which rule each calls for."""

    @property
    @abstractmethod
    def paths(self) -> list[str]:
        """The attention modules; each returns its weights last."""

    @abstractmethod
    def relevance(self, maps: Maps) -> dict[str, Tensor]:
        """The readout's relevance of every token, by modality."""


@dataclass(frozen=True)
class SelfAttention(Recipe):
    """One sequence, read from token ``row``."""

    name: str
    layers: list[str]
    row: int

    @property
    def paths(self) -> list[str]:
        return self.layers

    def relevance(self, maps: Maps) -> dict[str, Tensor]:
        R = None
        for path in self.layers:
            a_bar = maps(path)
            R = _eye(a_bar, 0) if R is None else R
            R = R + a_bar @ R  # eq. 6
        return {self.name: R[self.row]}


@dataclass(frozen=True)
class EncoderDecoder(Recipe):
    """A decoder, read from token ``row``, that attends to an encoder."""

    source: str
    query: str
    encoder: list[str]
    decoder: list[tuple[str, str]]
    row: int

    @property
    def paths(self) -> list[str]:
        return [*self.encoder, *(path for layer in self.decoder for path in layer)]

    def relevance(self, maps: Maps) -> dict[str, Tensor]:
        R_ss = _eye(maps(self.encoder[0]), 0)
        for path in self.encoder:
            R_ss = R_ss + maps(path) @ R_ss  # eq. 6
        R_qq = _eye(maps(self.decoder[0][0]), 0)
        R_qs = torch.zeros_like(maps(self.decoder[0][1]))
        for own, cross in self.decoder:
            a_bar = maps(own)
            R_qq, R_qs = R_qq + a_bar @ R_qq, R_qs + a_bar @ R_qs  # eqs. 6 and 7
            R_qs = R_qs + _normalised(R_qq).T @ maps(cross) @ _normalised(R_ss)  # eq. 10
        return {self.source: R_qs[self.row], self.query: R_qq[self.row]}


@dataclass(frozen=True)
class TwoStreams(Recipe):
    """LXMERT: words and boxes through their own layers, then layers where each reads the other."""

    text: str
    image: str
    text_layers: list[str]
    image_layers: list[str]
    cross_layers: list[str]

    @property
    def paths(self) -> list[str]:
        parts = ("visual_attention.att", "lang_self_att.self", "visn_self_att.self")
        crosses = [f"{layer}.{part}" for layer in self.cross_layers for part in parts]
        return [*self.text_layers, *self.image_layers, *crosses]

    def relevance(self, maps: Maps) -> dict[str, Tensor]:
        first = maps(f"{self.cross_layers[0]}.visual_attention.att")
        R_tt, R_ii = _eye(first, 0), _eye(first, 1)
        R_ti, R_it = torch.zeros_like(first), torch.zeros_like(first.T)
        for path in self.text_layers:
            R_tt = R_tt + maps(path) @ R_tt
        for path in self.image_layers:
            R_ii = R_ii + maps(path) @ R_ii
        for layer in self.cross_layers:
            reads_image = maps(f"{layer}.visual_attention.att", 0)
            reads_text = maps(f"{layer}.visual_attention.att", 1)
            N_tt, N_ii = _normalised(R_tt), _normalised(R_ii)
            R_ti, R_it, R_tt, R_ii = (
                R_ti + N_tt.T @ reads_image @ N_ii,  # eq. 10
                R_it + N_ii.T @ reads_text @ N_tt,
                R_tt + reads_image @ R_it,  # eq. 11
                R_ii + reads_text @ R_ti,
            )
            a_bar = maps(f"{layer}.lang_self_att.self")
            R_tt, R_ti = R_tt + a_bar @ R_tt, R_ti + a_bar @ R_ti  # eqs. 6 and 7
            a_bar = maps(f"{layer}.visn_self_att.self")
            R_ii, R_it = R_ii + a_bar @ R_ii, R_it + a_bar @ R_it
        return {self.text: R_tt[0], self.image: R_ti[0]}


def classic(
    recipe: Recipe, model: nn.Module, score: Callable[[], Tensor], *, frozen: bool = False
) -> dict[str, Tensor]:
    """The relevance of every token: ``score()`` runs the model to the explained number."""
    parameters = [] if frozen else list(model.parameters())
    kept: dict[tuple[str, int], Tensor] = {}
    hooks = []
    for path in recipe.paths:
        module = model.get_submodule(path)
        hooks.append(module.register_forward_pre_hook(_ask_for_weights, with_kwargs=True))
        hooks.append(module.register_forward_hook(_keep_weights(kept, path)))
    with _trainable(parameters):
        try:
            value = score()
        finally:
            for hook in hooks:
                hook.remove()
        asked = torch.autograd.grad(
            value.sum(), [*kept.values(), *parameters], allow_unused=True, retain_graph=not frozen
        )
    gradients = dict(zip(kept, asked, strict=False))

    def maps(path: str, call: int = 0) -> Tensor:
        attention, gradient = kept[path, call].detach()[0], gradients[path, call]
        if gradient is None:  # what comes after the last read of the other stream
            return torch.zeros_like(attention[0])
        return (gradient[0] * attention).clamp(min=0).mean(dim=0)  # eq. 5

    return recipe.relevance(maps)


@contextmanager
def _trainable(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Parameters as a model has them that nobody froze."""
    before = [parameter.requires_grad for parameter in parameters]
    try:
        for parameter in parameters:
            parameter.requires_grad_()
        yield
    finally:
        for parameter, requires_grad in zip(parameters, before, strict=True):
            parameter.requires_grad_(requires_grad)


def _ask_for_weights(module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    if "output_attentions" in signature(module.forward).parameters:
        kwargs = {**kwargs, "output_attentions": True}
    return args, kwargs


def _keep_weights(kept: dict[tuple[str, int], Tensor], path: str) -> Callable[..., None]:
    def hook(_module: nn.Module, _args: tuple, output: tuple) -> None:
        call = sum(1 for seen, _ in kept if seen == path)
        kept[path, call] = output[-1]

    return hook


def _eye(like: Tensor, axis: int) -> Tensor:
    return torch.eye(like.shape[axis], dtype=like.dtype, device=like.device)


def _normalised(R: Tensor) -> Tensor:
    """Eqs. 8 and 9; a row whose sum is 0 stays."""
    identity = _eye(R, 0)
    residual = R - identity
    sums = residual.sum(dim=-1, keepdim=True)
    return residual / torch.where(sums == 0, 1, sums) + identity
