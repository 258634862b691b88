"""The one door from results to how they look: opened by name, so that the core draws nothing."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["Presentable"]

_PRESENTER = "fxplain.reports"


class Presentable:
    """A result that prints as a rich report."""

    def __str__(self) -> str:
        text: str = import_module(_PRESENTER).to_text(self)
        return text

    def __rich__(self) -> Any:
        return import_module(_PRESENTER).to_rich(self)
