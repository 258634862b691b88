"""Twins: modules with whole weights that stand in for models whose own are elsewhere."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any

from torch import nn
from torch.utils.weak import WeakIdKeyDictionary

__all__ = ["Twins"]


class Twins:
    """The twin of each model, as long as the model lives and looks the same.

    Parameters
    ----------
    look
        What is seen of a model that its twin was made of; it keeps nothing alive.
    """

    def __init__(self, look: Callable[[nn.Module], Any]) -> None:
        self._look = look
        self._made: MutableMapping[nn.Module, tuple[Any, nn.Module]] = WeakIdKeyDictionary()

    def known(self, model: nn.Module) -> nn.Module | None:
        """The twin that was kept of a model; None where the model looks different by now."""
        seen, twin = self._made.get(model, (None, None))
        return twin if twin is not None and seen == self._look(model) else None

    def keep(self, model: nn.Module, twin: nn.Module) -> nn.Module:
        """Remember a model's twin, and return it."""
        self._made[model] = (self._look(model), twin)
        return twin

    def forgotten(self, model: nn.Module | None) -> list[nn.Module]:
        """The twins of a model, or of all, which are kept no longer."""
        if model is None:
            self._made.clear()
            return []
        known = self._made.pop(model, None)
        return [] if known is None else [known[1]]
