"""A copy of the model whose weights may be changed; the user's own never is."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fxplain.capture import share_captures
from fxplain.evaluation.statistics import seeded

__all__ = ["ModelCopy"]


class ModelCopy:
    """A copy of a model that knows the order in which its modules run.

    Parameters
    ----------
    model, inputs
        The model and one batch of its arguments by name, to see it run.
    seed
        Of everything that is drawn. Each weight has a generator of its own.
    """

    def __init__(self, model: nn.Module, inputs: Mapping[str, Any], seed: int) -> None:
        self.original = model
        self.model = copy.deepcopy(model)
        self.seed = seed
        self._drawn: dict[str, Tensor] = {}
        self._order, self._embeddings = self._seen_running(inputs)

    def randomised(self, share: float) -> nn.Module:
        """The copy with that share of its modules randomised, the last to run first.

        A weight is drawn anew from a normal distribution with its own mean and deviation.
        """
        names = self._order[len(self._order) - round(share * len(self._order)) :]
        self._start_again()
        with torch.no_grad():
            for name in names:
                self._parameter(name).copy_(self._random(name))
        return self.model

    def with_noisy_embeddings(self, level: float, draw: int) -> nn.Module:
        """The copy with noise in what turns integers into vectors, relative to its deviation."""
        self._start_again()
        with torch.no_grad():
            for name in self._embeddings:
                parameter = self._parameter(name)
                noise = _normal(parameter, seeded(self.seed, "noise", name, draw))
                parameter.add_(level * parameter.std(correction=0) * noise)
        return self.model

    def _parameter(self, name: str) -> nn.Parameter:
        return self.model.get_parameter(name)

    def _start_again(self) -> None:
        """With the model's own weights, and its captures: to make others costs more than all else."""
        share_captures(self.original, self.model)
        with torch.no_grad():
            for name, parameter in self.original.named_parameters():
                self._parameter(name).copy_(parameter)

    def _random(self, name: str) -> Tensor:
        if name not in self._drawn:
            parameter = self.original.get_parameter(name)
            drawn = _normal(parameter, seeded(self.seed, "weights", name))
            self._drawn[name] = drawn * parameter.std(correction=0) + parameter.mean()
        return self._drawn[name]

    def _seen_running(self, inputs: Mapping[str, Any]) -> tuple[list[str], list[str]]:
        """Parameters in the order in which their modules start to run, and those of embeddings.

        A module that is never called (its weights are used by the one that holds it) runs with the
        closest one around it that is.
        """
        started: list[str] = []
        embedding: list[str] = []

        def on_start(name: str) -> Any:
            return lambda _module, _args: started.append(name)

        def on_end(name: str) -> Any:
            def seen(_module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
                if _is_lookup(args, output):
                    embedding.append(name)

            return seen

        handles = []
        for name, module in self.model.named_modules():
            handles.append(module.register_forward_pre_hook(on_start(name)))
            if not next(module.children(), None):
                handles.append(module.register_forward_hook(on_end(name)))
        try:
            with torch.no_grad():
                self.model(**inputs)
        finally:
            for handle in handles:
                handle.remove()
        place = {name: i for i, name in reversed(list(enumerate(started)))}
        order = sorted(
            (name for name, _ in self.model.named_parameters()),
            key=lambda name: next(place[m] for m in _around(name) if m in place),
        )
        return order, [name for name in order if name.rpartition(".")[0] in embedding]


def _around(parameter: str) -> Iterator[str]:
    """The module that holds a parameter, and those around it, up to the whole model ("")."""
    module = parameter
    while module:
        module = module.rpartition(".")[0]
        yield module


def _is_lookup(args: tuple[Any, ...], output: Any) -> bool:
    """Whether integers went in and vectors came out."""
    given = args[0] if args else None
    return (
        isinstance(given, Tensor)
        and not given.is_floating_point()
        and isinstance(output, Tensor)
        and output.is_floating_point()
        and output.dim() == given.dim() + 1
    )


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator).to(like)
