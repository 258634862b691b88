"""A model with one call to explain, and what every column needs to run it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from torch import Tensor, nn

from benchmarks.classic import Recipe

Inputs = dict[str, Tensor]


@dataclass(frozen=True)
class Workload:
    """One model with one call.

    ``sources`` names modules, or inputs, whose outputs or values are the embeddings or features.
    """

    model: nn.Module
    inputs: Inputs
    target: int
    score: Callable[[object], Tensor]
    sources: tuple[str, ...]
    recipe: Recipe
    written_out: Callable[[], nn.Module] = field(repr=False)
    further: Inputs | None = None
    output: str | None = None

    def to(self, device: str) -> Workload:
        """The same on another device."""
        return replace(
            self,
            model=self.model.to(device),
            inputs=_moved(self.inputs, device),
            further=self.further and _moved(self.further, device),
        )

    def run(self, model: nn.Module, embed: Callable[[str, Tensor], Tensor]) -> Tensor:
        """The explained number, where ``embed(source, value)`` stands for each source's value."""
        inputs = {k: embed(k, v) if k in self.sources else v for k, v in self.inputs.items()}

        def hook(source: str) -> Callable[..., Tensor]:
            return lambda _module, _args, output: embed(source, output)

        hooks = [
            model.get_submodule(source).register_forward_hook(hook(source))
            for source in self.sources
            if source not in inputs
        ]
        try:
            return self.score(model(**inputs))
        finally:
            for handle in hooks:
                handle.remove()


@dataclass(frozen=True)
class Case:
    """A workload to be built: ``make(tiny=True)`` has the same architecture, a few tokens and layers.

    ``weights`` is the number of attention weights in one forward pass, over heads and layers.
    """

    name: str
    tokens: int
    weights: int
    make: Callable[[bool], Workload]

    @property
    def classic_bytes(self) -> int:
        """The least that the classic recipe keeps: every A and every dA, in float32."""
        return 2 * 4 * self.weights


def _moved(inputs: Inputs, device: str) -> Inputs:
    return {name: value.to(device) for name, value in inputs.items()}
