"""Twins: modules with whole weights that stand in for models whose own are elsewhere."""

from __future__ import annotations

from collections.abc import MutableMapping

from torch import nn
from torch.utils.weak import WeakIdKeyDictionary

from fxplain.capture.fingerprint import Facts
from fxplain.capture.seen import facts_now

__all__ = ["Twins"]


class Twins:
    """The twin of each model, as long as the model lives and looks the same.

    Parameters
    ----------
    beside
        The name under which the fingerprint has what a twin is not made of.
    """

    def __init__(self, beside: str) -> None:
        self._beside = beside
        self._made: MutableMapping[nn.Module, tuple[Facts, nn.Module]] = WeakIdKeyDictionary()

    def known(self, model: nn.Module) -> nn.Module | None:
        """The twin that was kept of a model; None where the model looks different by now."""
        seen, twin = self._made.get(model, ({}, None))
        return twin if twin is not None and seen == self._look(model) else None

    def keep(self, model: nn.Module, twin: nn.Module) -> nn.Module:
        """Remember a model's twin, and return it."""
        self._made[model] = (self._look(model), twin)
        return twin

    def _look(self, model: nn.Module) -> Facts:
        return {at: fact for at, fact in facts_now(model).items() if at[1] != self._beside}

    def forgotten(self, model: nn.Module | None) -> list[nn.Module]:
        """The twins of a model, or of all, which are kept no longer."""
        if model is None:
            self._made.clear()
            return []
        known = self._made.pop(model, None)
        return [] if known is None else [known[1]]
