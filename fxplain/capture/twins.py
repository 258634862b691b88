"""Twins: modules with whole weights that stand in for models whose own are elsewhere."""

from __future__ import annotations

from collections.abc import MutableMapping

from torch import nn
from torch.utils.weak import WeakIdKeyDictionary

from fxplain.capture.state import parts_of

__all__ = ["Twins"]


class Twins:
    """The twin of each model, as long as the model lives and has the same parts."""

    def __init__(self) -> None:
        self._made: MutableMapping[nn.Module, tuple[list[int], nn.Module]] = WeakIdKeyDictionary()

    def known(self, model: nn.Module) -> nn.Module | None:
        """The twin that was kept of a model; None where the model has other parts by now."""
        parts, twin = self._made.get(model, (None, None))
        return twin if parts == _parts(model) else None

    def keep(self, model: nn.Module, twin: nn.Module) -> nn.Module:
        """Remember a model's twin, and return it."""
        self._made[model] = (_parts(model), twin)
        return twin

    def forgotten(self, model: nn.Module | None) -> list[nn.Module]:
        """The twins of a model, or of all, which are kept no longer."""
        if model is None:
            self._made.clear()
            return []
        known = self._made.pop(model, None)
        return [] if known is None else [known[1]]


def _parts(model: nn.Module) -> list[int]:
    return [id(part) for _, part in parts_of(model)]
